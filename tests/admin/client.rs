//! Runs the command line as an operator would, against daemons with several guests.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{self, Answer, Daemon, PATIENCE, free_port, read_to_end};

/// The output of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: i32,
    pub output: String,
    pub error: String,
}

impl CommandOutput {
    /// Returns standard output; panics unless the exit status is 0.
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.output
    }

    /// The same, parsed as JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// Panics unless the exit status is this one and standard error has each of these texts.
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for word in words {
            assert!(self.error.contains(word), "'{word}' is not in {self:#?}");
        }
    }
}

pub fn socket(daemon: &Daemon) -> PathBuf {
    daemon.directory.path().join("run/admin.sock")
}

/// Runs `imdsd` with these arguments and the daemon's socket.
pub fn imdsd(daemon: &Daemon, arguments: &[&str]) -> CommandOutput {
    imdsd_at(&socket(daemon), arguments, "")
}

/// The same at another socket and with standard input.
pub fn imdsd_at(socket: &Path, arguments: &[&str], input: &str) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    command.args(arguments).env("IMDSD_ADMIN_SOCKET", socket);
    run(command, input)
}

pub fn run(mut command: Command, input: &str) -> CommandOutput {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command may have ended without reading its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    CommandOutput {
        code: output.status.code().unwrap_or(-1),
        output: text(output.stdout),
        error: text(output.stderr),
    }
}

/// The demo instance's document with a change.
pub fn document(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = support::instance_in(include_str!("../../config/demo-instance.json"));
    change(&mut document);
    document
}

/// Starts a daemon with the listeners `demo`, `one` and `two`, and `lan`, which trusts source addresses.
/// Returns the addresses of `one` and `two`.
pub fn with_listeners() -> (Daemon, SocketAddr, SocketAddr) {
    let [one, two, lan] = [(); 3].map(|()| free_port("127.0.0.1:0"));
    let listener = |name: &str, address, more: &str| {
        format!("[[listener]]\nname = \"{name}\"\nipv4 = \"{address}\"\n{more}\n")
    };
    let more = listener("one", one, "")
        + &listener("two", two, "")
        + &listener("lan", lan, "anti_spoofed = true");
    // These tests are not about session tokens.
    let daemon = Daemon::start_with(&more, |instance| {
        instance["MetadataOptions"]["HttpTokens"] = "optional".into()
    });
    (daemon, one, two)
}

/// Registers instances from documents, as a reload does. Documents, unlike a put, can claim what
/// another instance has.
pub fn register(daemon: &Daemon, documents: &[Value]) {
    let demo = document(|document| document["MetadataOptions"]["HttpTokens"] = "optional".into());
    let all: Vec<&Value> = std::iter::once(&demo).chain(documents).collect();
    let path = daemon.directory.path().join("instance.json");
    std::fs::write(path, json!(all).to_string()).unwrap();
    imdsd(daemon, &["reload"]).done();
}

/// A document of an instance that a listener serves.
pub fn guest(id: &str, listener: &str) -> Value {
    document(|document| {
        document["InstanceId"] = id.into();
        document["MetadataOptions"] = json!({ "HttpTokens": "optional" });
        document["Imds"]["Attachments"] = json!([{ "Listener": listener }]);
    })
}

/// Sends one request; the status is 0 if the connection or the response fails.
pub fn guest_asks(address: SocketAddr, head: &str) -> Answer {
    let mut raw = String::new();
    if let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(head.as_bytes());
        raw = read_to_end(&mut stream);
    }
    Answer::read(&raw)
}

pub fn put(daemon: &Daemon, document: &Value) -> CommandOutput {
    imdsd_at(&socket(daemon), &["instance", "put"], &document.to_string())
}
