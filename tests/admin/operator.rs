//! The command line as an operator runs it, and hosts with several guests.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{self, Answer, Daemon, PATIENCE, free_port, read_to_end};

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub output: String,
    pub error: String,
}

impl Said {
    /// Its output, of a command that must have succeeded.
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.output
    }

    /// The same as JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// Holds a refusal to its exit code and to every one of these words.
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

/// `imdsd` with these arguments and the daemon's socket.
pub fn imdsd(daemon: &Daemon, arguments: &[&str]) -> Said {
    imdsd_at(&socket(daemon), arguments, "")
}

/// The same with something on standard input.
pub fn imdsd_at(socket: &Path, arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    command.args(arguments).env("IMDSD_ADMIN_SOCKET", socket);
    said(command, input)
}

pub fn said(mut command: Command, input: &str) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs none may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        output: text(output.stdout),
        error: text(output.stderr),
    }
}

/// The demo instance's document, changed.
pub fn document(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = support::instance_in(include_str!("../../config/demo-instance.json"));
    change(&mut document);
    document
}

/// A daemon with the listeners `demo`, `one` and `two`, whose addresses it returns, and one with trusted addresses, `lan`.
pub fn with_listeners() -> (Daemon, SocketAddr, SocketAddr) {
    let [one, two, lan] = [(); 3].map(|()| free_port("127.0.0.1:0"));
    let listener = |name: &str, address, more: &str| {
        format!("[[listener]]\nname = \"{name}\"\nipv4 = \"{address}\"\n{more}\n")
    };
    let more = listener("one", one, "")
        + &listener("two", two, "")
        + &listener("lan", lan, "anti_spoofed = true");
    // Tokens are not what these tests are about.
    let daemon = Daemon::start_with(&more, |instance| {
        instance["MetadataOptions"]["HttpTokens"] = "optional".into()
    });
    (daemon, one, two)
}

/// A document for a guest of one listener.
pub fn guest(id: &str, listener: &str) -> Value {
    document(|document| {
        document["InstanceId"] = id.into();
        document["MetadataOptions"] = json!({ "HttpTokens": "optional" });
        document["Imds"]["Attachments"] = json!([{ "Listener": listener }]);
    })
}

/// One request; status 0 where nobody answers, by whichever way.
pub fn guest_asks(address: SocketAddr, head: &str) -> Answer {
    let mut raw = String::new();
    if let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(head.as_bytes());
        raw = read_to_end(&mut stream);
    }
    Answer::read(&raw)
}

pub fn put(daemon: &Daemon, document: &Value) -> Said {
    imdsd_at(&socket(daemon), &["instance", "put"], &document.to_string())
}
