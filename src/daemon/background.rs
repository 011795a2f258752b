//! What is made ahead of need: the identity's key, signatures of the identity documents, role credentials.
//!
//! One task follows the registry. After each publication it says which credentials are wanted and has unsigned documents
//! signed, off the runtime. Guests only ever read what is ready.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
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

/// Where the signing key comes from.
pub enum IdentitySource {
    /// It is there.
    Ready(Box<Identity>),
    /// It is made in this directory: a matter of a second, which nobody waits for.
    Make(PathBuf),
    /// It is made for this process only.
    Ephemeral,
}

impl IdentitySource {
    /// The operator's own key, or the one in the state directory, or none yet. Fails where a key is there and not fit.
    pub fn of(config: &Config) -> Result<IdentitySource, IdentityError> {
        if let Some(own) = &config.identity.own {
            let identity = Identity::of_operator(&own.key, &own.certificate, &own.retired)?;
            return Ok(IdentitySource::Ready(Box::new(identity)));
        }
        let Some(directory) = config.identity_directory() else { return Ok(IdentitySource::Ephemeral) };
        match Identity::read(&directory) {
            Ok(identity) => Ok(IdentitySource::Ready(Box::new(identity))),
            Err(IdentityError::Missing(_)) => Ok(IdentitySource::Make(directory)),
            Err(reason) => Err(reason),
        }
    }

    /// Blocks while a key is made.
    fn identity(self) -> Result<Identity, String> {
        match self {
            IdentitySource::Ready(identity) => Ok(*identity),
            IdentitySource::Make(directory) => {
                let made = Identity::open(&directory, Timestamp::now()).map_err(|reason| reason.to_string())?;
                info!(directory = %directory.display(), "made a key for identity documents");
                Ok(made)
            }
            IdentitySource::Ephemeral => Identity::generate(Timestamp::now()).map_err(|reason| reason.to_string()),
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
        Background { ending, task: tokio::spawn(run(registry, made, source, issuer, ends)) }
    }

    /// Ends it, with every program and call that it has started.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        let _ = self.task.await;
    }
}

async fn run(
    registry: Arc<Registry>,
    made: Made,
    source: IdentitySource,
    issuer: String,
    mut ends: watch::Receiver<bool>,
) {
    // Programs and AssumeRole need no key, so they go on without one.
    let identity = match tokio::task::spawn_blocking(|| source.identity()).await {
        Ok(Ok(identity)) => Some(Arc::new(identity)),
        Ok(Err(reason)) => {
            error!("no signatures and no web identities: {reason}");
            None
        }
        Err(_) => {
            error!("no signatures and no web identities: making the key failed");
            None
        }
    };

    let (want, wanted) = watch::channel(Vec::new());
    let sources = Sources { mint: mint(identity.clone(), issuer) };
    let refresher = Refresher::start(made.credentials.clone(), Arc::new(sources), Arc::new(SystemClock), wanted);

    let mut publications = registry.publications();
    loop {
        publications.borrow_and_update();
        let snapshot = registry.snapshot();
        let all = all_wanted(&snapshot);
        want.send_if_modified(|wanted| {
            let differs = *wanted != all;
            *wanted = all;
            differs
        });
        let signing = async {
            if let Some(identity) = &identity {
                sign(&snapshot, &made, identity).await;
            }
        };
        tokio::select! {
            () = signing => {}
            _ = ends.wait_for(|ends| *ends) => break,
        }
        tokio::select! {
            changed = publications.changed() => if changed.is_err() { break },
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
fn mint(identity: Option<Arc<Identity>>, issuer: String) -> Arc<crate::credentials::Mint> {
    Arc::new(move |request: &WebIdentityRequest| {
        // Without a key or an issuer there is nothing that anybody would believe; the fetch fails, is told and tried again.
        let Some(identity) = identity.as_ref().filter(|_| !issuer.is_empty()) else { return String::new() };
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
