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
use crate::admin::bind;
use crate::admin::claim::LostAttachment;
use crate::admin::refusal::{Refusal, quarantine_message};
use crate::admin::reply::AdminReply;
use crate::audit::Trail;
use crate::clock::Moment;
use crate::document::InstanceDocument;
use crate::instance::{InstanceAttachment, InstanceId, LinkIdentities};
use crate::registry::{ClaimConflict, Claimants, Snapshot, Transaction, UpdateError};

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

    // 2. Read the links that attachments are bound to.
    let links = match options.bind {
        true => {
            let snapshot = api.registry.snapshot();
            bind::read_links(&*api.daemon, attachments(&documents, &snapshot)).await?
        }
        false => LinkIdentities::default(),
    };

    // 3. Apply them all in one transaction.
    let dry_run = options.dry_run;
    let plan =
        move |transaction: &mut Transaction| put_all(transaction, &documents, &options, &links);
    let PutReport { results, lost } =
        match trail.change(&api.registry, Moment::now().wall, plan).await {
            Ok((_, report)) | Err(UpdateError::Refused(PlanAbort::DryRun(report))) => report,
            Err(UpdateError::Refused(PlanAbort::Refused(refusal))) => return Err(refusal),
            Err(UpdateError::Unknown(id)) => return Err(Refusal::unknown_instance(&id)),
            Err(UpdateError::Store(error, changed)) => {
                let partial =
                    "instances earlier in the documents may have been changed; put them again";
                return Err(Refusal::partly_stored(&error, changed, partial));
            }
        };

    // 4. Report what each document did.
    let snapshot = api.registry.snapshot();
    let instances: Vec<Value> = results
        .iter()
        .map(|result| result.to_json(&snapshot))
        .collect();
    let ids: BTreeSet<&InstanceId> = results.iter().map(|result| &result.id).collect();
    Ok(AdminReply::Json(json!({
        "Instances": instances,
        "Disputed": disputed_attachments(&snapshot, &ids),
        "Lost": lost,
        "DryRun": dry_run,
    })))
}

/// Returns the attachments that the documents name, and the stored ones of instances whose document
/// may name none.
fn attachments<'d>(
    documents: &'d [InstanceDocument],
    snapshot: &'d Snapshot,
) -> impl Iterator<Item = &'d InstanceAttachment> {
    documents.iter().flat_map(|document| {
        let stored = snapshot.entry(&document.instance.instance_id);
        let stored = stored
            .into_iter()
            .flat_map(|entry| &entry.instance.imds.attachments);
        document.instance.imds.attachments.iter().chain(stored)
    })
}

/// What a put does.
struct PutReport {
    results: Vec<PutResult>,
    /// Attachments that other instances lose.
    lost: Vec<LostAttachment>,
}

/// Why a planned transaction is not stored.
enum PlanAbort {
    Refused(Refusal),
    /// Nothing is wrong, but the request was for a dry run.
    DryRun(PutReport),
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
    links: &LinkIdentities,
) -> Result<PutReport, PlanAbort> {
    let mut faults = PutFaults {
        single: documents.len() == 1,
        ..PutFaults::default()
    };
    let mut results = Vec::new();
    for document in documents {
        let put = put_document(transaction, document, options, links, &mut faults)?;
        results.extend(put);
    }
    let lost = settle_conflicts(transaction, documents, options, &mut faults);
    let report = PutReport { results, lost };
    match (faults.into_refusal(), options.dry_run) {
        (Some(refusal), _) => Err(PlanAbort::Refused(refusal)),
        (None, true) => Err(PlanAbort::DryRun(report)),
        (None, false) => Ok(report),
    }
}

/// Refuses documents whose attachments other instances hold, or takes the attachments from them if
/// the request insists. Returns what was taken.
fn settle_conflicts(
    transaction: &mut Transaction,
    documents: &[InstanceDocument],
    options: &PutOptions,
    faults: &mut PutFaults,
) -> Vec<LostAttachment> {
    let mut lost = Vec::new();
    for conflict in transaction.unowned_conflicts() {
        let mut documents = documents.iter();
        let of = |document: &&InstanceDocument| document.instance.instance_id == conflict.instance;
        if let Some(document) = documents.find(of) {
            faults.add_conflict(document, conflict.to_string());
        }
    }
    for conflict in transaction.new_conflicts() {
        let of = |id: &InstanceId| {
            let mut documents = documents.iter();
            documents.find(|document| document.instance.instance_id == *id)
        };
        let (Some(document), both) = (of(&conflict.instance), of(&conflict.holder)) else {
            continue;
        };
        let mut refuse = |remedy: &str| {
            let ClaimConflict {
                attachment,
                holder,
                held,
                ..
            } = &conflict;
            let message = format!("{attachment} is in use: {holder} has {held}; {remedy}");
            faults.add_conflict(document, message);
        };
        if both.is_some() {
            refuse("both instances are in this request, so neither can take it from the other");
        } else if let Some(reason) = transaction.before().quarantine_reason(&conflict.holder) {
            refuse(&quarantine_message(&conflict.holder, reason));
        } else if !options.force {
            let holder = &conflict.holder;
            refuse(&format!(
                "stop that instance, run `imdsd instance release {holder}`, or put with --force \
                 (force=true), which takes it"
            ));
        } else {
            transaction.take(&conflict.holder, &conflict.held);
            lost.push(LostAttachment::from(conflict));
        }
    }
    lost
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
