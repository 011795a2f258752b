//! When a socket begins to accept connections. Until then, they wait in its queue.
//!
//! A start registers instances one batch after another. A connection that is accepted before its
//! instance is registered is reset: its guest would see a closed port.

use std::sync::Arc;

use tokio::sync::watch;

use crate::daemon::listeners::desired::ListenerConfig;
use crate::daemon::listeners::key::ListenerKey;
use crate::instance::Attachment;
use crate::registry::Registry;

/// Which listeners accept connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// None: it is not known yet whose the attachments are.
    None,
    /// Those of one guest each whose instance is registered. The others may still get instances.
    Registered,
    /// All.
    All,
}

/// What a socket waits for before it accepts.
#[derive(Clone)]
pub(super) struct AcceptCondition {
    accepting: watch::Receiver<Accepting>,
    registry: Arc<Registry>,
    /// The attachment of all of its connections, if they have the same.
    attachment: Option<Attachment>,
}

impl AcceptCondition {
    pub(super) fn new(
        accepting: watch::Receiver<Accepting>,
        registry: Arc<Registry>,
        config: &ListenerConfig,
        key: &ListenerKey,
    ) -> AcceptCondition {
        let attachment = match key {
            ListenerKey::Listener(name) => Attachment::Listener(name.clone()),
            ListenerKey::Interface(name) | ListenerKey::Bridge(name) => {
                Attachment::Interface(name.clone())
            }
            ListenerKey::Namespace(name) => Attachment::NetworkNamespace(name.clone()),
        };
        let is_shared = config.identifies_beyond_interface(key);
        AcceptCondition {
            accepting,
            registry,
            attachment: (!is_shared).then_some(attachment),
        }
    }

    /// Returns `true` once connections may be accepted, and `false` if they never may: the start
    /// failed.
    pub(super) async fn met(mut self) -> bool {
        let (registry, attachment) = (self.registry, self.attachment);
        let is_registered = || {
            let snapshot = registry.snapshot();
            let attachment = attachment.as_ref();
            attachment.is_some_and(|attachment| snapshot.attached_to(attachment).is_some())
        };
        let may_accept = |accepting: &Accepting| match accepting {
            Accepting::None => false,
            Accepting::Registered => is_registered(),
            Accepting::All => true,
        };
        self.accepting.wait_for(may_accept).await.is_ok()
    }
}
