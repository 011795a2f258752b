//! Doubts about an instance: values that are allowed, but probably not intended. `imdsd check` shows
//! them as warnings.
//!
//! Each doubt is one row of a table: the field, what makes it doubtful, and what to do.

use crate::fault::FieldFault;
use crate::instance::{Instance, NetworkInterface, region_of_zone, zone_id};

/// Returns what makes a value doubtful, and what to do.
type Doubt = fn(&Instance) -> Option<String>;

/// The doubts about whole instances, with the field that each is about.
const DOUBTS: [(&str, Doubt); 11] = [
    ("Imds.Region", region_of_another_zone),
    ("Placement.AvailabilityZoneId", zone_id_of_another_region),
    ("KeyName", key_without_material),
    ("Imds.OpenSshKey", material_without_key),
    ("IamInstanceProfile.Arn", not_a_profile),
    ("IamInstanceProfile.Arn", profile_of_another_account),
    ("IamInstanceProfile", profile_without_role),
    ("InstanceType", not_a_type),
    ("ImageId", not_an_image),
    ("Architecture", unknown_architecture),
    ("InstanceLifecycle", unknown_lifecycle),
];

/// Returns the doubts about an instance.
pub fn doubts(instance: &Instance) -> Vec<FieldFault> {
    let of_instance = DOUBTS
        .iter()
        .filter_map(|(field, doubt)| Some(FieldFault::new(*field, doubt(instance)?)));
    let interfaces = instance.network_interfaces.iter().enumerate();
    let of_interfaces = interfaces.filter_map(|(index, interface)| {
        interface_doubt(&format!("NetworkInterfaces[{index}]"), interface)
    });
    of_instance.chain(of_interfaces).collect()
}

/// Zones of a region begin with its name (EC2 user guide, Regions and Zones). A zone with another
/// kind of name needs `Imds.Region`.
fn region_of_another_zone(instance: &Instance) -> Option<String> {
    let (zone, region) = (&instance.placement.availability_zone, instance.region());
    (has_regions_shape(region_of_zone(zone)) && !zone.starts_with(region)).then(|| {
        format!("'{region}' is not the region of the zone '{zone}'; remove it, or correct the zone")
    })
}

/// A zone's id begins with the abbreviation of its region: `use1-az1`. Which zone has which number
/// differs from account to account.
fn zone_id_of_another_region(instance: &Instance) -> Option<String> {
    let given = instance.placement.availability_zone_id.as_deref()?;
    let expected = zone_id(&instance.placement.availability_zone)?;
    let region = |id: &str| id.split('-').next().map(str::to_string);
    (region(given) != region(&expected)).then(|| {
        let zone = &instance.placement.availability_zone;
        format!("'{given}' is not an id of the zone '{zone}', such as {expected}; correct it, or remove it")
    })
}

/// DescribeInstances prints the name only.
fn key_without_material(instance: &Instance) -> Option<String> {
    (instance.key_name.is_some() && instance.imds.open_ssh_key.is_none())
        .then(|| "the guest gets no public key; add its line as Imds.OpenSshKey".to_string())
}

fn material_without_key(instance: &Instance) -> Option<String> {
    (instance.key_name.is_none() && instance.imds.open_ssh_key.is_some())
        .then(|| "the guest does not get it without a name; add KeyName".to_string())
}

/// IAM identifiers: `arn:PARTITION:iam::ACCOUNT:instance-profile/PATH/NAME`.
fn not_a_profile(instance: &Instance) -> Option<String> {
    let arn = &instance.iam_instance_profile.as_ref()?.arn;
    profile_account(arn).is_none().then(|| {
        format!(
            "'{}' is not the ARN of an instance profile, such as \
             arn:aws:iam::123456789012:instance-profile/web",
            arn.escape_debug()
        )
    })
}

/// An instance profile belongs to the account of its instances (IAM: instance profiles).
fn profile_of_another_account(instance: &Instance) -> Option<String> {
    let account = profile_account(&instance.iam_instance_profile.as_ref()?.arn)?;
    let owner = instance.imds.owner_id.as_deref()?;
    (account != owner).then(|| {
        format!(
            "it is of account {account}, and the instance of account {owner}; correct one of them"
        )
    })
}

/// Returns the account in an instance profile's ARN; `None` if it is not one.
pub fn profile_account(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts[..] else {
        return None;
    };
    let name = resource.strip_prefix("instance-profile/")?;
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    (partition.starts_with("aws") && is_account && !name.is_empty() && !name.ends_with('/'))
        .then_some(account)
}

fn profile_without_role(instance: &Instance) -> Option<String> {
    (instance.iam_instance_profile.is_some() && instance.imds.role.is_none()).then(|| {
        "the guest gets no credentials; add Imds.Role with their source, or remove the profile"
            .to_string()
    })
}

/// EC2's types are a family and a size: `m5.large`, `u-6tb1.112xlarge`.
fn not_a_type(instance: &Instance) -> Option<String> {
    let name = &instance.instance_type;
    let is_part = |part: &str| {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(letters)
    };
    let is_type = name
        .split_once('.')
        .is_some_and(|(family, size)| is_part(family) && is_part(size));
    (!is_type).then(|| format!("'{}' is not a type such as m5.large", name.escape_debug()))
}

/// EC2's ids have 8 or 17 hexadecimal digits.
fn not_an_image(instance: &Instance) -> Option<String> {
    let id = &instance.image_id;
    let is_image = id.strip_prefix("ami-").is_some_and(|digits| {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        matches!(digits.len(), 8 | 17) && digits.bytes().all(is_digit)
    });
    (!is_image).then(|| {
        format!(
            "'{}' is not an image such as ami-0123456789abcdef0",
            id.escape_debug()
        )
    })
}

/// The values of EC2's ArchitectureValues.
fn unknown_architecture(instance: &Instance) -> Option<String> {
    let known = ["x86_64", "arm64", "i386", "x86_64_mac", "arm64_mac"];
    let architecture = instance.architecture.as_str();
    (!known.contains(&architecture)).then(|| one_of(architecture, &known))
}

/// The values of EC2's InstanceLifecycleType.
fn unknown_lifecycle(instance: &Instance) -> Option<String> {
    let known = ["spot", "scheduled", "capacity-block"];
    let lifecycle = instance.instance_lifecycle.as_deref()?;
    (!known.contains(&lifecycle)).then(|| one_of(lifecycle, &known))
}

/// Every interface is in a subnet. The categories of the subnet and of the VPC follow from it.
fn interface_doubt(path: &str, interface: &NetworkInterface) -> Option<FieldFault> {
    let missing: Vec<&str> = [
        ("SubnetId", interface.subnet_id.is_none()),
        ("VpcId", interface.vpc_id.is_none()),
    ]
    .into_iter()
    .filter_map(|(field, is_missing)| is_missing.then_some(field))
    .collect();
    let field = missing.first()?;
    let message = format!(
        "is missing, and so is what the guest reads of it; add {}",
        missing.join(" and ")
    );
    Some(FieldFault::new(format!("{path}.{field}"), message))
}

fn one_of(found: &str, known: &[&str]) -> String {
    format!(
        "'{}' is not one of {}",
        found.escape_debug(),
        known.join(", ")
    )
}

/// Returns whether a name looks like a region of EC2: `us-east-1`, `us-gov-west-1`.
fn has_regions_shape(name: &str) -> bool {
    let mut parts = name.split('-').rev();
    let number = parts.next().unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number && parts.count() >= 2
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::document::{from_value, read, to_value};

    fn demo_instance() -> Instance {
        const TEXT: &str = include_str!("../../config/demo-instance.json");
        read(Path::new("demo.json"), TEXT).unwrap().remove(0)
    }

    #[test]
    fn each_doubtful_value_has_one_warning_and_a_usual_one_has_none() {
        let demo = to_value(&demo_instance());
        for (pointer, value, expected) in [
            ("/Imds/Region", json!("us-east-1"), None),
            (
                "/Imds/Region",
                json!("eu-west-1"),
                Some("Imds.Region: 'eu-west-1' is not the region"),
            ),
            ("/Imds/Region", json!("us-east-10"), Some("Imds.Region: ")),
            ("/Placement/AvailabilityZoneId", json!("use1-az6"), None),
            (
                "/Placement/AvailabilityZoneId",
                json!("euw1-az1"),
                Some("Placement.AvailabilityZoneId: "),
            ),
            (
                "/KeyName",
                Value::Null,
                Some("Imds.OpenSshKey: the guest does not get it"),
            ),
            (
                "/Imds/OpenSshKey",
                Value::Null,
                Some("KeyName: the guest gets no public key"),
            ),
            (
                "/IamInstanceProfile/Arn",
                json!("arn:aws-cn:iam::123456789012:instance-profile/a/b"),
                None,
            ),
            (
                "/IamInstanceProfile/Arn",
                json!("arn:aws:iam::123456789012:role/demo"),
                Some("IamInstanceProfile.Arn: 'arn"),
            ),
            (
                "/IamInstanceProfile/Arn",
                json!("demo"),
                Some("IamInstanceProfile.Arn: 'demo'"),
            ),
            (
                "/IamInstanceProfile/Arn",
                json!("arn:aws:iam::1:instance-profile/demo"),
                Some("IamInstanceProfile.Arn: "),
            ),
            (
                "/IamInstanceProfile/Arn",
                json!("arn:aws:iam::999999999999:instance-profile/x"),
                Some("of account 999999999999"),
            ),
            (
                "/Imds/Role",
                Value::Null,
                Some("IamInstanceProfile: the guest gets no credentials"),
            ),
            ("/InstanceType", json!("u-6tb1.112xlarge"), None),
            ("/InstanceType", json!("m7i-flex.large"), None),
            (
                "/InstanceType",
                json!("large"),
                Some("InstanceType: 'large'"),
            ),
            ("/InstanceType", json!("m5.Large"), Some("InstanceType: ")),
            ("/InstanceType", json!("m5."), Some("InstanceType: ")),
            ("/ImageId", json!("ami-12345678"), None),
            ("/ImageId", json!("debian-12"), Some("ImageId: 'debian-12'")),
            ("/ImageId", json!("ami-123456789"), Some("ImageId: ")),
            ("/Architecture", json!("arm64"), None),
            (
                "/Architecture",
                json!("aarch64"),
                Some("Architecture: 'aarch64'"),
            ),
            ("/InstanceLifecycle", json!("spot"), None),
            (
                "/InstanceLifecycle",
                json!("on-demand"),
                Some("InstanceLifecycle: "),
            ),
            (
                "/NetworkInterfaces/0/SubnetId",
                Value::Null,
                Some("NetworkInterfaces[0].SubnetId: is missing"),
            ),
            (
                "/NetworkInterfaces/0/VpcId",
                Value::Null,
                Some("NetworkInterfaces[0].VpcId: is missing"),
            ),
        ] {
            let mut changed = demo.clone();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            let parent = changed.pointer_mut(parent).unwrap();
            match value {
                Value::Null => drop(parent.as_object_mut().unwrap().remove(field)),
                value => parent[field] = value,
            }
            let found = doubts(&from_value(changed).unwrap());
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            match (&found[..], expected) {
                ([], None) => {}
                ([found], Some(expected)) if found.contains(expected) => {}
                _ => panic!("{pointer}: {found:?}, not {expected:?}"),
            }
        }
    }

    /// A host may name its zones as it likes, if it says which region they are in.
    #[test]
    fn a_zone_with_a_name_of_its_own_has_any_region() {
        let mut instance = demo_instance();
        instance.placement.availability_zone = "rack-7b".into();
        instance.placement.availability_zone_id = None;
        for region in ["lab-1", "eu-west-1"] {
            instance.imds.region = Some(region.into());
            assert_eq!(doubts(&instance), [], "{region}");
        }
    }
}
