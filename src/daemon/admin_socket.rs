//! The admin socket of the daemon.

use std::io;

use tracing::warn;

use crate::config::{AdminSettings, AdminSocketPolicy};
use crate::daemon::start_error::StartError;
use crate::net::unix::UnixSocket;

/// Opens the admin socket; `None` if it cannot be opened and is optional. Calls are not answered
/// before it is served.
pub(super) fn open_admin(admin: &AdminSettings) -> Result<Option<UnixSocket>, StartError> {
    match (
        UnixSocket::open(&admin.socket, &admin.users, &admin.groups),
        admin.socket_policy,
    ) {
        (Ok(socket), _) => Ok(Some(socket)),
        (Err(reason), AdminSocketPolicy::Optional) if reason.kind() == io::ErrorKind::AddrInUse => {
            warn!(
                "another imdsd of this user has {}, so this one has no admin socket and `imdsd event` \
                 reaches the other one; set another XDG_RUNTIME_DIR to give it its own, and name it \
                 with `imdsd event --socket`",
                admin.socket.display()
            );
            Ok(None)
        }
        (Err(reason), AdminSocketPolicy::Optional) => {
            warn!(
                "cannot open the admin socket {}: {reason}. This imdsd has none, and `imdsd event` does \
                 not reach it; another XDG_RUNTIME_DIR may help",
                admin.socket.display()
            );
            Ok(None)
        }
        (Err(reason), AdminSocketPolicy::Required) => {
            Err(StartError::Admin(admin.socket.clone(), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A demo is for trying things out, and the user did not choose the path of its socket.
    #[test]
    fn an_admin_socket_that_cannot_be_opened_stops_a_configured_daemon_but_not_a_demo() {
        let directory = tempfile::tempdir().unwrap();
        let occupied = directory.path().join("occupied");
        std::fs::create_dir(&occupied).unwrap();
        let places = [
            occupied,
            directory.path().join("a".repeat(120)),
            directory.path().join("nowhere/admin.sock"),
        ];
        for socket in places {
            let open = |socket_policy| {
                open_admin(&AdminSettings {
                    socket: socket.clone(),
                    users: Vec::new(),
                    groups: Vec::new(),
                    socket_policy,
                })
            };
            assert!(
                matches!(open(AdminSocketPolicy::Optional), Ok(None)),
                "{}",
                socket.display()
            );
            assert!(
                matches!(
                    open(AdminSocketPolicy::Required),
                    Err(StartError::Admin(..))
                ),
                "{}",
                socket.display()
            );
        }
    }
}
