//! The signing key, which is read or generated in the background and retried until it can be used.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info};

use crate::daemon::background::identity_source::{IdentitySource, MissingKey};
use crate::identity::Identity;

/// The signing key as soon as there is one. Signatures and web identities wait for it.
pub(super) struct SigningKey {
    source: Arc<IdentitySource>,
    identity: Arc<OnceLock<Arc<Identity>>>,
    /// How long to wait between two attempts.
    pause: Duration,
    next_attempt: Instant,
    /// Why there is no key, as it was logged last.
    logged: Option<String>,
}

impl SigningKey {
    pub(super) fn new(source: IdentitySource, pause: Duration) -> SigningKey {
        SigningKey {
            source: Arc::new(source),
            identity: Arc::default(),
            pause,
            next_attempt: Instant::now(),
            logged: None,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        self.identity.get().is_none()
    }

    pub(super) fn next_attempt(&self) -> Instant {
        self.next_attempt
    }

    /// Returns the cell that holds the identity once it can be used.
    pub(super) fn identity(&self) -> &Arc<OnceLock<Arc<Identity>>> {
        &self.identity
    }

    /// Reads or generates the key if it is missing and the next attempt is due.
    pub(super) async fn attempt(&mut self) {
        if !self.is_missing() || self.next_attempt > Instant::now() {
            return;
        }
        let source = Arc::clone(&self.source);
        let attempt = tokio::task::spawn_blocking(move || source.identity()).await;
        match attempt.unwrap_or(Err(MissingKey::Unknown)) {
            Ok(identity) => {
                info!("the key for identity documents is ready");
                let _ = self.identity.set(identity);
            }
            Err(missing) => self.fail(missing),
        }
    }

    /// Logs a new reason once, remembers that a stored key is damaged, and plans the next attempt.
    fn fail(&mut self, missing: MissingKey) {
        let reason = missing.to_string();
        if self.logged.as_ref() != Some(&reason) {
            error!(
                "no signatures and no web identities: {reason}; retrying every {} s",
                self.pause.as_secs()
            );
            self.logged = Some(reason);
        }
        if let (MissingKey::Damaged(reason), IdentitySource::Stored(directory)) =
            (missing, &*self.source)
        {
            self.source = Arc::new(IdentitySource::Damaged(directory.clone(), reason));
        }
        self.next_attempt = Instant::now() + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// After a failed write, the key is generated at the next attempt, and the failure is logged.
    #[tokio::test]
    async fn a_key_that_cannot_be_stored_is_retried() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("identity");
        // A directory at the path of the temporary file makes every write fail, for root too.
        let obstacle = place.join("key.pem.tmp");
        std::fs::create_dir_all(&obstacle).unwrap();
        let mut key = SigningKey::new(IdentitySource::Stored(place), Duration::ZERO);
        key.attempt().await;
        assert!(key.is_missing() && key.logged.is_some());

        std::fs::remove_dir(&obstacle).unwrap();
        key.attempt().await;
        assert!(!key.is_missing());
    }

    /// Verifiers trust the certificate that they were given. The daemon waits for the operator to
    /// restore a damaged key, and generates no other one in its place.
    #[tokio::test]
    async fn a_damaged_key_that_is_moved_away_is_not_replaced_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_path_buf();
        let (file, elsewhere) = (place.join("key.pem"), place.join("key.pem.good"));
        let mut first = SigningKey::new(IdentitySource::Stored(place.clone()), Duration::ZERO);
        first.attempt().await;
        let certificates = first.identity.get().unwrap().certificates_pem();
        for found_at_start in [true, false] {
            std::fs::rename(&file, &elsewhere).unwrap();
            let damaged = &std::fs::read(&elsewhere).unwrap()[..800];
            std::fs::write(&file, damaged).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let source = match found_at_start {
                true => IdentitySource::in_directory(place.clone()),
                false => IdentitySource::Stored(place.clone()),
            };
            let mut key = SigningKey::new(source, Duration::ZERO);
            if !found_at_start {
                key.attempt().await;
            }
            std::fs::remove_file(&file).unwrap();
            for _ in 0..2 {
                key.attempt().await;
                assert!(
                    key.is_missing() && !file.exists(),
                    "found at the start: {found_at_start}"
                );
                assert!(
                    key.logged.as_ref().unwrap().contains("there is no key"),
                    "{:?}",
                    key.logged
                );
            }
            std::fs::rename(&elsewhere, &file).unwrap();
            key.attempt().await;
            assert_eq!(key.identity.get().unwrap().certificates_pem(), certificates);
        }
    }
}
