//! The handler of a put: read, plan as one transaction, report.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::body::read_documents;
use super::options::PutOptions;
use super::outcome::{PutFaults, PutResult};
use super::transaction::put_document;
use crate::admin::api::AdminApi;
use crate::admin::refusal::Refusal;
use crate::admin::reply::AdminReply;
use crate::audit::Trail;
use crate::clock::Moment;
use crate::document::InstanceDocument;
use crate::instance::InstanceId;
use crate::registry::{Claimants, Snapshot, Transaction, UpdateError};

/// Registers or replaces the instances of the documents in a body.
pub(in crate::admin) async fn put(
    api: &Arc<AdminApi>,
    options: PutOptions,
    body: Bytes,
    trail: &Trail,
) -> Result<AdminReply, Refusal> {
    // 1. Read the documents on another thread: a large directory must not delay guests.
    let reading = {
        let (daemon, options) = (Arc::clone(&api.daemon), options.clone());
        move || read_documents(&*daemon, &options, &body)
    };
    let documents = tokio::task::spawn_blocking(reading)
        .await
        .expect("reading does not panic")?;

    // 2. Apply them all in one transaction.
    let dry_run = options.dry_run;
    let plan = move |transaction: &mut Transaction| put_all(transaction, &documents, &options);
    let results = match trail.change(&api.registry, Moment::now().wall, plan).await {
        Ok((_, results)) => results,
        Err(UpdateError::Refused(PlanAbort::DryRun(results))) => results,
        Err(UpdateError::Refused(PlanAbort::Refused(refusal))) => return Err(refusal),
        Err(UpdateError::Unknown(id)) => return Err(Refusal::unknown_instance(&id)),
        Err(UpdateError::Store(error, changed)) => {
            let partial =
                "instances earlier in the documents may have been changed; put them again";
            return Err(Refusal::partly_stored(&error, changed, partial));
        }
    };

    // 3. Report what each document did.
    let snapshot = api.registry.snapshot();
    let instances: Vec<Value> = results
        .iter()
        .map(|result| result.to_json(&snapshot))
        .collect();
    let ids: BTreeSet<&InstanceId> = results.iter().map(|result| &result.id).collect();
    Ok(AdminReply::Json(json!({
        "Instances": instances,
        "Disputed": disputed_attachments(&snapshot, &ids),
        "DryRun": dry_run,
    })))
}

/// Why a planned transaction is not stored.
enum PlanAbort {
    Refused(Refusal),
    /// Nothing is wrong, but the request was for a dry run.
    DryRun(Vec<PutResult>),
}

impl From<Refusal> for PlanAbort {
    fn from(refusal: Refusal) -> PlanAbort {
        PlanAbort::Refused(refusal)
    }
}

fn put_all(
    transaction: &mut Transaction,
    documents: &[InstanceDocument],
    options: &PutOptions,
) -> Result<Vec<PutResult>, PlanAbort> {
    let mut faults = PutFaults {
        single: documents.len() == 1,
        ..PutFaults::default()
    };
    let mut results = Vec::new();
    for document in documents {
        results.extend(put_document(transaction, document, options, &mut faults)?);
    }
    match (faults.into_refusal(), options.dry_run) {
        (Some(refusal), _) => Err(PlanAbort::Refused(refusal)),
        (None, true) => Err(PlanAbort::DryRun(results)),
        (None, false) => Ok(results),
    }
}

/// Returns the attachments of these instances that several instances claim.
fn disputed_attachments(snapshot: &Snapshot, ids: &BTreeSet<&InstanceId>) -> Vec<Value> {
    let mut disputed: Vec<(String, &BTreeSet<InstanceId>)> = snapshot
        .claims()
        .filter_map(|(attachment, claim)| match claim {
            Claimants::Conflict(claimants) if claimants.iter().any(|id| ids.contains(id)) => {
                Some((attachment.to_string(), claimants))
            }
            Claimants::Conflict(_) | Claimants::One(_) => None,
        })
        .collect();
    disputed.sort();
    disputed
        .into_iter()
        .map(|(attachment, claimants)| json!({ "Attachment": attachment, "Claimants": claimants }))
        .collect()
}
