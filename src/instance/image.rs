//! Images: what a launch depends on, and what the operator says about them.
//!
//! imdsd has no images. It knows the ids that the operator lists, those that instances have, and for
//! each whether it has EC2's attribute `imdsSupport`.

use std::collections::{BTreeMap, BTreeSet};

use crate::instance::defaults::ImdsSupport;

/// An image that the operator describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The attribute `imdsSupport`.
    pub imds_support: ImdsSupport,
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// `x86_64`, `arm64` or `i386`.
    pub architecture: Option<String>,
}

/// The images that the operator describes, by id, and what counts for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The described images.
    pub listed: BTreeMap<String, Image>,
    /// The attribute `imdsSupport` of all others.
    pub unlisted: ImdsSupport,
}

impl Default for Images {
    /// Returns an empty table. An unknown image counts as `v2.0`: tokens are optional only where an
    /// operator said so.
    fn default() -> Images {
        Images {
            listed: BTreeMap::new(),
            unlisted: ImdsSupport::V2,
        }
    }
}

impl Images {
    /// Returns the attribute `imdsSupport` of an image.
    pub fn imds_support(&self, id: &str) -> ImdsSupport {
        self.listed
            .get(id)
            .map_or(self.unlisted, |image| image.imds_support)
    }

    /// Returns the values of the attribute that an image of a launch can have.
    pub fn possible_support(&self) -> BTreeSet<ImdsSupport> {
        let listed = self.listed.values().map(|image| image.imds_support);
        listed.chain([self.unlisted]).collect()
    }
}

/// Returns whether a text is the id of an image: `ami-` and 8 or 17 hexadecimal digits.
pub fn is_image_id(text: &str) -> bool {
    let digits = text.strip_prefix("ami-").unwrap_or_default();
    matches!(digits.len(), 8 | 17)
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
