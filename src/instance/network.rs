//! Network interfaces, addresses, security groups and address blocks.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::instance::absent::empty_is_absent;
use crate::instance::other_fields::OtherFields;
use crate::instance::text::SharedText;

/// An attached network interface (`NetworkInterfaces[]` in describe-instances).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterface {
    /// The MAC address in lower case, `02:00:00:00:00:10`. It is the interface's name in metadata.
    pub mac_address: SharedText,
    /// `eni-…`
    #[serde(default)]
    pub network_interface_id: SharedText,
    /// Its position on the instance.
    #[serde(default)]
    pub attachment: InterfaceAttachment,
    /// The account, 12 digits.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_id: Option<SharedText>,
    /// The host name of the interface.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_dns_name: Option<SharedText>,
    /// The primary private IPv4 address; absent on an IPv6-only interface.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_ip_address: Option<Ipv4Addr>,
    /// All private IPv4 addresses, the primary one among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_ip_addresses: Vec<PrivateAddress>,
    /// All IPv6 addresses; the first is primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<Ipv6Address>,
    /// The delegated IPv4 prefixes, /28 on EC2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_prefixes: Vec<Ipv4Prefix>,
    /// The delegated IPv6 prefixes, /80 on EC2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_prefixes: Vec<Ipv6Prefix>,
    /// The security groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<SecurityGroup>,
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
    /// `available`, `attaching`, `in-use` or `detaching`.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<SharedText>,
    /// Any text. Metadata does not show it.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub description: Option<SharedText>,
    /// Whether EC2 drops packets that the guest forwards for others. Metadata does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<bool>,
    /// The public address as EC2 prints it for the interface: that of its primary private address.
    /// Metadata shows those of `private_ip_addresses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<Association>,
    /// The other fields.
    #[serde(flatten)]
    pub other: OtherFields,
}

/// The position of an interface on the instance (`Attachment` in describe-instances).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceAttachment {
    /// The device index; 0 is eth0.
    #[serde(default)]
    pub device_index: u32,
    /// The network card, from 0, on instance types that have several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<u32>,
    /// `eni-attach-…`
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub attachment_id: Option<SharedText>,
    /// `attaching`, `attached`, `detaching` or `detached`.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<SharedText>,
    /// When it was attached.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub attach_time: Option<Timestamp>,
    /// Whether the interface is deleted with the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
    /// The other fields.
    #[serde(flatten)]
    pub other: OtherFields,
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
    /// The host name of the address.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub private_dns_name: Option<SharedText>,
    /// The public address mapped to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<Association>,
}

/// A public address that is mapped to a private one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Association {
    /// The public address. In a Wavelength zone EC2 prints `CarrierIp` instead.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub public_ip: Option<Ipv4Addr>,
    /// The public host name.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub public_dns_name: Option<SharedText>,
    /// `amazon`, or the account that owns the Elastic IP address.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub ip_owner_id: Option<SharedText>,
    /// The other fields.
    #[serde(flatten)]
    pub other: OtherFields,
}

/// An IPv6 address: `{"Ipv6Address": "2001:db8::1"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Address {
    /// The address.
    pub ipv6_address: Ipv6Addr,
    /// The other fields.
    #[serde(flatten)]
    pub other: OtherFields,
}

/// A delegated IPv4 prefix: `{"Ipv4Prefix": "10.0.0.16/28"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv4Prefix {
    /// The prefix.
    pub ipv4_prefix: String,
}

/// A delegated IPv6 prefix: `{"Ipv6Prefix": "2001:db8:0:0:1::/80"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Prefix {
    /// The prefix.
    pub ipv6_prefix: String,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecurityGroup {
    /// `sg-…`
    pub group_id: SharedText,
    /// The name, which metadata shows.
    pub group_name: SharedText,
}

/// The address blocks of a subnet or a VPC. Metadata shows them for each interface;
/// describe-instances does not print them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CidrBlocks {
    /// IPv4 blocks such as `10.0.0.0/16`; the primary block first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_cidr_blocks: Vec<SharedText>,
    /// IPv6 blocks such as `2001:db8::/56`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_cidr_blocks: Vec<SharedText>,
}
