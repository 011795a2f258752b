//! DescribeImageAttribute: one attribute of one image: `imdsSupport`, `description`, and those that
//! are empty for every image here.

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::{Code, Ec2Error};
use crate::control::images::{KnownImage, images_not_found, known_images, read_image_id};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::policy::rules::Target;
use crate::control::xml::{ResponseBody, Xml};
use crate::instance::ImdsSupport;

type WriteImageAttribute = fn(&mut Xml, &KnownImage);

/// The attributes that are answered, each with the function that writes it.
const WRITERS: [(&str, WriteImageAttribute); 5] = [
    ("blockDeviceMapping", |xml, _| {
        xml.set("blockDeviceMapping", [(); 0], |_, ()| {})
    }),
    ("description", |xml, image| {
        xml.element("description", |xml| {
            xml.optional("value", image.description.as_ref());
        });
    }),
    ("imdsSupport", |xml, image| {
        xml.element("imdsSupport", |xml| {
            if image.imds_support == ImdsSupport::V2 {
                xml.text("value", "v2.0");
            }
        });
    }),
    ("launchPermission", |xml, _| {
        xml.set("launchPermission", [(); 0], |_, ()| {})
    }),
    ("productCodes", |xml, _| {
        xml.set("productCodes", [(); 0], |_, ()| {})
    }),
];

/// EC2's other attributes.
const UNSUPPORTED: [&str; 8] = [
    "bootMode",
    "deregistrationProtection",
    "kernel",
    "lastLaunchedTime",
    "ramdisk",
    "sriovNetSupport",
    "tpmSupport",
    "uefiData",
];

/// The input of a call.
pub(super) struct DescribeImageAttribute {
    image_id: String,
    write: WriteImageAttribute,
    dry_run: bool,
}

impl Operation for DescribeImageAttribute {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let image_id = parameters.take_required("ImageId");
        let attribute = parameters.take_required("Attribute");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let (image_id, attribute) = (image_id?, attribute?);
        let known = WRITERS.iter().find(|(name, _)| *name == attribute);
        let Some((_, write)) = known else {
            return Err(match UNSUPPORTED.contains(&attribute.as_str()) {
                true => Ec2Error::new(
                    Code::UnsupportedOperation,
                    format!("The attribute {attribute} is not supported."),
                ),
                false => Ec2Error::invalid_value(format!(
                    "Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
                )),
            });
        };
        Ok(DescribeImageAttribute {
            image_id: read_image_id(image_id)?,
            write: *write,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeImageAttribute;
        call.caller
            .authorize(ACTION, &Vec::new(), Target::Account)?;
        let account = call
            .registry
            .account()
            .account()
            .map_err(|_| Ec2Error::account_unreadable())?;
        let snapshot = call.registry.snapshot();
        let visible = call.caller.described_instances(&snapshot);
        let instances = visible.map(|entry| &entry.instance);
        let owner = &call.caller.account;
        let known = known_images(call.registry.images(), &account, instances, owner);
        let Some(image) = known.get(&self.image_id) else {
            return Err(images_not_found(&[&self.image_id]));
        };
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        Ok(call.response(ACTION, |xml| {
            xml.text("imageId", &self.image_id);
            (self.write)(xml, image);
        }))
    }
}
