//! The admin socket: who may call, and what happens to its file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::client::{CommandOutput, imdsd, imdsd_at, run, socket};
use crate::support::{Daemon, require_root};

/// Runs `imdsd instance list` as another user.
fn imdsd_as(user: u32, program: &Path, socket: &Path) -> CommandOutput {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &user.to_string(),
        "--regid",
        &user.to_string(),
        "--clear-groups",
    ]);
    command
        .arg(program)
        .args(["instance", "list"])
        .env("IMDSD_ADMIN_SOCKET", socket);
    run(command, "")
}

#[test]
#[ignore = "needs root, to run as other users; tests/all runs it"]
fn root_and_the_users_of_the_configuration_may_call_and_others_are_refused_and_logged() {
    require_root();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap()
    };
    let place = tempfile::tempdir().unwrap();
    open(place.path());
    // A copy that every user may run.
    let program = place.path().join("imdsd");
    std::fs::copy(env!("CARGO_BIN_EXE_imdsd"), &program).unwrap();
    let socket = place.path().join("admin.sock");
    let admin = format!(
        "[admin]\nsocket = \"{}\"\nusers = [\"root\", 65533]\ngroups = [65532]",
        socket.display()
    );
    let mut daemon = Daemon::start_with(&admin, |_| {});
    assert!(imdsd_as(0, &program, &socket).done().contains("demo"));
    assert!(imdsd_as(65533, &program, &socket).done().contains("demo"));
    // A process of another user whose primary group may call.
    assert!(imdsd_as(65532, &program, &socket).done().contains("demo"));
    imdsd_as(65534, &program, &socket).refused(1, &["user 65534 may not", "admin.users"]);
    let line = daemon.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.contains("refused a user"))
    });
    assert_eq!(
        (
            line["level"].as_str(),
            line["uid"].to_string().contains("65534")
        ),
        (Some("WARN"), true),
        "{line}"
    );
    // A user is logged once, however often it calls.
    imdsd_as(65534, &program, &socket).refused(1, &["may not"]);
    daemon.terminate();
    let logged = |line: &&serde_json::Value| {
        line["level"] == "WARN" && line.to_string().contains("refused a user")
    };
    assert_eq!(daemon.log().iter().filter(logged).count(), 0);

    // Without admin.users, only root can open the socket.
    let admin = format!("[admin]\nsocket = \"{}\"", socket.display());
    let _daemon = Daemon::start_with(&admin, |_| {});
    assert_eq!(
        std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    imdsd_as(65533, &program, &socket).refused(3, &["Permission denied", "run this as root"]);
}

#[test]
fn the_socket_of_a_killed_daemon_is_replaced_and_that_of_a_running_one_is_not() {
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    assert!(
        socket(&daemon).exists(),
        "a killed daemon leaves its socket"
    );
    imdsd(&daemon, &["instance", "list"]).refused(3, &["is imdsd running?"]);
    daemon.start_again();
    imdsd(&daemon, &["instance", "list"]).done();

    // A second daemon with the same socket.
    let other = tempfile::tempdir().unwrap();
    let config = format!(
        "state_directory = \"state\"\nruntime_directory = \"run\"\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:0\"\n\
         [admin]\nsocket = \"{}\"\n",
        socket(&daemon).display()
    );
    std::fs::write(other.path().join("imdsd.toml"), config).unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    second
        .args(["serve", "--config"])
        .arg(other.path().join("imdsd.toml"));
    run(second, "").refused(
        1,
        &[
            "cannot open the admin socket",
            "another imdsd serves it",
            "admin.socket",
        ],
    );
    imdsd(&daemon, &["instance", "list"]).done();

    assert_eq!(daemon.terminate(), Some(0));
    assert!(!socket(&daemon).exists(), "a normal stop removes it");
}

#[test]
fn an_unreachable_daemon_is_reported_with_what_to_do_and_exit_status_3() {
    let nowhere = tempfile::tempdir().unwrap();
    let path = nowhere.path().join("admin.sock");
    for arguments in [
        &["instance", "list"][..],
        &["instance", "delete", "i-12345678"],
        &["event", "spot"],
        &["reload"],
        &["listeners", "--json"],
    ] {
        let said = imdsd_at(&path, arguments, "");
        said.refused(3, &[path.to_str().unwrap(), "--socket PATH"]);
    }
    std::fs::write(&path, "").unwrap();
    imdsd_at(&path, &["instance", "list"], "").refused(3, &["Connection refused"]);
}

/// Invalid and oversized requests are refused, and the next caller is served.
#[test]
fn invalid_requests_do_not_affect_other_callers() {
    use std::io::{Read as _, Write as _};
    let daemon = Daemon::start(|_| {});
    let send = |bytes: &[u8]| {
        let mut stream = std::os::unix::net::UnixStream::connect(socket(&daemon)).unwrap();
        stream
            .set_read_timeout(Some(crate::support::PATIENCE))
            .unwrap();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer)
            .lines()
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let request =
        |head: &str| format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    assert_eq!(send(b"SSH-2.0-x\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(
        send(&request("GET /../etc/passwd HTTP/1.1")),
        "HTTP/1.1 404 Not Found"
    );
    assert_eq!(
        send(&request("GET /latest/meta-data/ HTTP/1.1")),
        "HTTP/1.1 404 Not Found",
        "a guest's path"
    );
    assert_eq!(send(&request("GET /v1/health HTTP/1.1")), "HTTP/1.1 200 OK");
    let mut large =
        b"POST /v1/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\n\r\n".to_vec();
    large.resize(large.len() + (16 << 20) + 1, b' ');
    assert_eq!(send(&large), "HTTP/1.1 413 Payload Too Large");
    // More callers than are served at once: each is served in turn.
    let crowd = [(); 40].map(|()| {
        let path = socket(&daemon);
        std::thread::spawn(move || imdsd_at(&path, &["instance", "list", "--json"], "").code)
    });
    assert!(crowd.into_iter().all(|caller| caller.join().unwrap() == 0));
    // More connections than are allowed, which send nothing.
    let idle: Vec<_> = (0..400)
        .map(|_| std::os::unix::net::UnixStream::connect(socket(&daemon)).unwrap())
        .collect();
    drop(idle);
    imdsd(&daemon, &["instance", "list"]).done();
    assert_eq!(daemon.get("/").status, 401, "guests are still served");
}

#[test]
fn a_command_asks_the_daemon_of_its_configuration_and_the_status_tells_scripts() {
    let (daemon, other) = (Daemon::start(|_| {}), Daemon::start(|_| {}));
    let config = |daemon: &Daemon| {
        let file = daemon.directory.path().join("imdsd.toml");
        file.to_str().unwrap().to_string()
    };
    // --config takes precedence over the variable, and the last line of each is that daemon's process.
    let pid = |of: &Daemon| {
        let arguments = ["status", "--json", "--config", &config(of)];
        let said = imdsd_at(&socket(&daemon), &arguments, "");
        assert_eq!(said.error, "", "nothing was guessed");
        said.json()["Pid"].as_u64().unwrap()
    };
    assert_ne!(pid(&daemon), pid(&other));
    let screen = imdsd(&daemon, &["status"]).done();
    for line in [
        "status       ok\n",
        "instances    1 (running 1)\n",
        "options      all applied\n",
        "listeners    1 (0 waiting), sockets open 1, refused 0\n",
    ] {
        assert!(screen.contains(line), "'{line}' is not in {screen}");
    }
    let file = config(&daemon);
    for arguments in [
        &["instance", "list"][..],
        &["event", "list"],
        &["reload"],
        &["listeners"],
    ] {
        imdsd_at(
            Path::new("/nowhere"),
            &[arguments, &["-c", &file]].concat(),
            "",
        )
        .done();
    }
    // A configuration with a fault names no socket, and two ways to name one are refused.
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.toml");
    std::fs::write(&wrong, "guest = 1\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    imdsd(&daemon, &["status", "--config", wrong]).refused(1, &["wrong.toml:1: guest"]);
    let both = ["status", "--config", &file, "--socket", "/nowhere"];
    imdsd(&daemon, &both).refused(2, &["cannot be used with"]);
}
