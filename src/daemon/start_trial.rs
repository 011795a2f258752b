//! What a start needs from this host, tried without a start: directories, addresses, capabilities.
//!
//! Nothing is created, and no lock is taken: a daemon may be running, or start at this moment. While
//! one runs, its addresses are not tried. What the result of a start depends on and this user cannot
//! try is named.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::config::{AddressMode, Config};
use crate::credentials;
use crate::daemon::start_error::listen_hint;
use crate::instance::{Attachment, CredentialSource, Instance};
use crate::net::listener;
use crate::ownership;

/// The result of a trial.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StartTrial {
    /// What would prevent a start.
    pub(crate) faults: Vec<String>,
    /// What a start could do without.
    pub(crate) warnings: Vec<String>,
    /// What was not tried, and why.
    pub(crate) untried: Vec<String>,
}

impl StartTrial {
    /// Tries what a start with this configuration needs to serve these instances.
    pub(crate) fn run(config: &Config, instances: &[Instance]) -> StartTrial {
        let mut trial = StartTrial::default();
        let directories = [&config.state_directory, &config.runtime_directory];
        let user = ServiceUser::of(config);
        for directory in directories.into_iter().flatten() {
            trial.check_directory(directory, &user);
        }
        trial.check_role_files(config, instances);
        let running = config.state_directory.as_deref().and_then(running_daemon);
        match running {
            Some(pid) => {
                trial.untried.push(format!(
                    "imdsd is running (process {pid}), so its addresses were not tried; see `imdsd listeners`"
                ));
            }
            None => trial.try_addresses(config),
        }
        trial.check_capabilities(config, instances, running);
        trial
    }

    fn check_directory(&mut self, directory: &Path, user: &ServiceUser) {
        let Some(reason) = directory_fault(directory, user.uid) else {
            return;
        };
        let message = format!("{}: {reason}", directory.display());
        match user.is_certain {
            true => self.faults.push(message),
            false => self.untried.push(format!(
                "{message} (this command runs as uid {}; run it as root or as the user of the service)",
                user.uid
            )),
        }
    }

    /// Checks the files that roles get their credentials with. Without them, credentials are missing,
    /// and the instance is served.
    fn check_role_files(&mut self, config: &Config, instances: &[Instance]) {
        let mut checked = BTreeSet::new();
        for instance in instances {
            let role = instance.imds.role.as_ref();
            let Some(CredentialSource::AssumeRole(source)) = role.map(|role| &role.source) else {
                continue;
            };
            if !checked.insert(&source.access_key_file) {
                continue;
            }
            if let Some(reason) =
                credentials::access_key_fault(&source.access_key_file, config.key_owner())
            {
                let id = &instance.instance_id;
                self.warnings
                    .push(format!("{id}: no credentials for its role: {reason}"));
            }
        }
    }

    fn try_addresses(&mut self, config: &Config) {
        for listener in &config.listeners {
            let interface = listener.interface.as_deref();
            let name = format!("listener '{}'", listener.name);
            if let Some(address) = listener.ipv4 {
                self.try_address(&name, address.into(), interface);
            }
            if let Some(address) = listener.ipv6 {
                self.try_address(&name, address.into(), interface);
            }
        }
        if let Some(control) = &config.control {
            self.try_address("control.listen", control.listen, None);
        }
    }

    fn try_address(&mut self, name: &str, address: SocketAddr, interface: Option<&str>) {
        let Err(reason) = listener::try_open(address, interface) else {
            return;
        };
        let message = format!(
            "{name}: cannot listen on {address}: {reason}{}",
            listen_hint(&reason)
        );
        match reason.kind() {
            io::ErrorKind::PermissionDenied => self.untried.push(message),
            // A listener waits for its interface, and IPv6 is opened only for guests that have it.
            _ if interface.is_some() || address.is_ipv6() => self.warnings.push(message),
            _ => self.faults.push(message),
        }
    }

    /// Checks the capabilities of the running daemon. Without one, names what its user will need.
    fn check_capabilities(
        &mut self,
        config: &Config,
        instances: &[Instance],
        running: Option<u32>,
    ) {
        let needs = needed_capabilities(config, instances);
        let own = rustix::process::geteuid().as_raw();
        let held = running.and_then(|pid| effective_capabilities(&pid.to_string()));
        for need in &needs {
            match held {
                Some(held) if held & need.bit() != 0 => {}
                Some(_) => self.warnings.push(format!(
                    "the running imdsd lacks {}, which {} {}: {}",
                    need.name, need.what, need.verb, need.fix
                )),
                None => self.untried.push(format!(
                    "whether the service will have {}, which {} {}: {} (this command runs as uid {own})",
                    need.name, need.what, need.verb, need.fix
                )),
            }
        }
    }
}

/// A capability that a configuration needs (capabilities(7)).
struct Need {
    name: &'static str,
    number: u32,
    what: &'static str,
    verb: &'static str,
    fix: &'static str,
}

impl Need {
    fn bit(&self) -> u64 {
        1 << self.number
    }
}

fn needed_capabilities(config: &Config, instances: &[Instance]) -> Vec<Need> {
    let is_low = |address: SocketAddr| address.port() < 1024;
    let of_listeners = config.listeners.iter().flat_map(|listener| {
        let ipv4 = listener.ipv4.map(SocketAddr::from);
        ipv4.into_iter().chain(listener.ipv6.map(SocketAddr::from))
    });
    let of_interfaces = config.interfaces.iter();
    let of_interfaces = of_interfaces
        .flat_map(|interfaces| [SocketAddr::from(interfaces.ipv4), interfaces.ipv6.into()]);
    let of_control = config.control.iter().map(|control| control.listen);
    let mut addresses = of_listeners.chain(of_interfaces).chain(of_control);
    let manages = config
        .interfaces
        .as_ref()
        .is_some_and(|interfaces| interfaces.addresses == AddressMode::Manage);
    let attachments = instances
        .iter()
        .flat_map(|instance| &instance.imds.attachments);
    let namespaces: Vec<&str> = attachments
        .filter_map(|attachment| match &attachment.attachment {
            Attachment::NetworkNamespace(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let of_process = namespaces.iter().any(|name| name.starts_with("/proc/"));
    let need = |is_needed: bool, name, number, what, verb, fix| {
        is_needed.then_some(Need {
            name,
            number,
            what,
            verb,
            fix,
        })
    };
    [
        need(
            addresses.any(is_low),
            "CAP_NET_BIND_SERVICE",
            10,
            "ports below 1024",
            "need",
            "the shipped unit gives it",
        ),
        need(
            manages,
            "CAP_NET_ADMIN",
            12,
            "addresses = \"manage\"",
            "needs",
            "systemd/manage-addresses.conf gives it",
        ),
        need(
            !namespaces.is_empty(),
            "CAP_SYS_ADMIN",
            21,
            "network namespaces",
            "need",
            "systemd/network-namespaces.conf gives it",
        ),
        need(
            of_process,
            "CAP_SYS_PTRACE",
            19,
            "namespaces below /proc",
            "need",
            "the commented lines of systemd/network-namespaces.conf give it",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The user that the daemon runs as, as far as this command can know.
struct ServiceUser {
    uid: u32,
    /// Whether another user can be ruled out.
    is_certain: bool,
}

impl ServiceUser {
    /// Root checks for the owner of the state directory. Any other user checks for itself.
    fn of(config: &Config) -> ServiceUser {
        let own = rustix::process::geteuid().as_raw();
        let directory = config.state_directory.as_deref();
        let owner = directory
            .and_then(|directory| fs::metadata(directory).ok())
            .map(|found| found.uid());
        ServiceUser {
            uid: if own == 0 { owner.unwrap_or(own) } else { own },
            is_certain: own == 0 || owner == Some(own),
        }
    }
}

/// Returns why `user` cannot use a directory. One that does not exist is created at a start.
fn directory_fault(directory: &Path, user: u32) -> Option<String> {
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => Some("it is not a directory".to_string()),
        Ok(found) => ownership::fault_for(user, directory, &found),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
            let parent = existing_parent(directory);
            let access = Access::WRITE_OK | Access::EXEC_OK;
            let reason = rustix::fs::access(&parent, access).err()?;
            Some(format!(
                "it does not exist and cannot be created in {}: {}",
                parent.display(),
                io::Error::from(reason)
            ))
        }
        Err(reason) => Some(format!("it cannot be inspected: {reason}")),
    }
}

fn existing_parent(path: &Path) -> PathBuf {
    let existing = path.ancestors().skip(1).find(|parent| parent.is_dir());
    match existing {
        Some(parent) => parent.to_path_buf(),
        None => PathBuf::from("."),
    }
}

/// Returns the process that has the lock of a state directory, from proc_locks(5). Taking the lock
/// to try it could stop a daemon that starts at this moment.
fn running_daemon(state_directory: &Path) -> Option<u32> {
    let lock = fs::metadata(state_directory.join("lock")).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let holder = lock_holder(&locks, lock.ino())?;
    // The device of the file is not compared: some file systems show another one here.
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
    name.starts_with("imdsd").then_some(holder)
}

/// Returns the process with an flock(2) on this inode: `1: FLOCK  ADVISORY  WRITE 77 00:2f:12 0 EOF`.
fn lock_holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else {
            return None;
        };
        let (_, found) = file.rsplit_once(':')?;
        (found.parse() == Ok(inode)).then(|| pid.parse().ok())?
    })
}

/// Returns the effective capabilities of a process, from proc_pid_status(5).
fn effective_capabilities(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Returns the configuration of a directory, and a trial of it.
    fn try_config(directory: &Path, text: &str) -> StartTrial {
        let text = format!("state_directory = \"state\"\nruntime_directory = \"run\"\n{text}");
        let config = config::parse(&directory.join("imdsd.toml"), &text).unwrap();
        StartTrial::run(&config, &[])
    }

    fn free_listener(port: u16) -> String {
        format!("[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:{port}\"\n")
    }

    #[test]
    fn what_prevents_a_start_is_found_and_nothing_is_created() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let fine = free_listener(0).replace(":0", ":1");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };

        let trial = try_config(directory.path(), &free_listener(port));
        let [fault] = &trial.faults[..] else {
            panic!("{trial:?}")
        };
        assert!(
            fault.starts_with("listener 'a': cannot listen on 127.0.0.1:")
                && fault.contains("another program listens there"),
            "{fault}"
        );
        // 192.0.2.0/24 is for documentation (RFC 5737).
        let elsewhere = format!(
            "{fine}[control]\nlisten = \"192.0.2.1:4443\"\nexpose_signed_calls_in_plain_http = true\n"
        );
        let trial = try_config(directory.path(), &elsewhere);
        assert!(
            trial.faults.len() == 1
                && trial.faults[0].contains("no interface of this host has the address"),
            "{trial:?}"
        );
        assert!(!directory.path().join("state").exists() && !directory.path().join("run").exists());

        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        mode(&state, 0o777);
        fs::write(directory.path().join("run"), "").unwrap();
        let trial = try_config(directory.path(), &fine);
        let [of_state, of_run] = &trial.faults[..] else {
            panic!("{trial:?}")
        };
        assert!(
            of_state.contains("others may write it; run: chmod 700"),
            "{of_state}"
        );
        assert!(of_run.ends_with("run: it is not a directory"), "{of_run}");
    }

    #[test]
    fn capabilities_that_cannot_be_tried_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let trial = try_config(directory.path(), "[interfaces]\naddresses = \"manage\"\n");
        assert_eq!(trial.faults, Vec::<String>::new());
        let named: Vec<bool> = ["CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN"]
            .iter()
            .map(|name| trial.untried.iter().any(|untried| untried.contains(name)))
            .collect();
        assert_eq!((named, trial.untried.len()), (vec![true, true], 2));
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 5 00:2f:12 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 6 00:2f:12 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 7 00:2f:12 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 8 00:2f:120 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 9 fd:00:12 0 EOF\n";
        assert_eq!(lock_holder(locks, 12), Some(9));
        assert_eq!(lock_holder(locks, 13), None);
    }
}
