//! Claiming attachments.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::lost::LostAttachment;
use crate::admin::api::AdminApi;
use crate::admin::bind::{bind_attachments, read_links};
use crate::admin::daemon_view::DaemonView;
use crate::admin::instances::check_generation;
use crate::admin::refusal::{Refusal, quarantine_message};
use crate::admin::reply::AdminReply;
use crate::audit::Trail;
use crate::clock::Moment;
use crate::document;
use crate::fault::{Fault, FieldFault};
use crate::instance::{
    Instance, InstanceAttachment, InstanceId, InstanceState, LinkIdentities, SharedText,
};
use crate::registry::{Transaction, UpdateError};

/// `{"Attachments": [{"Interface": "vnet0"}], "Bind": true, "Launch": "New"}`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ClaimRequest {
    /// What the instance has from now on.
    attachments: Vec<InstanceAttachment>,
    /// Keeps the attachments that the instance has already. Without it, it has only these.
    #[serde(default)]
    add: bool,
    /// Binds the attachments to the links that the kernel has now.
    #[serde(default)]
    bind: bool,
    /// Whether the instance starts, too. Without it, it must be running.
    #[serde(default)]
    launch: Option<LaunchKind>,
    /// The only instances that may lose attachments. An empty list: only what no instance has is
    /// claimed.
    #[serde(default)]
    only_from: Option<BTreeSet<InstanceId>>,
    /// A word with which the attachments can be released.
    #[serde(default)]
    claimed_by: Option<String>,
}

/// How an instance starts with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum LaunchKind {
    /// The guest boots: `LaunchTime` is now, session tokens of earlier launches are invalid.
    New,
    /// The guest continues: it was restored, migrated here, or never stopped.
    Resume,
}

/// Gives attachments to an instance, and takes them from the instances that have them.
pub(in crate::admin) async fn claim(
    api: &Arc<AdminApi>,
    id: InstanceId,
    generation: Option<u64>,
    body: &[u8],
    trail: &Trail,
) -> Result<AdminReply, Refusal> {
    trail.name([&id]);
    let request = read(body)?;
    let links = match request.bind {
        true => read_links(&*api.daemon, &request.attachments).await?,
        false => LinkIdentities::default(),
    };
    let now = Moment::now().wall;
    let (daemon, of) = (Arc::clone(&api.daemon), id.clone());
    let plan = move |transaction: &mut Transaction| {
        check_generation(transaction.entry(&of).map(AsRef::as_ref), generation)?;
        start(transaction, &of, request.launch, now)?;
        set_attachments(transaction, &of, &request, &links, &*daemon)?;
        take_from_holders(transaction, &of, request.only_from.as_ref())
    };
    let lost = match trail.change(&api.registry, now, plan).await {
        Ok((_, lost)) => lost,
        Err(UpdateError::Refused(refusal)) => return Err(refusal),
        Err(UpdateError::Unknown(id)) => return Err(Refusal::unknown_instance(&id)),
        Err(UpdateError::Store(error, changed)) => {
            let partial = "some of the instances may have been changed; claim again";
            return Err(Refusal::partly_stored(&error, changed, partial));
        }
    };
    for lost in &lost {
        info!("attachment claimed: {}", lost.in_words());
    }
    let snapshot = api.registry.snapshot();
    let entry = snapshot.entry(&id);
    Ok(AdminReply::Json(json!({
        "InstanceId": id,
        "Generation": entry.map(|entry| entry.generation),
        "LaunchTime": entry.map(|entry| entry.instance.launch_time),
        "Attachments": entry.map(|entry| &entry.instance.imds.attachments),
        "Lost": lost,
    })))
}

fn read(body: &[u8]) -> Result<ClaimRequest, Refusal> {
    let request: ClaimRequest =
        serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
    match request.attachments.is_empty() {
        true => Err(Refusal::invalid("a claim names at least one attachment")),
        false => Ok(request),
    }
}

/// Starts the instance as the claim says, or refuses a claim for one that does not run.
fn start(
    transaction: &mut Transaction,
    id: &InstanceId,
    launch: Option<LaunchKind>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(state) = transaction.entry(id).map(|entry| entry.instance.state) else {
        return Err(Refusal::absent_instance(transaction.before(), id));
    };
    if state == InstanceState::Terminated {
        return Err(Refusal::incorrect_state(format!("{id} was terminated")));
    }
    let instance = match launch {
        Some(LaunchKind::New) => transaction.relaunch(id),
        Some(LaunchKind::Resume) => transaction.instance(id),
        None if state.is_active() => return Ok(()),
        None => {
            return Err(Refusal::incorrect_state(format!(
                "{id} is {}, and claims nothing; claim with --launch (\"Launch\": \"New\") if its \
                 guest boots, or with --resume (\"Resume\") if its guest continues",
                state.as_str()
            )));
        }
    };
    let instance = instance.expect("the instance has an entry");
    instance.state = InstanceState::Running;
    instance.state_transition_reason = None;
    if launch == Some(LaunchKind::New) {
        instance.launch_time = now;
    }
    Ok(())
}

/// Gives the attachments to the instance, and checks the result as a put does.
fn set_attachments(
    transaction: &mut Transaction,
    id: &InstanceId,
    request: &ClaimRequest,
    links: &LinkIdentities,
    daemon: &dyn DaemonView,
) -> Result<(), Refusal> {
    let current = transaction.instance(id).expect("the instance has an entry");
    let mut claimed = request.attachments.clone();
    for attachment in &mut claimed {
        if request.claimed_by.is_some() {
            attachment.claimed_by = request.claimed_by.as_ref().map(SharedText::from);
        }
    }
    let is_claimed = |attachment: &InstanceAttachment| {
        let mut claimed = request.attachments.iter();
        claimed.any(|claimed| claimed.attachment == attachment.attachment)
    };
    let mut kept = match request.add {
        true => current.imds.attachments.clone(),
        false => Vec::new(),
    };
    kept.retain(|attachment| !is_claimed(attachment));

    // Only what is claimed now is bound; what is kept has the bindings that it had.
    let mut instance = current.clone();
    instance.imds.attachments = claimed;
    let mut faults = match request.bind {
        true => bind_attachments(transaction, &mut instance, links),
        false => Vec::new(),
    };
    kept.append(&mut instance.imds.attachments);
    instance.imds.attachments = kept;
    faults.extend(document::faults(&instance));
    faults.extend(daemon.faults(&instance));
    refuse_faults(&instance, faults)?;
    *transaction.instance(id).expect("the instance has an entry") = instance;
    Ok(())
}

fn refuse_faults(instance: &Instance, faults: Vec<FieldFault>) -> Result<(), Refusal> {
    if faults.is_empty() {
        return Ok(());
    }
    let file = std::path::Path::new("request body");
    let faults = faults.into_iter().map(|fault| Fault {
        field: format!("{}: {}", instance.instance_id, fault.field),
        ..fault.in_file(file, 0)
    });
    Err(Refusal::faulty(faults.collect()))
}

/// Takes the instance's attachments from every other holder, or refuses if one may not lose them.
fn take_from_holders(
    transaction: &mut Transaction,
    id: &InstanceId,
    only_from: Option<&BTreeSet<InstanceId>>,
) -> Result<Vec<LostAttachment>, Refusal> {
    if let Some(conflict) = transaction.unowned_conflicts().first() {
        return Err(Refusal::incorrect_state(conflict.to_string()));
    }
    let conflicts = transaction.conflicts_of(id);
    for conflict in &conflicts {
        let (attachment, holder) = (&conflict.attachment, &conflict.holder);
        if only_from.is_some_and(|only| !only.contains(holder)) {
            return Err(Refusal::incorrect_state(format!(
                "{attachment} is in use: {holder} has {}, and the claim does not allow to take it \
                 from there",
                conflict.held
            )));
        }
        if let Some(reason) = transaction.before().quarantine_reason(holder) {
            return Err(Refusal::incorrect_state(format!(
                "{attachment} is reserved for {holder}: {}",
                quarantine_message(holder, reason)
            )));
        }
    }
    for conflict in &conflicts {
        transaction.take(&conflict.holder, &conflict.held);
    }
    let lost: BTreeSet<_> = conflicts.into_iter().map(LostAttachment::from).collect();
    Ok(lost.into_iter().collect())
}
