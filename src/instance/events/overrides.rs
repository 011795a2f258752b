//! Leaves of the metadata tree that an operator sets or hides by hand: path → text, or null.
//!
//! A path begins below the version, without a slash: `meta-data/public-ipv4`. What options or deliveries decide about can't
//! be overridden, as that would be a way around them.

use std::collections::BTreeMap;

use crate::fault::FieldFault;
use serde::{Deserialize, Serialize};

/// The overrides of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides(BTreeMap<String, Option<String>>);

/// What an override says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathOverride<'a> {
    /// The leaf has this value.
    Set(&'a str),
    /// The leaf, or the directory with all below it, is absent.
    Hidden,
    /// Nothing is said of it.
    NotOverridden,
}

/// The most bytes an override may have: as many as user data.
pub const MAX_BYTES: usize = 16_384;

/// The most overrides an instance may have, so that records stay small.
pub const MAX_OVERRIDES: usize = 256;

/// Directories in which nothing can be overridden, with the reason.
const DECIDED_ELSEWHERE: [(&str, &str); 4] = [
    (
        "meta-data/tags",
        "InstanceMetadataTags decides about it; change Tags",
    ),
    (
        "meta-data/iam/security-credentials",
        "its two deliveries differ; change Imds.Role",
    ),
    (
        "meta-data/identity-credentials",
        "its two deliveries differ",
    ),
    (
        "dynamic/instance-identity",
        "its signatures cover one document; change the instance",
    ),
];

impl Overrides {
    /// What is said of the path made of these segments.
    pub fn of(&self, path: &str) -> PathOverride<'_> {
        match self.0.get(path) {
            Some(Some(text)) => PathOverride::Set(text),
            Some(None) => PathOverride::Hidden,
            None => PathOverride::NotOverridden,
        }
    }

    /// The names directly below a directory that overrides bring; the same name may come more than once.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = &'a str> {
        let from = format!("{directory}/");
        let paths = self.0.iter().filter(|(_, value)| value.is_some());
        paths.filter_map(move |(path, _)| path.strip_prefix(&from)?.split('/').next())
    }

    /// Sets a leaf, or hides what is at the path.
    pub fn put(&mut self, path: &str, value: Option<String>) {
        self.0.insert(path.to_string(), value);
    }

    /// Says nothing of a path any more.
    pub fn restore(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// Whether there are more than an instance may have.
    pub fn is_full(&self) -> bool {
        self.0.len() > MAX_OVERRIDES
    }

    /// What is said of too many.
    pub fn full() -> String {
        format!("an instance has at most {MAX_OVERRIDES} overrides")
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every path that is overridden.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What can't be: one sentence a fault, with its path.
    pub fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        for (path, value) in &self.0 {
            let mut fault = |message: String| faults.push(FieldFault::new(path, message));
            if !path.starts_with("meta-data/") && !path.starts_with("dynamic/") {
                fault(
                    "a path begins with meta-data/ or dynamic/, without a version and without a slash in front".into(),
                );
                continue;
            }
            if path.split('/').any(str::is_empty) {
                fault("a path has no empty segment and no slash at its end".into());
            }
            if !path.bytes().all(|b| b.is_ascii_graphic() && b != b'%') {
                fault("a path is printable ASCII without blanks and without percent signs".into());
            }
            if value.as_ref().is_some_and(|text| text.len() > MAX_BYTES) {
                fault(format!("has at most {MAX_BYTES} bytes"));
            }
            for (directory, reason) in DECIDED_ELSEWHERE {
                if path == directory || path.starts_with(&format!("{directory}/")) {
                    fault(format!("can't be overridden: {reason}"));
                }
            }
            let leaf_above = |(above, value): (&String, &Option<String>)| {
                value.is_some()
                    && path
                        .strip_prefix(above.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
            };
            if value.is_some() && self.0.iter().any(leaf_above) {
                fault("a leaf can't be below a leaf".into());
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
    fn what_cannot_be_is_named() {
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
