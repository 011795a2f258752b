//! DescribeInstanceAttribute: one attribute of one instance. The only action that returns user
//! data.
//!
//! An attribute that the record does not name, such as sourceDestCheck of an instance without
//! interfaces, has the value that it has for an ordinary EC2 instance.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::instance_xml::{write_block_device, write_group, write_product_code};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::syntax::read_instance_id;
use crate::control::xml::{ResponseBody, Xml};
use crate::instance::{Instance, InstanceId};

/// The input of a call.
pub(super) struct DescribeInstanceAttribute {
    instance_id: InstanceId,
    write: WriteAttribute,
    dry_run: bool,
}

type WriteAttribute = fn(&mut Xml, &Instance);

/// EC2's attributes, each with the function that writes it.
const WRITERS: [(&str, WriteAttribute); 16] = [
    ("blockDeviceMapping", |xml, instance| {
        xml.set("blockDeviceMapping", instance.volumes(), write_block_device);
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
    ("ebsOptimized", |xml, instance| {
        value(xml, "ebsOptimized", Some(instance.ebs_optimized()))
    }),
    ("enaSupport", |xml, instance| {
        value(xml, "enaSupport", Some(instance.ena_support()))
    }),
    ("enclaveOptions", |xml, instance| {
        xml.element("enclaveOptions", |xml| {
            xml.text("enabled", instance.enclaves_enabled())
        })
    }),
    ("groupSet", |xml, instance| {
        xml.set("groupSet", instance.groups(), write_group)
    }),
    ("instanceInitiatedShutdownBehavior", |xml, instance| {
        let behavior = instance.imds.instance_initiated_shutdown_behavior;
        value(
            xml,
            "instanceInitiatedShutdownBehavior",
            Some(behavior.as_str()),
        )
    }),
    ("instanceType", |xml, instance| {
        value(xml, "instanceType", Some(&instance.instance_type))
    }),
    ("kernel", |xml, instance| {
        value(xml, "kernel", instance.kernel_id.as_ref())
    }),
    ("productCodes", |xml, instance| {
        xml.set("productCodes", &instance.product_codes, write_product_code);
    }),
    ("ramdisk", |xml, instance| {
        value(xml, "ramdisk", instance.ramdisk_id.as_ref())
    }),
    ("rootDeviceName", |xml, instance| {
        value(xml, "rootDeviceName", instance.root_device_name.as_ref())
    }),
    ("sourceDestCheck", |xml, instance| {
        value(xml, "sourceDestCheck", instance.source_dest_check());
    }),
    ("sriovNetSupport", |xml, instance| {
        value(
            xml,
            "sriovNetSupport",
            instance.other.text("SriovNetSupport"),
        )
    }),
    ("userData", |xml, instance| {
        value(
            xml,
            "userData",
            instance.user_data().map(|bytes| STANDARD.encode(bytes)),
        )
    }),
];

/// Writes `<name><value>…</value></name>`, or `<name/>`.
fn value(xml: &mut Xml, name: &str, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => xml.element(name, |xml| xml.text("value", value)),
        None => xml.text(name, ""),
    }
}

impl Operation for DescribeInstanceAttribute {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let instance_id = parameters.take_required("InstanceId");
        let attribute = parameters.take_required("Attribute");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let (instance_id, attribute) = (instance_id?, attribute?);
        let known = WRITERS.iter().find(|(name, _)| *name == attribute);
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

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeInstanceAttribute;
        let snapshot = call.registry.snapshot();
        let entry = call
            .caller
            .instance(ACTION, &Vec::new(), &snapshot, &self.instance_id)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        Ok(call.response(ACTION, |xml| {
            xml.text("instanceId", &self.instance_id);
            (self.write)(xml, &entry.instance);
        }))
    }
}
