//! DescribeImages: the images that imdsd knows (`control/images.rs`), by id, owner and filter, in
//! pages.
//!
//! All belong to the caller's account and are available. Of the images that only instances name, a
//! caller sees those of the instances that it may describe.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::filters::{FilterValues, Filterable, Filters, one, optional};
use crate::control::images::{KnownImage, images_not_found, known_images, read_image_id};
use crate::control::operation::{Input, Operation};
use crate::control::pages::{Page, PageParameters};
use crate::control::params::flag;
use crate::control::policy::rules::Target;
use crate::control::render::ec2_response;
use crate::control::xml::{ResponseBody, Xml};
use crate::instance::{Images, ImdsSupport, Tag, is_image_id};
use crate::registry::AccountState;

const STATE: &str = "available";
const KIND: &str = "machine";
const HYPERVISOR: &str = "xen";

/// The input of a call.
pub(super) struct DescribeImages {
    image_ids: Vec<String>,
    owners: Vec<String>,
    filters: Filters<KnownImage>,
    page: Page,
    dry_run: bool,
}

impl Filterable for KnownImage {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(|_| &[]);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("architecture", |image| one(&image.architecture)),
        ("description", |image| optional(&image.description)),
        ("hypervisor", |_| one(HYPERVISOR)),
        ("image-id", |image| one(&image.id)),
        ("image-type", |_| one(KIND)),
        ("is-public", |_| one(false)),
        ("name", |image| one(&image.name)),
        // None of them is Amazon's or of the Marketplace.
        ("owner-alias", |_| Vec::new()),
        ("owner-id", |image| one(&image.owner_id)),
        ("root-device-name", |image| {
            optional(&image.root_device_name)
        }),
        ("root-device-type", |image| one(&image.root_device_type)),
        ("state", |_| one(STATE)),
        ("tag-key", |_| Vec::new()),
        ("virtualization-type", |image| {
            one(&image.virtualization_type)
        }),
    ];
}

impl Operation for DescribeImages {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let image_ids = parameters.take_list("ImageId");
        let owners = parameters.take_list("Owner");
        let filters = parameters.take_filters();
        let page = PageParameters::take(&mut parameters);
        let dry_run = parameters.take("DryRun");
        // No image is deprecated or disabled, so these flags change nothing.
        let flags =
            ["IncludeDeprecated", "IncludeDisabled"].map(|name| (name, parameters.take(name)));
        parameters.finish_without(&["ExecutableBy"])?;
        for (name, value) in flags {
            flag(name, value.as_deref())?;
        }
        Ok(DescribeImages {
            image_ids: image_ids
                .into_iter()
                .map(read_image_id)
                .collect::<Result<_, _>>()?,
            owners,
            filters: Filters::read(filters)?,
            page: page.read(is_image_id)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let (images, account) = (Arc::clone(call.registry.images()), call.registry.account());
        call.list(move |call| self.list(&call, &images, &account))
            .await
    }
}

impl DescribeImages {
    fn list(
        &self,
        call: &ListCall,
        images: &Images,
        account: &AccountState,
    ) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeImages;
        call.caller
            .authorize(ACTION, &Vec::new(), Target::Account)?;
        let account = account
            .account()
            .map_err(|_| Ec2Error::account_unreadable())?;
        let visible = call.caller.described_instances(&call.snapshot);
        let instances = visible.map(|entry| &entry.instance);
        let known = known_images(images, &account, instances, &call.caller.account);
        let unknown: Vec<&str> = self
            .image_ids
            .iter()
            .map(String::as_str)
            .filter(|id| !known.contains_key(*id))
            .collect();
        if !unknown.is_empty() {
            return Err(images_not_found(&unknown));
        }
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let shown = known
            .into_values()
            .filter(|image| self.image_ids.is_empty() || self.image_ids.contains(&image.id))
            .filter(|image| self.owners.is_empty() || self.is_owned(image))
            .filter(|image| self.filters.match_all(image));
        let (page, next) = self.page.of(shown, |image| image.id.clone());
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("imagesSet", page, |xml, image| write_image(xml, &image));
            xml.optional("nextToken", next);
        }))
    }

    /// Returns whether an image belongs to one of the owners that the call names.
    fn is_owned(&self, image: &KnownImage) -> bool {
        let mut owners = self.owners.iter();
        owners.any(|owner| owner == "self" || *owner == image.owner_id)
    }
}

fn write_image(xml: &mut Xml, image: &KnownImage) {
    xml.text("imageId", &image.id);
    xml.text(
        "imageLocation",
        format_args!("{}/{}", image.owner_id, image.name),
    );
    xml.text("imageState", STATE);
    xml.text("imageOwnerId", &image.owner_id);
    xml.text("isPublic", false);
    xml.text("architecture", &image.architecture);
    xml.text("imageType", KIND);
    xml.text("name", &image.name);
    xml.optional("description", image.description.as_ref());
    xml.text("rootDeviceType", &image.root_device_type);
    xml.optional("rootDeviceName", image.root_device_name.as_ref());
    xml.set("blockDeviceMapping", [(); 0], |_, ()| {});
    xml.text("virtualizationType", &image.virtualization_type);
    xml.text("hypervisor", HYPERVISOR);
    if image.imds_support == ImdsSupport::V2 {
        xml.text("imdsSupport", "v2.0");
    }
}
