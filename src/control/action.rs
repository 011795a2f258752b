//! The table of actions.
//!
//! | about | actions |
//! |---|---|
//! | metadata options | ModifyInstanceMetadataOptions, GetInstanceMetadataDefaults, ModifyInstanceMetadataDefaults |
//! | instances | DescribeInstances, DescribeInstanceStatus, DescribeInstanceAttribute, ModifyInstanceAttribute, MonitorInstances, UnmonitorInstances |
//! | instance state | RunInstances, StartInstances, StopInstances, RebootInstances, TerminateInstances |
//! | images | DescribeImages, DescribeImageAttribute, ModifyImageAttribute, ResetImageAttribute |
//! | tags | CreateTags, DeleteTags, DescribeTags |
//! | events | ModifyInstanceEventStartTime |
//! | what instances refer to | DescribeVolumes, DescribeVolumesModifications, DescribeNetworkInterfaces, DescribeAddresses, DescribeSecurityGroups, DescribeSubnets, DescribeVpcs, DescribeVpcAttribute, DescribeKeyPairs, DescribeIamInstanceProfileAssociations, DescribeLaunchTemplates |
//! | instance types | DescribeInstanceTypes, DescribeInstanceCreditSpecifications, DescribeInstanceTopology |
//! | account, regions and zones | DescribeAccountAttributes, DescribeRegions, DescribeAvailabilityZones |
//! | other services | GetCallerIdentity (STS), SendSSHPublicKey (EC2 Instance Connect) |
//!
//! # To add an action
//!
//! 1. Write `actions/<file>.rs` with a type named like the action that implements
//!    [`Operation`](super::operation::Operation): how to read the input, what rules can compare in
//!    it, and how to carry it out. Declare it with `mod <file>;` in `actions/mod.rs`. A short
//!    example is `actions/reboot_instances.rs`.
//! 2. Add its row to the table below.
//!
//! The row gives the action's name on the wire, its place in [`Action::ALL`], its permission for
//! rules (`ec2:RebootInstances`), what the lint of rules knows about it, and its dispatch
//! (`actions/mod.rs`). Then test it: `tests/actions.rs` next to this file, and one row for each
//! client in `every_action` of `tests/clients/control.rs`.

use super::api_version::ApiVersion;
use super::error::{Code, Ec2Error};
use super::params::Parameters;
use super::service::AwsService;

/// Calls the macro `$generate` with the table. Columns: name on the wire, service, [`Resource`],
/// file in `actions/`.
macro_rules! action_table {
    ($generate:ident) => {
        $generate! {
            CreateTags, Ec2, Instances, create_tags;
            DeleteTags, Ec2, Instances, delete_tags;
            DescribeAccountAttributes, Ec2, Account, describe_account_attributes;
            DescribeAddresses, Ec2, Instances, describe_addresses;
            DescribeAvailabilityZones, Ec2, Account, describe_availability_zones;
            DescribeIamInstanceProfileAssociations, Ec2, Instances, describe_iam_instance_profile_associations;
            DescribeImageAttribute, Ec2, Account, describe_image_attribute;
            DescribeImages, Ec2, Account, describe_images;
            DescribeInstanceAttribute, Ec2, Instances, describe_instance_attribute;
            DescribeInstanceCreditSpecifications, Ec2, Instances, describe_instance_credit_specifications;
            DescribeInstanceStatus, Ec2, Instances, describe_instance_status;
            DescribeInstanceTopology, Ec2, Instances, describe_instance_topology;
            DescribeInstanceTypes, Ec2, Instances, describe_instance_types;
            DescribeInstances, Ec2, Instances, describe_instances;
            DescribeKeyPairs, Ec2, Instances, describe_key_pairs;
            DescribeLaunchTemplates, Ec2, Instances, describe_launch_templates;
            DescribeNetworkInterfaces, Ec2, Instances, describe_network_interfaces;
            DescribeRegions, Ec2, Account, describe_regions;
            DescribeSecurityGroups, Ec2, Instances, describe_security_groups;
            DescribeSubnets, Ec2, Instances, describe_subnets;
            DescribeTags, Ec2, Instances, describe_tags;
            DescribeVolumes, Ec2, Instances, describe_volumes;
            DescribeVolumesModifications, Ec2, Instances, describe_volumes_modifications;
            DescribeVpcAttribute, Ec2, Instances, describe_vpc_attribute;
            DescribeVpcs, Ec2, Instances, describe_vpcs;
            GetCallerIdentity, Sts, None, get_caller_identity;
            GetInstanceMetadataDefaults, Ec2, Account, get_instance_metadata_defaults;
            ModifyImageAttribute, Ec2, Account, modify_image_attribute;
            ModifyInstanceAttribute, Ec2, Instances, modify_instance_attribute;
            ModifyInstanceEventStartTime, Ec2, Instances, modify_instance_event_start_time;
            ModifyInstanceMetadataDefaults, Ec2, Account, modify_instance_metadata_defaults;
            ModifyInstanceMetadataOptions, Ec2, Instances, modify_instance_metadata_options;
            MonitorInstances, Ec2, Instances, monitor_instances;
            RebootInstances, Ec2, Instances, reboot_instances;
            ResetImageAttribute, Ec2, Account, modify_image_attribute;
            RunInstances, Ec2, Launch, run_instances;
            SendSSHPublicKey, InstanceConnect, Instances, send_ssh_public_key;
            StartInstances, Ec2, Instances, change_instance_state;
            StopInstances, Ec2, Instances, change_instance_state;
            TerminateInstances, Ec2, Instances, change_instance_state;
            UnmonitorInstances, Ec2, Instances, monitor_instances;
        }
    };
}
pub(super) use action_table;

macro_rules! define_action {
    ($($name:ident, $service:ident, $resource:ident, $file:ident;)*) => {
        /// An action of the endpoint.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Action {
            $($name,)*
        }

        impl Action {
            /// All actions.
            pub(crate) const ALL: &'static [Action] = &[$(Action::$name),*];

            /// Returns the name on the wire.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Action::$name => stringify!($name),)*
                }
            }

            /// Returns the service that has the action.
            pub(super) fn service(self) -> AwsService {
                match self {
                    $(Action::$name => AwsService::$service,)*
                }
            }

            /// Returns what the permission for the action is about.
            pub(crate) fn resource(self) -> Resource {
                match self {
                    $(Action::$name => Resource::$resource,)*
                }
            }
        }
    };
}
action_table!(define_action);

/// What the permission for an action is about, and so what a rule can compare besides the action's
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The action needs no permission.
    None,
    /// The account: rules can compare the attributes of the call.
    Account,
    /// An instance that does not exist yet.
    Launch,
    /// Existing instances.
    Instances,
}

/// The supported version of the STS API.
const STS_VERSION: &str = "2011-06-15";
/// The prefix of an EC2 Instance Connect action in `X-Amz-Target`.
const CONNECT_TARGET: &str = "AWSEC2InstanceConnectService.";

impl Action {
    /// Returns the action as rules name it: `ec2:StopInstances`.
    pub(crate) fn permission(self) -> String {
        format!("{}:{}", self.service().as_str(), self.name())
    }

    /// Returns the EC2 or STS action that a call names with `Action` and `Version`, and the version.
    ///
    /// The examples in EC2's API reference have no version. Without one, the newest is meant.
    pub(super) fn from_parameters(
        parameters: &mut Parameters,
    ) -> Result<(Action, ApiVersion), Ec2Error> {
        let action = parameters
            .take("Action")
            .filter(|action| !action.is_empty())
            .ok_or_else(|| {
                Ec2Error::new(
                    Code::MissingAction,
                    "The request is missing an action or operation parameter.",
                )
            })?;
        // The version decides which actions exist, so it is checked before the name.
        let version = parameters.take("Version");
        let known = version.as_deref().and_then(ApiVersion::find);
        let found = match (version.as_deref(), known) {
            (None, _) => Action::find(AwsService::Ec2, &action)
                .or_else(|| Action::find(AwsService::Sts, &action)),
            (Some(_), Some(_)) => Action::find(AwsService::Ec2, &action),
            (Some(STS_VERSION), None) => Action::find(AwsService::Sts, &action),
            (Some(version), None) => {
                let message = format!(
                    "The requested version ({version}) of service AmazonEC2 does not exist"
                );
                return Err(Ec2Error::new(Code::NoSuchVersion, message));
            }
        };
        let action = found.ok_or_else(|| {
            Ec2Error::new(
                Code::InvalidAction,
                format!("The action {action} is not valid for this web service."),
            )
        })?;
        Ok((action, known.unwrap_or(ApiVersion::NEWEST)))
    }

    /// Returns the EC2 Instance Connect action that `X-Amz-Target` names.
    pub(super) fn from_target(target: &str) -> Result<Action, Ec2Error> {
        let action = target
            .strip_prefix(CONNECT_TARGET)
            .and_then(|name| Action::find(AwsService::InstanceConnect, name));
        action.ok_or_else(|| Ec2Error::new(Code::InvalidAction, "The operation is not known."))
    }

    fn find(service: AwsService, name: &str) -> Option<Action> {
        Action::ALL
            .iter()
            .copied()
            .find(|known| known.name() == name && known.service() == service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table that operators read, and the one at the head of this file.
    #[test]
    fn every_action_is_in_the_lists_of_actions() {
        let page = include_str!("../../docs/tools.md");
        let head: String = include_str!("action.rs")
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        for action in Action::ALL {
            let is_listed = |text: &str| {
                let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
                words.any(|word| word == action.name())
            };
            assert!(is_listed(page), "docs/tools.md: {}", action.name());
            assert!(is_listed(&head), "action.rs: {}", action.name());
        }
    }
}
