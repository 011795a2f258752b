//! What an instance is: plain data in the shape `aws ec2 describe-instances` prints, plus one `Imds` object for what
//! EC2's shape has no words for. No I/O happens here.
//!
//! Fields that EC2 prints and imdsd does not read are kept at the top level ([`Instance::other`]) and dropped below it.

pub mod attachment;
pub mod defaults;
pub mod delivery;
pub mod ec2_json;
pub mod events;
pub mod identity_document;
pub mod options;
pub mod tags;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::secret::Secret;

pub use attachment::{
    Attachment, BridgePort, ClaimKey, ClaimMode, SourceAddress, interface_name_fault,
    namespace_path,
};
pub use defaults::{ImdsSupport, MetadataDefaults};
pub use delivery::RoleDelivery;
pub use events::Events;
pub use events::overrides::Overrides;
pub use events::timeline::Timeline;
pub use options::{HopLimit, HttpTokens, MetadataOptions, OptionsUpdate, RecordedOptions, Switch};
pub use tags::Tag;

/// The most user data an instance may have, in bytes before base64 (EC2's limit).
pub const MAX_USER_DATA: usize = 16_384;

/// `i-` and 8 or 17 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// Reads an instance id; `None` when it is malformed.
    pub fn parse(text: &str) -> Option<InstanceId> {
        let digits = text.strip_prefix("i-")?;
        let hexadecimal = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (matches!(digits.len(), 8 | 17) && hexadecimal).then(|| InstanceId(text.to_string()))
    }

    /// The id as EC2 prints it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InstanceId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        InstanceId::parse(&text).ok_or_else(|| {
            format!("an instance id is i- and 8 or 17 hexadecimal digits, not '{text}'")
        })
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One instance, as `aws ec2 describe-instances` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance {
    /// `i-` and 8 or 17 hexadecimal digits. The only field a document must have, together with `LaunchTime`.
    pub instance_id: InstanceId,
    /// When the instance was launched or last started. It becomes `pendingTime` in the identity document.
    pub launch_time: Timestamp,
    /// `running` unless the document says otherwise.
    #[serde(default)]
    pub state: InstanceState,
    /// `ami-…`
    #[serde(default = "default_image")]
    pub image_id: String,
    /// `m5.large`, say.
    #[serde(default = "default_type")]
    pub instance_type: String,
    /// Position in the launch request.
    #[serde(default)]
    pub ami_launch_index: u32,
    /// `x86_64`, `arm64`, `i386`
    #[serde(default = "default_architecture")]
    pub architecture: String,
    /// Where it stands.
    #[serde(default)]
    pub placement: Placement,
    /// The five options that EC2 lets an operator change.
    #[serde(default)]
    pub metadata_options: MetadataOptions,
    /// The host name inside the VPC.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_dns_name: Option<String>,
    /// The public host name, when it has one.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub public_dns_name: Option<String>,
    /// Primary private IPv4 address of the first interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<Ipv4Addr>,
    /// Public or Elastic address of the first interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip_address: Option<Ipv4Addr>,
    /// First IPv6 address of the first interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// `subnet-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub subnet_id: Option<String>,
    /// `vpc-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub vpc_id: Option<String>,
    /// The key pair named at launch. Its public half is `Imds.OpenSshKey`: EC2 does not print it.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub key_name: Option<String>,
    /// `aki-…`, paravirtual images only.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub kernel_id: Option<String>,
    /// `ari-…`, paravirtual images only.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub ramdisk_id: Option<String>,
    /// `spot`, or absent for an on-demand instance.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub instance_lifecycle: Option<String>,
    /// `/dev/xvda`, say.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub root_device_name: Option<String>,
    /// `ebs` or `instance-store`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub root_device_type: Option<String>,
    /// `hvm` or `paravirtual`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub virtualization_type: Option<String>,
    /// `xen` or `ovm`; EC2 says `xen` for Nitro too.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub hypervisor: Option<String>,
    /// Idempotency token of the launch.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_token: Option<String>,
    /// Why it last changed state.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub state_transition_reason: Option<String>,
    /// Whether one-minute CloudWatch metrics are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// Whether hibernation was configured at launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernation_options: Option<HibernationOptions>,
    /// The instance profile, when a role is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile: Option<IamInstanceProfile>,
    /// Marketplace codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub product_codes: Vec<ProductCode>,
    /// Volumes present at launch or last start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub block_device_mappings: Vec<BlockDevice>,
    /// Groups of the first interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<SecurityGroup>,
    /// Every attached interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// At most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// What EC2's shape has no words for.
    #[serde(default)]
    pub imds: Imds,
    /// Top-level fields that EC2 prints and imdsd does not read.
    #[serde(skip)]
    pub other: Map<String, Value>,
}

/// What describe-instances does not say: how the guest is recognised, and the data that EC2 keeps in other places.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Imds {
    /// The ways in that are this instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Account, 12 digits. In EC2's output it stands beside the instance, in the reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// `r-…`. In EC2's output it stands beside the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<String>,
    /// Needed only where the availability zone does not begin with the region's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// User data in base64, as EC2's own API carries it; at most 16,384 bytes decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// User data as text, for documents written by hand. Not together with `UserData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_text: Option<String>,
    /// The public half of the key pair: one line of authorized_keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_ssh_key: Option<String>,
    /// The role in the instance profile and where its credentials come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Address blocks of the subnets, by subnet id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subnets: BTreeMap<String, CidrBlocks>,
    /// Address blocks of the VPCs, by VPC id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vpcs: BTreeMap<String, CidrBlocks>,
    /// What is about to happen to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub events: Events,
    /// Keys that were pushed for a short while, as EC2 Instance Connect does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_ssh_keys: Vec<ManagedSshKey>,
    /// Leaves of the metadata tree that are set or hidden by hand.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overrides: Overrides,
    /// EC2's instance attribute: TerminateInstances is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disable_api_termination: bool,
    /// EC2's instance attribute: StopInstances is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disable_api_stop: bool,
    /// What will become of its events and overrides, by time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeline: Timeline,
}

/// A public key that logs a user in until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ManagedSshKey {
    /// The operating system's user, 1 to 32 characters.
    #[serde(rename = "InstanceOSUser")]
    pub instance_os_user: String,
    /// One line of authorized_keys.
    #[serde(rename = "SSHPublicKey")]
    pub ssh_public_key: String,
    /// When it ends; EC2 gives 60 seconds.
    pub expiration: Timestamp,
}

/// Address blocks of a subnet or a VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CidrBlocks {
    /// `10.0.0.0/16`; the primary block first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_cidr_blocks: Vec<String>,
    /// `2001:db8::/56`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_cidr_blocks: Vec<String>,
}

/// The role that the instance profile contains, and where its credentials come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Role {
    /// The role's name, as listed under `iam/security-credentials/`.
    pub role_name: String,
    /// Where its credentials come from.
    pub source: CredentialSource,
    /// Whether reads without a session token get credentials at all (IMDSv1, role delivery 1.0).
    #[serde(default = "enabled", skip_serializing_if = "is_enabled")]
    pub v1: Switch,
}

/// Where a role's credentials come from. Every source is asked for the two deliveries apart: what a read without a token
/// gets (1.0) is never what a read with one gets (2.0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialSource {
    /// Written into the document.
    Static(StaticSource),
    /// A program that prints credentials, by the AWS CLI's `credential_process` contract.
    Process(ProcessSource),
    /// STS AssumeRole, signed with keys of the host's.
    AssumeRole(AssumeRoleSource),
    /// STS AssumeRoleWithWebIdentity, with a short-lived token that imdsd mints for the instance.
    AssumeRoleWithWebIdentity(WebIdentitySource),
}

/// Credentials written into the document by the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct StaticSource {
    /// For reads without a session token. Absent: none for such reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v1: Option<StaticCredentials>,
    /// For reads with a session token.
    pub v2: StaticCredentials,
}

/// One set of static credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct StaticCredentials {
    /// `ASIA…`
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// The session token that goes with it.
    #[serde(default)]
    pub session_token: Secret,
    /// When they end. Absent for keys that do not end: then a time some hours ahead is shown, as clients require one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Timestamp>,
}

/// A program that prints credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ProcessSource {
    /// The program, by its absolute path, and its arguments. No shell reads them.
    pub command: Vec<String>,
    /// How long it may run, 1 to 60 seconds; 10 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

/// STS AssumeRole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AssumeRoleSource {
    /// `https://sts.us-east-1.amazonaws.com`, MinIO's or Ceph's address, …
    pub endpoint: String,
    /// The region the call is signed for.
    pub region: String,
    /// `arn:aws:iam::…:role/…`
    pub role_arn: String,
    /// A file with the one access key that signs the call, in the form of the control endpoint's key file.
    pub access_key_file: std::path::PathBuf,
    /// How long the credentials last, 900 to 43200 seconds; 3600 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
    /// What the role's trust policy asks of third parties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// A PEM file of certificate authorities for the endpoint; the system's unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<std::path::PathBuf>,
}

/// STS AssumeRoleWithWebIdentity: no long-lived secret lies on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct WebIdentitySource {
    /// `https://sts.us-east-1.amazonaws.com`, MinIO's or Ceph's address, …
    pub endpoint: String,
    /// `arn:aws:iam::…:role/…`
    pub role_arn: String,
    /// Whom the minted token is for (`aud`); `sts.amazonaws.com` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How long the credentials last, 900 to 43200 seconds; 3600 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
    /// A PEM file of certificate authorities for the endpoint; the system's unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<std::path::PathBuf>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn enabled() -> Switch {
    Switch::Enabled
}

fn is_enabled(switch: &Switch) -> bool {
    *switch == Switch::Enabled
}

/// The state of an instance: EC2's name; the code follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StateInDocument", into = "StateInDocument")]
pub enum InstanceState {
    /// 0
    Pending,
    /// 16
    #[default]
    Running,
    /// 32
    ShuttingDown,
    /// 48
    Terminated,
    /// 64
    Stopping,
    /// 80
    Stopped,
}

/// EC2's spelling of a state in JSON: `{"Code": 16, "Name": "running"}`. Only the name is read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateInDocument {
    #[serde(default)]
    code: i32,
    name: StateName,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StateName {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl InstanceState {
    /// EC2's number for it.
    pub fn code(self) -> i32 {
        match self {
            InstanceState::Pending => 0,
            InstanceState::Running => 16,
            InstanceState::ShuttingDown => 32,
            InstanceState::Terminated => 48,
            InstanceState::Stopping => 64,
            InstanceState::Stopped => 80,
        }
    }

    /// EC2's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::ShuttingDown => "shutting-down",
            InstanceState::Terminated => "terminated",
            InstanceState::Stopping => "stopping",
            InstanceState::Stopped => "stopped",
        }
    }

    /// Whether there is a guest that may ask. A stopped instance sends nothing, so whoever speaks in its place is somebody
    /// else.
    pub fn is_active(self) -> bool {
        match self {
            InstanceState::Pending
            | InstanceState::Running
            | InstanceState::ShuttingDown
            | InstanceState::Stopping => true,
            InstanceState::Stopped | InstanceState::Terminated => false,
        }
    }
}

impl From<StateInDocument> for InstanceState {
    fn from(document: StateInDocument) -> InstanceState {
        match document.name {
            StateName::Pending => InstanceState::Pending,
            StateName::Running => InstanceState::Running,
            StateName::ShuttingDown => InstanceState::ShuttingDown,
            StateName::Terminated => InstanceState::Terminated,
            StateName::Stopping => InstanceState::Stopping,
            StateName::Stopped => InstanceState::Stopped,
        }
    }
}

impl From<InstanceState> for StateInDocument {
    fn from(state: InstanceState) -> StateInDocument {
        let name = match state {
            InstanceState::Pending => StateName::Pending,
            InstanceState::Running => StateName::Running,
            InstanceState::ShuttingDown => StateName::ShuttingDown,
            InstanceState::Terminated => StateName::Terminated,
            InstanceState::Stopping => StateName::Stopping,
            InstanceState::Stopped => StateName::Stopped,
        };
        StateInDocument {
            code: state.code(),
            name,
        }
    }
}

/// Where an instance stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Placement {
    /// `us-east-1a`
    #[serde(default = "default_zone")]
    pub availability_zone: String,
    /// `use1-az1`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub availability_zone_id: Option<String>,
    /// Placement group.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub group_name: Option<String>,
    /// Dedicated host.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub host_id: Option<String>,
    /// Partition of the placement group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_number: Option<u32>,
    /// `default`, `dedicated`, `host`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub tenancy: Option<String>,
}

impl Default for Placement {
    fn default() -> Self {
        Placement {
            availability_zone: default_zone(),
            availability_zone_id: None,
            group_name: None,
            host_id: None,
            partition_number: None,
            tenancy: None,
        }
    }
}

/// `{"State": "disabled"}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Monitoring {
    /// `enabled`, `disabled`, `pending`, `disabling`
    pub state: String,
}

/// `{"Configured": false}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HibernationOptions {
    /// Whether the instance was launched with hibernation on.
    #[serde(default)]
    pub configured: bool,
}

/// The instance profile, not the role in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IamInstanceProfile {
    /// `arn:aws:iam::…:instance-profile/…`
    pub arn: String,
    /// `AIPA…`
    pub id: String,
}

/// A Marketplace or devpay code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProductCode {
    /// The code.
    pub product_code_id: String,
    /// `marketplace` or `devpay`
    #[serde(default)]
    pub product_code_type: String,
}

/// A volume by its device name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockDevice {
    /// `/dev/sdb`, say.
    pub device_name: String,
    /// Present for EBS volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs: Option<EbsVolume>,
}

/// What describe-instances says of an attached volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EbsVolume {
    /// `vol-…`
    #[serde(default)]
    pub volume_id: String,
    /// `attached`, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// When it was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_time: Option<Timestamp>,
    /// Whether it goes with the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
}

/// A group by name and id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecurityGroup {
    /// `sg-…`
    pub group_id: String,
    /// The name, which is what metadata shows.
    pub group_name: String,
}

/// An attached network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterface {
    /// `02:00:…`, lower-case. It is the interface's name in metadata.
    pub mac_address: String,
    /// `eni-…`
    #[serde(default)]
    pub network_interface_id: String,
    /// Position on the instance.
    #[serde(default)]
    pub attachment: InterfaceAttachment,
    /// Account, 12 digits.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_id: Option<String>,
    /// Host name of the interface.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_dns_name: Option<String>,
    /// Primary private IPv4 address; absent on IPv6-only interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<Ipv4Addr>,
    /// All private IPv4 addresses, the primary among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_ip_addresses: Vec<PrivateAddress>,
    /// IPv6 addresses, the first is primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<Ipv6Address>,
    /// Delegated /28 prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_prefixes: Vec<Ipv4Prefix>,
    /// Delegated /80 prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_prefixes: Vec<Ipv6Prefix>,
    /// Security groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<SecurityGroup>,
    /// `subnet-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub subnet_id: Option<String>,
    /// `vpc-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub vpc_id: Option<String>,
    /// `in-use`, say.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<String>,
    /// Free text.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub description: Option<String>,
    /// Whether the guest may not forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<bool>,
}

/// Where an interface sits on the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceAttachment {
    /// 0 is eth0.
    #[serde(default)]
    pub device_index: u32,
    /// Network card, on types that have several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<u32>,
    /// `eni-attach-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub attachment_id: Option<String>,
    /// `attached`, say.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<String>,
    /// When it was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_time: Option<Timestamp>,
    /// Whether it goes with the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
}

/// A private IPv4 address and the public one mapped to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrivateAddress {
    /// The address.
    pub private_ip_address: Ipv4Addr,
    /// Whether it is the interface's primary address.
    #[serde(default)]
    pub primary: bool,
    /// Its host name.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_dns_name: Option<String>,
    /// The public address mapped to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<Association>,
}

/// A public address mapped to a private one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Association {
    /// The public address. A Wavelength zone has a carrier's address in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<Ipv4Addr>,
    /// Its host name.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub public_dns_name: Option<String>,
    /// `amazon`, or the account of an Elastic address.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub ip_owner_id: Option<String>,
}

/// `{"Ipv6Address": "2001:db8::1"}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Address {
    /// The address.
    pub ipv6_address: Ipv6Addr,
}

/// `{"Ipv4Prefix": "10.0.0.16/28"}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv4Prefix {
    /// The prefix.
    pub ipv4_prefix: String,
}

/// `{"Ipv6Prefix": "2001:db8:0:0:1::/80"}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Prefix {
    /// The prefix.
    pub ipv6_prefix: String,
}

impl Instance {
    /// The region: `Imds.Region`, or the availability zone up to its first number (`us-west-2` of `us-west-2-lax-1a`).
    pub fn region(&self) -> &str {
        self.imds
            .region
            .as_deref()
            .unwrap_or_else(|| region_of_zone(&self.placement.availability_zone))
    }

    /// `default` unless the document says else.
    pub fn tenancy(&self) -> &str {
        self.placement.tenancy.as_deref().unwrap_or("default")
    }

    /// `disabled` unless the document says else.
    pub fn monitoring_state(&self) -> &str {
        self.monitoring
            .as_ref()
            .map_or("disabled", |monitoring| &monitoring.state)
    }

    /// The account: `Imds.OwnerId`, else the owner of the first interface, else twelve zeros.
    pub fn owner_id(&self) -> &str {
        let of_interface = || {
            self.primary_interface()
                .and_then(|interface| interface.owner_id.as_deref())
        };
        self.imds
            .owner_id
            .as_deref()
            .or_else(of_interface)
            .unwrap_or("000000000000")
    }

    /// The interface with device index 0, which EC2 calls eth0.
    pub fn primary_interface(&self) -> Option<&NetworkInterface> {
        self.network_interfaces
            .iter()
            .find(|interface| interface.attachment.device_index == 0)
    }

    /// The reservation: `Imds.ReservationId`, else one that follows from the instance id.
    pub fn reservation_id(&self) -> Cow<'_, str> {
        match &self.imds.reservation_id {
            Some(id) => Cow::Borrowed(id),
            None => Cow::Owned(self.instance_id.as_str().replacen("i-", "r-", 1)),
        }
    }

    /// The primary private IPv4 address of eth0; `None` on an IPv6-only instance.
    pub fn primary_private_address(&self) -> Option<Ipv4Addr> {
        self.private_ip_address
            .or_else(|| self.primary_interface()?.private_ip_address)
    }

    /// Returns the IPv6 addresses that need a route on the host. Link-local addresses are on every
    /// link and need none.
    pub fn routable_ipv6_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let of_interfaces = self
            .network_interfaces
            .iter()
            .flat_map(|interface| &interface.ipv6_addresses)
            .map(|listed| listed.ipv6_address);
        of_interfaces
            .chain(self.ipv6_address)
            .filter(|address| !address.is_unicast_link_local())
    }

    /// The host name inside the VPC: what the document says, else what EC2 would make of the address or the id.
    pub fn private_host_name(&self) -> Cow<'_, str> {
        if let Some(name) = &self.private_dns_name {
            return Cow::Borrowed(name);
        }
        let host = match self.primary_private_address() {
            Some(address) => format!("ip-{}", address.to_string().replace('.', "-")),
            None => self.instance_id.to_string(),
        };
        Cow::Owned(match self.region() {
            "us-east-1" => format!("{host}.ec2.internal"),
            region => format!("{host}.{region}.compute.internal"),
        })
    }

    /// The zone's id: what the document says, else the usual abbreviation of the zone's name (`use1-az1` of
    /// `us-east-1a`). `None` for a zone that is not named as EC2 names zones.
    ///
    /// EC2 shuffles which letter is which id for each account; without EC2 there is nothing to shuffle.
    pub fn availability_zone_id(&self) -> Option<Cow<'_, str>> {
        match &self.placement.availability_zone_id {
            Some(id) => Some(Cow::Borrowed(id)),
            None => zone_id(&self.placement.availability_zone).map(Cow::Owned),
        }
    }

    /// The user data's bytes; `None` when there are none, or none at all in them (EC2 can't tell the two apart).
    pub fn user_data(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let bytes = match (&self.imds.user_data, &self.imds.user_data_text) {
            (Some(encoded), _) => base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .ok()?,
            (None, Some(text)) => text.clone().into_bytes(),
            (None, None) => return None,
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// The region in an availability zone's name: everything up to the first number.
pub fn region_of_zone(zone: &str) -> &str {
    let Some(first_digit) = zone.find(|c: char| c.is_ascii_digit()) else {
        return zone;
    };
    let digits = zone[first_digit..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    &zone[..first_digit + digits]
}

/// `use1-az1` of `us-east-1a`.
fn zone_id(zone: &str) -> Option<String> {
    let region = region_of_zone(zone);
    let letter = match zone.as_bytes()[region.len()..] {
        [letter @ b'a'..=b'z'] => letter,
        _ => return None,
    };
    if region.split('-').count() < 3 {
        return None;
    }
    let mut words = region.split('-');
    let mut id = words.next()?.to_string();
    for word in words {
        id += match word {
            "gov" => "g",
            "north" => "n",
            "south" => "s",
            "east" => "e",
            "west" => "w",
            "central" => "c",
            "northeast" => "ne",
            "northwest" => "nw",
            "southeast" => "se",
            "southwest" => "sw",
            number if number.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => return None,
        };
    }
    Some(format!("{id}-az{}", letter - b'a' + 1))
}

/// EC2 prints `""` where a name does not exist; to us that is its absence.
fn empty_is_absent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}

fn default_image() -> String {
    "ami-00000000000000000".to_string()
}

fn default_type() -> String {
    "m5.large".to_string()
}

fn default_architecture() -> String {
    "x86_64".to_string()
}

fn default_zone() -> String {
    "us-east-1a".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_i_and_8_or_17_hexadecimal_digits() {
        for good in ["i-12345678", "i-0123456789abcdef0"] {
            assert_eq!(InstanceId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "i-",
            "i-1234567",
            "i-123456789",
            "i-0123456789ABCDEF0",
            "I-12345678",
            "i-1234567g",
            "i-0123456789abcdef0 ",
            "../../../etc/passwd",
            "ma1",
        ] {
            assert_eq!(InstanceId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_region_is_the_zone_up_to_its_first_number() {
        for (zone, region) in [
            ("us-east-1a", "us-east-1"),
            ("us-west-2-lax-1a", "us-west-2"),
            ("us-gov-west-1b", "us-gov-west-1"),
            ("ap-southeast-12c", "ap-southeast-12"),
            ("basement", "basement"),
        ] {
            assert_eq!(region_of_zone(zone), region);
        }
    }

    #[test]
    fn zone_ids_are_ec2s_abbreviations() {
        for (zone, id) in [
            ("us-east-1a", Some("use1-az1")),
            ("ap-southeast-2c", Some("apse2-az3")),
            ("us-gov-west-1b", Some("usgw1-az2")),
            ("eu-central-1z", Some("euc1-az26")),
            ("us-west-2-lax-1a", None),
            ("us-east-1", None),
            ("basement", None),
            ("rack-7b", None),
        ] {
            assert_eq!(zone_id(zone).as_deref(), id, "{zone}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = StaticCredentials {
            access_key_id: "ASIA".into(),
            secret_access_key: Secret::new("hunter2"),
            session_token: Secret::new("hunter3"),
            expiration: None,
        };
        assert!(!format!("{credentials:?}").contains("hunter"));
    }
}
