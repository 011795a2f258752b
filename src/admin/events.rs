//! What an operator lets happen: one event, or a scenario, for instances by id, by tag, or all.
//!
//! Everything is stored at once, for all of them or for none; from then on the clock does it. An instance that is terminated
//! is never meant. Without targets the one instance of the host is meant, where there is one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AdminApi, Answer, DaemonView, Refusal, instances};
use crate::document::scenario::Scenario;
use crate::instance::events::request::{EventRequest, Targets};
use crate::instance::events::timeline::{Step, TimelineChange};
use crate::instance::{Instance, InstanceId, InstanceState};
use crate::registry::{Entry, Snapshot, Transaction, UpdateError};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    targets: Option<Targets>,
    #[serde(default)]
    request: Option<EventRequest>,
    #[serde(default)]
    scenario: Option<ScenarioText>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ScenarioText {
    file: PathBuf,
    text: String,
}

/// A step, and the instances that have it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    #[serde(flatten)]
    step: Step,
    instance_ids: Vec<InstanceId>,
}

/// What an event does to the instances that it is for.
struct Scheduled {
    told: Vec<Told>,
    /// What was to come of an instance and is taken back.
    dropped: Vec<(InstanceId, Vec<Step>)>,
}

/// What is in force and still to come, of instances that have some.
pub(super) fn list(snapshot: &Snapshot, now: Timestamp) -> Value {
    let of_instance = |entry: &Arc<Entry>| {
        let instance = &entry.instance;
        let (events, overrides) = (instance.events_at(now), instance.overrides_at(now));
        let to_come: Vec<&Step> = instance
            .imds
            .timeline
            .steps()
            .iter()
            .filter(|step| step.at > now)
            .collect();
        let has_some =
            *events != Default::default() || !overrides.is_empty() || !to_come.is_empty();
        has_some.then(|| {
            json!({
                "InstanceId": instance.instance_id,
                "Events": events,
                "Overrides": overrides,
                "Timeline": to_come,
            })
        })
    };
    json!({ "Instances": snapshot.entries().filter_map(of_instance).collect::<Vec<Value>>() })
}

/// Lets something happen.
pub(super) async fn happen(
    admin: &Arc<AdminApi>,
    body: &Bytes,
    now: Timestamp,
) -> Result<Answer, Refusal> {
    let asked: Asked =
        serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
    let Asked {
        targets,
        request,
        scenario,
    } = asked;
    let wrong = |sentences: Vec<String>| Refusal::new(422, "InvalidEvent", sentences.join("; "));
    let steps: Vec<(Option<Targets>, Step)> = match (request, scenario) {
        (Some(request), None) => {
            let steps = request
                .steps(now, rand::random())
                .map_err(|sentence| wrong(vec![sentence]))?;
            steps
                .into_iter()
                .map(|step| (targets.clone(), step))
                .collect()
        }
        (None, Some(ScenarioText { file, text })) => {
            let scenario = Scenario::parse(&file, &text, now).map_err(Refusal::faulty)?;
            let steps = scenario.steps(now, rand::random).map_err(wrong)?;
            // Whoever names targets means these, whatever the file says.
            steps
                .into_iter()
                .map(|(own, step)| (Some(targets.clone().unwrap_or(own)), step))
                .collect()
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(Refusal::invalid("there is one Request, or one Scenario"));
        }
    };
    let plan = {
        let host = Arc::clone(&admin.daemon);
        move |transaction: &mut Transaction| schedule(transaction, &*host, steps, now)
    };
    let (published, Scheduled { told, dropped }) =
        admin
            .registry
            .change(now, plan)
            .await
            .map_err(|error| match error {
                UpdateError::Unknown(id) => Refusal::unknown(&id),
                UpdateError::Refused(refusal) => refusal,
                UpdateError::Store(error, changed) => Refusal::half_stored(
                    &error,
                    changed,
                    "some of the instances may have it; see `imdsd event list`",
                ),
            })?;
    let instances: Vec<Value> = published
        .iter()
        .map(|entry| json!({ "InstanceId": entry.instance.instance_id, "Generation": entry.generation }))
        .collect();
    let dropped: Vec<Value> = dropped
        .iter()
        .map(|(id, steps)| json!({ "InstanceId": id, "Steps": steps }))
        .collect();
    Ok(Answer::Json(
        json!({ "Instances": instances, "Steps": told, "Dropped": dropped }),
    ))
}

/// Puts every step into the instances that it is for.
fn schedule(
    transaction: &mut Transaction,
    host: &dyn DaemonView,
    steps: Vec<(Option<Targets>, Step)>,
    now: Timestamp,
) -> Result<Scheduled, Refusal> {
    // 1. Who has which.
    let mut of_instance: BTreeMap<InstanceId, Vec<Step>> = BTreeMap::new();
    let mut told = Vec::new();
    for (targets, step) in steps {
        let ids = meant(transaction.before(), targets.as_ref())?;
        for id in &ids {
            of_instance
                .entry(id.clone())
                .or_default()
                .push(step.clone());
        }
        told.push(Told {
            step,
            instance_ids: ids,
        });
    }

    // 2. All of them, or none.
    let (mut sentences, mut dropped) = (Vec::new(), Vec::new());
    for (id, steps) in of_instance {
        let instance = transaction.instance(&id).expect("it was found");
        sentences.extend(
            unfit(instance, host, &steps)
                .into_iter()
                .map(|sentence| format!("{id}: {sentence}")),
        );
        match instance.schedule(steps, now) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => dropped.push((id, gone)),
            Err(faults) => {
                sentences.extend(faults.into_iter().map(|fault| format!("{id}: {fault}")))
            }
        }
    }
    match sentences.is_empty() {
        true => Ok(Scheduled { told, dropped }),
        false => Err(Refusal::new(422, "InvalidEvent", sentences.join("; "))),
    }
}

/// The instances that are meant, at least one.
fn meant(snapshot: &Snapshot, targets: Option<&Targets>) -> Result<Vec<InstanceId>, Refusal> {
    let living = || {
        snapshot
            .entries()
            .filter(|entry| entry.instance.state != InstanceState::Terminated)
    };
    let id = |entry: &Arc<Entry>| entry.instance.instance_id.clone();
    let Some(targets) = targets else {
        let all: Vec<InstanceId> = living().map(id).collect();
        return match all.len() {
            1 => Ok(all),
            count => {
                let message = format!(
                    "there are {count} instances; say for which it is: --instance ID, --tag KEY=VALUE or --all"
                );
                Err(Refusal::invalid(message))
            }
        };
    };
    let all: Vec<InstanceId> = living()
        .filter(|entry| targets.matches(&entry.instance))
        .map(id)
        .collect();
    match (all.is_empty(), targets) {
        (false, _) => Ok(all),
        (true, Targets::Instance(id)) if snapshot.entry(id).is_none() => {
            Err(instances::not_shown(snapshot, id))
        }
        (true, Targets::Instance(id)) => Err(Refusal::new(
            409,
            "IncorrectInstanceState",
            format!("{id} was terminated"),
        )),
        (true, Targets::Tag(tag)) => {
            let message = format!("no instance has the tag {} = {}", tag.key, tag.value);
            Err(Refusal::new(404, "InvalidInstanceID.NotFound", message))
        }
        (true, Targets::All) => Err(Refusal::new(
            404,
            "InvalidInstanceID.NotFound",
            "there is no instance",
        )),
    }
}

/// Overrides that the metadata tree has no place for.
fn unfit(instance: &Instance, host: &dyn DaemonView, steps: &[Step]) -> Vec<String> {
    let overriding = steps.iter().filter_map(|step| match &step.set {
        TimelineChange::Override(leaf) => Some(leaf),
        _ => None,
    });
    let mut sentences = Vec::new();
    for leaf in overriding {
        let known = host.faults(instance);
        let mut with = instance.clone();
        with.imds.overrides.put(&leaf.path, leaf.value.clone());
        let wrong = host
            .faults(&with)
            .into_iter()
            .filter(|fault| !known.contains(fault));
        sentences.extend(wrong.map(|fault| format!("{}: {}", leaf.path, fault.message)));
    }
    sentences
}
