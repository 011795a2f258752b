//! What will become of an instance's events and overrides: steps, each of which counts from its time on.
//!
//! Nothing runs for it. Whoever reads asks for what is in force at a moment ([`Instance::events_at`],
//! [`Instance::overrides_at`]), so a stored step appears exactly at its time, and after a restart as well. Whoever writes
//! folds what is past into `Imds.Events` and `Imds.Overrides` first ([`Instance::schedule`]), so that a record holds only
//! what is still to come.
//!
//! A step puts an event in; when a guest sees it is EC2's rule still, in [`events`](super::events). Refused: more than
//! [`MAX_STEPS`], steps out of time order, and what would be refused in `Imds.Events` and `Imds.Overrides` (see
//! [`Timeline::faults`]). Not supported: repetition, and conditions other than time.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::fault::FieldFault;
use crate::instance::events::{
    Events, MAX_MAINTENANCE, Maintenance, MaintenanceState, Rebalance, SpotInterruption,
    TargetLifecycleState, event_id_fault,
};
use crate::instance::{Instance, Overrides};

/// The most steps an instance may have before it: what a record holds stays small, and a read goes through all of them.
pub const MAX_STEPS: usize = 64;

/// Steps in time order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(Vec<Step>);

/// From `At` on, `Set` counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What.
    pub set: TimelineChange,
}

/// What a step does: `{"Spot": {"Action": "terminate", "Time": "…"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimelineChange {
    /// A spot interruption takes the place of any other. Its notice is not before the step either.
    Spot(SpotInterruption),
    /// A rebalance recommendation takes the place of any other.
    Rebalance(Rebalance),
    /// A scheduled event is put in, in the place of the one with its `EventId` if there is one.
    Maintenance(Maintenance),
    /// The scheduled event with this `EventId` is completed, canceled, or active again.
    MaintenanceState(MaintenanceChange),
    /// An Auto Scaling group begins to move the instance.
    TargetLifecycleState(TargetLifecycleState),
    /// A leaf of the tree is set or hidden.
    Override(Override),
    /// A path is again what it would be without an override.
    Restore(String),
    /// Everything of these kinds is gone, with what the document had of them.
    Clear(Vec<EventKind>),
}

/// A scheduled event's new state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MaintenanceChange {
    /// Of an event that is there by then.
    pub event_id: String,
    /// How far it is.
    pub state: MaintenanceState,
}

/// A leaf that is set or hidden, as in `Imds.Overrides`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Override {
    /// Below the version, without a slash: `meta-data/public-ipv4`.
    pub path: String,
    /// A text as it is served, or `null` for a path that is absent. Any other JSON is served in one line.
    #[serde(deserialize_with = "served_text")]
    pub value: Option<String>,
}

/// What can be cleared.
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
    /// All of them.
    pub const ALL: [EventKind; 5] = [
        EventKind::Spot,
        EventKind::Rebalance,
        EventKind::Maintenance,
        EventKind::TargetLifecycleState,
        EventKind::Overrides,
    ];
}

impl Instance {
    /// The events in force at a moment: those of the document with every step up to then.
    pub fn events_at(&self, now: Timestamp) -> Cow<'_, Events> {
        let mut events = Cow::Borrowed(&self.imds.events);
        self.imds
            .timeline
            .until(now)
            .for_each(|step| step.set.apply_to_events(&mut events));
        events
    }

    /// The overrides in force at a moment: those of the document with every step up to then.
    pub fn overrides_at(&self, now: Timestamp) -> Cow<'_, Overrides> {
        let mut overrides = Cow::Borrowed(&self.imds.overrides);
        self.imds
            .timeline
            .until(now)
            .for_each(|step| step.set.apply_to_overrides(&mut overrides));
        overrides
    }

    /// The time of the newest step that counts at a moment.
    pub fn last_step_before(&self, now: Timestamp) -> Option<Timestamp> {
        self.imds.timeline.until(now).map(|step| step.at).max()
    }

    /// Folds every step up to `now` into `Imds.Events` and `Imds.Overrides`. No reader at `now` or later sees a difference.
    pub fn fold_timeline(&mut self, now: Timestamp) {
        if self.imds.timeline.until(now).next().is_some() {
            self.imds.events = self.events_at(now).into_owned();
            self.imds.overrides = self.overrides_at(now).into_owned();
            self.imds.timeline.0.retain(|step| step.at > now);
        }
    }

    /// Folds what is past and puts new steps where their time is, behind those of the same time; past ones count at once.
    ///
    /// A step that clears takes back what was to come after it of its kinds, as nobody else could: those steps are
    /// returned. New steps are not taken back by one another. Refused as a whole, and nothing is changed, when the
    /// timeline that came of it has faults: one sentence each.
    pub fn schedule(
        &mut self,
        steps: impl IntoIterator<Item = Step>,
        now: Timestamp,
    ) -> Result<Vec<Step>, Vec<String>> {
        let steps: Vec<Step> = steps.into_iter().collect();
        let mut changed = self.clone();
        changed.fold_timeline(now);
        let dropped = changed.imds.timeline.take_back(&steps);
        changed.imds.timeline.0.extend(steps);
        changed.imds.timeline.0.sort_by_key(|step| step.at);
        // What counts at once is judged with the rest, and takes no place in it.
        let mut faults = changed.imds.timeline.faults_of_steps(&changed);
        changed.fold_timeline(now);
        faults.extend(changed.imds.timeline.crowded());
        if !faults.is_empty() {
            return Err(faults.into_iter().map(|fault| fault.message).collect());
        }
        *self = changed;
        Ok(dropped)
    }
}

/// What is wrong with a timeline, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineFault {
    /// The step, counted from 0; `None` for the timeline as a whole.
    pub step: Option<usize>,
    /// The fields that lead to it from the step.
    pub fields: Vec<&'static str>,
    /// What is wrong.
    pub message: String,
}

impl Timeline {
    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn until(&self, now: Timestamp) -> impl Iterator<Item = &Step> {
        self.0.iter().filter(move |step| step.at <= now)
    }

    /// Removes what is to come after new steps that clear, of the kinds that each of them clears.
    fn take_back(&mut self, new: &[Step]) -> Vec<Step> {
        let mut dropped = Vec::new();
        for (at, kinds) in new.iter().filter_map(|step| match &step.set {
            TimelineChange::Clear(kinds) => Some((step.at, kinds)),
            _ => None,
        }) {
            self.0.retain_mut(|step| match &mut step.set {
                _ if step.at <= at => true,
                // There is nothing left for it to clear.
                TimelineChange::Clear(own) if own.iter().any(|kind| !kinds.contains(kind)) => {
                    own.retain(|kind| !kinds.contains(kind));
                    true
                }
                set if set.kinds().iter().all(|kind| kinds.contains(kind)) => {
                    dropped.push(step.clone());
                    false
                }
                _ => true,
            });
        }
        dropped.sort_by_key(|step| step.at);
        dropped
    }

    /// What can't be, on top of an instance's events and overrides.
    pub fn faults(&self, instance: &Instance) -> Vec<TimelineFault> {
        self.crowded()
            .into_iter()
            .chain(self.faults_of_steps(instance))
            .collect()
    }

    fn crowded(&self) -> Option<TimelineFault> {
        (self.0.len() > MAX_STEPS).then(|| {
            let message = format!(
                "a timeline has at most {MAX_STEPS} steps, not {}",
                self.0.len()
            );
            TimelineFault {
                step: None,
                fields: Vec::new(),
                message,
            }
        })
    }

    fn faults_of_steps(&self, instance: &Instance) -> Vec<TimelineFault> {
        let mut faults = Vec::new();
        let (mut events, mut overrides) = (
            Cow::Borrowed(&instance.imds.events),
            Cow::Borrowed(&instance.imds.overrides),
        );
        for (index, step) in self.0.iter().enumerate() {
            let mut fault = |fields: &[&'static str], message: String| {
                faults.push(TimelineFault {
                    step: Some(index),
                    fields: fields.to_vec(),
                    message,
                });
            };
            if index > 0 && step.at < self.0[index - 1].at {
                fault(
                    &["At"],
                    "steps stand in time order; this one is before the one in front of it"
                        .to_string(),
                );
            }
            // Only an override can bring a fault of overrides, and looking for them takes its time.
            let is_override = matches!(step.set, TimelineChange::Override(_));
            let known = if is_override {
                overrides.faults()
            } else {
                Vec::new()
            };
            let (was_full, was_crowded) = (
                overrides.is_full(),
                events.maintenance.len() > MAX_MAINTENANCE,
            );
            let had = |id: &str| events.maintenance.iter().any(|event| event.event_id == id);
            match &step.set {
                TimelineChange::Maintenance(event) => {
                    event_id_fault(&event.event_id)
                        .into_iter()
                        .for_each(|message| {
                            fault(&["Set", "Maintenance", "EventId"], message);
                        });
                }
                TimelineChange::MaintenanceState(change) if !had(&change.event_id) => {
                    let message = format!(
                        "there is no event {} by then",
                        change.event_id.escape_debug()
                    );
                    fault(&["Set", "MaintenanceState", "EventId"], message);
                }
                TimelineChange::Clear(kinds) if kinds.is_empty() => {
                    fault(
                        &["Set", "Clear"],
                        "names nothing that is to be cleared".to_string(),
                    );
                }
                TimelineChange::Spot(_)
                | TimelineChange::Rebalance(_)
                | TimelineChange::MaintenanceState(_)
                | TimelineChange::TargetLifecycleState(_)
                | TimelineChange::Override(_)
                | TimelineChange::Restore(_)
                | TimelineChange::Clear(_) => {}
            }
            step.set.apply_to_events(&mut events);
            step.set.apply_to_overrides(&mut overrides);
            if !was_crowded && events.maintenance.len() > MAX_MAINTENANCE {
                let message = format!(
                    "an instance has at most {MAX_MAINTENANCE} scheduled events, past ones included; clear them"
                );
                fault(&["Set", "Maintenance"], message);
            }
            if !was_full && overrides.is_full() {
                fault(&["Set", "Override"], Overrides::full());
            }
            let found = if is_override {
                overrides.faults()
            } else {
                Vec::new()
            };
            for FieldFault { field, message } in
                found.into_iter().filter(|found| !known.contains(found))
            {
                fault(
                    &["Set", "Override", "Path"],
                    format!("{}: {message}", field.escape_debug()),
                );
            }
        }
        faults
    }
}

impl FromIterator<Step> for Timeline {
    /// In time order, whatever order they come in.
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Timeline {
        let mut steps: Vec<Step> = steps.into_iter().collect();
        steps.sort_by_key(|step| step.at);
        Timeline(steps)
    }
}

impl TimelineChange {
    /// Of which kinds it is.
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

    fn apply_to_events(&self, events: &mut Cow<'_, Events>) {
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

    fn apply_to_overrides(&self, overrides: &mut Cow<'_, Overrides>) {
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

/// What a leaf shows of a JSON value: a text as it is, nothing for `null`, and anything else in one line.
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

    /// What a guest could be shown at a moment: spot, rebalance, scheduled events, history, state, two overrides.
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
    fn a_step_counts_from_its_time_on() {
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

    /// Wherever it is folded, later readers see the same.
    #[test]
    fn folding_changes_nothing_for_those_who_read_later() {
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

    /// The step puts the interruption in; the notice is two minutes ahead of it all the same.
    #[test]
    fn an_early_step_makes_no_notice_earlier_than_ec2_would() {
        let spot =
            |action: &str, time: i64| json!({ "Spot": { "Action": action, "Time": at(time) } });
        for (action, time, told) in [
            ("terminate", 600, 480),
            ("stop", 600, 480),
            ("hibernate", 600, 600),
        ] {
            let instance = instance(json!({}), json!({}), &[(10, spot(action, time))]);
            assert!(!shown(&instance, told - 1).0, "{action}");
            assert!(shown(&instance, told).0, "{action}");
        }
        // And a late one is no reason to tell before it.
        let instance = instance(json!({}), json!({}), &[(590, spot("stop", 600))]);
        assert!(!shown(&instance, 589).0);
        assert!(shown(&instance, 590).0);
    }

    #[test]
    fn new_steps_are_put_where_their_time_is_and_past_ones_count_at_once() {
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
        assert!(shown(&instance, 35).2, "what was past is kept");
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
    fn a_timeline_with_faults_changes_nothing() {
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

    /// "Nothing of some kinds is announced any more": neither now nor later.
    #[test]
    fn a_clear_takes_back_what_was_to_come_after_it_of_its_kinds() {
        use EventKind::{Maintenance, Overrides, Rebalance, Spot};
        // By the tens of their seconds; the last two steps clear and are split.
        for (kinds, second, left) in [
            (vec![Spot], 0, vec![20, 30, 40, 50, 60, 70, 80, 90, 100]),
            (vec![Spot], 10, vec![20, 30, 40, 50, 60, 70, 80, 90, 100]),
            (
                vec![Rebalance],
                0,
                vec![10, 30, 40, 50, 60, 70, 80, 90, 100],
            ),
            (vec![Maintenance], 0, vec![10, 20, 50, 60, 70, 80, 90, 100]),
            // In the midst of the course of a scheduled event, whose end would find none.
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
        // One that is itself to come leaves what is before it, and steps that come with it.
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
    fn a_full_timeline_takes_what_counts_at_once_and_no_more_to_come() {
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
    fn what_cannot_be_is_named() {
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
            assert_eq!(instance.imds.timeline.faults(&instance), [], "{good:?}");
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
            let faults = instance.imds.timeline.faults(&instance);
            let places: Vec<_> = faults
                .iter()
                .map(|fault| (fault.step, fault.fields.join(".")))
                .collect();
            assert_eq!(places, [(Some(step), field.to_string())], "{bad:?}");
        }
    }

    #[test]
    fn unknown_words_are_refused() {
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
