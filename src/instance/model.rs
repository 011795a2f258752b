//! The instance itself: [`Instance`] has the fields that `aws ec2 describe-instances` prints, and
//! [`Imds`] has what it does not print.
//!
//! Fields that EC2 prints and imdsd does not read are kept beside them ([`OtherFields`]), so that
//! DescribeInstances returns what the document has. The meaning of EC2's fields is in its API
//! reference: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html>
//!
//! What imdsd derives from the fields, for guests and operators alike, is in `facts`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use arcstr::literal;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::instance::absent::{empty_is_absent, is_default};
use crate::instance::block_device::BlockDevice;
use crate::instance::events::Events;
use crate::instance::events::overrides::Overrides;
use crate::instance::events::timeline::Timeline;
use crate::instance::id::InstanceId;
use crate::instance::instance_attachment::InstanceAttachment;
use crate::instance::network::{CidrBlocks, NetworkInterface, SecurityGroup};
use crate::instance::options::{MetadataOptions, NamedOptions};
use crate::instance::other_fields::OtherFields;
use crate::instance::placement::Placement;
use crate::instance::role::{IamInstanceProfile, Role};
use crate::instance::state::{InstanceState, ShutdownBehavior, StateReason};
use crate::instance::tags::Tag;
use crate::instance::text::SharedText;
use crate::instance::type_facts::CpuCredits;

/// The maximum size of user data, in bytes before base64 (EC2's limit).
pub const MAX_USER_DATA: usize = 16_384;

/// One instance, as `aws ec2 describe-instances` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance {
    /// The id: `i-` and 8 or 17 hexadecimal digits. A document must have it and `LaunchTime`; all
    /// other fields are optional.
    pub instance_id: InstanceId,
    /// When the instance was launched or last started. It is `pendingTime` in the identity
    /// document.
    pub launch_time: Timestamp,
    /// The state; `running` by default.
    #[serde(default)]
    pub state: InstanceState,
    /// The image, `ami-…`.
    #[serde(default = "default_image")]
    pub image_id: SharedText,
    /// The instance type, such as `m5.large`, which is the default.
    #[serde(default = "default_type")]
    pub instance_type: SharedText,
    /// The position in the launch request, from 0.
    #[serde(default)]
    pub ami_launch_index: u32,
    /// `x86_64` (the default), `arm64` or `i386`.
    #[serde(default = "default_architecture")]
    pub architecture: SharedText,
    /// Zone, host and placement group.
    #[serde(default)]
    pub placement: Placement,
    /// The metadata options: the five that EC2's ModifyInstanceMetadataOptions changes.
    #[serde(default)]
    pub metadata_options: MetadataOptions,
    /// The options that the document names, until the instance is registered.
    #[serde(skip)]
    pub named_options: NamedOptions,
    /// The host name inside the VPC; see [`Instance::private_host_name`] for the default.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_dns_name: Option<SharedText>,
    /// The public host name; absent without a public address.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub public_dns_name: Option<SharedText>,
    /// The primary private IPv4 address of the interface with device index 0.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_ip_address: Option<Ipv4Addr>,
    /// The public or Elastic IPv4 address of that interface.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub public_ip_address: Option<Ipv4Addr>,
    /// The first IPv6 address of that interface.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_address: Option<Ipv6Addr>,
    /// `subnet-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub subnet_id: Option<SharedText>,
    /// `vpc-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub vpc_id: Option<SharedText>,
    /// The key pair named at launch. Its public half is `Imds.OpenSshKey`, because
    /// describe-instances does not print it.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub key_name: Option<SharedText>,
    /// `aki-…`; paravirtual images only.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub kernel_id: Option<SharedText>,
    /// `ari-…`; paravirtual images only.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub ramdisk_id: Option<SharedText>,
    /// `spot`, `scheduled` or `capacity-block`; absent for an on-demand instance.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub instance_lifecycle: Option<SharedText>,
    /// The root device, such as `/dev/xvda`.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub root_device_name: Option<SharedText>,
    /// `ebs` or `instance-store`.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub root_device_type: Option<SharedText>,
    /// `hvm` or `paravirtual`.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub virtualization_type: Option<SharedText>,
    /// `xen` or `ovm`; EC2 prints `xen` for Nitro too.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub hypervisor: Option<SharedText>,
    /// The idempotency token of the launch.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_token: Option<SharedText>,
    /// Why the state changed last, as a sentence with a time.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub state_transition_reason: Option<SharedText>,
    /// Why the state changed last, as a code with a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<StateReason>,
    /// Whether the instance type has bandwidth for EBS only; see [`Instance::ebs_optimized`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_optimized: Option<bool>,
    /// Whether enhanced networking with ENA is enabled; see [`Instance::ena_support`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ena_support: Option<bool>,
    /// Whether EC2 drops packets that the guest forwards for others; see
    /// [`Instance::source_dest_check`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<bool>,
    /// Whether Nitro Enclaves are enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enclave_options: Option<EnclaveOptions>,
    /// Whether detailed (one-minute) CloudWatch monitoring is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// Whether hibernation was configured at launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernation_options: Option<HibernationOptions>,
    /// The instance profile; absent without a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile: Option<IamInstanceProfile>,
    /// The product codes of the AWS Marketplace or of DevPay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub product_codes: Vec<ProductCode>,
    /// The volumes at launch or last start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub block_device_mappings: Vec<BlockDevice>,
    /// The security groups of the interface with device index 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<SecurityGroup>,
    /// All attached interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// The tags: at most 50, not counting those whose key starts with `aws:`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// What describe-instances does not print.
    #[serde(default)]
    pub imds: Imds,
    /// The other top-level fields. `document::to_value` and `document::from_value` write and read
    /// them.
    #[serde(skip)]
    pub other: OtherFields,
}

impl Instance {
    /// Returns the metadata options before and after, if nothing else differs from `next`.
    pub fn options_change(&self, next: &Instance) -> Option<(MetadataOptions, MetadataOptions)> {
        self.equals_but_for_options(next)
            .then_some((self.metadata_options, next.metadata_options))
    }

    #[rustfmt::skip]
    fn equals_but_for_options(&self, next: &Instance) -> bool {
        /// Compares all fields but one. A field that is missing here does not compile.
        macro_rules! all_equal_but {
            ($ignored:ident: $($field:ident)*) => {{
                let Instance { $ignored: _, $($field),* } = self;
                $(*$field == next.$field)&&*
            }};
        }
        all_equal_but! {
            metadata_options:
            instance_id launch_time state image_id instance_type ami_launch_index architecture placement named_options
            private_dns_name public_dns_name private_ip_address public_ip_address ipv6_address subnet_id vpc_id
            key_name kernel_id ramdisk_id instance_lifecycle root_device_name root_device_type virtualization_type
            hypervisor client_token state_transition_reason state_reason ebs_optimized ena_support source_dest_check
            enclave_options monitoring hibernation_options iam_instance_profile product_codes block_device_mappings
            security_groups network_interfaces tags imds other
        }
    }

    /// Gives back the memory that lists have beyond their elements. A list that grew element by
    /// element has room for four, and most lists of an instance have one.
    pub fn shrink_to_fit(&mut self) {
        self.product_codes.shrink_to_fit();
        self.block_device_mappings.shrink_to_fit();
        self.security_groups.shrink_to_fit();
        self.tags.shrink_to_fit();
        self.imds.attachments.shrink_to_fit();
        self.imds.reservation_groups.shrink_to_fit();
        self.network_interfaces.shrink_to_fit();
        for interface in &mut self.network_interfaces {
            interface.private_ip_addresses.shrink_to_fit();
            interface.ipv6_addresses.shrink_to_fit();
            interface.groups.shrink_to_fit();
        }
    }
}

/// What describe-instances does not print: how the guest is recognized, and data that EC2 keeps
/// elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Imds {
    /// The attachments: how the guest is connected. None: the instance is not served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<InstanceAttachment>,
    /// The account, 12 digits. EC2 prints it in the reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<SharedText>,
    /// `r-…`. EC2 prints it in the reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<SharedText>,
    /// The account or service that launched the instance for its owner. EC2 prints it in the
    /// reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_id: Option<SharedText>,
    /// The security groups of EC2-Classic. EC2 prints them in the reservation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservation_groups: Vec<SecurityGroup>,
    /// The region. Needed only if the availability zone's name does not begin with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<SharedText>,
    /// The user data in base64, as in the EC2 API: at most 16,384 bytes when decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<SharedText>,
    /// The user data as text, for documents written by hand: at most 16,384 bytes. Cannot be
    /// combined with `UserData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_text: Option<SharedText>,
    /// The public half of the key pair: one line of authorized_keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_ssh_key: Option<SharedText>,
    /// The role in the instance profile and the source of its credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Box<Role>>,
    /// The address blocks of the subnets, by subnet id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subnets: BTreeMap<SharedText, CidrBlocks>,
    /// The address blocks of the VPCs, by VPC id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vpcs: BTreeMap<SharedText, CidrBlocks>,
    /// The events of the instance: spot interruptions, maintenance, lifecycle changes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub events: Events,
    /// Public keys that were sent for a short time, as EC2 Instance Connect does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_ssh_keys: Vec<ManagedSshKey>,
    /// Leaves of the metadata tree that the operator sets or hides.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overrides: Overrides,
    /// EC2's instance attribute of this name: TerminateInstances is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disable_api_termination: bool,
    /// EC2's instance attribute of this name: StopInstances and TerminateInstances are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disable_api_stop: bool,
    /// EC2's instance attribute of this name: what a shutdown from inside the guest does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub instance_initiated_shutdown_behavior: ShutdownBehavior,
    /// The credit option of a burstable instance; see [`Instance::cpu_credits`] for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_credits: Option<CpuCredits>,
    /// Scheduled changes of events and overrides, in time order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeline: Timeline,
}

/// A public key that lets a user log in until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ManagedSshKey {
    /// The operating system's user: 1 to 32 letters, digits and `_.-@`.
    #[serde(rename = "InstanceOSUser")]
    pub instance_os_user: String,
    /// One line of authorized_keys.
    #[serde(rename = "SSHPublicKey")]
    pub ssh_public_key: String,
    /// When it expires. EC2 Instance Connect gives 60 seconds.
    pub expiration: Timestamp,
}

/// Detailed monitoring: `{"State": "disabled"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Monitoring {
    /// `enabled`, `disabled`, `pending` or `disabling`.
    pub state: SharedText,
}

/// Hibernation: `{"Configured": false}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HibernationOptions {
    /// Whether hibernation was configured at launch.
    #[serde(default)]
    pub configured: bool,
}

/// Nitro Enclaves: `{"Enabled": false}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EnclaveOptions {
    /// Whether they were enabled at launch.
    #[serde(default)]
    pub enabled: bool,
}

/// A product code of the AWS Marketplace or of DevPay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProductCode {
    /// The code.
    pub product_code_id: String,
    /// `marketplace` or `devpay`.
    #[serde(default)]
    pub product_code_type: String,
}

fn default_image() -> SharedText {
    literal!("ami-00000000000000000")
}

fn default_type() -> SharedText {
    literal!("m5.large")
}

fn default_architecture() -> SharedText {
    literal!("x86_64")
}
