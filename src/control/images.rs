//! The images that the API shows: those that the operator lists, those that instances have, and
//! those that the API changed. For all others, the API has no image.

use std::collections::BTreeMap;

use super::error::{Code, Ec2Error};
use crate::instance::{Images, ImdsSupport, Instance, SharedText, is_image_id};
use crate::registry::Account;

/// What imdsd knows about one image.
#[derive(Clone, Debug)]
pub(super) struct KnownImage {
    pub(super) id: String,
    pub(super) owner_id: String,
    pub(super) imds_support: ImdsSupport,
    /// The id, where the operator gave no name: EC2's images have one.
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) architecture: String,
    pub(super) root_device_name: Option<String>,
    pub(super) root_device_type: String,
    pub(super) virtualization_type: String,
}

/// Returns the known images, by id. What the operator does not say about an image is that of the
/// first of `instances` that has it, or what most images of EC2 have.
pub(super) fn known_images<'i>(
    images: &Images,
    account: &Account,
    instances: impl Iterator<Item = &'i Instance>,
    owner_id: &str,
) -> BTreeMap<String, KnownImage> {
    let mut known: BTreeMap<String, Option<&Instance>> = images
        .listed
        .keys()
        .chain(&account.imds_v2_images)
        .map(|id| (id.clone(), None))
        .collect();
    for instance in instances {
        let user = known.entry(instance.image_id.to_string()).or_default();
        *user = user.or(Some(instance));
    }
    known
        .into_iter()
        .map(|(id, instance)| {
            let listed = images.listed.get(&id);
            let of_instance = |field: fn(&Instance) -> &Option<SharedText>| {
                let field = field(instance?).as_ref()?;
                Some(field.to_string())
            };
            let image = KnownImage {
                owner_id: owner_id.to_string(),
                imds_support: account.imds_support(images, &id),
                name: listed
                    .and_then(|image| image.name.clone())
                    .unwrap_or_else(|| id.clone()),
                description: listed.and_then(|image| image.description.clone()),
                architecture: listed
                    .and_then(|image| image.architecture.clone())
                    .or_else(|| Some(instance?.architecture.to_string()))
                    .unwrap_or_else(|| "x86_64".to_string()),
                root_device_name: of_instance(|instance| &instance.root_device_name),
                root_device_type: of_instance(|instance| &instance.root_device_type)
                    .unwrap_or_else(|| "ebs".to_string()),
                virtualization_type: of_instance(|instance| &instance.virtualization_type)
                    .unwrap_or_else(|| "hvm".to_string()),
                id: id.clone(),
            };
            (id, image)
        })
        .collect()
}

/// Parses the id of an image.
pub(super) fn read_image_id(text: String) -> Result<String, Ec2Error> {
    match is_image_id(&text) {
        true => Ok(text),
        false => {
            let message = format!("Invalid id: \"{text}\" (expecting \"ami-...\")");
            Err(Ec2Error::new(Code::InvalidAmiIdMalformed, message))
        }
    }
}

/// Returns EC2's error for images that do not exist.
pub(super) fn images_not_found(ids: &[&str]) -> Ec2Error {
    let message = match ids {
        [id] => format!("The image id '[{id}]' does not exist"),
        ids => format!("The image ids '[{}]' do not exist", ids.join(", ")),
    };
    Ec2Error::new(Code::InvalidAmiIdNotFound, message)
}
