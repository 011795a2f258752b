//! What is made ahead of need: the identity's key, signatures of the identity documents, role credentials.
//!
//! One task follows the registry. After each publication it says which credentials are wanted and has unsigned documents
//! signed, off the runtime. Guests only ever read what is ready.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use crate::config::Config;
use crate::credentials::{RefreshTarget, Refresher, Sources, SystemClock, WebIdentityRequest};
use crate::guest::{Precomputed, gate};
use crate::identity::{Identity, IdentityError, WebIdentityClaims};
use crate::origin::Family;
use crate::registry::{Entry, Registry, Snapshot};

/// Documents that are signed in one go.
const BATCH: usize = 8;
/// How long until a key that could not be read or made is tried again.
const KEY_AGAIN: Duration = Duration::from_secs(60);

/// Where the signing key comes from.
pub enum IdentitySource {
    /// It is there.
    Ready(Arc<Identity>),
    /// It is made in this directory: a matter of a second, which nobody waits for.
    Stored(PathBuf),
    /// It is in this directory and can't be used. Nothing is made there any more, also when somebody moves it away: it is
    /// to be mended, and with another key verifiers would not believe what guests read.
    Damaged(PathBuf, IdentityError),
    /// It is made for this process only.
    Ephemeral,
}

impl IdentitySource {
    /// The operator's own key, or the one in the state directory, or none yet. Fails for the operator's own key alone, which
    /// is a mistake in the configuration: damage to that in the state directory costs the signatures until it is mended,
    /// and no guest anything else.
    pub fn at_start(config: &Config) -> Result<IdentitySource, IdentityError> {
        if let Some(own) = &config.identity.own {
            let identity = Identity::of_operator(&own.key, &own.certificate, &own.retired)?;
            return Ok(IdentitySource::Ready(Arc::new(identity)));
        }
        let Some(directory) = config.identity_directory() else {
            return Ok(IdentitySource::Ephemeral);
        };
        Ok(IdentitySource::in_directory(directory))
    }

    fn in_directory(directory: PathBuf) -> IdentitySource {
        match Identity::read(&directory) {
            Ok(identity) => IdentitySource::Ready(Arc::new(identity)),
            Err(IdentityError::Missing(_)) => IdentitySource::Stored(directory),
            Err(reason) => IdentitySource::Damaged(directory, reason),
        }
    }

    /// Blocks while a key is read or made.
    fn identity(&self) -> Result<Arc<Identity>, NoKey> {
        let now = Timestamp::now();
        let identity = match self {
            IdentitySource::Ready(identity) => return Ok(Arc::clone(identity)),
            IdentitySource::Stored(directory) => match Identity::read(directory) {
                Err(IdentityError::Missing(_)) => {
                    let made = Identity::open(directory, now).map_err(NoKey::NotMade)?;
                    info!(directory = %directory.display(), "made a key for identity documents");
                    made
                }
                read => read.map_err(NoKey::Damaged)?,
            },
            IdentitySource::Damaged(directory, _) => {
                Identity::read(directory).map_err(NoKey::Damaged)?
            }
            IdentitySource::Ephemeral => Identity::generate(now)
                .map_err(|reason| NoKey::NotMade(IdentityError::Generation(reason)))?,
        };
        Ok(Arc::new(identity))
    }
}

/// Why there is no key.
enum NoKey {
    /// It could not be made.
    NotMade(IdentityError),
    /// It is there and can't be used, or it was.
    Damaged(IdentityError),
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoKey::NotMade(reason) | NoKey::Damaged(reason) => write!(f, "{reason}"),
            NoKey::Unknown => f.write_str("making the key failed"),
        }
    }
}

/// The key, once there is one. Whoever needs it goes on without it until then.
struct Key {
    source: Arc<IdentitySource>,
    identity: Arc<OnceLock<Arc<Identity>>>,
    /// How long until it is tried again.
    pause: Duration,
    again: Instant,
    /// Why there is none, as the operator was told last.
    told: Option<String>,
}

impl Key {
    fn new(source: IdentitySource, pause: Duration) -> Key {
        Key {
            source: Arc::new(source),
            identity: Arc::default(),
            pause,
            again: Instant::now(),
            told: None,
        }
    }

    fn is_missing(&self) -> bool {
        self.identity.get().is_none()
    }

    /// Reads or makes it, where there is none yet and the time has come.
    async fn look(&mut self) {
        if !self.is_missing() || self.again > Instant::now() {
            return;
        }
        let source = Arc::clone(&self.source);
        let found = tokio::task::spawn_blocking(move || source.identity()).await;
        match found.unwrap_or(Err(NoKey::Unknown)) {
            Ok(identity) => {
                info!("the key for identity documents is there");
                let _ = self.identity.set(identity);
            }
            Err(none) => {
                let reason = none.to_string();
                if self.told.as_ref() != Some(&reason) {
                    error!(
                        "no signatures and no web identities: {reason}; tried again every {} s",
                        self.pause.as_secs()
                    );
                    self.told = Some(reason);
                }
                if let (NoKey::Damaged(reason), IdentitySource::Stored(directory)) =
                    (none, &*self.source)
                {
                    self.source = Arc::new(IdentitySource::Damaged(directory.clone(), reason));
                }
                self.again = Instant::now() + self.pause;
            }
        }
    }
}

/// The task.
pub struct Background {
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Background {
    /// Starts it. `issuer` is the URL under which the operator publishes the keys of web identities.
    pub fn start(
        registry: Arc<Registry>,
        made: Precomputed,
        source: IdentitySource,
        issuer: String,
    ) -> Background {
        let (ending, ends) = watch::channel(false);
        Background {
            ending,
            task: tokio::spawn(run(
                registry,
                made,
                Key::new(source, KEY_AGAIN),
                issuer,
                ends,
            )),
        }
    }

    /// Ends it, with every program and call that it has started.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        let _ = self.task.await;
    }
}

async fn run(
    registry: Arc<Registry>,
    made: Precomputed,
    mut key: Key,
    issuer: String,
    mut ends: watch::Receiver<bool>,
) {
    // Programs and AssumeRole need no key, so they go on without one. Whoever ends the daemon does not wait for one.
    tokio::select! {
        () = key.look() => {}
        _ = ends.wait_for(|ends| *ends) => return,
    }

    let (want, wanted) = watch::channel(Vec::new());
    let sources = Sources {
        mint: mint(Arc::clone(&key.identity), issuer),
    };
    let refresher = Refresher::start(
        made.credentials.clone(),
        Arc::new(sources),
        Arc::new(SystemClock),
        wanted,
    );

    let mut publications = registry.publications();
    loop {
        tokio::select! {
            () = key.look() => {}
            _ = ends.wait_for(|ends| *ends) => break,
        }
        publications.borrow_and_update();
        let snapshot = registry.snapshot();
        let all = all_wanted(&snapshot);
        want.send_if_modified(|wanted| {
            let differs = *wanted != all;
            *wanted = all;
            differs
        });
        let signing = async {
            if let Some(identity) = key.identity.get() {
                sign(&snapshot, &made, identity).await;
            }
        };
        tokio::select! {
            () = signing => {}
            _ = ends.wait_for(|ends| *ends) => break,
        }
        tokio::select! {
            changed = publications.changed() => if changed.is_err() { break },
            () = sleep_until(key.again), if key.is_missing() => {}
            _ = ends.wait_for(|ends| *ends) => break,
        }
    }
    refresher.stop().await;
}

/// The credentials that guests could read.
fn all_wanted(snapshot: &Snapshot) -> Vec<RefreshTarget> {
    let wanted = snapshot.entries().filter_map(|entry| {
        let instance = &entry.instance;
        // Nobody reads for an instance that does not run. A disabled endpoint may be enabled again, and read at once.
        if !gate::listens(entry, Family::Ipv4) {
            return None;
        }
        let deliveries = gate::role_deliveries(entry);
        let role = instance
            .imds
            .role
            .clone()
            .filter(|_| !deliveries.is_empty())?;
        Some(RefreshTarget {
            instance: instance.instance_id.clone(),
            launch_epoch: entry.launch_epoch,
            account: instance.owner_id().to_string(),
            role,
            deliveries: deliveries.to_vec(),
        })
    });
    wanted.collect()
}

/// In small batches, so that whoever waits for the end of this waits for milliseconds.
async fn sign(snapshot: &Snapshot, made: &Precomputed, identity: &Arc<Identity>) {
    let document = |entry: &Arc<Entry>| {
        (
            entry.instance.instance_id.clone(),
            entry.identity_document.clone(),
        )
    };
    let documents: Vec<_> = snapshot.entries().map(document).collect();
    made.signatures.retain(|id| snapshot.entry(id).is_some());
    for batch in documents.chunks(BATCH) {
        let (signatures, identity, batch) = (
            Arc::clone(&made.signatures),
            Arc::clone(identity),
            batch.to_vec(),
        );
        let signing = move || signatures.sign_missing(&identity, batch, Timestamp::now());
        match tokio::task::spawn_blocking(signing).await {
            Ok(Ok(_)) => {}
            Ok(Err(reason)) => error!("identity documents stay unsigned: {reason}"),
            Err(_) => error!("identity documents stay unsigned: signing failed"),
        }
    }
}

/// Mints web identities for STS.
fn mint(identity: Arc<OnceLock<Arc<Identity>>>, issuer: String) -> Arc<crate::credentials::Mint> {
    Arc::new(move |request: &WebIdentityRequest| {
        // Without a key or an issuer there is nothing that anybody would believe; the fetch fails, is told and tried again.
        let Some(identity) = identity.get().filter(|_| !issuer.is_empty()) else {
            return String::new();
        };
        let claims = WebIdentityClaims {
            issuer: &issuer,
            instance_id: &request.instance,
            audience: &request.audience,
            account: &request.account,
            role: &request.role_name,
            role_delivery: request.delivery,
        };
        let minted = identity.web_identity(&claims, Timestamp::now());
        minted
            .map(|token| token.expose().to_string())
            .unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::demo_instance;
    use crate::registry::memory::MemoryStore;

    /// A full disk at the first start: signatures come with the key.
    #[tokio::test]
    async fn a_key_that_could_not_be_had_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("identity");
        // A directory in the way of its temporary file fails every attempt, for root too.
        let in_the_way = place.join("key.pem.tmp");
        std::fs::create_dir_all(&in_the_way).unwrap();
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        registry
            .register(demo_instance(), Timestamp::now())
            .await
            .unwrap();
        let made = Precomputed::default();
        let key = Key::new(
            IdentitySource::Stored(place.clone()),
            Duration::from_millis(10),
        );
        let identity = Arc::clone(&key.identity);
        let (ending, ends) = watch::channel(false);
        let task = tokio::spawn(run(
            Arc::clone(&registry),
            made.clone(),
            key,
            String::new(),
            ends,
        ));
        // This attempt fails as those of the task do.
        let mut other = Key::new(
            IdentitySource::Stored(place.clone()),
            Duration::from_millis(10),
        );
        other.look().await;
        assert!(other.is_missing() && other.told.is_some() && identity.get().is_none());

        std::fs::remove_dir(&in_the_way).unwrap();
        let entry = Arc::clone(
            registry
                .snapshot()
                .entry(&demo_instance().instance_id)
                .unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        while made
            .signatures
            .read(
                &entry.instance.instance_id,
                entry.identity_document.as_bytes(),
            )
            .is_none()
        {
            assert!(Instant::now() < deadline, "there is no signature");
            sleep_until(Instant::now() + Duration::from_millis(10)).await;
        }
        ending.send_replace(true);
        task.await.unwrap();
    }

    /// Verifiers believe the certificate that they were given: a key that is being mended is waited for, and no other is
    /// made in its place.
    #[tokio::test]
    async fn a_damaged_key_that_is_moved_away_is_not_replaced_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_path_buf();
        let (file, elsewhere) = (place.join("key.pem"), place.join("key.pem.good"));
        let mut first = Key::new(IdentitySource::Stored(place.clone()), Duration::ZERO);
        first.look().await;
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
            let mut key = Key::new(source, Duration::ZERO);
            if !found_at_start {
                key.look().await;
            }
            std::fs::remove_file(&file).unwrap();
            for _ in 0..2 {
                key.look().await;
                assert!(
                    key.is_missing() && !file.exists(),
                    "found at the start: {found_at_start}"
                );
                assert!(
                    key.told.as_ref().unwrap().contains("there is no key"),
                    "{:?}",
                    key.told
                );
            }
            std::fs::rename(&elsewhere, &file).unwrap();
            key.look().await;
            assert_eq!(key.identity.get().unwrap().certificates_pem(), certificates);
        }
    }
}
