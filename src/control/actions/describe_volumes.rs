//! DescribeVolumes: the EBS volumes that instances have attached. Documents do not say how large a
//! volume is or of which type, so its size and type are absent.

use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::iso_milliseconds;
use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, one, optional};
use crate::control::resource_list::{
    ListedResource, Name, NotFound, ResourceList, no_tags, write_no_tags,
};
use crate::control::xml::Xml;
use crate::instance::{EbsVolume, InstanceId, Tag};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeVolumes = ResourceList<AttachedVolume>;

/// A volume and where it is attached: at several instances with Multi-Attach.
pub(in crate::control) struct AttachedVolume {
    volume_id: String,
    zone: String,
    zone_id: Option<String>,
    attachments: Vec<VolumeAttachment>,
}

struct VolumeAttachment {
    instance_id: InstanceId,
    device: String,
    ebs: EbsVolume,
}

/// The state of a volume that an instance has. EC2 has no such volume in another state.
const STATE: &str = "in-use";

impl Filterable for AttachedVolume {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("attachment.attach-time", |volume| {
            each(volume, |attachment| {
                attachment.ebs.attach_time.map(iso_milliseconds)
            })
        }),
        ("attachment.delete-on-termination", |volume| {
            each(volume, |attachment| attachment.ebs.delete_on_termination)
        }),
        ("attachment.device", |volume| {
            each(volume, |attachment| Some(&attachment.device))
        }),
        ("attachment.instance-id", |volume| {
            each(volume, |attachment| Some(&attachment.instance_id))
        }),
        ("attachment.status", |volume| {
            each(volume, |attachment| Some(attachment.status()))
        }),
        ("availability-zone", |volume| one(&volume.zone)),
        ("availability-zone-id", |volume| optional(&volume.zone_id)),
        ("create-time", |volume| {
            optional(&volume.created().map(iso_milliseconds))
        }),
        ("status", |_| one(STATE)),
        ("tag-key", |_| Vec::new()),
        ("volume-id", |volume| one(&volume.volume_id)),
    ];
}

fn each<'v, V: ToString>(
    volume: &'v AttachedVolume,
    value: impl Fn(&'v VolumeAttachment) -> Option<V>,
) -> Vec<String> {
    let values = volume.attachments.iter().filter_map(value);
    values.map(|value| value.to_string()).collect()
}

impl ListedResource for AttachedVolume {
    const ACTION: Action = Action::DescribeVolumes;
    const NAMES: &'static [Name<Self>] = &[Name {
        parameter: "VolumeId",
        of: |volume| volume.volume_id.clone(),
        unknown: NotFound {
            code: Code::InvalidVolumeNotFound,
            message: "The volume '{}' does not exist.",
        },
    }];
    const SET: &'static str = "volumeSet";
    // No volume is managed here, so the flag changes nothing.
    const FLAG: Option<&'static str> = Some("IncludeManagedResources");

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let instance = &entry.instance;
        let volumes = instance
            .volumes()
            .iter()
            .filter_map(|mapping| Some((&mapping.device_name, mapping.ebs.as_ref()?)))
            .filter(|(_, ebs)| !ebs.volume_id.is_empty());
        volumes
            .map(|(device, ebs)| AttachedVolume {
                volume_id: ebs.volume_id.to_string(),
                zone: instance.placement.availability_zone.to_string(),
                zone_id: instance.availability_zone_id().map(Into::into),
                attachments: vec![VolumeAttachment {
                    instance_id: instance.instance_id.clone(),
                    device: device.to_string(),
                    ebs: ebs.clone(),
                }],
            })
            .collect()
    }

    fn key(&self) -> String {
        self.volume_id.clone()
    }

    fn merge(&mut self, other: Self) {
        self.attachments.extend(other.attachments);
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        xml.text("volumeId", &self.volume_id);
        xml.text("snapshotId", "");
        xml.text("availabilityZone", &self.zone);
        xml.optional("availabilityZoneId", self.zone_id.as_ref());
        xml.text("status", STATE);
        xml.optional("createTime", self.created().map(iso_milliseconds));
        xml.set("attachmentSet", &self.attachments, |xml, attachment| {
            xml.text("volumeId", &self.volume_id);
            xml.text("instanceId", &attachment.instance_id);
            xml.text("device", &attachment.device);
            let ebs = &attachment.ebs;
            xml.text("status", attachment.status());
            xml.optional("attachTime", ebs.attach_time.map(iso_milliseconds));
            xml.optional("deleteOnTermination", ebs.delete_on_termination);
        });
        write_no_tags(xml);
    }
}

impl VolumeAttachment {
    /// Returns the state of the attachment; what a document does not say is that of EC2's volumes in
    /// use.
    fn status(&self) -> &str {
        self.ebs.status.as_deref().unwrap_or("attached")
    }
}

impl AttachedVolume {
    /// Returns the first time of attachment, in place of the time of creation.
    fn created(&self) -> Option<Timestamp> {
        let times = self.attachments.iter();
        times
            .filter_map(|attachment| attachment.ebs.attach_time)
            .min()
    }
}
