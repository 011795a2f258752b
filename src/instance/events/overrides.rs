//! Overrides: leaves of the metadata tree that the operator sets (path → text) or hides (path →
//! null).
//!
//! A path starts below the version, without a leading slash: `meta-data/public-ipv4`. Paths that
//! depend on metadata options, role deliveries or signatures cannot be overridden, because an
//! override would bypass them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::FieldFault;

/// The overrides of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides(BTreeMap<String, Option<String>>);

/// The override of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathOverride<'a> {
    /// The leaf has this text.
    Set(&'a str),
    /// The leaf, or the directory with everything below it, is absent.
    Hidden,
    /// The path has no override.
    NotOverridden,
}

/// The maximum size of an override in bytes, the same as for user data.
pub const MAX_BYTES: usize = 16_384;

/// The maximum number of overrides of an instance. It bounds the size of records.
pub const MAX_OVERRIDES: usize = 256;

/// Directories in which nothing can be overridden, and the reason.
const FIXED_DIRECTORIES: [(&str, &str); 4] = [
    (
        "meta-data/tags",
        "it depends on InstanceMetadataTags; change Tags",
    ),
    (
        "meta-data/iam/security-credentials",
        "it differs between the two role deliveries; change Imds.Role",
    ),
    (
        "meta-data/identity-credentials",
        "it differs between the two role deliveries",
    ),
    (
        "dynamic/instance-identity",
        "the document is signed; change the instance",
    ),
];

impl Overrides {
    /// Returns the override of a path.
    pub fn of(&self, path: &str) -> PathOverride<'_> {
        match self.0.get(path) {
            Some(Some(text)) => PathOverride::Set(text),
            Some(None) => PathOverride::Hidden,
            None => PathOverride::NotOverridden,
        }
    }

    /// Returns the names directly below a directory that overrides add. A name can appear more than
    /// once.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = &'a str> {
        let from = format!("{directory}/");
        let paths = self.0.iter().filter(|(_, value)| value.is_some());
        paths.filter_map(move |(path, _)| path.strip_prefix(&from)?.split('/').next())
    }

    /// Sets a leaf, or hides the path if `value` is `None`.
    pub fn put(&mut self, path: &str, value: Option<String>) {
        self.0.insert(path.to_string(), value);
    }

    /// Removes the override of a path.
    pub fn restore(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// Returns whether there are more overrides than [`MAX_OVERRIDES`].
    pub fn is_full(&self) -> bool {
        self.0.len() > MAX_OVERRIDES
    }

    /// Returns the message for too many overrides.
    pub fn full() -> String {
        format!("an instance has at most {MAX_OVERRIDES} overrides")
    }

    /// Returns whether there are no overrides.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all paths with an override.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the faults of single overrides; the field of each is the path.
    pub fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        for (path, value) in &self.0 {
            let mut fault = |message: String| faults.push(FieldFault::new(path, message));
            if !path.starts_with("meta-data/") && !path.starts_with("dynamic/") {
                fault(
                    "a path begins with meta-data/ or dynamic/, without a version or a leading slash".into(),
                );
                continue;
            }
            if path.split('/').any(str::is_empty) {
                fault("a path cannot have an empty segment or end with a slash".into());
            }
            if !path.bytes().all(|b| b.is_ascii_graphic() && b != b'%') {
                fault("a path is printable ASCII without spaces and percent signs".into());
            }
            if value.as_ref().is_some_and(|text| text.len() > MAX_BYTES) {
                fault(format!("has at most {MAX_BYTES} bytes"));
            }
            for (directory, reason) in FIXED_DIRECTORIES {
                if path == directory || path.starts_with(&format!("{directory}/")) {
                    fault(format!("cannot be overridden: {reason}"));
                }
            }
            let leaf_above = |(above, value): (&String, &Option<String>)| {
                value.is_some()
                    && path
                        .strip_prefix(above.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
            };
            if value.is_some() && self.0.iter().any(leaf_above) {
                fault("a leaf cannot be below another leaf".into());
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(text: &str) -> Overrides {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_invalid_override_has_one_fault() {
        for good in [
            r#"{"meta-data/public-ipv4": null}"#,
            r#"{"meta-data/ami-id": "ami-1"}"#,
            r#"{"meta-data/a/b": "", "meta-data/a/c": "1"}"#,
            r#"{"meta-data/spot": null}"#,
            r#"{"dynamic/fws/instance-monitoring": "enabled"}"#,
        ] {
            assert_eq!(overrides(good).faults(), [], "{good}");
        }
        for bad in [
            r#"{"/latest/meta-data/x": "1"}"#,
            r#"{"latest/meta-data/x": "1"}"#,
            r#"{"user-data": "1"}"#,
            r#"{"meta-data/": "1"}"#,
            r#"{"meta-data/x/": "1"}"#,
            r#"{"meta-data//x": "1"}"#,
            r#"{"meta-data/a b": "1"}"#,
            r#"{"meta-data/a%20b": "1"}"#,
            r#"{"meta-data/a": "1", "meta-data/a/b": "2"}"#,
            r#"{"meta-data/tags/instance/Name": "x"}"#,
            r#"{"meta-data/tags": null}"#,
            r#"{"meta-data/iam/security-credentials/role": "{}"}"#,
            r#"{"dynamic/instance-identity/document": "{}"}"#,
        ] {
            assert_eq!(overrides(bad).faults().len(), 1, "{bad}");
        }
    }
}
