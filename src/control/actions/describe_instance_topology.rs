//! DescribeInstanceTopology: always empty. imdsd does not know the network nodes between hosts. EC2
//! omits instances without such nodes, too.

use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::filters::{FilterValues, Filterable};
use crate::control::instance_list::{InstanceList, InstanceListParameters};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::ec2_response;
use crate::control::xml::ResponseBody;
use crate::instance::Tag;

/// The input of a call.
pub(super) struct DescribeInstanceTopology {
    list: InstanceList<TopologyNode>,
    dry_run: bool,
}

/// An instance in the topology: there is none.
enum TopologyNode {}

impl Filterable for TopologyNode {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("availability-zone", |_| Vec::new()),
        ("instance-type", |_| Vec::new()),
        ("zone-id", |_| Vec::new()),
    ];
}

impl Operation for DescribeInstanceTopology {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let list = InstanceListParameters::take(&mut parameters);
        // Groups select among the instances, of which there are none.
        parameters.take_list("GroupName");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(DescribeInstanceTopology {
            list: list.read()?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.list(&call)).await
    }
}

impl DescribeInstanceTopology {
    fn list(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeInstanceTopology;
        self.list.describable_entries(ACTION, call)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("instanceSet", [(); 0], |_, ()| {});
        }))
    }
}
