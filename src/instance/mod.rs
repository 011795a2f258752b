//! What an instance is: plain data in the shape that `aws ec2 describe-instances` prints, plus one
//! `Imds` object for what EC2 does not print. Nothing here does I/O.
//!
//! | file | concept |
//! |---|---|
//! | `model` | [`Instance`] and [`Imds`]: all fields that imdsd reads |
//! | [`other_fields`] | EC2's other fields: kept and returned |
//! | `facts` | what is derived from the fields, for guests and operators alike |
//! | `partition`, `instance_type` | EC2's partitions; what follows from an instance type |
//! | `type_facts` | what the name of an instance type says about it |
//! | `id`, `state`, `placement`, `network`, `block_device`, `tags` | parts of an instance |
//! | `text`, `common_texts` | their texts, and which of them instances share |
//! | `role` | the IAM role and the source of its credentials |
//! | [`delivery`] | whether role credentials are read with a session token |
//! | [`options`], [`defaults`] | metadata options and the account's defaults |
//! | [`attachment`], [`instance_attachment`] | how the guest is connected |
//! | [`binding`] | which link an interface name means, so that a reused name serves no other guest |
//! | [`claims`] | which instance claims which attachment, and which attachments conflict |
//! | [`events`] | spot interruptions, maintenance, overrides, and the timeline that schedules them |
//! | [`identity_document`], [`ec2_json`] | the identity document and EC2's JSON style |

mod absent;
pub mod attachment;
pub mod binding;
mod block_device;
pub mod claims;
mod common_texts;
pub mod defaults;
pub mod delivery;
pub mod ec2_json;
pub mod events;
mod facts;
mod id;
pub mod identity_document;
mod image;
pub mod instance_attachment;
mod instance_type;
mod launch_token;
mod model;
mod network;
pub mod options;
pub mod other_fields;
mod partition;
mod placement;
mod role;
mod state;
pub mod tags;
mod text;
mod type_facts;
pub mod xml_characters;

pub use attachment::{Attachment, BridgePort, SourceAddress, interface_name_fault, namespace_path};
pub use binding::{Binding, LinkIdentities, LinkIdentity};
pub use block_device::{BlockDevice, EbsVolume};
pub use defaults::{ImdsSupport, MetadataDefaults};
pub use delivery::RoleDelivery;
pub use events::Events;
pub use events::overrides::Overrides;
pub use events::timeline::Timeline;
pub use id::InstanceId;
pub use image::{Image, Images, is_image_id};
pub use instance_attachment::InstanceAttachment;
pub use instance_type::{HypervisorSystem, is_xen_type};
pub use launch_token::LaunchToken;
pub use model::{
    EnclaveOptions, HibernationOptions, Imds, Instance, MAX_USER_DATA, ManagedSshKey, Monitoring,
    ProductCode,
};
pub use network::{
    Association, CidrBlocks, InterfaceAttachment, Ipv4Prefix, Ipv6Address, Ipv6Prefix,
    NetworkInterface, PrivateAddress, SecurityGroup,
};
pub use options::{
    HopLimit, HttpTokens, MetadataOptions, NamedOptions, OptionsUpdate, RecordedOptions, Switch,
};
pub use other_fields::OtherFields;
pub use partition::Partition;
pub use placement::{Placement, region_of_zone, zone_id};
pub use role::{
    AssumeRoleSource, CredentialSource, IamInstanceProfile, ProcessSource, Role, StaticCredentials,
    StaticSource, WebIdentitySource,
};
pub use state::{InstanceState, ShutdownBehavior, StateReason};
pub use tags::Tag;
pub use text::SharedText;
pub use type_facts::{CpuCredits, TypeFacts, type_facts};
