//! MonitorInstances and UnmonitorInstances: detailed monitoring, as the record says it. imdsd
//! measures nothing.

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::{Parameters, flag};
use crate::control::syntax::read_required_instance_ids;
use crate::control::xml::ResponseBody;
use crate::instance::{InstanceId, InstanceState, Monitoring};
use crate::registry::Transaction;

/// The input of a call of MonitorInstances.
pub(super) struct MonitorInstances(MonitoringChange);

/// The input of a call of UnmonitorInstances.
pub(super) struct UnmonitorInstances(MonitoringChange);

struct MonitoringChange {
    instance_ids: Vec<InstanceId>,
    dry_run: bool,
}

impl Operation for MonitorInstances {
    fn read(Input { parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        MonitoringChange::read(parameters).map(MonitorInstances)
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let action = Action::MonitorInstances;
        self.0.perform(action, "enabled", "pending", call).await
    }
}

impl Operation for UnmonitorInstances {
    fn read(Input { parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        MonitoringChange::read(parameters).map(UnmonitorInstances)
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let action = Action::UnmonitorInstances;
        self.0.perform(action, "disabled", "disabling", call).await
    }
}

impl MonitoringChange {
    fn read(mut parameters: Parameters) -> Result<MonitoringChange, Ec2Error> {
        let instance_ids = parameters.take_list("InstanceId");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(MonitoringChange {
            instance_ids: read_required_instance_ids(&instance_ids)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    /// Stores `state` and, as EC2 does, replies with the state before it.
    async fn perform(
        self,
        action: Action,
        state: &'static str,
        reported: &'static str,
        call: &ApiCall<'_>,
    ) -> Result<ResponseBody, Ec2Error> {
        let MonitoringChange {
            instance_ids,
            dry_run,
        } = self;
        let (caller, ids) = (call.caller.clone(), instance_ids.clone());
        let plan = move |transaction: &mut Transaction| {
            let entries = caller.instances(action, &Vec::new(), transaction.before(), &ids)?;
            for entry in entries {
                if matches!(
                    entry.instance.state,
                    InstanceState::ShuttingDown | InstanceState::Terminated
                ) {
                    return Err(Ec2Error::incorrect_state(
                        &entry.instance.instance_id,
                        "monitored",
                    ));
                }
            }
            if dry_run {
                return Err(Ec2Error::dry_run());
            }
            for id in &ids {
                let instance = transaction.instance(id).expect("the instance has an entry");
                instance.monitoring = Some(Monitoring {
                    state: state.into(),
                });
            }
            Ok(())
        };
        call.change_beside(instance_ids.clone(), plan).await?;
        Ok(call.response(action, |xml| {
            xml.set("instancesSet", &instance_ids, |xml, id| {
                xml.text("instanceId", id);
                xml.element("monitoring", |xml| xml.text("state", reported));
            });
        }))
    }
}
