//! DescribeInstanceAttribute: one attribute of one instance. The only way to read user data by the API.
//!
//! What imdsd knows nothing of (sourceDestCheck of an instance without interfaces, say) is shown as EC2 shows it for an
//! ordinary instance.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::describe_instances::{write_block_device, write_group};
use super::{Action, Call, read_instance_id};
use crate::control::error::Ec2Error;
use crate::control::params::{Parameters, flag};
use crate::control::xml::{Document, Xml};
use crate::instance::{Instance, InstanceId};

/// The input of one call.
pub(super) struct DescribeInstanceAttribute {
    instance_id: InstanceId,
    write: WriteAttribute,
    dry_run: bool,
}

type WriteAttribute = fn(&mut Xml, &Instance);

/// EC2's attributes.
const ATTRIBUTES: [(&str, WriteAttribute); 16] = [
    ("blockDeviceMapping", |xml, instance| {
        xml.set(
            "blockDeviceMapping",
            &instance.block_device_mappings,
            write_block_device,
        );
    }),
    ("disableApiStop", |xml, instance| {
        value(xml, "disableApiStop", Some(instance.imds.disable_api_stop))
    }),
    ("disableApiTermination", |xml, instance| {
        value(
            xml,
            "disableApiTermination",
            Some(instance.imds.disable_api_termination),
        );
    }),
    ("ebsOptimized", |xml, _| {
        value(xml, "ebsOptimized", Some(false))
    }),
    ("enaSupport", |xml, _| value(xml, "enaSupport", Some(true))),
    ("enclaveOptions", |xml, _| {
        xml.element("enclaveOptions", |xml| xml.text("enabled", false))
    }),
    ("groupSet", |xml, instance| {
        xml.set("groupSet", &instance.security_groups, write_group)
    }),
    ("instanceInitiatedShutdownBehavior", |xml, _| {
        value(xml, "instanceInitiatedShutdownBehavior", Some("stop"))
    }),
    ("instanceType", |xml, instance| {
        value(xml, "instanceType", Some(&instance.instance_type))
    }),
    ("kernel", |xml, instance| {
        value(xml, "kernel", instance.kernel_id.as_ref())
    }),
    ("productCodes", |xml, instance| {
        xml.set("productCodes", &instance.product_codes, |xml, code| {
            xml.text("productCode", &code.product_code_id);
            xml.text("type", &code.product_code_type);
        });
    }),
    ("ramdisk", |xml, instance| {
        value(xml, "ramdisk", instance.ramdisk_id.as_ref())
    }),
    ("rootDeviceName", |xml, instance| {
        value(xml, "rootDeviceName", instance.root_device_name.as_ref())
    }),
    ("sourceDestCheck", |xml, instance| {
        let check = instance
            .primary_interface()
            .and_then(|interface| interface.source_dest_check);
        value(xml, "sourceDestCheck", Some(check.unwrap_or(true)));
    }),
    ("sriovNetSupport", |xml, _| {
        value(xml, "sriovNetSupport", None::<&str>)
    }),
    ("userData", |xml, instance| {
        value(
            xml,
            "userData",
            instance.user_data().map(|bytes| STANDARD.encode(bytes)),
        )
    }),
];

/// `<name><value>…</value></name>`, or `<name/>`.
fn value(xml: &mut Xml, name: &str, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => xml.element(name, |xml| xml.text("value", value)),
        None => xml.text(name, ""),
    }
}

impl DescribeInstanceAttribute {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_id = parameters.take_required("InstanceId");
        let attribute = parameters.take_required("Attribute");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let (instance_id, attribute) = (instance_id?, attribute?);
        let known = ATTRIBUTES.iter().find(|(name, _)| *name == attribute);
        let (_, write) = known.ok_or_else(|| {
            Ec2Error::invalid_value(format!(
                "Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
            ))
        })?;
        Ok(DescribeInstanceAttribute {
            instance_id: read_instance_id(&instance_id)?,
            write: *write,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::DescribeInstanceAttribute;
        let snapshot = call.registry.snapshot();
        let entry = call
            .caller
            .one(ACTION, &Vec::new(), &snapshot, &self.instance_id)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        Ok(call.document(ACTION, |xml| {
            xml.text("instanceId", &self.instance_id);
            (self.write)(xml, &entry.instance);
        }))
    }
}
