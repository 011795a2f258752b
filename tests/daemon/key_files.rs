//! Every file with a key in it is held to one rule: a regular file that belongs to the daemon's user
//! and that no other user can read.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::support::{Daemon, require_root, write_keys};

/// The account `nobody`: not the user of the daemon, which is root here.
const OTHER_USER: u32 = 65534;

/// What is wrong with a file, and what imdsd reports after its path.
const FAULTS: [(&str, &str); 4] = [
    (
        "owner",
        ": it belongs to another user (uid 65534), who could replace these secrets; run: chown 0 ",
    ),
    (
        "mode 640",
        ": others can read these secrets (mode 640); run: chmod 600 ",
    ),
    (
        "mode 604",
        ": others can read these secrets (mode 604); run: chmod 600 ",
    ),
    ("fifo", "not a regular file"),
];

/// Gives a file a fault, or takes it away: the same bytes, mode 0600, of root.
fn spoil(path: &Path, bytes: &[u8], fault: Option<&str>) {
    let _ = fs::remove_file(path);
    if fault == Some("fifo") {
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        return;
    }
    fs::write(path, bytes).unwrap();
    let mode = match fault {
        Some("mode 640") => 0o640,
        Some("mode 604") => 0o604,
        _ => 0o600,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if fault == Some("owner") {
        chown(path, Some(OTHER_USER), None).unwrap();
    }
}

/// Runs `imdsd check` and returns everything that it printed.
fn check(config: &Path) -> String {
    let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    let output = imdsd.arg("check").arg("--config").arg(config).output();
    let output = output.unwrap();
    String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned()
}

fn config(directory: &Path, identity: &str) -> PathBuf {
    let path = directory.join("imdsd.toml");
    let text = format!(
        "state_directory = \"state\"\n[control]\nlisten = \"127.0.0.1:1\"\naccess_keys = \"access-keys.toml\"\n\
         certificate = \"tls.pem\"\nkey = \"tls.pem\"\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:2\"\n{identity}"
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
#[ignore = "needs root, to give files to another user; tests/all runs it"]
fn every_key_file_must_be_private_to_the_daemons_user() {
    require_root();
    // A directory that every user can reach: nothing but the file's own mode protects it.
    let place = tempfile::tempdir().unwrap();
    let directory = place.path();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    write_keys(&directory.join("access-keys.toml"));
    // One file has the key and the certificate that both the identity and TLS can use.
    let stored = directory.join("state/identity");
    let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    let rotated = imdsd
        .args(["identity", "rotate", "--directory"])
        .arg(&stored);
    assert!(rotated.output().unwrap().status.success());
    let pem = fs::read(stored.join("key.pem")).unwrap();
    for name in ["tls.pem", "own.pem"] {
        spoil(&directory.join(name), &pem, None);
    }
    let own = "[identity]\nkey = \"own.pem\"\ncertificate = \"own.pem\"\n";
    for (file, identity) in [
        ("access-keys.toml", ""),
        ("tls.pem", ""),
        ("own.pem", own),
        ("state/identity/key.pem", ""),
    ] {
        let (path, config) = (directory.join(file), config(directory, identity));
        assert!(check(&config).contains("no faults"), "{}", check(&config));
        let bytes = fs::read(&path).unwrap();
        for (fault, expected) in FAULTS {
            spoil(&path, &bytes, Some(fault));
            let printed = check(&config);
            let named = printed
                .lines()
                .find(|line| line.contains(file))
                .unwrap_or("");
            assert!(named.contains(expected), "{file}, {fault}: {printed}");
            // The daemon serves without signatures; any other fault keeps it from starting.
            let is_fatal = file != "state/identity/key.pem";
            assert_eq!(
                !printed.contains("no faults"),
                is_fatal,
                "{file}: {printed}"
            );
        }
        spoil(&path, &bytes, None);
    }
}

/// The files that only a running daemon reads: the key for STS, and its own token keys.
#[test]
#[ignore = "needs root, to give files to another user; tests/all runs it"]
fn a_running_daemon_uses_no_key_of_another_user() {
    require_root();
    let place = tempfile::tempdir().unwrap();
    let sts = place.path().join("sts.toml");
    write_keys(&sts);
    let role = json!({
        "RoleName": "backup",
        "Source": { "AssumeRole": {
            "Endpoint": "http://127.0.0.1:1", "Region": "eu-west-1",
            "RoleArn": "arn:aws:iam::123456789012:role/backup", "AccessKeyFile": sts } }
    });
    let mut daemon = Daemon::start(|instance| {
        instance["IamInstanceProfile"] =
            json!({ "Arn": "arn:aws:iam::123456789012:instance-profile/backup", "Id": "AIPA" });
        instance["Imds"]["Role"] = role;
    });
    let tokens = daemon.directory.path().join("run/token-keys");
    for (fault, expected) in FAULTS {
        daemon.terminate();
        let bytes = fs::read(&sts).unwrap_or_default();
        spoil(&sts, &bytes, Some(fault));
        spoil(&tokens, &fs::read(&tokens).unwrap(), Some(fault));
        daemon.start_again();
        let lines = [daemon.wait_for(|line| says(line, "no valid role credentials"))];
        assert!(says(&lines[0], expected), "{fault}: {lines:?}");
        spoil(&sts, &bytes, None);
    }
}

fn says(line: &Value, text: &str) -> bool {
    line["message"]
        .as_str()
        .is_some_and(|said| said.contains(text))
}
