//! What is made ahead of need: the identity's key, signatures of the identity documents, role credentials.
//!
//! One task follows the registry. After each publication it says which credentials are wanted and has unsigned documents
//! signed, off the runtime. Guests only ever read what is ready.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use crate::config::Config;
use crate::credentials::{Delivery, Refresher, Sources, SystemClock, Wanted, WebIdentityRequest};
use crate::guest::admission::Denial;
use crate::guest::{Made, admission};
use crate::identity::{self, Identity, IdentityError, WebIdentityClaims};
use crate::instance::{Family, Switch};
use crate::registry::{Entry, Registry, Snapshot};

/// Documents that are signed in one go.
const BATCH: usize = 8;
/// How long until a key that could not be read or made is tried again.
const KEY_AGAIN: Duration = Duration::from_secs(60);

/// Where the signing key comes from.
pub enum IdentitySource {
    /// It is there.
    Ready(Arc<Identity>),
    /// It is in this directory, or is made there: a matter of a second, which nobody waits for.
    Stored(PathBuf),
    /// It is made for this process only.
    Ephemeral,
}

impl IdentitySource {
    /// The operator's own key, or the one in the state directory, or none yet. Fails where a key is there and not fit.
    pub fn of(config: &Config) -> Result<IdentitySource, IdentityError> {
        if let Some(own) = &config.identity.own {
            let identity = Identity::of_operator(&own.key, &own.certificate, &own.retired)?;
            return Ok(IdentitySource::Ready(Arc::new(identity)));
        }
        let Some(directory) = config.identity_directory() else { return Ok(IdentitySource::Ephemeral) };
        match Identity::read(&directory) {
            Ok(identity) => Ok(IdentitySource::Ready(Arc::new(identity))),
            Err(IdentityError::Missing(_)) => Ok(IdentitySource::Stored(directory)),
            Err(reason) => Err(reason),
        }
    }

    /// The same for a start. Fails for the operator's own key alone, which is a mistake in the configuration: damage to
    /// that in the state directory costs the signatures until it is mended, and no guest anything else.
    pub fn at_start(config: &Config) -> Result<IdentitySource, IdentityError> {
        match (IdentitySource::of(config), config.identity_directory()) {
            (Err(_), Some(directory)) if config.identity.own.is_none() => Ok(IdentitySource::Stored(directory)),
            (source, _) => source,
        }
    }

    /// Blocks while a key is read or made.
    fn identity(&self) -> Result<Arc<Identity>, String> {
        let identity = match self {
            IdentitySource::Ready(identity) => return Ok(Arc::clone(identity)),
            IdentitySource::Stored(directory) => Identity::open(directory, Timestamp::now()),
            IdentitySource::Ephemeral => Identity::generate(Timestamp::now()).map_err(IdentityError::Generation),
        };
        identity.map(Arc::new).map_err(|reason| reason.to_string())
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
        Key { source: Arc::new(source), identity: Arc::default(), pause, again: Instant::now(), told: None }
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
        match found.unwrap_or_else(|_| Err("making the key failed".to_string())) {
            Ok(identity) => {
                info!("the key for identity documents is there");
                let _ = self.identity.set(identity);
            }
            Err(reason) => {
                if self.told.as_ref() != Some(&reason) {
                    error!(
                        "no signatures and no web identities: {reason}; tried again every {} s",
                        self.pause.as_secs()
                    );
                    self.told = Some(reason);
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
    pub fn start(registry: Arc<Registry>, made: Made, source: IdentitySource, issuer: String) -> Background {
        let (ending, ends) = watch::channel(false);
        Background { ending, task: tokio::spawn(run(registry, made, Key::new(source, KEY_AGAIN), issuer, ends)) }
    }

    /// Ends it, with every program and call that it has started.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        let _ = self.task.await;
    }
}

async fn run(registry: Arc<Registry>, made: Made, mut key: Key, issuer: String, mut ends: watch::Receiver<bool>) {
    // Programs and AssumeRole need no key, so they go on without one.
    key.look().await;

    let (want, wanted) = watch::channel(Vec::new());
    let sources = Sources { mint: mint(Arc::clone(&key.identity), issuer) };
    let refresher = Refresher::start(made.credentials.clone(), Arc::new(sources), Arc::new(SystemClock), wanted);

    let mut publications = registry.publications();
    loop {
        key.look().await;
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
fn all_wanted(snapshot: &Snapshot) -> Vec<Wanted> {
    let wanted = snapshot.entries().filter_map(|entry| {
        let instance = &entry.instance;
        // Nobody reads for an instance that does not run. A disabled endpoint may be enabled again, and read at once.
        if matches!(admission::open(entry, Family::Ipv4), Err(Denial::Silence(_))) {
            return None;
        }
        let role = instance.imds.role.clone().filter(|_| instance.iam_instance_profile.is_some())?;
        let v1 = role.v1 == Switch::Enabled && admission::reads_without_token(entry);
        Some(Wanted {
            instance: instance.instance_id.clone(),
            launch_epoch: entry.launch_epoch,
            account: instance.owner_id().to_string(),
            role,
            deliveries: if v1 { vec![Delivery::V1, Delivery::V2] } else { vec![Delivery::V2] },
        })
    });
    wanted.collect()
}

/// In small batches, so that whoever waits for the end of this waits for milliseconds.
async fn sign(snapshot: &Snapshot, made: &Made, identity: &Arc<Identity>) {
    let document = |entry: &Arc<Entry>| (entry.instance.instance_id.clone(), entry.identity_document.clone());
    let documents: Vec<_> = snapshot.entries().map(document).collect();
    made.signatures.retain(|id| snapshot.entry(id).is_some());
    for batch in documents.chunks(BATCH) {
        let (signatures, identity, batch) = (Arc::clone(&made.signatures), Arc::clone(identity), batch.to_vec());
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
        let Some(identity) = identity.get().filter(|_| !issuer.is_empty()) else { return String::new() };
        let delivery = match request.delivery {
            Delivery::V1 => identity::RoleDelivery::V1,
            Delivery::V2 => identity::RoleDelivery::V2,
        };
        let claims = WebIdentityClaims {
            issuer: &issuer,
            instance_id: &request.instance,
            audience: &request.audience,
            account: &request.account,
            role: &request.role_name,
            role_delivery: delivery,
        };
        let minted = identity.web_identity(&claims, Timestamp::now());
        minted.map(|token| token.expose().to_string()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::registry::memory::MemoryStore;

    /// A full disk at the first start, or a damaged key that is put back from a backup: signatures come with the key.
    #[tokio::test]
    async fn a_key_that_could_not_be_had_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("identity");
        // A file in the place of the directory fails every attempt, for root too.
        std::fs::write(&place, "").unwrap();
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        registry.register(demo_instance(), Timestamp::now()).await.unwrap();
        let made = Made::default();
        let key = Key::new(IdentitySource::Stored(place.clone()), Duration::from_millis(10));
        let identity = Arc::clone(&key.identity);
        let (ending, ends) = watch::channel(false);
        let task = tokio::spawn(run(Arc::clone(&registry), made.clone(), key, String::new(), ends));
        // This attempt fails as those of the task do.
        let mut other = Key::new(IdentitySource::Stored(place.clone()), Duration::from_millis(10));
        other.look().await;
        assert!(other.is_missing() && other.told.is_some() && identity.get().is_none());

        std::fs::remove_file(&place).unwrap();
        let entry = Arc::clone(registry.snapshot().entry(&demo_instance().instance_id).unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while made.signatures.read(&entry.instance.instance_id, entry.identity_document.as_bytes()).is_none() {
            assert!(Instant::now() < deadline, "there is no signature");
            sleep_until(Instant::now() + Duration::from_millis(10)).await;
        }
        ending.send_replace(true);
        task.await.unwrap();
    }
}
