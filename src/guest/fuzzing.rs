//! Fuzz targets of the guest plane: path, token, lifetime, Host. They are functions of the input
//! only: keys, clock and nonce are fixed.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use super::Guest;
use super::gate::{KeyMaterial, KeyRing, TOKEN_PATH, TokenAuthority, TtlSeconds};
use super::path::{DataPath, LATEST, VERSIONS, Version};
use super::precomputed::Precomputed;
use super::request::{GuestRequest, HostRule, Malformed};
use crate::clock::Moment;
use crate::config::demo_instance;
use crate::http::{Body, HttpVersion, RawRequest, Reply};
use crate::instance::{Attachment, HttpTokens, Instance, InstanceId};
use crate::origin::{Family, Origin};
use crate::registry::Registry;
use crate::registry::memory::MemoryStore;

/// The listener of an instance whose tokens are optional.
pub(crate) const OPEN: &str = "open";
/// The listener of an instance whose tokens are required.
pub(crate) const GUARDED: &str = "guarded";
/// The one foreign host name that the fixed plane serves.
pub(crate) const ALLOWED_HOST: &str = "metadata.example.com";
/// The nonce of tokens where the target does not choose one.
pub(crate) const NONCE: [u8; 6] = *b"nonce!";

/// What the key adds to every expiry.
const OFFSET: u64 = 0x1234_5678_9abc;
const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL_SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// A guest plane with fixed keys, and a fixed moment.
pub(crate) struct FixedPlane {
    /// The plane. It serves the instances at [`OPEN`] and [`GUARDED`].
    pub(crate) guest: Guest,
    /// When everything happens.
    pub(crate) now: Moment,
}

static PLANE: LazyLock<FixedPlane> = LazyLock::new(FixedPlane::new);

/// Returns the plane, which is made once for all inputs.
pub(crate) fn plane() -> &'static FixedPlane {
    &PLANE
}

/// Returns the origin of a guest on a listener of the plane.
pub(crate) fn origin_at(listener: &str) -> Origin {
    Origin {
        attachment: Attachment::Listener(listener.into()),
        family: Family::Ipv4,
        peer: (Ipv4Addr::LOCALHOST, 40_000).into(),
        holder: None,
    }
}

impl FixedPlane {
    fn new() -> FixedPlane {
        let now = Moment {
            since_boot: Duration::from_secs(1_000),
            wall: "2026-05-16T16:25:07Z".parse().expect("a time"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without I/O");
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).expect("nothing is stored");
        for (id, listener, tokens) in [
            ("i-0000000000000000a", OPEN, HttpTokens::Optional),
            ("i-0000000000000000b", GUARDED, HttpTokens::Required),
        ] {
            let instance = instance_at(id, listener, tokens);
            runtime
                .block_on(registry.register(instance, now.wall))
                .expect("the instance is valid");
        }
        let material = KeyMaterial {
            secret: [7; 32],
            offset: OFFSET,
        };
        let tokens = Arc::new(TokenAuthority::new(&KeyRing::new(material, now)));
        let hosts = HostRule::Known(vec![ALLOWED_HOST.to_string()]);
        let guest = Guest::new(registry, tokens, Precomputed::default(), hosts);
        FixedPlane { guest, now }
    }

    /// Returns the answer to a request of the guest on a listener.
    fn ask(
        &self,
        listener: &str,
        (method, target): (&str, &str),
        header: Option<(&str, &[u8])>,
        (now, nonce): (Moment, [u8; 6]),
    ) -> Reply<'static> {
        let mut headers: Vec<(&str, &[u8])> = vec![("host", b"169.254.169.254")];
        headers.extend(header);
        let request = RawRequest {
            method,
            target,
            version: HttpVersion::Http11,
            headers: &headers,
            body: Body::Empty,
        };
        self.guest
            .answer(&origin_at(listener), request, now, nonce)
            .expect("both instances run")
            .into_owned()
    }

    /// Returns a token of the guest on a listener.
    pub(crate) fn token(&self, listener: &str, ttl: u32, nonce: [u8; 6]) -> String {
        let header = (TTL_SECONDS, ttl.to_string());
        let reply = self.ask(
            listener,
            ("PUT", TOKEN_PATH),
            Some((header.0, header.1.as_bytes())),
            (self.now, nonce),
        );
        assert_eq!(reply.status, 200, "{ttl} is a lifetime");
        String::from_utf8(reply.body.to_vec()).expect("a token is ASCII")
    }
}

impl FixedPlane {
    /// Returns the lifetime of a token if the guest on a listener got exactly this one; `None` for
    /// any other bytes.
    fn lifetime_of(&self, listener: &str, token: &[u8]) -> Option<u32> {
        let bytes = URL_SAFE.decode(token).ok()?;
        let expiry = [&[0; 3], bytes.get(5..10)?].concat();
        let expiry = u64::from_be_bytes(expiry.try_into().ok()?).wrapping_sub(OFFSET) % (1 << 40);
        let began = u64::try_from(self.now.since_boot.as_millis()).ok()?;
        let ttl = u32::try_from(expiry.checked_sub(began)? / 1000).ok()?;
        let nonce = bytes.get(10..16)?.try_into().ok()?;
        let is_lifetime = (1..=21_600).contains(&ttl);
        (is_lifetime && self.token(listener, ttl, nonce).as_bytes() == token).then_some(ttl)
    }
}

fn instance_at(id: &str, listener: &str, tokens: HttpTokens) -> Instance {
    let mut instance = demo_instance();
    instance.instance_id = InstanceId::parse(id).expect("an instance id");
    instance.imds.attachments = vec![Attachment::Listener(listener.into()).into()];
    instance.metadata_options.http_tokens = tokens;
    instance
}

/// The lifetime of a token: digits with a value from 1 to 21600, and nothing else.
pub fn ttl(data: &[u8]) {
    let expected = std::str::from_utf8(data)
        .ok()
        .filter(|text| text.len() <= 5 && text.chars().all(|c| c.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (1..=21_600).contains(seconds));
    assert_eq!(TtlSeconds::parse(data).map(TtlSeconds::get), expected);
    if let Some(seconds) = expected {
        // The usual spelling means the same.
        let printed = seconds.to_string();
        let again = TtlSeconds::parse(printed.as_bytes()).map(TtlSeconds::get);
        assert_eq!(again, Some(seconds));
    }
}

/// A path: printed in its one canonical spelling and read again, it is the same path, and a guest
/// gets the same answer for both.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(read) = read_path(text) {
        let canonical = print_path(&read);
        assert_eq!(read_path(&canonical).as_ref(), Some(&read));
        let (sent, printed) = (get(text), get(&canonical));
        let is_token_path = [text, &canonical].contains(&TOKEN_PATH);
        if let (Some(sent), Some(printed), false) = (sent, printed, is_token_path) {
            assert_eq!(sent, printed, "{text:?} is {canonical:?}");
        }
    } else if let Some((status, _)) = get(text) {
        assert!(matches!(status, 404 | 405), "{status} for {text:?}");
    }
}

/// A path that is read to its end: the version, if there is one, and the segments below it.
type PathRead = (Option<Version>, Vec<String>);

/// Returns what a path says; `None` for an unknown version and for a segment that cannot be decoded.
fn read_path(text: &str) -> Option<PathRead> {
    match DataPath::parse(text)? {
        DataPath::Root => Some((None, Vec::new())),
        DataPath::Versioned(version, segments) => {
            let below = segments.map(|segment| Some(segment?.into_owned()));
            Some((Some(version), below.collect::<Option<_>>()?))
        }
    }
}

/// Returns the canonical spelling: one slash before each segment, and every byte that is not
/// unreserved as an escape.
fn print_path((version, segments): &PathRead) -> String {
    let Some(version) = version else {
        return "/".to_string();
    };
    let version = VERSIONS
        .into_iter()
        .chain([LATEST])
        .find(|name| Version::parse(name) == Some(*version))
        .expect("every version has a name");
    let mut printed = format!("/{version}");
    for segment in segments {
        assert!(!segment.is_empty(), "empty segments are dropped");
        printed.push('/');
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                    printed.push(byte.into());
                }
                _ => printed.push_str(&format!("%{byte:02x}")),
            }
        }
    }
    printed
}

/// Returns status and body of a GET without a token; `None` if the target is not a path that a
/// request can have.
fn get(path: &str) -> Option<(u16, Vec<u8>)> {
    if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    if path.contains(['?', '#']) {
        return None;
    }
    let plane = plane();
    let reply = plane.ask(OPEN, ("GET", path), None, (plane.now, NONCE));
    assert!(
        matches!(reply.status, 200 | 404 | 405),
        "{} for {path:?}",
        reply.status
    );
    Some((reply.status, reply.body.to_vec()))
}

/// A token: only the bytes that were issued are valid, only for the instance that they were issued
/// to, and only for their lifetime.
///
/// The input: lifetime (2 bytes), milliseconds that pass (4), nonce (6), and then edits of the
/// token, each a place and a byte. What remains after 16 edits replaces the token.
pub fn token(data: &[u8]) {
    let Some((head, rest)) = data.split_at_checked(12) else {
        return;
    };
    let ttl = u32::from(u16::from_be_bytes([head[0], head[1]])) % 21_600 + 1;
    let passed = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) % 22_000_000;
    let nonce = [head[6], head[7], head[8], head[9], head[10], head[11]];

    let plane = plane();
    let issued = plane.token(GUARDED, ttl, nonce).into_bytes();
    let mut sent = issued.clone();
    let (edits, replacement) = rest.split_at(rest.len().min(32));
    for edit in edits.chunks_exact(2) {
        let place = usize::from(edit[0]) % sent.len();
        sent[place] = edit[1];
    }
    if !replacement.is_empty() {
        sent = replacement.to_vec();
    }

    let later = plane.now.after(Duration::from_millis(passed.into()));
    let read = |listener: &str| {
        let header = Some((TOKEN, sent.as_slice()));
        plane.ask(listener, ("GET", "/"), header, (later, NONCE))
    };
    // The fuzzer knows the tokens of earlier inputs, which are as valid as this one's.
    let ttl = match sent.trim_ascii() {
        same if same == issued => Some(ttl),
        other => plane.lifetime_of(GUARDED, other),
    };
    let remaining = ttl.map_or(0, |ttl| {
        (u64::from(ttl) * 1000).saturating_sub(passed.into())
    });
    let is_valid = remaining > 0;
    let reply = read(GUARDED);
    assert_eq!(reply.status, if is_valid { 200 } else { 401 });
    let shown = reply
        .headers
        .as_slice()
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(TTL_SECONDS))
        .map(|(_, value)| value.to_string());
    let expected = is_valid.then(|| remaining.div_ceil(1000).to_string());
    assert_eq!(shown, expected);
    assert_eq!(read(OPEN).status, 401, "a token of another instance");
}

/// A Host: no foreign name with a dot is served, and a Host means the same in
/// an absolute target.
pub fn host(data: &[u8]) {
    let known = HostRule::Known(vec![ALLOWED_HOST.to_string()]);
    let read = read_host(data, &known);
    assert!(matches!(
        read,
        Ok(()) | Err(Malformed::Host | Malformed::ForeignHost)
    ));
    let form = match read {
        Err(Malformed::Host) => Err(Malformed::Host),
        _ => Ok(()),
    };
    assert_eq!(read_host(data, &HostRule::Any), form);

    let value = data.trim_ascii();
    if read.is_ok() {
        assert!(is_of_this_service(value), "{value:?}");
    }
    // Neither case nor port makes it another host.
    assert_eq!(read_host(&value.to_ascii_uppercase(), &known), read);
    if form.is_ok() && !value.contains(&b':') {
        let with_port = [value, b":80"].concat();
        assert_eq!(read_host(&with_port, &known), read);
    }
    let text = std::str::from_utf8(value).unwrap_or("/");
    if text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains(['/', '?', '#']) {
        let target = format!("http://{text}/latest");
        let absolute = read_target(&target, &known);
        assert_eq!(absolute.is_ok(), read.is_ok(), "{target:?}");
    }
}

/// Returns whether a Host is one that DNS cannot point elsewhere, or that is allowed: the rule, in
/// other words than those of the plane.
fn is_of_this_service(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let Ok(authority) = text.parse::<hyper::http::uri::Authority>() else {
        // `name:` with an empty port is read, and hyper's reader refuses some forms of it.
        return text.ends_with(':') && is_of_this_service(&value[..value.len() - 1]);
    };
    let name = authority.host();
    let name = name.strip_suffix('.').unwrap_or(name);
    !text.contains('@')
        && (name.starts_with('[')
            || name.parse::<Ipv4Addr>().is_ok()
            || !name.contains('.')
            || [ALLOWED_HOST, "instance-data.ec2.internal"].contains(&name))
}

fn read_host(value: &[u8], hosts: &HostRule) -> Result<(), Malformed> {
    let headers = [("host", value)];
    let raw = RawRequest {
        method: "GET",
        target: "/",
        version: HttpVersion::Http11,
        headers: &headers,
        body: Body::Empty,
    };
    GuestRequest::read(raw, hosts).map(drop)
}

fn read_target(target: &str, hosts: &HostRule) -> Result<(), Malformed> {
    let headers = [("host", ALLOWED_HOST.as_bytes())];
    let raw = RawRequest {
        method: "GET",
        target,
        version: HttpVersion::Http11,
        headers: &headers,
        body: Body::Empty,
    };
    GuestRequest::read(raw, hosts).map(drop)
}
