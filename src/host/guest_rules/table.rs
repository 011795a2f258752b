//! A table as data, so that what is written and what is looked for are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::TABLE;

/// A table as data, so that what is written and what is looked for are the same.
pub(super) struct Table {
    pub(super) family: &'static str,
    collections: Vec<Collection>,
    chains: Vec<Chain>,
}

/// A set or a map.
pub(super) struct Collection {
    kind: &'static str,
    name: String,
    form: &'static str,
    /// With the guest whose way in it is, where it is one's.
    elements: Vec<(Option<usize>, String)>,
}

pub(super) struct Chain {
    name: String,
    /// `prerouting priority -300`; none for a chain that others jump to.
    hook: Option<&'static str>,
    /// The guest whose chain it is; none for the shared ones.
    guest: Option<usize>,
    /// Rules, and comments that begin with `#`.
    lines: Vec<String>,
}

impl Chain {
    fn rules(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| !line.starts_with('#'))
            .count()
    }
}

impl Table {
    pub(super) fn new(family: &'static str) -> Table {
        Table {
            family,
            collections: Vec::new(),
            chains: Vec::new(),
        }
    }

    pub(super) fn chain(
        &mut self,
        name: &str,
        hook: Option<&'static str>,
        guest: Option<usize>,
        lines: impl IntoIterator<Item = String>,
    ) {
        self.chains.push(Chain {
            name: name.to_string(),
            hook,
            guest,
            lines: lines.into_iter().collect(),
        });
    }

    /// Has a set or map of this name from here on.
    pub(super) fn collection(&mut self, kind: &'static str, name: &str, form: &'static str) {
        if !self
            .collections
            .iter()
            .any(|collection| collection.name == name)
        {
            self.collections.push(Collection {
                kind,
                name: name.to_string(),
                form,
                elements: Vec::new(),
            });
        }
    }

    pub(super) fn element(&mut self, name: &str, guest: Option<usize>, element: String) {
        let collection = self
            .collections
            .iter_mut()
            .find(|collection| collection.name == name);
        collection
            .expect("the collection is declared before it is filled")
            .elements
            .push((guest, element));
    }

    /// What every guest's digest covers.
    pub(super) fn shared_text(&self) -> String {
        self.chains
            .iter()
            .map(|chain| format!("{} {:?} {:?}\n", chain.name, chain.hook, chain.lines))
            .collect()
    }

    pub(super) fn write(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nadd table {} {TABLE}\ndelete table {} {TABLE}",
            self.family, self.family
        );
        if self.chains.is_empty() {
            return;
        }
        let _ = writeln!(text, "table {} {TABLE} {{", self.family);
        for Collection {
            kind,
            name,
            form,
            elements,
        } in &self.collections
        {
            let _ = writeln!(text, "  {kind} {name} {{\n    {form}");
            let elements: BTreeSet<&str> = elements
                .iter()
                .map(|(_, element)| element.as_str())
                .collect();
            let elements: Vec<&str> = elements.into_iter().collect();
            if !elements.is_empty() {
                let _ = writeln!(
                    text,
                    "    elements = {{\n      {}\n    }}",
                    elements.join(",\n      ")
                );
            }
            text.push_str("  }\n");
        }
        // Those with hooks last, as what they lead to is known by then.
        let order = |chain: &&Chain| (chain.hook.is_some(), chain.guest.is_some());
        let mut chains: Vec<&Chain> = self.chains.iter().collect();
        chains.sort_by_key(order);
        for chain in chains {
            let _ = writeln!(text, "  chain {} {{", chain.name);
            if let Some(hook) = chain.hook {
                let _ = writeln!(text, "    type filter hook {hook}; policy accept;");
            }
            for line in &chain.lines {
                let _ = writeln!(text, "    {line}");
            }
            text.push_str("  }\n");
        }
        text.push_str("}\n");
    }

    /// What one guest needs of this table and is not in the list.
    pub(super) fn missing(&self, listed: &Listed, guest: usize) -> Vec<String> {
        let (family, concerns) = (self.family, |whose: Option<usize>| {
            whose.is_none_or(|index| index == guest)
        });
        let mut missing = Vec::new();
        for chain in self.chains.iter().filter(|chain| concerns(chain.guest)) {
            let Some(found) = listed.chains.get(&(family, chain.name.as_str())) else {
                missing.push(format!(
                    "chain {} of table {family} {TABLE} is not there",
                    chain.name
                ));
                continue;
            };
            if found.rules != chain.rules() {
                missing.push(format!(
                    "chain {} of table {family} {TABLE} was changed",
                    chain.name
                ));
            }
            let hook = chain
                .hook
                .map(|hook| hook.split(' ').next().unwrap_or_default());
            if found.hook != hook {
                missing.push(format!(
                    "chain {} of table {family} {TABLE} hangs elsewhere",
                    chain.name
                ));
            }
        }
        for collection in &self.collections {
            for (whose, element) in &collection.elements {
                let name = collection.name.as_str();
                let is_there = || {
                    listed
                        .elements
                        .get(&(family, name))
                        .is_some_and(|all| all.contains(element))
                };
                if *whose == Some(guest) && !is_there() {
                    missing.push(format!(
                        "{} {name} of table {family} {TABLE} has no {element}",
                        collection.kind
                    ));
                }
            }
        }
        missing
    }
}

/// What `nft --json list ruleset` says about our tables.
#[derive(Default)]
pub(super) struct Listed<'a> {
    chains: BTreeMap<(&'a str, &'a str), ListedChain<'a>>,
    /// Elements in the form that the script has.
    elements: BTreeMap<(&'a str, &'a str), BTreeSet<String>>,
}

pub(super) struct ListedChain<'a> {
    hook: Option<&'a str>,
    rules: usize,
}

impl<'a> Listed<'a> {
    pub(super) fn read(listed: &'a Value) -> Listed<'a> {
        let mut found = Listed::default();
        for entry in listed["nftables"].as_array().into_iter().flatten() {
            let of = |kind: &str| {
                let object = entry.get(kind).filter(|object| kind_is_ours(object))?;
                Some((object, object["family"].as_str()?))
            };
            if let Some((chain, family)) = of("chain")
                && let Some(name) = chain["name"].as_str()
            {
                found.chains.insert(
                    (family, name),
                    ListedChain {
                        hook: chain["hook"].as_str(),
                        rules: 0,
                    },
                );
            }
            // nft prints a table's rules behind its chains.
            if let Some((rule, family)) = of("rule")
                && let Some(chain) = rule["chain"]
                    .as_str()
                    .and_then(|chain| found.chains.get_mut(&(family, chain)))
            {
                chain.rules += 1;
            }
            if let Some((collection, family)) = of("set").or_else(|| of("map"))
                && let Some(name) = collection["name"].as_str()
            {
                let elements = collection["elem"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(element_as_written);
                found.elements.insert((family, name), elements.collect());
            }
        }
        found
    }
}

pub(super) fn kind_is_ours(object: &Value) -> bool {
    object["table"] == TABLE
}

/// `"tap0"`, `"tap0" : jump guest-…`, `"tap0" : 0x1001`, `"tap0" . 0x1001`, `0x1001`; what it is not is not ours.
pub(super) fn element_as_written(element: &Value) -> Option<String> {
    let word = |value: &Value| match value {
        Value::String(name) => Some(format!("\"{name}\"")),
        Value::Number(mark) => Some(format!("{:#x}", mark.as_u64()?)),
        Value::Object(verdict) => {
            Some(format!("jump {}", verdict.get("jump")?["target"].as_str()?))
        }
        _ => None,
    };
    match element {
        Value::Array(pair) => Some(format!(
            "{} : {}",
            word(pair.first()?)?,
            word(pair.get(1)?)?
        )),
        Value::Object(object) if object.contains_key("concat") => {
            let parts: Option<Vec<String>> =
                object["concat"].as_array()?.iter().map(word).collect();
            Some(parts?.join(" . "))
        }
        value => word(value),
    }
}
