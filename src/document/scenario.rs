//! Scenarios: a named sequence of events in a JSON file, for instances that it selects by id or by
//! tag. Times count from the start of the scenario, or are times on the wall clock.
//!
//! ```json
//! { "Name": "spot", "Targets": "All", "Steps": [
//!     { "When": { "After": "30s" }, "Event": { "Spot": { "Action": "terminate" } } }
//! ] }
//! ```
//!
//! Each step is an [`EventRequest`] and can have its own targets. Faults are reported like those of
//! instance documents, all at once. Refused: whatever an [`EventRequest`] refuses, a scenario
//! without steps or with more than [`MAX_STEPS`], and one without targets. Not supported:
//! repetition, conditions, and completing an event whose id was generated.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::json_file::JsonFile;
use crate::document::json_path::JsonPath;
use crate::fault::Fault;
use crate::instance::events::injected_fault::FaultChange;
use crate::instance::events::request::{Event, EventRequest, EventTime, Targets};
use crate::instance::events::timeline::Step;

/// The maximum number of steps of a scenario. The maximum for one instance is that of its timeline.
pub const MAX_STEPS: usize = 256;

/// A named sequence of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Scenario {
    /// The name in output and logs: 1 to 64 bytes without control characters.
    pub name: String,
    /// What the scenario is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The instances for steps without targets of their own.
    pub targets: Targets,
    /// The steps, in any order: they happen at their times.
    pub steps: Vec<ScenarioStep>,
}

/// One event of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ScenarioStep {
    /// The instances for this step; by default those of the scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Targets>,
    /// When the guest sees the event. Durations count from the start of the scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<EventTime>,
    /// The event.
    pub event: Event,
}

impl Scenario {
    /// Reads a scenario that starts now; `file` is the name in faults.
    pub fn parse(file: &Path, text: &str, now: Timestamp) -> Result<Scenario, Vec<Fault>> {
        let json = JsonFile::of(file, text)?;
        let scenario: Scenario = json.read()?;
        let root = JsonPath::root();
        let mut faults = Vec::new();
        if scenario.name.is_empty()
            || scenario.name.len() > 64
            || scenario.name.chars().any(char::is_control)
        {
            faults.push(json.fault(
                &root.key("Name"),
                "a name is 1 to 64 bytes without control characters",
            ));
        }
        if !(1..=MAX_STEPS).contains(&scenario.steps.len()) {
            let message = format!(
                "a scenario has 1 to {MAX_STEPS} steps, not {}",
                scenario.steps.len()
            );
            faults.push(json.fault(&root.key("Steps"), message));
        }
        for (index, step) in scenario.steps.iter().enumerate() {
            let request = step.request();
            let planned = request.steps(now, 0).and(request.fault_change(now));
            if let Err(message) = planned {
                faults.push(json.fault(&root.key("Steps").index(index), message));
            }
        }
        if faults.is_empty() {
            Ok(scenario)
        } else {
            Err(faults)
        }
    }

    /// Returns the timeline steps of a scenario that starts at `start`, in time order, each with
    /// its targets; or the messages about its faults. `random` provides ids for scheduled events
    /// without one.
    pub fn steps(
        &self,
        start: Timestamp,
        mut random: impl FnMut() -> u128,
    ) -> Result<Vec<(Targets, Step)>, Vec<String>> {
        let (mut steps, mut faults) = (Vec::new(), Vec::new());
        for (index, step) in self.steps.iter().enumerate() {
            let targets = step.targets.as_ref().unwrap_or(&self.targets);
            match step.request().steps(start, random()) {
                Ok(of_step) => {
                    steps.extend(of_step.into_iter().map(|step| (targets.clone(), step)))
                }
                Err(message) => faults.push(format!("Steps[{index}]: {message}")),
            }
        }
        steps.sort_by_key(|(_, step)| step.at);
        if faults.is_empty() {
            Ok(steps)
        } else {
            Err(faults)
        }
    }
}

impl Scenario {
    /// Returns what a scenario that starts at `start` does to the injected faults, in time order; or
    /// the messages about its faults.
    pub fn fault_changes(
        &self,
        start: Timestamp,
    ) -> Result<Vec<(Targets, FaultChange)>, Vec<String>> {
        let (mut changes, mut messages) = (Vec::new(), Vec::new());
        for (index, step) in self.steps.iter().enumerate() {
            let targets = step.targets.as_ref().unwrap_or(&self.targets);
            match step.request().fault_change(start) {
                Ok(change) => changes.extend(change.map(|change| (targets.clone(), change))),
                Err(message) => messages.push(format!("Steps[{index}]: {message}")),
            }
        }
        changes.sort_by_key(|(_, change)| change.at());
        match messages.is_empty() {
            true => Ok(changes),
            false => Err(messages),
        }
    }
}

impl ScenarioStep {
    /// Returns the step as a request.
    pub fn request(&self) -> EventRequest {
        EventRequest {
            when: self.when,
            event: self.event.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::instance::Instance;
    use jiff::SignedDuration;

    fn start() -> Timestamp {
        "2026-06-01T10:00:00Z".parse().unwrap()
    }

    fn parsed(text: &str) -> Scenario {
        Scenario::parse(Path::new("s.json"), text, start())
            .unwrap_or_else(|faults| panic!("{faults:#?}"))
    }

    /// Returns the demo instance with a scenario started.
    fn started(text: &str) -> Instance {
        let mut instance = demo_instance();
        let steps = parsed(text).steps(start(), || 1).unwrap();
        let own = steps
            .into_iter()
            .filter(|(targets, _)| targets.matches(&instance))
            .map(|(_, step)| step);
        let own: Vec<Step> = own.collect();
        instance.schedule(own, start()).unwrap();
        instance
    }

    fn at(second: i64) -> Timestamp {
        start() + SignedDuration::from_secs(second)
    }

    #[test]
    fn the_shipped_spot_interruption_has_its_recommendation_and_notice() {
        let instance = started(include_str!(
            "../../config/scenarios/spot-interruption.json"
        ));
        for (second, hint, notice) in [
            (0, false, false),
            (29, false, false),
            (30, true, false),
            (89, true, false),
            (90, true, true),
        ] {
            let events = instance.events_at(at(second));
            assert_eq!(
                events.rebalance_recommendation(at(second)).is_some(),
                hint,
                "{second}"
            );
            let json = events.spot_instance_action(at(second));
            assert_eq!(json.is_some(), notice, "{second}");
            if let Some(json) = json {
                assert_eq!(
                    json,
                    r#"{"action": "terminate", "time": "2026-06-01T10:03:30Z"}"#
                );
            }
        }
    }

    #[test]
    fn the_shipped_maintenance_is_scheduled_and_then_completed() {
        let instance = started(include_str!(
            "../../config/scenarios/scheduled-maintenance.json"
        ));
        for (second, scheduled, history) in [
            (9, false, false),
            (10, true, false),
            (309, true, false),
            (310, false, true),
        ] {
            let events = instance.events_at(at(second));
            assert_eq!(
                events.maintenance_scheduled().contains("system-reboot"),
                scheduled,
                "{second}"
            );
            assert_eq!(
                events.maintenance_history().contains("[Completed]"),
                history,
                "{second}"
            );
        }
    }

    #[test]
    fn the_shipped_autoscaling_termination_goes_from_in_service_to_terminated() {
        let instance = started(include_str!(
            "../../config/scenarios/autoscaling-termination.json"
        ));
        let state = |second| {
            instance
                .events_at(at(second))
                .target_lifecycle_state
                .map(|state| state.as_str())
        };
        assert_eq!(
            [state(0), state(59), state(60), state(3600)].map(Option::unwrap),
            ["InService", "InService", "Terminated", "Terminated"]
        );
    }

    #[test]
    fn the_shipped_slow_metadata_injects_faults_and_clears_them() {
        let scenario = parsed(include_str!("../../config/scenarios/slow-metadata.json"));
        assert_eq!(scenario.steps(start(), || 1), Ok(Vec::new()));
        let changes = scenario.fault_changes(start()).unwrap();
        let times: Vec<Timestamp> = changes.iter().map(|(_, change)| change.at()).collect();
        assert_eq!(times, [at(0), at(60), at(120), at(180)]);
        let faults = changes.iter().filter_map(|(_, change)| match change {
            FaultChange::Inject(fault) => Some(fault.request.to_string()),
            FaultChange::Clear { .. } => None,
        });
        assert_eq!(
            faults.collect::<Vec<_>>(),
            [
                "*: delayed by 500ms and up to 1s more",
                "meta-data/iam/*: 50 % of requests, answered 503",
                "api/token: dropped without an answer",
            ]
        );
    }

    #[test]
    fn a_fault_that_makes_no_sense_is_reported_with_its_step() {
        let text = r#"{ "Name": "n", "Targets": "All", "Steps": [
            { "Event": { "ClearFaults": {} } },
            { "Event": { "Fault": { "Path": "*", "Delay": "61s" } } },
            { "Event": { "Fault": { "Path": "/x", "Delay": "1s" } } } ] }"#;
        let faults = Scenario::parse(Path::new("s.json"), text, start()).unwrap_err();
        assert_eq!(
            (faults[0].line, faults[0].field.as_str()),
            (4, "Steps[2].Event.Fault.Path")
        );
        let text = text.replace("/x", "x");
        let faults = Scenario::parse(Path::new("s.json"), &text, start()).unwrap_err();
        assert_eq!((faults[0].line, faults[0].field.as_str()), (3, "Steps[1]"));
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn a_step_can_have_its_own_targets() {
        let text = r#"{ "Name": "n", "Targets": { "Tag": { "Key": "team", "Value": "x" } }, "Steps": [
            { "When": { "At": "2026-06-01T10:00:10Z" }, "Event": { "Rebalance": {} } },
            { "Targets": "All", "When": { "After": "5s" }, "Event": { "Lifecycle": { "State": "Standby" } } } ] }"#;
        let steps = parsed(text).steps(start(), || 1).unwrap();
        let seen: Vec<(Timestamp, bool)> = steps
            .iter()
            .map(|(targets, step)| (step.at, targets.matches(&demo_instance())))
            .collect();
        assert_eq!(seen, [(at(5), true), (at(10), false)]);
        assert_eq!(
            parsed(text).steps(at(60), || 1),
            Err(vec!["Steps[0]: 2026-06-01T10:00:10Z is past".to_string()])
        );
        let again: Scenario =
            serde_json::from_value(serde_json::to_value(parsed(text)).unwrap()).unwrap();
        assert_eq!(again, parsed(text));
    }

    #[test]
    fn a_number_for_a_time_is_reported_as_neither_word_nor_object() {
        for field in ["NotBefore", "NotAfter", "NotBeforeDeadline"] {
            let mut event = serde_json::json!({ "Code": "system-reboot", "NotBefore": "Now" });
            event[field] = 5.into();
            let steps = [serde_json::json!({ "Event": { "Maintenance": event } })];
            let text =
                serde_json::json!({ "Name": "n", "Targets": "All", "Steps": steps }).to_string();
            let faults = Scenario::parse(Path::new("s.json"), &text, start()).expect_err(field);
            let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
            assert_eq!(
                messages,
                ["expected a word, or an object with one key, found a number"],
                "{field}"
            );
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_line_and_field() {
        for (text, places) in [
            ("{", vec!["s.json:1"]),
            ("[]", vec!["s.json:1"]),
            (
                "{}",
                vec!["s.json:1: Name", "s.json:1: Steps", "s.json:1: Targets"],
            ),
            (
                r#"{ "Steps": [{ "When": { "At": "10:00" }, "Event": { "Rebalance": {} } }] }"#,
                vec![
                    "s.json:1: Name",
                    "s.json:1: Steps[0].When.At",
                    "s.json:1: Targets",
                ],
            ),
            (r#"{ "Name": "n", "Steps": [] }"#, vec!["s.json:1: Targets"]),
            (
                r#"{ "Name": "n", "Targets": "All" }"#,
                vec!["s.json:1: Steps"],
            ),
            (
                r#"{ "Name": "n", "Targets": "All", "Steps": [] }"#,
                vec!["s.json:1: Steps"],
            ),
            (
                r#"{ "Name": "", "Targets": "All", "Steps": [{ "Event": { "Rebalance": {} } }] }"#,
                vec!["s.json:1: Name"],
            ),
            (
                "{ \"Name\": \"n\", \"Targets\": \"Al\",\n\"Steps\": [\n{ \"Evnt\": {} },\n{ \"Event\": { \"Spot\": { \"Action\": \"stop\" } },\n\"When\": { \"After\": \"5\" } },\n{ \"When\": 5, \"Event\": 6 }\n] }",
                vec![
                    "s.json:1: Targets",
                    "s.json:3: Steps[0].Event",
                    "s.json:3: Steps[0].Evnt",
                    "s.json:5: Steps[1].When.After",
                    "s.json:6: Steps[2].Event",
                    "s.json:6: Steps[2].When",
                ],
            ),
            (
                "{ \"Name\": \"n\", \"Name\": \"m\", \"Targets\": \"All\", \"Steps\": [] }",
                vec!["s.json:1: Name"],
            ),
            (
                "{ \"Name\": \"n\", \"Targets\": \"All\", \"Steps\": [\n{ \"Event\": { \"Rebalance\": {} } },\n\
                 { \"Event\": { \"Metadata\": { \"Path\": \"user-data\", \"Value\": 1 } } },\n\
                 { \"When\": { \"At\": \"2026-06-01T09:00:00Z\" }, \"Event\": { \"Rebalance\": {} } } ] }",
                vec!["s.json:3: Steps[1]", "s.json:4: Steps[2]"],
            ),
        ] {
            let faults = Scenario::parse(Path::new("s.json"), text, start()).expect_err(text);
            let mut seen: Vec<String> = faults
                .iter()
                .map(|fault| format!("s.json:{}: {}", fault.line, fault.field))
                .collect();
            seen.sort();
            let seen: Vec<&str> = seen
                .iter()
                .map(|place| place.trim_end_matches(": "))
                .collect();
            assert_eq!(seen, places, "{text} {faults:#?}");
        }
    }
}
