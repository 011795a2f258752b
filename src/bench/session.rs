//! One client: performs a workload's requests one after another, on one connection at a time.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpStream};

use super::exchange::{self, BenchAnswer};
use super::target::BenchTarget;
use super::workload::{ConnectionUse, Workload, get_request, token_request};

/// Why a request is not counted as a success.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BenchFailure {
    /// The answer's status is not 200.
    Status(u16),
    /// There was no answer that can be read.
    Failed(String),
}

impl BenchFailure {
    /// Returns the key under which it is counted.
    pub(super) fn text(&self) -> String {
        match self {
            BenchFailure::Status(status) => format!("status {status}"),
            BenchFailure::Failed(reason) => reason.clone(),
        }
    }
}

impl From<io::Error> for BenchFailure {
    fn from(reason: io::Error) -> BenchFailure {
        BenchFailure::Failed(match reason.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_string(),
            io::ErrorKind::UnexpectedEof => "closed before the end of the answer".to_string(),
            _ => reason.to_string(),
        })
    }
}

/// A client of one target.
pub(super) struct BenchSession<'a> {
    target: &'a BenchTarget,
    source: Option<IpAddr>,
    workload: Workload,
    connection: ConnectionUse,
    path: &'a str,
    /// The request that does not change from one turn to the next.
    request: Vec<u8>,
    open: Option<TcpStream>,
    buffer: Vec<u8>,
    /// Connections that the server closed although they were to be kept.
    pub(super) reopened: u64,
    pub(super) failures: BTreeMap<String, u64>,
}

impl<'a> BenchSession<'a> {
    /// Makes a client, with a token if the workload needs one.
    pub(super) fn start(
        target: &'a BenchTarget,
        source: Option<IpAddr>,
        workload: Workload,
        connection: ConnectionUse,
        path: &'a str,
    ) -> Result<BenchSession<'a>, BenchFailure> {
        let mut session = BenchSession {
            target,
            source,
            workload,
            connection,
            path,
            request: token_request(target, connection),
            open: None,
            buffer: Vec::new(),
            reopened: 0,
            failures: BTreeMap::new(),
        };
        match workload {
            Workload::Token | Workload::Dance => {}
            Workload::Get => {
                let token = session.fetch_token()?;
                session.request = get_request(target, path, Some(&token), connection);
            }
            Workload::V1 => session.request = get_request(target, path, None, connection),
        }
        session.finish_turn();
        session.reopened = 0;
        Ok(session)
    }

    /// Performs the workload once. Failures are counted; returns whether there was none.
    pub(super) fn turn(&mut self) -> bool {
        let result = match self.workload {
            Workload::Dance => self.dance(),
            Workload::Token | Workload::Get | Workload::V1 => {
                let request = std::mem::take(&mut self.request);
                let result = self.ask(&request).map(drop);
                self.request = request;
                result
            }
        };
        match result {
            Ok(()) => true,
            Err(failure) => {
                self.open = None;
                *self.failures.entry(failure.text()).or_default() += 1;
                false
            }
        }
    }

    /// What follows a turn and is not part of its latency.
    pub(super) fn finish_turn(&mut self) {
        if self.connection == ConnectionUse::Close
            && let Some(stream) = self.open.take()
        {
            exchange::wait_for_close(stream, &mut self.buffer);
        }
    }

    fn dance(&mut self) -> Result<(), BenchFailure> {
        let token = self.fetch_token()?;
        let get = get_request(self.target, self.path, Some(&token), self.connection);
        self.ask(&get).map(drop)
    }

    fn fetch_token(&mut self) -> Result<String, BenchFailure> {
        let request = token_request(self.target, self.connection);
        let answer = self.ask(&request)?;
        String::from_utf8(answer.body)
            .ok()
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| BenchFailure::Failed("the token is not a word".to_string()))
    }

    /// Sends one request; opens a connection if there is none.
    fn ask(&mut self, request: &[u8]) -> Result<BenchAnswer, BenchFailure> {
        self.finish_turn();
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => exchange::connect(self.target.address, self.source)?,
        };
        let answer = exchange::exchange(&mut stream, request, &mut self.buffer)?;
        if !answer.closes || self.connection == ConnectionUse::Close {
            self.open = Some(stream);
        } else {
            self.reopened += 1;
        }
        match answer.status {
            200 => Ok(answer),
            status => Err(BenchFailure::Status(status)),
        }
    }
}
