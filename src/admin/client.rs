//! The client of the admin socket, for the command line: one request for each connection.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long the daemon may give no sign of life: neither an answer nor word that it works on one.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How often the daemon is asked how far it is, while an answer is awaited.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// A client of one admin socket.
pub(crate) struct Client {
    socket: PathBuf,
    owner: SocketOwner,
    /// The connection by which the daemon was found; the first request uses it.
    found: Cell<Option<UnixStream>>,
}

/// One request.
pub(crate) struct ClientRequest<'a> {
    /// `GET`
    pub method: &'a str,
    /// `/v1/instances`, with the query if any.
    pub path: &'a str,
    /// The generation that the instance must be at.
    pub if_match: Option<u64>,
    /// The body; empty for none.
    pub body: &'a [u8],
}

/// A response.
#[derive(Debug)]
pub(crate) struct ClientResponse {
    /// 200, 404, …
    pub status: u16,
    /// The daemon was too busy, did nothing, and asks to try again after this time.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// No daemon could be reached at any of these sockets.
    Unreachable(Vec<(PathBuf, io::Error)>),
    /// The connection ended before the response was complete.
    Broken(PathBuf, io::Error),
    /// The response is not one of the admin API.
    NotAdminApi(PathBuf),
}

impl Client {
    /// The socket at which a daemon was reached.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns a client of the first of these sockets at which a daemon can be reached.
    pub(crate) fn find(sockets: &[(PathBuf, SocketOwner)]) -> Result<Client, ClientError> {
        let mut tried = Vec::new();
        for (socket, owner) in sockets {
            match connect(socket, *owner) {
                Ok(stream) => {
                    return Ok(Client {
                        socket: socket.clone(),
                        owner: *owner,
                        found: Cell::new(Some(stream)),
                    });
                }
                Err(reason) => tried.push((socket.clone(), reason)),
            }
        }
        Err(ClientError::Unreachable(tried))
    }

    /// Sends one request and reads the response.
    pub(crate) fn send(&self, request: &ClientRequest<'_>) -> Result<ClientResponse, ClientError> {
        self.send_and_wait(request, &mut || SignOfLife::NoSign)
    }

    /// The same for a request that may take long. Until the response comes, `waiting` is called
    /// again and again; as long as it says that the daemon works, the response may take its time.
    pub(crate) fn send_and_wait(
        &self,
        request: &ClientRequest<'_>,
        waiting: &mut dyn FnMut() -> SignOfLife,
    ) -> Result<ClientResponse, ClientError> {
        let broken = |reason| ClientError::Broken(self.socket.clone(), reason);
        let mut stream = match self.found.take() {
            Some(stream) => stream,
            None => connect(&self.socket, self.owner).map_err(broken)?,
        };
        stream
            .set_read_timeout(Some(PROGRESS_INTERVAL))
            .map_err(broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
        let ClientRequest {
            method,
            path,
            if_match,
            body,
        } = request;
        let if_match = if_match
            .map(|generation| format!("If-Match: \"{generation}\"\r\n"))
            .unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{if_match}Content-Length: {}\r\n\r\n",
            body.len()
        );
        // The daemon may refuse before the whole body is sent, so a failed write may still have a
        // response.
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
        let mut answer = Vec::new();
        let read = read_patiently(&mut stream, &mut answer, waiting);
        match (read_answer(&answer), sent, read) {
            (Some(response), _, _) => Ok(response),
            (None, Err(reason), _) | (None, _, Err(reason)) => Err(broken(reason)),
            (None, Ok(()), Ok(_)) => Err(ClientError::NotAdminApi(self.socket.clone())),
        }
    }
}

/// What is known of a request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignOfLife {
    /// The daemon works on it.
    Working,
    /// Nothing.
    NoSign,
}

/// Reads to the end. Fails when there was no sign of life for [`PATIENCE`].
fn read_patiently(
    stream: &mut impl io::Read,
    answer: &mut Vec<u8>,
    waiting: &mut dyn FnMut() -> SignOfLife,
) -> io::Result<()> {
    let mut silent = Duration::ZERO;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                answer.extend_from_slice(&buffer[..count]);
                silent = Duration::ZERO;
            }
            Err(reason) if reason.kind() == io::ErrorKind::Interrupted => {}
            Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {
                silent += PROGRESS_INTERVAL;
                if waiting() == SignOfLife::Working {
                    silent = Duration::ZERO;
                }
                if silent >= PATIENCE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(reason) => return Err(reason),
        }
    }
}

/// Which user may serve a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOwner {
    /// Any user: only trusted ones can create a socket at its path.
    Any,
    /// This user only: others could have created a socket at its path.
    ThisUser,
}

fn connect(socket: &Path, owner: SocketOwner) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    if owner == SocketOwner::ThisUser {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a process of another user serves it",
            ));
        }
    }
    Ok(stream)
}

/// Parses a response of the admin API, which has a length and the whole body.
fn read_answer(bytes: &[u8]) -> Option<ClientResponse> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status: u16 = lines
        .next()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()?;
    let number_in = |header: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(header)
                .then(|| value.trim().parse::<u64>().ok())?
        })
    };
    let length = number_in("content-length")?;
    let retry_after = (status == 503)
        .then(|| number_in("retry-after").map(Duration::from_secs))
        .flatten();
    let body = &bytes[end + 4..];
    (body.len() as u64 == length).then(|| ClientResponse {
        status,
        retry_after,
        body: body.to_vec(),
    })
}

impl ClientResponse {
    /// The body as JSON; `null` if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable(tried) => {
                f.write_str("cannot reach imdsd")?;
                for (socket, reason) in tried {
                    write!(f, "\n  {}: {reason}", socket.display())?;
                    match reason.kind() {
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                            f.write_str(" (is imdsd running?)")?
                        }
                        io::ErrorKind::PermissionDenied => {
                            f.write_str(
                                " (run this as root, as imdsd's user, or as a user of admin.users)",
                            )?;
                        }
                        _ => {}
                    }
                }
                f.write_str(
                    "\nstart imdsd (`imdsd serve --config FILE`), or name it with --config FILE or --socket PATH",
                )
            }
            ClientError::Broken(socket, reason) => {
                write!(
                    f,
                    "{}: the connection ended before the response: {reason}",
                    socket.display()
                )
            }
            ClientError::NotAdminApi(socket) => {
                write!(
                    f,
                    "{}: received a response that is not imdsd's; see its log",
                    socket.display()
                )
            }
        }
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_response_is_refused() {
        let whole =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let response = read_answer(whole).unwrap();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, b"{}".as_slice())
        );
        assert_eq!(response.retry_after, None);
        let busy =
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";
        let busy = read_answer(busy).unwrap();
        assert_eq!(
            (busy.status, busy.retry_after),
            (503, Some(Duration::from_secs(2)))
        );
        for end in 0..whole.len() {
            assert!(read_answer(&whole[..end]).is_none(), "{end}");
        }
        for bad in [
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 2\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(read_answer(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    /// A peer that sends what it is given, or nothing for a while.
    struct Peer(Vec<Option<&'static [u8]>>);

    impl io::Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop() {
                None => Ok(0),
                Some(None) => Err(io::ErrorKind::WouldBlock.into()),
                Some(Some(bytes)) => {
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }
    }

    #[test]
    fn a_response_may_take_long_while_the_daemon_works_and_not_without_a_sign() {
        let intervals = (PATIENCE.as_millis() / PROGRESS_INTERVAL.as_millis()) as usize;
        for (waits, sign, arrives) in [
            (0, SignOfLife::NoSign, true),
            (intervals - 1, SignOfLife::NoSign, true),
            (intervals, SignOfLife::NoSign, false),
            (10 * intervals, SignOfLife::Working, true),
        ] {
            let mut sent = vec![Some(b"answer".as_slice())];
            sent.extend(std::iter::repeat_n(None, waits));
            let (mut answer, mut asked) = (Vec::new(), 0);
            let read = read_patiently(&mut Peer(sent), &mut answer, &mut || {
                asked += 1;
                sign
            });
            assert_eq!(read.is_ok(), arrives, "{waits} {sign:?}");
            assert_eq!(asked, waits, "it is asked once for each interval");
            assert_eq!(answer == b"answer", arrives);
        }
    }

    #[test]
    fn an_unreachable_socket_is_reported_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("admin.sock");
        let error = Client::find(&[(nowhere.clone(), SocketOwner::Any)])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains(&nowhere.display().to_string()) && error.contains("is imdsd running?"),
            "{error}"
        );
        assert!(error.contains("--socket PATH"), "{error}");
    }
}
