//! The STS of moto, a server by other authors.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use imdsd::clock::Moment;
use imdsd::config::demo_instance;
use imdsd::credentials::{
    Cache, Clock, CredentialStatus, Credentials, RefreshTarget, Refresher, Sources,
    WebIdentityRequest,
};
use imdsd::guest::gate::{KeyMaterial, KeyRing, TokenAuthority};
use imdsd::guest::request::HostRule;
use imdsd::guest::{Guest, Precomputed};
use imdsd::http::{Body, HttpVersion, RawRequest};
use imdsd::instance::{Attachment, CredentialSource, HttpTokens, InstanceId, Role, RoleDelivery};
use imdsd::origin::{Family, Origin};
use imdsd::registry::memory::MemoryStore;
use imdsd::registry::{Entry, Registry};
use jiff::{SignedDuration, Timestamp};

use super::support::{PATIENCE, free_port, require, venv_python};
use super::{assume_role_source, launcher, role, web_identity_source, write_key};

struct Moto {
    child: Child,
    address: SocketAddr,
}

impl Moto {
    fn start(program: PathBuf, home: &Path) -> Moto {
        let address = free_port("127.0.0.1:0");
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Python starts slowly on a busy machine.
        let deadline = Instant::now() + 9 * PATIENCE;
        while TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            let status = child.try_wait().unwrap();
            assert!(
                Instant::now() < deadline && status.is_none(),
                "moto does not listen; {status:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Moto { child, address }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The system's clock, advanced by a number of seconds. Advancing it further ends the sleeps that
/// are due.
#[derive(Clone, Default)]
struct AdvancedClock(Arc<AtomicI64>);

impl Clock for AdvancedClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn jitter(&self) -> f64 {
        0.0
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = self.clone();
        let end = clock.now() + SignedDuration::try_from(duration).unwrap();
        Box::pin(async move {
            while clock.now() < end {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }
}

/// The guests of both instances, which read their credentials in a loop through the whole data
/// plane.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, usize, usize)>,
}

impl Reader {
    fn start(registry: Arc<Registry>, cache: Cache, clock: AdvancedClock) -> Reader {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let moment = || Moment {
                since_boot: Duration::from_secs(1),
                wall: clock.now(),
            };
            let keys = KeyMaterial {
                secret: [1; 32],
                offset: 0,
            };
            let tokens = Arc::new(TokenAuthority::new(&KeyRing::new(keys, moment())));
            let made = Precomputed {
                credentials: cache,
                ..Precomputed::default()
            };
            let guest = Guest::new(registry, tokens, made, HostRule::Known(Vec::new()));
            let ask = |instance: &str, method: &str, target: &str, header: (&str, &str)| {
                let origin = Origin {
                    attachment: Attachment::Listener(instance.into()),
                    family: Family::Ipv4,
                    peer: "127.0.0.1:1".parse().unwrap(),
                    holder: None,
                };
                let raw = RawRequest {
                    method,
                    target,
                    version: HttpVersion::Http11,
                    headers: &[
                        ("host", b"imds".as_slice()),
                        (header.0, header.1.as_bytes()),
                    ],
                    body: Body::Empty,
                };
                match guest.answer(&origin, raw, moment(), [0; 6]) {
                    Some(reply) => (
                        reply.status,
                        String::from_utf8(reply.body.to_vec()).unwrap(),
                    ),
                    None => (0, String::new()),
                }
            };
            let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "21600");
            let (mut reads, mut failures, mut keys) = (0, 0, BTreeSet::new());
            while !stopped.load(Ordering::Relaxed) {
                for instance in ["i-00000001", "i-00000002"] {
                    let (_, token) = ask(instance, "PUT", "/latest/api/token", ttl);
                    for header in [
                        ("user-agent", "test"),
                        ("x-aws-ec2-metadata-token", token.as_str()),
                    ] {
                        let path = "/latest/meta-data/iam/security-credentials/";
                        let (_, role) = ask(instance, "GET", path, header);
                        let (status, body) = ask(instance, "GET", &format!("{path}{role}"), header);
                        let body: serde_json::Value =
                            serde_json::from_str(&body).unwrap_or_default();
                        reads += 1;
                        match (status, body["Code"].as_str()) {
                            (200, Some("Success")) => {
                                keys.insert(body["AccessKeyId"].to_string());
                            }
                            _ => failures += 1,
                        }
                    }
                }
            }
            (reads, failures, keys.len())
        });
        Reader { stop, thread }
    }

    /// Returns the numbers of reads, of failed reads, and of different access keys.
    fn stop(self) -> (usize, usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "the condition does not hold");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two instances, one for each STS action, with two sessions each. Then the STS stops.
#[tokio::test]
#[ignore = "needs moto in .venv; tests/all runs it"]
async fn sessions_from_moto_differ_and_are_renewed_and_stay_valid_without_it_until_they_expire() {
    let program = venv_python().with_file_name("moto_server");
    require(program.exists(), "moto_server in .venv");
    let directory = tempfile::tempdir().unwrap();
    let mut moto = Moto::start(program, directory.path());
    let endpoint = format!("http://{}", moto.address);

    // 1. Four sessions, all different.
    let key_file = directory.path().join("key.toml");
    write_key(&key_file, None);
    let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
    for (id, source) in [
        (
            "i-00000001",
            CredentialSource::AssumeRole(assume_role_source(&endpoint, &key_file)),
        ),
        (
            "i-00000002",
            CredentialSource::AssumeRoleWithWebIdentity(web_identity_source(&endpoint)),
        ),
    ] {
        let mut instance = demo_instance();
        instance.instance_id = InstanceId::parse(id).unwrap();
        instance.imds.attachments = vec![Attachment::Listener(id.into()).into()];
        instance.imds.role = Some(Box::new(role(source)));
        instance.metadata_options.http_tokens = HttpTokens::Optional;
        registry.register(instance, Timestamp::now()).await.unwrap();
    }
    let target = |entry: &Arc<Entry>| RefreshTarget {
        instance: entry.instance.instance_id.clone(),
        launch_epoch: entry.launch_epoch,
        account: entry.instance.owner_id().to_string(),
        role: Role::clone(entry.instance.imds.role.as_ref().unwrap()),
        deliveries: vec![RoleDelivery::V1, RoleDelivery::V2],
    };
    let all: Vec<RefreshTarget> = registry.snapshot().entries().map(target).collect();
    let (cache, clock) = (Cache::new(), AdvancedClock::default());
    let mint = Arc::new(|request: &WebIdentityRequest| {
        format!("e30.{}.c2ln", request.delivery.as_str().replace('.', "A"))
    });
    let refresher = Refresher::start(
        cache.clone(),
        Arc::new(Sources {
            mint,
            launcher: launcher(),
        }),
        Arc::new(clock.clone()),
        all.iter().cloned().collect(),
    );
    let statuses = |now: Timestamp| -> Option<Vec<CredentialStatus>> {
        let both = |target: &RefreshTarget| {
            [RoleDelivery::V1, RoleDelivery::V2].map(|delivery| {
                cache.read(
                    &target.instance,
                    target.launch_epoch,
                    &target.role,
                    delivery,
                    now,
                )
            })
        };
        all.iter().flat_map(both).collect()
    };
    let credentials = |now: Timestamp| -> Option<Vec<Arc<Credentials>>> {
        let success = |status| match status {
            CredentialStatus::Success { credentials, .. } => Some(credentials),
            CredentialStatus::Failure { .. } => None,
        };
        statuses(now)?.into_iter().map(success).collect()
    };
    let first = until(|| credentials(clock.now())).await;
    let mut ids: Vec<_> = first
        .iter()
        .map(|credentials| credentials.access_key_id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{first:?}");
    for credentials in &first {
        let validity = credentials.expiration.duration_since(clock.now()).as_secs();
        assert!((800..=901).contains(&validity), "{validity}");
        assert!(
            !credentials.session_token.expose().is_empty()
                && !credentials.secret_access_key.expose().is_empty()
        );
    }

    // From here on the guests read without a pause, with and without a token.
    let reader = Reader::start(registry, cache.clone(), clock.clone());

    // On a busy machine moto's first answers may have been too late. Those failures do not count.
    let failed = || refresher.counters().failed.load(Ordering::Relaxed);
    let failed_before = failed();

    // 2. After half their validity they are renewed. moto uses its own clock, so the new ones are valid for half as long.
    clock.0.store(460, Ordering::Relaxed);
    let second = until(|| {
        let now = credentials(clock.now())?;
        now.iter()
            .zip(&first)
            .all(|(now, before)| now.access_key_id != before.access_key_id)
            .then_some(now)
    })
    .await;
    assert_eq!(
        (
            failed() - failed_before,
            refresher.counters().fetched.load(Ordering::Relaxed)
        ),
        (0, 8)
    );

    // 3. moto stops: its credentials stay in service.
    moto.child.kill().unwrap();
    moto.child.wait().unwrap();
    clock.0.store(460 + 230, Ordering::Relaxed);
    until(|| (failed() >= failed_before + 4).then_some(())).await;
    assert_eq!(credentials(clock.now()).unwrap(), second);
    let end = second
        .iter()
        .map(|credentials| credentials.expiration)
        .min()
        .unwrap();
    assert_eq!(
        credentials(end - SignedDuration::from_millis(1)).unwrap(),
        second
    );

    let (reads, failures, keys) = reader.stop();
    println!(
        "{reads} reads while credentials were renewed and moto was killed, {failures} failed, {keys} access keys seen"
    );
    assert!(
        reads > 40 && failures == 0,
        "{failures} of {reads} reads failed"
    );
    assert_eq!(
        keys, 8,
        "two sessions of two instances, before and after the renewal"
    );

    // 4. They expire.
    let last = second
        .iter()
        .map(|credentials| credentials.expiration)
        .max()
        .unwrap();
    for status in statuses(last).unwrap() {
        let CredentialStatus::Failure { code, message, .. } = status else {
            panic!("{status:?}")
        };
        assert_eq!(code, "InternalError");
        assert!(!message.contains("127.0.0.1"), "{message}");
    }
    refresher.stop().await;
}
