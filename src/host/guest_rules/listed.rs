//! The rules that are loaded, as `nft --json list ruleset` prints them, compared with those that
//! are needed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::table::{Chain, TABLE, Table};

/// The chains, sets and maps of our tables in the output of `nft --json list ruleset`.
#[derive(Default)]
pub(super) struct Listed<'a> {
    chains: BTreeMap<(&'a str, &'a str), ListedChain<'a>>,
    /// Elements in the form that the script uses.
    elements: BTreeMap<(&'a str, &'a str), BTreeSet<String>>,
}

struct ListedChain<'a> {
    hook: Option<&'a str>,
    rules: usize,
}

impl<'a> Listed<'a> {
    /// Reads the output of nft; entries of any other form are ignored.
    pub(super) fn read(listed: &'a Value) -> Listed<'a> {
        let mut found = Listed::default();
        for entry in listed["nftables"].as_array().into_iter().flatten() {
            let of = |kind: &str| {
                let object = entry.get(kind).filter(|object| is_in_our_table(object))?;
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
            let chain = format!("chain {} of table {} {TABLE}", chain.name, table.family);
            missing.extend(faults.iter().map(|fault| format!("{chain} {fault}")));
        }
        for collection in &table.collections {
            let name = collection.name.as_str();
            let listed = self.elements.get(&(table.family, name));
            for (owner, element) in &collection.elements {
                let is_listed = || listed.is_some_and(|all| all.contains(element));
                if *owner == Some(guest) && !is_listed() {
                    missing.push(format!(
                        "{} {name} of table {} {TABLE} has no {element}",
                        collection.kind, table.family
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

fn is_in_our_table(object: &Value) -> bool {
    object["table"] == TABLE
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
