//! The mock's leaves of the metadata tree: their values go into the instance, or into its overrides
//! if the instance would not show them.

use crate::document::aemm::keys::{FIXED_PATHS, KNOWN_KEYS, LEAVES, Leaf, eth0};
use crate::document::aemm::settings::Settings;
use crate::document::near_miss::hint;
use crate::instance::Instance;
use crate::instance::events::overrides::PathOverride;

/// The name of the default role of the mock, which its default paths contain.
const DEFAULT_ROLE: &str = "baskinc-role";

/// Sets every leaf of the table. A value that the instance does not show by itself is overridden.
pub(super) fn set_leaves(settings: &mut Settings<'_>, base: &Instance, instance: &mut Instance) {
    let given: Vec<Option<String>> = LEAVES
        .iter()
        .map(|leaf| settings.text_or_object(&format!("{}.values.{}", leaf.section(), leaf.key)))
        .collect();
    for (leaf, value) in LEAVES.iter().zip(&given) {
        if let Some(value) = value {
            (leaf.set)(instance, value);
        }
    }
    let accelerator = settings.text("metadata.values.elastic-inference-associations");
    let before = PathNames::of(base, None, None);
    let public = settings.text("metadata.values.public-ipv4");
    let now = PathNames::of(instance, public, accelerator);
    for (leaf, value) in LEAVES.iter().zip(given) {
        let value = value.or_else(|| base_value(base, leaf, &before));
        let path = now.path(leaf.path);
        match configured_path(settings, leaf, &before, &now) {
            LeafPath::Usual => {
                if value != (leaf.shown)(instance) {
                    instance.imds.overrides.put(&path, value);
                }
            }
            LeafPath::Hidden => instance.imds.overrides.put(&path, None),
            LeafPath::Other(other) => {
                instance.imds.overrides.put(&path, None);
                instance.imds.overrides.put(&other, value);
            }
        }
    }
    refuse_moved_paths(settings, instance, &before, &now);
}

/// Returns what the mock shows at a leaf by default.
fn base_value(base: &Instance, leaf: &Leaf, names: &PathNames) -> Option<String> {
    match base.imds.overrides.of(&names.path(leaf.path)) {
        PathOverride::Set(text) => Some(text.to_string()),
        PathOverride::Hidden | PathOverride::NotOverridden => (leaf.shown)(base),
    }
}

/// Where a configuration puts a leaf.
enum LeafPath {
    /// Where EC2 has it.
    Usual,
    /// Nowhere.
    Hidden,
    /// At this path below the version.
    Other(String),
}

/// Reads the path of a leaf from the settings.
fn configured_path(
    settings: &mut Settings<'_>,
    leaf: &Leaf,
    before: &PathNames,
    now: &PathNames,
) -> LeafPath {
    let key = format!("{}.paths.{}", leaf.section(), leaf.key);
    let Some(path) = settings.text(&key) else {
        return LeafPath::Usual;
    };
    let path = before.replaced(&path, now);
    if path.is_empty() {
        return LeafPath::Hidden;
    }
    let below = path
        .strip_prefix("/latest/")
        .map(|path| path.trim_end_matches('/'));
    match below {
        Some(below) if below == now.path(leaf.path) => LeafPath::Usual,
        Some(below) if below.starts_with("meta-data/") || below.starts_with("dynamic/") => {
            LeafPath::Other(below.to_string())
        }
        _ => {
            settings.refuse(
                &key,
                "a path begins with /latest/meta-data/ or /latest/dynamic/",
            );
            LeafPath::Usual
        }
    }
}

/// Refuses other paths for leaves that depend on options, role deliveries or signatures.
fn refuse_moved_paths(
    settings: &mut Settings<'_>,
    instance: &Instance,
    before: &PathNames,
    now: &PathNames,
) {
    let role = instance.imds.role.as_ref();
    let role = role.map_or("", |role| role.role_name.as_str());
    for (key, path) in FIXED_PATHS {
        let path = path.replace("{role}", role);
        if let Some(given) = settings.text(key)
            && before.replaced(&given, now).replace(DEFAULT_ROLE, role) != path
        {
            let message = format!("imdsd serves this only at {path}, as EC2 does");
            settings.refuse(key, &message);
        }
    }
}

/// Warns of every setting that nothing has read. The mock ignores those too.
pub(super) fn warn_of_unused(settings: &mut Settings<'_>) {
    let of_leaves = LEAVES.iter().flat_map(|leaf| {
        ["values", "paths"].map(|kind| format!("{}.{kind}.{}", leaf.section(), leaf.key))
    });
    let known: Vec<String> = of_leaves
        .chain(KNOWN_KEYS.iter().map(ToString::to_string))
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for key in settings.unused_keys() {
        let message = format!("is not known and is ignored{}", hint(&key, &known));
        settings.warn(&key, &message);
    }
}

/// The names of an instance that paths contain.
struct PathNames {
    mac: String,
    public: String,
    accelerator: String,
}

impl PathNames {
    /// Returns the names of an instance. `public` and `accelerator` are those from the file, if
    /// any.
    fn of(instance: &Instance, public: Option<String>, accelerator: Option<String>) -> PathNames {
        let address = || {
            instance
                .public_ip_address
                .map(|address| address.to_string())
        };
        PathNames {
            mac: eth0(instance).mac_address.to_string(),
            public: public.or_else(address).unwrap_or_default(),
            accelerator: accelerator
                .unwrap_or_else(|| "eia-bfa21c7904f64a82a21b9f4540169ce1".to_string()),
        }
    }

    /// Fills in the placeholders of a path.
    fn path(&self, path: &str) -> String {
        path.replace("{mac}", &self.mac)
            .replace("{public}", &self.public)
            .replace("{eia}", &self.accelerator)
    }

    /// Replaces these names in a path by other ones, as the mock does with its default names.
    fn replaced(&self, path: &str, now: &PathNames) -> String {
        path.replace(&self.mac, &now.mac)
            .replace(&self.public, &now.public)
            .replace(&self.accelerator, &now.accelerator)
    }
}
