//! Reads a guest's request. A request that can be read in two ways is refused, never guessed at.
//!
//! Framing (bare line feeds, folded headers, conflicting lengths) is up to the HTTP parser below.
//! Not supported, on purpose: bodies, proxying, and all headers except the handful named below.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::http::{Body, Connection, HttpVersion, RawRequest, UnreadableRequest};

/// The request methods that have a meaning here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads, without the body.
    Head,
    /// Requests a session token.
    Put,
    /// Lists the methods of a path.
    Options,
    /// All others, lower-case spellings included: method names are case-sensitive.
    Other,
}

/// A header that may appear once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// Not sent.
    Absent,
    /// Sent once, with this value, without the blanks around it.
    Once(&'a [u8]),
    /// Sent more than once.
    Repeated,
}

/// Whether a header of some kind was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderPresence {
    /// It was not sent.
    Absent,
    /// It was sent, with any value.
    Present,
}

/// A request that has one meaning.
#[derive(Debug)]
pub struct GuestRequest<'a> {
    /// The method.
    pub method: Method,
    /// The path of the target, still percent-encoded. The query is dropped: EC2's own scripts rely
    /// on that.
    pub path: &'a str,
    /// `X-aws-ec2-metadata-token`
    pub token: Header<'a>,
    /// `X-aws-ec2-metadata-token-ttl-seconds`
    pub ttl_seconds: Header<'a>,
    /// `X-Forwarded-For` in any spelling that a proxy may pass on. Its presence decides, not its
    /// value.
    pub forwarded_for: HeaderPresence,
    /// Headers that only browsers send.
    pub browser: HeaderPresence,
    /// What the client wants to happen to the connection.
    pub connection: Connection,
}

/// Why a request has no single meaning. All of these close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// 400: Host is missing (HTTP/1.1), repeated, empty or not a host name.
    Host,
    /// 400: Host is a name that only DNS rebinding would send here. `guest.allowed_hosts` would
    /// allow it.
    ForeignHost,
    /// 400: the target is not a path.
    Target,
    /// 421: an absolute target that names another server.
    Misdirected,
    /// 413: the request has a body.
    Body,
    /// The parser could not read the request.
    Unreadable(UnreadableRequest),
}

/// The fault in a sentence, for operators. The guest gets a status and nothing else.
impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Host => "Host is missing, appears twice, or is not a host name",
            Malformed::ForeignHost => {
                "Host is a foreign name, as in DNS rebinding; guest.allowed_hosts can allow it"
            }
            Malformed::Target => "the request target is not a path",
            Malformed::Misdirected => "the absolute request target names another server",
            Malformed::Body => "the request has a body",
            Malformed::Unreadable(UnreadableRequest::Syntax) => "the request is not valid HTTP/1",
            Malformed::Unreadable(UnreadableRequest::TimedOut) => "the request did not end in time",
            Malformed::Unreadable(UnreadableRequest::TargetTooLong) => {
                "the request target is too long"
            }
            Malformed::Unreadable(UnreadableRequest::HeadTooLarge) => {
                "the head of the request is too large"
            }
        })
    }
}

/// Which Host values are served.
///
/// A browser page whose name was re-pointed at the metadata address (DNS rebinding) always sends a
/// DNS name. Real clients send an address or one of EC2's own short names. EC2 itself checks
/// neither Host nor browser headers.
#[derive(Clone, Debug)]
pub enum HostRule {
    /// Addresses, `localhost`, names without a dot, EC2's own names, and these names.
    Known(Vec<String>),
    /// Any well-formed host, as on EC2. Browser headers are ignored too.
    Any,
}

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL_SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";

impl<'a> GuestRequest<'a> {
    /// Reads a request, or returns what is wrong with it.
    pub fn read(raw: RawRequest<'a>, hosts: &HostRule) -> Result<GuestRequest<'a>, Malformed> {
        let mut request = GuestRequest {
            method: match raw.method {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                "PUT" => Method::Put,
                "OPTIONS" => Method::Options,
                _ => Method::Other,
            },
            path: "",
            token: Header::Absent,
            ttl_seconds: Header::Absent,
            forwarded_for: HeaderPresence::Absent,
            browser: HeaderPresence::Absent,
            connection: Connection::Close,
        };

        // 1. The headers that have a meaning. All others are skipped.
        let mut host = Header::Absent;
        let mut options = ConnectionOptions::default();
        for &(name, value) in raw.headers {
            match name {
                "host" => host.add(value),
                TOKEN => request.token.add(value),
                TTL_SECONDS => request.ttl_seconds.add(value),
                _ if is_forwarded_for(name) => request.forwarded_for = HeaderPresence::Present,
                "origin" | "referer" => request.browser = HeaderPresence::Present,
                _ if name.starts_with("sec-fetch-") => request.browser = HeaderPresence::Present,
                "connection" if raw.version == HttpVersion::Http11 => options.add(value),
                _ => {}
            }
        }
        request.connection = options.outcome();
        if matches!(hosts, HostRule::Any) {
            request.browser = HeaderPresence::Absent;
        }

        // 2. Host (RFC 9112 section 3.2).
        match host {
            Header::Once(value) => hosts.admit(value)?,
            Header::Absent if raw.version == HttpVersion::Http10 => {}
            Header::Absent | Header::Repeated => return Err(Malformed::Host),
        }

        // 3. The target: a path, or an absolute URI of this service. An unknown method gets 405
        //    whatever its target looks like (CONNECT and OPTIONS have their own forms).
        request.path = match path_of(raw.target, hosts) {
            Ok(path) => path,
            Err(_) if request.method == Method::Other => "",
            Err(_) if request.method == Method::Options && raw.target == "*" => {
                request.method = Method::Other;
                ""
            }
            Err(fault) => return Err(fault),
        };

        // 4. No body, ever: this rules out request smuggling as a class.
        match raw.body {
            Body::Empty => Ok(request),
            Body::NotEmpty => Err(Malformed::Body),
            Body::Unfinished => Err(Malformed::Unreadable(UnreadableRequest::TimedOut)),
        }
    }
}

impl<'a> Header<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Header::Absent => Header::Once(value.trim_ascii()),
            Header::Once(_) | Header::Repeated => Header::Repeated,
        };
    }
}

/// The options of all `Connection` lines. `close` wins over `keep-alive`, in any order.
#[derive(Clone, Copy, Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl ConnectionOptions {
    fn add(&mut self, value: &[u8]) {
        for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn outcome(self) -> Connection {
        match (self.close, self.keep_alive) {
            (false, true) => Connection::KeepAlive,
            (true, _) | (false, false) => Connection::Close,
        }
    }
}

impl HostRule {
    /// The IPv4 address of the service.
    const IPV4: &'static [u8] = b"169.254.169.254";
    /// The names of the service in EC2's own DNS.
    const EC2_NAMES: [&'static str; 1] = ["instance-data.ec2.internal"];

    fn admit(&self, value: &[u8]) -> Result<(), Malformed> {
        // Most requests.
        if value == HostRule::IPV4 {
            return Ok(());
        }
        let value = std::str::from_utf8(value).map_err(|_| Malformed::Host)?;
        let name = host_of(value).ok_or(Malformed::Host)?;
        // A name may end in the dot of the DNS root.
        let name = name.strip_suffix('.').unwrap_or(name);
        let HostRule::Known(allowed) = self else {
            return Ok(());
        };
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let known = name.starts_with('[')
            || name.parse::<Ipv4Addr>().is_ok()
            || !name.contains('.')
            || HostRule::EC2_NAMES.into_iter().any(is)
            || allowed.iter().any(|host| is(host));
        if known {
            Ok(())
        } else {
            Err(Malformed::ForeignHost)
        }
    }
}

/// Some gateways turn dashes into underscores, all of them or some.
fn is_forwarded_for(name: &str) -> bool {
    const NAME: &[u8] = b"x-forwarded-for";
    let same = |(byte, known): (u8, &u8)| byte == *known || (byte == b'_' && *known == b'-');
    name.len() == NAME.len() && name.bytes().zip(NAME).all(same)
}

/// Returns the host of `host[:port]`, an IPv6 address with its brackets; `None` when it is neither
/// a name nor an address.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            rest[..end].parse::<Ipv6Addr>().ok()?;
            (&authority[..end + 2], &rest[end + 1..])
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let host = &authority[..end];
            let letters = host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            if host.is_empty() || !letters {
                return None;
            }
            (host, &authority[end..])
        }
    };
    let port_is_fine = match port.strip_prefix(':') {
        Some(digits) => {
            digits.is_empty()
                || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    port_is_fine.then_some(host)
}

/// Returns the path of a request target, without its query.
fn path_of<'a>(target: &'a str, hosts: &HostRule) -> Result<&'a str, Malformed> {
    let path = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(Malformed::Target)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if !scheme.eq_ignore_ascii_case("http") || hosts.admit(&rest.as_bytes()[..end]).is_err() {
            return Err(Malformed::Misdirected);
        }
        match &rest[end..] {
            "" => "/",
            rest if rest.starts_with('?') => "/",
            rest => rest,
        }
    };
    let mut query = None;
    for (index, byte) in path.bytes().enumerate() {
        match byte {
            b'?' if query.is_none() => query = Some(index),
            b'#' => return Err(Malformed::Target),
            _ if !byte.is_ascii_graphic() => return Err(Malformed::Target),
            _ => {}
        }
    }
    Ok(&path[..query.unwrap_or(path.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> HostRule {
        HostRule::Known(vec!["metadata.example.com".to_string()])
    }

    fn read<'a>(
        method: &'a str,
        target: &'a str,
        headers: &'a [(&'a str, &'a str)],
    ) -> Result<GuestRequest<'a>, Malformed> {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let raw = RawRequest {
            method,
            target,
            version: HttpVersion::Http11,
            // A few leaked bytes keep the tables short.
            headers: Vec::leak(headers),
            body: Body::Empty,
        };
        GuestRequest::read(raw, &known())
    }

    #[test]
    fn hosts_that_are_served_and_hosts_that_are_not() {
        for host in [
            "169.254.169.254",
            "169.254.169.254:80",
            "[fd00:ec2::254]",
            "[fd00:ec2::254]:80",
            "127.0.0.1:1338",
            "localhost:1338",
            "instance-data",
            "instance-data.ec2.internal",
            "INSTANCE-DATA.EC2.INTERNAL:80",
            "metadata.example.com",
            "imds",
            "127.0.0.1:",
            "metadata.example.com.",
            "instance-data.ec2.internal.:80",
        ] {
            assert!(read("GET", "/", &[("host", host)]).is_ok(), "{host}");
        }
        for (host, fault) in [
            ("attacker.example", Malformed::ForeignHost),
            ("169.254.169.254.attacker.example", Malformed::ForeignHost),
            ("169.254.169.999", Malformed::ForeignHost),
            ("", Malformed::Host),
            (":80", Malformed::Host),
            ("user@169.254.169.254", Malformed::Host),
            ("169.254.169.254/latest", Malformed::Host),
            ("169.254.169.254 evil", Malformed::Host),
            ("169.254.169.254,evil", Malformed::Host),
            ("169.254.169.254:80x", Malformed::Host),
            ("169.254.169.254:99999", Malformed::Host),
            ("169.254.169.254:+80", Malformed::Host),
            ("[fd00:ec2::254", Malformed::Host),
            ("[not-an-address]", Malformed::Host),
            ("[::1]x", Malformed::Host),
            ("h\u{fc}st", Malformed::Host),
        ] {
            assert_eq!(
                read("GET", "/", &[("host", host)]).err(),
                Some(fault),
                "{host:?}"
            );
        }
        assert_eq!(read("GET", "/", &[]).err(), Some(Malformed::Host));
        assert_eq!(
            read("GET", "/", &[("host", "imds"), ("host", "imds")]).err(),
            Some(Malformed::Host)
        );
    }

    #[test]
    fn http_1_0_needs_no_host_and_is_never_kept_alive() {
        let raw = RawRequest {
            method: "GET",
            target: "/",
            version: HttpVersion::Http10,
            headers: &[("connection", b"keep-alive".as_slice())],
            body: Body::Empty,
        };
        assert_eq!(
            GuestRequest::read(raw, &known()).unwrap().connection,
            Connection::Close
        );
    }

    #[test]
    fn paths_and_absolute_targets_are_read_and_others_refused() {
        let host = [("host", "imds")];
        for (target, path) in [
            ("/", "/"),
            ("/latest/user-data?", "/latest/user-data"),
            ("/latest/user-data?a=/b", "/latest/user-data"),
            ("//latest//", "//latest//"),
            ("/latest/%6d", "/latest/%6d"),
            ("http://169.254.169.254/latest", "/latest"),
            ("HTTP://imds", "/"),
            ("http://imds?x", "/"),
        ] {
            assert_eq!(read("GET", target, &host).unwrap().path, path, "{target}");
        }
        for (target, fault) in [
            ("*", Malformed::Target),
            ("latest", Malformed::Target),
            ("", Malformed::Target),
            ("imds:80", Malformed::Target),
            ("/lat\u{e9}st", Malformed::Target),
            ("/a b", Malformed::Target),
            ("/a#b", Malformed::Target),
            ("/a\u{7f}", Malformed::Target),
            ("http://attacker.example/", Malformed::Misdirected),
            ("https://169.254.169.254/", Malformed::Misdirected),
            ("ftp://imds/", Malformed::Misdirected),
            ("http://u@imds/", Malformed::Misdirected),
            ("http:///", Malformed::Misdirected),
        ] {
            assert_eq!(read("GET", target, &host).err(), Some(fault), "{target:?}");
        }
        for (method, target) in [
            ("CONNECT", "imds:80"),
            ("OPTIONS", "*"),
            ("get", "x"),
            ("TRACE", "/"),
        ] {
            assert_eq!(
                read(method, target, &host).unwrap().method,
                Method::Other,
                "{method}"
            );
        }
    }

    #[test]
    fn headers_that_decide_are_recognized_in_every_spelling() {
        let with = |name: &'static str, value: &'static str| {
            let headers: &'static [(&str, &str)] =
                Box::leak(Box::new([("host", "imds"), (name, value)]));
            read("PUT", "/latest/api/token", headers).unwrap()
        };
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x_forwarded-for",
            "x-forwarded_for",
        ] {
            for value in ["1.2.3.4", "", "\u{fc}"] {
                assert_eq!(
                    with(name, value).forwarded_for,
                    HeaderPresence::Present,
                    "{name}: {value}"
                );
            }
        }
        for name in ["origin", "referer", "sec-fetch-mode", "sec-fetch-x"] {
            assert_eq!(with(name, "").browser, HeaderPresence::Present, "{name}");
        }
        for name in [
            "x-forwarded-host",
            "forwarded",
            "via",
            "user-agent",
            "x-real-ip",
        ] {
            let request = with(name, "x");
            assert_eq!(
                (request.forwarded_for, request.browser),
                (HeaderPresence::Absent, HeaderPresence::Absent),
                "{name}"
            );
        }
        for (value, connection) in [
            ("keep-alive", Connection::KeepAlive),
            ("Keep-Alive", Connection::KeepAlive),
            (
                "X-aws-ec2-metadata-token, keep-alive",
                Connection::KeepAlive,
            ),
            ("close, keep-alive", Connection::Close),
            ("keep-alive, close", Connection::Close),
            ("upgrade", Connection::Close),
            ("", Connection::Close),
        ] {
            assert_eq!(with("connection", value).connection, connection, "{value}");
        }
    }

    /// Before, `close` was forgotten when a line with `keep-alive` followed.
    #[test]
    fn close_wins_on_any_line() {
        for (lines, connection) in [
            (["close", "keep-alive"], Connection::Close),
            (["keep-alive", "close"], Connection::Close),
            (["keep-alive, close", "keep-alive"], Connection::Close),
            (["keep-alive", "upgrade"], Connection::KeepAlive),
        ] {
            let headers = [
                ("host", "imds"),
                ("connection", lines[0]),
                ("connection", lines[1]),
            ];
            let request = read("GET", "/", &headers).unwrap();
            assert_eq!(request.connection, connection, "{lines:?}");
        }
    }

    #[test]
    fn a_header_sent_twice_is_repeated_not_its_first_line() {
        for name in [TOKEN, TTL_SECONDS] {
            let headers = [("host", "imds"), (name, "60"), (name, "60")];
            let request = read("PUT", "/latest/api/token", &headers).unwrap();
            let header = if name == TOKEN {
                request.token
            } else {
                request.ttl_seconds
            };
            assert_eq!(header, Header::Repeated);
        }
    }

    #[test]
    fn a_body_is_refused_on_every_method() {
        for method in ["GET", "PUT", "POST", "HEAD"] {
            let raw = RawRequest {
                method,
                target: "/",
                version: HttpVersion::Http11,
                headers: &[("host", b"imds".as_slice())],
                body: Body::NotEmpty,
            };
            assert_eq!(
                GuestRequest::read(raw, &known()).err(),
                Some(Malformed::Body)
            );
        }
    }
}
