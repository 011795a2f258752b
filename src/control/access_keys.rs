//! The access keys that callers may sign with and what each may do, from a TOML file that only its
//! owner can read:
//!
//! ```toml
//! [[access_key]]
//! access_key_id = "AKID…"
//! secret_access_key = "…"
//! session_token = "…"        # optional: callers must then send it
//! account = "123456789012"   # optional: for GetCallerIdentity and as the owner of launched instances; default: twelve zeros
//!
//! [[access_key.rule]]        # the first rule that matches decides; without rules, everything is permitted
//! effect = "deny"
//! actions = ["ec2:*"]
//! conditions = { "ec2:Attribute/HttpTokens" = "optional" }
//!
//! [[access_key.rule]]
//! effect = "allow"
//! actions = ["ec2:Describe*", "ec2:Modify*"]
//! instances = ["i-*"]
//! tags = { team = ["web", "db-*"] }
//! ```
//!
//! Unknown fields and unknown actions are refused, and so are rules that can never match
//! ([`lint`](crate::control::policy::lint)). [`access_key_file`] parses the keys themselves.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use toml_edit::Table;

use super::policy::read::read_policy;
use super::policy::rules::Policy;
use crate::fault::Fault;
use crate::ownership::KeyOwner;
use crate::secret::Secret;
use crate::sigv4::AccessKey;
use crate::sigv4::access_key_file::{
    self, FileFaults, FileKeys, KeyFileContent, KeyRules, offset_of, text,
};

/// The access keys by their id.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessKeys {
    by_id: HashMap<String, KeyGrant>,
}

/// An access key and what it grants.
#[derive(Clone, Debug)]
pub(super) struct KeyGrant {
    pub(super) key: AccessKey,
    /// 12 digits.
    pub(super) account: String,
    pub(super) policy: Arc<Policy>,
}

/// The least length of a secret, in characters. A request that is observed can be tested against
/// guessed secrets.
pub(super) const MIN_SECRET: usize = 16;

/// The account of a key without one; also that of an instance whose document names no owner.
const NO_ACCOUNT: &str = "000000000000";

impl AccessKeys {
    /// Id and secret of the demo's key. The demo serves invented data on loopback, so they can be
    /// public.
    pub(crate) const DEMO: (&str, &str) = (
        "AKIDIMDSDDEMO0000001",
        "imdsd-demo-secret-key-known-to-everyone",
    );

    fn new(grants: impl IntoIterator<Item = KeyGrant>) -> AccessKeys {
        AccessKeys {
            by_id: grants
                .into_iter()
                .map(|grant| (grant.key.access_key_id.clone(), grant))
                .collect(),
        }
    }

    /// Returns the demo's one key. Its account is that of the demo's instance.
    pub(crate) fn demo() -> AccessKeys {
        let (id, secret) = AccessKeys::DEMO;
        let key = AccessKey {
            access_key_id: id.to_string(),
            secret_access_key: Secret::new(secret),
            session_token: None,
        };
        AccessKeys::new([KeyGrant {
            key,
            account: "123456789012".to_string(),
            policy: Arc::default(),
        }])
    }

    /// Reads a file of keys that belongs to `owner`.
    ///
    /// Returns the keys without faults, and all faults.
    pub(crate) fn read(path: &Path, owner: KeyOwner) -> (FileKeys<AccessKeys>, Vec<Fault>) {
        let rules = KeyRules {
            owner,
            min_secret: MIN_SECRET,
            more_fields: &["account", "rule"],
        };
        let KeyFileContent { keys, faults } = access_key_file::read_each(path, rules, read_grant);
        let keys = keys.map(|keys| {
            AccessKeys::new(keys.into_iter().map(|(key, (account, policy))| KeyGrant {
                key,
                account,
                policy: Arc::new(policy),
            }))
        });
        (keys, faults)
    }

    /// Returns those of the keys whose ids are in the set.
    pub(super) fn only(&self, ids: &HashSet<String>) -> AccessKeys {
        let kept = |grant: &&KeyGrant| ids.contains(&grant.key.access_key_id);
        AccessKeys::new(self.by_id.values().filter(kept).cloned())
    }

    /// Returns the number of keys.
    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Returns a key by its id.
    pub(crate) fn find(&self, access_key_id: &str) -> Option<&AccessKey> {
        self.grant(access_key_id).map(|grant| &grant.key)
    }

    pub(super) fn grant(&self, access_key_id: &str) -> Option<&KeyGrant> {
        self.by_id.get(access_key_id)
    }
}

/// Reads the account and the policy of one `[[access_key]]` table.
pub(super) fn read_grant(table: &Table, faults: &mut FileFaults<'_>) -> (String, Policy) {
    let start = table.span().map(|span| span.start);
    let policy = read_policy(table.get("rule"), start, faults);
    let account = match table.get("account").map(text) {
        None => NO_ACCOUNT,
        Some(account) => account.unwrap_or_default(),
    };
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        faults.add(offset_of(table, "account"), "account", "must be 12 digits");
    }
    (account.to_string(), policy)
}

/// Returns the demo's key with a policy.
#[cfg(test)]
pub(super) fn demo_with(policy: Policy) -> AccessKeys {
    let mut keys = AccessKeys::demo();
    keys.by_id
        .values_mut()
        .for_each(|grant| grant.policy = Arc::new(policy.clone()));
    keys
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str =
        "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"0123456789abcdef\"\n";

    fn read(text: &str) -> Result<AccessKeys, Vec<String>> {
        let (keys, faults) = read_keys(text);
        match faults.is_empty() {
            true => Ok(keys.known().unwrap()),
            false => Err(faults),
        }
    }

    fn read_keys(text: &str) -> (FileKeys<AccessKeys>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let name = format!("{}", path.display());
        let (keys, faults) = AccessKeys::read(&path, KeyOwner::this_user());
        let text = |fault: &Fault| fault.to_string().replace(&name, "F");
        (keys, faults.iter().map(text).collect())
    }

    #[test]
    fn a_key_has_an_account_and_rules() {
        let rule = "[[access_key.rule]]\neffect = \"deny\"\nactions = \"ec2:Stop*\"\n";
        let keys = read(&format!("{KEY}account = \"111122223333\"\n{rule}")).unwrap();
        let grant = keys.grant("A").unwrap();
        assert_eq!(grant.account, "111122223333");
        assert_eq!(grant.policy.0.as_ref().unwrap().len(), 1);
        assert_eq!(
            keys.find("A").unwrap().secret_access_key.expose(),
            "0123456789abcdef"
        );
        assert!(keys.find("B").is_none());
        assert!(!format!("{keys:?}").contains("0123456789abcdef"));

        let keys = read(KEY).unwrap();
        let grant = keys.grant("A").unwrap();
        assert_eq!(grant.account, NO_ACCOUNT);
        assert!(grant.policy.0.is_none());
    }

    /// A key without its rules would permit everything.
    #[test]
    fn no_key_is_in_force_while_its_rules_may_have_a_misspelled_name() {
        let other = KEY.replace("\"A\"", "\"B\"");
        let rule = |effect: &str| format!("effect = \"{effect}\"\nactions = \"ec2:Stop*\"\n");
        for name in [
            "[[acces_key.rule]]",
            "[[access_keys.rule]]",
            "[[Access_key.rule]]",
            "[[access-key.rule]]",
            "[[\"access_key.rule\"]]",
            "[[rule]]",
            "[rule]",
            "[acces_key.rule]",
            "[[rules]]",
            "[[key.rule]]",
        ] {
            for effect in ["deny", "allow"] {
                // At the end, and between two keys, of which only the first would lose its rule.
                for more in ["", other.as_str()] {
                    let text = format!("{KEY}{name}\n{}{more}", rule(effect));
                    let (keys, faults) = read_keys(&text);
                    assert_eq!(keys.known().unwrap().count(), 0, "{text}");
                    let [fault] = faults.as_slice() else {
                        panic!("{text}: {faults:?}")
                    };
                    assert!(
                        fault.starts_with("F:4: ")
                            && fault.ends_with("so none of them is in force"),
                        "{text}: {fault}"
                    );
                }
            }
        }
        // The tables that follow `access_key` are its own.
        let right = format!("{KEY}[[access_key.rule]]\n{}{other}", rule("deny"));
        assert_eq!(read(&right).unwrap().count(), 2);
        for text in [
            format!("rule = [{{ effect = \"deny\", actions = \"*\" }}]\n{KEY}"),
            KEY.replace("[[access_key]]", "[access_key]"),
            format!("access_key = [{{ access_key_id = \"A\" }}]\n[[access_keys]]\n{KEY}")
                .replace("[[access_key]]\n", ""),
        ] {
            assert_eq!(read_keys(&text).0.known().unwrap().count(), 0, "{text}");
        }
    }

    #[test]
    fn faults_of_the_account_and_the_rules_are_reported_with_their_lines() {
        let known =
            "not known; a key has access_key_id, secret_access_key, session_token, account, rule";
        for (more, faults) in [
            (
                "account = \"12\"\nrule = \"all\"\n",
                vec![
                    "F:5: rule: rules are [[access_key.rule]] tables",
                    "F:4: account: must be 12 digits",
                ],
            ),
            ("account = 12\n", vec!["F:4: account: must be 12 digits"]),
            ("colour = \"red\"\n", vec![&format!("F:4: colour: {known}")]),
        ] {
            assert_eq!(read(&format!("{KEY}{more}")).unwrap_err(), faults, "{more}");
        }
    }
}
