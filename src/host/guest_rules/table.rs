//! A table as data: the script that is written and the check that reads it back use the same
//! description.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::table_name::{EARLIER, TableName};

pub(super) const INET: &str = "inet";
pub(super) const BRIDGE: &str = "bridge";

/// A table of one family, with its sets, maps and chains.
pub(super) struct Table {
    pub(super) family: &'static str,
    pub(super) name: TableName,
    pub(super) collections: Vec<Collection>,
    pub(super) chains: Vec<Chain>,
}

/// A set or a map.
pub(super) struct Collection {
    pub(super) kind: &'static str,
    pub(super) name: String,
    form: &'static str,
    /// Each with the index of the guest that it belongs to; `None` for shared elements.
    pub(super) elements: Vec<(Option<usize>, String)>,
}

/// A chain of rules.
pub(super) struct Chain {
    pub(super) name: String,
    /// For example `prerouting priority -300`; `None` for a chain that others jump to.
    pub(super) hook: Option<&'static str>,
    /// The index of the guest that it belongs to; `None` for shared chains.
    pub(super) guest: Option<usize>,
    /// Rules, and comments that begin with `#`.
    lines: Vec<String>,
}

impl Chain {
    /// Returns the number of rules, without comments.
    pub(super) fn rules(&self) -> usize {
        self.rule_lines().count()
    }

    fn rule_lines(&self) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .map(String::as_str)
            .filter(|line| !line.starts_with('#'))
    }
}

impl Table {
    pub(super) fn new(family: &'static str, name: &TableName) -> Table {
        Table {
            family,
            name: name.clone(),
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

    /// Declares a set or map, unless there is one with this name.
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

    /// Adds an element to a set or map that was declared before.
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

    /// Returns the text of the chains so far, without comments, which the digest of every guest
    /// covers.
    pub(super) fn shared_text(&self) -> String {
        let text = |chain: &Chain| {
            let rules: Vec<&str> = chain.rule_lines().collect();
            format!("{} {:?} {rules:?}\n", chain.name, chain.hook)
        };
        self.chains.iter().map(text).collect()
    }

    /// Appends the statements that replace the table, and the one of earlier versions.
    pub(super) fn write(&self, text: &mut String) {
        let family = self.family;
        text.push('\n');
        for name in [EARLIER, self.name.as_str()] {
            let _ = writeln!(
                text,
                "add table {family} {name}\ndelete table {family} {name}"
            );
        }
        if self.chains.is_empty() {
            return;
        }
        let _ = writeln!(text, "table {family} {} {{", self.name);
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
        // nft must know a chain before another one jumps to it: chains with hooks come last.
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
}
