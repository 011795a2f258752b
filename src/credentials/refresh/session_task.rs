//! The task of one session: it fetches, publishes, waits and fetches again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tracing::{debug, info, warn};

use super::clock::Clock;
use super::fetch_limits::FetchLimits;
use super::schedule::{refresh_at, retry_after, unlimited_expiration};
use crate::credentials::cache::{Cache, CredentialStatus, Credentials};
use crate::credentials::fetch::{FailureKind, Fetch, FetchError, FetchedCredentials};
use crate::credentials::session::RoleSession;

/// The longest sleep. Afterwards the wall clock is read again, because it may have been set, or the
/// host suspended.
const MAX_SLEEP: SignedDuration = SignedDuration::from_secs(60);

/// The number of fetches.
#[derive(Debug, Default)]
pub struct Counters {
    /// Successful fetches.
    pub fetched: AtomicU64,
    /// Failed fetches.
    pub failed: AtomicU64,
}

/// The parts that all session tasks share.
pub(super) struct RefreshContext {
    pub(super) cache: Cache,
    pub(super) source: Arc<dyn Fetch>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: FetchLimits,
    pub(super) counters: Arc<Counters>,
}

/// The health of a session. Each change is logged once for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionHealth {
    /// The last fetch succeeded.
    Fresh,
    /// The source fails, and the old credentials are still valid.
    Stale(FailureKind),
    /// The source fails, and there are no valid credentials.
    Empty(FailureKind),
}

/// Keeps the credentials of one session fresh, until it is aborted.
pub(super) async fn run(context: Arc<RefreshContext>, session: Arc<RoleSession>) {
    let mut failures = 0;
    let mut health = SessionHealth::Fresh;
    loop {
        let fetched = context.fetch(&session).await;
        let (now, jitter) = (context.clock.now(), context.clock.jitter());
        let outcome = fetched.and_then(|fetched| {
            let due = refresh_at(now, fetched.expiration, jitter);
            Ok((credentials(fetched, now)?, due))
        });
        let before = health;
        match outcome {
            Ok((credentials, due)) => {
                context.counters.fetched.fetch_add(1, Ordering::Relaxed);
                let expiration = credentials.expiration;
                context.cache.publish(&session, Ok(credentials), now);
                failures = 0;
                health = SessionHealth::Fresh;
                report(
                    &session,
                    before,
                    health,
                    format_args!("valid until {expiration}, next fetch {due}"),
                );
                context.sleep_until(due).await;
            }
            Err(error) => {
                context.counters.failed.fetch_add(1, Ordering::Relaxed);
                failures += 1;
                health = match context.cache.publish(&session, Err(error.kind), now) {
                    CredentialStatus::Success { .. } => SessionHealth::Stale(error.kind),
                    CredentialStatus::Failure { .. } => SessionHealth::Empty(error.kind),
                };
                report(&session, before, health, format_args!("{error}"));
                context.clock.sleep(retry_after(failures, jitter)).await;
            }
        }
    }
}

impl RefreshContext {
    async fn fetch(&self, session: &RoleSession) -> Result<FetchedCredentials, FetchError> {
        let _permit = self.limits.acquire(&session.source).await;
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

/// Logs the outcome of a fetch: at debug level if the health is unchanged.
fn report(
    session: &RoleSession,
    before: SessionHealth,
    health: SessionHealth,
    detail: std::fmt::Arguments<'_>,
) {
    let (instance, role, delivery) = (
        &session.instance,
        &session.role_name,
        session.delivery.as_str(),
    );
    match health {
        _ if before == health => {
            debug!(%instance, role, delivery, "{health:?}: {detail}");
        }
        SessionHealth::Fresh => {
            info!(%instance, role, delivery, "role credentials renewed after failures: {detail}")
        }
        SessionHealth::Stale(_) => {
            warn!(%instance, role, delivery, "cannot renew role credentials; the old ones are still valid: {detail}");
        }
        SessionHealth::Empty(_) => {
            warn!(%instance, role, delivery, "no valid role credentials; guests read the failure: {detail}");
        }
    }
}

/// Returns fetched credentials with an expiration. Fails if they have expired.
fn credentials(fetched: FetchedCredentials, now: Timestamp) -> Result<Credentials, FetchError> {
    let FetchedCredentials {
        access_key_id,
        secret_access_key,
        session_token,
        expiration,
    } = fetched;
    let expiration = expiration.unwrap_or_else(|| unlimited_expiration(now));
    if expiration <= now {
        let reason = format!(
            "the source returned expired credentials ({expiration}); check the clock of this host"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn time(text: &str) -> Timestamp {
        format!("2026-05-01T{text}Z").parse().unwrap()
    }

    #[test]
    fn expired_credentials_are_a_failure_and_unlimited_ones_appear_valid_for_six_hours() {
        let now = time("12:00:00");
        let fetched = |expiration: Option<&str>| FetchedCredentials {
            access_key_id: "A".to_string(),
            secret_access_key: Secret::new("hunter2"),
            session_token: Secret::default(),
            expiration: expiration.map(time),
        };
        assert!(credentials(fetched(Some("12:00:00")), now).is_err());
        assert!(credentials(fetched(Some("11:00:00")), now).is_err());
        assert!(credentials(fetched(Some("12:00:01")), now).is_ok());
        assert_eq!(
            credentials(fetched(None), now).unwrap().expiration,
            time("18:00:00")
        );
    }
}
