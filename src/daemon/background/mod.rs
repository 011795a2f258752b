//! The background task: precomputes signatures of identity documents and role credentials.
//!
//! The task follows the registry. After each publication it updates the credentials that the
//! refresher keeps fresh, and signs unsigned documents outside the async runtime. Guest requests
//! only read what is precomputed.

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

use crate::credentials::{Launcher, RefreshTarget, Refresher, Sources, SystemClock};
use crate::guest::Precomputed;
use crate::registry::{Registry, Snapshot};

use refresh_targets::refresh_targets;
use signing::{sign_documents, web_identity_mint};
use signing_key::SigningKey;

pub(super) use awaited::AwaitedSignatures;
pub(crate) use identity_source::IdentitySource;

/// How long to wait before a key that could not be read or generated is tried again.
const KEY_RETRY: Duration = Duration::from_secs(60);

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

    let (targets, receiver) = watch::channel(Vec::new());
    let sources = Sources {
        mint: web_identity_mint(Arc::clone(key.identity()), issuer),
        launcher: Launcher::this_executable(),
    };
    let refresher = Refresher::start(
        precomputed.credentials.clone(),
        Arc::new(sources),
        Arc::new(SystemClock),
        receiver,
    );
    tokio::select! {
        () = follow(&registry, &precomputed, &awaited, &mut key, &targets) => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    refresher.stop().await;
}

/// Brings targets and signatures up to date after each publication, and retries a missing key.
/// Returns when the registry is gone.
async fn follow(
    registry: &Registry,
    precomputed: &Precomputed,
    awaited: &AwaitedSignatures,
    key: &mut SigningKey,
    targets: &watch::Sender<Vec<RefreshTarget>>,
) {
    let mut publications = registry.publications();
    loop {
        key.attempt().await;
        publications.borrow_and_update();
        let snapshot = registry.snapshot();
        update_targets(targets, &snapshot);
        match key.identity().get() {
            Some(identity) => sign_documents(&snapshot, precomputed, identity, awaited).await,
            None => awaited.note_missing_key(),
        }
        tokio::select! {
            changed = publications.changed() => if changed.is_err() { break },
            () = sleep_until(key.next_attempt()), if key.is_missing() => {}
        }
    }
}

/// Hands the refresher the targets of this snapshot if they differ from its current ones.
fn update_targets(targets: &watch::Sender<Vec<RefreshTarget>>, snapshot: &Snapshot) {
    let new = refresh_targets(snapshot);
    targets.send_if_modified(|current| {
        let differs = *current != new;
        *current = new;
        differs
    });
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
