//! The events of an instance, and EC2's rules about when metadata shows each of them. The rules are
//! functions of the moment.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::iso_seconds;
use crate::instance::ec2_json::ec2_json;
use crate::instance::events::maintenance::{Maintenance, MaintenanceState};

/// How long before a spot instance is stopped or terminated the interruption notice appears (EC2's
/// rule):
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
pub const SPOT_NOTICE: SignedDuration = SignedDuration::from_mins(2);

/// All events of an instance, future ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Events {
    /// The spot interruption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<SpotInterruption>,
    /// The rebalance recommendation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// Scheduled maintenance events, past ones included; at most
    /// [`MAX_MAINTENANCE`](super::MAX_MAINTENANCE).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Maintenance>,
    /// The state that an Auto Scaling group is moving the instance to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_lifecycle_state: Option<TargetLifecycleState>,
}

/// A spot interruption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SpotInterruption {
    /// What EC2 will do with the instance.
    pub action: SpotAction,
    /// When EC2 will do it.
    pub time: Timestamp,
    /// When the notice appears. By default two minutes before `Time`, or at `Time` for a
    /// hibernation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_time: Option<Timestamp>,
}

/// What EC2 does with an interrupted spot instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpotAction {
    /// `terminate`
    Terminate,
    /// `stop`
    Stop,
    /// `hibernate`. It starts immediately, without two minutes' notice.
    Hibernate,
}

/// A rebalance recommendation: the spot instance is at an elevated risk of interruption.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Rebalance {
    /// The time in the recommendation.
    pub notice_time: Timestamp,
    /// When the recommendation appears. By default at `NoticeTime`, as on EC2; a test may announce
    /// another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible_from: Option<Timestamp>,
}

/// The states of an Auto Scaling group that an instance can be moving to.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html>
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
    /// Adds a scheduled event, or replaces the one with its id.
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

    /// Returns `spot/instance-action`; `None` before the notice.
    pub fn spot_instance_action(&self, now: Timestamp) -> Option<String> {
        let spot = self.spot.as_ref().filter(|spot| spot.is_announced(now))?;
        Some(format!(
            r#"{{"action": "{}", "time": "{}"}}"#,
            spot.action.as_str(),
            iso_seconds(spot.time)
        ))
    }

    /// Returns `spot/termination-time`; `None` before the notice and for other actions.
    pub fn spot_termination_time(&self, now: Timestamp) -> Option<String> {
        let spot = self
            .spot
            .as_ref()
            .filter(|spot| spot.is_announced(now) && spot.action == SpotAction::Terminate)?;
        Some(iso_seconds(spot.time))
    }

    /// Returns `events/recommendations/rebalance`; `None` until it is visible.
    pub fn rebalance_recommendation(&self, now: Timestamp) -> Option<String> {
        let rebalance = self
            .rebalance
            .as_ref()
            .filter(|rebalance| rebalance.visible_from.unwrap_or(rebalance.notice_time) <= now)?;
        Some(format!(
            r#"{{"noticeTime": "{}"}}"#,
            iso_seconds(rebalance.notice_time)
        ))
    }

    /// Returns `events/maintenance/scheduled`: a JSON array of the active events.
    pub fn maintenance_scheduled(&self) -> String {
        self.maintenance_json(|state| state == MaintenanceState::Active)
    }

    /// Returns `events/maintenance/history`: a JSON array of the completed and canceled events.
    pub fn maintenance_history(&self) -> String {
        self.maintenance_json(|state| state != MaintenanceState::Active)
    }

    fn maintenance_json(&self, which: impl Fn(MaintenanceState) -> bool) -> String {
        let shown: Vec<_> = self
            .maintenance
            .iter()
            .filter(|event| which(event.state))
            .map(Maintenance::to_metadata)
            .collect();
        // `ec2_json` would write blanks into an empty array; EC2 does not.
        if shown.is_empty() {
            "[]".to_string()
        } else {
            ec2_json(&shown)
        }
    }
}

impl Rebalance {
    /// Returns the recommendation that appears at a time and has that time.
    pub fn at(time: Timestamp) -> Rebalance {
        Rebalance {
            notice_time: time,
            visible_from: None,
        }
    }
}

impl SpotInterruption {
    /// Returns whether the notice has appeared.
    fn is_announced(&self, now: Timestamp) -> bool {
        let default_time = match self.action {
            SpotAction::Terminate | SpotAction::Stop => {
                self.time.saturating_sub(SPOT_NOTICE).unwrap_or(self.time)
            }
            SpotAction::Hibernate => self.time,
        };
        self.notice_time.unwrap_or(default_time) <= now
    }
}

impl SpotAction {
    /// Returns EC2's word.
    pub fn as_str(self) -> &'static str {
        match self {
            SpotAction::Terminate => "terminate",
            SpotAction::Stop => "stop",
            SpotAction::Hibernate => "hibernate",
        }
    }
}

impl TargetLifecycleState {
    /// Returns EC2's word.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::events::maintenance::MaintenanceCode;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The notice appears two minutes before a stop or termination; a hibernation begins
    /// immediately:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
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
            visible_from: None,
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
