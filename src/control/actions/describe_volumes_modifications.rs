//! DescribeVolumesModifications: always empty. imdsd modifies no volumes.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable};
use crate::control::resource_list::{ListedResource, Name, NotFound, ResourceList};
use crate::control::xml::Xml;
use crate::instance::Tag;
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeVolumesModifications = ResourceList<VolumeModification>;

/// A modification of a volume: there is none.
pub(in crate::control) enum VolumeModification {}

impl Filterable for VolumeModification {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("modification-state", |_| Vec::new()),
        ("volume-id", |_| Vec::new()),
    ];
}

impl ListedResource for VolumeModification {
    const ACTION: Action = Action::DescribeVolumesModifications;
    const NAMES: &'static [Name<Self>] = &[Name {
        parameter: "VolumeId",
        of: VolumeModification::key,
        unknown: NotFound {
            code: Code::InvalidVolumeModificationNotFound,
            message: "Modification for volume '{}' does not exist.",
        },
    }];
    const SET: &'static str = "volumeModificationSet";
    // No volume is managed here, so the flag changes nothing.
    const FLAG: Option<&'static str> = Some("IncludeManagedResources");

    fn of(_: &Arc<Entry>) -> Vec<Self> {
        Vec::new()
    }

    fn key(&self) -> String {
        match *self {}
    }

    fn write(&self, _: &mut Xml, _flag: bool) {
        match *self {}
    }
}
