//! DescribeVpcAttribute: one attribute of a VPC that instances are in. Documents do not have these
//! attributes, so each has EC2's default for a VPC that a caller creates.

use super::describe_vpcs::{UNKNOWN_VPC, UsedVpc};
use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::ec2_response;
use crate::control::resource_list::visible;
use crate::control::xml::ResponseBody;

/// EC2's attributes with their values.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html>
const ATTRIBUTES: [(&str, bool); 3] = [
    ("enableDnsHostnames", false),
    ("enableDnsSupport", true),
    ("enableNetworkAddressUsageMetrics", false),
];

/// The input of a call.
pub(super) struct DescribeVpcAttribute {
    vpc_id: String,
    attribute: (&'static str, bool),
    dry_run: bool,
}

impl Operation for DescribeVpcAttribute {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let vpc_id = parameters.take_required("VpcId");
        let attribute = parameters.take_required("Attribute");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let (vpc_id, attribute) = (vpc_id?, attribute?);
        let known = ATTRIBUTES.into_iter().find(|(name, _)| *name == attribute);
        Ok(DescribeVpcAttribute {
            vpc_id,
            attribute: known.ok_or_else(|| {
                Ec2Error::invalid_value(format!(
                    "Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
                ))
            })?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.show(&call)).await
    }
}

impl DescribeVpcAttribute {
    fn show(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeVpcAttribute;
        if !visible::<UsedVpc>(ACTION, call)?.contains_key(&self.vpc_id) {
            return Err(UNKNOWN_VPC.error(&self.vpc_id));
        }
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let (name, value) = self.attribute;
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.text("vpcId", &self.vpc_id);
            xml.element(name, |xml| xml.text("value", value));
        }))
    }
}
