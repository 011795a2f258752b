//! One client: performs a workload's requests one after another, on one connection at a time.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use super::exchange::{self, BenchAnswer};
use super::target::BenchTarget;
use super::workload::{ConnectionUse, Workload, get_request, token_request};

/// The failure of a request that was not answered in time.
pub(super) const NO_ANSWER: &str = "no answer in time";

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
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NO_ANSWER.to_string(),
            io::ErrorKind::UnexpectedEof => "closed before the end of the answer".to_string(),
            _ => reason.to_string(),
        })
    }
}

/// What a client does.
#[derive(Clone, Copy)]
pub(super) struct SessionPlan<'a> {
    pub(super) target: &'a BenchTarget,
    pub(super) source: Option<IpAddr>,
    /// How long an answer may take, connecting included.
    pub(super) timeout: Duration,
    pub(super) workload: Workload,
    pub(super) connection: ConnectionUse,
    pub(super) path: &'a str,
}

/// A client of one target.
pub(super) struct BenchSession<'a> {
    plan: SessionPlan<'a>,
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
    pub(super) fn start(plan: SessionPlan<'a>) -> Result<BenchSession<'a>, BenchFailure> {
        let SessionPlan {
            target,
            workload,
            connection,
            path,
            ..
        } = plan;
        let mut session = BenchSession {
            plan,
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
        let result = match self.plan.workload {
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
        if self.plan.connection == ConnectionUse::Close
            && let Some(stream) = self.open.take()
        {
            let deadline = Instant::now() + self.plan.timeout;
            exchange::wait_for_close(stream, &mut self.buffer, deadline);
        }
    }

    fn dance(&mut self) -> Result<(), BenchFailure> {
        let token = self.fetch_token()?;
        let SessionPlan {
            target,
            connection,
            path,
            ..
        } = self.plan;
        let get = get_request(target, path, Some(&token), connection);
        self.ask(&get).map(drop)
    }

    fn fetch_token(&mut self) -> Result<String, BenchFailure> {
        let request = token_request(self.plan.target, self.plan.connection);
        let answer = self.ask(&request)?;
        String::from_utf8(answer.body)
            .ok()
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| BenchFailure::Failed("the token is not a word".to_string()))
    }

    /// Sends one request; opens a connection if none is open.
    fn ask(&mut self, request: &[u8]) -> Result<BenchAnswer, BenchFailure> {
        self.finish_turn();
        let SessionPlan {
            target,
            source,
            timeout,
            ..
        } = self.plan;
        let deadline = Instant::now() + timeout;
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => exchange::connect(target.address, source, timeout)?,
        };
        let answer = exchange::exchange(&mut stream, request, &mut self.buffer, deadline)?;
        if !answer.closes || self.plan.connection == ConnectionUse::Close {
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
