//! The guest plane from outside: a request goes in, a reply comes out, and the test owns the clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::gate::{KeyMaterial, KeyRing, TokenAuthority};
use super::request::HostRule;
use super::*;
use crate::clock::Moment;
use crate::config::demo_instance;
use crate::http::{Body, Connection, HttpVersion, RawRequest, Reply};
use crate::instance::{
    Attachment, CredentialSource, HopLimit, HttpTokens, Instance, InstanceId, InstanceState,
    StaticSource, Switch,
};
use crate::origin::{Family, Origin};
use crate::registry::Registry;
use crate::registry::memory::MemoryStore;

const TOKEN_PATH: &str = "/latest/api/token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
const FORWARDED: &str = "x-forwarded-for";

/// A host with some instances, and a clock.
struct Host {
    guest: Guest,
    tokens: Arc<TokenAuthority>,
    key_ring: KeyRing,
    registry: Arc<Registry>,
    runtime: tokio::runtime::Runtime,
    now: Moment,
}

/// What a guest received; status 0 is silence.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    hop_limit: Option<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn key_material() -> KeyMaterial {
    KeyMaterial {
        secret: rand::random(),
        offset: rand::random(),
    }
}

fn moment() -> Moment {
    Moment {
        since_boot: Duration::from_secs(1_000),
        wall: "2026-05-16T16:25:07Z".parse().unwrap(),
    }
}

fn origin(listener: &str, family: Family) -> Origin {
    let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    Origin {
        attachment: Attachment::Listener(listener.into()),
        family,
        peer,
        holder: None,
    }
}

fn instance(change: impl FnOnce(&mut Instance)) -> Instance {
    let mut instance = demo_instance();
    instance.metadata_options.http_tokens = HttpTokens::Optional;
    change(&mut instance);
    instance
}

fn static_source(instance: &mut Instance) -> &mut StaticSource {
    match &mut instance.imds.role.as_mut().unwrap().source {
        CredentialSource::Static(source) => source,
        other => panic!("the demo's source is static, not {other:?}"),
    }
}

impl Host {
    fn of(instances: impl IntoIterator<Item = Instance>) -> Host {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        let now = moment();
        for instance in instances {
            runtime
                .block_on(registry.register(instance, now.wall))
                .unwrap();
        }
        let key_ring = KeyRing::new(key_material(), now);
        let tokens = Arc::new(TokenAuthority::new(&key_ring));
        let guest = Guest::new(
            Arc::clone(&registry),
            Arc::clone(&tokens),
            Precomputed::default(),
            HostRule::Known(Vec::new()),
        );
        Host {
            guest,
            tokens,
            key_ring,
            registry,
            runtime,
            now,
        }
    }

    fn with(change: impl FnOnce(&mut Instance)) -> Host {
        Host::of([instance(change)])
    }

    fn change(&self, change: impl Fn(&mut Instance) + Send + 'static) {
        let id = demo_instance().instance_id;
        let change = move |instance: &mut Instance| {
            change(instance);
            Ok::<_, ()>(())
        };
        self.runtime
            .block_on(self.registry.update(&id, self.now.wall, change))
            .unwrap();
    }

    fn ask_from(
        &self,
        origin: &Origin,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Seen {
        let headers: Vec<(&str, &[u8])> = [("host", "169.254.169.254")]
            .iter()
            .chain(headers)
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let request = RawRequest {
            method,
            target,
            version: HttpVersion::Http11,
            headers: &headers,
            body: Body::Empty,
        };
        match self.answer(origin, request) {
            None => Seen {
                status: 0,
                headers: Vec::new(),
                body: String::new(),
                hop_limit: None,
            },
            Some(reply) => Seen {
                status: reply.status,
                headers: reply
                    .headers
                    .as_slice()
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_string()))
                    .collect(),
                body: String::from_utf8(reply.body.to_vec()).unwrap(),
                hop_limit: reply.hop_limit.map(HopLimit::get),
            },
        }
    }

    fn answer(&self, origin: &Origin, request: RawRequest<'_>) -> Option<Reply<'static>> {
        self.guest.answer(origin, request, self.now, rand::random())
    }

    fn roll_keys(&mut self) {
        if self.key_ring.is_due(self.now) {
            self.key_ring = self.key_ring.rolled(key_material(), self.now);
            self.tokens.replace_keys(&self.key_ring);
        }
    }

    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Seen {
        self.ask_from(&origin("demo", Family::Ipv4), method, target, headers)
    }

    fn get(&self, target: &str) -> Seen {
        self.ask("GET", target, &[])
    }

    fn token(&self, seconds: u32) -> String {
        let seen = self.ask("PUT", TOKEN_PATH, &[(TTL, &seconds.to_string())]);
        assert_eq!(seen.status, 200);
        seen.body
    }

    fn later(&mut self, seconds: f64) {
        self.now = self.now.after(Duration::from_secs_f64(seconds));
    }
}

/// The EC2 User Guide: "a minimum of one second and a maximum of six hours".
#[test]
fn a_put_with_a_ttl_from_1_to_21600_gets_a_token() {
    let host = Host::with(|_| {});
    for ttl in 0..=65_535_u32 {
        let seen = host.ask("PUT", TOKEN_PATH, &[(TTL, &ttl.to_string())]);
        if (1..=21_600).contains(&ttl) {
            assert_eq!((seen.status, seen.body.len()), (200, 56), "{ttl}");
            assert_eq!(seen.header(TTL), Some(ttl.to_string().as_str()));
        } else {
            assert_eq!((seen.status, seen.body.as_str()), (400, ""), "{ttl}");
            assert_eq!(seen.header(TTL), None);
        }
    }
}

#[test]
fn a_put_with_an_invalid_ttl_is_400() {
    let host = Host::with(|_| {});
    for ttl in [
        "",
        "-1",
        "+5",
        "abc",
        "6o",
        "1.5",
        "0x10",
        "1e3",
        "60 60",
        "60,60",
        "21601",
        "4294967297",
        "\u{661}",
    ] {
        let seen = host.ask("PUT", TOKEN_PATH, &[(TTL, ttl)]);
        assert_eq!((seen.status, seen.body.as_str()), (400, ""), "{ttl:?}");
    }
    assert_eq!(host.ask("PUT", TOKEN_PATH, &[]).status, 400);
    assert_eq!(
        host.ask("PUT", TOKEN_PATH, &[(TTL, "60"), (TTL, "60")])
            .status,
        400
    );
}

/// EC2's observed behaviour. Each row: method, path, headers, the status with tokens optional, the
/// status with tokens required.
#[test]
fn each_kind_of_request_gets_its_status_with_tokens_optional_and_required() {
    let xff = &[(FORWARDED, "1.2.3.4")][..];
    let ttl = (TTL, "60");
    let bad = &[(TOKEN, "garbage")][..];
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, u16);
    let rows: &[Row<'_>] = &[
        ("PUT", TOKEN_PATH, &[ttl], 200, 200),
        ("PUT", TOKEN_PATH, &[ttl, (FORWARDED, "1.2.3.4")], 403, 403),
        ("PUT", TOKEN_PATH, &[ttl, (FORWARDED, "")], 403, 403),
        ("PUT", TOKEN_PATH, &[(FORWARDED, ""), ttl], 403, 403),
        ("PUT", TOKEN_PATH, &[ttl, ("origin", "http://x")], 403, 403),
        (
            "PUT",
            TOKEN_PATH,
            &[ttl, ("sec-fetch-site", "same-origin")],
            403,
            403,
        ),
        ("PUT", TOKEN_PATH, &[ttl, (TOKEN, "garbage")], 200, 200),
        ("PUT", "/latest/api/token/", &[ttl], 403, 403),
        ("PUT", "//latest/api/token", &[ttl], 403, 403),
        ("PUT", "/latest//api/token", &[ttl], 403, 403),
        ("PUT", "/latest/api/%74oken", &[ttl], 403, 403),
        ("PUT", "/2021-03-23/api/token", &[ttl], 403, 403),
        ("PUT", "/latest/meta-data/", &[ttl], 403, 403),
        ("PUT", "/", &[ttl], 403, 403),
        ("PUT", "/latest/api/token?x=1", &[ttl], 200, 200),
        ("GET", TOKEN_PATH, &[], 405, 405),
        ("GET", TOKEN_PATH, bad, 405, 405),
        ("HEAD", TOKEN_PATH, &[], 405, 405),
        ("POST", TOKEN_PATH, &[ttl], 405, 405),
        ("DELETE", TOKEN_PATH, &[], 405, 405),
        ("put", TOKEN_PATH, &[ttl], 405, 405),
        ("OPTIONS", TOKEN_PATH, &[], 200, 200),
        ("OPTIONS", "/latest/meta-data/", &[], 200, 200),
        ("POST", "/latest/meta-data/", &[], 405, 405),
        ("DELETE", "/latest/meta-data/", &[], 405, 405),
        ("TRACE", "/latest/meta-data/", &[], 405, 405),
        ("CONNECT", "169.254.169.254:80", &[], 405, 405),
        ("get", "/latest/meta-data/", &[], 405, 405),
        ("GET", "/", &[], 200, 401),
        ("GET", "/latest/", &[], 200, 401),
        ("GET", "/latest/meta-data", &[], 200, 401),
        ("GET", "/latest/meta-data/", &[], 200, 401),
        ("HEAD", "/latest/meta-data/", &[], 200, 401),
        ("GET", "/latest/meta-data/instance-id", &[], 200, 401),
        ("GET", "/latest/meta-data/instance-id/", &[], 200, 401),
        ("GET", "/latest/meta-data//instance-id", &[], 200, 401),
        ("GET", "//latest/meta-data/instance-id", &[], 200, 401),
        ("GET", "/latest/meta-data/instance-id/x", &[], 404, 401),
        ("GET", "/latest/meta-data/nope", &[], 404, 401),
        ("GET", "/latest/meta-data/Instance-Id", &[], 404, 401),
        ("GET", "/latest/meta-data/../user-data", &[], 404, 401),
        ("GET", "/nope", &[], 404, 401),
        ("GET", "/latest/api", &[], 404, 401),
        ("GET", "/latest/api/token/", &[], 404, 401),
        ("GET", "/2021-03-23/api/token", &[], 404, 401),
        ("GET", "/2020-08-24/meta-data/", &[], 404, 401),
        ("GET", "/latest/meta-data/instance-id", bad, 401, 401),
        ("HEAD", "/latest/meta-data/instance-id", bad, 401, 401),
        ("GET", "/latest/meta-data/nope", bad, 401, 401),
        (
            "GET",
            "/latest/meta-data/instance-id",
            &[(TOKEN, "")],
            401,
            401,
        ),
        (
            "GET",
            "/latest/meta-data/instance-id",
            &[(TOKEN, ""), (TOKEN, "")],
            401,
            401,
        ),
        ("GET", "/latest/meta-data/instance-id", xff, 200, 401),
        (
            "GET",
            "/latest/meta-data/instance-id",
            &[(FORWARDED, "1.2.3.4"), (TOKEN, "garbage")],
            403,
            403,
        ),
        (
            "GET",
            "/latest/meta-data/spot/instance-action",
            &[],
            404,
            401,
        ),
        (
            "GET",
            "/latest/meta-data/events/maintenance/scheduled",
            &[],
            200,
            401,
        ),
        (
            "GET",
            "/latest/meta-data/iam/security-credentials-extended/",
            &[],
            404,
            401,
        ),
        ("GET", "/latest/meta-data/public-keys/0=demo", &[], 404, 401),
        (
            "GET",
            "/latest/meta-data/public-keys/0=demo/openssh-key",
            &[],
            404,
            401,
        ),
        ("GET", "/latest/meta-data/tags/instance", &[], 404, 401),
        ("GET", "/latest/meta-data/tags/instance/Name", &[], 404, 401),
        (
            "GET",
            "http://169.254.169.254/latest/meta-data/instance-id",
            &[],
            200,
            401,
        ),
        (
            "GET",
            "http://attacker.example/latest/meta-data/instance-id",
            &[],
            421,
            421,
        ),
        ("GET", "*", &[], 400, 400),
    ];
    let optional = Host::with(|_| {});
    let required = Host::with(|i| i.metadata_options.http_tokens = HttpTokens::Required);
    for (method, path, headers, with_optional, with_required) in rows {
        assert_eq!(
            optional.ask(method, path, headers).status,
            *with_optional,
            "optional: {method} {path} {headers:?}"
        );
        assert_eq!(
            required.ask(method, path, headers).status,
            *with_required,
            "required: {method} {path} {headers:?}"
        );
    }

    // With a valid token both give the same answers on the data paths.
    for host in [&optional, &required] {
        let token = host.token(60);
        for (path, status) in [
            ("/", 200),
            ("/latest/meta-data/instance-id", 200),
            ("/latest/meta-data/nope", 404),
            ("/latest/meta-data/tags/instance", 404),
        ] {
            assert_eq!(
                host.ask("GET", path, &[(TOKEN, &token)]).status,
                status,
                "{path}"
            );
        }
        assert_eq!(
            host.ask("GET", "/latest/", &[(TOKEN, &token), (TOKEN, &token)])
                .status,
            401
        );
        assert_eq!(
            host.ask("GET", "/latest/", &[(TOKEN, &token), (FORWARDED, "")])
                .status,
            403
        );
    }
}

/// Observed on EC2: every request, PUT included, is 403 while HttpEndpoint is disabled.
#[test]
fn a_disabled_endpoint_answers_every_request_with_403() {
    let host = Host::with(|_| {});
    let token = host.token(60);
    host.change(|i| i.metadata_options.http_endpoint = Switch::Disabled);
    for (method, path) in [
        ("GET", "/"),
        ("PUT", TOKEN_PATH),
        ("OPTIONS", "/"),
        ("POST", "/"),
        ("HEAD", "/nope"),
    ] {
        let seen = host.ask(method, path, &[(TTL, "60"), (TOKEN, &token)]);
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (403, ""),
            "{method} {path}"
        );
    }
    host.change(|i| i.metadata_options.http_endpoint = Switch::Enabled);
    assert_eq!(host.ask("GET", "/", &[(TOKEN, &token)]).status, 200);
}

#[test]
fn ipv6_requests_get_no_answer_unless_ipv6_is_enabled() {
    let host = Host::with(|_| {});
    let by_ipv6 = origin("demo", Family::Ipv6);
    let token = host.token(60);
    assert_eq!(host.ask_from(&by_ipv6, "GET", "/", &[]).status, 0);
    assert_eq!(
        host.ask_from(&by_ipv6, "PUT", TOKEN_PATH, &[(TTL, "60")])
            .status,
        0
    );
    host.change(|i| i.metadata_options.http_protocol_ipv6 = Switch::Enabled);
    assert_eq!(
        host.ask_from(&by_ipv6, "GET", "/", &[(TOKEN, &token)])
            .status,
        200
    );
    // A disabled endpoint is 403 on both address families.
    host.change(|i| i.metadata_options.http_endpoint = Switch::Disabled);
    assert_eq!(host.ask_from(&by_ipv6, "GET", "/", &[]).status, 403);
}

#[test]
fn an_origin_claimed_by_no_instance_or_by_several_gets_no_answer() {
    let second = || instance(|i| i.instance_id = InstanceId::parse("i-12345678").unwrap());
    let host = Host::of([instance(|_| {})]);
    assert_eq!(
        host.ask_from(&origin("other", Family::Ipv4), "GET", "/", &[])
            .status,
        0
    );
    assert_eq!(
        host.ask_from(
            &origin("other", Family::Ipv4),
            "PUT",
            TOKEN_PATH,
            &[(TTL, "60")]
        )
        .status,
        0
    );

    let disputed = Host::of([instance(|_| {}), second()]);
    assert_eq!(disputed.ask("GET", "/", &[]).status, 0);
    assert_eq!(disputed.ask("PUT", TOKEN_PATH, &[(TTL, "60")]).status, 0);
}

#[test]
fn only_a_running_instance_answers() {
    for (state, status) in [
        (InstanceState::Pending, 200),
        (InstanceState::Running, 200),
        (InstanceState::Stopping, 200),
        (InstanceState::ShuttingDown, 200),
        (InstanceState::Stopped, 0),
        (InstanceState::Terminated, 0),
    ] {
        assert_eq!(
            Host::with(move |i| i.state = state).get("/").status,
            status,
            "{state:?}"
        );
    }
}

#[test]
fn every_put_answer_and_no_other_has_the_hop_limit() {
    let host = Host::with(|i| {
        i.metadata_options.http_put_response_hop_limit = HopLimit::try_from(5).unwrap()
    });
    assert_eq!(
        host.ask("PUT", TOKEN_PATH, &[(TTL, "60")]).hop_limit,
        Some(5)
    );
    assert_eq!(host.ask("PUT", TOKEN_PATH, &[]).hop_limit, Some(5));
    assert_eq!(host.ask("PUT", "/nope", &[]).hop_limit, Some(5));
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        assert_eq!(host.ask(method, "/", &[]).hop_limit, None, "{method}");
        assert_eq!(
            host.ask(method, TOKEN_PATH, &[]).hop_limit,
            None,
            "{method}"
        );
    }
    host.change(|i| {
        i.metadata_options.http_put_response_hop_limit = HopLimit::try_from(64).unwrap()
    });
    assert_eq!(
        host.ask("PUT", TOKEN_PATH, &[(TTL, "60")]).hop_limit,
        Some(64)
    );
}

/// Observed on EC2: every answer to a valid token has the remaining seconds, 404 included. No other
/// answer has them.
#[test]
fn the_ttl_header_counts_down_until_the_token_expires() {
    let mut host = Host::with(|_| {});
    let token = host.token(60);
    let left = |host: &Host, path: &str| {
        let seen = host.ask("GET", path, &[(TOKEN, &token)]);
        (seen.status, seen.header(TTL).map(str::to_string))
    };
    assert_eq!(left(&host, "/"), (200, Some("60".into())));
    host.later(0.2);
    assert_eq!(left(&host, "/nope"), (404, Some("60".into())));
    host.later(1.0);
    assert_eq!(left(&host, "/"), (200, Some("59".into())));
    host.later(58.7);
    assert_eq!(left(&host, "/"), (200, Some("1".into())));
    host.later(0.099);
    assert_eq!(left(&host, "/"), (200, Some("1".into())));
    host.later(0.001);
    assert_eq!(left(&host, "/"), (401, None));
    assert_eq!(host.get("/").header(TTL), None);
    assert_eq!(host.get("/nope").header(TTL), None);
}

#[test]
fn setting_the_wall_clock_does_not_change_the_lifetime_of_a_token() {
    let mut host = Host::with(|_| {});
    let token = host.token(60);
    for day in [
        "2026-05-15T16:25:07Z",
        "2026-05-17T16:25:07Z",
        "1970-01-01T00:00:00Z",
    ] {
        host.now.wall = day.parse().unwrap();
        assert_eq!(
            host.ask("GET", "/", &[(TOKEN, &token)]).header(TTL),
            Some("60"),
            "{day}"
        );
    }
}

#[test]
fn a_token_is_valid_for_its_instance_and_launch_only() {
    let other = instance(|i| {
        i.instance_id = InstanceId::parse("i-12345678").unwrap();
        i.imds.attachments = vec![Attachment::Listener("other".into()).into()];
    });
    let host = Host::of([instance(|_| {}), other]);
    let token = host.token(21_600);
    assert_eq!(host.get("/").status, 200);
    assert_eq!(
        host.ask_from(
            &origin("other", Family::Ipv4),
            "GET",
            "/",
            &[(TOKEN, &token)]
        )
        .status,
        401
    );
    assert_eq!(
        host.ask_from(&origin("other", Family::Ipv4), "GET", "/", &[])
            .status,
        200
    );
    // Another host with the same instance has different keys and another launch epoch.
    assert_eq!(
        Host::with(|_| {})
            .ask("GET", "/", &[(TOKEN, &token)])
            .status,
        401
    );
}

#[test]
fn a_token_with_any_character_changed_is_refused() {
    let host = Host::with(|_| {});
    let token = host.token(21_600);
    let accepted = |token: &str| host.ask("GET", "/", &[(TOKEN, token)]).status == 200;
    assert!(accepted(&token));
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ \0";
    for place in 0..token.len() {
        for &letter in alphabet {
            let mut changed = token.clone().into_bytes();
            if changed[place] == letter {
                continue;
            }
            changed[place] = letter;
            assert!(
                !accepted(std::str::from_utf8(&changed).unwrap()),
                "place {place}, letter {letter}"
            );
        }
        assert!(!accepted(&token[..place]), "cut to {place}");
    }
    for other in [
        format!("{token}="),
        format!("{token}A"),
        token.trim_end_matches('=').to_string(),
        token.repeat(2),
    ] {
        assert!(!accepted(&other), "{other}");
    }
}

#[test]
fn tokens_are_unique_and_begin_as_on_nitro() {
    let host = Host::with(|_| {});
    let tokens: std::collections::BTreeSet<String> = (0..1000).map(|_| host.token(60)).collect();
    assert_eq!(tokens.len(), 1000);
    assert!(
        tokens
            .iter()
            .all(|token| token.starts_with("AQAEA") && token.ends_with("=="))
    );
}

/// A token lives six hours at most, so it may be valid after one roll of the keys, and never after
/// two.
#[test]
fn after_a_key_roll_tokens_of_the_previous_key_stay_valid() {
    let mut host = Host::with(|_| {});
    let early = host.token(21_600);
    host.later(21_599.0);
    host.roll_keys();
    let late = host.token(21_600);
    host.later(0.5);
    assert_eq!(
        host.ask("GET", "/", &[(TOKEN, &early)]).header(TTL),
        Some("1")
    );
    host.later(0.5);
    host.roll_keys();
    assert_eq!(host.ask("GET", "/", &[(TOKEN, &early)]).status, 401);
    assert_eq!(
        host.ask("GET", "/", &[(TOKEN, &late)]).header(TTL),
        Some("21599")
    );
    host.later(21_598.0);
    host.roll_keys();
    assert_eq!(
        host.ask("GET", "/", &[(TOKEN, &late)]).header(TTL),
        Some("1")
    );
}

/// Observed on EC2 (Nitro): the headers, their order and their spelling.
#[test]
fn headers_have_the_names_and_order_of_ec2() {
    let host = Host::with(|_| {});
    let token = host.token(60);
    let data = [
        "Content-Type",
        "Accept-Ranges",
        "Last-Modified",
        "Content-Length",
        "Date",
        "Server",
        "Connection",
    ];
    let ttl = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";
    let error = [
        "Content-Length",
        "Date",
        "Server",
        "Connection",
        "Content-Type",
    ];

    let seen = host.get("/latest/meta-data/instance-id");
    assert_eq!(seen.names(), data);
    assert_eq!(seen.header("Server"), Some("EC2ws"));
    assert_eq!(seen.header("Date"), Some("Sat, 16 May 2026 16:25:07 GMT"));
    assert_eq!(seen.header("Content-Length"), Some("19"));
    assert_eq!(seen.header("Content-Type"), Some("text/plain"));
    let seen = host.ask("GET", "/latest/meta-data/instance-id", &[(TOKEN, &token)]);
    assert_eq!(seen.names(), [&[ttl][..], &data].concat());
    let seen = host.ask("PUT", TOKEN_PATH, &[(TTL, "60")]);
    assert_eq!(
        seen.names(),
        [
            ttl,
            "Content-Length",
            "Date",
            "Server",
            "Connection",
            "Content-Type"
        ]
    );
    let seen = host.ask("GET", "/", &[(TOKEN, "x")]);
    assert_eq!((seen.status, seen.names()), (401, error.to_vec()));
    let seen = host.ask("PUT", TOKEN_PATH, &[]);
    assert_eq!((seen.status, seen.names()), (400, error.to_vec()));
    let seen = host.get(TOKEN_PATH);
    assert_eq!(
        (seen.status, seen.names()),
        (405, [&["Allow"][..], &error].concat())
    );
    assert_eq!(seen.header("Allow"), Some("OPTIONS, PUT"));
    let seen = host.ask("PUT", "/", &[("connection", "keep-alive")]);
    assert_eq!(
        (seen.status, seen.names()),
        (
            403,
            vec!["Content-Length", "Content-Type", "Date", "Server"]
        )
    );
    let seen = host.get("/nope");
    assert_eq!(
        seen.names(),
        [
            "Content-Type",
            "Content-Length",
            "Date",
            "Server",
            "Connection"
        ]
    );
    assert_eq!(seen.header("Content-Type"), Some("text/html"));
    assert_eq!(seen.body, reply::NOT_FOUND_PAGE);
    let seen = host.ask("GET", "/nope", &[(TOKEN, &token)]);
    assert_eq!(
        seen.names(),
        [
            "Content-Type",
            "Content-Length",
            ttl,
            "Date",
            "Server",
            "Connection"
        ]
    );
}

#[test]
fn the_connection_closes_without_keep_alive_and_always_after_a_token() {
    let host = Host::with(|_| {});
    let keep_alive = ("connection", "keep-alive");
    assert_eq!(host.get("/").header("Connection"), Some("close"));
    assert_eq!(
        host.ask("GET", "/", &[keep_alive]).header("Connection"),
        None
    );
    assert_eq!(
        host.ask("GET", "/nope", &[keep_alive]).header("Connection"),
        None
    );
    assert_eq!(
        host.ask("PUT", TOKEN_PATH, &[keep_alive, (TTL, "60")])
            .header("Connection"),
        Some("close")
    );
    let raw = RawRequest {
        method: "GET",
        target: "/",
        version: HttpVersion::Http11,
        headers: &[
            ("host", b"attacker.example".as_slice()),
            ("connection", b"keep-alive"),
        ],
        body: Body::Empty,
    };
    let reply = host.answer(&origin("demo", Family::Ipv4), raw).unwrap();
    assert_eq!((reply.status, reply.connection), (400, Connection::Close));
}

#[test]
fn the_next_request_sees_a_change() {
    let host = Host::with(|_| {});
    assert_eq!(host.get("/").status, 200);
    host.change(|i| i.metadata_options.http_tokens = HttpTokens::Required);
    assert_eq!(host.get("/").status, 401);
    host.change(|i| i.metadata_options.http_tokens = HttpTokens::Optional);
    assert_eq!(host.get("/latest/meta-data/tags/instance/Name").status, 404);
    assert!(!host.get("/latest/meta-data/").body.contains("tags/"));
    host.change(|i| i.metadata_options.instance_metadata_tags = Switch::Enabled);
    assert_eq!(
        host.get("/latest/meta-data/tags/instance/Name").body,
        "demo"
    );
    assert!(host.get("/latest/meta-data/").body.ends_with("\ntags/"));
    assert_eq!(
        host.get("/2021-01-03/meta-data/tags/instance/Name").status,
        404
    );
}

/// Collects every path that listings lead to.
fn crawl(host: &Host, path: &str, found: &mut Vec<String>) {
    for line in host.get(path).body.lines() {
        let name = match line.split_once('=') {
            Some((number, _)) if path.ends_with("public-keys/") => format!("{number}/"),
            _ => line.to_string(),
        };
        let below = format!("{path}{name}");
        match below.ends_with('/') {
            true => crawl(host, &below, found),
            false => found.push(below),
        }
    }
}

#[test]
fn every_listed_path_resolves_in_every_version() {
    let host = Host::with(|i| i.metadata_options.instance_metadata_tags = Switch::Enabled);
    for version in path::VERSIONS.into_iter().chain([path::LATEST]) {
        let mut found = Vec::new();
        crawl(&host, &format!("/{version}/meta-data/"), &mut found);
        if host.get(&format!("/{version}/")).body.contains("dynamic") {
            crawl(&host, &format!("/{version}/dynamic/"), &mut found);
        }
        assert!(found.len() >= 5, "{version}: {found:?}");
        for path in found {
            let seen = host.get(&path);
            assert_eq!(seen.status, 200, "{path}");
            let ends_in_newline = seen.body.ends_with('\n');
            assert_eq!(ends_in_newline, path.ends_with("openssh-key"), "{path}");
            assert_eq!(host.get(&format!("{path}/")).body, seen.body, "{path}");
            assert_eq!(host.get(&format!("{path}/x")).status, 404, "{path}/x");
        }
    }
}

#[test]
fn the_versions_and_their_listings_are_those_of_ec2() {
    let host = Host::with(|_| {});
    let versions = host.get("/").body;
    assert!(
        versions.starts_with("1.0\n2007-01-19\n") && versions.ends_with("\n2024-04-11\nlatest")
    );
    assert_eq!(host.get("/latest").body, "dynamic\nmeta-data\nuser-data");
    assert_eq!(host.get("/1.0/").body, "meta-data\nuser-data");
    assert_eq!(
        host.get("/latest/user-data").header("Content-Type"),
        Some("application/octet-stream")
    );
    let none = Host::with(|i| i.imds.user_data_text = None);
    assert_eq!(none.get("/latest/user-data").status, 404);
    assert_eq!(none.get("/latest/").body, "dynamic\nmeta-data\nuser-data");
}

#[test]
fn v1_and_v2_reads_get_different_credentials() {
    let host = Host::with(|_| {});
    let token = host.token(60);
    let path = "/latest/meta-data/iam/security-credentials/demo-role";
    let (v1, v2) = (
        host.get(path).body,
        host.ask("GET", path, &[(TOKEN, &token)]).body,
    );
    assert_ne!(v1, v2);
    assert!(v2.starts_with(
        "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2026-05-16T16:00:00Z\",\n  \"Type\" : \"AWS-HMAC\",\n"
    ));
    assert!(
        v2.ends_with("\"Expiration\" : \"2026-05-16T22:00:00Z\"\n}"),
        "{v2}"
    );

    host.change(|i| static_source(i).v1 = None);
    assert_eq!(host.get(path).status, 404);
    assert_eq!(
        host.get("/latest/meta-data/iam/security-credentials/")
            .status,
        404
    );
    assert_eq!(host.ask("GET", path, &[(TOKEN, &token)]).body, v2);
}

#[test]
fn expired_credentials_are_never_served() {
    let host = Host::with(|_| {});
    host.change(|i| static_source(i).v1.as_mut().unwrap().expiration = Some(moment().wall));
    let seen = host.get("/latest/meta-data/iam/security-credentials/demo-role");
    assert_eq!(seen.status, 200);
    assert!(
        seen.body
            .contains("\"Code\" : \"AssumeRoleUnauthorizedAccess\"")
    );
    assert!(!seen.body.contains("Secret"));
}

#[test]
fn overrides_set_and_hide_leaves_and_listings_follow() {
    let host = Host::with(|i| {
        i.imds.overrides = serde_json::from_str(
            r#"{"meta-data/ancestor-ami-ids": "ami-1\nami-2", "meta-data/instance-type": "m7i.large",
                "meta-data/public-ipv4": null, "meta-data/placement": null, "meta-data/metrics/vhostmd": null,
                "meta-data/elastic-inference/associations/eia-1": "{}", "dynamic/fws/instance-monitoring": "enabled"}"#,
        )
        .unwrap();
    });
    for (path, status, body) in [
        ("meta-data/ancestor-ami-ids", 200, "ami-1\nami-2"),
        ("meta-data/instance-type", 200, "m7i.large"),
        ("meta-data/instance-type/", 200, "m7i.large"),
        ("meta-data/elastic-inference", 200, "associations/"),
        ("meta-data/elastic-inference/associations/", 200, "eia-1"),
        ("meta-data/elastic-inference/associations/eia-1", 200, "{}"),
        ("dynamic/fws/instance-monitoring", 200, "enabled"),
    ] {
        let seen = host.get(&format!("/latest/{path}"));
        assert_eq!((seen.status, seen.body.as_str()), (status, body), "{path}");
    }
    for gone in [
        "meta-data/public-ipv4",
        "meta-data/placement",
        "meta-data/placement/region",
        "meta-data/metrics/vhostmd",
        "meta-data/metrics/",
        "meta-data/instance-type/x",
        "meta-data/elastic-inference/associations/eia-1/x",
        "meta-data/elastic-inference/nope",
    ] {
        assert_eq!(host.get(&format!("/latest/{gone}")).status, 404, "{gone}");
    }
    let listing = host.get("/latest/meta-data/").body;
    let names: Vec<&str> = listing.lines().collect();
    assert!(
        names.is_sorted_by(|one, next| one.trim_end_matches('/') < next.trim_end_matches('/')),
        "{names:?}"
    );
    for there in ["ancestor-ami-ids", "elastic-inference/", "instance-type"] {
        assert!(names.contains(&there), "{there}");
    }
    for gone in ["public-ipv4", "placement/", "metrics/"] {
        assert!(!names.contains(&gone), "{gone}");
    }
}

#[test]
fn an_override_cannot_bypass_the_option_that_hides_tags() {
    let overrides: crate::instance::Overrides =
        serde_json::from_str(r#"{"meta-data/tags/instance/x": "y"}"#).unwrap();
    assert_eq!(overrides.faults().len(), 1);
}

#[test]
fn notices_appear_at_their_time_and_disappear_when_cleared() {
    let mut host = Host::with(|i| {
        i.imds.events = serde_json::from_str(
            r#"{"Spot": {"Action": "terminate", "Time": "2026-05-16T16:27:17Z"},
                "Rebalance": {"NoticeTime": "2026-05-16T16:25:17Z"}, "TargetLifecycleState": "InService"}"#,
        )
        .unwrap();
    });
    let spot = [
        "/latest/meta-data/spot/instance-action",
        "/latest/meta-data/spot/termination-time",
    ];
    let rebalance = "/latest/meta-data/events/recommendations/rebalance";
    for path in spot
        .into_iter()
        .chain([rebalance, "/latest/meta-data/spot/"])
    {
        assert_eq!(host.get(path).status, 404, "{path}");
    }
    assert_eq!(host.get("/latest/meta-data/events/").body, "maintenance/");
    host.later(10.0);
    assert_eq!(
        host.get(spot[0]).body,
        r#"{"action": "terminate", "time": "2026-05-16T16:27:17Z"}"#
    );
    assert_eq!(host.get(spot[1]).body, "2026-05-16T16:27:17Z");
    assert_eq!(
        host.get(rebalance).body,
        r#"{"noticeTime": "2026-05-16T16:25:17Z"}"#
    );
    assert_eq!(
        host.get("/latest/meta-data/events").body,
        "maintenance/\nrecommendations/"
    );
    assert_eq!(
        host.get("/latest/meta-data/spot").body,
        "instance-action\ntermination-time"
    );
    assert_eq!(
        host.get("/2016-04-19/meta-data/spot").body,
        "termination-time",
        "instance-action is of 2016-11-15"
    );
    assert_eq!(
        host.get("/latest/meta-data/autoscaling/target-lifecycle-state")
            .body,
        "InService"
    );
    host.change(|i| i.imds.events = Default::default());
    for path in spot
        .into_iter()
        .chain([rebalance, "/latest/meta-data/autoscaling/"])
    {
        assert_eq!(host.get(path).status, 404, "{path}");
    }
}

/// A stored step takes effect at its time, in listings and in leaves, without any other trigger.
#[test]
fn timeline_steps_take_effect_at_their_time() {
    let event = r#""EventId": "instance-event-0123456789abcdef0""#;
    let timeline = format!(
        r#"[{{"At": "2026-05-16T16:25:12Z", "Set": {{"Rebalance": {{"NoticeTime": "2026-05-16T16:25:12Z"}}}}}},
            {{"At": "2026-05-16T16:25:17Z", "Set": {{"Spot": {{"Action": "terminate", "Time": "2026-05-16T16:27:17Z"}}}}}},
            {{"At": "2026-05-16T16:25:17Z", "Set": {{"Maintenance": {{{event}, "Code": "instance-stop", "Description": "d",
              "NotBefore": "2026-06-01T00:00:00Z"}}}}}},
            {{"At": "2026-05-16T16:25:17Z", "Set": {{"Override": {{"Path": "meta-data/own/leaf", "Value": {{"a": 1}}}}}}}},
            {{"At": "2026-05-16T16:25:17Z", "Set": {{"Override": {{"Path": "meta-data/placement", "Value": null}}}}}},
            {{"At": "2026-05-16T16:25:17Z", "Set": {{"TargetLifecycleState": "Terminated"}}}},
            {{"At": "2026-05-16T16:25:27Z", "Set": {{"MaintenanceState": {{{event}, "State": "canceled"}}}}}},
            {{"At": "2026-05-16T16:25:27Z", "Set": {{"Clear": ["Spot", "Rebalance", "TargetLifecycleState", "Overrides"]}}}}]"#
    );
    let mut host = Host::with(|i| i.imds.timeline = serde_json::from_str(&timeline).unwrap());
    let at = |path: &str| format!("/latest/meta-data/{path}");
    let coming = [
        "spot/",
        "spot/instance-action",
        "spot/termination-time",
        "events/recommendations/rebalance",
        "own/leaf",
        "autoscaling/",
    ];
    let absent = |host: &Host, paths: &[&str]| {
        paths
            .iter()
            .for_each(|path| assert_eq!(host.get(&at(path)).status, 404, "{path}"));
    };
    absent(&host, &coming);
    let before = host
        .get(&at("instance-id"))
        .header("Last-Modified")
        .map(str::to_string);
    assert_eq!(host.get(&at("events/maintenance/scheduled")).body, "[]");
    assert_eq!(host.get(&at("placement/region")).body, "us-east-1");

    host.later(5.0);
    assert_eq!(
        host.get(&at("events/recommendations/rebalance")).body,
        r#"{"noticeTime": "2026-05-16T16:25:12Z"}"#
    );
    absent(&host, &coming[..3]);

    host.later(5.0);
    for (path, body) in [
        ("spot", "instance-action\ntermination-time"),
        (
            "spot/instance-action",
            r#"{"action": "terminate", "time": "2026-05-16T16:27:17Z"}"#,
        ),
        ("spot/termination-time", "2026-05-16T16:27:17Z"),
        ("autoscaling/target-lifecycle-state", "Terminated"),
        ("own", "leaf"),
        ("own/leaf", r#"{"a":1}"#),
        ("events/maintenance/history", "[]"),
        ("instance-id", "i-0123456789abcdef0"),
    ] {
        assert_eq!(host.get(&at(path)).body, body, "{path}");
    }
    assert!(
        host.get(&at("events/maintenance/scheduled"))
            .body
            .contains(r#""Code" : "instance-stop""#)
    );
    absent(&host, &["placement/", "placement/region"]);
    let listing = host.get(&at("")).body;
    assert!(
        listing.contains("\nspot/\n")
            && listing.contains("\nown/\n")
            && !listing.contains("placement"),
        "{listing}"
    );
    let after = host
        .get(&at("instance-id"))
        .header("Last-Modified")
        .map(str::to_string);
    assert_eq!(after.as_deref(), Some("Sat, 16 May 2026 16:25:17 GMT"));
    assert_ne!(before, after);

    host.later(10.0);
    absent(&host, &coming);
    assert_eq!(host.get(&at("events/maintenance/scheduled")).body, "[]");
    assert!(
        host.get(&at("events/maintenance/history"))
            .body
            .contains("[Canceled] d")
    );
    assert_eq!(host.get(&at("placement/region")).body, "us-east-1");
}

#[test]
fn a_pushed_ssh_key_is_listed_until_it_expires() {
    let mut host = Host::with(|i| {
        i.imds.managed_ssh_keys = serde_json::from_str(
            r#"[{"InstanceOSUser": "ec2-user", "SSHPublicKey": "ssh-ed25519 AAAA", "Expiration": "2026-05-16T16:26:07Z"}]"#,
        )
        .unwrap();
    });
    let path = "/latest/meta-data/managed-ssh-keys/active-keys/ec2-user/";
    assert_eq!(host.ask("HEAD", path, &[]).status, 200);
    assert_eq!(host.get(path).body, "ssh-ed25519 AAAA");
    assert_eq!(
        host.get("/latest/meta-data/managed-ssh-keys/active-keys/root/")
            .status,
        404
    );
    assert_eq!(
        host.get("/latest/meta-data/managed-ssh-keys/signer-cert/")
            .status,
        404
    );
    host.later(60.0);
    assert_eq!(host.ask("HEAD", path, &[]).status, 404);
    assert!(
        !host
            .get("/latest/meta-data/")
            .body
            .contains("managed-ssh-keys")
    );
}

/// A signature covers the document's bytes, so a change of the instance must not change them.
#[test]
fn the_identity_document_stays_as_it_was_at_launch() {
    let host = Host::with(|_| {});
    let path = "/latest/dynamic/instance-identity/document";
    let before = host.get(path).body;
    host.change(|i| i.instance_type = "c7g.metal".into());
    assert_eq!(
        host.get("/latest/meta-data/instance-type").body,
        "c7g.metal"
    );
    assert_eq!(host.get(path).body, before);
    assert!(before.ends_with("\"version\" : \"2017-09-30\"\n}"));
}

/// A closed instance denies every request, also one that is malformed.
#[test]
fn a_denial_that_needs_no_request_comes_before_reading_it() {
    let malformed = |host: &Host, family| {
        let raw = RawRequest {
            method: "GET",
            target: "/",
            version: HttpVersion::Http11,
            headers: &[],
            body: Body::NotEmpty,
        };
        let reply = host.answer(&origin("demo", family), raw);
        reply.map_or(0, |reply| reply.status)
    };
    assert_eq!(malformed(&Host::with(|_| {}), Family::Ipv4), 400);
    assert_eq!(
        malformed(
            &Host::with(|i| i.state = InstanceState::Stopped),
            Family::Ipv4
        ),
        0
    );
    assert_eq!(malformed(&Host::with(|_| {}), Family::Ipv6), 0);
    let disabled = Host::with(|i| i.metadata_options.http_endpoint = Switch::Disabled);
    assert_eq!(malformed(&disabled, Family::Ipv4), 403);

    // The hop limit is known before the body is read, and silence too.
    let hop_limit = |listener, family, method| {
        let origin = origin(listener, family);
        let turn = disabled.guest.turn(&origin)?;
        Some(turn.hop_limit(method))
    };
    assert_eq!(hop_limit("demo", Family::Ipv6, "PUT"), None);
    assert_eq!(
        hop_limit("demo", Family::Ipv4, "PUT"),
        Some(Some(HopLimit::TWO))
    );
    assert_eq!(hop_limit("demo", Family::Ipv4, "GET"), Some(None));
    assert_eq!(hop_limit("other", Family::Ipv4, "PUT"), None);
}

/// One snapshot per request: a change during a request takes effect with the next one.
#[test]
fn a_request_is_answered_by_the_state_at_its_start() {
    let host = Host::with(|_| {});
    let from = origin("demo", Family::Ipv4);
    let request = RawRequest {
        method: "PUT",
        target: TOKEN_PATH,
        version: HttpVersion::Http11,
        headers: &[("host", b"imds".as_slice()), (TTL, b"60")],
        body: Body::Empty,
    };
    let turn = host.guest.turn(&from).unwrap();
    host.change(|i| i.metadata_options.http_endpoint = Switch::Disabled);
    let reply = turn.answer(request, host.now, [0; 6]).unwrap();
    assert_eq!((reply.status, reply.hop_limit), (200, Some(HopLimit::TWO)));
    assert_eq!(host.answer(&from, request).unwrap().status, 403);
}

/// The nonce is an argument, so the plane is a function: equal arguments give equal bytes.
#[test]
fn equal_requests_with_equal_nonces_get_equal_tokens() {
    let host = Host::with(|_| {});
    let token = |nonce| {
        let request = RawRequest {
            method: "PUT",
            target: TOKEN_PATH,
            version: HttpVersion::Http11,
            headers: &[("host", b"imds".as_slice()), (TTL, b"60")],
            body: Body::Empty,
        };
        let from = origin("demo", Family::Ipv4);
        let reply = host.guest.answer(&from, request, host.now, nonce);
        reply.unwrap().body
    };
    assert_eq!(token([1; 6]), token([1; 6]));
    assert_ne!(token([1; 6]), token([2; 6]));
}

#[test]
fn an_option_change_does_not_change_last_modified() {
    let mut host = Host::with(|_| {});
    let modified = |host: &Host| {
        host.get("/latest/user-data")
            .header("Last-Modified")
            .unwrap()
            .to_string()
    };
    let before = modified(&host);
    host.later(60.0);
    host.change(|i| i.metadata_options.http_put_response_hop_limit = HopLimit::ONE);
    assert_eq!(modified(&host), before);
    host.change(|i| i.imds.user_data_text = Some("new".into()));
    assert_ne!(modified(&host), before);
}

#[test]
fn an_override_that_conflicts_with_the_tree_is_a_fault() {
    let faults = |overrides: &str| {
        let instance = instance(|i| i.imds.overrides = serde_json::from_str(overrides).unwrap());
        tree::faults(&instance).len()
    };
    for good in [
        r#"{"meta-data/instance-id": "x"}"#,
        r#"{"meta-data/placement": null}"#,
        r#"{"meta-data/new/leaf": "x"}"#,
        r#"{"meta-data/network/interfaces/macs/02:00:00:00:00:10/new": "x"}"#,
        r#"{"meta-data/block-device-mapping/swap": "sdb"}"#,
    ] {
        assert_eq!(faults(good), 0, "{good}");
    }
    for bad in [
        r#"{"meta-data/instance-id/x": "1"}"#,
        r#"{"meta-data/placement": "x"}"#,
        r#"{"meta-data/placement/region/x/y": "1"}"#,
        r#"{"meta-data/network/interfaces/macs": "x"}"#,
        r#"{"meta-data/block-device-mapping/swap/x": "1"}"#,
        r#"{"meta-data/public-keys/0": "x"}"#,
    ] {
        assert_eq!(faults(bad), 1, "{bad}");
    }
    let timeline = r#"[{"At": "2026-06-01T00:00:00Z", "Set": {"Override": {"Path": "meta-data/placement", "Value": "x"}}}]"#;
    let later = instance(|i| i.imds.timeline = serde_json::from_str(timeline).unwrap());
    assert_eq!(
        tree::faults(&later)[0].field,
        "Imds.Timeline[0].Set.Override.Path"
    );
}
