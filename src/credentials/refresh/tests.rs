//! The refresher with fake clocks and sources.

use std::collections::VecDeque;
use std::future::pending;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::schedule::later;
use super::target::SessionKey;
use super::*;
use crate::credentials::{
    Cache, CredentialStatus, Fetch, FetchError, FetchFuture, FetchedCredentials, RoleSession,
};
use crate::instance::{
    CredentialSource, InstanceId, ProcessSource, Role, RoleDelivery, StaticCredentials,
    StaticSource, Switch,
};
use crate::secret::Secret;

fn time(text: &str) -> Timestamp {
    format!("2026-05-01T{text}Z").parse().unwrap()
}

const ID: &str = "i-12345678";

fn target(id: &str, command: &str, deliveries: &[RoleDelivery]) -> RefreshTarget {
    let source = ProcessSource {
        command: vec![command.to_string()],
        timeout_seconds: None,
    };
    let source = CredentialSource::Process(source);
    let role = Role {
        role_name: "r".to_string(),
        source,
        v1: Switch::Enabled,
    };
    let instance = InstanceId::parse(id).unwrap();
    RefreshTarget {
        instance,
        launch_epoch: 7,
        account: "123456789012".into(),
        role,
        deliveries: deliveries.to_vec(),
    }
}

fn good(id: &str, end: &str) -> Result<FetchedCredentials, FetchError> {
    let (secret_access_key, session_token) = (Secret::new("hunter2"), Secret::default());
    let expiration = Some(time(end));
    Ok(FetchedCredentials {
        access_key_id: id.to_string(),
        secret_access_key,
        session_token,
        expiration,
    })
}

/// A clock that each sleep advances, and a source that records the times of its fetches.
struct FakeSource {
    now: Mutex<Timestamp>,
    script: Mutex<VecDeque<Result<FetchedCredentials, FetchError>>>,
    fetches: Mutex<Vec<(RoleDelivery, Timestamp)>>,
}

impl FakeSource {
    fn new(
        script: impl IntoIterator<Item = Result<FetchedCredentials, FetchError>>,
    ) -> Arc<FakeSource> {
        let script = Mutex::new(script.into_iter().collect());
        Arc::new(FakeSource {
            now: Mutex::new(time("12:00:00")),
            script,
            fetches: Mutex::default(),
        })
    }
}

struct FakeClock(Arc<FakeSource>);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        *self.0.now.lock()
    }

    fn jitter(&self) -> f64 {
        0.0
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let fake = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut now = fake.now.lock();
            *now = later(*now, duration.try_into().unwrap());
        })
    }
}

/// Returns the outcomes of the script, then never again.
impl Fetch for FakeSource {
    fn fetch<'a>(&'a self, session: &'a RoleSession, now: Timestamp) -> FetchFuture<'a> {
        self.fetches.lock().push((session.delivery, now));
        let outcome = self.script.lock().pop_front();
        Box::pin(async move {
            match outcome {
                Some(outcome) => outcome,
                None => pending().await,
            }
        })
    }
}

/// The targets of a refresher, which are replaced as a whole.
struct AllTargets {
    current: Mutex<Vec<RefreshTarget>>,
    targets: RefreshTargets,
}

impl AllTargets {
    fn new(first: Vec<RefreshTarget>) -> AllTargets {
        AllTargets {
            targets: first.iter().cloned().collect(),
            current: Mutex::new(first),
        }
    }

    fn replace(&self, all: Vec<RefreshTarget>) {
        let before = std::mem::replace(&mut *self.current.lock(), all.clone());
        before
            .iter()
            .for_each(|target| self.targets.set(&target.instance, None));
        all.into_iter()
            .for_each(|target| self.targets.set(&target.instance.clone(), Some(target)));
    }
}

fn start(fake: &Arc<FakeSource>, first: Vec<RefreshTarget>) -> (Cache, Refresher, AllTargets) {
    let (cache, all) = (Cache::new(), AllTargets::new(first));
    let clock = Arc::new(FakeClock(Arc::clone(fake)));
    let source: Arc<dyn Fetch> = Arc::<FakeSource>::clone(fake);
    (
        cache.clone(),
        Refresher::start(cache, source, clock, all.targets.clone()),
        all,
    )
}

/// Lets the other tasks run until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the condition does not hold");
}

fn read(
    cache: &Cache,
    target: &RefreshTarget,
    delivery: RoleDelivery,
    now: Timestamp,
) -> Option<String> {
    let status = cache.read(
        &target.instance,
        target.launch_epoch,
        &target.role,
        delivery,
        now,
    )?;
    Some(match status {
        CredentialStatus::Success { credentials, .. } => credentials.access_key_id.clone(),
        CredentialStatus::Failure { code, .. } => code.to_string(),
    })
}

/// A source that works, fails until the old credentials have expired and longer, and works again.
#[tokio::test]
async fn a_failing_source_leaves_valid_credentials_in_service_until_they_expire() {
    let refused = || Err(FetchError::refused("AccessDenied"));
    let mut script = vec![good("A", "13:00:00"), good("B", "13:30:00")];
    script.extend((0..70).map(|_| refused()));
    script.push(good("C", "18:00:00"));
    let fake = FakeSource::new(script);
    let target = target(ID, "/bin/true", &[RoleDelivery::V2]);
    let (cache, refresher, _send) = start(&fake, vec![target.clone()]);

    let mut changes = Vec::<(String, Timestamp)>::new();
    for _ in 0..1_000_000 {
        let now = *fake.now.lock();
        let Some(status) = read(&cache, &target, RoleDelivery::V2, now) else {
            tokio::task::yield_now().await;
            continue;
        };
        if changes.last().is_none_or(|(last, _)| *last != status) {
            changes.push((status.clone(), now));
        }
        if status == "C" {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (statuses, times): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
    assert_eq!(statuses, ["A", "B", "AssumeRoleUnauthorizedAccess", "C"]);
    assert_eq!(times[..2], [time("12:00:00"), time("12:30:00")]);
    assert!(
        times[2] >= time("13:30:00") && times[2] <= time("13:31:00"),
        "{times:?}"
    );

    let fetches: Vec<_> = fake.fetches.lock().iter().map(|(_, at)| *at).collect();
    let gaps: Vec<_> = fetches
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).as_secs())
        .collect();
    assert_eq!(gaps[..10], [1800, 1800, 1, 2, 4, 8, 16, 30, 30, 30]);
    let counters = refresher.counters();
    assert_eq!(
        (
            counters.fetched.load(Ordering::Relaxed),
            counters.failed.load(Ordering::Relaxed)
        ),
        (3, 70)
    );
    refresher.stop().await;
}

#[tokio::test]
async fn a_session_ends_when_no_target_needs_it() {
    let ends = "18:00:00";
    let fake = FakeSource::new(["A", "B", "C", "D", "E"].map(|id| good(id, ends)));
    let both = target(ID, "/bin/true", &[RoleDelivery::V1, RoleDelivery::V2]);
    let (cache, refresher, send) = start(&fake, vec![both.clone()]);
    let now = time("12:00:00");
    let has = |target: &RefreshTarget, delivery| read(&cache, target, delivery, now);
    until(|| has(&both, RoleDelivery::V1).is_some() && has(&both, RoleDelivery::V2).is_some())
        .await;
    let first = fake.fetches.lock().len();
    assert_ne!(has(&both, RoleDelivery::V1), has(&both, RoleDelivery::V2));

    // Tokens required: v1 is removed, v2 stays as it was.
    let v2 = RefreshTarget {
        deliveries: vec![RoleDelivery::V2],
        ..both.clone()
    };
    let kept = has(&both, RoleDelivery::V2);
    send.replace(vec![v2.clone()]);
    until(|| has(&both, RoleDelivery::V1).is_none()).await;
    assert_eq!(has(&both, RoleDelivery::V2), kept);
    assert!(
        fake.fetches.lock()[first..]
            .iter()
            .all(|(delivery, _)| *delivery == RoleDelivery::V2)
    );

    // Another source is another session.
    let other = RefreshTarget {
        role: target(ID, "/bin/false", &[]).role,
        ..v2.clone()
    };
    send.replace(vec![other.clone()]);
    until(|| has(&other, RoleDelivery::V2).is_some()).await;
    assert_eq!(has(&v2, RoleDelivery::V2), None);

    // Static credentials are not fetched, and the old session is removed.
    let keys = StaticCredentials {
        access_key_id: "S".into(),
        secret_access_key: Secret::new("s"),
        session_token: Secret::default(),
        expiration: None,
    };
    let mut fixed = v2.clone();
    fixed.role.source = CredentialSource::Static(StaticSource { v1: None, v2: keys });
    send.replace(vec![fixed.clone()]);
    until(|| has(&other, RoleDelivery::V2).is_none()).await;
    assert_eq!(has(&fixed, RoleDelivery::V2), None);
    refresher.stop().await;
}

/// A source whose fetches never end. It records the running ones.
#[derive(Default)]
struct HangingSource(Arc<Mutex<Vec<SessionKey>>>);

/// Removes a fetch from the record on drop.
struct RunningFetch(Arc<Mutex<Vec<SessionKey>>>, SessionKey);

impl Drop for RunningFetch {
    fn drop(&mut self) {
        self.0.lock().retain(|key| *key != self.1);
    }
}

impl Fetch for HangingSource {
    fn fetch<'a>(&'a self, session: &'a RoleSession, _now: Timestamp) -> FetchFuture<'a> {
        let key = (session.instance.clone(), session.delivery);
        self.0.lock().push(key.clone());
        let running = RunningFetch(Arc::clone(&self.0), key);
        Box::pin(async move {
            let _running = running;
            pending().await
        })
    }
}

#[tokio::test]
async fn a_source_has_at_most_four_concurrent_fetches_and_none_after_the_end() {
    let hanging = Arc::new(HangingSource::default());
    let ids: Vec<_> = (0..20).map(|n| format!("i-{n:08x}")).collect();
    let both = [RoleDelivery::V1, RoleDelivery::V2];
    let mut all: Vec<_> = ids
        .iter()
        .map(|id| target(id, "/bin/true", &both))
        .collect();
    // The instances of another program do not wait for the hanging ones.
    all.push(target("i-ffffffff", "/bin/other", &both));
    let send = AllTargets::new(all.clone());
    let refresher = Refresher::start(
        Cache::new(),
        Arc::<HangingSource>::clone(&hanging),
        Arc::new(SystemClock),
        send.targets.clone(),
    );
    let running = || hanging.0.lock().clone();
    until(|| running().len() == 6).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let mut keys = running();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 6);
    assert_eq!(
        keys.iter()
            .filter(|(id, _)| id.as_str() == "i-ffffffff")
            .count(),
        2
    );

    // The same targets change nothing. Removing one with a running fetch makes room for another.
    send.replace(all.clone());
    send.replace(
        all.into_iter()
            .filter(|target| target.instance != keys[0].0)
            .collect(),
    );
    until(|| running().iter().all(|(id, _)| *id != keys[0].0) && running().len() == 6).await;
    refresher.stop().await;
    assert!(running().is_empty());

    let one = vec![target(ID, "/bin/true", &[RoleDelivery::V2])];
    let dropped = Refresher::start(
        Cache::new(),
        Arc::<HangingSource>::clone(&hanging),
        Arc::new(SystemClock),
        one.into_iter().collect(),
    );
    until(|| running().len() == 1).await;
    drop(dropped);
    until(|| running().is_empty()).await;
}
