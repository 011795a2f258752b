//! `[admin]`

use std::path::Path;

use crate::config::resolve::accounts::{group, user_id};
use crate::config::resolve::values::path_in;
use crate::config::section::{Faults, Section};
use crate::config::settings::{ADMIN_SOCKET, AdminSettings, AdminSocketPolicy};

/// Reads the table. Without it, a configured daemon still has its admin socket.
pub(super) fn read(
    root: &mut Section<'_>,
    directory: &Path,
    runtime_directory: &Path,
    faults: &mut Faults<'_>,
) -> AdminSettings {
    let mut admin = AdminSettings {
        socket: runtime_directory.join(ADMIN_SOCKET),
        users: Vec::new(),
        groups: Vec::new(),
        socket_policy: AdminSocketPolicy::Required,
    };
    if let Some(mut section) = root.table("admin", faults) {
        if let Some(socket) = section.parsed("socket", faults, path_in(directory)) {
            admin.socket = socket;
        }
        admin.users = section.accounts("users", faults, user_id);
        for group in section.accounts("groups", faults, group) {
            admin.groups.push(group.id);
            admin.users.extend(group.members);
        }
        section.finish(faults);
    }
    admin
}
