//! Which refused Hosts of guests were logged.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tracing::warn;

use crate::instance::InstanceId;
use crate::origin::Origin;

/// How many refused names are logged, each once: a guest can send as many as it likes.
const MAX_NAMES: usize = 64;

/// The length in characters to which a logged name is cut: a name has at most 253 (RFC 1035,
/// 2.3.4), and a port may follow.
const MAX_CHARACTERS: usize = 260;

/// The refused names that were logged.
#[derive(Default)]
pub(super) struct RefusedHosts {
    logged: Mutex<BTreeSet<String>>,
}

impl RefusedHosts {
    /// Logs a Host that was refused, once for each name: the operator may have meant guests to use it.
    pub(super) fn warn(&self, instance: &InstanceId, origin: &Origin, host: &str) {
        let host: String = host.chars().take(MAX_CHARACTERS).collect();
        let is_new = {
            let mut logged = self.logged.lock();
            logged.len() < MAX_NAMES && logged.insert(host.clone())
        };
        if is_new {
            let (instance, attachment) = (instance.as_str(), origin.attachment.to_string());
            warn!(
                instance,
                attachment,
                host,
                "refused a Host that is a foreign name, as in DNS rebinding; if guests should use it, add it to \
                 guest.allowed_hosts"
            );
        }
    }
}
