//! A daemon with capabilities and many descriptors: what its memory is protected from, and what a
//! credential program inherits.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use super::support::{Daemon, PATIENCE, require_root};

/// The user of the daemon: the account `nobody`.
const USER: u32 = 65534;

/// Gives a directory and its files to the daemon's user.
fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    for entry in fs::read_dir(path).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => give(&entry.path()),
            false => chown(entry.path(), Some(USER), Some(USER)).unwrap(),
        }
    }
}

/// capabilities(7): the ambient set is preserved across an execve of a program that is not
/// privileged. setrlimit(2): limits are preserved across execve.
#[test]
#[ignore = "needs root, to give capabilities to another user; tests/all runs it"]
fn a_credential_program_gets_no_capability_and_no_limit_of_the_daemon() {
    require_root();
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("imdsd");
    fs::copy(env!("CARGO_BIN_EXE_imdsd"), &program).unwrap();
    let seen = place.path().join("seen");
    fs::create_dir(&seen).unwrap();
    let script = format!(
        "cd {} && cat /proc/self/status >status && cat /proc/self/limits >limits && \
         find /proc/$$/fd -printf '%f %l\\n' | grep ' .' >fd && echo $$ >pid && exec sleep 600",
        seen.display()
    );
    let role = json!({
        "RoleName": "backup",
        "Source": { "Process": { "Command": ["/bin/sh", "-ec", script], "TimeoutSeconds": 60 } },
        "V1": "disabled"
    });
    let mut daemon = Daemon::start_with("", |instance| {
        instance["IamInstanceProfile"] =
            json!({ "Arn": "arn:aws:iam::123456789012:instance-profile/backup", "Id": "AIPA" });
        instance["Imds"]["Role"] = role;
    });
    daemon.terminate();
    for file in fs::read_dir(&seen).unwrap().flatten() {
        fs::remove_file(file.path()).unwrap();
    }
    give(daemon.directory.path());
    give(&seen);

    let mut as_service = Command::new("prlimit");
    as_service.args(["--nofile=4000:8000", "--core=unlimited", "setpriv"]);
    as_service.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    as_service.args(["--inh-caps=+net_admin,+net_bind_service"]);
    as_service.args(["--ambient-caps=+net_admin,+net_bind_service"]);
    // What starts the daemon may leave a descriptor open, here 7.
    as_service.args(["/bin/sh", "-c", "exec 7</etc/passwd && exec \"$0\" \"$@\""]);
    as_service.arg(&program);
    daemon.start_again_by(as_service);
    let deadline = Instant::now() + PATIENCE;
    while fs::read_to_string(seen.join("pid")).is_ok_and(|pid| pid.is_empty())
        || !seen.join("pid").exists()
    {
        assert!(Instant::now() < deadline, "the program did not run");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }

    // The daemon has its capabilities; otherwise the test proves nothing.
    let status = |path: &Path| fs::read_to_string(path).unwrap();
    let of_daemon = status(Path::new(&format!("/proc/{}/status", daemon.pid())));
    assert!(
        of_daemon.contains("CapAmb:\t0000000000001400"),
        "{of_daemon}"
    );
    // proc(5): the files of a process that is not dumpable belong to root. No process of its user can read
    // its memory, and the kernel makes no core of it (prctl(2), PR_SET_DUMPABLE).
    let environ = fs::metadata(format!("/proc/{}/environ", daemon.pid())).unwrap();
    assert_eq!(environ.uid(), 0, "the daemon is dumpable");
    let of_program = status(&seen.join("status"));
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert!(
            of_program.contains(&format!("{set}:\t0000000000000000")),
            "{set}\n{of_program}"
        );
    }
    assert!(
        of_program.contains("SigBlk:\t0000000000000000"),
        "{of_program}"
    );
    let limits = status(&seen.join("limits"));
    let limit = |name: &str| -> Vec<String> {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .take(2)
            .map(str::to_string)
            .collect()
    };
    // setrlimit(2): the soft limit is what the kernel enforces. The hard limit stays.
    assert_eq!(limit("Max open files"), ["1024", "8000"]);
    // core(5): 1 is the value that also stops a core_pattern with a pipe.
    assert_eq!(limit("Max core file size"), ["1", "1"]);
    // open(2), O_CLOEXEC: what is not opened with it is inherited. Nothing but standard input, output
    // and error may be.
    let inherited = format!("/proc/{}/fd/7", daemon.pid());
    assert!(fs::symlink_metadata(&inherited).is_ok(), "{inherited}");
    for line in status(&seen.join("fd")).lines() {
        let (number, _) = line.split_once(' ').unwrap();
        assert!(matches!(number, "0" | "1" | "2"), "{line}");
    }

    // prctl(2), PR_SET_PDEATHSIG: a program does not outlive a daemon that was killed.
    let pid = status(&seen.join("pid"));
    daemon.kill();
    let stat = format!("/proc/{}/stat", pid.trim());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the program still runs");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
