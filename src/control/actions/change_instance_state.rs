//! StartInstances, StopInstances, TerminateInstances.
//!
//! ```text
//!            stop                start: a new launch, old tokens are void
//!   running ──────► stopped ──────► running
//!      │ terminate     │ terminate
//!      └───────────────┴──────────► terminated ─── an hour ───► gone
//! ```
//!
//! The change is made at once, as there is no machine here to wait for; the answer names the state in between, as EC2's
//! does. Several instances change together or not at all. Starting what runs and stopping what is stopped changes nothing
//! and succeeds.
//!
//! A stopped instance answers no guest. A terminated one gives its ways in to whoever comes next. Addresses stay as they
//! are: they are not ours to give back. Not supported: hibernation.

use jiff::Timestamp;

use super::{Action, Call, read_some_instance_ids, write_state};
use crate::control::error::{Code, Ec2Error};
use crate::control::params::{Parameters, flag};
use crate::control::xml::Document;
use crate::instance::{Instance, InstanceId, InstanceState};
use crate::registry::Transaction;

/// What is to happen to the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateChange {
    Start,
    Stop,
    Terminate,
}

/// The input of one call.
pub(super) struct ChangeInstanceState {
    change: StateChange,
    instance_ids: Vec<InstanceId>,
    dry_run: bool,
}

/// What becomes of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transition {
    /// The state that the answer calls current.
    told: InstanceState,
    /// The state from now on; `None` where it stays.
    to: Option<InstanceState>,
}

impl ChangeInstanceState {
    pub(super) fn read(change: StateChange, mut parameters: Parameters) -> Result<Self, Ec2Error> {
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

        let instance_ids = read_some_instance_ids(&instance_ids)?;
        for (name, value) in flags {
            // How a machine is shut down is a matter of whoever runs it, but memory can't be kept by leaving it out.
            if flag(name, value.as_deref())? && name == "Hibernate" {
                return Err(Ec2Error::new(
                    Code::UnsupportedOperation,
                    "Hibernation is not supported.",
                ));
            }
        }
        Ok(ChangeInstanceState {
            change,
            instance_ids,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        let ChangeInstanceState {
            change,
            instance_ids,
            dry_run,
        } = self;
        let (caller, now) = (call.caller.clone(), call.now.wall);
        let plan = move |transaction: &mut Transaction| {
            let entries = caller.named(
                change.action(),
                &Vec::new(),
                transaction.before(),
                &instance_ids,
            )?;
            let mut told = Vec::new();
            let mut changes = Vec::new();
            for entry in entries {
                let instance = &entry.instance;
                let transition = change.of(instance)?;
                told.push((
                    instance.instance_id.clone(),
                    instance.state,
                    transition.told,
                ));
                changes.extend(transition.to.map(|to| (instance.instance_id.clone(), to)));
            }
            if dry_run {
                return Err(Ec2Error::dry_run());
            }
            changes
                .iter()
                .for_each(|(id, to)| carry_out(transaction, id, *to, now));
            Ok(told)
        };
        let (_, told) = call.change(plan).await?;
        Ok(call.document(change.action(), |xml| {
            xml.set("instancesSet", told, |xml, (id, previous, current)| {
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

    /// What becomes of an instance, or why nothing does.
    fn of(self, instance: &Instance) -> Result<Transition, Ec2Error> {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        let id = &instance.instance_id;
        let stays = Ok(Transition {
            told: instance.state,
            to: None,
        });
        let to = |told, to| Ok(Transition { told, to: Some(to) });
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
            // A document may say pending or stopping; nobody else would end that.
            (StateChange::Stop, Pending | Running | Stopping) => to(Stopping, Stopped),
            (StateChange::Terminate, Terminated) => stays,
            (StateChange::Terminate, Pending | Running | Stopping | Stopped)
                if instance.imds.disable_api_termination =>
            {
                protected("disableApiTermination", "terminated")
            }
            (StateChange::Terminate, Pending | Running | Stopping | Stopped | ShuttingDown) => {
                to(ShuttingDown, Terminated)
            }
        }
    }
}

fn carry_out(transaction: &mut Transaction, id: &InstanceId, to: InstanceState, now: Timestamp) {
    let launched = to == InstanceState::Running;
    let instance = if launched {
        transaction.relaunch(id)
    } else {
        transaction.instance(id)
    };
    let instance = instance.expect("it has an entry");
    instance.state = to;
    if launched {
        instance.launch_time = now;
        instance.state_transition_reason = None;
    } else {
        let when = now.strftime("%Y-%m-%d %H:%M:%S GMT");
        instance.state_transition_reason = Some(format!("User initiated ({when})"));
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
    fn every_change_from_every_state() {
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
            let expected = expected.map(|(told, to)| Transition { told, to });
            let expected = expected.map_err(|what| Ec2Error::incorrect_state(&id, what));
            assert_eq!(change.of(&instance), expected, "{change:?} {from:?}");
        }
    }

    #[test]
    fn protection_keeps_an_instance_from_what_would_change_it() {
        let mut instance = demo_instance();
        instance.imds.disable_api_stop = true;
        assert_eq!(
            StateChange::Stop.of(&instance).unwrap_err().code,
            Code::OperationNotPermitted
        );
        assert!(StateChange::Terminate.of(&instance).is_ok());
        instance.imds.disable_api_termination = true;
        assert_eq!(
            StateChange::Terminate.of(&instance).unwrap_err().code,
            Code::OperationNotPermitted
        );
        instance.state = InstanceState::Stopped;
        assert!(
            StateChange::Stop.of(&instance).is_ok(),
            "it is stopped already"
        );
        assert_eq!(
            StateChange::Terminate.of(&instance).unwrap_err().code,
            Code::OperationNotPermitted
        );
    }
}
