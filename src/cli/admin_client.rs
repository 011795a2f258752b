//! How the operator's subcommands find the daemon, send it requests, and report refusals.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::demo_socket;
use super::output::each;
use crate::admin::client::{Client, ClientRequest, ClientResponse, SocketOwner};
use crate::config;

/// The configuration file of the host's daemon.
const HOST_CONFIG: &str = "/etc/imdsd/imdsd.toml";
/// The exit status if no daemon could be reached.
const UNREACHABLE: u8 = 3;

#[derive(Args)]
pub(super) struct AdminClient {
    /// Path of the daemon's admin socket, such as /run/imdsd/admin.sock [default: the socket of
    /// /etc/imdsd/imdsd.toml, then that of a demo that you run]
    #[arg(long, global = true, value_name = "PATH", env = "IMDSD_ADMIN_SOCKET")]
    socket: Option<PathBuf>,
}

/// A subcommand failed. The reason has been printed already.
pub(super) struct CommandFailure(ExitCode);

impl CommandFailure {
    /// Prints the reason on standard error; the exit status is 1.
    pub(super) fn report(message: impl Display) -> CommandFailure {
        eprintln!("{message}");
        CommandFailure(ExitCode::FAILURE)
    }

    /// Whether no daemon could be reached, so that further requests are pointless.
    pub(super) fn is_unreachable(&self) -> bool {
        self.0 == ExitCode::from(UNREACHABLE)
    }
}

/// The exit status: 0 if it was done, 1 if it was refused, 3 if no daemon was reached.
pub(super) fn exit(outcome: Result<(), CommandFailure>) -> ExitCode {
    outcome.map_or_else(|CommandFailure(code)| code, |()| ExitCode::SUCCESS)
}

impl AdminClient {
    /// Sends a request and returns the JSON of the answer. A refusal is printed on standard error,
    /// each fault with its file and line.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<Value, CommandFailure> {
        self.send(&ClientRequest {
            method,
            path,
            if_match: None,
            body,
        })
        .map(|response| response.json())
    }

    /// The same with an `If-Match` header, if there is one.
    pub(super) fn send(
        &self,
        request: &ClientRequest<'_>,
    ) -> Result<ClientResponse, CommandFailure> {
        let sockets = match &self.socket {
            Some(socket) => vec![(socket.clone(), SocketOwner::Any)],
            None => default_sockets(),
        };
        let response = Client::find(&sockets).and_then(|client| client.send(request));
        let response = response.map_err(|error| {
            eprintln!("{error}");
            CommandFailure(ExitCode::from(UNREACHABLE))
        })?;
        match response.status {
            200 => Ok(response),
            _ => Err(report_refusal(&response)),
        }
    }
}

/// Prints a fault of an answer on standard error, with its file, line and field.
pub(super) fn print_fault(fault: &Value) {
    let mut place = fault["File"].as_str().unwrap_or_default().to_string();
    if let Some(line) = fault["Line"].as_u64().filter(|line| *line > 0) {
        let _ = write!(place, ":{line}");
    }
    if let Some(field) = fault["Field"].as_str().filter(|field| !field.is_empty()) {
        let _ = write!(place, ": {field}");
    }
    eprintln!("{place}: {}", fault["Message"].as_str().unwrap_or_default());
}

fn report_refusal(response: &ClientResponse) -> CommandFailure {
    let refusal = response.json();
    each(&refusal["Faults"]).for_each(print_fault);
    let status = || format!("refused with status {}", response.status);
    let message = refusal["Message"].as_str().map(str::to_string);
    CommandFailure::report(message.unwrap_or_else(status))
}

/// The socket of the host's daemon, then that of a demo of this user.
fn default_sockets() -> Vec<(PathBuf, SocketOwner)> {
    let configured = config::read(Path::new(HOST_CONFIG))
        .ok()
        .and_then(|config| config.admin);
    let of_host = configured.map_or_else(
        || Path::new(config::RUNTIME_DIRECTORY).join(config::ADMIN_SOCKET),
        |admin| admin.socket,
    );
    [
        (of_host, SocketOwner::Any),
        (demo_socket::path(), SocketOwner::ThisUser),
    ]
    .into()
}
