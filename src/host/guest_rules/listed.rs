//! The rules that are loaded, as `nft --json list ruleset` prints them, compared with those that
//! are needed; and what the tables of other daemons say about the same guests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::inputs::{FilteredGuest, GuestLink};
use super::table::{BRIDGE, Chain, INET, Table};
use super::table_name::{EARLIER, TableName};

/// The chains, sets and maps of one daemon's tables in the output of `nft --json list ruleset`.
#[derive(Default)]
pub(super) struct ListedTables<'a> {
    chains: BTreeMap<(&'a str, &'a str), ListedChain<'a>>,
    /// Elements in the form that the script uses.
    elements: BTreeMap<(&'a str, &'a str), BTreeSet<String>>,
}

struct ListedChain<'a> {
    hook: Option<&'a str>,
    rules: usize,
}

impl<'a> ListedTables<'a> {
    /// Reads the tables of this name from the output of nft; entries of any other form are ignored.
    pub(super) fn read(listed: &'a Value, table: &str) -> ListedTables<'a> {
        let mut found = ListedTables::default();
        for entry in listed["nftables"].as_array().into_iter().flatten() {
            let of = |kind: &str| {
                let object = entry.get(kind).filter(|object| object["table"] == table)?;
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
            // nft prints a table's rules after its chains.
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
                    .filter_map(element_in_script_form);
                found.elements.insert((family, name), elements.collect());
            }
        }
        found
    }

    /// Returns what one guest needs of the table and the list does not have.
    pub(super) fn missing(&self, table: &Table, guest: usize) -> Vec<String> {
        let of_guest = |owner: Option<usize>| owner.is_none_or(|index| index == guest);
        let mut missing = Vec::new();
        for chain in table.chains.iter().filter(|chain| of_guest(chain.guest)) {
            let faults = self.chain_faults(table.family, chain);
            let chain = format!(
                "chain {} of table {} {}",
                chain.name, table.family, table.name
            );
            missing.extend(faults.iter().map(|fault| format!("{chain} {fault}")));
        }
        for collection in &table.collections {
            let name = collection.name.as_str();
            let listed = self.elements.get(&(table.family, name));
            for (owner, element) in &collection.elements {
                let is_listed = || listed.is_some_and(|all| all.contains(element));
                if *owner == Some(guest) && !is_listed() {
                    missing.push(format!(
                        "{} {name} of table {} {} has no {element}",
                        collection.kind, table.family, table.name
                    ));
                }
            }
        }
        missing
    }

    fn chain_faults(&self, family: &str, chain: &Chain) -> Vec<&'static str> {
        let Some(listed) = self.chains.get(&(family, chain.name.as_str())) else {
            return vec!["does not exist"];
        };
        let hook = chain
            .hook
            .map(|hook| hook.split(' ').next().unwrap_or_default());
        let mut faults = Vec::new();
        if listed.rules != chain.rules() {
            faults.push("has other rules");
        }
        if listed.hook != hook {
            faults.push("has another hook");
        }
        faults
    }
}

/// Returns what the tables of other daemons, or of this one under an earlier name, do to a guest.
pub(super) fn interference(
    listed: &Value,
    own: &TableName,
    guest: &FilteredGuest,
) -> Option<Interference> {
    let mark = match &guest.link {
        GuestLink::BridgePort { mark, .. } => Some(*mark),
        GuestLink::Interface { .. } => None,
    };
    for (family, table) in other_tables(listed, own) {
        // Tables of earlier versions clear the marks of all ports.
        if table == EARLIER && family == BRIDGE && mark.is_some() {
            return Some(Interference::Earlier);
        }
        let found = ListedTables::read(listed, table);
        let has = |set: &str, element: &str| {
            let elements = found.elements.get(&(family, set)).into_iter().flatten();
            // An element of a map has a value after its name.
            elements
                .filter_map(|of| of.strip_prefix(element))
                .any(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        if has("guests", &format!("\"{}\"", guest.link.interface())) {
            return Some(match table {
                EARLIER => Interference::Earlier,
                _ => Interference::Guest(format!("{family} {table}")),
            });
        }
        if mark.is_some_and(|mark| has("marked", &format!("{mark:#x}"))) {
            return Some(Interference::Mark(format!("{family} {table}")));
        }
    }
    None
}

/// How rules that are not this daemon's interfere with a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interference {
    /// Rules of an earlier version are still loaded.
    Earlier,
    /// This table also has rules for the guest.
    Guest(String),
    /// A guest of this table has the same mark.
    Mark(String),
}

/// Returns the family and the name of every table that belongs to another daemon.
fn other_tables<'a>(
    listed: &'a Value,
    own: &TableName,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let entries = listed["nftables"].as_array().into_iter().flatten();
    entries.filter_map(|entry| {
        let table = entry.get("table")?;
        let (family, name) = (table["family"].as_str()?, table["name"].as_str()?);
        ([INET, BRIDGE].contains(&family) && own.is_other(name)).then_some((family, name))
    })
}

/// Returns an element as the script writes it: `"tap0"`, `"tap0" : jump guest-…`, `"tap0" :
/// 0x1001`, `"tap0" . 0x1001` or `0x1001`. Returns `None` for any other form, which the script does
/// not use.
fn element_in_script_form(element: &Value) -> Option<String> {
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
