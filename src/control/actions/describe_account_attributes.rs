//! DescribeAccountAttributes: EC2's attributes of an account, with the values of a new one and
//! imdsd's limit of instances. There is no default VPC.

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::policy::rules::Target;
use crate::control::xml::ResponseBody;

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AccountAttribute.html>
const ATTRIBUTES: [(&str, &str); 6] = [
    ("default-vpc", "none"),
    ("max-elastic-ips", "5"),
    ("max-instances", "10000"),
    ("supported-platforms", "VPC"),
    ("vpc-max-elastic-ips", "5"),
    ("vpc-max-security-groups-per-interface", "5"),
];

/// The input of a call.
pub(super) struct DescribeAccountAttributes {
    /// Empty: all attributes.
    names: Vec<String>,
    dry_run: bool,
}

impl Operation for DescribeAccountAttributes {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let names = parameters.take_list("AttributeName");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let is_unknown = |name: &&String| !ATTRIBUTES.iter().any(|(known, _)| known == name);
        if let Some(unknown) = names.iter().find(is_unknown) {
            return Err(Ec2Error::invalid_value(format!(
                "Value ({unknown}) for parameter attributeName is invalid. Unknown attribute."
            )));
        }
        Ok(DescribeAccountAttributes {
            names,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeAccountAttributes;
        call.caller
            .authorize(ACTION, &Vec::new(), Target::Account)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let is_named = |(name, _): &(&str, &str)| {
            self.names.is_empty() || self.names.iter().any(|n| n == name)
        };
        Ok(call.response(ACTION, |xml| {
            let named = ATTRIBUTES.into_iter().filter(is_named);
            xml.set("accountAttributeSet", named, |xml, (name, value)| {
                xml.text("attributeName", name);
                xml.set("attributeValueSet", [value], |xml, value| {
                    xml.text("attributeValue", value)
                });
            });
        }))
    }
}
