//! The background task: precomputes signatures of identity documents and role credentials.
//!
//! The task follows what changes in the registry. It updates the credentials that the refresher
//! keeps fresh, and signs unsigned documents outside the async runtime, a few at a time. Guest
//! requests only read what is precomputed.

mod awaited;
mod identity_source;
mod refresh_targets;
mod signing;
mod signing_key;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::credentials::{Launcher, Refresher, Sources, SystemClock};
use crate::guest::Precomputed;
use crate::registry::{Changes, Registry, Snapshot};

use refresh_targets::RefreshedInstances;
use signing::{UnsignedDocuments, web_identity_mint};
use signing_key::SigningKey;

pub(super) use awaited::AwaitedSignatures;
pub(crate) use identity_source::IdentitySource;

/// How long to wait before a key that could not be read or generated is tried again.
const KEY_RETRY: Duration = Duration::from_secs(60);
/// How many changed instances are followed before other tasks get their turn.
const TURN: usize = 64;

/// The background task while it runs.
pub(super) struct Background {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Background {
    /// Starts the task. `issuer` is the URL under which the operator publishes the keys of web
    /// identities.
    pub(super) fn start(
        registry: Arc<Registry>,
        precomputed: Precomputed,
        awaited: Arc<AwaitedSignatures>,
        source: IdentitySource,
        issuer: String,
    ) -> Background {
        let key = SigningKey::new(source, KEY_RETRY);
        let (stop, stopped) = watch::channel(false);
        Background {
            stop,
            task: tokio::spawn(run(registry, precomputed, awaited, key, issuer, stopped)),
        }
    }

    /// Stops the task and every program and call that it has started.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

async fn run(
    registry: Arc<Registry>,
    precomputed: Precomputed,
    awaited: Arc<AwaitedSignatures>,
    mut key: SigningKey,
    issuer: String,
    mut stopped: watch::Receiver<bool>,
) {
    // The first attempt comes before the refresher, so that web identities have their key. A
    // shutdown does not wait for it. Programs and AssumeRole need no key, so the refresher starts
    // after the attempt even if it failed.
    tokio::select! {
        () = key.attempt() => {}
        _ = stopped.wait_for(|stopped| *stopped) => return,
    }

    let followed = FollowedInstances::default();
    let sources = Sources {
        mint: web_identity_mint(Arc::clone(key.identity()), issuer),
        launcher: Launcher::this_executable(),
    };
    let refresher = Refresher::start(
        precomputed.credentials.clone(),
        Arc::new(sources),
        Arc::new(SystemClock),
        followed.refreshed.targets.clone(),
    );
    tokio::select! {
        () = followed.follow(&registry, &precomputed, &awaited, &mut key) => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    refresher.stop().await;
}

/// What is kept from one change to the next.
#[derive(Default)]
struct FollowedInstances {
    refreshed: RefreshedInstances,
    unsigned: UnsignedDocuments,
}

impl FollowedInstances {
    /// Keeps targets and signatures up to date, and retries a missing key.
    async fn follow(
        mut self,
        registry: &Registry,
        precomputed: &Precomputed,
        awaited: &AwaitedSignatures,
        key: &mut SigningKey,
    ) {
        let feed = registry.change_feed();
        loop {
            key.attempt().await;
            // The changes first: the snapshot then has at least these.
            let changes = feed.take();
            let snapshot = registry.snapshot();
            self.follow_changes(changes, &snapshot, precomputed).await;
            match key.identity().get() {
                Some(identity) => {
                    let unsigned = &mut self.unsigned;
                    let signed = unsigned.sign_some(&snapshot, precomputed, identity, awaited);
                    if signed.await {
                        continue;
                    }
                }
                None => awaited.note_missing_key(),
            }
            tokio::select! {
                () = feed.changed() => {}
                () = sleep_until(key.next_attempt()), if key.is_missing() => {}
            }
        }
    }

    async fn follow_changes(
        &mut self,
        mut changes: Changes,
        snapshot: &Snapshot,
        precomputed: &Precomputed,
    ) {
        let signatures = &precomputed.signatures;
        if changes.everything {
            let entries = snapshot.entries();
            let registered = entries.map(|entry| entry.instance.instance_id.clone());
            changes.instances.extend(registered);
            changes.instances.extend(self.refreshed.ids().cloned());
            changes.instances.extend(signatures.instances());
        }
        for (number, id) in changes.instances.iter().enumerate() {
            let entry = snapshot.entry(id);
            self.refreshed.follow(id, entry);
            self.unsigned.follow(id, entry, signatures);
            if (number + 1) % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::Moment;
    use tokio::time::Instant;

    use super::*;
    use crate::config::demo_instance;
    use crate::registry::memory::MemoryStore;

    /// A full disk at the first start: signatures follow once the key can be stored.
    #[tokio::test]
    async fn documents_are_signed_once_a_missing_key_can_be_stored() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("identity");
        // A directory at the path of the temporary file makes every attempt fail, for root too.
        let obstacle = place.join("key.pem.tmp");
        std::fs::create_dir_all(&obstacle).unwrap();
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        registry
            .register(demo_instance(), Moment::now().wall)
            .await
            .unwrap();
        let precomputed = Precomputed::default();
        let source = || IdentitySource::Stored(place.clone());
        let pause = Duration::from_millis(10);
        let key = SigningKey::new(source(), pause);
        let identity = Arc::clone(key.identity());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(
            Arc::clone(&registry),
            precomputed.clone(),
            AwaitedSignatures::new(Arc::clone(&precomputed.signatures)),
            key,
            String::new(),
            stopped,
        ));
        // This attempt fails like those of the task.
        let mut other = SigningKey::new(source(), pause);
        other.attempt().await;
        assert!(other.is_missing() && identity.get().is_none());

        std::fs::remove_dir(&obstacle).unwrap();
        let snapshot = registry.snapshot();
        let entry = snapshot.entry(&demo_instance().instance_id).unwrap();
        let signature = || {
            precomputed.signatures.read(
                &entry.instance.instance_id,
                entry.identity_document.as_bytes(),
            )
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while signature().is_none() {
            assert!(Instant::now() < deadline, "there is no signature");
            sleep_until(Instant::now() + pause).await;
        }
        stop.send_replace(true);
        task.await.unwrap();
    }
}
