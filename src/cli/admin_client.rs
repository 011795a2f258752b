//! How the operator's subcommands find the daemon, send it requests, and report refusals.

use std::cell::OnceCell;
use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::demo_socket;
use super::output::each;
use super::progress::ProgressDisplay;
use crate::admin::client::{
    Client, ClientError, ClientRequest, ClientResponse, SignOfLife, SocketOwner,
};
use crate::config::{self, Config};

/// The configuration file of the host's daemon.
const HOST_CONFIG: &str = "/etc/imdsd/imdsd.toml";
/// The exit status if no daemon could be reached.
const UNREACHABLE: u8 = 3;

/// How often a request is sent that finds the daemon too busy.
const MAX_ATTEMPTS: u32 = 20;
/// The longest pause that the daemon can ask for in between.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The environment variable that names the socket.
const SOCKET_VARIABLE: &str = "IMDSD_ADMIN_SOCKET";

/// Which daemon is asked. `--socket` or `--config` names it, or else IMDSD_ADMIN_SOCKET. Otherwise the
/// daemon is guessed, and the output says which one answered.
#[derive(Args)]
pub(super) struct AdminClient {
    /// Path of the daemon's admin socket, such as /run/imdsd/admin.sock [env: IMDSD_ADMIN_SOCKET]
    /// [default: the socket of /etc/imdsd/imdsd.toml, then that of a demo that you run]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Configuration file of the daemon, which names its admin socket, such as /etc/imdsd/imdsd.toml
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        conflicts_with = "socket"
    )]
    config: Option<PathBuf>,

    /// Whether the answering daemon has been reported.
    #[arg(skip)]
    reported: OnceCell<()>,
}

/// A socket to try, and what its daemon is called where it was guessed.
struct Candidate {
    socket: PathBuf,
    owner: SocketOwner,
    guess: Option<&'static str>,
}

/// A subcommand failed. The reason has been printed already.
pub(super) struct CommandFailure(ExitCode);

impl CommandFailure {
    /// Prints the reason on standard error; the exit status is 1.
    pub(super) fn report(message: impl Display) -> CommandFailure {
        eprintln!("{message}");
        CommandFailure(ExitCode::FAILURE)
    }

    /// Everything has been printed; the exit status is 1.
    pub(super) fn silent() -> CommandFailure {
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
        let client = self.find()?;
        accepted(retried(std::thread::sleep, || client.send(request)).map_err(unreachable)?)
    }

    /// Returns a client of the daemon, and says which one it is if it was guessed.
    fn find(&self) -> Result<Client, CommandFailure> {
        let candidates = self.candidates()?;
        let sockets: Vec<_> = candidates
            .iter()
            .map(|candidate| (candidate.socket.clone(), candidate.owner))
            .collect();
        let client = Client::find(&sockets).map_err(unreachable)?;
        self.report_guess(&candidates, client.socket());
        Ok(client)
    }

    /// Sends a POST that may take long and returns the JSON of the answer.
    pub(super) fn call_long(&self, path: &str, body: &[u8]) -> Result<Value, CommandFailure> {
        let request = ClientRequest {
            method: "POST",
            path,
            if_match: None,
            body,
        };
        self.send_long(&request).map(|response| response.json())
    }

    /// Sends a request that may take long, and shows on standard error how far the daemon is. The
    /// answer may take as long as the daemon works on it.
    pub(super) fn send_long(
        &self,
        request: &ClientRequest<'_>,
    ) -> Result<ClientResponse, CommandFailure> {
        let key = format!("{:016x}", rand::random::<u64>());
        let separator = if request.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}operation={key}", request.path);
        let client = self.find()?;
        let mut bar = ProgressDisplay::new();
        let mut waiting = || {
            let (sign, operation) = progress_of(&client, &key);
            operation.iter().for_each(|operation| bar.show(operation));
            sign
        };
        let request = ClientRequest {
            path: &path,
            ..*request
        };
        let response = retried(std::thread::sleep, || {
            client.send_and_wait(&request, &mut waiting)
        });
        bar.finish();
        accepted(response.map_err(unreachable)?)
    }

    fn candidates(&self) -> Result<Vec<Candidate>, CommandFailure> {
        let named = |socket| {
            vec![Candidate {
                socket,
                owner: SocketOwner::Any,
                guess: None,
            }]
        };
        if let Some(socket) = &self.socket {
            return Ok(named(socket.clone()));
        }
        if let Some(file) = &self.config {
            let config = config::read(file).map_err(|faults| {
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                CommandFailure::report(lines.join("\n"))
            })?;
            return Ok(named(socket_of(config)));
        }
        match std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()) {
            Some(socket) => Ok(named(socket.into())),
            None => Ok(guessed()),
        }
    }

    /// Says once which daemon answers, if it was guessed.
    fn report_guess(&self, candidates: &[Candidate], answering: &Path) {
        let guess = candidates
            .iter()
            .find(|candidate| candidate.socket == answering)
            .and_then(|candidate| candidate.guess);
        if let (Some(guess), Ok(())) = (guess, self.reported.set(())) {
            eprintln!("imdsd: asking {guess}, {}", answering.display());
        }
    }
}

fn unreachable(error: ClientError) -> CommandFailure {
    eprintln!("{error}");
    CommandFailure(ExitCode::from(UNREACHABLE))
}

fn accepted(response: ClientResponse) -> Result<ClientResponse, CommandFailure> {
    match response.status {
        200 => Ok(response),
        _ => Err(report_refusal(&response)),
    }
}

/// Sends a request until the daemon has a place for it, at most [`MAX_ATTEMPTS`] times. A daemon that
/// is too busy has done nothing, so any request can be sent again.
fn retried(
    mut pause: impl FnMut(Duration),
    mut send: impl FnMut() -> Result<ClientResponse, ClientError>,
) -> Result<ClientResponse, ClientError> {
    for attempt in 1..MAX_ATTEMPTS {
        let response = send()?;
        let Some(after) = response.retry_after else {
            return Ok(response);
        };
        if attempt == 1 {
            eprintln!("imdsd: the daemon has too many callers; trying again");
        }
        // Callers that were turned away together do not come back together.
        pause(after.min(MAX_PAUSE).mul_f64(rand::random_range(1.0..2.0)));
    }
    send()
}

/// Asks whether the daemon works on the operation with this key, and how far it is. A daemon that has
/// no place for the question works on what it has: the operation is among that, or has its answer.
fn progress_of(client: &Client, key: &str) -> (SignOfLife, Option<Value>) {
    let request = ClientRequest {
        method: "GET",
        path: "/v1/operations",
        if_match: None,
        body: b"",
    };
    let Ok(response) = client.send(&request) else {
        return (SignOfLife::NoSign, None);
    };
    let listed = response.json();
    let found = each(&listed["Operations"]).find(|operation| operation["Key"] == key);
    let sign = match found.is_some() || response.retry_after.is_some() {
        true => SignOfLife::Working,
        false => SignOfLife::NoSign,
    };
    (sign, found.cloned())
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
fn guessed() -> Vec<Candidate> {
    let of_host = config::read(Path::new(HOST_CONFIG)).map_or_else(|_| default_socket(), socket_of);
    vec![
        Candidate {
            socket: of_host,
            owner: SocketOwner::Any,
            guess: Some("the daemon of this host"),
        },
        Candidate {
            socket: demo_socket::path(),
            owner: SocketOwner::ThisUser,
            guess: Some("the demo of this user"),
        },
    ]
}

fn socket_of(config: Config) -> PathBuf {
    config
        .admin
        .map_or_else(default_socket, |admin| admin.socket)
}

fn default_socket() -> PathBuf {
    Path::new(config::RUNTIME_DIRECTORY).join(config::ADMIN_SOCKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, retry_after: Option<u64>) -> ClientResponse {
        ClientResponse {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            body: Vec::new(),
        }
    }

    /// Otherwise a command gives up after two minutes beside hundreds of others, although its
    /// operation goes on.
    #[test]
    fn a_daemon_without_a_place_for_the_question_still_works() {
        use std::io::{Read as _, Write as _};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (busy, none) = (
            "HTTP/1.1 503 x\r\nRetry-After: 1\r\n",
            "HTTP/1.1 200 OK\r\n",
        );
        let mine = r#"{"Operations":[{"Key":"k","Done":1}]}"#;
        let rows = [
            (none, mine, SignOfLife::Working, true),
            (busy, "{}", SignOfLife::Working, false),
            (
                none,
                r#"{"Operations":[{"Key":"another"}]}"#,
                SignOfLife::NoSign,
                false,
            ),
            ("HTTP/1.1 503 x\r\n", "{}", SignOfLife::NoSign, false),
            ("", "", SignOfLife::NoSign, false),
        ];
        let client = Client::find(&[(path, SocketOwner::Any)]).unwrap();
        for (head, body, sign, is_listed) in rows {
            let asked = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut caller, _) = listener.accept().unwrap();
                    let mut asked = [0; 4];
                    caller.read_exact(&mut asked).unwrap();
                    let length = body.len();
                    write!(caller, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
                });
                progress_of(&client, "k")
            });
            assert_eq!(
                (asked.0, asked.1.is_some()),
                (sign, is_listed),
                "{head}{body}"
            );
        }
    }

    #[test]
    fn a_busy_daemon_is_asked_again_within_limits_and_after_no_other_answer() {
        for (refusals, seconds, sent, status) in [
            (0, 1, 1, 200),
            (3, 1, 4, 200),
            (u32::MAX, 1, MAX_ATTEMPTS, 503),
            (u32::MAX, 1_000_000, MAX_ATTEMPTS, 503),
        ] {
            let (mut count, mut paused) = (0, Duration::ZERO);
            let answer = retried(
                |pause| paused += pause,
                || {
                    count += 1;
                    Ok(match count > refusals {
                        true => response(200, None),
                        false => response(503, Some(seconds)),
                    })
                },
            )
            .unwrap();
            assert_eq!((count, answer.status), (sent, status));
            assert!(paused < MAX_PAUSE * 2 * MAX_ATTEMPTS);
            assert!(paused >= Duration::from_secs(1) * (sent - 1));
        }
        // A 503 that does not say so is an answer, and so is a broken connection.
        let mut count = 0;
        let mut once = |answer| {
            count += 1;
            answer
        };
        let unavailable = retried(|_| unreachable!(), || once(Ok(response(503, None))));
        assert_eq!(unavailable.unwrap().status, 503);
        let broken = || ClientError::NotAdminApi(PathBuf::new());
        assert!(retried(|_| unreachable!(), || once(Err(broken()))).is_err());
        assert_eq!(count, 2);
    }
}
