//! The mock's events as steps of a timeline.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::document::aemm::settings::Settings;
use crate::instance::Instance;
use crate::instance::events::timeline::{Step, TimelineChange};
use crate::instance::events::{
    Maintenance, MaintenanceCode, MaintenanceState, Rebalance, SPOT_NOTICE, SpotAction,
    SpotInterruption, TargetLifecycleState,
};

/// The command of the mock, which selects the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MockCommand {
    /// No command: spot, scheduled and Auto Scaling events.
    #[default]
    All,
    /// `spot`
    Spot,
    /// `events`
    Events,
    /// `asglifecycle`
    AsgLifecycle,
}

/// Returns the steps of a configuration in time order. Events are absent until their step, as EC2
/// does not show them earlier. Sets the lifecycle state before the first step of the Auto Scaling
/// events.
pub(super) fn event_steps(
    settings: &mut Settings<'_>,
    command: MockCommand,
    instance: &mut Instance,
) -> Vec<Step> {
    // All settings are read, also those of events that the command does not select, so that each
    // fault is reported.
    let notice = settings.moment("mock-trigger-time", "mock-delay-sec");
    let spot = spot_steps(settings, notice);
    let maintenance = maintenance_event(settings);
    let lifecycle = lifecycle_steps(settings);

    let mut steps = Vec::new();
    if matches!(command, MockCommand::All | MockCommand::Spot) {
        steps.extend(spot);
    }
    if matches!(command, MockCommand::All | MockCommand::Events) {
        steps.push(Step {
            at: notice,
            set: TimelineChange::Maintenance(maintenance),
        });
    }
    if matches!(command, MockCommand::All | MockCommand::AsgLifecycle) {
        steps.extend(lifecycle);
    }

    match settings.number("mock-ip-count") {
        Some(0) => return Vec::new(),
        // 2 is the mock's default; a negative number is every client.
        None | Some(2 | ..0) => {}
        Some(_) => {
            let message = "is ignored: imdsd identifies guests as instances, and an event selects its \
                           instances";
            settings.warn("mock-ip-count", message);
        }
    }
    if matches!(command, MockCommand::All | MockCommand::AsgLifecycle) {
        instance.imds.events.target_lifecycle_state = Some(TargetLifecycleState::InService);
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// Returns the steps of a spot interruption and its rebalance recommendation.
fn spot_steps(settings: &mut Settings<'_>, notice: Timestamp) -> [Step; 2] {
    let recommended = settings.moment("rebalance-trigger-time", "rebalance-delay-sec");
    let action = settings.word::<SpotAction>(&[
        "spot.action",
        "spot.instance-action",
        "spot-itn.instance-action",
    ]);
    let action = action.unwrap_or(SpotAction::Terminate);
    let lead = match action {
        SpotAction::Terminate | SpotAction::Stop => SPOT_NOTICE,
        SpotAction::Hibernate => SignedDuration::ZERO,
    };
    let time = settings.first_time(&[
        "spot.time",
        "spot.termination-time",
        "spot-itn.time",
        "spot-itn.termination-time",
    ]);
    let time = time.or(notice.checked_add(lead).ok()).unwrap_or(notice);
    let notice_time = settings.time("spot.rebalance-rec-time");
    let spot = SpotInterruption {
        action,
        time,
        notice_time: Some(notice),
    };
    // The mock shows the configured time from the start, or after the delay, also if it is in the
    // future.
    let rebalance = Rebalance {
        notice_time: notice_time.unwrap_or(recommended),
        visible_from: notice_time.map(|_| recommended),
    };
    [
        Step {
            at: notice,
            set: TimelineChange::Spot(spot),
        },
        Step {
            at: recommended,
            set: TimelineChange::Rebalance(rebalance),
        },
    ]
}

/// Returns the scheduled event, with the mock's defaults. Older versions of the mock call the
/// section `scheduled-events`.
fn maintenance_event(settings: &mut Settings<'_>) -> Maintenance {
    let keys = |field: &str| {
        [
            format!("events.{field}"),
            format!("scheduled-events.{field}"),
        ]
    };
    let mut time = |field: &str, days: i64| {
        let [key, older_key] = keys(field);
        let start = settings.start();
        let default = start.checked_add(SignedDuration::from_hours(24 * days));
        settings
            .first_time(&[&key, &older_key])
            .unwrap_or(default.unwrap_or(start))
    };
    let (not_before, not_after, deadline) = (
        time("not-before", 0),
        time("not-after", 7),
        time("not-before-deadline", 9),
    );
    let ([code, older_code], [state, older_state]) = (keys("code"), keys("state"));
    let code = settings
        .word::<MaintenanceCode>(&[&code, &older_code])
        .unwrap_or(MaintenanceCode::SystemReboot);
    let state = settings
        .word::<MaintenanceState>(&[&state, &older_state])
        .unwrap_or_default();
    let id = settings.text("metadata.values.event-id");
    Maintenance {
        event_id: id.unwrap_or_else(|| "instance-event-1234567890abcdef0".to_string()),
        code,
        description: code.usual_description().to_string(),
        not_before,
        not_after: Some(not_after),
        not_before_deadline: Some(deadline),
        state,
    }
}

/// Returns the steps of the Auto Scaling events: the listed states, or the termination.
fn lifecycle_steps(settings: &mut Settings<'_>) -> Vec<Step> {
    let terminated = settings.moment("asg-termination-trigger-time", "asg-termination-delay-sec");
    let mut states = lifecycle_states(settings);
    if states.is_empty() {
        states.push((terminated, TargetLifecycleState::Terminated));
    }
    let steps = states.into_iter().map(|(at, state)| Step {
        at,
        set: TimelineChange::TargetLifecycleState(state),
    });
    steps.collect()
}

/// Returns the listed states with their times: `["InService", "2m", "Terminated"]` alternates
/// states and times or durations.
fn lifecycle_states(settings: &mut Settings<'_>) -> Vec<(Timestamp, TargetLifecycleState)> {
    const KEY: &str = "autoscaling.target-lifecycle-state";
    let Some(words) = settings.texts(KEY) else {
        return Vec::new();
    };
    let start = settings.start();
    let states = words.and_then(|words| parse_lifecycle(&words, start));
    if states.is_none() {
        let message = "expected states with a time or a duration between them: [\"InService\", \
                       \"2m\", \"Terminated\"]";
        settings.refuse(KEY, message);
    }
    states.unwrap_or_default()
}

fn parse_lifecycle(
    words: &[&str],
    start: Timestamp,
) -> Option<Vec<(Timestamp, TargetLifecycleState)>> {
    let mut at = start;
    let mut states = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index % 2 == 0 {
            let word = Value::String(word.to_string());
            states.push((at, serde_json::from_value(word).ok()?));
        } else if let Ok(time) = word.parse() {
            at = time;
        } else {
            let duration: SignedDuration = word.parse().ok()?;
            at = match duration.is_negative() {
                true => return None,
                false => at.checked_add(duration).ok()?,
            };
        }
    }
    (words.len() % 2 == 1).then_some(states)
}
