//! Requests to inject events: what, when, and for which instances. The admin socket and the command
//! line carry them. [`EventRequest::steps`] turns one into [steps](super::timeline), and
//! [`Instance::schedule`] adds those to an instance.
//!
//! ```json
//! { "When": { "After": "5s" }, "Event": { "Spot": { "Action": "terminate" } } }
//! ```
//!
//! `When` is the moment at which the guest sees the event. EC2's lead times are filled in: a spot
//! interruption follows two minutes after its notice, and a rebalance recommendation precedes the
//! notice. Refused: past times, ends that are before their beginning, and paths that cannot be
//! overridden. [`Instance::schedule`] checks whether an event that is to be completed exists.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::instance::events::event_duration::EventDuration;
use crate::instance::events::injected_fault::{FaultChange, FaultRequest, FaultsToClear};
use crate::instance::events::maintenance::{
    Maintenance, MaintenanceCode, MaintenanceState, event_id, event_id_fault,
};
use crate::instance::events::model::{
    Rebalance, SPOT_NOTICE, SpotAction, SpotInterruption, TargetLifecycleState,
};
use crate::instance::events::overrides::Overrides;
use crate::instance::events::timeline::{
    EventKind, MaintenanceChange, Override, Step, TimelineChange, text_of,
};
use crate::instance::id::InstanceId;
use crate::instance::model::Instance;

/// How long before a spot notice the rebalance recommendation appears by default. EC2 only says
/// that the recommendation can arrive before the notice.
pub const REBALANCE_LEAD: SignedDuration = SignedDuration::from_mins(2);

/// One event, and when the guest sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct EventRequest {
    /// When the guest sees it. By default now, or, for a spot interruption with a `Time`, EC2's
    /// lead time before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<EventTime>,
    /// The event.
    pub event: Event,
}

/// What happens. Durations in an event count from the moment at which the guest sees the event, or
/// from now if that is not given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A spot interruption.
    Spot(SpotRequest),
    /// A rebalance recommendation without a spot interruption.
    Rebalance {},
    /// A scheduled event. It replaces the one with the same `EventId`.
    Maintenance(MaintenanceRequest),
    /// Completes a scheduled event: it becomes history.
    Complete(EventReference),
    /// Cancels a scheduled event: it becomes history.
    Cancel(EventReference),
    /// An Auto Scaling group starts to move the instance to another state.
    Lifecycle(LifecycleRequest),
    /// Sets or hides a leaf of the metadata tree.
    Metadata(MetadataRequest),
    /// Removes the override of a path.
    Restore(PathReference),
    /// Removes all events of some kinds.
    Clear(ClearRequest),
    /// Answers some requests slowly, with an error, or not at all.
    Fault(FaultRequest),
    /// Removes injected faults.
    ClearFaults(FaultsToClear),
}

/// A spot interruption: `{"Action": "terminate"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SpotRequest {
    /// What EC2 will do with the instance.
    pub action: SpotAction,
    /// When EC2 will do it. By default two minutes after the notice, or with the notice for a
    /// hibernation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<EventTime>,
    /// The rebalance recommendation before the notice.
    #[serde(default, skip_serializing_if = "RebalanceLead::is_usual")]
    pub rebalance: RebalanceLead,
}

/// How long before a spot notice the rebalance recommendation appears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebalanceLead {
    /// Two minutes before the notice, or at once if the notice is nearer.
    #[default]
    Usual,
    /// There is no recommendation.
    None,
    /// This long before the notice.
    Before(EventDuration),
}

/// A scheduled event: `{"Code": "system-reboot", "NotBefore": {"After": "168h"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MaintenanceRequest {
    /// What will happen.
    pub code: MaintenanceCode,
    /// The earliest start.
    pub not_before: EventTime,
    /// The latest end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<EventTime>,
    /// The latest time to which the start can be moved. Without it the start cannot be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_deadline: Option<EventTime>,
    /// The description; by default the one for the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `instance-event-…`; by default a random id. The step contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// A reference to a scheduled event: `{"EventId": "instance-event-…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct EventReference {
    /// The id of an event that the instance has at that time.
    pub event_id: String,
}

/// A lifecycle change: `{"State": "Terminated"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct LifecycleRequest {
    /// The state to which the group moves the instance.
    pub state: TargetLifecycleState,
}

/// A metadata override: `{"Path": "meta-data/ancestor-ami-ids", "Value": "ami-…"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MetadataRequest {
    /// The path below the version, without a leading slash.
    pub path: String,
    /// A text is served as it is; `null` hides the path; any other JSON is served in one line.
    #[serde(deserialize_with = "Value::deserialize")]
    pub value: Value,
}

/// A reference to a path: `{"Path": "meta-data/ancestor-ami-ids"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PathReference {
    /// The path below the version, without a leading slash.
    pub path: String,
}

/// The kinds to clear: `{"Kinds": ["Spot", "Rebalance"]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ClearRequest {
    /// At least one; [`EventKind::ALL`] for all of them.
    pub kinds: Vec<EventKind>,
}

/// A moment: `"Now"`, `{"After": "5s"}` or `{"At": "2026-06-01T10:00:00Z"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventTime {
    /// The moment from which durations count.
    Now,
    /// This long after that moment.
    After(EventDuration),
    /// A time on the wall clock.
    At(Timestamp),
}

/// Which instances an event is for: `"All"`, `{"Instance": "i-…"}` or `{"Tag": {"Key": "…",
/// "Value": "…"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Targets {
    /// All instances.
    All,
    /// One instance.
    Instance(InstanceId),
    /// The instances that have a tag with this key and value.
    Tag(TagTarget),
}

/// A tag: `{"Key": "team", "Value": "storefront"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct TagTarget {
    /// The key; case-sensitive.
    pub key: String,
    /// The value; case-sensitive.
    pub value: String,
}

impl EventRequest {
    /// Returns the timeline steps of this request in time order, or a message that says what is
    /// wrong with it. Injected faults have none: see [`EventRequest::fault_change`]. `random` becomes
    /// the id of a scheduled event that has none.
    pub fn steps(&self, now: Timestamp, random: u128) -> Result<Vec<Step>, String> {
        let notice = self.notice(now)?;
        let at = notice.unwrap_or(now);
        let set = match &self.event {
            Event::Spot(spot) => return spot.steps(now, notice),
            Event::Rebalance {} => TimelineChange::Rebalance(Rebalance::at(at)),
            Event::Maintenance(request) => {
                TimelineChange::Maintenance(request.scheduled(at, random)?)
            }
            Event::Complete(reference) => reference.change(MaintenanceState::Completed)?,
            Event::Cancel(reference) => reference.change(MaintenanceState::Canceled)?,
            Event::Lifecycle(request) => TimelineChange::TargetLifecycleState(request.state),
            Event::Metadata(MetadataRequest { path, value }) => {
                override_change(path, text_of(value.clone()))?
            }
            Event::Restore(PathReference { path }) => {
                override_change(path, None)?;
                TimelineChange::Restore(path.clone())
            }
            Event::Clear(ClearRequest { kinds }) if kinds.is_empty() => {
                return Err("lists no kind to clear".to_string());
            }
            Event::Clear(ClearRequest { kinds }) => TimelineChange::Clear(kinds.clone()),
            Event::Fault(_) | Event::ClearFaults(_) => return Ok(Vec::new()),
        };
        Ok(vec![Step { at, set }])
    }

    /// Returns what this request does to the injected faults, which are not part of an instance's
    /// timeline; `None` for any other event.
    pub fn fault_change(&self, now: Timestamp) -> Result<Option<FaultChange>, String> {
        let at = self.notice(now)?.unwrap_or(now);
        match &self.event {
            Event::Fault(request) => request.change(at).map(Some),
            Event::ClearFaults(faults) => Ok(Some(FaultChange::Clear {
                at,
                faults: faults.clone(),
            })),
            _ => Ok(None),
        }
    }

    fn notice(&self, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let notice = self.when.map(|when| when.moment(now)).transpose()?;
        match notice.filter(|notice| *notice < now) {
            Some(past) => Err(format!("{past} is past")),
            None => Ok(notice),
        }
    }
}

impl SpotRequest {
    fn steps(&self, now: Timestamp, notice: Option<Timestamp>) -> Result<Vec<Step>, String> {
        let lead = match self.action {
            SpotAction::Terminate | SpotAction::Stop => SPOT_NOTICE,
            SpotAction::Hibernate => SignedDuration::ZERO,
        };
        let time = self
            .time
            .map(|time| time.moment(notice.unwrap_or(now)))
            .transpose()?;
        let (notice, time) = match (notice, time) {
            (Some(notice), Some(time)) => (notice, time),
            // If the interruption is nearer than EC2's lead time, the notice appears at once.
            (None, Some(time)) => (earlier(time, lead).max(now), time),
            (notice, None) => {
                let notice = notice.unwrap_or(now);
                (notice, later(notice, lead)?)
            }
        };
        if time < notice {
            return Err(format!(
                "the interruption at {time} is before its notice at {notice}"
            ));
        }
        let spot = SpotInterruption {
            action: self.action,
            time,
            notice_time: Some(notice),
        };
        let hint = match &self.rebalance {
            RebalanceLead::Usual => Some(earlier(notice, REBALANCE_LEAD).max(now)),
            RebalanceLead::None => None,
            RebalanceLead::Before(lead) => {
                let hint = earlier(notice, lead.signed());
                if hint < now {
                    return Err(format!("the rebalance recommendation at {hint} is past"));
                }
                Some(hint)
            }
        };
        let hint = hint.map(|at| Step {
            at,
            set: TimelineChange::Rebalance(Rebalance::at(at)),
        });
        Ok(hint
            .into_iter()
            .chain([Step {
                at: notice,
                set: TimelineChange::Spot(spot),
            }])
            .collect())
    }
}

impl RebalanceLead {
    fn is_usual(&self) -> bool {
        *self == RebalanceLead::Usual
    }
}

impl MaintenanceRequest {
    fn scheduled(&self, notice: Timestamp, random: u128) -> Result<Maintenance, String> {
        let not_before = self.not_before.moment(notice)?;
        let not_after = self.not_after.map(|end| end.moment(notice)).transpose()?;
        if let Some(end) = not_after.filter(|end| *end < not_before) {
            return Err(format!("NotAfter {end} is before NotBefore {not_before}"));
        }
        let deadline = self
            .not_before_deadline
            .map(|deadline| deadline.moment(notice))
            .transpose()?;
        if let Some(deadline) = deadline.filter(|deadline| *deadline < not_before) {
            return Err(format!(
                "NotBeforeDeadline {deadline} is before NotBefore {not_before}"
            ));
        }
        let id = self.event_id.clone().unwrap_or_else(|| event_id(random));
        if let Some(fault) = event_id_fault(&id) {
            return Err(fault);
        }
        Ok(Maintenance {
            event_id: id,
            code: self.code,
            description: self
                .description
                .clone()
                .unwrap_or_else(|| self.code.usual_description().to_string()),
            not_before,
            not_after,
            not_before_deadline: deadline,
            state: MaintenanceState::Active,
        })
    }
}

impl EventReference {
    fn change(&self, state: MaintenanceState) -> Result<TimelineChange, String> {
        match event_id_fault(&self.event_id) {
            Some(fault) => Err(fault),
            None => Ok(TimelineChange::MaintenanceState(MaintenanceChange {
                event_id: self.event_id.clone(),
                state,
            })),
        }
    }
}

/// Returns the change that overrides a path, or a message if the path or the value is not allowed.
fn override_change(path: &str, value: Option<String>) -> Result<TimelineChange, String> {
    let mut alone = Overrides::default();
    alone.put(path, value.clone());
    match alone.faults().pop() {
        Some(fault) => Err(format!("{}: {}", path.escape_debug(), fault.message)),
        None => Ok(TimelineChange::Override(Override {
            path: path.to_string(),
            value,
        })),
    }
}

fn later(time: Timestamp, length: SignedDuration) -> Result<Timestamp, String> {
    time.checked_add(length)
        .map_err(|_| "is too far in the future".to_string())
}

fn earlier(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.checked_sub(length).unwrap_or(Timestamp::MIN)
}

impl EventTime {
    /// Returns the moment; durations count from `base`.
    pub fn moment(self, base: Timestamp) -> Result<Timestamp, String> {
        match self {
            EventTime::Now => Ok(base),
            EventTime::After(length) => later(base, length.signed()),
            EventTime::At(time) => Ok(time),
        }
    }
}

impl Targets {
    /// Returns whether an event for these targets is for this instance.
    pub fn matches(&self, instance: &Instance) -> bool {
        match self {
            Targets::All => true,
            Targets::Instance(id) => instance.instance_id == *id,
            Targets::Tag(TagTarget { key, value }) => instance
                .tags
                .iter()
                .any(|tag| tag.key == *key && tag.value == *value),
        }
    }
}

/// The syntax on the command line: `all`, `i-…`, `tag:KEY=VALUE`.
impl FromStr for Targets {
    type Err = String;

    fn from_str(text: &str) -> Result<Targets, String> {
        let tag = text
            .strip_prefix("tag:")
            .and_then(|tag| tag.split_once('='));
        match (text, tag, InstanceId::parse(text)) {
            ("all", ..) => Ok(Targets::All),
            (_, Some((key, value)), _) if !key.is_empty() => Ok(Targets::Tag(TagTarget {
                key: key.to_string(),
                value: value.to_string(),
            })),
            (_, _, Some(id)) => Ok(Targets::Instance(id)),
            _ => Err(format!(
                "targets are all, an instance id or tag:KEY=VALUE, not '{}'",
                text.escape_debug()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-06-01T10:00:00Z".parse().unwrap()
    }

    fn steps(request: &Value) -> Result<Vec<Value>, String> {
        let request: EventRequest =
            serde_json::from_value(request.clone()).map_err(|error| error.to_string())?;
        let steps = request.steps(now(), 0x1234_5678_9abc_def0_1234)?;
        assert!(steps.is_sorted_by_key(|step| step.at));
        // A request survives being written and read.
        let again: EventRequest =
            serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
        assert_eq!(again, request);
        Ok(steps
            .iter()
            .map(|step| {
                json!([
                    step.at.to_string()[11..19],
                    serde_json::to_value(&step.set).unwrap()
                ])
            })
            .collect())
    }

    /// Two minutes between notice and interruption:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
    #[test]
    #[rustfmt::skip]
    fn a_spot_interruption_has_ec2s_lead_times_by_default() {
        let spot = |action: &str, time: &str, notice: &str| {
            json!([notice, { "Spot": { "Action": action, "Time": format!("2026-06-01T{time}Z"), "NoticeTime": format!("2026-06-01T{notice}Z") } }])
        };
        let hint = |at: &str| json!([at, { "Rebalance": { "NoticeTime": format!("2026-06-01T{at}Z") } }]);
        let at = |time: &str| json!({ "At": format!("2026-06-01T{time}Z") });
        for (when, event, expected) in [
            (json!("Now"), json!({ "Action": "terminate" }), vec![hint("10:00:00"), spot("terminate", "10:02:00", "10:00:00")]),
            (json!(null), json!({ "Action": "stop" }), vec![hint("10:00:00"), spot("stop", "10:02:00", "10:00:00")]),
            (json!({ "After": "5s" }), json!({ "Action": "terminate" }), vec![hint("10:00:00"), spot("terminate", "10:02:05", "10:00:05")]),
            (json!({ "After": "10m" }), json!({ "Action": "terminate" }), vec![hint("10:08:00"), spot("terminate", "10:12:00", "10:10:00")]),
            (json!({ "After": "5s" }), json!({ "Action": "hibernate" }), vec![hint("10:00:00"), spot("hibernate", "10:00:05", "10:00:05")]),
            (json!({ "After": "1m" }), json!({ "Action": "stop", "Time": { "After": "30s" } }), vec![hint("10:00:00"), spot("stop", "10:01:30", "10:01:00")]),
            (json!(null), json!({ "Action": "stop", "Time": { "After": "1h" } }), vec![hint("10:56:00"), spot("stop", "11:00:00", "10:58:00")]),
            (json!(null), json!({ "Action": "stop", "Time": at("10:01:00") }), vec![hint("10:00:00"), spot("stop", "10:01:00", "10:00:00")]),
            (json!(null), json!({ "Action": "hibernate", "Time": at("10:30:00") }), vec![hint("10:28:00"), spot("hibernate", "10:30:00", "10:30:00")]),
            (at("10:20:00"), json!({ "Action": "stop", "Time": at("10:30:00"), "Rebalance": "None" }), vec![spot("stop", "10:30:00", "10:20:00")]),
            (at("10:20:00"), json!({ "Action": "stop", "Rebalance": { "Before": "15m" } }), vec![hint("10:05:00"), spot("stop", "10:22:00", "10:20:00")]),
        ] {
            assert_eq!(steps(&json!({ "When": when, "Event": { "Spot": event } })), Ok(expected), "{when} {event}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn every_other_event_is_one_step() {
        let id = "instance-event-0123456789abcdef0";
        // 68 bits of the random number.
        let random = "instance-event-456789abcdef01234";
        for (event, set) in [
            (json!({ "Rebalance": {} }), json!({ "Rebalance": { "NoticeTime": "2026-06-01T10:00:05Z" } })),
            (
                json!({ "Maintenance": { "Code": "system-reboot", "NotBefore": { "After": "1h" }, "NotAfter": { "After": "2h" } } }),
                json!({ "Maintenance": { "EventId": random, "Code": "system-reboot", "Description": "scheduled reboot",
                    "NotBefore": "2026-06-01T11:00:05Z", "NotAfter": "2026-06-01T12:00:05Z", "State": "active" } }),
            ),
            (
                json!({ "Maintenance": { "Code": "instance-stop", "NotBefore": { "At": "2026-06-02T00:00:00Z" }, "Description": "d", "EventId": id } }),
                json!({ "Maintenance": { "EventId": id, "Code": "instance-stop", "Description": "d", "NotBefore": "2026-06-02T00:00:00Z", "State": "active" } }),
            ),
            (
                json!({ "Maintenance": { "Code": "instance-stop", "NotBefore": { "After": "1h" }, "NotBeforeDeadline": { "After": "72h" }, "Description": "d", "EventId": id } }),
                json!({ "Maintenance": { "EventId": id, "Code": "instance-stop", "Description": "d", "NotBefore": "2026-06-01T11:00:05Z",
                    "NotBeforeDeadline": "2026-06-04T10:00:05Z", "State": "active" } }),
            ),
            (json!({ "Complete": { "EventId": id } }), json!({ "MaintenanceState": { "EventId": id, "State": "completed" } })),
            (json!({ "Cancel": { "EventId": id } }), json!({ "MaintenanceState": { "EventId": id, "State": "canceled" } })),
            (json!({ "Lifecycle": { "State": "Warmed:Stopped" } }), json!({ "TargetLifecycleState": "Warmed:Stopped" })),
            (json!({ "Metadata": { "Path": "meta-data/x", "Value": "a\nb" } }), json!({ "Override": { "Path": "meta-data/x", "Value": "a\nb" } })),
            (json!({ "Metadata": { "Path": "meta-data/x", "Value": { "a": [1, null] } } }), json!({ "Override": { "Path": "meta-data/x", "Value": "{\"a\":[1,null]}" } })),
            (json!({ "Metadata": { "Path": "meta-data/x", "Value": null } }), json!({ "Override": { "Path": "meta-data/x", "Value": null } })),
            (json!({ "Restore": { "Path": "meta-data/x" } }), json!({ "Restore": "meta-data/x" })),
            (json!({ "Clear": { "Kinds": ["Spot", "Overrides"] } }), json!({ "Clear": ["Spot", "Overrides"] })),
        ] {
            let seen = steps(&json!({ "When": { "After": "5s" }, "Event": event })).unwrap();
            assert_eq!(seen, [json!(["10:00:05", set])], "{event}");
        }
    }

    #[test]
    fn invalid_requests_are_refused() {
        let spot = |fields: Value| json!({ "Spot": fields });
        let past = json!({ "At": "2026-06-01T09:59:59Z" });
        for (when, event) in [
            (past.clone(), json!({ "Rebalance": {} })),
            (json!({ "After": "-5s" }), json!({ "Rebalance": {} })),
            (json!({ "After": "5" }), json!({ "Rebalance": {} })),
            (json!({ "After": 5 }), json!({ "Rebalance": {} })),
            (json!({ "After": "soon" }), json!({ "Rebalance": {} })),
            (json!({ "After": "99999999h" }), json!({ "Rebalance": {} })),
            (json!("Later"), json!({ "Rebalance": {} })),
            (json!(null), json!("Spot")),
            (json!(null), json!({})),
            (json!(null), spot(json!({}))),
            (json!(null), spot(json!({ "Action": "destroy" }))),
            (json!(null), spot(json!({ "Action": "stop", "Time": past }))),
            (
                json!({ "After": "1h" }),
                spot(json!({ "Action": "stop", "Time": { "At": "2026-06-01T10:30:00Z" } })),
            ),
            (
                json!({ "After": "1m" }),
                spot(json!({ "Action": "stop", "Rebalance": { "Before": "2m" } })),
            ),
            (
                json!(null),
                spot(json!({ "Action": "stop", "Rebalance": true })),
            ),
            (
                json!(null),
                json!({ "Maintenance": { "Code": "system-reboot" } }),
            ),
            (
                json!(null),
                json!({ "Maintenance": { "Code": "reboot", "NotBefore": "Now" } }),
            ),
            (
                json!(null),
                json!({ "Maintenance": { "Code": "system-reboot", "NotBefore": { "After": "2h" }, "NotAfter": { "After": "1h" } } }),
            ),
            (
                json!(null),
                json!({ "Maintenance": { "Code": "system-reboot", "NotBefore": { "After": "2h" }, "NotBeforeDeadline": { "After": "1h" } } }),
            ),
            (
                json!(null),
                json!({ "Maintenance": { "Code": "system-reboot", "NotBefore": "Now", "EventId": "e" } }),
            ),
            (
                json!(null),
                json!({ "Complete": { "EventId": "instance-event-0" } }),
            ),
            (json!(null), json!({ "Lifecycle": { "State": "Warmed" } })),
            (
                json!(null),
                json!({ "Metadata": { "Path": "meta-data/x" } }),
            ),
            (
                json!(null),
                json!({ "Metadata": { "Path": "latest/meta-data/x", "Value": "" } }),
            ),
            (
                json!(null),
                json!({ "Metadata": { "Path": "meta-data/tags/instance/Name", "Value": "" } }),
            ),
            (
                json!(null),
                json!({ "Metadata": { "Path": "meta-data/iam/security-credentials/r", "Value": null } }),
            ),
            (json!(null), json!({ "Restore": { "Path": "user-data" } })),
            (json!(null), json!({ "Clear": { "Kinds": [] } })),
            (json!(null), json!({ "Clear": {} })),
        ] {
            let request = json!({ "When": when, "Event": event });
            assert!(steps(&request).is_err(), "{request}");
        }
        assert!(steps(&json!({ "Event": { "Rebalance": {} }, "Wen": "Now" })).is_err());
    }

    #[test]
    fn durations_are_not_negative_and_survive_being_printed_and_parsed() {
        for (text, seconds) in [
            ("5s", 5),
            ("2m30s", 150),
            ("168h", 604_800),
            ("PT5S", 5),
            ("0s", 0),
        ] {
            let length: EventDuration = text.parse().unwrap();
            assert_eq!(length.signed().as_secs(), seconds, "{text}");
            assert_eq!(length.to_string().parse(), Ok(length), "{text}");
        }
        for bad in ["", "5", "-5s", "5s ago", "1y", "1e3s", "90000h"] {
            assert!(bad.parse::<EventDuration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_all_instances_one_or_those_with_a_tag() {
        let mut instance = crate::config::demo_instance();
        instance.tags.push(crate::instance::Tag {
            key: "a".into(),
            value: "b=c".into(),
        });
        for (text, matches) in [
            ("all", Some(true)),
            ("i-0123456789abcdef0", Some(true)),
            ("i-0123456789abcdef1", Some(false)),
            ("tag:Name=demo", Some(true)),
            ("tag:name=demo", Some(false)),
            ("tag:Name=Demo", Some(false)),
            ("tag:Name=", Some(false)),
            ("tag:a=b=c", Some(true)),
            ("tag:Name", None),
            ("tag:=demo", None),
            ("All", None),
            ("", None),
            ("i-0", None),
        ] {
            let targets = text.parse::<Targets>().ok();
            assert_eq!(
                targets.as_ref().map(|targets| targets.matches(&instance)),
                matches,
                "{text}"
            );
            if let Some(targets) = targets {
                let written = serde_json::to_string(&targets).unwrap();
                assert_eq!(serde_json::from_str::<Targets>(&written).unwrap(), targets);
            }
        }
    }
}
