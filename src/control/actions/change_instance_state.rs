//! StartInstances, StopInstances, TerminateInstances.
//!
//! ```text
//!            stop                start: a new launch, old tokens are invalid
//!   running ──────► stopped ──────► running
//!      │ terminate     │ terminate
//!      └───────────────┴──────────► terminated ─── an hour ───► gone
//! ```
//!
//! The change takes effect at once, because imdsd waits for no virtual machine; the reply names the
//! intermediate state, as EC2's does. All of the instances change, or none. Starting a running
//! instance and stopping a stopped one succeeds and changes nothing.
//!
//! A stopped instance serves no guest and claims no attachment. Another instance can have its
//! attachments meanwhile; a start is then refused, and the other instance keeps its guest.
//!
//! A terminated instance loses its attachments, so that another
//! instance can have them, and is shown without interfaces, addresses, groups and volumes. Its record
//! keeps them. Not supported: hibernation.

use jiff::Timestamp;
use tracing::info;

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::{Code, Ec2Error};
use crate::control::operation::{Input, Operation};
use crate::control::params::{Parameters, flag};
use crate::control::render::write_state;
use crate::control::syntax::read_required_instance_ids;
use crate::control::xml::ResponseBody;
use crate::instance::{Instance, InstanceId, InstanceState, StateReason};
use crate::registry::{ClaimConflict, Transaction, UnownedConflict};

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateChange {
    Start,
    Stop,
    Terminate,
}

/// StartInstances.
pub(super) struct StartInstances(StateChangeCall);

/// StopInstances.
pub(super) struct StopInstances(StateChangeCall);

/// TerminateInstances.
pub(super) struct TerminateInstances(StateChangeCall);

impl Operation for StartInstances {
    fn read(input: Input<'_>) -> Result<Self, Ec2Error> {
        StateChangeCall::read(StateChange::Start, input.parameters).map(StartInstances)
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        self.0.perform(call).await
    }
}

impl Operation for StopInstances {
    fn read(input: Input<'_>) -> Result<Self, Ec2Error> {
        StateChangeCall::read(StateChange::Stop, input.parameters).map(StopInstances)
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        self.0.perform(call).await
    }
}

impl Operation for TerminateInstances {
    fn read(input: Input<'_>) -> Result<Self, Ec2Error> {
        StateChangeCall::read(StateChange::Terminate, input.parameters).map(TerminateInstances)
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        self.0.perform(call).await
    }
}

/// The input of a call.
struct StateChangeCall {
    change: StateChange,
    instance_ids: Vec<InstanceId>,
    dry_run: bool,
}

/// The transition of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transition {
    /// The current state as the reply names it.
    reported: InstanceState,
    /// The new state; `None` if the state does not change.
    next: Option<InstanceState>,
}

impl StateChangeCall {
    fn read(change: StateChange, mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_ids = parameters.take_list("InstanceId");
        let dry_run = parameters.take("DryRun");
        let flags: &[&str] = match change {
            StateChange::Start => &[],
            StateChange::Stop => &["Force", "Hibernate", "SkipOsShutdown"],
            StateChange::Terminate => &["Force", "SkipOsShutdown"],
        };
        let flags: Vec<_> = flags
            .iter()
            .map(|name| (*name, parameters.take(name)))
            .collect();
        parameters.finish_without(&["AdditionalInfo"])?;

        let instance_ids = read_required_instance_ids(&instance_ids)?;
        for (name, value) in flags {
            // How a machine shuts down is up to the operator's software. Hibernation would have to
            // keep its memory.
            if flag(name, value.as_deref())? && name == "Hibernate" {
                return Err(Ec2Error::new(
                    Code::UnsupportedOperation,
                    "Hibernation is not supported.",
                ));
            }
        }
        Ok(StateChangeCall {
            change,
            instance_ids,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let StateChangeCall {
            change,
            instance_ids,
            dry_run,
        } = self;
        let (caller, now) = (call.caller.clone(), call.now.wall);
        let plan = move |transaction: &mut Transaction| {
            let entries = caller.instances(
                change.action(),
                &Vec::new(),
                transaction.before(),
                &instance_ids,
            )?;
            let mut reports = Vec::new();
            let mut changes = Vec::new();
            for entry in entries {
                let instance = &entry.instance;
                let transition = change.transition(instance)?;
                reports.push((
                    instance.instance_id.clone(),
                    instance.state,
                    transition.reported,
                ));
                changes.extend(transition.next.map(|to| (instance.instance_id.clone(), to)));
            }
            changes
                .iter()
                .for_each(|(id, to)| apply(transaction, id, *to, now));
            if let Some(conflict) = transaction.new_conflicts().first() {
                return Err(attachment_in_use(conflict));
            }
            if let Some(conflict) = transaction.unowned_conflicts().first() {
                return Err(attachment_reserved(conflict));
            }
            match dry_run {
                true => Err(Ec2Error::dry_run()),
                false => Ok(reports),
            }
        };
        let (_, reports) = call.change(plan).await?;
        Ok(call.response(change.action(), |xml| {
            xml.set("instancesSet", reports, |xml, (id, previous, current)| {
                xml.text("instanceId", id);
                write_state(xml, "currentState", current);
                write_state(xml, "previousState", previous);
            });
        }))
    }
}

impl StateChange {
    fn action(self) -> Action {
        match self {
            StateChange::Start => Action::StartInstances,
            StateChange::Stop => Action::StopInstances,
            StateChange::Terminate => Action::TerminateInstances,
        }
    }

    /// Returns the transition of an instance, or why it is refused.
    fn transition(self, instance: &Instance) -> Result<Transition, Ec2Error> {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        let id = &instance.instance_id;
        let stays = Ok(Transition {
            reported: instance.state,
            next: None,
        });
        let to = |reported, next| {
            Ok(Transition {
                reported,
                next: Some(next),
            })
        };
        let protected = |attribute: &str, what: &str| {
            let message = format!(
                "The instance '{id}' may not be {what}. Modify its '{attribute}' instance attribute and try again."
            );
            Err(Ec2Error::new(Code::OperationNotPermitted, message))
        };
        match (self, instance.state) {
            (StateChange::Start, Stopped) => to(Pending, Running),
            (StateChange::Start, Pending | Running) => stays,
            (StateChange::Start, Stopping | ShuttingDown | Terminated) => {
                Err(Ec2Error::incorrect_state(id, "started"))
            }
            (StateChange::Stop, Stopped) => stays,
            (StateChange::Stop, ShuttingDown | Terminated) => {
                Err(Ec2Error::incorrect_state(id, "stopped"))
            }
            (StateChange::Stop, Pending | Running) if instance.imds.disable_api_stop => {
                protected("disableApiStop", "stopped")
            }
            // A document can have the state pending or stopping, which nothing else would end.
            (StateChange::Stop, Pending | Running | Stopping) => to(Stopping, Stopped),
            (StateChange::Terminate, Terminated) => stays,
            (StateChange::Terminate, Pending | Running | Stopping | Stopped)
                if instance.imds.disable_api_termination =>
            {
                protected("disableApiTermination", "terminated")
            }
            // Stop protection also protects from a termination, which ends with a stopped machine.
            (StateChange::Terminate, Pending | Running | Stopping | Stopped)
                if instance.imds.disable_api_stop =>
            {
                protected("disableApiStop", "terminated")
            }
            (StateChange::Terminate, Pending | Running | Stopping | Stopped | ShuttingDown) => {
                to(ShuttingDown, Terminated)
            }
        }
    }
}

/// Returns the error for a start that would put two guests at one attachment. The caller may not
/// know the other instance, so only the log names it.
fn attachment_in_use(conflict: &ClaimConflict) -> Ec2Error {
    let ClaimConflict {
        instance,
        attachment,
        holder,
        held: _,
    } = conflict;
    info!(%instance, %attachment, %holder, "start refused: another instance has the attachment");
    let message = format!(
        "The instance '{instance}' cannot be started: another instance has its attachment, {attachment}."
    );
    Ec2Error::new(Code::IncorrectInstanceState, message)
}

/// Returns the error for a start at an attachment that is reserved for an instance that is not
/// known. Only the log names the file.
fn attachment_reserved(conflict: &UnownedConflict) -> Ec2Error {
    let (instance, attachment) = (&conflict.instance, &conflict.attachment);
    info!(%instance, "start refused: {conflict}");
    let message = format!(
        "The instance '{instance}' cannot be started: its attachment, {attachment}, is reserved."
    );
    Ec2Error::new(Code::IncorrectInstanceState, message)
}

/// Gives an instance its new state.
fn apply(transaction: &mut Transaction, id: &InstanceId, to: InstanceState, now: Timestamp) {
    let launched = to == InstanceState::Running;
    let instance = if launched {
        transaction.relaunch(id)
    } else {
        transaction.instance(id)
    };
    let instance = instance.expect("the instance has an entry");
    instance.state = to;
    if launched {
        instance.launch_time = now;
        instance.state_transition_reason = None;
        instance.state_reason = None;
    } else {
        let when = now.strftime("%Y-%m-%d %H:%M:%S GMT");
        instance.state_transition_reason = Some(format!("User initiated ({when})").into());
        instance.state_reason = Some(StateReason::user_initiated());
    }
    if to == InstanceState::Terminated {
        instance.imds.attachments.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;

    #[test]
    fn each_change_from_each_state_has_the_result_of_ec2() {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        use StateChange::{Start, Stop, Terminate};
        for (change, from, expected) in [
            (Start, Pending, Ok((Pending, None))),
            (Start, Running, Ok((Running, None))),
            (Start, Stopping, Err("started")),
            (Start, Stopped, Ok((Pending, Some(Running)))),
            (Start, ShuttingDown, Err("started")),
            (Start, Terminated, Err("started")),
            (Stop, Pending, Ok((Stopping, Some(Stopped)))),
            (Stop, Running, Ok((Stopping, Some(Stopped)))),
            (Stop, Stopping, Ok((Stopping, Some(Stopped)))),
            (Stop, Stopped, Ok((Stopped, None))),
            (Stop, ShuttingDown, Err("stopped")),
            (Stop, Terminated, Err("stopped")),
            (Terminate, Pending, Ok((ShuttingDown, Some(Terminated)))),
            (Terminate, Running, Ok((ShuttingDown, Some(Terminated)))),
            (Terminate, Stopping, Ok((ShuttingDown, Some(Terminated)))),
            (Terminate, Stopped, Ok((ShuttingDown, Some(Terminated)))),
            (
                Terminate,
                ShuttingDown,
                Ok((ShuttingDown, Some(Terminated))),
            ),
            (Terminate, Terminated, Ok((Terminated, None))),
        ] {
            let mut instance = demo_instance();
            instance.state = from;
            let id = instance.instance_id.clone();
            let expected = expected.map(|(reported, next)| Transition { reported, next });
            let expected = expected.map_err(|what| Ec2Error::incorrect_state(&id, what));
            assert_eq!(
                change.transition(&instance),
                expected,
                "{change:?} {from:?}"
            );
        }
    }

    /// Stop protection refuses a termination too, as reports about EC2 show.
    #[test]
    fn protection_refuses_a_stop_and_a_termination_that_would_change_the_state() {
        use InstanceState::{Running, ShuttingDown, Stopped, Terminated};
        use StateChange::{Start, Stop, Terminate};
        let (stop, termination) = (Some("disableApiStop"), Some("disableApiTermination"));
        for (disable_stop, disable_termination, change, state, refused_by) in [
            (true, false, Stop, Running, stop),
            (true, false, Stop, Stopped, None),
            (true, false, Terminate, Running, stop),
            (true, false, Terminate, Stopped, stop),
            (true, false, Terminate, ShuttingDown, None),
            (true, false, Terminate, Terminated, None),
            (true, false, Start, Stopped, None),
            (false, true, Stop, Running, None),
            (false, true, Terminate, Running, termination),
            (false, true, Terminate, Stopped, termination),
            (true, true, Stop, Running, stop),
            (true, true, Terminate, Running, termination),
            (true, true, Terminate, Stopped, termination),
            (true, true, Terminate, Terminated, None),
        ] {
            let mut instance = demo_instance();
            instance.imds.disable_api_stop = disable_stop;
            instance.imds.disable_api_termination = disable_termination;
            instance.state = state;
            let case = format!("{disable_stop} {disable_termination} {change:?} {state:?}");
            match (change.transition(&instance), refused_by) {
                (Ok(_), None) => {}
                (Err(error), Some(attribute)) => {
                    assert_eq!(error.code, Code::OperationNotPermitted, "{case}");
                    let named = format!("Modify its '{attribute}' instance attribute");
                    assert!(error.message.contains(&named), "{case}: {}", error.message);
                }
                (result, _) => panic!("{case}: {result:?}"),
            }
        }
    }
}
