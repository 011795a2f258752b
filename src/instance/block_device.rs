//! Block devices: the volumes of an instance.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::instance::absent::empty_is_absent;
use crate::instance::other_fields::OtherFields;
use crate::instance::text::SharedText;

/// A volume and its device name (`BlockDeviceMappings[]` in describe-instances).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockDevice {
    /// The device name, such as `/dev/sdb`.
    pub device_name: SharedText,
    /// Present for an EBS volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs: Option<EbsVolume>,
}

/// An attached EBS volume, as describe-instances prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EbsVolume {
    /// `vol-…`
    #[serde(default)]
    pub volume_id: SharedText,
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
    /// Whether the volume is deleted with the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
    /// The other fields.
    #[serde(flatten)]
    pub other: OtherFields,
}
