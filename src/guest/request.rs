//! What a guest asked, exactly. A request that can be read in two ways is refused here and never guessed at.
//!
//! Framing below this (bare line feeds, folded headers, conflicting lengths) is the HTTP parser's business. Not supported,
//! on purpose: bodies, proxying, and any header but the handful named below.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A request as the HTTP parser delivers it.
#[derive(Clone, Copy, Debug)]
pub struct RawRequest<'a, H> {
    /// `GET`
    pub method: &'a str,
    /// The request target as sent: `/latest/meta-data/`, or an absolute URI.
    pub target: &'a str,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: HttpVersion,
    /// Header lines in order, names in lower case.
    pub headers: H,
    /// Whether anything but an empty body came with it.
    pub body: Body,
}

/// The HTTP version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0: no Host needed, never kept alive.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Whether a request brought a body. Real clients send an empty chunked one with the token PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None, or an empty one however it was framed.
    Empty,
    /// At least one byte, or one that did not end in time.
    NotEmpty,
}

/// The request methods that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads, without the body.
    Head,
    /// Asks for a session token.
    Put,
    /// Asks which methods there are.
    Options,
    /// Everything else, lower-case spellings included: method names are case-sensitive.
    Other,
}

/// A header that should come once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// Not sent.
    Absent,
    /// Sent once, with this value, blanks around it removed.
    Once(&'a [u8]),
    /// Sent more than once.
    Repeated,
}

/// What the client wants to happen to the connection afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// EC2 closes, also to HTTP/1.1, unless it is asked not to.
    Close,
    /// `Connection: keep-alive` was asked for in so many words.
    KeepAlive,
}

/// Whether a header of some kind was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No.
    Absent,
    /// Yes, with whatever value.
    Present,
}

/// A request that has one meaning.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path of the target, still percent-encoded; the query is dropped, as EC2's own scripts rely on.
    pub path: &'a str,
    /// `X-aws-ec2-metadata-token`
    pub token: Header<'a>,
    /// `X-aws-ec2-metadata-token-ttl-seconds`
    pub ttl_seconds: Header<'a>,
    /// `X-Forwarded-For` in any spelling a proxy might pass on: its presence decides, not its value.
    pub forwarded_for: Presence,
    /// Headers that only browsers send.
    pub browser: Presence,
    /// What is to happen to the connection.
    pub connection: Connection,
}

/// Why a request has no single meaning here. All of these close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Host is missing (HTTP/1.1), repeated, empty or no host name: 400.
    Host,
    /// Host is a name that only DNS rebinding would bring here: 400. `allowed_hosts` would let it pass.
    ForeignHost,
    /// The target is no path: 400.
    Target,
    /// An absolute target that names somebody else: 421.
    Misdirected,
    /// A body: 413.
    Body,
}

/// For operators; the guest is told a status and nothing else.
impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Host => "Host is missing, stands there twice, or is no host name",
            Malformed::ForeignHost => {
                "Host is a foreign name, as DNS rebinding brings it; guest.allowed_hosts would let it pass"
            }
            Malformed::Target => "the target is no path",
            Malformed::Misdirected => "the absolute target names somebody else",
            Malformed::Body => "a request has no body here",
        })
    }
}

/// Which Host values are served.
///
/// A browser page whose name was re-pointed at the metadata address (DNS rebinding) always sends a DNS name, and real
/// clients send an address or EC2's own short names. EC2 itself looks at none of this.
#[derive(Clone, Debug)]
pub enum HostRule {
    /// Addresses, `localhost`, names without a dot, EC2's own names, and these.
    Known(Vec<String>),
    /// Any well-formed host, as on EC2; browser headers are not looked at either.
    Any,
}

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL_SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";

impl<'a> Request<'a> {
    /// Reads a request, or says what is wrong with it.
    pub fn read(
        raw: RawRequest<'a, impl Iterator<Item = (&'a str, &'a [u8])>>,
        hosts: &HostRule,
    ) -> Result<Request<'a>, Malformed> {
        let mut request = Request {
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
            forwarded_for: Presence::Absent,
            browser: Presence::Absent,
            connection: Connection::Close,
        };

        // 1. The headers that mean something; every other one is passed over unread.
        let mut host = Header::Absent;
        for (name, value) in raw.headers {
            match name {
                "host" => host.add(value),
                TOKEN => request.token.add(value),
                TTL_SECONDS => request.ttl_seconds.add(value),
                _ if is_forwarded_for(name) => request.forwarded_for = Presence::Present,
                "origin" | "referer" => request.browser = Presence::Present,
                _ if name.starts_with("sec-fetch-") => request.browser = Presence::Present,
                "connection" if raw.version == HttpVersion::Http11 => {
                    request.connection = request.connection.read(value);
                }
                _ => {}
            }
        }
        if matches!(hosts, HostRule::Any) {
            request.browser = Presence::Absent;
        }

        // 2. Host (RFC 9112 section 3.2).
        match host {
            Header::Once(value) => hosts.admit(value)?,
            Header::Absent if raw.version == HttpVersion::Http10 => {}
            Header::Absent | Header::Repeated => return Err(Malformed::Host),
        }

        // 3. The target: a path, or an absolute URI of this very service. A method nobody knows is told so instead,
        //    whatever its target looks like (CONNECT and OPTIONS have forms of their own).
        request.path = match path_of(raw.target, hosts) {
            Ok(path) => path,
            Err(_) if request.method == Method::Other => "",
            Err(_) if request.method == Method::Options && raw.target == "*" => {
                request.method = Method::Other;
                ""
            }
            Err(fault) => return Err(fault),
        };

        // 4. No body, ever: it ends request smuggling as a class.
        match raw.body {
            Body::Empty => Ok(request),
            Body::NotEmpty => Err(Malformed::Body),
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

impl Connection {
    /// `close` wins over `keep-alive`, in whichever order they come.
    fn read(self, value: &[u8]) -> Connection {
        let mut connection = self;
        for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                return Connection::Close;
            }
            if option.eq_ignore_ascii_case(b"keep-alive") {
                connection = Connection::KeepAlive;
            }
        }
        connection
    }
}

impl HostRule {
    /// Names that EC2's own DNS gives the service.
    const EC2_NAMES: [&'static str; 1] = ["instance-data.ec2.internal"];

    fn admit(&self, value: &[u8]) -> Result<(), Malformed> {
        let value = std::str::from_utf8(value).map_err(|_| Malformed::Host)?;
        let name = host_of(value).ok_or(Malformed::Host)?;
        // A name may end in the dot of the root.
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

/// Some gateways turn dashes into underscores on the way, all or some.
fn is_forwarded_for(name: &str) -> bool {
    const NAME: &[u8] = b"x-forwarded-for";
    let same = |(byte, known): (u8, &u8)| byte == *known || (byte == b'_' && *known == b'-');
    name.len() == NAME.len() && name.bytes().zip(NAME).all(same)
}

/// The host of `host[:port]`, an IPv6 address in its brackets; `None` when it is neither a name nor an address.
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

/// The path of a request target, without its query.
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
    if !path.bytes().all(|b| b.is_ascii_graphic()) || path.contains('#') {
        return Err(Malformed::Target);
    }
    Ok(path.split('?').next().unwrap_or(path))
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
    ) -> Result<Request<'a>, Malformed> {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        let raw = RawRequest {
            method,
            target,
            version: HttpVersion::Http11,
            headers,
            body: Body::Empty,
        };
        // A leaked rule keeps the table short; it is a few bytes in a test.
        Request::read(raw, Box::leak(Box::new(known())))
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
            headers: [("connection", b"keep-alive".as_slice())].into_iter(),
            body: Body::Empty,
        };
        assert_eq!(
            Request::read(raw, &known()).unwrap().connection,
            Connection::Close
        );
    }

    #[test]
    fn targets() {
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
    fn the_headers_that_decide() {
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
                    Presence::Present,
                    "{name}: {value}"
                );
            }
        }
        for name in ["origin", "referer", "sec-fetch-mode", "sec-fetch-x"] {
            assert_eq!(with(name, "").browser, Presence::Present, "{name}");
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
                (Presence::Absent, Presence::Absent),
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

    #[test]
    fn a_header_sent_twice_is_never_read_as_its_first_line() {
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
            let headers = [("host", b"imds".as_slice())].into_iter();
            let raw = RawRequest {
                method,
                target: "/",
                version: HttpVersion::Http11,
                headers,
                body: Body::NotEmpty,
            };
            assert_eq!(Request::read(raw, &known()).err(), Some(Malformed::Body));
        }
    }
}
