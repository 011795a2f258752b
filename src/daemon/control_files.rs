//! The files of the control endpoint: its access keys, and its certificate with the key.
//!
//! A start, a reload and `imdsd check` read them. Each counts by itself, so that a fault in one keeps
//! nothing of the others in force. A key that is not in the file, or whose table has a fault, is not
//! in force. Only a file that does not say which keys there are leaves the previous ones in force. One
//! that others can read says which, but not with which secrets: of the previous keys, those that are
//! in it stay in force.

use std::sync::Arc;

use crate::config::{AccessKeySource, Config};
use crate::control::{AccessKeys, FileKeys};
use crate::fault::Fault;
use crate::net::tls::Tls;

/// What the files of the control endpoint contain.
pub(crate) struct ControlFiles {
    /// The access keys; `None` if the configuration has no control endpoint.
    pub(super) access_keys: Option<FileKeys<AccessKeys>>,
    /// The certificate and its key.
    pub(super) certificate: ReadFile<Tls>,
    /// All faults.
    pub(crate) faults: Vec<Fault>,
}

/// What was read of a file.
pub(super) enum ReadFile<T> {
    /// The configuration names no such file.
    NotConfigured,
    /// The content without its faults.
    Read(T),
    /// The file cannot be read. What was read before stays in force.
    Unreadable,
}

impl ControlFiles {
    /// Reads the files that the configuration names.
    pub(crate) fn read(config: &Config) -> ControlFiles {
        let mut faults = Vec::new();
        ControlFiles {
            access_keys: read_access_keys(config, &mut faults),
            certificate: read_certificate(config, &mut faults),
            faults,
        }
    }
}

impl ReadFile<Tls> {
    /// Returns the certificate for a start. Without a readable one, every handshake fails: the
    /// endpoint must not fall back to plain HTTP.
    pub(super) fn at_start(self) -> Option<Arc<Tls>> {
        match self {
            ReadFile::NotConfigured => None,
            ReadFile::Read(tls) => Some(Arc::new(tls)),
            ReadFile::Unreadable => Some(Arc::new(Tls::without_certificate())),
        }
    }
}

fn read_access_keys(config: &Config, faults: &mut Vec<Fault>) -> Option<FileKeys<AccessKeys>> {
    match &config.control.as_ref()?.access_keys {
        AccessKeySource::Demo => Some(FileKeys::Known(AccessKeys::demo())),
        AccessKeySource::File(path) => {
            let (keys, of_file) = AccessKeys::read(path, config.key_owner());
            faults.extend(of_file);
            Some(keys)
        }
    }
}

fn read_certificate(config: &Config, faults: &mut Vec<Fault>) -> ReadFile<Tls> {
    let control = config.control.as_ref();
    let Some(files) = control.and_then(|control| control.tls.as_ref()) else {
        return ReadFile::NotConfigured;
    };
    match Tls::read(&files.certificate, &files.key, config.key_owner()) {
        Ok(tls) => ReadFile::Read(tls),
        Err(fault) => {
            faults.push(fault);
            ReadFile::Unreadable
        }
    }
}
