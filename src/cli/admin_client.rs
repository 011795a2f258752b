//! What the operator's subcommands share: finding the daemon, asking it, and telling what came back.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::admin::client::{Client, ClientError, Owner, Request, Response};
use crate::config::{self, AdminSocketPolicy};

/// Where the configuration of a host's daemon is.
const CONFIG: &str = "/etc/imdsd/imdsd.toml";
/// The exit code of a daemon that could not be reached.
const UNREACHABLE: u8 = 3;

#[derive(Args)]
pub struct Door {
    /// The daemon's admin socket [default: that of /etc/imdsd/imdsd.toml, then that of a demo of yours]
    #[arg(long, global = true, value_name = "PATH", env = "IMDSD_ADMIN_SOCKET")]
    socket: Option<PathBuf>,
}

/// Why a subcommand was not carried out. It was told already.
pub struct NotDone(ExitCode);

impl NotDone {
    /// After this was said.
    pub fn saying(message: impl std::fmt::Display) -> NotDone {
        eprintln!("{message}");
        NotDone(ExitCode::FAILURE)
    }

    /// Whether the daemon could not be reached, and so will not be for what is still to be asked.
    pub fn is_unreachable(&self) -> bool {
        self.0 == ExitCode::from(UNREACHABLE)
    }
}

/// The exit code of what was or was not carried out: 0, 1 when it was refused, 3 when nobody was reached.
pub fn exit(outcome: Result<(), NotDone>) -> ExitCode {
    outcome.map_or_else(|NotDone(code)| code, |()| ExitCode::SUCCESS)
}

impl Door {
    /// Asks the daemon. A refusal is told on standard error, each fault with its file and line.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Value, NotDone> {
        self.send(&Request {
            method,
            path,
            if_match: None,
            body,
        })
        .map(|response| response.json())
    }

    /// The same, with everything a request has.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, NotDone> {
        let sockets = match &self.socket {
            Some(socket) => vec![(socket.clone(), Owner::Anybody)],
            None => default_sockets(),
        };
        let answered = Client::find(&sockets).and_then(|client| client.send(request));
        let response = answered.map_err(|error: ClientError| {
            eprintln!("{error}");
            NotDone(ExitCode::from(UNREACHABLE))
        })?;
        match response.status {
            200 => Ok(response),
            _ => Err(refused(&response)),
        }
    }
}

fn refused(response: &Response) -> NotDone {
    let told = response.json();
    for fault in told["Faults"].as_array().into_iter().flatten() {
        let mut line = fault["File"].as_str().unwrap_or_default().to_string();
        if let Some(number) = fault["Line"].as_u64().filter(|number| *number > 0) {
            let _ = write!(line, ":{number}");
        }
        if let Some(field) = fault["Field"].as_str().filter(|field| !field.is_empty()) {
            let _ = write!(line, ": {field}");
        }
        eprintln!("{line}: {}", fault["Message"].as_str().unwrap_or_default());
    }
    let message = told["Message"]
        .as_str()
        .map_or(format!("refused with {}", response.status), str::to_string);
    NotDone::saying(message)
}

/// The host's daemon, as its configuration says; then demos of this user.
fn default_sockets() -> Vec<(PathBuf, Owner)> {
    let configured = config::read(Path::new(CONFIG))
        .ok()
        .and_then(|config| config.admin);
    let of_host = configured.map_or_else(
        || Path::new(config::RUNTIME_DIRECTORY).join(config::ADMIN_SOCKET),
        |admin| admin.socket,
    );
    [(of_host, Owner::Anybody), (demo_socket(), Owner::ThisUser)].into()
}

/// Where a demo has its socket: in the user's own runtime directory, or in a directory of theirs among the temporary ones.
fn demo_socket() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.is_dir());
    let directory = match own {
        Some(own) => own.join("imdsd"),
        None => std::env::temp_dir().join(format!("imdsd-{}", rustix::process::geteuid().as_raw())),
    };
    directory.join(config::ADMIN_SOCKET)
}

/// A place for a demo's socket in a directory that only this user has; `None` where there is none.
pub fn place_for_demo() -> Option<config::AdminSettings> {
    let socket = demo_socket();
    let directory = socket.parent()?;
    let _ = std::fs::DirBuilder::new().mode(0o700).create(directory);
    let found = std::fs::symlink_metadata(directory).ok()?;
    let is_own = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o077 == 0;
    is_own.then(|| config::AdminSettings {
        socket,
        users: Vec::new(),
        socket_policy: AdminSocketPolicy::Optional,
    })
}

/// Writes to standard output. Whoever reads may have seen enough.
pub fn print(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

/// A value as JSON.
pub fn print_json(value: &Value) {
    print(&(serde_json::to_string_pretty(value).expect("plain JSON data") + "\n"));
}

/// Rows below a head, each column as wide as its widest cell.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    let mut text = line(head.to_vec());
    rows.iter()
        .for_each(|row| text += &line(row.iter().map(String::as_str).collect()));
    print(&text);
}

/// A text in an answer; `-` for none.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_string(),
        other => other.to_string(),
    }
}

/// The elements of an array in an answer.
pub fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Texts of an array in one line.
pub fn joined(value: &Value) -> String {
    each(value).map(text).collect::<Vec<_>>().join(", ")
}
