//! The metadata tree from outside: row by row of what EC2 is known to serve, and as a whole for
//! generated instances.

#![allow(missing_docs)]

mod generated;
mod mock;
mod table;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use imdsd::clock::Moment;
use imdsd::guest::gate::{KeyMaterial, KeyRing, TokenAuthority};
use imdsd::guest::request::HostRule;
use imdsd::guest::{Guest, Precomputed};
use imdsd::http::{Body, HttpVersion, RawRequest};
use imdsd::identity::Identity;
use imdsd::instance::{Attachment, Instance};
use imdsd::origin::{Family, Origin};
use imdsd::registry::Registry;
use imdsd::registry::memory::MemoryStore;
use jiff::Timestamp;

/// One key for all tests: generating one is slow.
static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(Timestamp::now()).unwrap());

/// A guest's view of one instance, without sockets.
pub struct Host {
    guest: Guest,
    now: Moment,
    token: String,
}

/// What a guest received; status 0 is silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(bytes)")
    }
}

impl Host {
    /// Serves an instance on the listener that it names, at 2026-05-17T08:30:00Z.
    pub fn of(instance: Instance) -> Host {
        let now = Moment {
            since_boot: Duration::from_secs(77),
            wall: "2026-05-17T08:30:00Z".parse().unwrap(),
        };
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(registry.register(instance, now.wall))
            .unwrap();
        let precomputed = Precomputed::default();
        let snapshot = registry.snapshot();
        let documents = snapshot
            .entries()
            .map(|entry| (entry.instance.instance_id.clone(), &entry.identity_document));
        precomputed
            .signatures
            .sign_missing(&IDENTITY, documents, now.wall)
            .unwrap();
        let guest = guest_over(registry, precomputed, now);
        let mut host = Host {
            guest,
            now,
            token: String::new(),
        };
        let put = host.ask(
            "PUT",
            "/latest/api/token",
            &[("x-aws-ec2-metadata-token-ttl-seconds", "21600")],
        );
        host.token = String::from_utf8(put.body).unwrap();
        host
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Seen {
        let origin = Origin {
            attachment: Attachment::Listener("demo".into()),
            family: Family::Ipv4,
            peer: "127.0.0.1:40000".parse().unwrap(),
            holder: None,
        };
        let headers: Vec<(&str, &[u8])> = [("host", "imds")]
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
        match self.guest.answer(&origin, request, self.now, [0; 6]) {
            None => Seen {
                status: 0,
                headers: Vec::new(),
                body: Vec::new(),
            },
            Some(reply) => Seen {
                status: reply.status,
                headers: reply
                    .headers
                    .as_slice()
                    .iter()
                    .map(|(name, value)| (*name, value.to_string()))
                    .collect(),
                body: reply.body.to_vec(),
            },
        }
    }

    /// Reads with a token.
    pub fn get(&self, target: &str) -> Seen {
        self.ask("GET", target, &[("x-aws-ec2-metadata-token", &self.token)])
    }

    /// Returns every path that the listings of a directory lead to, directories with a slash.
    pub fn crawl(&self, directory: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for line in self.get(directory).text().lines() {
            let below = match line.split_once('=') {
                Some((number, _)) if directory.ends_with("/public-keys/") => {
                    format!("{directory}{number}/")
                }
                _ => format!("{directory}{}", line.replace('%', "%25")),
            };
            if below.ends_with('/') {
                found.extend(self.crawl(&below));
            }
            found.insert(below);
        }
        found
    }
}

fn guest_over(registry: Arc<Registry>, precomputed: Precomputed, now: Moment) -> Guest {
    let keys = KeyMaterial {
        secret: [1; 32],
        offset: 0,
    };
    Guest::new(
        registry,
        Arc::new(TokenAuthority::new(&KeyRing::new(keys, now))),
        precomputed,
        HostRule::Known(Vec::new()),
    )
}
