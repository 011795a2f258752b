//! ModifyInstanceEventStartTime: moves a scheduled event, together with its end.
//!
//! EC2's rules: the event has a deadline, has not started, and does not start within five minutes;
//! the new time is at least an hour ahead, and not after the deadline.

use jiff::{SignedDuration, Timestamp};

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::{Code, Ec2Error};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::write_event;
use crate::control::syntax::read_instance_id;
use crate::control::xml::ResponseBody;
use crate::instance::InstanceId;
use crate::instance::events::{Maintenance, MaintenanceState};
use crate::registry::Transaction;

/// An event that starts sooner than this cannot be moved.
const MIN_NOTICE: SignedDuration = SignedDuration::from_mins(5);
/// The minimum time from now to the new start.
const MIN_DELAY: SignedDuration = SignedDuration::from_mins(60);

/// The input of a call.
pub(super) struct ModifyInstanceEventStartTime {
    instance_id: InstanceId,
    event_id: String,
    not_before: Timestamp,
    dry_run: bool,
}

impl Operation for ModifyInstanceEventStartTime {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let instance_id = parameters.take_required("InstanceId");
        let event_id = parameters.take_required("InstanceEventId");
        let not_before = parameters.take_required("NotBefore");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let (instance_id, event_id, not_before) = (instance_id?, event_id?, not_before?);
        let time = not_before.parse().map_err(|_| {
            Ec2Error::invalid_value(format!(
                "Value ({not_before}) for parameter notBefore is invalid. Expecting a time such as 2026-01-02T03:04:05Z."
            ))
        })?;
        Ok(ModifyInstanceEventStartTime {
            instance_id: read_instance_id(&instance_id)?,
            event_id,
            not_before: time,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceEventStartTime;
        let (caller, now) = (call.caller.clone(), call.now.wall);
        let id = self.instance_id.clone();
        let plan = move |transaction: &mut Transaction| {
            caller.instance(ACTION, &Vec::new(), transaction.before(), &self.instance_id)?;
            let instance = transaction
                .instance(&self.instance_id)
                .expect("the instance has an entry");
            instance.fold_timeline(now);
            let event = instance
                .imds
                .events
                .maintenance
                .iter_mut()
                .find(|event| event.event_id == self.event_id);
            let event = event.ok_or_else(|| {
                let message = format!("The instance event ID '{}' does not exist", self.event_id);
                Ec2Error::new(Code::InvalidInstanceEventIdNotFound, message)
            })?;
            move_event(event, self.not_before, now)?;
            if self.dry_run {
                Err(Ec2Error::dry_run())
            } else {
                Ok(event.clone())
            }
        };
        let (_, event) = call.change_beside([id], plan).await?;
        Ok(call.response(ACTION, |xml| {
            xml.element("event", |xml| write_event(xml, &event))
        }))
    }
}

/// Moves the start and the end of an event, or refuses by EC2's rules.
fn move_event(event: &mut Maintenance, to: Timestamp, now: Timestamp) -> Result<(), Ec2Error> {
    let id = &event.event_id;
    let cannot_move = |reason: &str| {
        let message = format!("The start time of the event '{id}' can't be changed: {reason}.");
        Err(Ec2Error::new(
            Code::InstanceEventStartTimeCannotChange,
            message,
        ))
    };
    let invalid = |reason: &str| {
        let message = format!("The event '{id}' can't start then: {reason}.");
        Err(Ec2Error::new(Code::InvalidInstanceEventStartTime, message))
    };
    match event.state {
        MaintenanceState::Active => {}
        MaintenanceState::Completed | MaintenanceState::Canceled => {
            return cannot_move("it is over");
        }
    }
    let Some(deadline) = event.not_before_deadline else {
        return cannot_move("it has no deadline");
    };
    if event.not_before.duration_since(now) < MIN_NOTICE {
        return cannot_move("it has started, or starts within 5 minutes");
    }
    if to.duration_since(now) < MIN_DELAY {
        return invalid("the time is less than 60 minutes ahead");
    }
    if to > deadline {
        return invalid("the time is after the deadline");
    }
    let by = to.duration_since(event.not_before);
    event.not_before = to;
    event.not_after = event
        .not_after
        .map(|end| end.saturating_add(by).unwrap_or(end));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::events::MaintenanceCode;

    #[test]
    fn an_event_moves_only_by_the_rules_of_ec2() {
        let at = |text: &str| -> Timestamp { format!("2026-05-01T{text}Z").parse().unwrap() };
        let now = at("12:00:00");
        let event = |not_before: &str, deadline: Option<&str>, state| Maintenance {
            event_id: "instance-event-0d59937288b749b32".into(),
            code: MaintenanceCode::SystemReboot,
            description: "scheduled reboot".into(),
            not_before: at(not_before),
            not_after: Some(
                at(not_before)
                    .saturating_add(SignedDuration::from_hours(2))
                    .unwrap(),
            ),
            not_before_deadline: deadline.map(at),
            state,
        };
        use MaintenanceState::{Active, Canceled, Completed};
        let (cannot, invalid) = (
            Code::InstanceEventStartTimeCannotChange,
            Code::InvalidInstanceEventStartTime,
        );
        for (not_before, deadline, state, to, refused) in [
            ("14:00:00", Some("20:00:00"), Active, "15:00:00", None),
            ("14:00:00", Some("20:00:00"), Active, "20:00:00", None),
            ("14:00:00", Some("20:00:00"), Active, "13:00:00", None),
            ("12:05:00", Some("20:00:00"), Active, "15:00:00", None),
            (
                "14:00:00",
                Some("20:00:00"),
                Active,
                "20:00:01",
                Some(invalid),
            ),
            (
                "14:00:00",
                Some("20:00:00"),
                Active,
                "12:59:59",
                Some(invalid),
            ),
            ("14:00:00", None, Active, "15:00:00", Some(cannot)),
            (
                "12:04:59",
                Some("20:00:00"),
                Active,
                "15:00:00",
                Some(cannot),
            ),
            (
                "11:00:00",
                Some("20:00:00"),
                Active,
                "15:00:00",
                Some(cannot),
            ),
            (
                "14:00:00",
                Some("20:00:00"),
                Completed,
                "15:00:00",
                Some(cannot),
            ),
            (
                "14:00:00",
                Some("20:00:00"),
                Canceled,
                "15:00:00",
                Some(cannot),
            ),
        ] {
            let mut moved = event(not_before, deadline, state);
            let outcome = move_event(&mut moved, at(to), now);
            assert_eq!(
                outcome.as_ref().err().map(|error| error.code),
                refused,
                "{not_before} {deadline:?} {to}"
            );
            let expected = event(
                if refused.is_some() { not_before } else { to },
                deadline,
                state,
            );
            assert_eq!(moved, expected, "{not_before} {deadline:?} {to}");
        }
    }
}
