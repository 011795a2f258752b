//! The default path of a demo's admin socket. Subcommands find it there without `--socket`.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

use crate::config::{self, AdminSocketPolicy};

/// Returns the path of a demo's socket: in the user's runtime directory, or else in the user's own
/// directory under the temporary directory.
pub(super) fn path() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.is_dir());
    let directory = match runtime {
        Some(runtime) => runtime.join("imdsd"),
        None => std::env::temp_dir().join(format!("imdsd-{}", rustix::process::geteuid().as_raw())),
    };
    directory.join(config::ADMIN_SOCKET)
}

/// Returns the settings of a demo's socket; `None` if there is no directory for it that only this
/// user can enter.
pub(super) fn settings() -> Option<config::AdminSettings> {
    let socket = path();
    let directory = socket.parent()?;
    let _ = std::fs::DirBuilder::new().mode(0o700).create(directory);
    let metadata = std::fs::symlink_metadata(directory).ok()?;
    let is_private = metadata.is_dir()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o077 == 0;
    is_private.then(|| config::AdminSettings {
        socket,
        users: Vec::new(),
        groups: Vec::new(),
        socket_policy: AdminSocketPolicy::Optional,
    })
}
