//! What is about to happen to an instance, and from when on it may know.
//!
//! Spot interruptions, rebalance recommendations, scheduled maintenance, the target lifecycle state of an Auto Scaling
//! group. The rules of EC2 about when a notice appears are here, as functions of the moment.

pub mod overrides;
pub mod request;
pub mod timeline;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::ec2_json::ec2_json;
use crate::clock::iso_seconds;

/// How long before a spot instance is stopped or terminated it is told.
pub const SPOT_NOTICE: SignedDuration = SignedDuration::from_mins(2);

/// The most scheduled events an instance may have, with those that are history, so that records stay small.
pub const MAX_MAINTENANCE: usize = 100;

/// Everything that is about to happen to an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Events {
    /// A spot interruption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<SpotInterruption>,
    /// A rebalance recommendation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// Scheduled maintenance, and what became of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Maintenance>,
    /// The state that an Auto Scaling group is moving the instance to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_lifecycle_state: Option<TargetLifecycleState>,
}

/// A spot instance is going to be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SpotInterruption {
    /// What will be done to it.
    pub action: SpotAction,
    /// When.
    pub time: Timestamp,
    /// When the instance is told; two minutes before `Time` unless said, and at `Time` for a hibernation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_time: Option<Timestamp>,
}

/// What is done to a spot instance that is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpotAction {
    /// `terminate`
    Terminate,
    /// `stop`
    Stop,
    /// `hibernate`: it starts at once.
    Hibernate,
}

/// A spot instance is at a higher risk than others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Rebalance {
    /// When the recommendation was made.
    pub notice_time: Timestamp,
}

/// One scheduled event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Maintenance {
    /// `instance-event-` and 17 hexadecimal digits.
    pub event_id: String,
    /// What will happen.
    pub code: MaintenanceCode,
    /// In words, without the state in front.
    pub description: String,
    /// The earliest start.
    pub not_before: Timestamp,
    /// The latest end, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// How far the start may be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_deadline: Option<Timestamp>,
    /// `active` events are scheduled; the others are history.
    #[serde(default)]
    pub state: MaintenanceState,
}

/// EC2's kinds of maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaintenanceCode {
    /// `instance-reboot`
    InstanceReboot,
    /// `system-reboot`
    SystemReboot,
    /// `system-maintenance`
    SystemMaintenance,
    /// `instance-retirement`
    InstanceRetirement,
    /// `instance-stop`
    InstanceStop,
}

/// How far an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaintenanceState {
    /// Still to come.
    #[default]
    Active,
    /// Done.
    Completed,
    /// Called off.
    Canceled,
}

/// The states of an Auto Scaling group that an instance can be on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetLifecycleState {
    /// `Detached`
    Detached,
    /// `InService`
    InService,
    /// `Standby`
    Standby,
    /// `Terminated`
    Terminated,
    /// `Warmed:Hibernated`
    #[serde(rename = "Warmed:Hibernated")]
    WarmedHibernated,
    /// `Warmed:Running`
    #[serde(rename = "Warmed:Running")]
    WarmedRunning,
    /// `Warmed:Stopped`
    #[serde(rename = "Warmed:Stopped")]
    WarmedStopped,
    /// `Warmed:Terminated`
    #[serde(rename = "Warmed:Terminated")]
    WarmedTerminated,
}

impl Events {
    /// Puts a scheduled event in, in the place of the one with its id if there is one.
    pub fn put_maintenance(&mut self, event: Maintenance) {
        match self
            .maintenance
            .iter_mut()
            .find(|known| known.event_id == event.event_id)
        {
            Some(known) => *known = event,
            None => self.maintenance.push(event),
        }
    }

    /// `spot/instance-action`, once the instance is told.
    pub fn spot_instance_action(&self, now: Timestamp) -> Option<String> {
        let spot = self.spot.as_ref().filter(|spot| spot.is_told(now))?;
        Some(format!(
            r#"{{"action": "{}", "time": "{}"}}"#,
            spot.action.as_str(),
            iso_seconds(spot.time)
        ))
    }

    /// `spot/termination-time`, once the instance is told that it will be terminated.
    pub fn spot_termination_time(&self, now: Timestamp) -> Option<String> {
        let spot = self
            .spot
            .as_ref()
            .filter(|spot| spot.is_told(now) && spot.action == SpotAction::Terminate)?;
        Some(iso_seconds(spot.time))
    }

    /// `events/recommendations/rebalance`, from the notice on.
    pub fn rebalance_recommendation(&self, now: Timestamp) -> Option<String> {
        let rebalance = self
            .rebalance
            .as_ref()
            .filter(|rebalance| rebalance.notice_time <= now)?;
        Some(format!(
            r#"{{"noticeTime": "{}"}}"#,
            iso_seconds(rebalance.notice_time)
        ))
    }

    /// `events/maintenance/scheduled`: a JSON array of what is still to come.
    pub fn maintenance_scheduled(&self) -> String {
        self.maintenance_json(|state| state == MaintenanceState::Active)
    }

    /// `events/maintenance/history`: a JSON array of what was completed or canceled.
    pub fn maintenance_history(&self) -> String {
        self.maintenance_json(|state| state != MaintenanceState::Active)
    }

    fn maintenance_json(&self, which: impl Fn(MaintenanceState) -> bool) -> String {
        let shown: Vec<Shown<'_>> = self
            .maintenance
            .iter()
            .filter(|event| which(event.state))
            .map(Maintenance::shown)
            .collect();
        // EC2's style would put blanks into an empty array.
        if shown.is_empty() {
            "[]".to_string()
        } else {
            ec2_json(&shown)
        }
    }
}

impl SpotInterruption {
    fn is_told(&self, now: Timestamp) -> bool {
        let usual = match self.action {
            SpotAction::Terminate | SpotAction::Stop => {
                self.time.saturating_sub(SPOT_NOTICE).unwrap_or(self.time)
            }
            SpotAction::Hibernate => self.time,
        };
        self.notice_time.unwrap_or(usual) <= now
    }
}

impl MaintenanceCode {
    /// The word EC2 uses.
    pub fn as_str(self) -> &'static str {
        match self {
            MaintenanceCode::InstanceReboot => "instance-reboot",
            MaintenanceCode::SystemReboot => "system-reboot",
            MaintenanceCode::SystemMaintenance => "system-maintenance",
            MaintenanceCode::InstanceRetirement => "instance-retirement",
            MaintenanceCode::InstanceStop => "instance-stop",
        }
    }
}

impl SpotAction {
    /// The word EC2 uses.
    pub fn as_str(self) -> &'static str {
        match self {
            SpotAction::Terminate => "terminate",
            SpotAction::Stop => "stop",
            SpotAction::Hibernate => "hibernate",
        }
    }
}

impl MaintenanceCode {
    /// What is said of such an event when nobody says anything else.
    pub fn usual_description(self) -> &'static str {
        match self {
            MaintenanceCode::InstanceReboot | MaintenanceCode::SystemReboot => "scheduled reboot",
            MaintenanceCode::SystemMaintenance => "scheduled maintenance",
            MaintenanceCode::InstanceRetirement => "scheduled retirement",
            MaintenanceCode::InstanceStop => "scheduled stop",
        }
    }
}

/// `instance-event-` and 17 hexadecimal digits, from a random number.
pub fn event_id(random: u128) -> String {
    format!("instance-event-{:017x}", random & ((1 << 68) - 1))
}

/// What is wrong with an event id.
pub fn event_id_fault(id: &str) -> Option<String> {
    let digits = id.strip_prefix("instance-event-").unwrap_or_default();
    let sound = digits.len() == 17
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (!sound).then(|| "an event id is instance-event- and 17 hexadecimal digits".to_string())
}

impl TargetLifecycleState {
    /// The word EC2 uses.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetLifecycleState::Detached => "Detached",
            TargetLifecycleState::InService => "InService",
            TargetLifecycleState::Standby => "Standby",
            TargetLifecycleState::Terminated => "Terminated",
            TargetLifecycleState::WarmedHibernated => "Warmed:Hibernated",
            TargetLifecycleState::WarmedRunning => "Warmed:Running",
            TargetLifecycleState::WarmedStopped => "Warmed:Stopped",
            TargetLifecycleState::WarmedTerminated => "Warmed:Terminated",
        }
    }
}

/// An event as metadata shows it: keys and times in EC2's order and form.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    not_before: String,
    code: MaintenanceCode,
    description: String,
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    state: MaintenanceState,
}

impl Maintenance {
    /// The description as EC2 shows it, with what became of the event in front.
    pub fn shown_description(&self) -> String {
        match self.state {
            MaintenanceState::Active => self.description.clone(),
            MaintenanceState::Completed => format!("[Completed] {}", self.description),
            MaintenanceState::Canceled => format!("[Canceled] {}", self.description),
        }
    }

    fn shown(&self) -> Shown<'_> {
        let time = |time: Timestamp| time.strftime("%d %b %Y %H:%M:%S GMT").to_string();
        Shown {
            not_before: time(self.not_before),
            code: self.code,
            description: self.shown_description(),
            event_id: &self.event_id,
            not_after: self.not_after.map(time),
            state: self.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// "two minutes before", and at once for a hibernation.
    #[test]
    fn a_spot_notice_appears_when_ec2_would_show_it() {
        let time = at("2026-09-18T08:22:00Z");
        let rows = [
            (
                SpotAction::Terminate,
                None,
                "2026-09-18T08:19:59Z",
                false,
                false,
            ),
            (
                SpotAction::Terminate,
                None,
                "2026-09-18T08:20:00Z",
                true,
                true,
            ),
            (
                SpotAction::Terminate,
                None,
                "2026-09-18T09:00:00Z",
                true,
                true,
            ),
            (SpotAction::Stop, None, "2026-09-18T08:19:59Z", false, false),
            (SpotAction::Stop, None, "2026-09-18T08:20:00Z", true, false),
            (
                SpotAction::Hibernate,
                None,
                "2026-09-18T08:21:59Z",
                false,
                false,
            ),
            (
                SpotAction::Hibernate,
                None,
                "2026-09-18T08:22:00Z",
                true,
                false,
            ),
            (
                SpotAction::Terminate,
                Some("2026-09-18T08:00:00Z"),
                "2026-09-18T08:00:00Z",
                true,
                true,
            ),
            (
                SpotAction::Terminate,
                Some("2026-09-18T08:21:00Z"),
                "2026-09-18T08:20:30Z",
                false,
                false,
            ),
        ];
        for (action, notice, now, acts, terminates) in rows {
            let spot = SpotInterruption {
                action,
                time,
                notice_time: notice.map(at),
            };
            let events = Events {
                spot: Some(spot),
                ..Events::default()
            };
            let action_json = format!(
                r#"{{"action": "{}", "time": "2026-09-18T08:22:00Z"}}"#,
                action.as_str()
            );
            assert_eq!(
                events.spot_instance_action(at(now)),
                acts.then_some(action_json),
                "{action:?} {now}"
            );
            let termination = terminates.then(|| "2026-09-18T08:22:00Z".to_string());
            assert_eq!(
                events.spot_termination_time(at(now)),
                termination,
                "{action:?} {now}"
            );
        }
    }

    #[test]
    fn a_rebalance_recommendation_appears_with_its_notice() {
        let rebalance = Some(Rebalance {
            notice_time: at("2026-11-05T08:22:00Z"),
        });
        let events = Events {
            rebalance,
            ..Events::default()
        };
        assert_eq!(
            events.rebalance_recommendation(at("2026-11-05T08:21:59Z")),
            None
        );
        let shown = events
            .rebalance_recommendation(at("2026-11-05T08:22:00Z"))
            .unwrap();
        assert_eq!(shown, r#"{"noticeTime": "2026-11-05T08:22:00Z"}"#);
    }

    #[test]
    fn maintenance_is_in_ec2s_layout_and_moves_from_scheduled_to_history() {
        let mut event = Maintenance {
            event_id: "instance-event-0d59937288b749b32".into(),
            code: MaintenanceCode::SystemReboot,
            description: "scheduled reboot".into(),
            not_before: at("2026-01-21T09:00:43Z"),
            not_after: Some(at("2026-01-21T09:17:23Z")),
            not_before_deadline: None,
            state: MaintenanceState::Active,
        };
        let events = |event: &Maintenance| Events {
            maintenance: vec![event.clone()],
            ..Events::default()
        };
        let shown = "[ {\n  \"NotBefore\" : \"21 Jan 2026 09:00:43 GMT\",\n  \"Code\" : \"system-reboot\",\n  \
                     \"Description\" : \"scheduled reboot\",\n  \"EventId\" : \"instance-event-0d59937288b749b32\",\n  \
                     \"NotAfter\" : \"21 Jan 2026 09:17:23 GMT\",\n  \"State\" : \"active\"\n} ]";
        assert_eq!(events(&event).maintenance_scheduled(), shown);
        assert_eq!(events(&event).maintenance_history(), "[]");
        for (state, word) in [
            (MaintenanceState::Completed, "Completed"),
            (MaintenanceState::Canceled, "Canceled"),
        ] {
            event.state = state;
            assert_eq!(events(&event).maintenance_scheduled(), "[]");
            let history = events(&event).maintenance_history();
            assert!(
                history.contains(&format!("\"Description\" : \"[{word}] scheduled reboot\"")),
                "{history}"
            );
            assert!(
                history.contains(&format!("\"State\" : \"{}\"", word.to_lowercase())),
                "{history}"
            );
        }
    }

    #[test]
    fn unknown_words_are_refused() {
        for bad in [
            r#"{"Spot": {"Action": "destroy", "Time": "2026-01-01T00:00:00Z"}}"#,
            r#"{"Spot": {"Action": "stop", "Time": "soon"}}"#,
            r#"{"Spot": {"Action": "stop"}}"#,
            r#"{"TargetLifecycleState": "Warmed"}"#,
            r#"{"Maintenance": [{"Code": "reboot"}]}"#,
            r#"{"Rebalance": {"NoticeTime": "2026-01-01"}}"#,
            r#"{"Sport": {}}"#,
        ] {
            assert!(serde_json::from_str::<Events>(bad).is_err(), "{bad}");
        }
    }
}
