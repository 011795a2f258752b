//! The credentials that guests read.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rpds::HashTrieMapSync;

use super::fetch::FailureKind;
use super::session::RoleSession;
use crate::instance::{InstanceId, Role, RoleDelivery};
use crate::secret::Secret;

/// Credentials of one role session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `ASIA…`. Public.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// The session token; empty if the source returned none.
    pub session_token: Secret,
    /// The time at which they expire.
    pub expiration: Timestamp,
}

/// The status of a session's credentials, as a guest's read returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialStatus {
    /// Credentials that are valid now.
    Success {
        /// The credentials.
        credentials: Arc<Credentials>,
        /// When they were fetched.
        updated: Timestamp,
    },
    /// There are no valid credentials. EC2 answers 200 with this code.
    Failure {
        /// `AssumeRoleUnauthorizedAccess` or `InternalError`
        code: &'static str,
        /// The message for the guest. It contains nothing about the host.
        message: String,
        /// When the last fetch failed.
        updated: Timestamp,
    },
}

/// The last fetched credentials of every instance on this host. Clones share them. Reads take no
/// lock, and storing those of one session copies none of the others.
#[derive(Clone, Default)]
pub struct Cache {
    sessions: Arc<ArcSwap<HashTrieMapSync<InstanceId, InstanceSessions>>>,
}

/// The sessions of one instance.
#[derive(Clone, Default)]
struct InstanceSessions {
    v1: Option<Arc<SessionState>>,
    v2: Option<Arc<SessionState>>,
}

/// The outcome of a session's fetches so far. At least one of credentials and failure is set, each
/// with its time.
#[derive(Clone)]
struct SessionState {
    session: Arc<RoleSession>,
    credentials: Option<(Arc<Credentials>, Timestamp)>,
    failure: Option<(FailureKind, Timestamp)>,
}

impl Cache {
    /// Returns an empty cache.
    pub fn new() -> Cache {
        Cache::default()
    }

    /// Returns the status of `role`'s credentials; `None` until the first fetch has succeeded or
    /// failed.
    ///
    /// Credentials of another launch, role or source are never returned.
    pub fn read(
        &self,
        instance: &InstanceId,
        launch_epoch: u64,
        role: &Role,
        delivery: RoleDelivery,
        now: Timestamp,
    ) -> Option<CredentialStatus> {
        let map = self.sessions.load();
        let state = map.get(instance)?.of(delivery).as_ref()?;
        let session = &state.session;
        let same = session.launch_epoch == launch_epoch
            && session.role_name == role.role_name
            && session.source == role.source;
        same.then(|| state.status(now))
    }

    /// Stores the outcome of a fetch, and returns the status that a read would return now.
    pub(super) fn publish(
        &self,
        session: &Arc<RoleSession>,
        outcome: Result<Credentials, FailureKind>,
        now: Timestamp,
    ) -> CredentialStatus {
        let map = self.sessions.load();
        let kept = map
            .get(&session.instance)
            .and_then(|sessions| sessions.of(session.delivery).clone())
            .filter(|before| before.session == *session)
            .and_then(|before| before.credentials.clone());
        let (credentials, failure) = match outcome {
            Ok(credentials) => (Some((Arc::new(credentials), now)), None),
            Err(kind) => (
                kept.filter(|(credentials, _)| credentials.expiration > now),
                Some((kind, now)),
            ),
        };
        let state = Arc::new(SessionState {
            session: Arc::clone(session),
            credentials,
            failure,
        });
        let status = state.status(now);
        self.put(session, Some(state));
        status
    }

    /// Removes a session.
    pub(super) fn remove(&self, session: &RoleSession) {
        self.put(session, None);
    }

    fn put(&self, session: &RoleSession, state: Option<Arc<SessionState>>) {
        self.sessions.rcu(|map| {
            let mut map = HashTrieMapSync::clone(map);
            let mut sessions = map.get(&session.instance).cloned().unwrap_or_default();
            *sessions.of_mut(session.delivery) = state.clone();
            match sessions.v1.is_none() && sessions.v2.is_none() {
                true => drop(map.remove_mut(&session.instance)),
                false => map.insert_mut(session.instance.clone(), sessions),
            }
            map
        });
    }
}

impl InstanceSessions {
    fn of(&self, delivery: RoleDelivery) -> &Option<Arc<SessionState>> {
        match delivery {
            RoleDelivery::V1 => &self.v1,
            RoleDelivery::V2 => &self.v2,
        }
    }

    fn of_mut(&mut self, delivery: RoleDelivery) -> &mut Option<Arc<SessionState>> {
        match delivery {
            RoleDelivery::V1 => &mut self.v1,
            RoleDelivery::V2 => &mut self.v2,
        }
    }
}

impl SessionState {
    /// Returns the status at `now`. Valid credentials are served until they expire, even if their
    /// source fails. Expired credentials are never served.
    fn status(&self, now: Timestamp) -> CredentialStatus {
        let (kind, updated) = match (&self.credentials, self.failure) {
            (Some((credentials, updated)), _) if credentials.expiration > now => {
                return CredentialStatus::Success {
                    credentials: Arc::clone(credentials),
                    updated: *updated,
                };
            }
            (_, Some(failure)) => failure,
            // They expired before the next fetch: the clock jumped, or the host was suspended.
            (Some((credentials, _)), None) => (FailureKind::Unavailable, credentials.expiration),
            (None, None) => (FailureKind::Unavailable, now),
        };
        let role = &self.session.role_name;
        let (code, message) = match kind {
            // The code and the first sentence are EC2's.
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
        CredentialStatus::Failure {
            code,
            message,
            updated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{CredentialSource, ProcessSource, Switch};

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

    /// Returns the key's id or the failure's code, and the time of the update.
    fn summary(status: Option<CredentialStatus>) -> Option<(String, Timestamp)> {
        Some(match status? {
            CredentialStatus::Success {
                credentials,
                updated,
            } => (credentials.access_key_id.clone(), updated),
            CredentialStatus::Failure { code, updated, .. } => (code.to_string(), updated),
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
            // The source fails: the old credentials stay in service.
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
            // Expired credentials are gone, even if the clock is set back.
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
            // After a recovery, an old refusal is no longer reported.
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
            let status = cache.read(
                &session.instance,
                7,
                &role("r", "/bin/true"),
                RoleDelivery::V2,
                time(now),
            );
            let expected = expected.map(|(what, updated)| (what.to_string(), time(updated)));
            assert_eq!(summary(status), expected, "{outcomes:?} at {now}");
        }
    }

    #[test]
    fn credentials_of_another_launch_role_source_or_delivery_are_not_returned() {
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
            let status = cache.read(instance, epoch, role, delivery, time("12:00:00"));
            assert_eq!(
                status.is_some(),
                found,
                "{instance} {epoch} {role:?} {delivery:?}"
            );
        }
        // A session of another launch does not inherit them.
        let next = Arc::new(RoleSession {
            launch_epoch: 8,
            ..RoleSession::clone(&session)
        });
        cache.publish(&next, Err(FailureKind::Refused), time("12:00:01"));
        let status = cache.read(&here, 8, &ours, RoleDelivery::V2, time("12:00:01"));
        assert!(
            matches!(status, Some(CredentialStatus::Failure { .. })),
            "{status:?}"
        );
        cache.remove(&next);
        assert_eq!(
            cache.read(&here, 8, &ours, RoleDelivery::V2, time("12:00:01")),
            None
        );
        assert!(cache.sessions.load().is_empty());
    }

    #[test]
    fn neither_secrets_nor_details_of_the_host_are_printed() {
        let (cache, session) = (Cache::new(), session(RoleDelivery::V1));
        let status = cache.publish(&session, Ok(credentials("A", "13:00:00")), time("12:00:00"));
        assert!(!format!("{status:?}").contains("hunter"), "{status:?}");
        for kind in [FailureKind::Refused, FailureKind::Unavailable] {
            let status = cache.publish(&session, Err(kind), time("14:00:00"));
            let CredentialStatus::Failure { message, .. } = status else {
                panic!("{status:?}")
            };
            assert!(
                !message.contains('/') && !message.contains("://"),
                "{message}"
            );
        }
    }
}
