//! `dynamic/`: the instance identity document, and whether detailed monitoring is on.

use std::borrow::Cow;

use serde::Serialize;

use super::json::ec2_json;
use super::{Category, Focus, directory, leaf, text};
use crate::clock::iso_seconds;

pub(super) const DYNAMIC: &[Category] = &[
    directory("fws", "2009-04-04", &[leaf("instance-monitoring", "2009-04-04", monitoring)]),
    directory("instance-identity", "2009-04-04", &[leaf("document", "2009-04-04", document)]),
];

fn monitoring(focus: Focus<'_>) -> Option<Cow<'_, str>> {
    text(&focus.instance().monitoring.as_ref()?.state)
}

/// Alphabetical, except that the product codes stand together: EC2's order since 2017.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    account_id: &'a str,
    architecture: &'a str,
    availability_zone: &'a str,
    billing_products: Option<Vec<&'a str>>,
    devpay_product_codes: Option<Vec<&'a str>>,
    marketplace_product_codes: Option<Vec<&'a str>>,
    image_id: &'a str,
    instance_id: &'a str,
    instance_type: &'a str,
    kernel_id: Option<&'a str>,
    pending_time: String,
    private_ip: Option<String>,
    ramdisk_id: Option<&'a str>,
    region: &'a str,
    version: &'static str,
}

fn document(focus: Focus<'_>) -> Option<Cow<'_, str>> {
    let instance = focus.instance();
    let codes = |kind: &str| {
        let of_kind = instance.product_codes.iter().filter(|code| code.product_code_type == kind);
        let codes: Vec<&str> = of_kind.map(|code| code.product_code_id.as_str()).collect();
        (!codes.is_empty()).then_some(codes)
    };
    Some(Cow::Owned(ec2_json(&Document {
        account_id: instance.owner_id(),
        architecture: &instance.architecture,
        availability_zone: &instance.placement.availability_zone,
        billing_products: None,
        devpay_product_codes: codes("devpay"),
        marketplace_product_codes: codes("marketplace"),
        image_id: &instance.image_id,
        instance_id: instance.instance_id.as_str(),
        instance_type: &instance.instance_type,
        kernel_id: instance.kernel_id.as_deref(),
        pending_time: iso_seconds(instance.launch_time),
        private_ip: instance.primary_private_address().map(|address| address.to_string()),
        ramdisk_id: instance.ramdisk_id.as_deref(),
        region: instance.region(),
        version: "2017-09-30",
    })))
}
