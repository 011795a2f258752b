//! Files of the operator that have faults: each costs what it is for, at a start and at a reload.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Daemon, INSTANCE, TOKEN_REQUEST, ask, call, free_port};

const ONE: &str = "i-00000000000000001";
const TWO: &str = "i-00000000000000002";

/// Runs `imdsd` with the daemon's socket.
fn imdsd(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    imdsd.args(arguments).env(
        "IMDSD_ADMIN_SOCKET",
        daemon.directory.path().join("run/admin.sock"),
    );
    said(&imdsd.output().unwrap())
}

fn check(daemon: &Daemon) -> (Option<i32>, String) {
    let mut check = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    check
        .args(["check", "--config"])
        .arg(daemon.directory.path().join("imdsd.toml"));
    said(&check.output().unwrap())
}

/// Returns the exit status, and both outputs.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn document(id: &str, listener: &str) -> String {
    let document = json!({
        "InstanceId": id,
        "LaunchTime": "2026-01-01T00:00:00Z",
        "Imds": { "Attachments": [{ "Listener": listener }] },
    });
    document.to_string()
}

/// A host with three listeners and a directory of documents.
struct Host {
    daemon: Daemon,
    documents: PathBuf,
    ports: [std::net::SocketAddr; 2],
}

impl Host {
    /// Returns a host whose daemon is stopped and has no records. The instance of the listener
    /// `demo` has a good document.
    fn stopped() -> Host {
        let ports = [(); 2].map(|()| free_port("127.0.0.1:0"));
        let more = format!(
            "[[listener]]\nname = \"one\"\nipv4 = \"{}\"\n[[listener]]\nname = \"two\"\nipv4 = \"{}\"\n",
            ports[0], ports[1]
        );
        let mut daemon = Daemon::start_with(&more, |_| {});
        daemon.kill();
        let directory = daemon.directory.path();
        std::fs::remove_dir_all(directory.join("state")).unwrap();
        let documents = directory.join("instances.d");
        std::fs::create_dir(&documents).unwrap();
        std::fs::rename(directory.join("instance.json"), documents.join("demo.json")).unwrap();
        let config = directory.join("imdsd.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("instance.json", "instances.d")).unwrap();
        Host {
            daemon,
            documents,
            ports,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.documents.join(name), text).unwrap();
    }

    /// Returns which of the listeners `demo`, `one` and `two` issue tokens.
    fn served(&self) -> [bool; 3] {
        [self.daemon.ipv4, self.ports[0], self.ports[1]]
            .map(|address| ask(address, TOKEN_REQUEST).status == 200)
    }

    fn restart(&mut self) {
        self.daemon.kill();
        self.daemon.start_again();
    }
}

#[test]
fn a_bad_document_keeps_no_other_instance_unserved_and_is_taken_in_once_it_is_fixed() {
    let mut host = Host::stopped();
    let (one, two) = (document(ONE, "one"), document(TWO, "two"));
    host.write("one.json", &one[..one.len() - 1]);
    host.write("two.json", &two);

    // A first start.
    host.daemon.start_again();
    assert_eq!(host.served(), [true, false, true]);
    let health = host.daemon.admin("/v1/health");
    for text in [
        "degraded",
        "1 faults in documents",
        "one.json",
        "1 instances that are not served",
    ] {
        assert!(health.contains(text), "{health}");
    }
    let metrics = host.daemon.admin("/metrics");
    for gauge in ["imdsd_file_faults 1", "imdsd_instances_faulty_documents 1"] {
        assert!(metrics.contains(&format!("\n{gauge}\n")), "{metrics}");
    }
    let (status, listed) = imdsd(&host.daemon, &["instance", "list"]);
    assert!(
        status == Some(0) && listed.contains(&format!("{ONE}: not served")),
        "{listed}"
    );
    assert_eq!(check(&host.daemon).0, Some(1));

    // Its attachment is reserved: no other document gets it by mistake.
    host.write("three.json", &document("i-00000000000000003", "one"));
    let (status, reloaded) = imdsd(&host.daemon, &["reload"]);
    assert_eq!(status, Some(1), "{reloaded}");
    for text in [
        "one.json:1: not JSON",
        "three.json:1: i-00000000000000003: Imds.Attachments: listener 'one' is claimed by",
        "i-00000000000000003: not served, because its document has faults",
        "2 instances unchanged",
        "2 faults; everything else was reloaded",
    ] {
        assert!(reloaded.contains(text), "{reloaded}");
    }
    assert_eq!(host.served(), [true, false, true]);

    // A fixed file is taken in by the next reload.
    std::fs::remove_file(host.documents.join("three.json")).unwrap();
    host.write("one.json", &one);
    let (status, reloaded) = imdsd(&host.daemon, &["reload"]);
    assert!(
        status == Some(0) && reloaded.contains(&format!("{ONE}: registered")),
        "{reloaded}"
    );
    assert_eq!(host.served(), [true, true, true]);
    assert!(host.daemon.admin("/v1/health").contains("\"ok\""));

    // With records, faults cost nothing, at a reload and at a start.
    host.write("two.json", "{");
    host.write("one.json", &one.replace("LaunchTime", "Launched"));
    let (status, reloaded) = imdsd(&host.daemon, &["reload"]);
    let from_record = "its document has faults; it is served from its record";
    assert_eq!(status, Some(1));
    assert!(
        reloaded.contains(&format!("{ONE}: {from_record}")),
        "{reloaded}"
    );
    host.restart();
    assert_eq!(host.served(), [true, true, true]);
    let (status, checked) = check(&host.daemon);
    assert!(
        status == Some(1) && checked.contains("two.json:1"),
        "{checked}"
    );

    // The directory itself.
    std::fs::rename(&host.documents, host.documents.with_extension("away")).unwrap();
    host.restart();
    assert_eq!(host.served(), [true, true, true]);
    assert!(host.daemon.admin("/v1/health").contains("instances.d"));
    std::fs::rename(host.documents.with_extension("away"), &host.documents).unwrap();

    // A put brings the document that a file lacks.
    host.write(
        "four.json",
        &document("i-00000000000000004", "one").replace("LaunchTime", "Launched"),
    );
    imdsd(&host.daemon, &["reload"]);
    assert_eq!(
        host.served(),
        [true, true, true],
        "a registered instance keeps its attachment"
    );
    host.daemon.kill();
    std::fs::remove_dir_all(host.daemon.directory.path().join("state")).unwrap();
    host.write(
        "one.json",
        &document(ONE, "one").replace("LaunchTime", "Launched"),
    );
    std::fs::remove_file(host.documents.join("four.json")).unwrap();
    host.daemon.start_again();
    assert_eq!(host.served(), [true, false, false]);
    let fixed = host.documents.with_file_name("fixed.json");
    std::fs::write(&fixed, document(ONE, "one")).unwrap();
    let (status, put) = imdsd(&host.daemon, &["instance", "put", fixed.to_str().unwrap()]);
    assert_eq!(
        (status, host.served()),
        (Some(0), [true, true, false]),
        "{put}"
    );
}

/// A removed document does not remove its instance. What never had one is not missed.
#[test]
fn a_removed_document_is_reported_with_the_command_that_removes_its_instance() {
    const PUT: &str = "i-00000000000000009";
    let mut host = Host::stopped();
    host.write("two.json", &document(TWO, "two"));
    host.daemon.start_again();
    let put = host.documents.with_file_name("put.json");
    std::fs::write(&put, document(PUT, "one")).unwrap();
    assert_eq!(
        imdsd(&host.daemon, &["instance", "put", put.to_str().unwrap()]).0,
        Some(0)
    );
    let reload = |host: &Host| {
        let (status, said) = imdsd(&host.daemon, &["reload"]);
        assert_eq!(status, Some(0), "{said}");
        said
    };
    assert!(!reload(&host).contains("removed"));

    std::fs::remove_file(host.documents.join("two.json")).unwrap();
    let remedy = format!("it stays registered; to remove it: imdsd instance delete {TWO}");
    for is_restarted in [false, true] {
        if is_restarted {
            host.restart();
        }
        for said in [reload(&host), check(&host.daemon).1] {
            assert_eq!(
                said.matches("its document was removed").count(),
                1,
                "{said}"
            );
            assert!(said.contains(&remedy), "{said}");
        }
        assert_eq!(host.served(), [true, true, true]);
    }
    // While a file cannot be read, it may be the one that has the document.
    host.write("other.json", "{");
    let (status, said) = imdsd(&host.daemon, &["reload"]);
    assert!(status == Some(1) && !said.contains("removed"), "{said}");
    std::fs::remove_file(host.documents.join("other.json")).unwrap();
    assert!(reload(&host).contains(&remedy));

    assert_eq!(imdsd(&host.daemon, &["instance", "delete", TWO]).0, Some(0));
    assert!(!reload(&host).contains("removed"));
    assert_eq!(host.served(), [true, true, false]);
}

#[test]
fn a_check_tries_what_a_start_needs_and_says_what_it_did_not_try() {
    let mut host = Host::stopped();
    let (status, said) = check(&host.daemon);
    assert!(
        status == Some(0) && said.contains(": no faults; 1 instances\n"),
        "{said}"
    );
    for listener in ["one", "two"] {
        assert!(
            said.contains(&format!("no instance claims listener '{listener}'")),
            "{said}"
        );
    }

    // An address that another program has.
    let taken = std::net::TcpListener::bind(host.ports[0]).unwrap();
    let (status, said) = check(&host.daemon);
    let fault = format!("listener 'one': cannot listen on {}", host.ports[0]);
    assert!(
        status == Some(1) && said.contains(&fault) && said.contains(": 1 fault;"),
        "{said}"
    );
    drop(taken);

    // Records, put by an operator, count for the warnings.
    host.daemon.start_again();
    let put = host.documents.with_file_name("put.json");
    std::fs::write(&put, document(TWO, "two")).unwrap();
    imdsd(&host.daemon, &["instance", "put", put.to_str().unwrap()]);
    let (status, said) = check(&host.daemon);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("not checked: imdsd is running (process "),
        "{said}"
    );
    assert!(
        said.contains("listener 'one'") && !said.contains("listener 'two'"),
        "{said}"
    );
    assert_eq!(host.served(), [true, false, true]);
    host.daemon.kill();

    // An interface that does not exist yet, and doubts that many documents have.
    let config = host.documents.with_file_name("imdsd.toml");
    std::fs::write(
        &config,
        read(&config) + "[interfaces]\nipv4 = \"192.0.2.1:8080\"\n",
    )
    .unwrap();
    host.daemon.start_again();
    let waiting: Vec<Value> = (10..16)
        .map(|number| {
            json!({
                "InstanceId": format!("i-000000000000000{number}"),
                "LaunchTime": "2026-01-01T00:00:00Z",
                "KeyName": "web",
                "Imds": { "Attachments": [{ "Interface": format!("nosuch{number}") }] },
            })
        })
        .collect();
    host.write("many.json", &Value::from(waiting).to_string());
    assert_eq!(imdsd(&host.daemon, &["reload"]).0, Some(0));
    host.daemon.wait_for(|line| {
        line["level"] == "INFO"
            && line["message"]
                == "waiting for interface 'nosuch10': there is no interface 'nosuch10'"
    });
    host.daemon.kill();
    let (status, said) = check(&host.daemon);
    assert_eq!(status, Some(0), "warnings do not change it: {said}");
    for (text, count) in [
        ("there is no interface 'nosuch1", 3),
        ("and 3 more attachments like these", 1),
        ("KeyName: the guest gets no public key", 3),
        ("and 3 more documents like these", 1),
        (
            "not checked: whether the service will have CAP_NET_BIND_SERVICE",
            1,
        ),
    ] {
        assert_eq!(said.matches(text).count(), count, "{text}: {said}");
    }
}

/// Whatever else has faults, a removed key does not stay in force.
#[test]
fn each_file_of_the_control_endpoint_counts_by_itself() {
    let mut daemon = Daemon::start(|_| {});
    let path = |name: &str| daemon.directory.path().join(name);
    let (keys, instances) = (path("access-keys.toml"), path("instance.json"));
    let (good, document) = (read(&keys), read(&instances));
    let describe = |daemon: &Daemon| {
        call(daemon.control, "DescribeInstances", &[])
            .unwrap()
            .status
    };
    let other = good.replace("AKIDTEST", "AKIDOTHER");
    let bad_rule = format!("{good}[[access_key.rule]]\neffect = \"maybe\"\n");
    // The content of the key file, that of the document, and whether the test's key is in force.
    for (of_keys, of_document, in_force, summary) in [
        (Some(&good), &document, true, "1 access keys in force"),
        (
            Some(&other),
            &"{".to_string(),
            false,
            "1 access keys in force",
        ),
        (
            Some(&good),
            &"{".to_string(),
            true,
            "1 access keys in force",
        ),
        // A file that does not say which keys there are changes nothing.
        (
            Some(&"[".to_string()),
            &document,
            true,
            "1 previous keys stay in force",
        ),
        (Some(&bad_rule), &document, false, "0 access keys in force"),
        (
            Some(&format!("{bad_rule}{other}")),
            &document,
            false,
            "1 access keys in force",
        ),
        (Some(&good), &document, true, "1 access keys in force"),
        (
            Some(&format!("{good}{good}")),
            &document,
            false,
            "0 access keys in force",
        ),
        (Some(&good), &document, true, "1 access keys in force"),
        (
            Some(&String::new()),
            &document,
            false,
            "0 access keys in force",
        ),
        (Some(&good), &document, true, "1 access keys in force"),
        (None, &document, false, "0 access keys in force"),
    ] {
        match of_keys {
            Some(text) => std::fs::write(&keys, text).unwrap(),
            None => std::fs::remove_file(&keys).unwrap(),
        }
        std::fs::write(&instances, of_document).unwrap();
        let (status, reloaded) = imdsd(&daemon, &["reload"]);
        assert!(reloaded.contains(summary), "{of_keys:?}: {reloaded}");
        let is_good = [Some(&good), Some(&other)].contains(&of_keys) && *of_document == document;
        assert_eq!(status == Some(0), is_good, "{reloaded}");
        assert_eq!(describe(&daemon) == 200, in_force, "{of_keys:?}");
    }

    // Others can read the file: a previous key stays in force only while the file has it. A key above
    // a misspelled table of rules is not in force in any mode.
    let misspelled = format!("{good}[[acces_key.rule]]\neffect = \"deny\"\nactions = \"*\"\n");
    for (text, mode, in_force, summary) in [
        (&good, 0o644, true, "1 previous keys stay in force"),
        (&other, 0o644, false, "0 previous keys stay in force"),
        (&misspelled, 0o644, false, "0 previous keys stay in force"),
        (&misspelled, 0o600, false, "0 access keys in force"),
    ] {
        write_private(&keys, &good);
        assert_eq!(imdsd(&daemon, &["reload"]).0, Some(0));
        assert_eq!(describe(&daemon), 200);
        write_private(&keys, text);
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&keys, permissions).unwrap();
        let (status, reloaded) = imdsd(&daemon, &["reload"]);
        assert_eq!(status, Some(1), "{reloaded}");
        assert!(reloaded.contains(summary), "{text}: {reloaded}");
        assert_eq!(describe(&daemon) == 200, in_force, "{text}");
    }

    // At a start, without the file: guests are served, and no call is accepted until a reload.
    for broken in [None, Some("[")] {
        daemon.kill();
        let _ = std::fs::remove_file(&keys);
        if let Some(text) = broken {
            write_private(&keys, text);
        }
        daemon.start_again();
        assert_eq!(
            (daemon.get("/").status, describe(&daemon)),
            (401, 401),
            "{broken:?}"
        );
        let _ = std::fs::remove_file(&keys);
        write_private(&keys, &good);
        assert_eq!(imdsd(&daemon, &["reload"]).0, Some(0));
        assert_eq!(describe(&daemon), 200);
    }

    // A certificate that cannot be read leaves no endpoint in plain HTTP.
    daemon.kill();
    let config = daemon.directory.path().join("imdsd.toml");
    let text = read(&config).replace(
        "[control]\n",
        "[control]\ncertificate = \"none.pem\"\nkey = \"none.pem\"\n",
    );
    std::fs::write(&config, text).unwrap();
    daemon.start_again();
    assert_eq!(daemon.get("/").status, 401);
    let plain = ask(daemon.control, "GET / HTTP/1.1\r\nHost: imds\r\n\r\n");
    assert_eq!(plain.status, 0, "{plain:?}");
    let (status, reloaded) = imdsd(&daemon, &["reload", "--json"]);
    assert_eq!(status, Some(1));
    let report: Value = serde_json::Deserializer::from_str(&reloaded)
        .into_iter()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(report["Kept"], json!(["Certificate"]), "{reloaded}");
    assert_eq!(report["Unchanged"], json!([INSTANCE]));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
