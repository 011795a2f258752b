//! Instance states: EC2's names and codes, and why a state changed.

use serde::{Deserialize, Serialize};

use crate::instance::text::SharedText;

/// The state of an instance (`State` in describe-instances). The numeric code follows from the
/// name; see EC2's API type `InstanceState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StateJson", into = "StateJson")]
pub enum InstanceState {
    /// Code 0: it is being launched or started.
    Pending,
    /// Code 16: the default.
    #[default]
    Running,
    /// Code 32: it is being terminated.
    ShuttingDown,
    /// Code 48.
    Terminated,
    /// Code 64.
    Stopping,
    /// Code 80.
    Stopped,
}

/// A state in EC2's JSON: `{"Code": 16, "Name": "running"}`. The code is written but not read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateJson {
    #[serde(default)]
    code: i32,
    name: StateName,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StateName {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl InstanceState {
    /// Returns EC2's code, 0 to 80.
    pub fn code(self) -> i32 {
        match self {
            InstanceState::Pending => 0,
            InstanceState::Running => 16,
            InstanceState::ShuttingDown => 32,
            InstanceState::Terminated => 48,
            InstanceState::Stopping => 64,
            InstanceState::Stopped => 80,
        }
    }

    /// Returns EC2's name.
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::ShuttingDown => "shutting-down",
            InstanceState::Terminated => "terminated",
            InstanceState::Stopping => "stopping",
            InstanceState::Stopped => "stopped",
        }
    }

    /// Returns whether a guest of this instance can send requests. A stopped or terminated
    /// instance sends nothing, so a request at its attachment comes from something else.
    pub fn is_active(self) -> bool {
        match self {
            InstanceState::Pending
            | InstanceState::Running
            | InstanceState::ShuttingDown
            | InstanceState::Stopping => true,
            InstanceState::Stopped | InstanceState::Terminated => false,
        }
    }
}

/// Why the state of an instance changed (`StateReason` in describe-instances).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StateReason {
    /// A code such as `Client.UserInitiatedShutdown` or `Server.SpotInstanceTermination`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SharedText>,
    /// The code and a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<SharedText>,
}

impl StateReason {
    /// Returns EC2's reason after StopInstances and TerminateInstances.
    pub fn user_initiated() -> StateReason {
        StateReason::of(
            "Client.UserInitiatedShutdown",
            "Client.UserInitiatedShutdown: User initiated shutdown",
        )
    }

    /// Returns EC2's reason in the reply of a launch.
    pub fn pending() -> StateReason {
        StateReason::of("pending", "pending")
    }

    fn of(code: &str, message: &str) -> StateReason {
        StateReason {
            code: Some(code.into()),
            message: Some(message.into()),
        }
    }
}

/// What a shutdown from inside the guest does (the attribute `instanceInitiatedShutdownBehavior`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownBehavior {
    /// EC2's default.
    #[default]
    Stop,
    /// The instance is terminated.
    Terminate,
}

impl ShutdownBehavior {
    /// Parses EC2's word.
    pub fn parse(word: &str) -> Option<ShutdownBehavior> {
        match word {
            "stop" => Some(ShutdownBehavior::Stop),
            "terminate" => Some(ShutdownBehavior::Terminate),
            _ => None,
        }
    }

    /// Returns EC2's word.
    pub fn as_str(self) -> &'static str {
        match self {
            ShutdownBehavior::Stop => "stop",
            ShutdownBehavior::Terminate => "terminate",
        }
    }
}

impl From<StateJson> for InstanceState {
    fn from(json: StateJson) -> InstanceState {
        match json.name {
            StateName::Pending => InstanceState::Pending,
            StateName::Running => InstanceState::Running,
            StateName::ShuttingDown => InstanceState::ShuttingDown,
            StateName::Terminated => InstanceState::Terminated,
            StateName::Stopping => InstanceState::Stopping,
            StateName::Stopped => InstanceState::Stopped,
        }
    }
}

impl From<InstanceState> for StateJson {
    fn from(state: InstanceState) -> StateJson {
        let name = match state {
            InstanceState::Pending => StateName::Pending,
            InstanceState::Running => StateName::Running,
            InstanceState::ShuttingDown => StateName::ShuttingDown,
            InstanceState::Terminated => StateName::Terminated,
            InstanceState::Stopping => StateName::Stopping,
            InstanceState::Stopped => StateName::Stopped,
        };
        StateJson {
            code: state.code(),
            name,
        }
    }
}
