//! The control endpoint: its socket, its TLS, and the control plane behind it.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::clock::Moment;
use crate::config::Config;
use crate::control::{self, Control, FileKeys};
use crate::daemon::connection_limits::CONTROL_CONNECTIONS;
use crate::daemon::control_files::ControlFiles;
use crate::daemon::start_error::StartError;
use crate::http::UnreadableRequest;
use crate::net::control::{ControlBody, ControlServer, ControlService};
use crate::net::owner_slots::{EvictionOrder, OwnerSlots, PeerNetwork};
use crate::net::tls::Tls;
use crate::net::{self, DrainControl};
use crate::registry::Registry;

/// The control endpoint with its socket bound. It does not answer yet.
pub(super) struct BoundControl {
    listener: TcpListener,
    address: SocketAddr,
    pub(super) plane: Arc<Control>,
    pub(super) tls: Option<Arc<Tls>>,
}

/// The running control endpoint.
pub(super) struct ControlEndpoint {
    /// The address that it listens on.
    pub(super) address: SocketAddr,
    accepting: JoinHandle<()>,
    drain: DrainControl,
}

impl BoundControl {
    /// Binds the control endpoint; `None` if the configuration has none. If a file cannot be read,
    /// no call is accepted until a reload reads it.
    pub(super) fn bind(
        registry: &Arc<Registry>,
        config: &Config,
        files: ControlFiles,
    ) -> Result<Option<BoundControl>, StartError> {
        let Some(settings) = &config.control else {
            return Ok(None);
        };
        let keys = files.access_keys.and_then(FileKeys::known);
        let keys = keys.unwrap_or_default();
        let control = Control::new(Arc::clone(registry), keys, settings.regions.clone());
        let tls = files.certificate.at_start();
        let listener = net::listener::open(settings.listen)
            .map_err(|reason| StartError::Listen(settings.listen, reason))?;
        Ok(Some(BoundControl {
            address: listener.local_addr().map_err(StartError::System)?,
            listener,
            plane: Arc::new(control),
            tls,
        }))
    }

    /// Starts to answer calls. `head_time` is the time limit for a request's head.
    pub(super) fn start(self, head_time: Duration) -> ControlEndpoint {
        let BoundControl {
            listener,
            address,
            plane,
            tls,
        } = self;
        info!(%address, tls = tls.is_some(), "control endpoint");
        let drain = DrainControl::new();
        let refusals = Arc::clone(plane.refusals());
        let handshake_failed = move |peer: SocketAddr, reason: &str| {
            let now = Moment::now().since_boot;
            let peer = peer.to_string();
            match refusals.count("tls_handshake", now) {
                Some(unlogged) => {
                    warn!(peer, unlogged, "control: TLS handshake failed: {reason}");
                }
                None => debug!(peer, "control: TLS handshake failed: {reason}"),
            }
        };
        let settings = ControlServer {
            service: control_service(plane),
            handshake_failed: Arc::new(handshake_failed),
            refuse: |reason| control::unreadable(reason, Moment::now()),
            tls,
            max_body: control::MAX_BODY_BYTES,
            head_time,
        };
        let slots = OwnerSlots::new(CONTROL_CONNECTIONS, EvictionOrder::OldestFirst);
        let owner = move |_: &TcpStream, peer: SocketAddr| {
            Some((slots.take(PeerNetwork::of(peer.ip()))?, peer))
        };
        let accepting = net::listener::accept(
            listener,
            drain.drain(),
            owner,
            move |stream, peer, slot, drain| {
                net::control::serve(stream, peer, settings.clone(), slot, drain)
            },
        );
        ControlEndpoint {
            address,
            accepting: tokio::spawn(accepting),
            drain,
        }
    }
}

impl ControlEndpoint {
    /// Closes the socket and tells the connections to end after their answer.
    pub(super) fn shut_down(&self) {
        self.accepting.abort();
        self.drain.end();
    }

    /// Returns when all connections have ended.
    pub(super) async fn ended(&self) {
        self.drain.ended().await;
    }
}

/// Connects the control plane to the network.
fn control_service(control: Arc<Control>) -> Arc<ControlService> {
    Arc::new(move |head, body| {
        let control = Arc::clone(&control);
        Box::pin(async move {
            match body {
                ControlBody::Complete(body) => control.answer(&head, &body, Moment::now()).await,
                ControlBody::TooLarge => control::too_large(Moment::now()),
                ControlBody::TimedOut => {
                    control::unreadable(UnreadableRequest::TimedOut, Moment::now())
                }
                ControlBody::WithoutLength => control::without_length(Moment::now()),
            }
        })
    })
}
