//! The cost of a request in the guest plane, without sockets: `cargo bench --profile dist --bench guest`.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use imdsd::clock::Moment;
use imdsd::config::demo_instance;
use imdsd::guest::gate::{KeyMaterial, KeyRing, TokenAuthority};
use imdsd::guest::request::HostRule;
use imdsd::guest::{Guest, Precomputed};
use imdsd::http::{Body, HttpVersion, RawRequest};
use imdsd::instance::Attachment;
use imdsd::origin::{Family, Origin};
use imdsd::registry::Registry;
use imdsd::registry::memory::MemoryStore;

fn handle(c: &mut Criterion) {
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
    let guest = Guest::new(
        registry,
        Arc::new(TokenAuthority::new(&KeyRing::new(keys, now))),
        Precomputed::default(),
        HostRule::Known(Vec::new()),
    );
    let origin = Origin {
        attachment: Attachment::Listener("demo".into()),
        family: Family::Ipv4,
        peer: "127.0.0.1:40000".parse().unwrap(),
        holder: None,
    };
    let ask = |method: &str, target: &str, name: &str, value: &str| {
        let headers = [
            ("host", b"169.254.169.254".as_slice()),
            ("user-agent", b"bench"),
            (name, value.as_bytes()),
        ];
        let request = RawRequest {
            method,
            target,
            version: HttpVersion::Http11,
            headers: &headers,
            body: Body::Empty,
        };
        guest.answer(&origin, request, now, [0; 6])
    };
    let issued = ask(
        "PUT",
        "/latest/api/token",
        "x-aws-ec2-metadata-token-ttl-seconds",
        "21600",
    )
    .expect("the demo instance is served");
    let token = String::from_utf8(issued.body.to_vec()).unwrap();

    for (name, target) in [
        ("GET instance-id", "/latest/meta-data/instance-id"),
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
            b.iter(|| ask("GET", target, "x-aws-ec2-metadata-token", &token))
        });
    }
    c.bench_function("GET 401", |b| {
        b.iter(|| ask("GET", "/", "x-aws-ec2-metadata-token", "garbage"))
    });
    c.bench_function("PUT token", |b| {
        b.iter(|| {
            ask(
                "PUT",
                "/latest/api/token",
                "x-aws-ec2-metadata-token-ttl-seconds",
                "21600",
            )
        });
    });
}

criterion_group!(benches, handle);
criterion_main!(benches);
