//! What is sent: the requests of a workload, and how connections are used.

use std::fmt;

use clap::ValueEnum;

use super::target::BenchTarget;

/// The path of a session token.
const TOKEN_PATH: &str = "/latest/api/token";
/// The longest lifetime of a session token, in seconds.
const TOKEN_SECONDS: u32 = 21_600;

/// One kind of request, or a sequence that clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// PUT a session token
    Token,
    /// GET with a session token that is used again, as IMDSv2 clients do
    Get,
    /// GET without a token: IMDSv1
    V1,
    /// PUT a token, then GET with it: what an SDK does when it starts
    Dance,
}

/// How long a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum ConnectionUse {
    /// All requests on one connection
    KeepAlive,
    /// A new connection for each request, which the server closes; connecting counts
    Close,
}

impl Workload {
    /// Returns the word that selects it.
    pub(crate) fn word(self) -> String {
        word_of(self)
    }
}

impl ConnectionUse {
    /// Returns the word that selects it.
    pub(crate) fn word(self) -> String {
        word_of(self)
    }

    fn header(self) -> &'static str {
        match self {
            // Some services close unless they are asked not to.
            ConnectionUse::KeepAlive => "keep-alive",
            ConnectionUse::Close => "close",
        }
    }
}

fn word_of(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_string())
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word())
    }
}

impl fmt::Display for ConnectionUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word())
    }
}

/// Returns the bytes of a request for a token.
pub(super) fn token_request(target: &BenchTarget, connection: ConnectionUse) -> Vec<u8> {
    let (host, connection) = (&target.host, connection.header());
    format!(
        "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: {connection}\r\n\
         X-aws-ec2-metadata-token-ttl-seconds: {TOKEN_SECONDS}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// Returns the bytes of a request for a path, with a token or without one.
pub(super) fn get_request(
    target: &BenchTarget,
    path: &str,
    token: Option<&str>,
    connection: ConnectionUse,
) -> Vec<u8> {
    let (host, connection) = (&target.host, connection.header());
    let token = token.map_or_else(String::new, |token| {
        format!("X-aws-ec2-metadata-token: {token}\r\n")
    });
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: {connection}\r\n\
         {token}\r\n"
    )
    .into_bytes()
}
