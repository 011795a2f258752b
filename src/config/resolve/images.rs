//! `[images]` and `[[image]]`

use crate::config::section::{Faults, Section};
use crate::instance::{Image, Images, ImdsSupport, is_image_id};

/// The values of EC2's attribute `imdsSupport`, and a word for an image without it.
const IMDS_SUPPORT: [(&str, ImdsSupport); 2] =
    [("v2.0", ImdsSupport::V2), ("none", ImdsSupport::Unset)];

/// EC2's architectures of instances.
const ARCHITECTURES: [(&str, &str); 3] =
    [("x86_64", "x86_64"), ("arm64", "arm64"), ("i386", "i386")];

pub(super) fn read(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Images {
    let mut images = Images::default();
    if let Some(mut section) = root.table("images", faults) {
        let unlisted = section.word("unlisted", &IMDS_SUPPORT, faults);
        images.unlisted = unlisted.unwrap_or(images.unlisted);
        section.finish(faults);
    }
    for mut section in root.tables("image", faults) {
        let id = section.required("id", faults, |id| match is_image_id(id) {
            _ if images.listed.contains_key(id) => Err(format!("{id} appears twice")),
            true => Ok(id.to_string()),
            false => Err(format!(
                "'{}' is not an image id: ami- and 8 or 17 hexadecimal digits in lower case",
                id.escape_debug()
            )),
        });
        if !section.has("imds_support") {
            section.missing("imds_support", "is missing: \"v2.0\" or \"none\"", faults);
        }
        let text = |text: &str| Ok(text.to_string());
        let image = Image {
            // With a fault, the stricter.
            imds_support: section
                .word("imds_support", &IMDS_SUPPORT, faults)
                .unwrap_or(ImdsSupport::V2),
            name: section.parsed("name", faults, text),
            description: section.parsed("description", faults, text),
            architecture: section
                .word("architecture", &ARCHITECTURES, faults)
                .map(str::to_string),
        };
        section.finish(faults);
        images.listed.extend(id.map(|id| (id, image)));
    }
    images
}
