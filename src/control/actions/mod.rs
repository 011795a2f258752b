//! The actions, one file each, and their dispatch. How to add one is described in `action.rs`.
//!
//! imdsd runs no virtual machines. An action changes what imdsd serves for an instance; the
//! operator's own software does the rest.

mod change_instance_state;
mod create_tags;
mod delete_tags;
mod describe_account_attributes;
mod describe_addresses;
mod describe_availability_zones;
mod describe_iam_instance_profile_associations;
mod describe_image_attribute;
mod describe_images;
mod describe_instance_attribute;
mod describe_instance_credit_specifications;
mod describe_instance_status;
mod describe_instance_topology;
mod describe_instance_types;
mod describe_instances;
mod describe_key_pairs;
mod describe_launch_templates;
mod describe_network_interfaces;
mod describe_regions;
mod describe_security_groups;
mod describe_subnets;
mod describe_tags;
mod describe_volumes;
mod describe_volumes_modifications;
mod describe_vpc_attribute;
mod describe_vpcs;
mod get_caller_identity;
mod get_instance_metadata_defaults;
mod modify_image_attribute;
mod modify_instance_attribute;
mod modify_instance_event_start_time;
mod modify_instance_metadata_defaults;
mod modify_instance_metadata_options;
mod monitor_instances;
mod reboot_instances;
mod run_instances;
mod send_ssh_public_key;

use super::action::{Action, action_table};
use super::call::ApiCall;
use super::error::Ec2Error;
use super::operation::{Input, Operation};
use super::policy::condition::Values;
use super::xml::ResponseBody;

macro_rules! define_dispatch {
    ($($name:ident, $service:ident, $resource:ident, $file:ident;)*) => {
        /// Reads the input of a call and carries the action out.
        pub(super) async fn perform(
            action: Action,
            input: Input<'_>,
            call: &ApiCall<'_>,
        ) -> Result<ResponseBody, Ec2Error> {
            match action {
                $(Action::$name => $file::$name::read(input)?.perform(call).await,)*
            }
        }

        /// Returns the attributes that a call of the action can request, with their possible
        /// values.
        pub(super) fn attributes(action: Action) -> &'static [(&'static str, Values)] {
            match action {
                $(Action::$name => $file::$name::ATTRIBUTES,)*
            }
        }
    };
}
action_table!(define_dispatch);
