//! SIGTERM: answers under way are finished, and nothing else is waited for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Daemon, PATIENCE, TOKEN_REQUEST};

/// Far below the five seconds that an answer under way may take, and far above what the end of the
/// daemon takes on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(2500);

/// What a client does before the daemon ends.
#[derive(Clone, Copy, PartialEq)]
enum Client {
    /// It sends, and reads no answer.
    ReadsNothing,
    /// It sends, and reads one answer.
    ReadsAnAnswer,
}
use Client::{ReadsAnAnswer, ReadsNothing};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn begin(stream: &mut (impl Read + Write), bytes: &str, client: Client) {
    // A client that does not read may be unable to write everything.
    let written = stream.write_all(bytes.as_bytes());
    if client == ReadsAnAnswer {
        written.unwrap();
        assert!(stream.read(&mut [0; 65536]).unwrap() > 0, "{bytes}");
    }
}

/// One guest, one caller of the EC2 API or one operator who sends half a request, or nothing, or
/// does not read, delays no restart.
#[test]
fn the_daemon_waits_for_no_client_that_is_not_being_answered() {
    let mut daemon = Daemon::start(|instance| {
        instance["MetadataOptions"]["HttpTokens"] = "optional".into();
        instance["Imds"]["UserDataText"] = "x".repeat(16_000).into();
    });
    daemon.wait_for(|line| line["message"] == "the key for identity documents is ready");
    let directory = daemon.directory.path().to_path_buf();

    let get = "GET /latest/ HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n";
    let put = TOKEN_REQUEST.trim_end();
    let user_data =
        "GET /latest/user-data HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n";
    let guests = [
        ("GET /latest/ HTTP/1.1\r\nHo".to_string(), ReadsNothing),
        (String::new(), ReadsNothing),
        (get.to_string(), ReadsAnAnswer),
        (format!("{get}GET /lat"), ReadsAnAnswer),
        (
            format!("{put}\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ReadsNothing,
        ),
        (user_data.repeat(1000), ReadsNothing),
    ];
    let callers = [
        ("POST / HTTP/1.1\r\nHo", ReadsNothing),
        ("", ReadsNothing),
        ("PUT / HTTP/1.1\r\nHost: ec2\r\n\r\n", ReadsAnAnswer),
        (
            "POST / HTTP/1.1\r\nHost: ec2\r\nContent-Length: 9\r\n\r\nAct",
            ReadsNothing,
        ),
    ];
    let exports = "GET /v1/export HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let operators = [
        ("GET /v1/health HT", ReadsNothing),
        ("", ReadsNothing),
        ("GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", ReadsAnAnswer),
        (
            "POST /v1/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
            ReadsNothing,
        ),
        (exports.as_str(), ReadsNothing),
    ];
    let mut held = Vec::new();
    for (bytes, client) in &guests {
        let mut guest = connect(daemon.ipv4);
        guest.set_nonblocking(*client == ReadsNothing).unwrap();
        begin(&mut guest, bytes, *client);
        held.push(guest);
    }
    for (bytes, client) in callers {
        let mut caller = connect(daemon.control);
        begin(&mut caller, bytes, client);
        held.push(caller);
    }
    let operators = operators.map(|(bytes, client)| {
        let mut operator = UnixStream::connect(directory.join("run/admin.sock")).unwrap();
        operator.set_nonblocking(client == ReadsNothing).unwrap();
        begin(&mut operator, bytes, client);
        operator
    });
    // By now the daemon has read what was sent.
    assert_eq!(daemon.get("/latest/").status, 200);
    let plain_http = terminate(&mut daemon);
    drop((held, operators));

    // Half a handshake, with the key and the certificate that the daemon made for itself.
    let config = directory.join("imdsd.toml");
    let certificate = Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .args(["identity", "certificate", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(certificate.status.success(), "{certificate:?}");
    std::fs::write(directory.join("tls.pem"), certificate.stdout).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let keys = "access_keys = \"access-keys.toml\"\n";
    let tls = format!("{keys}certificate = \"tls.pem\"\nkey = \"state/identity/key.pem\"\n");
    std::fs::write(&config, text.replace(keys, &tls)).unwrap();
    daemon.start_again();
    let mut handshake = connect(daemon.control);
    begin(&mut handshake, "\u{16}\u{3}\u{1}", ReadsNothing);
    assert_eq!(daemon.get("/latest/").status, 200);
    let with_tls = terminate(&mut daemon);

    println!("ended in {plain_http:?}, and in {with_tls:?} with half a TLS handshake");
    assert!(
        plain_http < AT_ONCE && with_tls < AT_ONCE,
        "{plain_http:?} {with_tls:?}"
    );
}

fn terminate(daemon: &mut Daemon) -> Duration {
    let began = Instant::now();
    assert_eq!(daemon.terminate(), Some(0));
    began.elapsed()
}
