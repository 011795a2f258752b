//! DescribeInstanceCreditSpecifications: the credit options of burstable instances. Without ids, as
//! on EC2, those whose option is `unlimited`.

use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::{Code, Ec2Error};
use crate::control::filters::{FilterValues, Filterable, one};
use crate::control::instance_list::{InstanceList, InstanceListParameters};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::ec2_response;
use crate::control::xml::ResponseBody;
use crate::instance::{CpuCredits, InstanceId, InstanceState, Tag};

/// The input of a call.
pub(super) struct DescribeInstanceCreditSpecifications {
    list: InstanceList<InstanceCredits>,
    dry_run: bool,
}

/// A burstable instance.
struct InstanceCredits {
    instance_id: InstanceId,
    credits: CpuCredits,
}

impl Filterable for InstanceCredits {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] =
        &[("instance-id", |instance| one(&instance.instance_id))];
}

impl Operation for DescribeInstanceCreditSpecifications {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let list = InstanceListParameters::take(&mut parameters);
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(DescribeInstanceCreditSpecifications {
            list: list.read()?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.list(&call)).await
    }
}

impl DescribeInstanceCreditSpecifications {
    fn list(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeInstanceCreditSpecifications;
        let entries = self.list.describable_entries(ACTION, call)?;
        let mut burstable = Vec::new();
        for entry in entries {
            let instance = &entry.instance;
            let is_shown = |credits| {
                credits == CpuCredits::Unlimited && instance.state != InstanceState::Terminated
            };
            match instance.cpu_credits() {
                Some(credits) if self.list.has_ids() || is_shown(credits) => {
                    burstable.push(InstanceCredits {
                        instance_id: instance.instance_id.clone(),
                        credits,
                    });
                }
                None if self.list.has_ids() => {
                    let message = format!(
                        "The instance '{}' of the type {} has no CPU credits.",
                        instance.instance_id, instance.instance_type
                    );
                    let code = Code::InstanceCreditSpecificationNotSupported;
                    return Err(Ec2Error::new(code, message));
                }
                Some(_) | None => {}
            }
        }
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let matching = burstable
            .into_iter()
            .filter(|instance| self.list.filters.match_all(instance));
        let id = |instance: &InstanceCredits| instance.instance_id.to_string();
        let (page, next) = self.list.page.of(matching, id);
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("instanceCreditSpecificationSet", &page, |xml, instance| {
                xml.text("instanceId", &instance.instance_id);
                xml.text("cpuCredits", instance.credits.as_str());
            });
            xml.optional("nextToken", next);
        }))
    }
}
