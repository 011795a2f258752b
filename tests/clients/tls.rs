//! TLS of the control endpoint: the operator's certificate, its replacement, and invalid ones.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::support::{ACCESS_KEY, Daemon, INSTANCE, require_program, venv_python};
use super::{client, output};

/// Creates a self-signed certificate for 127.0.0.1, and its key.
fn certificate(directory: &Path) {
    let openssl = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=imdsd",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "control.key",
            "-out",
            "control.pem",
        ])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        openssl.status.success(),
        "{}",
        String::from_utf8_lossy(&openssl.stderr)
    );
    let key = directory.join("control.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn describe(daemon: &Daemon, scheme: &str, trusted: &Path) -> Output {
    let mut aws = client(venv_python().with_file_name("aws"), daemon);
    aws.env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
        .env("AWS_CA_BUNDLE", trusted);
    aws.env("AWS_MAX_ATTEMPTS", "1").args([
        "ec2",
        "describe-instances",
        "--region",
        "us-east-1",
        "--output",
        "text",
    ]);
    output(
        aws.args(["--query", "Reservations[].Instances[].InstanceId"])
            .args(["--endpoint-url", &format!("{scheme}://{}", daemon.control)]),
    )
}

#[test]
#[ignore = "needs openssl and .venv with the AWS CLI; tests/all runs it"]
fn the_aws_cli_calls_the_control_endpoint_over_tls_and_trusts_only_its_certificate() {
    venv_python();
    require_program("openssl");
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    let directory = daemon.directory.path().to_path_buf();
    let file = directory.join("imdsd.toml");
    let plain = std::fs::read_to_string(&file).unwrap();
    let with = plain.replace(
        "[control]\n",
        "[control]\ncertificate = \"control.pem\"\nkey = \"control.key\"\n",
    );
    std::fs::write(&file, with).unwrap();
    certificate(&directory);
    daemon.start_again();

    let (trusted, other) = (directory.join("trusted.pem"), directory.join("other"));
    std::fs::copy(directory.join("control.pem"), &trusted).unwrap();
    std::fs::create_dir(&other).unwrap();
    certificate(&other);
    let found = describe(&daemon, "https", &trusted);
    assert_eq!(
        String::from_utf8_lossy(&found.stdout).trim(),
        INSTANCE,
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
    let refused = describe(&daemon, "https", &other.join("control.pem"));
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("SSL"),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
    // The endpoint does not answer plain HTTP.
    assert!(!describe(&daemon, "http", &trusted).status.success());

    // A reload replaces the certificate.
    for name in ["control.pem", "control.key"] {
        std::fs::copy(other.join(name), directory.join(name)).unwrap();
    }
    let pid = rustix::process::Pid::from_raw(daemon.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    daemon.wait_for(|line| line["message"] == "reloaded");
    assert!(!describe(&daemon, "https", &trusted).status.success());
    assert!(
        describe(&daemon, "https", &other.join("control.pem"))
            .status
            .success()
    );
}

/// `imdsd check` names the file and the remedy, before a listener opens.
#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn an_invalid_certificate_or_key_is_refused() {
    require_program("openssl");
    let daemon = Daemon::start(|_| {});
    let directory = daemon.directory.path().to_path_buf();
    let file = directory.join("imdsd.toml");
    let plain = std::fs::read_to_string(&file).unwrap();
    let with = plain.replace(
        "[control]\n",
        "[control]\ncertificate = \"control.pem\"\nkey = \"control.key\"\n",
    );
    std::fs::write(&file, with).unwrap();
    let check = || {
        let check = Command::new(env!("CARGO_BIN_EXE_imdsd"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(!check.status.success());
        String::from_utf8(check.stderr).unwrap()
    };
    assert!(check().contains("control.pem: cannot be read"));
    certificate(&directory);
    let key = directory.join("control.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let printed = check();
    assert!(
        printed.contains("control.key: others can read these secrets (mode 640); run: chmod 600"),
        "{printed}"
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let other = directory.join("other");
    std::fs::create_dir(&other).unwrap();
    certificate(&other);
    std::fs::copy(other.join("control.key"), &key).unwrap();
    let printed = check();
    assert!(
        printed.contains("control.pem: does not match the key"),
        "{printed}"
    );
    std::fs::write(&key, "nothing").unwrap();
    let printed = check();
    assert!(
        printed.contains("control.key: not a private key in PEM"),
        "{printed}"
    );
    std::fs::write(directory.join("control.pem"), "").unwrap();
    assert!(check().contains("control.pem: there is no certificate in this file"));
}
