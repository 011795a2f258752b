//! What the daemon signs: identity documents, and web identities for STS.

use std::sync::{Arc, OnceLock};

use tracing::error;

use crate::clock::Moment;
use crate::credentials::{Mint, WebIdentityRequest};
use crate::daemon::background::awaited::AwaitedSignatures;
use crate::guest::Precomputed;
use crate::identity::{Identity, WebIdentityClaims};
use crate::instance::InstanceId;
use crate::registry::Snapshot;

/// How many documents are signed in one blocking task, besides those that guests wait for. The task cannot be interrupted, so a
/// shutdown waits for one batch: milliseconds.
const BATCH: usize = 8;

/// Signs the identity documents that have no signature yet, and drops the signatures of instances
/// that are gone. Documents that guests wait for come first.
pub(super) async fn sign_documents(
    snapshot: &Snapshot,
    precomputed: &Precomputed,
    identity: &Arc<Identity>,
    awaited: &AwaitedSignatures,
) {
    precomputed
        .signatures
        .retain(|id| snapshot.entry(id).is_some());
    let ids: Vec<&InstanceId> = snapshot
        .entries()
        .map(|entry| &entry.instance.instance_id)
        .collect();
    for batch in ids.chunks(BATCH) {
        let requested = awaited.take_requested();
        let batch = requested.iter().chain(batch.iter().copied());
        let batch = batch.filter_map(|id| snapshot.entry(id)).map(|entry| {
            let id = entry.instance.instance_id.clone();
            (id, entry.identity_document.clone())
        });
        sign_batch(batch.collect(), precomputed, identity).await;
        awaited.note_signed();
    }
}

async fn sign_batch(
    batch: Vec<(InstanceId, String)>,
    precomputed: &Precomputed,
    identity: &Arc<Identity>,
) {
    let (signatures, identity) = (Arc::clone(&precomputed.signatures), Arc::clone(identity));
    let sign = move || signatures.sign_missing(&identity, batch, Moment::now().wall);
    match tokio::task::spawn_blocking(sign).await {
        Ok(Ok(_)) => {}
        Ok(Err(reason)) => error!("cannot sign identity documents: {reason}"),
        Err(_) => error!("cannot sign identity documents: the task failed"),
    }
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
