//! What steps do, in words.

use jiff::{RoundMode, SignedDuration, SignedDurationRound, Timestamp, Unit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::output::{each, joined, text};
use crate::clock::iso_seconds;
use crate::instance::events::injected_fault::FaultRequest;
use crate::instance::events::timeline::{Step, TimelineChange};

/// When a change is in force that guests see now.
pub(super) const IN_FORCE: &str = "in force";

/// The steps of an answer, each with the ids of its instances.
pub(super) fn steps_of(answer: &Value) -> Vec<(Step, String)> {
    each(&answer["Steps"])
        .filter_map(|scheduled| {
            let step = read(&json!({ "At": scheduled["At"], "Set": scheduled["Set"] }))?;
            Some((step, joined(&scheduled["InstanceIds"])))
        })
        .collect()
}

/// What an injection did, in lines.
pub(super) fn outcome_lines(answer: &Value, now: Timestamp) -> String {
    step_lines(answer, now)
        + &cancelled_lines(answer)
        + &cleared_lines(answer)
        + &fault_lines(answer, now)
}

/// One line for each injected fault of an answer.
fn fault_lines(answer: &Value, now: Timestamp) -> String {
    let line = |fault: &Value| {
        let (when, what) = fault_text(fault, now)?;
        let when = if when == IN_FORCE { "now" } else { &when };
        let ids = joined(&fault["InstanceIds"]);
        Some(format!("{when}  {what}: {ids}\n"))
    };
    each(&answer["Faults"]).filter_map(line).collect()
}

/// One line for each instance whose faults ended or were replaced.
fn cleared_lines(answer: &Value) -> String {
    let line = |cleared: &Value| {
        let count = cleared["Count"].as_u64().unwrap_or(0);
        let faults = if count == 1 { "fault" } else { "faults" };
        let id = text(&cleared["InstanceId"]);
        format!("{count} injected {faults} cleared or replaced: {id}\n")
    };
    each(&answer["ClearedFaults"]).map(line).collect()
}

/// When a fault is in force, and what it does.
pub(super) fn fault_text(fault: &Value, now: Timestamp) -> Option<(String, String)> {
    let request: FaultRequest = read(&fault["Fault"])?;
    let from: Timestamp = read(&fault["From"])?;
    let until: Option<Timestamp> = read(&fault["Until"]);
    let mut what = format!("fault on {request}");
    if let Some(until) = until {
        what += &format!(", until {}", iso_seconds(until));
    }
    if let Some(affected) = fault["Affected"].as_u64() {
        what += &format!(" ({affected} requests so far)");
    }
    let when = match moment(from, now).as_str() {
        "now" => IN_FORCE.to_string(),
        later => later.to_string(),
    };
    Some((when, what))
}

/// One line for each step of an answer.
fn step_lines(answer: &Value, now: Timestamp) -> String {
    let line = |(step, ids): (Step, String)| {
        format!(
            "{}  {}: {ids}\n",
            moment(step.at, now),
            change_text(&step.set)
        )
    };
    steps_of(answer).into_iter().map(line).collect()
}

/// One line for each instance whose future steps a clear cancelled.
fn cancelled_lines(answer: &Value) -> String {
    let line = |dropped: &Value| {
        let count = each(&dropped["Steps"]).count();
        let steps = if count == 1 { "step" } else { "steps" };
        let id = text(&dropped["InstanceId"]);
        format!("{count} scheduled {steps} cancelled: {id}\n")
    };
    each(&answer["Dropped"]).map(line).collect()
}

/// The events and overrides of a listed instance that guests see now.
pub(super) fn active_changes(instance: &Value) -> Vec<String> {
    let events = &instance["Events"];
    let spot = read(&events["Spot"]).map(TimelineChange::Spot);
    let rebalance = read(&events["Rebalance"]).map(TimelineChange::Rebalance);
    let maintenance = each(&events["Maintenance"])
        .filter_map(read)
        .map(TimelineChange::Maintenance);
    let lifecycle = read(&events["TargetLifecycleState"]).map(TimelineChange::TargetLifecycleState);
    let events = spot
        .into_iter()
        .chain(rebalance)
        .chain(maintenance)
        .chain(lifecycle)
        .map(|change| change_text(&change));
    let overrides = instance["Overrides"].as_object().into_iter().flatten();
    let overrides = overrides.map(|(path, value)| match value {
        Value::Null => format!("{path} is absent"),
        _ => format!("{path} is set"),
    });
    events.chain(overrides).collect()
}

/// The scheduled steps of a listed instance.
pub(super) fn future_steps(instance: &Value) -> Vec<Step> {
    each(&instance["Timeline"]).filter_map(read).collect()
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

/// `in 5s` or `now`. Parts of a second round up, so that `--in 5s` is shown as `in 5s`.
pub(super) fn moment(time: Timestamp, now: Timestamp) -> String {
    let seconds = SignedDurationRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    match time.duration_since(now).round(seconds) {
        Ok(rounded) if rounded > SignedDuration::ZERO => format!("in {rounded:#}"),
        _ => "now".to_string(),
    }
}

/// What a step changes.
pub(super) fn change_text(change: &TimelineChange) -> String {
    match change {
        TimelineChange::Spot(spot) => {
            let (action, time) = (spot.action.as_str(), iso_seconds(spot.time));
            format!("spot interruption, {action} at {time}")
        }
        TimelineChange::Rebalance(_) => "rebalance recommendation".to_string(),
        TimelineChange::Maintenance(event) => format!(
            "{} {}, {} from {}",
            event.event_id,
            word_of(&event.state),
            word_of(&event.code),
            iso_seconds(event.not_before)
        ),
        TimelineChange::MaintenanceState(change) => {
            format!("{} is {}", change.event_id, word_of(&change.state))
        }
        TimelineChange::TargetLifecycleState(state) => {
            format!("target lifecycle state {}", state.as_str())
        }
        TimelineChange::Override(leaf) if leaf.value.is_some() => format!("{} is set", leaf.path),
        TimelineChange::Override(leaf) => format!("{} is absent", leaf.path),
        TimelineChange::Restore(path) => format!("{path} is restored"),
        TimelineChange::Clear(kinds) => {
            let kinds: Vec<String> = kinds.iter().map(word_of).collect();
            format!("clear {}", kinds.join(", "))
        }
    }
}

fn word_of(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .map(|value| text(&value))
        .unwrap_or_default()
}
