//! Restarts, signals, and damaged files.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Answer, Daemon, INSTANCE, PATIENCE, TOKEN_REQUEST, instance_in, read_to_end};

#[test]
fn a_token_survives_a_restart_of_the_daemon() {
    let mut daemon = Daemon::start(|_| {});
    let token = daemon.token();
    daemon.kill();
    daemon.start_again();
    assert_eq!(
        daemon
            .get_with("/latest/meta-data/instance-id", &token)
            .body,
        INSTANCE
    );
}

#[test]
fn sigterm_ends_the_daemon_with_success() {
    let mut daemon = Daemon::start(|_| {});
    assert_eq!(daemon.terminate(), Some(0));
}

/// An unreadable record is logged with its file and reason, is not served, and no document replaces
/// it.
#[test]
fn an_unreadable_record_stops_its_instance_and_never_becomes_a_default() {
    let mut daemon =
        Daemon::start(|instance| instance["MetadataOptions"]["HttpEndpoint"] = "disabled".into());
    assert_eq!(daemon.get("/").status, 403);
    daemon.kill();
    let record = daemon
        .directory
        .path()
        .join("state/instances")
        .join(format!("{INSTANCE}.json"));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"disabled\"", "\"enabled\"")).unwrap();
    daemon.start_again();
    assert_eq!(daemon.get("/").status, 0);
    assert_eq!(daemon.ask(TOKEN_REQUEST).status, 0);
    daemon.kill();

    std::fs::write(&record, "{").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(output.status.success());
    daemon.start_again();
    assert_eq!(daemon.get("/").status, 0);
}

/// A damaged key, or a damaged certificate of an earlier key, does not stop the service of guests,
/// also if the key is the operator's own. That is a fault for `imdsd check`, because the
/// configuration names it.
#[test]
fn a_damaged_identity_costs_the_signatures_alone() {
    let mut daemon = Daemon::start(|_| {});
    daemon.wait_for(|line| line["message"] == "generated a key for identity documents");
    daemon.wait_for(|line| line["message"] == "the key for identity documents is ready");
    let directory = daemon.directory.path().to_path_buf();
    let identity = directory.join("state/identity");
    let key = std::fs::read(identity.join("key.pem")).unwrap();
    let retired = identity.join("retired");
    let damages: [(&str, &dyn Fn()); 3] = [
        ("key.pem", &|| {
            std::fs::write(identity.join("key.pem"), &key[..100]).unwrap()
        }),
        ("chmod 600", &|| {
            std::fs::write(identity.join("key.pem"), &key).unwrap();
            std::fs::set_permissions(
                identity.join("key.pem"),
                std::fs::Permissions::from_mode(0o640),
            )
            .unwrap();
        }),
        ("retired/00.pem", &|| {
            std::fs::set_permissions(
                identity.join("key.pem"),
                std::fs::Permissions::from_mode(0o600),
            )
            .unwrap();
            std::fs::create_dir(&retired).unwrap();
            std::fs::write(retired.join("00.pem"), "damaged").unwrap();
        }),
    ];
    let check = || {
        Command::new(env!("CARGO_BIN_EXE_imdsd"))
            .args(["check", "--config"])
            .arg(directory.join("imdsd.toml"))
            .output()
    };
    for (what, damage) in damages {
        daemon.kill();
        damage();
        let checked = check().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        let warned = String::from_utf8(checked.stderr).unwrap();
        assert!(
            warned
                .lines()
                .any(|line| line.starts_with("warning: ") && line.contains(what)),
            "{warned}"
        );
        daemon.start_again();
        let said = daemon.wait_for(|line| {
            line["message"]
                .as_str()
                .unwrap()
                .starts_with("no signatures")
        });
        assert!(
            said["level"] == "ERROR" && said["message"].as_str().unwrap().contains(what),
            "{said}"
        );
        let token = daemon.token();
        assert_eq!(
            daemon
                .get_with("/latest/meta-data/instance-id", &token)
                .body,
            INSTANCE
        );
        assert_eq!(
            daemon
                .get_with("/latest/dynamic/instance-identity/document", &token)
                .status,
            200
        );
        assert_ne!(
            daemon
                .get_with("/latest/dynamic/instance-identity/signature", &token)
                .status,
            200
        );
    }

    daemon.kill();
    let config = directory.join("imdsd.toml");
    let text = std::fs::read_to_string(&config).unwrap()
        + "[identity]\nkey = \"none.pem\"\ncertificate = \"none.pem\"\n";
    std::fs::write(&config, text).unwrap();
    daemon.start_again();
    daemon.wait_for(|line| {
        let message = line["message"].as_str().unwrap();
        message.starts_with("no signatures") && message.contains("none.pem")
    });
    assert_eq!(daemon.get("/").status, 401);
    let failed = check().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(
        String::from_utf8(failed.stderr)
            .unwrap()
            .contains("none.pem")
    );
}

/// An unreadable account fails launches, and guests notice nothing. So the operator must see it. It
/// does not prevent loading of the guest rules.
#[test]
fn an_unreadable_account_is_reported_by_health_metrics_and_check() {
    let mut daemon = Daemon::start(|_| {});
    let directory = daemon.directory.path().to_path_buf();
    let done = |arguments: &[&str]| {
        let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        let done = imdsd
            .args(arguments)
            .arg("--config")
            .arg(directory.join("imdsd.toml"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        done
    };
    let checks = [&["check"][..], &["check", "--host"]];
    for unreadable in [false, true] {
        if unreadable {
            daemon.kill();
            std::fs::write(directory.join("state/account.json"), "{").unwrap();
            daemon.start_again();
        }
        let (health, metrics) = (daemon.admin("/v1/health"), daemon.admin("/metrics"));
        assert_eq!(
            health.contains("unreadable record of the account's metadata defaults"),
            unreadable,
            "{health}"
        );
        assert!(
            metrics.contains(&format!(
                "\nimdsd_account_unreadable {}\n",
                u8::from(unreadable)
            )),
            "{metrics}"
        );
        for check in checks {
            let said = String::from_utf8(done(check).stderr).unwrap();
            let mut lines = said
                .lines()
                .filter(|line| line.contains("account.json: unreadable record"));
            assert_eq!(
                lines
                    .next()
                    .is_some_and(|line| line.starts_with("warning: ")),
                unreadable,
                "{check:?}: {said}"
            );
        }
        assert!(
            !String::from_utf8(done(&["guest-rules"]).stdout)
                .unwrap()
                .contains("refused #")
        );
    }
}

/// The connection waits in the queue of the socket, which opens before the instance is known.
#[test]
fn a_guest_that_waits_for_the_port_is_answered_however_many_documents_are_registered_first() {
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    let document = daemon.directory.path().join("instance.json");
    let known = instance_in(&std::fs::read_to_string(&document).unwrap());
    std::fs::remove_dir_all(daemon.directory.path().join("state")).unwrap();
    let others = (0..200).map(
        |number| serde_json::json!({ "InstanceId": format!("i-{number:017x}"), "LaunchTime": "2026-01-01T00:00:00Z" }),
    );
    let documents: Vec<serde_json::Value> = others.chain([known]).collect();
    std::fs::write(&document, serde_json::Value::from(documents).to_string()).unwrap();
    let address = daemon.ipv4;
    let guest = std::thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(address) {
                Err(_) => assert!(Instant::now() < deadline, "the port is closed"),
                Ok(mut stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: imds\r\n\r\n")
                        .unwrap();
                    return Answer::read(&read_to_end(&mut stream)).status;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    daemon.start_again();
    assert_eq!(guest.join().unwrap(), 401);
}

#[test]
fn every_fault_of_a_configuration_is_reported_with_file_line_and_field() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("imdsd.toml");
    let text = "instances = \"i.json\"\nstate_dir = \"x\"\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1\"\n[guest]\nconnections = 0\n";
    std::fs::write(&config, text).unwrap();
    std::fs::write(
        directory.path().join("i.json"),
        "{\n \"InstanceId\": \"i-12345678\",\n \"LaunchTime\": \"2026-01-01T00:00:00Z\",\n \"MetadataOptions\": {\n  \
         \"HttpTokens\": \"sometimes\"\n },\n \"Imds\": {\n  \"UserDta\": \"\"\n }\n}\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .args(["check", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for (place, what) in [
        ("imdsd.toml:2", "state_dir"),
        ("imdsd.toml:5", "ipv4"),
        ("imdsd.toml:7", "connections"),
        ("i.json:5", "HttpTokens"),
        ("i.json:8", "UserDta"),
    ] {
        assert!(
            said.lines()
                .any(|line| line.contains(place) && line.contains(what)),
            "{place} {what}:\n{said}"
        );
    }
    // And it does not start with it.
    let output = Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .args(["--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn logs_hold_no_token_and_no_secret() {
    let mut daemon = Daemon::start(|_| {});
    let token = daemon.token();
    let path = "/latest/meta-data/iam/security-credentials/demo-role";
    let credentials = daemon.get_with(path, &token).body;
    let credentials: serde_json::Value = serde_json::from_str(&credentials).unwrap();
    let user_data = daemon.get_with("/latest/user-data", &token).body;
    daemon.get_with("/latest/", "AQAEAnotatoken");
    daemon.terminate();
    let log: String = daemon.log().iter().map(|line| line.to_string()).collect();
    assert!(
        log.contains("guest request"),
        "the log is that of the requests above"
    );
    for secret in [
        &token,
        "AQAEAnotatoken",
        credentials["SecretAccessKey"].as_str().unwrap(),
        credentials["Token"].as_str().unwrap(),
        &user_data,
    ] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// No process reads the daemon's log any more: it still answers requests.
#[test]
fn guests_are_answered_after_the_log_is_closed() {
    let mut daemon = Daemon::start(|_| {});
    daemon.close_log();
    for _ in 0..3 {
        assert_eq!(daemon.get("/").status, 401);
    }
}
