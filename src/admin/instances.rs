//! Instances read, taken in and removed.
//!
//! A document that is put **replaces** what the instance was, with four exceptions. What is changed while an instance
//! runs (by the EC2 API and by `imdsd event`), and its listeners in, stay as stored where the document says nothing of them:
//! each of the metadata options by itself, and the fields of [`KEPT`]. One without `Imds`, as EC2 prints it, says
//! nothing of all that stands there. A secret that an export left out stays too. And `LaunchTime` is the launch's: it
//! counts when the instance is launched anew.
//!
//! ```text
//!   unknown id ─────────────────────────────► registered
//!   stopped, and the document makes it run ──► launched anew: tokens void, identity document made anew
//!   relaunch was asked for ──────────────────► launched anew
//!   what the identity document shows changed ► refused, as its signed bytes are of one launch
//!   else ───────────────────────────────────► replaced: tokens stay valid
//! ```
//!
//! Several documents are judged together, and where one is refused none is taken in. Who was terminated, or whose
//! record can't be read, is not brought back by a document: it is deleted first.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{AdminApi, Answer, Refusal};
use crate::clock::Moment;
use crate::document;
use crate::document::InstanceDocument;
use crate::document::export;
use crate::document::export::Secrets;
use crate::fault::{Fault, FieldFault};
use crate::instance::identity_document::identity_document;
use crate::instance::{Instance, InstanceId, InstanceState};
use crate::registry::{
    Claimants, Entry, QuarantineReason, Registry, Snapshot, StoreError, StoredState, Transaction,
    UpdateError,
};

/// Carries one field over from the stored instance.
type Keep = fn(&mut Instance, &Instance);

/// What a document need not say for it to stay, beside the metadata options.
const KEPT: [(&str, Keep); 8] = [
    ("State", |instance, stored| instance.state = stored.state),
    // Whoever edits a role's name does not mean to cut off the guest.
    ("Imds.Attachments", |instance, stored| {
        instance
            .imds
            .attachments
            .clone_from(&stored.imds.attachments)
    }),
    ("Imds.Events", |instance, stored| {
        instance.imds.events = stored.imds.events.clone()
    }),
    ("Imds.Timeline", |instance, stored| {
        instance.imds.timeline = stored.imds.timeline.clone()
    }),
    ("Imds.Overrides", |instance, stored| {
        instance.imds.overrides = stored.imds.overrides.clone()
    }),
    ("Imds.ManagedSshKeys", |instance, stored| {
        instance
            .imds
            .managed_ssh_keys
            .clone_from(&stored.imds.managed_ssh_keys);
    }),
    ("Imds.DisableApiTermination", |instance, stored| {
        instance.imds.disable_api_termination = stored.imds.disable_api_termination;
    }),
    ("Imds.DisableApiStop", |instance, stored| {
        instance.imds.disable_api_stop = stored.imds.disable_api_stop
    }),
];

/// How documents are taken in.
#[derive(Clone, Debug, Default)]
pub(super) struct Put {
    /// There is one document, and it is of this instance.
    pub(super) only: Option<InstanceId>,
    /// There is one document, and its instance is of this generation.
    pub(super) generation: Option<u64>,
    /// The instances that are known are launched anew.
    pub(super) relaunch: bool,
    /// Everything is checked and nothing done.
    pub(super) dry_run: bool,
}

/// What came of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Registered,
    Replaced,
    Relaunched,
    Unchanged,
}

struct Taken {
    id: InstanceId,
    outcome: Outcome,
    changed: Vec<String>,
}

/// `{"Documents": …}`: several files in one request.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Bundle {
    documents: Vec<BundledDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct BundledDocument {
    file: PathBuf,
    text: String,
}

/// Every instance in a few words, those that are not served too.
pub(super) fn list(snapshot: &Snapshot) -> Value {
    let instances: Vec<Value> = snapshot
        .entries()
        .map(|entry| in_a_few_words(snapshot, entry))
        .collect();
    let unreadable: Vec<&InstanceId> = snapshot.unreadable().collect();
    let not_stored: Vec<&InstanceId> = snapshot.not_stored().collect();
    json!({ "Instances": instances, "Unreadable": unreadable, "NotStored": not_stored })
}

fn in_a_few_words(snapshot: &Snapshot, entry: &Entry) -> Value {
    let instance = &entry.instance;
    let attachments = instance.imds.attachments.iter();
    let attachments: Vec<Value> = attachments
        .map(|attachment| {
            let claim = snapshot.claim(attachment);
            let rivals: Vec<&InstanceId> = claim
                .into_iter()
                .flat_map(|claim| rivals_of(claim, &instance.instance_id))
                .collect();
            let mut of = json!({ "Attachment": attachment, "Text": attachment.to_string() });
            if !rivals.is_empty() {
                of["DisputedWith"] = json!(rivals);
            }
            of
        })
        .collect();
    let name = instance
        .tags
        .iter()
        .find(|tag| tag.key == "Name")
        .map(|tag| tag.value.as_str());
    json!({
        "InstanceId": instance.instance_id,
        "Name": name,
        "State": instance.state.as_str(),
        "InstanceType": instance.instance_type,
        "PrivateIpAddress": instance.primary_private_address(),
        "LaunchTime": instance.launch_time,
        "Generation": entry.generation,
        "MetadataOptions": instance.metadata_options,
        "OptionsState": entry.options_state().as_str(),
        "Attachments": attachments,
    })
}

fn rivals_of<'c>(claim: &'c Claimants, id: &InstanceId) -> Vec<&'c InstanceId> {
    match claim {
        Claimants::One(_) => Vec::new(),
        Claimants::Conflict(several) => several.iter().filter(|other| *other != id).collect(),
    }
}

/// One instance's document.
pub(super) fn get(
    registry: &Registry,
    id: &InstanceId,
    secrets: Secrets,
) -> Result<Answer, Refusal> {
    let snapshot = registry.snapshot();
    let Some(entry) = snapshot.entry(id) else {
        return Err(not_shown(&snapshot, id));
    };
    Ok(Answer::Document(
        export::document_of(&entry.instance, secrets),
        entry.generation,
    ))
}

/// Why there is nothing to be shown, changed or removed of an instance.
pub(super) fn not_shown(snapshot: &Snapshot, id: &InstanceId) -> Refusal {
    match snapshot.quarantine_reason(id) {
        Some(doubt) => Refusal::new(409, "IncorrectInstanceState", quarantined(id, doubt)),
        None => Refusal::unknown(id),
    }
}

/// Every instance's document, as an array: one of the forms of a document.
pub(super) fn export(snapshot: &Snapshot, secrets: Secrets) -> Value {
    snapshot
        .entries()
        .map(|entry| export::document_of(&entry.instance, secrets))
        .collect()
}

/// Removes an instance with its record.
pub(super) async fn delete(
    registry: &Arc<Registry>,
    id: &InstanceId,
    expected: Option<u64>,
) -> Result<Answer, Refusal> {
    let may =
        move |entry: Option<&Arc<Entry>>| check_generation(entry.map(|entry| &**entry), expected);
    registry
        .delete(id, may)
        .await
        .map_err(|error| match error {
            UpdateError::Unknown(id) => not_shown(&registry.snapshot(), &id),
            UpdateError::Refused(refusal) => refusal,
            UpdateError::Store(error, _) => Refusal::store(&error, left_by(&error)),
        })?;
    Ok(Answer::Json(json!({
        "InstanceId": id,
        "Message": "removed with its record; a document in the configured directory registers it anew at the next start \
                    or reload",
    })))
}

/// What a removal that failed leaves.
fn left_by(error: &StoreError) -> &'static str {
    match error.stored {
        StoredState::Previous => "the instance is as it was",
        StoredState::Unknown => {
            "its record may be there or not, and the instance is not served until that is known"
        }
    }
}

/// Takes in documents.
pub(super) async fn put(admin: &Arc<AdminApi>, put: Put, body: Bytes) -> Result<Answer, Refusal> {
    // 1. Read and judge them, off the runtime: a large directory must not keep guests waiting.
    let reading = {
        let (admin, put) = (Arc::clone(admin), put.clone());
        move || read(&admin, &put, &body)
    };
    let documents = tokio::task::spawn_blocking(reading)
        .await
        .expect("reading does not panic")?;

    // 2. Plan them all as one change, under the writer.
    let dry_run = put.dry_run;
    let now = Moment::now().wall;
    let plan = move |transaction: &mut Transaction| {
        let mut wrong = Wrong {
            alone: documents.len() == 1,
            ..Wrong::default()
        };
        let mut taken = Vec::new();
        for document in documents {
            taken.extend(take_in(transaction, document, &put, &mut wrong)?);
        }
        match (wrong.refusal(), dry_run) {
            (Some(refusal), _) => Err(NotDone::Refused(refusal)),
            (None, true) => Err(NotDone::DryRun(taken)),
            (None, false) => Ok(taken),
        }
    };
    let taken = match admin.registry.change(now, plan).await {
        Ok((_, taken)) => taken,
        Err(UpdateError::Refused(NotDone::DryRun(taken))) => taken,
        Err(UpdateError::Refused(NotDone::Refused(refusal))) => return Err(refusal),
        Err(UpdateError::Unknown(id)) => return Err(Refusal::unknown(&id)),
        Err(UpdateError::Store(error, changed)) => {
            let some = "instances before it in the documents may be changed; put them again";
            return Err(Refusal::half_stored(&error, changed, some));
        }
    };

    // 3. Say what came of it.
    let snapshot = admin.registry.snapshot();
    let instances: Vec<Value> = taken.iter().map(|taken| taken.told(&snapshot)).collect();
    let ids: BTreeSet<&InstanceId> = taken.iter().map(|taken| &taken.id).collect();
    Ok(Answer::Json(
        json!({ "Instances": instances, "Disputed": disputed(&snapshot, &ids), "DryRun": dry_run }),
    ))
}

enum NotDone {
    Refused(Refusal),
    DryRun(Vec<Taken>),
}

/// Why documents can't be taken in, all of them together.
#[derive(Default)]
struct Wrong {
    /// There is one document, and nobody needs to be told which it is.
    alone: bool,
    /// What is wrong with the documents.
    faults: Vec<Fault>,
    /// What is right by itself and can't become of the instance as it is now.
    conflicts: Vec<Fault>,
}

impl Wrong {
    fn refusal(self) -> Option<Refusal> {
        let Wrong {
            alone,
            faults,
            mut conflicts,
        } = self;
        match (faults.is_empty(), conflicts.len()) {
            (true, 0) => None,
            (false, _) => Some(Refusal::faulty(
                faults.into_iter().chain(conflicts).collect(),
            )),
            (true, 1) if alone => {
                let Fault { message, .. } = conflicts.remove(0);
                Some(Refusal::new(409, "IncorrectInstanceState", message))
            }
            (true, count) => {
                let message = format!(
                    "{count} instances can't become what their documents say; nothing was changed"
                );
                Some(Refusal {
                    faults: conflicts,
                    ..Refusal::new(409, "IncorrectInstanceState", message)
                })
            }
        }
    }

    fn conflict(&mut self, document: &InstanceDocument, message: String) {
        let InstanceDocument { file, line, .. } = document;
        self.conflicts.push(Fault {
            file: file.clone(),
            line: *line,
            field: String::new(),
            message,
        });
    }
}

impl From<Refusal> for NotDone {
    fn from(refusal: Refusal) -> NotDone {
        NotDone::Refused(refusal)
    }
}

impl Taken {
    fn told(&self, snapshot: &Snapshot) -> Value {
        let generation = snapshot.entry(&self.id).map(|entry| entry.generation);
        json!({ "InstanceId": self.id, "Outcome": self.outcome, "Generation": generation, "Changed": self.changed })
    }
}

/// ListenersStatus in of these instances that several claim.
fn disputed(snapshot: &Snapshot, ids: &BTreeSet<&InstanceId>) -> Vec<Value> {
    let mut disputed: Vec<(String, &BTreeSet<InstanceId>)> = snapshot
        .claims()
        .filter_map(|(attachment, claim)| match claim {
            Claimants::Conflict(several) if several.iter().any(|id| ids.contains(id)) => {
                Some((attachment.to_string(), several))
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

/// The documents of a request's body, in whichever of the forms they came.
fn read(admin: &AdminApi, put: &Put, body: &[u8]) -> Result<Vec<InstanceDocument>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::invalid("the body is not UTF-8"))?;
    // Looked at for its one key; the text is read as a document once more, for lines and for keys that stand twice.
    let is_bundle = serde_json::from_str::<Map<String, Value>>(text)
        .is_ok_and(|map| map.contains_key("Documents"));
    let bundle = match is_bundle {
        true => {
            serde_json::from_str::<Bundle>(text)
                .map_err(|error| Refusal::invalid(error.to_string()))?
                .documents
        }
        false => vec![BundledDocument {
            file: PathBuf::from("the body"),
            text: text.to_string(),
        }],
    };
    let texts = bundle
        .iter()
        .map(|document| (document.file.as_path(), document.text.as_str()));
    let documents = document::read_texts(texts).map_err(Refusal::faulty)?;
    if documents.is_empty() {
        return Err(Refusal::invalid("there is no instance in it"));
    }
    if documents.len() > 1 && (put.only.is_some() || put.generation.is_some()) {
        let message = format!(
            "here is one instance taken in, not {}; POST /v1/instances takes several",
            documents.len()
        );
        return Err(Refusal::invalid(message));
    }
    if let Some(id) = put
        .only
        .as_ref()
        .filter(|id| **id != documents[0].instance.instance_id)
    {
        return Err(Refusal::invalid(format!(
            "the document is of {}, not of {id}",
            documents[0].instance.instance_id
        )));
    }
    let wrong = |document: &InstanceDocument| -> Vec<Fault> {
        admin
            .daemon
            .faults(&document.instance)
            .into_iter()
            .map(|fault| fault_in(document, fault))
            .collect()
    };
    let faults: Vec<Fault> = documents.iter().flat_map(wrong).collect();
    if faults.is_empty() {
        Ok(documents)
    } else {
        Err(Refusal::faulty(faults))
    }
}

fn fault_in(document: &InstanceDocument, fault: FieldFault) -> Fault {
    let id = &document.instance.instance_id;
    Fault {
        file: document.file.clone(),
        line: document.line,
        field: format!("{id}: {}", fault.field),
        message: fault.message,
    }
}

/// Puts one document into the transaction; `None` where it can't be, and `wrong` has why.
fn take_in(
    transaction: &mut Transaction,
    document: InstanceDocument,
    put: &Put,
    wrong: &mut Wrong,
) -> Result<Option<Taken>, Refusal> {
    let id = document.instance.instance_id.clone();
    let stored = transaction.entry(&id).cloned();
    check_generation(stored.as_deref(), put.generation)?;

    // 0. Nobody is brought back, and an export of a host that shows a terminated instance is taken back all the same.
    if let Some(doubt) = transaction.before().quarantine_reason(&id) {
        wrong.conflict(&document, quarantined(&id, doubt));
        return Ok(None);
    }
    let is_terminated = |entry: &Arc<Entry>| entry.instance.state == InstanceState::Terminated;
    if transaction.is_tombstone(&id) || stored.as_ref().is_some_and(is_terminated) {
        return Ok(match document.instance.state {
            InstanceState::Terminated => Some(Taken {
                id,
                outcome: Outcome::Unchanged,
                changed: Vec::new(),
            }),
            _ => {
                wrong.conflict(&document, terminated(&id));
                None
            }
        });
    }

    // 1. The instance as it is to be.
    let mut instance = document.instance.clone();
    let missing =
        export::restore_secrets(&mut instance, stored.as_ref().map(|entry| &entry.instance));
    let source = document_it_is_of(&document, &instance, stored.as_deref());
    if let Some(entry) = &stored {
        keep(&mut instance, &entry.instance, &document);
    }
    // What was kept may not go together with what the document says.
    let faults = missing
        .into_iter()
        .chain(stored.iter().flat_map(|_| document::faults(&instance)));
    wrong
        .faults
        .extend(faults.map(|fault| fault_in(&document, fault)));

    // 2. Of nobody yet.
    let Some(entry) = stored else {
        transaction.register(instance);
        return Ok(Some(Taken {
            id,
            outcome: Outcome::Registered,
            changed: Vec::new(),
        }));
    };

    // 3. Or of somebody, who is launched anew or is not.
    let before = &entry.instance;
    let starts = before.state == InstanceState::Stopped
        && matches!(
            instance.state,
            InstanceState::Pending | InstanceState::Running
        );
    let launched = put.relaunch || starts;
    if !launched {
        instance.launch_time = before.launch_time;
    }
    let fields = changed_fields(before, &instance);
    if !launched
        && before.state != InstanceState::Stopped
        && identity_document(before) != identity_document(&instance)
    {
        let message = format!(
            "{id}: the signed identity document of this launch shows what is different here ({}); to launch it anew, \
             which makes its session tokens void, put it with --relaunch (relaunch=true)",
            fields.join(", ")
        );
        wrong.conflict(&document, message);
        return Ok(None);
    }
    let outcome = match (launched, fields.is_empty()) {
        (true, _) => Outcome::Relaunched,
        (false, true) => Outcome::Unchanged,
        (false, false) => Outcome::Replaced,
    };
    let place = if launched {
        transaction.relaunch(&id)
    } else {
        transaction.instance(&id)
    };
    *place.expect("it has an entry") = instance;
    if let Some(source) = source {
        transaction.set_document(&id, &source);
    }
    Ok(Some(Taken {
        id,
        outcome,
        changed: fields,
    }))
}

/// The document that the instance is of from now on; `None` where it stays of the one that it was of. What EC2 prints
/// of an instance that has an `Imds` from elsewhere is no edit of the document that this stands in.
fn document_it_is_of(
    document: &InstanceDocument,
    instance: &Instance,
    stored: Option<&Entry>,
) -> Option<Instance> {
    let has_imds_of_its_own = |stored: &Instance| {
        let mut beside = stored.clone();
        for (field, keep) in &KEPT {
            match *field {
                // No document without `Imds` gave it one.
                "Imds.Attachments" => {}
                _ => keep(&mut beside, instance),
            }
        }
        beside.imds.owner_id.clone_from(&instance.imds.owner_id);
        beside
            .imds
            .reservation_id
            .clone_from(&instance.imds.reservation_id);
        beside.imds != instance.imds
    };
    let is_of_another = !document.fields.has("Imds")
        && stored.is_some_and(|stored| {
            !stored.document_digest.is_empty() && has_imds_of_its_own(&stored.instance)
        });
    (!is_of_another).then(|| instance.clone())
}

/// Lets stay what the document says nothing of.
fn keep(instance: &mut Instance, stored: &Instance, document: &InstanceDocument) {
    instance.metadata_options = stored.metadata_options;
    document
        .fields
        .options
        .apply(&mut instance.metadata_options);
    if !document.fields.has("Imds") {
        // EC2 has no words for any of it, but what stands beside the instances of a reservation.
        let said = std::mem::replace(&mut instance.imds, stored.imds.clone());
        instance.imds.owner_id = said.owner_id.or(instance.imds.owner_id.take());
        instance.imds.reservation_id = said.reservation_id.or(instance.imds.reservation_id.take());
    }
    for (_, keep) in KEPT.iter().filter(|(field, _)| !document.fields.has(field)) {
        keep(instance, stored);
    }
}

/// The fields that differ, those of `Imds` by themselves.
fn changed_fields(before: &Instance, after: &Instance) -> Vec<String> {
    let (before, after) = (document::to_value(before), document::to_value(after));
    let mut fields = differing(&before, &after, "");
    if let Some(place) = fields.iter().position(|field| field == "Imds") {
        fields.splice(
            place..=place,
            differing(&before["Imds"], &after["Imds"], "Imds."),
        );
    }
    fields
}

fn differing(before: &Value, after: &Value, prefix: &str) -> Vec<String> {
    let names = |value: &Value| -> BTreeSet<String> {
        value
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .cloned()
            .collect()
    };
    let names = &names(before) | &names(after);
    names
        .into_iter()
        .filter(|name| before.get(name) != after.get(name))
        .map(|name| format!("{prefix}{name}"))
        .collect()
}

fn check_generation(entry: Option<&Entry>, expected: Option<u64>) -> Result<(), Refusal> {
    let found = entry.map(|entry| entry.generation);
    match expected {
        Some(expected) if found != Some(expected) => {
            let found = found.map_or("there is no such instance".to_string(), |found| {
                format!("it is {found} by now")
            });
            let message =
                format!("the generation is not {expected}: {found}; get it again, and put that");
            Err(Refusal::new(412, "PreconditionFailed", message))
        }
        _ => Ok(()),
    }
}

/// Why nobody is served as an instance that has a record or a document.
fn quarantined(id: &InstanceId, doubt: QuarantineReason) -> String {
    match doubt {
        QuarantineReason::Unreadable => format!(
            "the record of {id} can't be read, and the instance is not served; put its file back from a backup, or delete it \
             (`imdsd instance delete {id}`) and put its document"
        ),
        QuarantineReason::StateUnknown => format!(
            "a write of the record of {id} failed, and nobody can be sure what is stored; the instance is served again once \
             its record of before could be stored, which is tried over and over. The log says what failed"
        ),
        QuarantineReason::NotStored => format!(
            "the document of {id} could not be stored, and the instance is not served; that is tried again every second, and \
             the log says what failed. To do without it, remove its document and run `imdsd reload`"
        ),
    }
}

fn terminated(id: &InstanceId) -> String {
    format!(
        "{id} was terminated, and no document brings it back; delete it first (`imdsd instance delete {id}`) to register it \
         anew"
    )
}
