//! Why the daemon did not start. Each text says what to do about it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::registry::StoreError;

/// Why the daemon did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The state directory cannot be used.
    Store(StoreError),
    /// The token keys cannot be kept in the runtime directory.
    TokenKeys(PathBuf, io::Error),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The admin socket cannot be opened.
    Admin(PathBuf, io::Error),
    /// The host's interfaces cannot be watched.
    Host(io::Error),
    /// Signals or the runtime failed.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(reason) => write!(f, "{reason}"),
            StartError::TokenKeys(path, reason) => write!(
                f,
                "cannot keep token keys in {}: {reason}; set runtime_directory to a directory that \
                 this user may write",
                path.display()
            ),
            StartError::Listen(address, reason) => {
                write!(
                    f,
                    "cannot listen on {address}: {reason}{}",
                    listen_hint(reason)
                )
            }
            StartError::Admin(path, reason) => write!(
                f,
                "cannot open the admin socket {}: {reason}; {}",
                path.display(),
                admin_hint(reason)
            ),
            StartError::Host(reason) => write!(
                f,
                "cannot watch the host's interfaces: {reason}; guests on interfaces need netlink \
                 (AF_NETLINK in RestrictAddressFamilies), and addresses = \"manage\" needs \
                 CAP_NET_ADMIN"
            ),
            StartError::System(reason) => write!(f, "{reason}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Returns what to do about an address that cannot be listened on.
pub(super) fn listen_hint(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there, perhaps another imdsd; choose another port in the \
             configuration, or for a demo with --listen and --control"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this host has the address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

fn admin_hint(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => "set admin.socket to another path for this one",
        io::ErrorKind::NotFound => "create its directory, or set admin.socket to another path",
        io::ErrorKind::PermissionDenied => {
            "set admin.socket to a path in a directory that this user may write"
        }
        _ => "remove the file at that path, or set admin.socket to another path",
    }
}
