//! Keeps every wanted role session alive: one task for each, which fetches, waits and fetches again.
//!
//! ```text
//!            ┌── fetched: until half to two thirds of their life have passed ──┐
//!   fetch ◄──┤                                                                 ├──► fetch
//!            └── failed: 1 s, 2 s, 4 s … 60 s, whatever is still valid ────────┘
//! ```
//!
//! The times are functions of their arguments ([`refresh_at`], [`retry_after`]); clock, chance and sleep are a [`Clock`].

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::{Cache, Credentials, FailureKind, Fetch, FetchError, Fetched, Reading, RoleSession};
use crate::instance::{CredentialSource, InstanceId, Role, RoleDelivery};

/// Calls at once of one source, which is a program or an STS endpoint. One that hangs keeps only its own instances waiting.
const MAX_FETCHES_PER_SOURCE: usize = 4;
/// Calls at once, over all sources.
const MAX_FETCHES: usize = 64;
/// EC2 has new credentials at least this long before the old ones expire.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// How much earlier than that chance may make it, so that a host's instances do not all come at once.
const AHEAD_JITTER: SignedDuration = SignedDuration::from_mins(1);
/// The least time between two fetches of one session, however short its credentials live.
const SPACING: SignedDuration = SignedDuration::from_secs(1);
/// Credentials without an end of their own: how often they are fetched anew, and how long they are shown to last.
const ENDLESS: (SignedDuration, SignedDuration) =
    (SignedDuration::from_hours(1), SignedDuration::from_hours(6));
/// The longest wait for a renewal, however long credentials are said to live: keys are withdrawn, too.
const MAX_WAIT: SignedDuration = SignedDuration::from_hours(12);
/// The longest wait between a failure and the next try.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// The longest sleep: the wall clock is looked at after it, since it may have been set, or the host suspended.
const MAX_SLEEP: SignedDuration = SignedDuration::from_secs(60);

/// A role whose credentials are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The instance.
    pub instance: InstanceId,
    /// The launch of the instance; another launch is another session.
    pub launch_epoch: u64,
    /// The instance's account.
    pub account: String,
    /// The role. One with static credentials is passed over.
    pub role: Role,
    /// Those that a guest could read: with tokens `required`, or without credentials for v1, only `V2`.
    pub deliveries: Vec<RoleDelivery>,
}

/// Time and chance, as arguments.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// A number from 0 to 1, another one each time.
    fn jitter(&self) -> f64;
    /// Waits.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The system's clock and chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// How many fetches there were.
#[derive(Debug, Default)]
pub struct Counters {
    /// Those that brought credentials.
    pub fetched: AtomicU64,
    /// Those that failed.
    pub failed: AtomicU64,
}

/// The owner of the tasks. Dropping it ends them; [`Refresher::stop`] also waits until they are gone.
pub struct Refresher {
    ending: watch::Sender<bool>,
    task: Task,
    counters: Arc<Counters>,
}

impl Refresher {
    /// Keeps `cache` filled with what `wanted` says, now and after each change of it.
    pub fn start(
        cache: Cache,
        source: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
        mut wanted: watch::Receiver<Vec<Wanted>>,
    ) -> Refresher {
        let counters = Arc::new(Counters::default());
        let permits = Semaphore::new(MAX_FETCHES);
        let keeper = Arc::new(Keeper {
            cache,
            source,
            clock,
            permits,
            lanes: Mutex::default(),
            counters: Arc::clone(&counters),
        });
        let (ending, mut is_ending) = watch::channel(false);
        let task = Task::spawn(async move {
            let mut running = Running::new();
            loop {
                let sessions = sessions(&wanted.borrow_and_update());
                reconcile(&keeper, &mut running, sessions).await;
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { break },
                    _ = is_ending.wait_for(|ending| *ending) => break,
                }
            }
            end_all(running.into_values().collect()).await;
        });
        Refresher {
            ending,
            task,
            counters,
        }
    }

    /// How many fetches there were so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Ends every fetch and every program under way, and waits until they are gone. The cache keeps what it has.
    pub async fn stop(mut self) {
        self.ending.send_replace(true);
        let _ = (&mut self.task.0).await;
    }
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Key = (InstanceId, RoleDelivery);
type Running = HashMap<Key, (Arc<RoleSession>, Task)>;

/// The sessions that `wanted` asks for.
fn sessions(wanted: &[Wanted]) -> BTreeMap<Key, RoleSession> {
    let mut sessions = BTreeMap::new();
    for Wanted {
        instance,
        launch_epoch,
        account,
        role,
        deliveries,
    } in wanted
    {
        if matches!(role.source, CredentialSource::Static(_)) {
            continue;
        }
        for &delivery in deliveries {
            let session = RoleSession {
                instance: instance.clone(),
                launch_epoch: *launch_epoch,
                account: account.clone(),
                role_name: role.role_name.clone(),
                source: role.source.clone(),
                delivery,
            };
            sessions.insert((instance.clone(), delivery), session);
        }
    }
    sessions
}

/// Ends what is no longer wanted as it is, then begins what is not running yet.
async fn reconcile(
    keeper: &Arc<Keeper>,
    running: &mut Running,
    sessions: BTreeMap<Key, RoleSession>,
) {
    let is_gone = |key: &Key, (session, task): &mut (Arc<RoleSession>, Task)| {
        sessions.get(key) != Some(session) || task.0.is_finished()
    };
    let gone: Vec<_> = running
        .extract_if(is_gone)
        .map(|(_, entry)| entry)
        .collect();
    let forgotten: Vec<_> = gone
        .iter()
        .map(|(session, _)| Arc::clone(session))
        .collect();
    // Only when its task is gone can nothing be published for a session any more.
    end_all(gone).await;
    for session in forgotten {
        keeper.cache.remove(&session);
    }
    for (key, session) in sessions {
        running.entry(key).or_insert_with(|| {
            let session = Arc::new(session);
            let keeping = keep(Arc::clone(keeper), Arc::clone(&session));
            (session, Task::spawn(keeping))
        });
    }
}

async fn end_all(tasks: Vec<(Arc<RoleSession>, Task)>) {
    for (_, task) in &tasks {
        task.0.abort();
    }
    for (_, mut task) in tasks {
        let _ = (&mut task.0).await;
    }
}

/// What the tasks share.
struct Keeper {
    cache: Cache,
    source: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
    /// One for each source; as many as documents name.
    lanes: Mutex<HashMap<String, Arc<Semaphore>>>,
    counters: Arc<Counters>,
}

/// How a session stands, as far as an operator is told: once per change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Fresh,
    /// The source fails, and the guest does not notice yet.
    Holding(FailureKind),
    /// The source fails, and there is nothing valid left.
    Empty(FailureKind),
}

/// Keeps one session alive, for ever.
async fn keep(keeper: Arc<Keeper>, session: Arc<RoleSession>) {
    let mut failures = 0;
    let mut standing = Standing::Fresh;
    loop {
        let fetched = keeper.fetch(&session).await;
        let (now, jitter) = (keeper.clock.now(), keeper.clock.jitter());
        let outcome = fetched.and_then(|fetched| {
            let due = refresh_at(now, fetched.expiration, jitter);
            Ok((credentials(fetched, now)?, due))
        });
        let before = standing;
        match outcome {
            Ok((credentials, due)) => {
                keeper.counters.fetched.fetch_add(1, Ordering::Relaxed);
                let expiration = credentials.expiration;
                keeper.cache.publish(&session, Ok(credentials), now);
                failures = 0;
                standing = Standing::Fresh;
                report(
                    &session,
                    before,
                    standing,
                    format_args!("valid until {expiration}, next {due}"),
                );
                keeper.sleep_until(due).await;
            }
            Err(error) => {
                keeper.counters.failed.fetch_add(1, Ordering::Relaxed);
                failures += 1;
                standing = match keeper.cache.publish(&session, Err(error.kind), now) {
                    Reading::Success { .. } => Standing::Holding(error.kind),
                    Reading::Failure { .. } => Standing::Empty(error.kind),
                };
                report(&session, before, standing, format_args!("{error}"));
                keeper.clock.sleep(retry_after(failures, jitter)).await;
            }
        }
    }
}

/// What a source shares with others like it: its program, or its endpoint.
fn lane_of(source: &CredentialSource) -> String {
    match source {
        CredentialSource::Static(_) => String::new(),
        CredentialSource::Process(source) => source.command.join(" "),
        CredentialSource::AssumeRole(source) => source.endpoint.clone(),
        CredentialSource::AssumeRoleWithWebIdentity(source) => source.endpoint.clone(),
    }
}

impl Keeper {
    async fn fetch(&self, session: &RoleSession) -> Result<Fetched, FetchError> {
        let lane = {
            let mut lanes = self.lanes.lock();
            let new = || Arc::new(Semaphore::new(MAX_FETCHES_PER_SOURCE));
            Arc::clone(lanes.entry(lane_of(&session.source)).or_insert_with(new))
        };
        let _turn = lane.acquire().await.expect("the semaphore is never closed");
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        self.source.fetch(session, self.clock.now()).await
    }

    async fn sleep_until(&self, due: Timestamp) {
        loop {
            let left = due.duration_since(self.clock.now());
            if left <= SignedDuration::ZERO {
                return;
            }
            self.clock.sleep(left.min(MAX_SLEEP).unsigned_abs()).await;
        }
    }
}

fn report(
    session: &RoleSession,
    before: Standing,
    standing: Standing,
    what: std::fmt::Arguments<'_>,
) {
    let (instance, role, delivery) = (
        &session.instance,
        &session.role_name,
        session.delivery.as_str(),
    );
    match standing {
        _ if before == standing => debug!(%instance, role, delivery, "{standing:?}: {what}"),
        Standing::Fresh => {
            info!(%instance, role, delivery, "role credentials are fetched again: {what}")
        }
        Standing::Holding(_) => {
            warn!(%instance, role, delivery, "role credentials can't be renewed; the old ones are still valid: {what}");
        }
        Standing::Empty(_) => {
            warn!(%instance, role, delivery, "no valid role credentials; the guest is told so: {what}");
        }
    }
}

/// What a source gave, with an end; refused when they have ended already.
fn credentials(fetched: Fetched, now: Timestamp) -> Result<Credentials, FetchError> {
    let Fetched {
        access_key_id,
        secret_access_key,
        session_token,
        expiration,
    } = fetched;
    let expiration = expiration.unwrap_or_else(|| later(now, ENDLESS.1));
    if expiration <= now {
        let reason = format!(
            "the credentials had expired when they came ({expiration}); is this host's clock right?"
        );
        return Err(FetchError::unavailable(reason));
    }
    Ok(Credentials {
        access_key_id,
        secret_access_key,
        session_token,
        expiration,
    })
}

/// When credentials fetched at `updated` are fetched anew; `jitter` is 0 to 1.
///
/// Half to two thirds into their life, five to six minutes before their end at the latest. Those that live for less than
/// twice that are renewed at half their life.
pub fn refresh_at(updated: Timestamp, expiration: Option<Timestamp>, jitter: f64) -> Timestamp {
    let Some(expiration) = expiration else {
        return later(updated, ENDLESS.0 - AHEAD.mul_f64(jitter));
    };
    let life = expiration.duration_since(updated);
    let ahead = (AHEAD + AHEAD_JITTER.mul_f64(jitter)).min(life / 2);
    let wait = life
        .mul_f64(0.5 + jitter / 6.0)
        .min(life - ahead)
        .min(MAX_WAIT);
    later(updated, wait.max(SPACING))
}

/// How long after the `failures`th failure in a row the next try is made; `jitter` is 0 to 1.
pub fn retry_after(failures: u32, jitter: f64) -> Duration {
    let most = Duration::from_secs(1 << failures.min(6)).min(MAX_RETRY);
    most.mul_f64(0.5 + jitter / 2.0)
}

fn later(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::pending;

    use super::super::Fetching;
    use super::*;
    use crate::instance::{ProcessSource, StaticCredentials, StaticSource, Switch};
    use crate::secret::Secret;

    fn time(text: &str) -> Timestamp {
        format!("2026-05-01T{text}Z").parse().unwrap()
    }

    const ID: &str = "i-12345678";

    fn wanted(id: &str, command: &str, deliveries: &[RoleDelivery]) -> Wanted {
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
        Wanted {
            instance,
            launch_epoch: 7,
            account: "123456789012".into(),
            role,
            deliveries: deliveries.to_vec(),
        }
    }

    fn good(id: &str, end: &str) -> Result<Fetched, FetchError> {
        let (secret_access_key, session_token) = (Secret::new("hunter2"), Secret::default());
        let expiration = Some(time(end));
        Ok(Fetched {
            access_key_id: id.to_string(),
            secret_access_key,
            session_token,
            expiration,
        })
    }

    /// A clock that each sleep moves on, and that keeps a record of when fetches came.
    struct Fake {
        now: Mutex<Timestamp>,
        script: Mutex<VecDeque<Result<Fetched, FetchError>>>,
        fetches: Mutex<Vec<(RoleDelivery, Timestamp)>>,
    }

    impl Fake {
        fn new(script: impl IntoIterator<Item = Result<Fetched, FetchError>>) -> Arc<Fake> {
            let script = Mutex::new(script.into_iter().collect());
            Arc::new(Fake {
                now: Mutex::new(time("12:00:00")),
                script,
                fetches: Mutex::default(),
            })
        }
    }

    struct FakeClock(Arc<Fake>);

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

    /// Answers as the script says, and then no more.
    impl Fetch for Fake {
        fn fetch<'a>(&'a self, session: &'a RoleSession, now: Timestamp) -> Fetching<'a> {
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

    fn start(
        fake: &Arc<Fake>,
        first: Vec<Wanted>,
    ) -> (Cache, Refresher, watch::Sender<Vec<Wanted>>) {
        let (cache, (send, wanted)) = (Cache::new(), watch::channel(first));
        let clock = Arc::new(FakeClock(Arc::clone(fake)));
        let source: Arc<dyn Fetch> = Arc::<Fake>::clone(fake);
        (
            cache.clone(),
            Refresher::start(cache, source, clock, wanted),
            send,
        )
    }

    /// Lets the other tasks run until `happened`.
    async fn until(happened: impl Fn() -> bool) {
        for _ in 0..100_000 {
            if happened() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it did not happen");
    }

    fn read(
        cache: &Cache,
        wanted: &Wanted,
        delivery: RoleDelivery,
        now: Timestamp,
    ) -> Option<String> {
        let reading = cache.read(
            &wanted.instance,
            wanted.launch_epoch,
            &wanted.role,
            delivery,
            now,
        )?;
        Some(match reading {
            Reading::Success { credentials, .. } => credentials.access_key_id.clone(),
            Reading::Failure { code, .. } => code.to_string(),
        })
    }

    /// "We make new credentials available at least five minutes before the expiration of the old credentials."
    #[test]
    fn credentials_are_renewed_well_before_they_expire() {
        for (expiration, jitter, due) in [
            ("18:00:00", 0.0, "15:00:00"),
            ("18:00:00", 1.0, "16:00:00"),
            ("13:00:00", 0.0, "12:30:00"),
            ("13:00:00", 0.5, "12:35:00"),
            ("12:15:00", 0.0, "12:07:30"),
            ("12:15:00", 1.0, "12:09:00"),
            ("12:12:00", 1.0, "12:06:00"),
            // Too short for five minutes: half their life.
            ("12:06:00", 0.0, "12:03:00"),
            ("12:06:00", 1.0, "12:03:00"),
            ("12:00:04", 1.0, "12:00:02"),
            ("12:00:01", 0.0, "12:00:01"),
            ("12:00:00.5", 0.0, "12:00:01"),
            ("12:00:00", 0.0, "12:00:01"),
            ("11:00:00", 1.0, "12:00:01"),
        ] {
            assert_eq!(
                refresh_at(time("12:00:00"), Some(time(expiration)), jitter),
                time(due),
                "{expiration} {jitter}"
            );
        }
        for (jitter, due) in [(0.0, "13:00:00"), (1.0, "12:55:00")] {
            assert_eq!(refresh_at(time("12:00:00"), None, jitter), time(due));
        }
        for minutes in 12..2000 {
            for jitter in [0.0, 0.1, 0.5, 0.9, 1.0] {
                let end = later(time("00:00:00"), SignedDuration::from_mins(minutes));
                let due = refresh_at(time("00:00:00"), Some(end), jitter);
                assert!(end.duration_since(due) >= AHEAD, "{minutes} {jitter} {due}");
            }
        }
        let far = refresh_at(Timestamp::MIN, Some(Timestamp::MAX), 1.0);
        assert!(far > Timestamp::MIN && far < Timestamp::MAX);
    }

    #[test]
    fn a_failed_source_is_tried_again_after_one_second_to_a_minute() {
        for (failures, least, most) in [
            (1, 1, 2),
            (2, 2, 4),
            (3, 4, 8),
            (4, 8, 16),
            (5, 16, 32),
            (6, 30, 60),
            (7, 30, 60),
            (u32::MAX, 30, 60),
        ] {
            assert_eq!(retry_after(failures, 0.0), Duration::from_secs(least));
            assert_eq!(retry_after(failures, 1.0), Duration::from_secs(most));
        }
    }

    #[test]
    fn what_came_expired_is_a_failure_and_what_never_ends_is_shown_six_hours() {
        let now = time("12:00:00");
        assert!(credentials(good("A", "12:00:00").unwrap(), now).is_err());
        assert!(credentials(good("A", "11:00:00").unwrap(), now).is_err());
        assert!(credentials(good("A", "12:00:01").unwrap(), now).is_ok());
        let endless = Fetched {
            expiration: None,
            ..good("A", "12:00:00").unwrap()
        };
        assert_eq!(
            credentials(endless, now).unwrap().expiration,
            time("18:00:00")
        );
    }

    /// Fetched, renewed at half its life, failing until the old ones have expired and beyond, and well again.
    #[tokio::test]
    async fn a_failing_source_leaves_valid_credentials_in_service_until_they_expire() {
        let refused = || Err(FetchError::refused("AccessDenied"));
        let mut script = vec![good("A", "13:00:00"), good("B", "13:30:00")];
        script.extend((0..70).map(|_| refused()));
        script.push(good("C", "18:00:00"));
        let fake = Fake::new(script);
        let wanted = wanted(ID, "/bin/true", &[RoleDelivery::V2]);
        let (cache, refresher, _send) = start(&fake, vec![wanted.clone()]);

        let mut told = Vec::<(String, Timestamp)>::new();
        for _ in 0..1_000_000 {
            let now = *fake.now.lock();
            let Some(what) = read(&cache, &wanted, RoleDelivery::V2, now) else {
                tokio::task::yield_now().await;
                continue;
            };
            if told.last().is_none_or(|(last, _)| *last != what) {
                told.push((what.clone(), now));
            }
            if what == "C" {
                break;
            }
            tokio::task::yield_now().await;
        }
        let (whats, times): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        assert_eq!(whats, ["A", "B", "AssumeRoleUnauthorizedAccess", "C"]);
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
    async fn a_session_ends_with_what_wanted_it() {
        let ends = "18:00:00";
        let fake = Fake::new(["A", "B", "C", "D", "E"].map(|id| good(id, ends)));
        let both = wanted(ID, "/bin/true", &[RoleDelivery::V1, RoleDelivery::V2]);
        let (cache, refresher, send) = start(&fake, vec![both.clone()]);
        let now = time("12:00:00");
        let has = |wanted: &Wanted, delivery| read(&cache, wanted, delivery, now);
        until(|| has(&both, RoleDelivery::V1).is_some() && has(&both, RoleDelivery::V2).is_some())
            .await;
        let first = fake.fetches.lock().len();
        assert_ne!(has(&both, RoleDelivery::V1), has(&both, RoleDelivery::V2));

        // Tokens required: v1 is forgotten, v2 goes on as it was.
        let v2 = Wanted {
            deliveries: vec![RoleDelivery::V2],
            ..both.clone()
        };
        let kept = has(&both, RoleDelivery::V2);
        send.send_replace(vec![v2.clone()]);
        until(|| has(&both, RoleDelivery::V1).is_none()).await;
        assert_eq!(has(&both, RoleDelivery::V2), kept);
        assert!(
            fake.fetches.lock()[first..]
                .iter()
                .all(|(delivery, _)| *delivery == RoleDelivery::V2)
        );

        // Another source is another session; so is another launch.
        let other = Wanted {
            role: wanted(ID, "/bin/false", &[]).role,
            ..v2.clone()
        };
        send.send_replace(vec![other.clone()]);
        until(|| has(&other, RoleDelivery::V2).is_some()).await;
        assert_eq!(has(&v2, RoleDelivery::V2), None);

        // Static credentials are not fetched, and nobody's either.
        let keys = StaticCredentials {
            access_key_id: "S".into(),
            secret_access_key: Secret::new("s"),
            session_token: Secret::default(),
            expiration: None,
        };
        let mut fixed = v2.clone();
        fixed.role.source = CredentialSource::Static(StaticSource { v1: None, v2: keys });
        send.send_replace(vec![fixed.clone()]);
        until(|| has(&other, RoleDelivery::V2).is_none()).await;
        assert_eq!(has(&fixed, RoleDelivery::V2), None);
        refresher.stop().await;
    }

    /// A source that says how many fetches are under way, and ends none.
    #[derive(Default)]
    struct Stuck(Arc<Mutex<Vec<Key>>>);

    struct UnderWay(Arc<Mutex<Vec<Key>>>, Key);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.lock().retain(|key| *key != self.1);
        }
    }

    impl Fetch for Stuck {
        fn fetch<'a>(&'a self, session: &'a RoleSession, _now: Timestamp) -> Fetching<'a> {
            let key = (session.instance.clone(), session.delivery);
            self.0.lock().push(key.clone());
            let under_way = UnderWay(Arc::clone(&self.0), key);
            Box::pin(async move {
                let _under_way = under_way;
                pending().await
            })
        }
    }

    #[tokio::test]
    async fn four_fetches_of_a_source_at_once_while_others_go_on_and_none_after_the_end() {
        let stuck = Arc::new(Stuck::default());
        let ids: Vec<_> = (0..20).map(|n| format!("i-{n:08x}")).collect();
        let both = [RoleDelivery::V1, RoleDelivery::V2];
        let mut all: Vec<_> = ids
            .iter()
            .map(|id| wanted(id, "/bin/true", &both))
            .collect();
        // However many hang there, another program's instances do not wait for them.
        all.push(wanted("i-ffffffff", "/bin/other", &both));
        let (send, receiver) = watch::channel(all.clone());
        let refresher = Refresher::start(
            Cache::new(),
            Arc::<Stuck>::clone(&stuck),
            Arc::new(SystemClock),
            receiver,
        );
        let under_way = || stuck.0.lock().clone();
        until(|| under_way().len() == 6).await;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let mut keys = under_way();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 6);
        assert_eq!(
            keys.iter()
                .filter(|(id, _)| id.as_str() == "i-ffffffff")
                .count(),
            2
        );

        // The same again changes nothing; removing one that is under way makes room for another.
        send.send_replace(all.clone());
        send.send_replace(
            all.into_iter()
                .filter(|wanted| wanted.instance != keys[0].0)
                .collect(),
        );
        until(|| under_way().iter().all(|(id, _)| *id != keys[0].0) && under_way().len() == 6)
            .await;
        refresher.stop().await;
        assert!(under_way().is_empty());

        let (_send, receiver) = watch::channel(vec![wanted(ID, "/bin/true", &[RoleDelivery::V2])]);
        let dropped = Refresher::start(
            Cache::new(),
            Arc::<Stuck>::clone(&stuck),
            Arc::new(SystemClock),
            receiver,
        );
        until(|| under_way().len() == 1).await;
        drop(dropped);
        until(|| under_way().is_empty()).await;
    }
}
