//! RebootInstances: changes nothing. A reboot is not a launch, so session tokens stay valid. The
//! operator's software reboots the virtual machine.

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::write_return;
use crate::control::syntax::read_required_instance_ids;
use crate::control::xml::ResponseBody;
use crate::instance::{InstanceId, InstanceState};

/// The input of a call.
pub(super) struct RebootInstances {
    instance_ids: Vec<InstanceId>,
    dry_run: bool,
}

impl Operation for RebootInstances {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let instance_ids = parameters.take_list("InstanceId");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(RebootInstances {
            instance_ids: read_required_instance_ids(&instance_ids)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::RebootInstances;
        let snapshot = call.registry.snapshot();
        for entry in call
            .caller
            .instances(ACTION, &Vec::new(), &snapshot, &self.instance_ids)?
        {
            match entry.instance.state {
                InstanceState::Pending | InstanceState::Running => {}
                // EC2 ignores these.
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
        Ok(call.response(ACTION, write_return))
    }
}
