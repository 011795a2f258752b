//! What the daemon signs: identity documents, and web identities for STS.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use tracing::error;

use crate::clock::Moment;
use crate::credentials::{Mint, WebIdentityRequest};
use crate::daemon::background::awaited::AwaitedSignatures;
use crate::guest::Precomputed;
use crate::identity::{Identity, SignatureCache, WebIdentityClaims};
use crate::instance::InstanceId;
use crate::registry::{Entry, Snapshot};

/// How many documents are signed in one blocking task, besides those that guests wait for. The task
/// cannot be interrupted, so a shutdown waits for one batch: milliseconds.
const BATCH: usize = 8;

/// The instances whose identity documents have no signatures yet.
#[derive(Default)]
pub(super) struct UnsignedDocuments {
    waiting: BTreeSet<InstanceId>,
    /// They could not be signed, and are tried again after the next change of any instance.
    failed: BTreeSet<InstanceId>,
}

impl UnsignedDocuments {
    /// Follows a change of one instance; `None` if it is not registered any more: its signatures
    /// are dropped.
    pub(super) fn follow(
        &mut self,
        id: &InstanceId,
        entry: Option<&Arc<Entry>>,
        signatures: &SignatureCache,
    ) {
        self.waiting.append(&mut self.failed);
        let is_signed = |entry: &Arc<Entry>| {
            let document = entry.identity_document.as_bytes();
            signatures.read(id, document).is_some()
        };
        match entry {
            Some(entry) if is_signed(entry) => drop(self.waiting.remove(id)),
            Some(_) => drop(self.waiting.insert(id.clone())),
            None => {
                self.waiting.remove(id);
                signatures.remove(id);
            }
        }
    }

    /// Signs some of the documents, first those that guests wait for. Returns whether there were
    /// any.
    pub(super) async fn sign_some(
        &mut self,
        snapshot: &Snapshot,
        precomputed: &Precomputed,
        identity: &Arc<Identity>,
        awaited: &AwaitedSignatures,
    ) -> bool {
        let mut ids = awaited.take_requested();
        ids.extend(self.waiting.iter().take(BATCH).cloned());
        if ids.is_empty() {
            return false;
        }
        let entries = ids.iter().filter_map(|id| snapshot.entry(id));
        let batch = entries.map(|entry| {
            let id = entry.instance.instance_id.clone();
            (id, entry.identity_document.clone())
        });
        let is_signed = sign_batch(batch.collect(), precomputed, identity).await;
        for id in ids {
            if self.waiting.remove(&id) && !is_signed {
                self.failed.insert(id);
            }
        }
        awaited.note_signed();
        true
    }
}

/// Signs the documents of one batch. Returns whether that succeeded.
async fn sign_batch(
    batch: Vec<(InstanceId, String)>,
    precomputed: &Precomputed,
    identity: &Arc<Identity>,
) -> bool {
    let (signatures, identity) = (Arc::clone(&precomputed.signatures), Arc::clone(identity));
    let sign = move || signatures.sign_missing(&identity, batch, Moment::now().wall);
    match tokio::task::spawn_blocking(sign).await {
        Ok(Ok(_)) => return true,
        Ok(Err(reason)) => error!("cannot sign identity documents: {reason}"),
        Err(_) => error!("cannot sign identity documents: the task failed"),
    }
    false
}

/// Returns what signs web identities for STS. `issuer` is the URL under which the operator
/// publishes the keys.
///
/// Without a key or an issuer, STS would reject the token. The result is empty then, so that the
/// fetch fails, is logged and is retried.
pub(super) fn web_identity_mint(
    identity: Arc<OnceLock<Arc<Identity>>>,
    issuer: String,
) -> Arc<Mint> {
    Arc::new(move |request: &WebIdentityRequest| {
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
        let minted = identity.web_identity(&claims, Moment::now().wall);
        minted
            .map(|token| token.expose().to_string())
            .unwrap_or_default()
    })
}
