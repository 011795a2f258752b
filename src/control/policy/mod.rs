//! The permissions of a caller: the rules of its access key.
//!
//! | part of a rule | matches | file |
//! |---|---|---|
//! | `actions` | the action, by name or pattern | [`rules`] |
//! | `instances` | the id of the instance | [`rules`] |
//! | `tags` | the tags of the instance | [`rules`] |
//! | `conditions` | what the instance is (`ec2:MetadataHttpTokens` …), or the values that the call requests (`ec2:Attribute/<Name>`) | [`condition`] |
//!
//! An instance that is being launched is judged by what it would be; its id is not known then.
//!
//! [`read`] parses rules, and [`lint`] refuses rules that can never match. **A new condition key**
//! is a row in one of the tables in [`condition`]; CONTRIBUTING.md lists the steps.
//!
//! Not supported: ARNs, principals, other condition keys and operators, policy variables.

pub(crate) mod condition;
pub(crate) mod lint;
pub(crate) mod pattern;
pub(crate) mod read;
pub(crate) mod rules;
