//! The instance identity document: its exact bytes, which three signatures cover.
//!
//! The document is generated once per launch and stored in the instance's record, so that a later
//! change of the instance or of this file cannot make a served document differ from its signatures.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html>

use serde::Serialize;

use crate::clock::iso_seconds;
use crate::instance::ec2_json::ec2_json;
use crate::instance::model::Instance;

/// The fields in EC2's order since 2017: alphabetical, except that the product codes are together.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityDocument<'a> {
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

/// Returns the document of a launch, without a newline at its end. `pendingTime` is the launch
/// time.
pub fn identity_document(instance: &Instance) -> String {
    let codes = |kind: &str| {
        let of_kind = instance
            .product_codes
            .iter()
            .filter(|code| code.product_code_type == kind);
        let codes: Vec<&str> = of_kind.map(|code| code.product_code_id.as_str()).collect();
        (!codes.is_empty()).then_some(codes)
    };
    ec2_json(&IdentityDocument {
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
        private_ip: instance
            .primary_private_address()
            .map(|address| address.to_string()),
        ramdisk_id: instance.ramdisk_id.as_deref(),
        region: instance.region(),
        version: "2017-09-30",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::instance::ProductCode;

    /// The layout of documents that were captured on EC2: a space on both sides of the colon, null
    /// for absent values, arrays in one line.
    #[test]
    fn the_document_has_ec2s_layout() {
        let mut instance = demo_instance();
        let code = |id: &str, kind: &str| ProductCode {
            product_code_id: id.into(),
            product_code_type: kind.into(),
        };
        instance.product_codes = vec![code("one", "marketplace"), code("two", "marketplace")];
        let expected = "{\n  \"accountId\" : \"123456789012\",\n  \"architecture\" : \"x86_64\",\n  \
                        \"availabilityZone\" : \"us-east-1a\",\n  \"billingProducts\" : null,\n  \
                        \"devpayProductCodes\" : null,\n  \"marketplaceProductCodes\" : [ \"one\", \"two\" ],\n  \
                        \"imageId\" : \"ami-0123456789abcdef0\",\n  \"instanceId\" : \"i-0123456789abcdef0\",\n  \
                        \"instanceType\" : \"m5.large\",\n  \"kernelId\" : null,\n  \
                        \"pendingTime\" : \"2026-01-01T00:00:00Z\",\n  \"privateIp\" : \"10.0.0.10\",\n  \
                        \"ramdiskId\" : null,\n  \"region\" : \"us-east-1\",\n  \"version\" : \"2017-09-30\"\n}";
        assert_eq!(identity_document(&instance), expected);
    }
}
