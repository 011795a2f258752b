//! How a credential program starts, so that it inherits nothing that only the daemon should have.
//!
//! The standard library can set a child's environment, directory, descriptors and process group.
//! Capabilities and resource limits would need code between fork and exec, which is unsafe. So the
//! daemon starts its own executable, which gives up what it inherited and then becomes the program:
//! same process id, same standard streams.
//!
//! | Inherited | What the program gets, and why |
//! |---|---|
//! | ambient capabilities | none: the daemon's are for its sockets and interfaces |
//! | descriptor limit | [`SOFT_DESCRIPTOR_LIMIT`]: the daemon needs many more, but programs that use select(2) or close every possible descriptor fail or crawl with more. The hard limit stays, so a program can raise its own |
//! | core dumps | none: its memory holds credentials |
//! | descriptors | standard input, output and error only. imdsd opens its own close-on-exec, but not those that it was started with |
//! | parent | the program is killed when the daemon is; its output would not be read |
//!
//! The standard library resets the signal mask and SIGPIPE. User, groups, umask, OOM score and bounding set stay those of the service. So does the set of
//! inheritable capabilities: it gives nothing to a file that has no inheritable capabilities, and the
//! unit's system-call filter refuses capset(2).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::clear_ambient_capability_set;

/// The first argument with which the executable starts a credential program instead of itself. The
/// command line does not describe it: it is for the daemon only.
pub const LAUNCH: &str = "launch-credential-program";

/// The soft limit of open descriptors for a program: the one that Linux starts processes with, and
/// the largest descriptor number that select(2) can use plus one.
const SOFT_DESCRIPTOR_LIMIT: u64 = 1024;

/// Standard input, output and error.
const STANDARD_STREAMS: std::ops::RangeInclusive<RawFd> = 0..=2;

/// The limit of core files in bytes. It must not be 0: where cores go to a program (core_pattern
/// begins with `|`), the kernel ignores 0 and aborts the dump at 1. See core(5).
const CORE_LIMIT: u64 = 1;

/// The executable that starts credential programs: imdsd itself.
#[derive(Clone, Debug)]
pub struct Launcher {
    executable: PathBuf,
}

impl Launcher {
    /// Returns the launcher of the running imdsd. The kernel resolves its path to the file that was
    /// started, even if an upgrade has replaced it.
    pub fn this_executable() -> Launcher {
        Launcher::at("/proc/self/exe")
    }

    /// Returns a launcher that starts the imdsd at this path.
    pub fn at(executable: impl Into<PathBuf>) -> Launcher {
        Launcher {
            executable: executable.into(),
        }
    }

    /// Returns the command that starts a program without the daemon's privileges.
    pub(super) fn command(&self, program: &str, arguments: &[String]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.executable);
        command.arg(LAUNCH).arg(program).args(arguments);
        command
    }
}

/// Gives up what this process inherited from the daemon and executes the program in its place.
/// Returns only if that failed; the program has not run then.
pub fn launch(program: &OsStr, arguments: impl Iterator<Item = OsString>) -> io::Error {
    if let Err(reason) = give_up_inherited() {
        return reason;
    }
    std::process::Command::new(program).args(arguments).exec()
}

/// Gives up what the table above names. A program that keeps a capability or a limit of the daemon
/// must not run, so every failure is an error.
fn give_up_inherited() -> io::Result<()> {
    // The kernel kills the program when the thread that started it ends: the daemon's main thread.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match clear_ambient_capability_set() {
        // Kernels before 4.3 have no ambient capabilities.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(reason) => return Err(reason.into()),
    }
    let descriptors = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: at_most(SOFT_DESCRIPTOR_LIMIT, descriptors.current),
            maximum: descriptors.maximum,
        },
    )?;
    let core = at_most(CORE_LIMIT, getrlimit(Resource::Core).maximum);
    setrlimit(
        Resource::Core,
        Rlimit {
            current: core,
            maximum: core,
        },
    )?;
    close_inherited()
}

/// Closes all descriptors but the standard streams. This process has opened none that it needs.
fn close_inherited() -> io::Result<()> {
    // Listed first: the listing has a descriptor too, which is closed when the list is complete.
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        open.push(number.ok_or(io::ErrorKind::InvalidData)?);
    }
    open.retain(|number| !STANDARD_STREAMS.contains(number));
    for number in open {
        match nix::unistd::close(number) {
            // The listing's own.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(reason) => return Err(reason.into()),
        }
    }
    Ok(())
}

/// Returns the lower of two limits; `None` means no limit.
fn at_most(wanted: u64, limit: Option<u64>) -> Option<u64> {
    Some(limit.map_or(wanted, |limit| limit.min(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_only_lowered() {
        for (limit, expected) in [(None, 1024), (Some(1 << 20), 1024), (Some(64), 64)] {
            assert_eq!(at_most(SOFT_DESCRIPTOR_LIMIT, limit), Some(expected));
        }
    }
}
