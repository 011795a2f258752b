//! What the handlers of the admin API work on.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::daemon_view::DaemonView;
use super::operations::Operations;
use crate::net::status::ListenersStatus;
use crate::registry::Registry;

/// The admin API of a running daemon. `router` answers its requests.
pub(crate) struct AdminApi {
    pub(super) registry: Arc<Registry>,
    pub(super) listeners: Arc<ArcSwap<ListenersStatus>>,
    pub(super) daemon: Arc<dyn DaemonView>,
    pub(super) operations: Operations,
}

impl AdminApi {
    /// Creates the API over a registry, the status that the reconciler of listeners publishes, and
    /// the daemon.
    pub(crate) fn new(
        registry: Arc<Registry>,
        listeners: Arc<ArcSwap<ListenersStatus>>,
        daemon: Arc<dyn DaemonView>,
    ) -> AdminApi {
        AdminApi {
            registry,
            listeners,
            daemon,
            operations: Operations::default(),
        }
    }
}
