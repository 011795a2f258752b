//! Checks instance documents against a configuration and against each other.
//!
//! `imdsd check`, a start and a reload use it, and the admin socket for a single document.
//!
//! | file | duty |
//! |---|---|
//! | `checked` | the documents of a configuration: what is taken in, what has faults |
//! | `judged` | each document by itself, on all processors side by side |
//! | `known` | texts that were judged before and need not be judged again |
//! | `registered` | which instances have a record, and what it says |
//! | `instance_faults` | what keeps a single instance from being served |
//! | `removed` | which instances have lost their document |
//! | `config_check` | a configuration and its documents, for the command line |

mod checked;
mod config_check;
mod exposed;
mod instance_faults;
mod judged;
mod known;
mod registered;
mod removed;

pub(crate) use checked::CheckedDocuments;
pub(crate) use config_check::{CheckedConfig, check};
pub(crate) use exposed::exposed_secret;
pub(crate) use instance_faults::instance_faults;
pub(crate) use known::KnownDocuments;
pub(crate) use registered::Registered;
pub(crate) use removed::RemovedDocuments;

#[cfg(test)]
mod tests;
