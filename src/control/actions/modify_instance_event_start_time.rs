//! ModifyInstanceEventStartTime: moves a scheduled event, together with its end.
//!
//! EC2's rules: the event has a deadline, has not begun, and does not begin within five minutes; the new time is an hour
//! ahead at least, and not behind the deadline.

use jiff::{SignedDuration, Timestamp};

use super::describe_instance_status::write_event;
use super::{Action, Call, read_instance_id};
use crate::control::error::{Code, Ec2Error};
use crate::control::params::{Parameters, flag};
use crate::control::xml::Document;
use crate::instance::InstanceId;
use crate::instance::events::{Maintenance, MaintenanceState};
use crate::registry::Transaction;

/// An event that begins so soon stays where it is.
const TOO_SOON_TO_MOVE: SignedDuration = SignedDuration::from_mins(5);
/// The earliest new time, from now.
const EARLIEST: SignedDuration = SignedDuration::from_mins(60);

/// The input of one call.
pub(super) struct ModifyInstanceEventStartTime {
    instance_id: InstanceId,
    event_id: String,
    not_before: Timestamp,
    dry_run: bool,
}

impl ModifyInstanceEventStartTime {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_id = parameters.take_required("InstanceId");
        let event_id = parameters.take_required("InstanceEventId");
        let not_before = parameters.take_required("NotBefore");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let (instance_id, event_id, not_before) = (instance_id?, event_id?, not_before?);
        let time = not_before.parse().map_err(|_| {
            Ec2Error::invalid_value(format!(
                "Value ({not_before}) for parameter notBefore is invalid. Expecting a time, 2026-01-02T03:04:05Z say."
            ))
        })?;
        Ok(ModifyInstanceEventStartTime {
            instance_id: read_instance_id(&instance_id)?,
            event_id,
            not_before: time,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceEventStartTime;
        let (caller, now) = (call.caller.clone(), call.now.wall);
        let plan = move |transaction: &mut Transaction| {
            caller.one(ACTION, &Vec::new(), transaction.before(), &self.instance_id)?;
            let instance = transaction
                .instance(&self.instance_id)
                .expect("it has an entry");
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
        let (_, event) = call.change(plan).await?;
        Ok(call.document(ACTION, |xml| {
            xml.element("event", |xml| write_event(xml, &event))
        }))
    }
}

fn move_event(event: &mut Maintenance, to: Timestamp, now: Timestamp) -> Result<(), Ec2Error> {
    let id = &event.event_id;
    let stays = |reason: &str| {
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
        MaintenanceState::Completed | MaintenanceState::Canceled => return stays("it is over"),
    }
    let Some(deadline) = event.not_before_deadline else {
        return stays("it has no deadline");
    };
    if event.not_before.duration_since(now) < TOO_SOON_TO_MOVE {
        return stays("it has started, or starts within 5 minutes");
    }
    if to.duration_since(now) < EARLIEST {
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
    fn an_event_is_moved_only_as_ec2_moves_it() {
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
