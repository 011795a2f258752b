//! The timeline: scheduled changes of an instance's events and overrides. Each step takes effect at
//! its time.
//!
//! No task runs for it. A reader asks for what is in effect at a moment
//! ([`Instance::events_at`](crate::instance::Instance::events_at)), so a stored step takes effect
//! exactly at its time, also after a restart. A writer first folds past steps into `Imds.Events`
//! and `Imds.Overrides` ([`Instance::schedule`](crate::instance::Instance::schedule)), so a record
//! holds only future steps. Both are in the file `schedule`.
//!
//! A step adds an event; when the guest sees the event is still EC2's rule, in [`events`](super).
//! Refused: more than [`MAX_STEPS`] steps, steps that are not in time order, and whatever
//! `Imds.Events` and `Imds.Overrides` would refuse (see [`Timeline::faults`]). Not supported:
//! repetition, and conditions other than time.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::instance::events::maintenance::{
    MAX_MAINTENANCE, Maintenance, MaintenanceState, event_id_fault,
};
use crate::instance::events::model::{Events, Rebalance, SpotInterruption, TargetLifecycleState};
use crate::instance::events::overrides::Overrides;

/// The maximum number of future steps of an instance. It bounds the size of records, and the cost
/// of reads, which go through all steps.
pub const MAX_STEPS: usize = 64;

/// Steps in time order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(Vec<Step>);

/// One step: from `At` on, the change `Set` is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Step {
    /// When it takes effect.
    pub at: Timestamp,
    /// What it changes.
    pub set: TimelineChange,
}

/// What a step changes: `{"Spot": {"Action": "terminate", "Time": "…"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimelineChange {
    /// Sets the spot interruption, replacing any other. Its notice does not appear before the step.
    Spot(SpotInterruption),
    /// Sets the rebalance recommendation, replacing any other.
    Rebalance(Rebalance),
    /// Adds a scheduled event, or replaces the one with its `EventId`.
    Maintenance(Maintenance),
    /// Changes the state of the scheduled event with this `EventId`.
    MaintenanceState(MaintenanceChange),
    /// Sets the target lifecycle state of the Auto Scaling group.
    TargetLifecycleState(TargetLifecycleState),
    /// Sets or hides a leaf of the metadata tree.
    Override(Override),
    /// Removes the override of this path.
    Restore(String),
    /// Removes all events of these kinds, including those from the document.
    Clear(Vec<EventKind>),
}

/// A new state of a scheduled event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MaintenanceChange {
    /// The id of an event that exists at that time.
    pub event_id: String,
    /// Its new state.
    pub state: MaintenanceState,
}

/// A leaf that is set or hidden, as in `Imds.Overrides`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Override {
    /// The path below the version, without a leading slash: `meta-data/public-ipv4`.
    pub path: String,
    /// The text that is served, or `null` to hide the path. Any other JSON is served in one line.
    #[serde(deserialize_with = "served_text")]
    pub value: Option<String>,
}

/// A kind of events that can be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The spot interruption.
    Spot,
    /// The rebalance recommendation.
    Rebalance,
    /// Scheduled events and their history.
    Maintenance,
    /// The target lifecycle state.
    TargetLifecycleState,
    /// Every override.
    Overrides,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 5] = [
        EventKind::Spot,
        EventKind::Rebalance,
        EventKind::Maintenance,
        EventKind::TargetLifecycleState,
        EventKind::Overrides,
    ];
}

/// A fault of a timeline and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineFault {
    /// The step, counted from 0; `None` for the timeline as a whole.
    pub step: Option<usize>,
    /// The path of fields from the step to the faulty one.
    pub fields: Vec<&'static str>,
    /// What is wrong.
    pub message: String,
}

impl Timeline {
    /// Returns the steps in time order.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Returns whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the faults of a timeline on top of an instance's events and overrides.
    pub fn faults(&self, events: &Events, overrides: &Overrides) -> Vec<TimelineFault> {
        self.size_fault()
            .into_iter()
            .chain(self.step_faults(events, overrides))
            .collect()
    }

    /// Returns the steps that are in effect at a moment.
    pub(super) fn until(&self, now: Timestamp) -> impl Iterator<Item = &Step> {
        self.0.iter().filter(move |step| step.at <= now)
    }

    /// Removes the steps that are in effect at a moment.
    pub(super) fn remove_until(&mut self, now: Timestamp) {
        self.0.retain(|step| step.at > now);
    }

    /// Adds steps, each after the existing ones of the same time.
    pub(super) fn insert(&mut self, steps: Vec<Step>) {
        self.0.extend(steps);
        self.0.sort_by_key(|step| step.at);
    }

    /// Removes the steps that new `Clear` steps cancel: later ones, of the kinds that are cleared.
    /// Returns the removed steps in time order.
    pub(super) fn cancel_cleared(&mut self, new: &[Step]) -> Vec<Step> {
        let mut cancelled = Vec::new();
        let clears = new.iter().filter_map(|step| match &step.set {
            TimelineChange::Clear(kinds) => Some((step.at, kinds)),
            _ => None,
        });
        for (at, kinds) in clears {
            self.0.retain_mut(|step| match &mut step.set {
                _ if step.at <= at => true,
                // A later Clear keeps the kinds that this one does not clear.
                TimelineChange::Clear(own) if own.iter().any(|kind| !kinds.contains(kind)) => {
                    own.retain(|kind| !kinds.contains(kind));
                    true
                }
                set if set.kinds().iter().all(|kind| kinds.contains(kind)) => {
                    cancelled.push(step.clone());
                    false
                }
                _ => true,
            });
        }
        cancelled.sort_by_key(|step| step.at);
        cancelled
    }

    /// Returns the fault of having too many steps.
    pub(super) fn size_fault(&self) -> Option<TimelineFault> {
        let count = self.0.len();
        (count > MAX_STEPS).then(|| TimelineFault {
            step: None,
            fields: Vec::new(),
            message: format!("a timeline has at most {MAX_STEPS} steps, not {count}"),
        })
    }

    /// Returns the faults of each step, given the events and overrides that the steps before it
    /// leave.
    pub(super) fn step_faults(&self, events: &Events, overrides: &Overrides) -> Vec<TimelineFault> {
        let mut faults = Vec::new();
        let (mut events, mut overrides) = (Cow::Borrowed(events), Cow::Borrowed(overrides));
        for (index, step) in self.0.iter().enumerate() {
            let mut found = Vec::new();
            if index > 0 && step.at < self.0[index - 1].at {
                let message =
                    "steps must be in time order; this one is earlier than the one before it";
                found.push(TimelineFault::of_field(&["At"], message));
            }
            found.extend(step.set.fault(&events));
            // A step is blamed only for the faults that it adds.
            let before = step.set.resulting_faults(&events, &overrides);
            step.set.apply_to_events(&mut events);
            step.set.apply_to_overrides(&mut overrides);
            let after = step.set.resulting_faults(&events, &overrides);
            found.extend(after.into_iter().filter(|fault| !before.contains(fault)));

            faults.extend(found.into_iter().map(|fault| TimelineFault {
                step: Some(index),
                ..fault
            }));
        }
        faults
    }
}

impl FromIterator<Step> for Timeline {
    /// Collects steps in any order and sorts them by time.
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Timeline {
        let mut timeline = Timeline::default();
        timeline.insert(steps.into_iter().collect());
        timeline
    }
}

impl TimelineFault {
    /// Returns a fault of a field. The caller sets the step.
    fn of_field(fields: &[&'static str], message: impl Into<String>) -> TimelineFault {
        TimelineFault {
            step: None,
            fields: fields.to_vec(),
            message: message.into(),
        }
    }
}

impl TimelineChange {
    /// Returns the kinds of events that it changes.
    fn kinds(&self) -> &[EventKind] {
        match self {
            TimelineChange::Spot(_) => &[EventKind::Spot],
            TimelineChange::Rebalance(_) => &[EventKind::Rebalance],
            TimelineChange::Maintenance(_) | TimelineChange::MaintenanceState(_) => {
                &[EventKind::Maintenance]
            }
            TimelineChange::TargetLifecycleState(_) => &[EventKind::TargetLifecycleState],
            TimelineChange::Override(_) | TimelineChange::Restore(_) => &[EventKind::Overrides],
            TimelineChange::Clear(kinds) => kinds,
        }
    }

    /// Returns the fault of the change itself, given the events before it.
    fn fault(&self, events: &Events) -> Option<TimelineFault> {
        match self {
            TimelineChange::Maintenance(event) => event_id_fault(&event.event_id).map(|message| {
                TimelineFault::of_field(&["Set", "Maintenance", "EventId"], message)
            }),
            TimelineChange::MaintenanceState(change) => {
                let mut known = events.maintenance.iter();
                let exists = known.any(|event| event.event_id == change.event_id);
                (!exists).then(|| {
                    let id = change.event_id.escape_debug();
                    let message = format!("there is no event {id} at that time");
                    TimelineFault::of_field(&["Set", "MaintenanceState", "EventId"], message)
                })
            }
            TimelineChange::Clear(kinds) => kinds
                .is_empty()
                .then(|| TimelineFault::of_field(&["Set", "Clear"], "lists no kind to clear")),
            TimelineChange::Spot(_)
            | TimelineChange::Rebalance(_)
            | TimelineChange::TargetLifecycleState(_)
            | TimelineChange::Override(_)
            | TimelineChange::Restore(_) => None,
        }
    }

    /// Returns the faults of events and overrides that this change can cause. To be compared before
    /// and after it.
    fn resulting_faults(&self, events: &Events, overrides: &Overrides) -> Vec<TimelineFault> {
        let mut faults = Vec::new();
        if events.maintenance.len() > MAX_MAINTENANCE {
            let message = format!(
                "an instance has at most {MAX_MAINTENANCE} scheduled events, past ones included; clear them"
            );
            faults.push(TimelineFault::of_field(&["Set", "Maintenance"], message));
        }
        if overrides.is_full() {
            faults.push(TimelineFault::of_field(
                &["Set", "Override"],
                Overrides::full(),
            ));
        }
        // Only an override can add a fault of overrides, and looking for them is slow.
        if matches!(self, TimelineChange::Override(_)) {
            faults.extend(overrides.faults().into_iter().map(|fault| {
                let message = format!("{}: {}", fault.field.escape_debug(), fault.message);
                TimelineFault::of_field(&["Set", "Override", "Path"], message)
            }));
        }
        faults
    }

    /// Applies the change to events.
    pub(super) fn apply_to_events(&self, events: &mut Cow<'_, Events>) {
        match self {
            TimelineChange::Spot(spot) => events.to_mut().spot = Some(spot.clone()),
            TimelineChange::Rebalance(rebalance) => {
                events.to_mut().rebalance = Some(rebalance.clone())
            }
            TimelineChange::Maintenance(event) => events.to_mut().put_maintenance(event.clone()),
            TimelineChange::MaintenanceState(change) => {
                let known = events
                    .to_mut()
                    .maintenance
                    .iter_mut()
                    .find(|event| event.event_id == change.event_id);
                known
                    .into_iter()
                    .for_each(|event| event.state = change.state);
            }
            TimelineChange::TargetLifecycleState(state) => {
                events.to_mut().target_lifecycle_state = Some(*state)
            }
            TimelineChange::Clear(kinds) => kinds.iter().for_each(|kind| match kind {
                EventKind::Spot => events.to_mut().spot = None,
                EventKind::Rebalance => events.to_mut().rebalance = None,
                EventKind::Maintenance => events.to_mut().maintenance.clear(),
                EventKind::TargetLifecycleState => events.to_mut().target_lifecycle_state = None,
                EventKind::Overrides => {}
            }),
            TimelineChange::Override(_) | TimelineChange::Restore(_) => {}
        }
    }

    /// Applies the change to overrides.
    pub(super) fn apply_to_overrides(&self, overrides: &mut Cow<'_, Overrides>) {
        match self {
            TimelineChange::Override(Override { path, value }) => {
                overrides.to_mut().put(path, value.clone())
            }
            TimelineChange::Restore(path) => overrides.to_mut().restore(path),
            TimelineChange::Clear(kinds) if kinds.contains(&EventKind::Overrides) => {
                *overrides = Cow::default()
            }
            TimelineChange::Clear(_)
            | TimelineChange::Spot(_)
            | TimelineChange::Rebalance(_)
            | TimelineChange::Maintenance(_)
            | TimelineChange::MaintenanceState(_)
            | TimelineChange::TargetLifecycleState(_) => {}
        }
    }
}

/// Returns the text that a leaf shows for a JSON value: a string as it is, none for `null`, and any
/// other JSON in one line.
pub fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn served_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Value::deserialize(from).map(text_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use crate::instance::Instance;
    use serde_json::json;

    const EVENT: &str = "instance-event-0123456789abcdef0";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn instance(events: Value, overrides: Value, timeline: &[(i64, Value)]) -> Instance {
        let steps: Vec<Value> = timeline
            .iter()
            .map(|(second, set)| json!({ "At": at(*second), "Set": set }))
            .collect();
        document::from_value(json!({
            "InstanceId": "i-12345678", "LaunchTime": "2026-01-01T00:00:00Z",
            "Imds": { "Events": events, "Overrides": overrides, "Timeline": steps },
        }))
        .unwrap()
    }

    fn maintenance(state: &str) -> Value {
        json!({ "Maintenance": { "EventId": EVENT, "Code": "system-reboot", "Description": "scheduled reboot",
                                 "NotBefore": at(1000), "State": state } })
    }

    fn everything() -> Instance {
        instance(
            json!({ "TargetLifecycleState": "InService" }),
            json!({ "meta-data/x": "0", "meta-data/public-ipv4": null }),
            &[
                (
                    10,
                    json!({ "Spot": { "Action": "terminate", "Time": at(130) } }),
                ),
                (20, json!({ "Rebalance": { "NoticeTime": at(20) } })),
                (30, maintenance("active")),
                (
                    40,
                    json!({ "MaintenanceState": { "EventId": EVENT, "State": "completed" } }),
                ),
                (50, json!({ "TargetLifecycleState": "Terminated" })),
                (
                    60,
                    json!({ "Override": { "Path": "meta-data/x", "Value": { "b": [1], "a": "t" } } }),
                ),
                (
                    70,
                    json!({ "Override": { "Path": "meta-data/x", "Value": null } }),
                ),
                (80, json!({ "Restore": "meta-data/public-ipv4" })),
                (90, json!({ "Clear": ["Spot", "Maintenance"] })),
                (
                    100,
                    json!({ "Clear": ["Rebalance", "TargetLifecycleState", "Overrides"] }),
                ),
            ],
        )
    }

    /// Returns what metadata shows at a moment: spot, rebalance, scheduled events, history, state,
    /// two overrides.
    fn shown(instance: &Instance, second: i64) -> (bool, bool, bool, bool, String, String, String) {
        let (events, overrides) = (
            instance.events_at(at(second)),
            instance.overrides_at(at(second)),
        );
        (
            events.spot_instance_action(at(second)).is_some(),
            events.rebalance_recommendation(at(second)).is_some(),
            events.maintenance_scheduled() != "[]",
            events.maintenance_history() != "[]",
            events
                .target_lifecycle_state
                .map_or("", TargetLifecycleState::as_str)
                .to_string(),
            format!("{:?}", overrides.of("meta-data/x")),
            format!("{:?}", overrides.of("meta-data/public-ipv4")),
        )
    }

    #[test]
    #[rustfmt::skip]
    fn a_step_takes_effect_at_its_time() {
        let instance = everything();
        let (json, untouched) = (r#"Set("{\"a\":\"t\",\"b\":[1]}")"#, "NotOverridden");
        for (second, spot, rebalance, scheduled, history, state, x, address) in [
            (9, false, false, false, false, "InService", r#"Set("0")"#, "Hidden"),
            (10, true, false, false, false, "InService", r#"Set("0")"#, "Hidden"),
            (19, true, false, false, false, "InService", r#"Set("0")"#, "Hidden"),
            (20, true, true, false, false, "InService", r#"Set("0")"#, "Hidden"),
            (30, true, true, true, false, "InService", r#"Set("0")"#, "Hidden"),
            (40, true, true, false, true, "InService", r#"Set("0")"#, "Hidden"),
            (50, true, true, false, true, "Terminated", r#"Set("0")"#, "Hidden"),
            (60, true, true, false, true, "Terminated", json, "Hidden"),
            (70, true, true, false, true, "Terminated", "Hidden", "Hidden"),
            (80, true, true, false, true, "Terminated", "Hidden", untouched),
            (90, false, true, false, false, "Terminated", "Hidden", untouched),
            (100, false, false, false, false, "", untouched, untouched),
            (9999, false, false, false, false, "", untouched, untouched),
        ] {
            let expected = (spot, rebalance, scheduled, history, state.into(), x.into(), address.into());
            assert_eq!(shown(&instance, second), expected, "{second}");
        }
    }

    /// Whenever the timeline is folded, later reads give the same result.
    #[test]
    fn folding_does_not_change_later_reads() {
        let whole = everything();
        for fold in (0..=110).step_by(5) {
            let mut folded = whole.clone();
            folded.fold_timeline(at(fold));
            assert_eq!(
                folded.imds.timeline.steps().len(),
                (0..10).filter(|step| 10 * step + 10 > fold).count()
            );
            for second in (fold..=120).step_by(5) {
                assert_eq!(
                    shown(&folded, second),
                    shown(&whole, second),
                    "folded at {fold}, read at {second}"
                );
            }
        }
    }

    /// The step adds the interruption; the notice still appears two minutes before its time:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
    #[test]
    fn an_early_step_does_not_show_the_notice_earlier_than_ec2() {
        let spot =
            |action: &str, time: i64| json!({ "Spot": { "Action": action, "Time": at(time) } });
        for (action, time, notice) in [
            ("terminate", 600, 480),
            ("stop", 600, 480),
            ("hibernate", 600, 600),
        ] {
            let instance = instance(json!({}), json!({}), &[(10, spot(action, time))]);
            assert!(!shown(&instance, notice - 1).0, "{action}");
            assert!(shown(&instance, notice).0, "{action}");
        }
        // A late step delays the notice.
        let instance = instance(json!({}), json!({}), &[(590, spot("stop", 600))]);
        assert!(!shown(&instance, 589).0);
        assert!(shown(&instance, 590).0);
    }

    #[test]
    fn new_steps_are_sorted_by_time_and_past_steps_take_effect_at_once() {
        let mut instance = everything();
        let step = |second, state| Step {
            at: at(second),
            set: TimelineChange::TargetLifecycleState(state),
        };
        let steps = [
            step(300, TargetLifecycleState::Detached),
            step(45, TargetLifecycleState::Standby),
        ];
        instance
            .schedule(
                steps
                    .into_iter()
                    .chain([step(5, TargetLifecycleState::WarmedStopped)]),
                at(35),
            )
            .unwrap();
        assert!(shown(&instance, 35).2, "past steps are kept");
        assert_eq!(shown(&instance, 35).4, "Warmed:Stopped");
        assert_eq!(shown(&instance, 45).4, "Standby");
        assert_eq!(shown(&instance, 50).4, "Terminated");
        assert_eq!(shown(&instance, 300).4, "Detached");
        assert_eq!(instance.imds.timeline.steps().len(), 9);
        assert!(
            instance
                .imds
                .timeline
                .steps()
                .is_sorted_by_key(|step| step.at)
        );
    }

    #[test]
    fn a_schedule_with_faults_changes_nothing() {
        let before = everything();
        let mut instance = before.clone();
        let states = (0..60).map(|second| Step {
            at: at(200 + second),
            set: TimelineChange::TargetLifecycleState(TargetLifecycleState::Standby),
        });
        let faults = instance.schedule(states, at(0)).unwrap_err();
        assert_eq!(faults, ["a timeline has at most 64 steps, not 70"]);
        assert_eq!(instance, before);
    }

    /// Cleared kinds are gone at the time of the step and later.
    #[test]
    fn a_clear_cancels_later_steps_of_its_kinds() {
        use EventKind::{Maintenance, Overrides, Rebalance, Spot};
        // The remaining steps, by their second. The last two steps clear other kinds too and are
        // split.
        for (kinds, second, left) in [
            (vec![Spot], 0, vec![20, 30, 40, 50, 60, 70, 80, 90, 100]),
            (vec![Spot], 10, vec![20, 30, 40, 50, 60, 70, 80, 90, 100]),
            (
                vec![Rebalance],
                0,
                vec![10, 30, 40, 50, 60, 70, 80, 90, 100],
            ),
            (vec![Maintenance], 0, vec![10, 20, 50, 60, 70, 80, 90, 100]),
            // Between the start and the end of a scheduled event: the end would find no event.
            (vec![Maintenance], 35, vec![50, 60, 70, 80, 90, 100]),
            (
                vec![EventKind::TargetLifecycleState],
                0,
                vec![10, 20, 30, 40, 60, 70, 80, 90, 100],
            ),
            (vec![Overrides], 65, vec![90, 100]),
            (vec![Spot, Maintenance], 0, vec![20, 50, 60, 70, 80, 100]),
            (EventKind::ALL.to_vec(), 55, vec![]),
        ] {
            let mut instance = everything();
            let clear = Step {
                at: at(second),
                set: TimelineChange::Clear(kinds.clone()),
            };
            let before = instance
                .imds
                .timeline
                .steps()
                .iter()
                .filter(|step| step.at > at(second))
                .count();
            let dropped = instance.schedule([clear], at(second)).unwrap();
            let seen: Vec<i64> = instance
                .imds
                .timeline
                .steps()
                .iter()
                .map(|step| step.at.as_second() - 1_800_000_000)
                .collect();
            assert_eq!(seen, left, "{kinds:?} at {second}");
            assert_eq!(dropped.len(), before - left.len(), "{kinds:?} at {second}");
            assert!(kinds.iter().all(|kind| {
                let still = |step: &Step| step.set.kinds().contains(kind);
                !instance.imds.timeline.steps().iter().any(still)
            }));
        }
        // A future clear keeps the steps before it and the steps that are added with it.
        let mut instance = everything();
        let state = TargetLifecycleState::Standby;
        let new = [
            Step {
                at: at(45),
                set: TimelineChange::Clear(vec![Rebalance, EventKind::TargetLifecycleState]),
            },
            Step {
                at: at(55),
                set: TimelineChange::TargetLifecycleState(state),
            },
        ];
        assert_eq!(instance.schedule(new, at(0)).unwrap().len(), 1);
        assert_eq!(shown(&instance, 44).4, "InService");
        assert_eq!(
            (shown(&instance, 45).4, shown(&instance, 54).1),
            (String::new(), false)
        );
        assert_eq!(
            (shown(&instance, 55).4, shown(&instance, 9999).4),
            ("Standby".into(), "Standby".into())
        );
    }

    #[test]
    fn a_full_timeline_accepts_steps_that_take_effect_at_once_but_no_future_ones() {
        let spot = |second: i64| {
            (
                second,
                json!({ "Spot": { "Action": "stop", "Time": at(1000) } }),
            )
        };
        let full: Vec<_> = (0..64).map(|second| spot(100 + second)).collect();
        let step = |second, set| Step {
            at: at(second),
            set,
        };
        let standby = || TimelineChange::TargetLifecycleState(TargetLifecycleState::Standby);
        let clear = |kind| TimelineChange::Clear(vec![kind]);
        for (new, left) in [
            (step(0, clear(EventKind::Spot)), Some(0)),
            (step(0, clear(EventKind::Rebalance)), Some(64)),
            (step(0, standby()), Some(64)),
            (step(50, standby()), None),
            (step(50, clear(EventKind::Spot)), Some(1)),
        ] {
            let mut instance = instance(json!({}), json!({}), &full);
            let outcome = instance.schedule([new.clone()], at(0));
            assert_eq!(outcome.is_ok(), left.is_some(), "{new:?}: {outcome:?}");
            assert_eq!(
                instance.imds.timeline.steps().len(),
                left.unwrap_or(64),
                "{new:?}"
            );
        }
    }

    #[test]
    fn each_fault_has_its_step_and_field() {
        let events = json!({ "Maintenance": [maintenance("active")["Maintenance"]] });
        let set =
            |path: &str, value: Value| json!({ "Override": { "Path": path, "Value": value } });
        for good in [
            vec![
                (1, set("meta-data/a", json!("1"))),
                (1, json!({ "Restore": "meta-data/a" })),
                (1, set("meta-data/a/b", json!("1"))),
            ],
            vec![(
                1,
                json!({ "MaintenanceState": { "EventId": EVENT, "State": "canceled" } }),
            )],
        ] {
            let instance = instance(events.clone(), json!({}), &good);
            assert_eq!(
                instance
                    .imds
                    .timeline
                    .faults(&instance.imds.events, &instance.imds.overrides),
                [],
                "{good:?}"
            );
        }
        let other = "instance-event-aaaaaaaaaaaaaaaaa";
        for (bad, step, field) in [
            (
                vec![
                    (2, json!({ "Restore": "meta-data/a" })),
                    (1, json!({ "Restore": "meta-data/a" })),
                ],
                1,
                "At",
            ),
            (
                vec![(1, set("user-data", json!("x")))],
                0,
                "Set.Override.Path",
            ),
            (
                vec![(1, set("meta-data/tags/instance/Name", json!("x")))],
                0,
                "Set.Override.Path",
            ),
            (
                vec![(1, set("meta-data/iam/security-credentials/r", json!({})))],
                0,
                "Set.Override.Path",
            ),
            (
                vec![
                    (1, set("meta-data/a", json!("1"))),
                    (2, set("meta-data/a/b", json!("1"))),
                ],
                1,
                "Set.Override.Path",
            ),
            (
                vec![
                    (1, set("meta-data/a/b", json!("1"))),
                    (2, set("meta-data/a", json!("1"))),
                ],
                1,
                "Set.Override.Path",
            ),
            (
                vec![(1, set("meta-data/a", json!("x".repeat(16_385))))],
                0,
                "Set.Override.Path",
            ),
            (vec![(1, json!({ "Clear": [] }))], 0, "Set.Clear"),
            (
                vec![(
                    1,
                    json!({ "MaintenanceState": { "EventId": other, "State": "canceled" } }),
                )],
                0,
                "Set.MaintenanceState.EventId",
            ),
            (
                vec![
                    (1, json!({ "Clear": ["Maintenance"] })),
                    (
                        2,
                        json!({ "MaintenanceState": { "EventId": EVENT, "State": "active" } }),
                    ),
                ],
                1,
                "Set.MaintenanceState.EventId",
            ),
            (
                vec![(
                    1,
                    json!({ "Maintenance": { "EventId": "e", "Code": "instance-stop", "Description": "", "NotBefore": at(1) } }),
                )],
                0,
                "Set.Maintenance.EventId",
            ),
        ] {
            let instance = instance(events.clone(), json!({}), &bad);
            let faults = instance
                .imds
                .timeline
                .faults(&instance.imds.events, &instance.imds.overrides);
            let places: Vec<_> = faults
                .iter()
                .map(|fault| (fault.step, fault.fields.join(".")))
                .collect();
            assert_eq!(places, [(Some(step), field.to_string())], "{bad:?}");
        }
    }

    #[test]
    fn unknown_fields_and_values_are_refused() {
        for bad in [
            json!({ "Set": { "Restore": "x" } }),
            json!({ "At": "soon", "Set": { "Restore": "x" } }),
            json!({ "At": at(0) }),
            json!({ "At": at(0), "Set": {} }),
            json!({ "At": at(0), "Set": { "Sport": {} } }),
            json!({ "At": at(0), "Set": { "Restore": "x", "Clear": ["Spot"] } }),
            json!({ "At": at(0), "Set": { "Clear": ["Sport"] } }),
            json!({ "At": at(0), "Set": { "Override": { "Path": "meta-data/x" } } }),
            json!({ "At": at(0), "Set": { "Spot": { "Action": "stop" } } }),
            json!({ "At": at(0), "Set": { "Restore": "x" }, "Until": at(1) }),
        ] {
            assert!(
                serde_json::from_value::<Step>(bad.clone()).is_err(),
                "{bad}"
            );
        }
    }
}
