//! The cost of a request in the guest plane, whole and by its parts, without sockets:
//! `cargo bench --profile dist --bench guest`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use imdsd::clock::Moment;
use imdsd::config::demo_instance;
use imdsd::guest::gate::{KeyMaterial, KeyRing, TokenAuthority, Visit};
use imdsd::guest::path::DataPath;
use imdsd::guest::request::{GuestRequest, HostRule};
use imdsd::guest::{Guest, Precomputed};
use imdsd::http::{Body, HttpVersion, RawRequest};
use imdsd::instance::Attachment;
use imdsd::origin::{Family, Origin};
use imdsd::registry::Registry;
use imdsd::registry::memory::MemoryStore;

const INSTANCE_ID: &str = "/latest/meta-data/instance-id";
const TOKEN: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// The demo instance, and where a request to it comes from.
struct Plane {
    registry: Arc<Registry>,
    tokens: Arc<TokenAuthority>,
    guest: Guest,
    origin: Origin,
    now: Moment,
}

impl Plane {
    fn new() -> Plane {
        let now = Moment::now();
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(registry.register(demo_instance(), now.wall))
            .unwrap();
        let keys = KeyMaterial {
            secret: [1; 32],
            offset: 0,
        };
        let tokens = Arc::new(TokenAuthority::new(&KeyRing::new(keys, now)));
        Plane {
            guest: Guest::new(
                registry.clone(),
                tokens.clone(),
                Precomputed::default(),
                HostRule::Known(Vec::new()),
            ),
            registry,
            tokens,
            origin: Origin {
                attachment: Attachment::Listener("demo".into()),
                family: Family::Ipv4,
                peer: "127.0.0.1:40000".parse().unwrap(),
                holder: None,
            },
            now,
        }
    }

    /// Answers a request; returns the length of the body.
    fn answer(&self, request: RawRequest<'_>) -> Option<usize> {
        let turn = self.guest.turn(&self.origin)?;
        let reply = turn.answer(request, self.now, [0; 6])?;
        Some(black_box(&reply).body.len())
    }

    fn token(&self) -> String {
        let headers = headers(TTL_HEADER, "21600");
        let reply = self
            .guest
            .answer(&self.origin, raw("PUT", TOKEN, &headers), self.now, [0; 6])
            .expect("the demo instance is served");
        String::from_utf8(reply.body.to_vec()).unwrap()
    }
}

fn headers<'a>(name: &'a str, value: &'a str) -> [(&'a str, &'a [u8]); 3] {
    [
        ("host", b"169.254.169.254"),
        ("user-agent", b"bench"),
        (name, value.as_bytes()),
    ]
}

fn raw<'a>(method: &'a str, target: &'a str, headers: &'a [(&'a str, &'a [u8])]) -> RawRequest<'a> {
    RawRequest {
        method,
        target,
        version: HttpVersion::Http11,
        headers,
        body: Body::Empty,
    }
}

/// Requests, from the look-up of the instance to the reply.
fn whole(c: &mut Criterion) {
    let plane = Plane::new();
    let token = plane.token();
    let with_token = headers(TOKEN_HEADER, &token);
    for (name, target) in [
        ("GET instance-id", INSTANCE_ID),
        ("GET meta-data/", "/latest/meta-data/"),
        (
            "GET role credentials",
            "/latest/meta-data/iam/security-credentials/demo-role",
        ),
        (
            "GET identity document",
            "/latest/dynamic/instance-identity/document",
        ),
        ("GET 404", "/latest/meta-data/nope"),
    ] {
        c.bench_function(name, |b| {
            b.iter(|| plane.answer(raw("GET", black_box(target), &with_token)))
        });
    }
    let garbage = headers(TOKEN_HEADER, "garbage");
    c.bench_function("GET 401", |b| {
        b.iter(|| plane.answer(raw("GET", "/", &garbage)))
    });
    let lifetime = headers(TTL_HEADER, "21600");
    c.bench_function("PUT token", |b| {
        b.iter(|| plane.answer(raw("PUT", TOKEN, &lifetime)))
    });
}

/// The steps of a GET with a token.
fn parts(c: &mut Criterion) {
    let plane = Plane::new();
    let token = plane.token();
    let with_token = headers(TOKEN_HEADER, &token);
    let hosts = HostRule::Known(Vec::new());
    c.bench_function("part: find the instance", |b| {
        b.iter(|| plane.registry.entry_at(black_box(&plane.origin)))
    });
    c.bench_function("part: read the headers", |b| {
        b.iter(|| GuestRequest::read(black_box(raw("GET", INSTANCE_ID, &with_token)), &hosts))
    });
    c.bench_function("part: read the path", |b| {
        b.iter(|| DataPath::parse(black_box(INSTANCE_ID)))
    });
    let entry = plane.registry.entry_at(&plane.origin);
    let visit = Visit::new(entry.expect("it is served"), Family::Ipv4);
    let request = GuestRequest::read(raw("GET", INSTANCE_ID, &with_token), &hosts);
    let request = request.unwrap_or_else(|_| panic!("the request can be read"));
    c.bench_function("part: verify the token at the gate", |b| {
        b.iter(|| {
            visit
                .admit(black_box(&request), &plane.tokens, plane.now)
                .is_ok()
        })
    });
}

criterion_group!(benches, whole, parts);
criterion_main!(benches);
