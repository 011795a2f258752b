//! The other end of the operator's socket, for the command line: one request a connection, and what came back.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take: a thousand instances are stored in less.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon that can be reached.
pub struct Client {
    socket: PathBuf,
    owner: Owner,
}

/// One request.
pub struct Request<'a> {
    /// `GET`
    pub method: &'a str,
    /// `/v1/instances`, with the query if there is one.
    pub path: &'a str,
    /// The generation that must not have passed.
    pub if_match: Option<u64>,
    /// The body; empty for none.
    pub body: &'a [u8],
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// 200, 404, …
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody could be reached at any of these sockets.
    Unreachable(Vec<(PathBuf, io::Error)>),
    /// The connection ended in the middle.
    Broken(PathBuf, io::Error),
    /// It was no answer of this protocol.
    NoAnswer(PathBuf),
}

impl Client {
    /// The first of these sockets at which a daemon can be reached.
    pub fn find(sockets: &[(PathBuf, Owner)]) -> Result<Client, ClientError> {
        let mut tried = Vec::new();
        for (socket, owner) in sockets {
            match connect(socket, *owner) {
                Ok(_) => {
                    return Ok(Client {
                        socket: socket.clone(),
                        owner: *owner,
                    });
                }
                Err(reason) => tried.push((socket.clone(), reason)),
            }
        }
        Err(ClientError::Unreachable(tried))
    }

    /// Where the daemon is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends one request and reads its answer.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, ClientError> {
        let broken = |reason| ClientError::Broken(self.socket.clone(), reason);
        let mut stream = connect(&self.socket, self.owner).map_err(broken)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
        let Request {
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
        // Whoever refuses may do so before all of it is sent; the answer is there all the same.
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        match (read_answer(&answer), sent, read) {
            (Some(response), _, _) => Ok(response),
            (None, Err(reason), _) | (None, _, Err(reason)) => Err(broken(reason)),
            (None, Ok(()), Ok(_)) => Err(ClientError::NoAnswer(self.socket.clone())),
        }
    }
}

/// Who may serve a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever could put it there.
    Anybody,
    /// This user only: the socket lies where others could have put one.
    ThisUser,
}

fn connect(socket: &Path, owner: Owner) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    if owner == Owner::ThisUser {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "another user's process serves it",
            ));
        }
    }
    Ok(stream)
}

/// An answer as this plane gives it: a length, and all of the body.
fn read_answer(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    })?;
    let body = &bytes[end + 4..];
    (body.len() == length).then(|| Response {
        status,
        body: body.to_vec(),
    })
}

impl Response {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable(tried) => {
                f.write_str("no imdsd can be reached")?;
                for (socket, reason) in tried {
                    write!(f, "\n  {}: {reason}", socket.display())?;
                    match reason.kind() {
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                            f.write_str(" (is imdsd running?)")?
                        }
                        io::ErrorKind::PermissionDenied => {
                            f.write_str(
                                " (run this as root, as imdsd's user, or as one of admin.users)",
                            )?;
                        }
                        _ => {}
                    }
                }
                f.write_str(
                    "\nstart one (`imdsd serve --config FILE`), or name its socket: --socket PATH",
                )
            }
            ClientError::Broken(socket, reason) => {
                write!(
                    f,
                    "{}: the connection ended before the answer: {reason}",
                    socket.display()
                )
            }
            ClientError::NoAnswer(socket) => {
                write!(
                    f,
                    "{}: what came back is no answer of imdsd's; see its log",
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
    fn an_answer_is_whole_or_none() {
        let whole =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let response = read_answer(whole).unwrap();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, b"{}".as_slice())
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

    #[test]
    fn who_can_not_be_reached_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("admin.sock");
        let error = Client::find(&[(nowhere.clone(), Owner::Anybody)])
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
