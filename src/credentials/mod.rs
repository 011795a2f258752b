//! Role credentials: fetched ahead of need, kept while they are valid, read from memory.
//!
//! ```text
//!   instances ──► Refresher ──► source: a program, or STS ──► Cache ──► guest's read
//!                    ▲               │
//!                    └── due, or ◄───┘ failed: again after 1 s … 60 s
//! ```
//!
//! Each role has two deliveries that are fetched apart: what a read without a session token gets (1.0) is never what a
//! read with one gets (2.0). Credentials in the document itself (`Static`) do not come through here.
//!
//! A guest's read never waits and causes nothing outside; a source that fails leaves what is still valid in service.

pub mod process;
pub mod refresh;
pub mod sts;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::instance::{CredentialSource, InstanceId, Role, RoleDelivery};
use crate::secret::Secret;
pub use refresh::{Clock, Counters, Refresher, SystemClock, Wanted};
pub use sts::{Mint, WebIdentityRequest};

/// Credentials of one role session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `ASIA…`. Public.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// The session token that goes with it; empty when the source gave none.
    pub session_token: Secret,
    /// When they end.
    pub expiration: Timestamp,
}

/// What a guest's read is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Credentials that are valid now.
    Success {
        /// The credentials.
        credentials: Arc<Credentials>,
        /// When they were fetched.
        updated: Timestamp,
    },
    /// There are none that are valid. EC2 answers 200 with this code.
    Failure {
        /// `AssumeRoleUnauthorizedAccess` or `InternalError`
        code: &'static str,
        /// For the guest: nothing of the host stands in it.
        message: String,
        /// When they were last tried.
        updated: Timestamp,
    },
}

/// One role session that is to be kept alive: an instance's role, in one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSession {
    /// The instance. The session is named after it.
    pub instance: InstanceId,
    /// The launch of the instance.
    pub launch_epoch: u64,
    /// The instance's account.
    pub account: String,
    /// The role's name.
    pub role_name: String,
    /// Where the credentials come from.
    pub source: CredentialSource,
    /// Which of the two.
    pub delivery: RoleDelivery,
}

/// Reads when credentials end. Some sources say the last day of the year 9999 for never, which is later than times go here.
fn end(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .or_else(|| text.starts_with("9999-12-3").then_some(Timestamp::MAX))
}

/// Credentials as a source gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// `ASIA…`
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// Empty when there is none.
    pub session_token: Secret,
    /// `None` for credentials without an end of their own.
    pub expiration: Option<Timestamp>,
}

/// Who is to blame for a failed fetch. The guest is told this much and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The source understood and refused: a matter of trust policies and keys.
    Refused,
    /// The source could not be reached or understood.
    Unavailable,
}

/// A failed fetch. `Display` is the reason, for the operator: endpoints and paths may stand in it, secrets never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// Who is to blame.
    pub kind: FailureKind,
    reason: String,
}

impl FetchError {
    /// The source refused.
    pub fn refused(reason: impl Into<String>) -> FetchError {
        FetchError {
            kind: FailureKind::Refused,
            reason: reason.into(),
        }
    }

    /// The source is not there, or not in order.
    pub fn unavailable(reason: impl Into<String>) -> FetchError {
        FetchError {
            kind: FailureKind::Unavailable,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for FetchError {}

/// A fetch under way. Whoever drops it ends it, and whatever was started for it.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// Where credentials come from. A fetch ends within a bounded time.
pub trait Fetch: Send + Sync + 'static {
    /// Fetches the credentials of one session; `now` is for the signature.
    fn fetch<'a>(&'a self, session: &'a RoleSession, now: Timestamp) -> Fetching<'a>;
}

/// The sources that an instance document can name.
pub struct Sources {
    /// Mints the web identity of an instance.
    pub mint: Arc<Mint>,
}

impl Fetch for Sources {
    fn fetch<'a>(&'a self, session: &'a RoleSession, now: Timestamp) -> Fetching<'a> {
        Box::pin(async move {
            match &session.source {
                CredentialSource::Static(_) => Err(FetchError::unavailable(
                    "static credentials are not fetched",
                )),
                CredentialSource::Process(source) => process::fetch(source, session).await,
                CredentialSource::AssumeRole(source) => {
                    sts::assume_role(source, session, now).await
                }
                CredentialSource::AssumeRoleWithWebIdentity(source) => {
                    sts::assume_role_with_web_identity(source, session, &self.mint).await
                }
            }
        })
    }
}

/// The credentials of every instance on this host, as last fetched. Clones share them; reads take no lock.
#[derive(Clone, Default)]
pub struct Cache {
    held: Arc<ArcSwap<HashMap<InstanceId, Deliveries>>>,
}

#[derive(Clone, Default)]
struct Deliveries {
    v1: Option<Arc<Held>>,
    v2: Option<Arc<Held>>,
}

/// What came of a session's fetches so far: at least one of the two is there.
#[derive(Clone)]
struct Held {
    session: Arc<RoleSession>,
    credentials: Option<(Arc<Credentials>, Timestamp)>,
    failure: Option<(FailureKind, Timestamp)>,
}

impl Cache {
    /// An empty cache.
    pub fn new() -> Cache {
        Cache::default()
    }

    /// What a read of `role`'s credentials gets; `None` until a first fetch has succeeded or failed.
    ///
    /// Credentials of another launch, or of another role or source than `role` names now, are nobody's.
    pub fn read(
        &self,
        instance: &InstanceId,
        launch_epoch: u64,
        role: &Role,
        delivery: RoleDelivery,
        now: Timestamp,
    ) -> Option<Reading> {
        let map = self.held.load();
        let held = map.get(instance)?.of(delivery).as_ref()?;
        let session = &held.session;
        let same = session.launch_epoch == launch_epoch
            && session.role_name == role.role_name
            && session.source == role.source;
        same.then(|| held.reading(now))
    }

    /// Takes in the outcome of a fetch. Says what a read would get from now on.
    fn publish(
        &self,
        session: &Arc<RoleSession>,
        outcome: Result<Credentials, FailureKind>,
        now: Timestamp,
    ) -> Reading {
        let before = self.held.load();
        let before = before
            .get(&session.instance)
            .and_then(|deliveries| deliveries.of(session.delivery).clone());
        let kept = before
            .filter(|held| held.session == *session)
            .and_then(|held| held.credentials.clone());
        let (credentials, failure) = match outcome {
            Ok(credentials) => (Some((Arc::new(credentials), now)), None),
            Err(kind) => (
                kept.filter(|(credentials, _)| credentials.expiration > now),
                Some((kind, now)),
            ),
        };
        let held = Arc::new(Held {
            session: Arc::clone(session),
            credentials,
            failure,
        });
        let reading = held.reading(now);
        self.put(session, Some(held));
        reading
    }

    /// Forgets a session.
    fn remove(&self, session: &RoleSession) {
        self.put(session, None);
    }

    fn put(&self, session: &RoleSession, held: Option<Arc<Held>>) {
        self.held.rcu(|map| {
            let mut map = HashMap::clone(map);
            let deliveries = map.entry(session.instance.clone()).or_default();
            *deliveries.of_mut(session.delivery) = held.clone();
            if deliveries.v1.is_none() && deliveries.v2.is_none() {
                map.remove(&session.instance);
            }
            map
        });
    }
}

impl Deliveries {
    fn of(&self, delivery: RoleDelivery) -> &Option<Arc<Held>> {
        match delivery {
            RoleDelivery::V1 => &self.v1,
            RoleDelivery::V2 => &self.v2,
        }
    }

    fn of_mut(&mut self, delivery: RoleDelivery) -> &mut Option<Arc<Held>> {
        match delivery {
            RoleDelivery::V1 => &mut self.v1,
            RoleDelivery::V2 => &mut self.v2,
        }
    }
}

impl Held {
    /// The rule: valid credentials are served until they expire, whatever became of their source; expired ones never.
    fn reading(&self, now: Timestamp) -> Reading {
        let (kind, updated) = match (&self.credentials, self.failure) {
            (Some((credentials, updated)), _) if credentials.expiration > now => {
                return Reading::Success {
                    credentials: Arc::clone(credentials),
                    updated: *updated,
                };
            }
            (_, Some(failure)) => failure,
            // They ran out before their source was asked again: the clock jumped, or the host slept.
            (Some((credentials, _)), None) => (FailureKind::Unavailable, credentials.expiration),
            (None, None) => (FailureKind::Unavailable, now),
        };
        let role = &self.session.role_name;
        let (code, message) = match kind {
            // EC2's code and first sentence.
            FailureKind::Refused => (
                "AssumeRoleUnauthorizedAccess",
                format!(
                    "EC2 cannot assume the role {role}. The source of its credentials refused."
                ),
            ),
            FailureKind::Unavailable => (
                "InternalError",
                format!(
                    "The credentials of the role {role} could not be renewed: their source does not answer."
                ),
            ),
        };
        Reading::Failure {
            code,
            message,
            updated,
        }
    }
}

/// The first of a stranger's text that is fit for a line of the log.
fn printable(text: &str) -> String {
    const MOST: usize = 200;
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.trim().chars().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{ProcessSource, Switch};

    fn time(text: &str) -> Timestamp {
        format!("2026-05-01T{text}Z").parse().unwrap()
    }

    fn role(name: &str, command: &str) -> Role {
        let source = ProcessSource {
            command: vec![command.to_string()],
            timeout_seconds: None,
        };
        Role {
            role_name: name.to_string(),
            source: CredentialSource::Process(source),
            v1: Switch::Enabled,
        }
    }

    fn session(delivery: RoleDelivery) -> Arc<RoleSession> {
        let Role {
            role_name, source, ..
        } = role("r", "/bin/true");
        let (instance, account) = (
            InstanceId::parse("i-12345678").unwrap(),
            "123456789012".to_string(),
        );
        Arc::new(RoleSession {
            instance,
            launch_epoch: 7,
            account,
            role_name,
            source,
            delivery,
        })
    }

    fn credentials(id: &str, expiration: &str) -> Credentials {
        let (access_key_id, expiration) = (id.to_string(), time(expiration));
        let (secret_access_key, session_token) = (Secret::new("hunter2"), Secret::new("hunter3"));
        Credentials {
            access_key_id,
            secret_access_key,
            session_token,
            expiration,
        }
    }

    /// What a read gets: the key's id or the failure's code, and since when.
    fn told(reading: Option<Reading>) -> Option<(String, Timestamp)> {
        Some(match reading? {
            Reading::Success {
                credentials,
                updated,
            } => (credentials.access_key_id.clone(), updated),
            Reading::Failure { code, updated, .. } => (code.to_string(), updated),
        })
    }

    #[test]
    fn valid_credentials_are_served_until_they_expire_and_expired_ones_never() {
        use FailureKind::{Refused, Unavailable};
        let good = |id: &str, end: &str| Ok(credentials(id, end));
        let (refused, internal) = ("AssumeRoleUnauthorizedAccess", "InternalError");
        type Outcome<'a> = (&'a str, Result<Credentials, FailureKind>);
        type Row<'a> = (&'a [Outcome<'a>], &'a str, Option<(&'a str, &'a str)>);
        let rows: [Row<'_>; 14] = [
            (&[], "12:00:00", None),
            (
                &[("12:00:00", good("A", "13:00:00"))],
                "12:00:00",
                Some(("A", "12:00:00")),
            ),
            (
                &[("12:00:00", good("A", "13:00:00"))],
                "12:59:59.999",
                Some(("A", "12:00:00")),
            ),
            (
                &[("12:00:00", good("A", "13:00:00"))],
                "13:00:00",
                Some((internal, "13:00:00")),
            ),
            (
                &[("12:00:00", good("A", "13:00:00"))],
                "23:00:00",
                Some((internal, "13:00:00")),
            ),
            (
                &[("12:00:00", Err(Refused))],
                "12:00:01",
                Some((refused, "12:00:00")),
            ),
            (
                &[("12:00:00", Err(Unavailable))],
                "12:00:01",
                Some((internal, "12:00:00")),
            ),
            // The source fails: the old ones go on.
            (
                &[
                    ("12:00:00", good("A", "13:00:00")),
                    ("12:30:00", Err(Refused)),
                ],
                "12:59:59",
                Some(("A", "12:00:00")),
            ),
            (
                &[
                    ("12:00:00", good("A", "13:00:00")),
                    ("12:30:00", Err(Refused)),
                ],
                "13:00:00",
                Some((refused, "12:30:00")),
            ),
            (
                &[
                    ("12:00:00", good("A", "13:00:00")),
                    ("12:30:00", Err(Refused)),
                    ("13:10:00", Err(Unavailable)),
                ],
                "13:10:00",
                Some((internal, "13:10:00")),
            ),
            // What has expired is gone, even for a clock that is set back.
            (
                &[
                    ("12:00:00", good("A", "13:00:00")),
                    ("13:00:00", Err(Refused)),
                ],
                "12:30:00",
                Some((refused, "13:00:00")),
            ),
            (
                &[
                    ("12:00:00", good("A", "13:00:00")),
                    ("12:30:00", good("B", "13:30:00")),
                ],
                "12:30:00",
                Some(("B", "12:30:00")),
            ),
            (
                &[
                    ("12:00:00", Err(Refused)),
                    ("12:01:00", good("A", "13:00:00")),
                ],
                "12:01:00",
                Some(("A", "12:01:00")),
            ),
            // A source that recovered and expired again is not blamed for its old refusal.
            (
                &[
                    ("12:00:00", Err(Refused)),
                    ("12:01:00", good("A", "13:00:00")),
                ],
                "13:00:00",
                Some((internal, "13:00:00")),
            ),
        ];
        for (outcomes, now, expected) in rows {
            let (cache, session) = (Cache::new(), session(RoleDelivery::V2));
            for (at, outcome) in outcomes {
                cache.publish(&session, outcome.clone(), time(at));
            }
            let reading = cache.read(
                &session.instance,
                7,
                &role("r", "/bin/true"),
                RoleDelivery::V2,
                time(now),
            );
            let expected = expected.map(|(what, updated)| (what.to_string(), time(updated)));
            assert_eq!(told(reading), expected, "{outcomes:?} at {now}");
        }
    }

    #[test]
    fn credentials_of_another_launch_role_source_or_delivery_are_nobodys() {
        let (cache, session) = (Cache::new(), session(RoleDelivery::V2));
        cache.publish(&session, Ok(credentials("A", "13:00:00")), time("12:00:00"));
        let (here, other) = (
            session.instance.clone(),
            InstanceId::parse("i-87654321").unwrap(),
        );
        let ours = role("r", "/bin/true");
        let v1_off = Role {
            v1: Switch::Disabled,
            ..ours.clone()
        };
        for (instance, epoch, role, delivery, found) in [
            (&here, 7, &ours, RoleDelivery::V2, true),
            (&here, 7, &v1_off, RoleDelivery::V2, true),
            (&other, 7, &ours, RoleDelivery::V2, false),
            (&here, 8, &ours, RoleDelivery::V2, false),
            (&here, 7, &role("s", "/bin/true"), RoleDelivery::V2, false),
            (&here, 7, &role("r", "/bin/false"), RoleDelivery::V2, false),
            (&here, 7, &ours, RoleDelivery::V1, false),
        ] {
            let reading = cache.read(instance, epoch, role, delivery, time("12:00:00"));
            assert_eq!(
                reading.is_some(),
                found,
                "{instance} {epoch} {role:?} {delivery:?}"
            );
        }
        // A session of another launch does not inherit them either.
        let next = Arc::new(RoleSession {
            launch_epoch: 8,
            ..RoleSession::clone(&session)
        });
        cache.publish(&next, Err(FailureKind::Refused), time("12:00:01"));
        let reading = cache.read(&here, 8, &ours, RoleDelivery::V2, time("12:00:01"));
        assert!(
            matches!(reading, Some(Reading::Failure { .. })),
            "{reading:?}"
        );
        cache.remove(&next);
        assert_eq!(
            cache.read(&here, 8, &ours, RoleDelivery::V2, time("12:00:01")),
            None
        );
        assert!(cache.held.load().is_empty());
    }

    #[test]
    fn neither_secrets_nor_the_host_are_printed() {
        let (cache, session) = (Cache::new(), session(RoleDelivery::V1));
        let reading = cache.publish(&session, Ok(credentials("A", "13:00:00")), time("12:00:00"));
        assert!(!format!("{reading:?}").contains("hunter"), "{reading:?}");
        for kind in [FailureKind::Refused, FailureKind::Unavailable] {
            let reading = cache.publish(&session, Err(kind), time("14:00:00"));
            let Reading::Failure { message, .. } = reading else {
                panic!("{reading:?}")
            };
            assert!(
                !message.contains('/') && !message.contains("://"),
                "{message}"
            );
        }
        assert_eq!(printable(" a\nb\u{1b}[0m\0 "), "a b [0m");
        assert_eq!(printable(&"ü".repeat(500)).chars().count(), 200);
    }
}
