//! `GET /v1/events` lists events, `POST /v1/events` injects one event or a scenario.
//!
//! An injection changes all of its instances at once, or none. From then on the clock alone decides
//! when each step takes effect. The answer names the instances that have each step: one that was removed
//! meanwhile is not among them. Injected faults are not stored: they are put in force last. Terminated instances get no events. Without targets the event is for
//! the only instance of the host; with several instances it is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::AdminApi;
use super::daemon_view::DaemonView;
use super::faults;
use super::refusal::Refusal;
use super::reply::{AdminReply, Elements, json_text};
use super::targets::{is_for, target_ids};
use crate::audit::Trail;
use crate::document::scenario::Scenario;
use crate::instance::events::injected_fault::FaultChange;
use crate::instance::events::request::{EventRequest, Targets};
use crate::instance::events::timeline::{Step, TimelineChange};
use crate::instance::{Instance, InstanceId};
use crate::lab::InstanceFaults;
use crate::registry::{ChangedInstance, Entry, Progress, Snapshot, UpdateError};

/// The body of an injection: one of `Request` and `Scenario`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Injection {
    #[serde(default)]
    targets: Option<Targets>,
    #[serde(default)]
    request: Option<EventRequest>,
    #[serde(default)]
    scenario: Option<ScenarioFile>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ScenarioFile {
    file: PathBuf,
    text: String,
}

/// A step and its targets; without targets it is for the only instance.
pub(super) type TargetedStep = (Option<Targets>, Step);

/// What an injection consists of.
pub(super) struct InjectionPlan {
    pub(super) steps: Vec<TargetedStep>,
    /// Changes of the injected faults, which are kept in memory and not in timelines.
    pub(super) fault_changes: Vec<(Option<Targets>, FaultChange)>,
}

/// A step and the instances that have it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ScheduledStep<'s> {
    #[serde(flatten)]
    step: &'s Step,
    instance_ids: Vec<&'s InstanceId>,
}

/// What an injection does to the timeline of one instance.
#[derive(Debug, Default)]
struct ScheduleOutcome {
    /// The steps that are for it, by their positions in the injection.
    steps: Vec<usize>,
    /// The future steps that were cancelled.
    cancelled: Vec<Step>,
}

/// Returns the active and the scheduled events of each instance that has some, as JSON text, with the
/// injected faults.
pub(super) fn list(
    snapshot: &Snapshot,
    faults: &BTreeMap<InstanceId, Arc<InstanceFaults>>,
    now: Timestamp,
) -> Vec<u8> {
    let events_of = |entry: &Arc<Entry>| {
        let instance = &entry.instance;
        let (events, overrides) = (instance.events_at(now), instance.overrides_at(now));
        let steps = instance.imds.timeline.steps().iter();
        let future: Vec<&Step> = steps.filter(|step| step.at > now).collect();
        let faults = faults.get(&instance.instance_id);
        let has_some = *events != Default::default()
            || !overrides.is_empty()
            || !future.is_empty()
            || faults.is_some();
        has_some.then(|| {
            json!({
                "InstanceId": instance.instance_id,
                "Events": events,
                "Overrides": overrides,
                "Timeline": future,
                "Faults": faults.map_or_else(Vec::new, |faults| faults::listed(faults, now)),
            })
        })
    };
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct List<I: Serialize> {
        instances: I,
    }
    json_text(&List {
        instances: Elements(|| snapshot.entries().filter_map(events_of)),
    })
}

/// Stores an event or a scenario for its instances.
pub(super) async fn inject(
    api: &Arc<AdminApi>,
    body: &Bytes,
    now: Timestamp,
    trail: &Trail,
    progress: watch::Sender<Progress>,
) -> Result<AdminReply, Refusal> {
    let InjectionPlan {
        steps,
        fault_changes,
    } = read_plan(body, now)?;
    let faults = faults::prepare(api, fault_changes, now).await?;
    let mut answer = match steps.is_empty() {
        true => json!({ "Instances": [], "Steps": [], "Dropped": [] }),
        false => store(api, Arc::new(steps), now, trail, progress).await?,
    };
    let injected = faults.inject(api, now, trail)?;
    answer["Faults"] = injected.faults;
    answer["ClearedFaults"] = injected.cleared;
    Ok(AdminReply::Json(answer))
}

/// Stores the steps in the timelines of their instances.
async fn store(
    api: &Arc<AdminApi>,
    steps: Arc<Vec<TargetedStep>>,
    now: Timestamp,
    trail: &Trail,
    progress: watch::Sender<Progress>,
) -> Result<Value, Refusal> {
    let ids = select(api, &steps).await?;
    let (daemon, of_change) = (Arc::clone(&api.daemon), Arc::clone(&steps));
    let change = move |instance: &mut Instance| schedule(instance, &*daemon, &of_change, now);
    let changed = trail.change_all(&api.registry, ids, now, change, progress);
    let changed = changed.await.map_err(|error| match error {
        UpdateError::Unknown(id) => Refusal::unknown_instance(&id),
        UpdateError::Refused(refusals) => invalid_events(&refusals),
        UpdateError::Store(error, changed) => Refusal::partly_stored(
            &error,
            changed,
            "some of the instances may have the event; see `imdsd event list`",
        ),
    })?;
    if changed.iter().all(|of| of.outcome.steps.is_empty()) {
        // The targets are gone, or the steps are for them no more. Why is what a new call would get,
        // unless there are new targets by now.
        select(api, &steps).await?;
        return Err(Refusal::incorrect_state(
            "the targets changed while the event was prepared, and no instance has it; try again",
        ));
    }
    let entries = changed.iter().filter(|of| of.is_changed());
    let instances: Vec<Value> = entries
        .map(|ChangedInstance { after, .. }| {
            json!({ "InstanceId": after.instance.instance_id, "Generation": after.generation })
        })
        .collect();
    let cancelled = changed.iter().filter(|of| !of.outcome.cancelled.is_empty());
    let dropped: Vec<Value> = cancelled
        .map(|of| {
            json!({ "InstanceId": of.after.instance.instance_id, "Steps": of.outcome.cancelled })
        })
        .collect();
    let steps = scheduled_steps(&steps, &changed);
    Ok(json!({ "Instances": instances, "Steps": steps, "Dropped": dropped }))
}

pub(super) fn read_plan(body: &[u8], now: Timestamp) -> Result<InjectionPlan, Refusal> {
    let Injection {
        targets,
        request,
        scenario,
    } = serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
    match (request, scenario) {
        (Some(request), None) => {
            let steps = request.steps(now, rand::random());
            let steps = steps.map_err(|message| invalid_event(&[message]))?;
            let targeted = steps.into_iter().map(|step| (targets.clone(), step));
            let change = request.fault_change(now);
            let change = change.map_err(|message| invalid_event(&[message]))?;
            Ok(InjectionPlan {
                steps: targeted.collect(),
                fault_changes: change.map(|change| (targets, change)).into_iter().collect(),
            })
        }
        (None, Some(ScenarioFile { file, text })) => {
            let scenario = Scenario::parse(&file, &text, now).map_err(Refusal::faulty)?;
            let steps = scenario.steps(now, rand::random);
            let steps = steps.map_err(|messages| invalid_event(&messages))?;
            let changes = scenario.fault_changes(now);
            let changes = changes.map_err(|messages| invalid_event(&messages))?;
            // The targets of the request take precedence over those of the file.
            let targets_of = |own| Some(targets.clone().unwrap_or(own));
            let steps = steps.into_iter();
            let changes = changes.into_iter();
            Ok(InjectionPlan {
                steps: steps.map(|(own, step)| (targets_of(own), step)).collect(),
                fault_changes: changes
                    .map(|(own, change)| (targets_of(own), change))
                    .collect(),
            })
        }
        (None, None) | (Some(_), Some(_)) => {
            Err(Refusal::invalid("name one Request, or one Scenario"))
        }
    }
}

fn invalid_event(messages: &[String]) -> Refusal {
    Refusal::invalid_event(messages.join("; "))
}

fn invalid_events(refusals: &[(InstanceId, Vec<String>)]) -> Refusal {
    let faults = refusals.iter();
    let faults: Vec<String> = faults
        .flat_map(|(id, faults)| faults.iter().map(move |fault| format!("{id}: {fault}")))
        .collect();
    invalid_event(&faults)
}

/// Returns the instances that the steps are for; refuses if a step is for none.
async fn select(
    api: &AdminApi,
    steps: &Arc<Vec<TargetedStep>>,
) -> Result<BTreeSet<InstanceId>, Refusal> {
    let (snapshot, steps) = (api.registry.snapshot(), Arc::clone(steps));
    let selecting = tokio::task::spawn_blocking(move || {
        let mut ids = BTreeSet::new();
        for (targets, _) in &*steps {
            ids.extend(target_ids(&snapshot, targets.as_ref())?);
        }
        Ok(ids)
    });
    selecting.await.expect("selecting does not panic")
}

/// Returns each step with the instances that have it now.
fn scheduled_steps<'s>(
    steps: &'s [TargetedStep],
    changed: &'s [ChangedInstance<ScheduleOutcome>],
) -> Vec<ScheduledStep<'s>> {
    let with_none = |(_, step): &'s TargetedStep| ScheduledStep {
        step,
        instance_ids: Vec::new(),
    };
    let mut scheduled: Vec<ScheduledStep<'s>> = steps.iter().map(with_none).collect();
    for of in changed {
        for index in &of.outcome.steps {
            let instance_ids = &mut scheduled[*index].instance_ids;
            instance_ids.push(&of.after.instance.instance_id);
        }
    }
    scheduled
}

/// Adds the steps that are for an instance to its timeline: all of them, or none. The instance may
/// have changed since the steps were found to be for it.
///
/// Returns what it did, or every fault.
fn schedule(
    instance: &mut Instance,
    daemon: &dyn DaemonView,
    steps: &[TargetedStep],
    now: Timestamp,
) -> Result<ScheduleOutcome, Vec<String>> {
    let (mut own, mut outcome) = (Vec::new(), ScheduleOutcome::default());
    for (index, (targets, step)) in steps.iter().enumerate() {
        if is_for(targets.as_ref(), instance) {
            own.push(step.clone());
            outcome.steps.push(index);
        }
    }
    if own.is_empty() {
        return Ok(outcome);
    }
    let mut faults = unservable_overrides(instance, daemon, &own);
    match instance.schedule(own, now) {
        Ok(cancelled) if faults.is_empty() => {
            return Ok(ScheduleOutcome {
                cancelled,
                ..outcome
            });
        }
        Ok(_) => {}
        Err(messages) => faults.extend(messages),
    }
    Err(faults)
}

/// Returns the faults of overrides that the metadata tree cannot serve.
fn unservable_overrides(
    instance: &Instance,
    daemon: &dyn DaemonView,
    steps: &[Step],
) -> Vec<String> {
    let overrides = steps.iter().filter_map(|step| match &step.set {
        TimelineChange::Override(leaf) => Some(leaf),
        _ => None,
    });
    let mut faults = Vec::new();
    for leaf in overrides {
        let earlier = daemon.faults(instance);
        let mut changed = instance.clone();
        changed.imds.overrides.put(&leaf.path, leaf.value.clone());
        let new = daemon.faults(&changed).into_iter();
        let new = new.filter(|fault| !earlier.contains(fault));
        faults.extend(new.map(|fault| format!("{}: {}", leaf.path, fault.message)));
    }
    faults
}
