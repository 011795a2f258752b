//! The admin socket: who may call, and what happens to its file.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::client::{CommandOutput, imdsd, imdsd_at, run, socket};
use crate::support::{Daemon, PATIENCE, require_root};

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

/// Returns a directory that every user may read, with a copy of imdsd that every user may run.
fn program_for_all_users() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("imdsd");
    std::fs::copy(env!("CARGO_BIN_EXE_imdsd"), &program).unwrap();
    (place, program)
}

#[test]
#[ignore = "needs root, to run as other users; tests/all runs it"]
fn root_and_the_users_of_the_configuration_may_call_and_others_are_refused_and_logged() {
    require_root();
    let (place, program) = program_for_all_users();
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
    // More connections than are allowed, which send nothing: a command is served beside them, and
    // after them.
    let idle: Vec<_> = (0..400)
        .map(|_| std::os::unix::net::UnixStream::connect(socket(&daemon)).unwrap())
        .collect();
    imdsd(&daemon, &["instance", "list"]).done();
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

/// Connections of one user that take all of its turns: each has sent half a body.
fn hold_all_turns(socket: &Path) -> Vec<UnixStream> {
    let begin = |_| {
        let mut stream = UnixStream::connect(socket).unwrap();
        let head = "POST /v1/instances HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: 2\r\n\r\n[").unwrap();
        stream
    };
    (0..16).map(begin).collect()
}

/// Sends so many requests at once, and reads no answer.
fn send_calls(socket: &Path, count: usize) -> Vec<UnixStream> {
    let send = |_| {
        let mut stream = UnixStream::connect(socket).unwrap();
        // A caller that was turned away may have its answer before it sends.
        let _ =
            stream.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream
    };
    (0..count).map(send).collect()
}

/// Returns what was received until the connection ended.
fn receive(mut stream: UnixStream) -> String {
    stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Panics unless each answer is that of a served call, or says that the socket is too busy. Returns
/// how many of both there were.
fn served_and_turned_away(answers: &[String], user: u32) -> (usize, usize) {
    let of_user = format!("most by user {user}. Nothing was done; try again");
    let is_busy = |answer: &&String| {
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n")
            && answer.contains("\r\nretry-after: 1\r\n")
            && answer.contains("\"RequestLimitExceeded\"")
            && answer.contains(&of_user)
    };
    let is_served = |answer: &&String| {
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"Status\"")
    };
    let served = answers.iter().filter(is_served).count();
    let busy = answers.iter().filter(is_busy).count();
    let other = answers.iter().find(|one| !is_served(one) && !is_busy(one));
    assert_eq!(other, None, "of {} calls", answers.len());
    (served, busy)
}

#[test]
fn of_hundreds_of_calls_at_once_each_is_answered_and_commands_wait_for_a_place() {
    let mut daemon = Daemon::start(|_| {});
    let user = rustix::process::geteuid().as_raw();
    let path = socket(&daemon);
    // 12 are served, 4 wait for their turn, and 240 more have room.
    let held = hold_all_turns(&path);
    let calls = send_calls(&path, 400);
    let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    command.args(["status", "--json"]);
    let mut command = command
        .env("IMDSD_ADMIN_SOCKET", &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(command.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("too many callers; trying again"), "{line}");
    // What holds the turns ends, and everything that waits is served.
    for mut stream in held {
        stream.write_all(b"]").unwrap();
        assert!(receive(stream).starts_with("HTTP/1.1 "));
    }
    let answers: Vec<String> = calls.into_iter().map(receive).collect();
    assert_eq!(served_and_turned_away(&answers, user), (240, 160));
    let output = command.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    daemon.terminate();
}

/// A program that hangs while it writes, also behind empty lines, which HTTP allows before a head.
#[test]
fn a_head_that_is_not_complete_takes_no_place_and_no_turn_from_a_command_of_the_same_user() {
    let mut daemon = Daemon::start(|_| {});
    let path = socket(&daemon);
    let mut half_sent: Vec<UnixStream> = (0..300)
        .map(|number| {
            let mut stream = UnixStream::connect(&path).unwrap();
            let before = ["", "\r\n\r\n"][number % 2];
            let _ = write!(stream, "{before}GET /v1/health HTTP/1.1\r\nHost: x\r\nConn");
            stream
        })
        .collect();
    for _ in 0..3 {
        let said = imdsd(&daemon, &["status", "--json"]);
        assert_eq!(said.error, "", "it is not turned away");
        said.done();
    }
    // The oldest gave way, with an answer; the others are answered once they are complete.
    let oldest = receive(half_sent.remove(0));
    assert!(oldest.starts_with("HTTP/1.1 503 "), "{oldest}");
    let mut newest = half_sent.pop().unwrap();
    newest.write_all(b"ection: close\r\n\r\n").unwrap();
    let newest = receive(newest);
    assert!(newest.starts_with("HTTP/1.1 200 "), "{newest}");
    daemon.terminate();
}

#[test]
#[ignore = "needs root, to run as other users; tests/all runs it"]
fn a_user_with_hundreds_of_calls_does_not_delay_those_of_another() {
    require_root();
    let (place, program) = program_for_all_users();
    let path = place.path().join("admin.sock");
    let admin = format!("[admin]\nsocket = \"{}\"\nusers = [65533]", path.display());
    let _daemon = Daemon::start_with(&admin, |_| {});
    let held = hold_all_turns(&path);
    let calls = send_calls(&path, 400);
    // The other user's calls take the places of the newest of root's. A refused user is answered too.
    for _ in 0..3 {
        let other = imdsd_as(65533, &program, &path);
        assert_eq!(other.error, "", "it is not turned away");
        assert!(other.done().contains("demo"));
        imdsd_as(65534, &program, &path).refused(1, &["user 65534 may not"]);
    }
    for mut stream in held {
        stream.write_all(b"]").unwrap();
        assert!(receive(stream).starts_with("HTTP/1.1 "));
    }
    let answers: Vec<String> = calls.into_iter().map(receive).collect();
    let (served, turned_away) = served_and_turned_away(&answers, 0);
    assert_eq!(served + turned_away, 400);
    assert!((237..240).contains(&served), "{served}");
}
