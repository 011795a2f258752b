//! Scheduled maintenance events, as metadata lists them below `events/maintenance/`.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_scheduled_events.html>

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The maximum number of scheduled events of an instance, past ones included. It bounds the size of
/// records.
pub const MAX_MAINTENANCE: usize = 100;

/// One scheduled event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Maintenance {
    /// `instance-event-` and 17 hexadecimal digits.
    pub event_id: String,
    /// What will happen.
    pub code: MaintenanceCode,
    /// The description, without the prefix for its state (`[Completed]`).
    pub description: String,
    /// The earliest start.
    pub not_before: Timestamp,
    /// The latest end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// The latest time to which the start can be moved (ModifyInstanceEventStartTime). Absent: the
    /// start cannot be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_deadline: Option<Timestamp>,
    /// `active` events are scheduled; the others are history.
    #[serde(default)]
    pub state: MaintenanceState,
}

/// EC2's codes of scheduled events.
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

/// The state of a scheduled event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaintenanceState {
    /// `active`: it is scheduled.
    #[default]
    Active,
    /// `completed`
    Completed,
    /// `canceled`
    Canceled,
}

impl MaintenanceCode {
    /// Returns EC2's code.
    pub fn as_str(self) -> &'static str {
        match self {
            MaintenanceCode::InstanceReboot => "instance-reboot",
            MaintenanceCode::SystemReboot => "system-reboot",
            MaintenanceCode::SystemMaintenance => "system-maintenance",
            MaintenanceCode::InstanceRetirement => "instance-retirement",
            MaintenanceCode::InstanceStop => "instance-stop",
        }
    }

    /// Returns the default description of such an event.
    pub fn usual_description(self) -> &'static str {
        match self {
            MaintenanceCode::InstanceReboot | MaintenanceCode::SystemReboot => "scheduled reboot",
            MaintenanceCode::SystemMaintenance => "scheduled maintenance",
            MaintenanceCode::InstanceRetirement => "scheduled retirement",
            MaintenanceCode::InstanceStop => "scheduled stop",
        }
    }
}

impl Maintenance {
    /// Returns the description as EC2 shows it, with a prefix for completed and canceled events.
    pub fn shown_description(&self) -> String {
        match self.state {
            MaintenanceState::Active => self.description.clone(),
            MaintenanceState::Completed => format!("[Completed] {}", self.description),
            MaintenanceState::Canceled => format!("[Canceled] {}", self.description),
        }
    }

    /// Returns the event as metadata shows it.
    pub(super) fn to_metadata(&self) -> MaintenanceMetadata<'_> {
        let time = |time: Timestamp| time.strftime("%d %b %Y %H:%M:%S GMT").to_string();
        MaintenanceMetadata {
            not_before: time(self.not_before),
            code: self.code,
            description: self.shown_description(),
            event_id: &self.event_id,
            not_after: self.not_after.map(time),
            state: self.state,
        }
    }
}

/// An event as metadata shows it: keys and times in EC2's order and format.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MaintenanceMetadata<'a> {
    not_before: String,
    code: MaintenanceCode,
    description: String,
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    state: MaintenanceState,
}

/// Returns an event id, `instance-event-` and 17 hexadecimal digits, from a random number.
pub fn event_id(random: u128) -> String {
    format!("instance-event-{:017x}", random & ((1 << 68) - 1))
}

/// Returns what is wrong with an event id; `None` if it is valid.
pub fn event_id_fault(id: &str) -> Option<String> {
    let digits = id.strip_prefix("instance-event-").unwrap_or_default();
    let is_valid = digits.len() == 17
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (!is_valid).then(|| "an event id is instance-event- and 17 hexadecimal digits".to_string())
}
