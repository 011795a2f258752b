//! RebootInstances: nothing changes, as a reboot is no launch: tokens stay good. Whoever runs the machine reboots it.

use super::{Action, Call, done, read_some_instance_ids};
use crate::control::error::Ec2Error;
use crate::control::params::{Parameters, flag};
use crate::control::xml::Document;
use crate::instance::{InstanceId, InstanceState};

/// The input of one call.
pub(super) struct RebootInstances {
    instance_ids: Vec<InstanceId>,
    dry_run: bool,
}

impl RebootInstances {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_ids = parameters.take_list("InstanceId");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(RebootInstances {
            instance_ids: read_some_instance_ids(&instance_ids)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::RebootInstances;
        let snapshot = call.registry.snapshot();
        for entry in call
            .caller
            .named(ACTION, &Vec::new(), &snapshot, &self.instance_ids)?
        {
            match entry.instance.state {
                InstanceState::Pending | InstanceState::Running => {}
                // EC2 passes over these.
                InstanceState::ShuttingDown | InstanceState::Terminated => {}
                InstanceState::Stopping | InstanceState::Stopped => {
                    return Err(Ec2Error::incorrect_state(
                        &entry.instance.instance_id,
                        "rebooted",
                    ));
                }
            }
        }
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        Ok(call.document(ACTION, done))
    }
}
