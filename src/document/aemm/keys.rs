//! The tables of the mock: its leaves of the metadata tree, and the keys of its configuration.

use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::document::validate::is_authorized_key;
use crate::instance::{
    Instance, Ipv6Address, Monitoring, NetworkInterface, OtherFields, SharedText,
};

/// A leaf of the metadata tree that the mock has.
pub(super) struct Leaf {
    /// The mock's name for its value and its path.
    pub(super) key: &'static str,
    /// The path below the version. `{mac}`, `{public}` and `{eia}` are placeholders for names of
    /// the instance.
    pub(super) path: &'static str,
    /// Returns what an instance shows there without overrides.
    pub(super) shown: fn(&Instance) -> Option<String>,
    /// Makes an instance show a text, if there is a field for the leaf and the text fits it.
    pub(super) set: fn(&mut Instance, &str),
}

impl Leaf {
    /// Returns the section of the configuration with the value and the path of this leaf.
    pub(super) fn section(&self) -> &'static str {
        if self.path.starts_with("dynamic/") {
            "dynamic"
        } else {
            "metadata"
        }
    }
}

const fn leaf(
    key: &'static str,
    path: &'static str,
    shown: fn(&Instance) -> Option<String>,
    set: fn(&mut Instance, &str),
) -> Leaf {
    Leaf {
        key,
        path,
        shown,
        set,
    }
}

/// A leaf without a field of its own.
const fn derived(
    key: &'static str,
    path: &'static str,
    shown: fn(&Instance) -> Option<String>,
) -> Leaf {
    Leaf {
        key,
        path,
        shown,
        set: |_, _| {},
    }
}

/// The leaves of the mock, one row each.
#[rustfmt::skip]
pub(super) const LEAVES: &[Leaf] = &[
    leaf("ami-id", "meta-data/ami-id", |i| Some(i.image_id.to_string()), |i, text| i.image_id = text.into()),
    leaf("ami-launch-index", "meta-data/ami-launch-index", |i| Some(i.ami_launch_index.to_string()), |i, text| parse_into(&mut i.ami_launch_index, text)),
    derived("ami-manifest-path", "meta-data/ami-manifest-path", |_| Some("(unknown)".into())),
    leaf("block-device-mapping-root", "meta-data/block-device-mapping/root", |i| owned(i.root_device_name.as_ref()), |i, text| i.root_device_name = non_empty(text)),
    derived("block-device-mapping-ami", "meta-data/block-device-mapping/ami", |i| owned(i.root_device_name.as_ref())),
    derived("block-device-mapping-ebs", "meta-data/block-device-mapping/ebs0", |_| None),
    derived("block-device-mapping-ephemeral", "meta-data/block-device-mapping/ephemeral0", |_| None),
    derived("block-device-mapping-swap", "meta-data/block-device-mapping/swap", |_| None),
    derived("elastic-inference-accelerator", "meta-data/elastic-inference/associations/{eia}", |_| None),
    leaf("hostname", "meta-data/hostname", |i| Some(i.private_host_name()?.into()), |i, text| i.private_dns_name = non_empty(text)),
    derived("local-hostname", "meta-data/local-hostname", |i| Some(i.private_host_name()?.into())),
    derived("instance-action", "meta-data/instance-action", |_| Some("none".into())),
    derived("instance-id", "meta-data/instance-id", |i| Some(i.instance_id.to_string())),
    leaf("instance-life-cycle", "meta-data/instance-life-cycle", |i| Some(i.instance_lifecycle.clone().unwrap_or("on-demand".into()).to_string()), |i, text| i.instance_lifecycle = non_empty(text).filter(|text| text != "on-demand")),
    leaf("instance-type", "meta-data/instance-type", |i| Some(i.instance_type.to_string()), |i, text| i.instance_type = text.into()),
    leaf("kernel-id", "meta-data/kernel-id", |i| owned(i.kernel_id.as_ref()), |i, text| i.kernel_id = non_empty(text)),
    leaf("local-ipv4", "meta-data/local-ipv4", |i| i.primary_private_address().map(|a| a.to_string()), |i, text| {
        if let Ok(address) = text.parse() {
            i.private_ip_address = Some(address);
            eth0_mut(i).private_ip_address = Some(address);
            eth0_mut(i).private_ip_addresses[0].private_ip_address = address;
        }
    }),
    derived("mac", "meta-data/mac", |i| Some(eth0(i).mac_address.to_string())),
    derived("mac-device-number", "meta-data/network/interfaces/macs/{mac}/device-number", |_| Some("0".into())),
    leaf("mac-network-interface-id", "meta-data/network/interfaces/macs/{mac}/interface-id", |i| Some(eth0(i).network_interface_id.to_string()), |i, text| eth0_mut(i).network_interface_id = text.into()),
    derived("mac-network-interface-card-index", "meta-data/network/interfaces/macs/{mac}/network-card-index", |_| None),
    derived("mac-ipv4-associations", "meta-data/network/interfaces/macs/{mac}/ipv4-associations/{public}", |i| Some(eth0(i).private_ip_address?.to_string())),
    leaf("mac-ipv6-associations", "meta-data/network/interfaces/macs/{mac}/ipv6s", |i| join_lines(eth0(i).ipv6_addresses.iter().map(|a| a.ipv6_address)), |i, text| {
        let addresses: Result<Vec<Ipv6Addr>, _> = text.lines().map(str::parse).collect();
        if let Ok(addresses) = addresses {
            eth0_mut(i).ipv6_addresses = addresses.into_iter().map(|ipv6_address| Ipv6Address { ipv6_address, other: OtherFields::default() }).collect();
        }
    }),
    leaf("mac-local-hostname", "meta-data/network/interfaces/macs/{mac}/local-hostname", |i| owned(eth0(i).private_dns_name.as_ref()), |i, text| eth0_mut(i).private_dns_name = non_empty(text)),
    derived("mac-local-ipv4s", "meta-data/network/interfaces/macs/{mac}/local-ipv4s", |i| Some(eth0(i).private_ip_address?.to_string())),
    derived("mac-mac", "meta-data/network/interfaces/macs/{mac}/mac", |i| Some(eth0(i).mac_address.to_string())),
    leaf("mac-owner-id", "meta-data/network/interfaces/macs/{mac}/owner-id", |i| owned(eth0(i).owner_id.as_ref()), |i, text| eth0_mut(i).owner_id = non_empty(text)),
    leaf("mac-public-hostname", "meta-data/network/interfaces/macs/{mac}/public-hostname", |i| owned(eth0(i).private_ip_addresses[0].association.as_ref()?.public_dns_name.as_ref()), |i, text| {
        if let Some(association) = &mut eth0_mut(i).private_ip_addresses[0].association {
            association.public_dns_name = non_empty(text);
        }
    }),
    derived("mac-public-ipv4s", "meta-data/network/interfaces/macs/{mac}/public-ipv4s", |i| Some(eth0(i).private_ip_addresses[0].association.as_ref()?.public_ip?.to_string())),
    leaf("mac-security-group-ids", "meta-data/network/interfaces/macs/{mac}/security-group-ids", |i| Some(eth0(i).groups[0].group_id.to_string()), |i, text| set_line(&mut eth0_mut(i).groups[0].group_id, text)),
    leaf("mac-security-groups", "meta-data/network/interfaces/macs/{mac}/security-groups", |i| Some(eth0(i).groups[0].group_name.to_string()), |i, text| set_line(&mut eth0_mut(i).groups[0].group_name, text)),
    leaf("mac-subnet-id", "meta-data/network/interfaces/macs/{mac}/subnet-id", |i| owned(eth0(i).subnet_id.as_ref()), |i, text| {
        i.imds.subnets = std::mem::take(&mut i.imds.subnets).into_values().map(|blocks| (text.into(), blocks)).collect();
        i.subnet_id = non_empty(text);
        eth0_mut(i).subnet_id = non_empty(text);
    }),
    derived("mac-subnet-ipv4-cidr-block", "meta-data/network/interfaces/macs/{mac}/subnet-ipv4-cidr-block", |i| owned(i.imds.subnets.values().next()?.ipv4_cidr_blocks.first())),
    derived("mac-subnet-ipv6-cidr-blocks", "meta-data/network/interfaces/macs/{mac}/subnet-ipv6-cidr-blocks", |i| join_lines(&i.imds.subnets.values().next()?.ipv6_cidr_blocks)),
    leaf("mac-vpc-id", "meta-data/network/interfaces/macs/{mac}/vpc-id", |i| owned(eth0(i).vpc_id.as_ref()), |i, text| {
        i.imds.vpcs = std::mem::take(&mut i.imds.vpcs).into_values().map(|blocks| (text.into(), blocks)).collect();
        i.vpc_id = non_empty(text);
        eth0_mut(i).vpc_id = non_empty(text);
    }),
    derived("mac-vpc-ipv4-cidr-block", "meta-data/network/interfaces/macs/{mac}/vpc-ipv4-cidr-block", |i| owned(i.imds.vpcs.values().next()?.ipv4_cidr_blocks.first())),
    derived("mac-vpc-ipv4-cidr-blocks", "meta-data/network/interfaces/macs/{mac}/vpc-ipv4-cidr-blocks", |i| join_lines(&i.imds.vpcs.values().next()?.ipv4_cidr_blocks)),
    derived("mac-vpc-ipv6-cidr-blocks", "meta-data/network/interfaces/macs/{mac}/vpc-ipv6-cidr-blocks", |i| join_lines(&i.imds.vpcs.values().next()?.ipv6_cidr_blocks)),
    leaf("placement-availability-zone", "meta-data/placement/availability-zone", |i| Some(i.placement.availability_zone.to_string()), |i, text| i.placement.availability_zone = text.into()),
    leaf("placement-availability-zone-id", "meta-data/placement/availability-zone-id", |i| owned(i.placement.availability_zone_id.as_ref()), |i, text| i.placement.availability_zone_id = non_empty(text)),
    leaf("placement-group-name", "meta-data/placement/group-name", |i| owned(i.placement.group_name.as_ref()), |i, text| i.placement.group_name = non_empty(text)),
    leaf("placement-host-id", "meta-data/placement/host-id", |i| owned(i.placement.host_id.as_ref()), |i, text| i.placement.host_id = non_empty(text)),
    leaf("placement-partition-number", "meta-data/placement/partition-number", |i| i.placement.partition_number.map(|n| n.to_string()), |i, text| i.placement.partition_number = text.parse().ok()),
    leaf("placement-region", "meta-data/placement/region", |i| Some(i.region().into()), |i, text| i.imds.region = non_empty(text)),
    leaf("product-codes", "meta-data/product-codes", |i| Some(i.product_codes[0].product_code_id.clone()), |i, text| set_line(&mut i.product_codes[0].product_code_id, text)),
    leaf("public-hostname", "meta-data/public-hostname", |i| owned(i.public_dns_name.as_ref()), |i, text| i.public_dns_name = non_empty(text)),
    derived("public-ipv4", "meta-data/public-ipv4", |i| i.public_ip_address.map(|a| a.to_string())),
    leaf("public-key", "meta-data/public-keys/0/openssh-key", |i| owned(i.imds.open_ssh_key.as_ref()), |i, text| {
        // imdsd shows the key under the name of the pair, which is the third word.
        if let (true, Some(name)) = (is_authorized_key(text), text.splitn(3, ' ').nth(2).filter(|name| !name.contains(' '))) {
            i.key_name = non_empty(name);
            i.imds.open_ssh_key = non_empty(text);
        }
    }),
    leaf("ramdisk-id", "meta-data/ramdisk-id", |i| owned(i.ramdisk_id.as_ref()), |i, text| i.ramdisk_id = non_empty(text)),
    leaf("reservation-id", "meta-data/reservation-id", |i| Some(i.reservation_id().into()), |i, text| i.imds.reservation_id = non_empty(text)),
    leaf("security-groups", "meta-data/security-groups", |i| Some(i.security_groups[0].group_name.to_string()), |i, text| set_line(&mut i.security_groups[0].group_name, text)),
    derived("services-domain", "meta-data/services/domain", |i| is_in_aws_partition(i).then(|| "amazonaws.com".into())),
    derived("services-partition", "meta-data/services/partition", |i| is_in_aws_partition(i).then(|| "aws".into())),
    leaf("fws-instance-monitoring", "dynamic/fws/instance-monitoring", |i| Some(i.monitoring.as_ref()?.state.to_string()), |i, text| i.monitoring = Some(Monitoring { state: text.into() })),
];

/// The leaves that imdsd serves only where EC2 has them: the setting and the path.
#[rustfmt::skip]
pub(super) const FIXED_PATHS: &[(&str, &str)] = &[
    ("metadata.paths.elastic-inference-associations", "/latest/meta-data/elastic-inference/associations"),
    ("metadata.paths.events", "/latest/meta-data/events/maintenance/scheduled"),
    ("metadata.paths.scheduled-events", "/latest/meta-data/events/maintenance/scheduled"),
    ("metadata.paths.iam-info", "/latest/meta-data/iam/info"),
    ("metadata.paths.iam-security-credentials-role", "/latest/meta-data/iam/security-credentials"),
    ("metadata.paths.iam-security-credentials", "/latest/meta-data/iam/security-credentials/{role}"),
    ("metadata.paths.spot", "/latest/meta-data/spot/instance-action"),
    ("metadata.paths.spot-itn", "/latest/meta-data/spot/instance-action"),
    ("metadata.paths.spot-termination-time", "/latest/meta-data/spot/termination-time"),
    ("metadata.paths.rebalance-rec-time", "/latest/meta-data/events/recommendations/rebalance"),
    ("metadata.paths.target-lifecycle-state", "/latest/meta-data/autoscaling/target-lifecycle-state"),
    ("metadata.paths.tags-instance-name", "/latest/meta-data/tags/instance/Name"),
    ("metadata.paths.tags-instance-test", "/latest/meta-data/tags/instance/Test"),
    ("metadata.paths.userdata", "/latest/user-data"),
    ("dynamic.paths.instance-identity-document", "/latest/dynamic/instance-identity/document"),
    ("dynamic.paths.instance-identity-pkcs", "/latest/dynamic/instance-identity/pkcs7"),
    ("dynamic.paths.instance-identity-signature", "/latest/dynamic/instance-identity/signature"),
    ("userdata.paths.userdata", "/latest/user-data"),
];

/// Other keys that a misspelled key can be meant to be.
pub(super) const KNOWN_KEYS: &[&str] = &[
    "imdsv2",
    "mock-delay-sec",
    "mock-trigger-time",
    "mock-ip-count",
    "rebalance-delay-sec",
    "rebalance-trigger-time",
    "server.port",
    "server.hostname",
    "spot.action",
    "spot.time",
    "spot.rebalance-rec-time",
    "events.code",
    "events.state",
    "events.not-before",
    "events.not-after",
    "events.not-before-deadline",
    "metadata.values.event-id",
    "userdata.values.userdata",
];

/// Returns the only interface that the mock has.
pub(super) fn eth0(instance: &Instance) -> &NetworkInterface {
    &instance.network_interfaces[0]
}

/// Like [`eth0`], mutable.
pub(super) fn eth0_mut(instance: &mut Instance) -> &mut NetworkInterface {
    &mut instance.network_interfaces[0]
}

/// Returns the letters of a field, if it is present.
fn owned(text: Option<&SharedText>) -> Option<String> {
    text.map(SharedText::to_string)
}

/// Returns a text for a field that is absent rather than empty.
fn non_empty(text: &str) -> Option<SharedText> {
    (!text.is_empty()).then(|| text.into())
}

/// Sets a field if the text can be parsed.
fn parse_into<T: FromStr>(field: &mut T, text: &str) {
    if let Ok(value) = text.parse() {
        *field = value;
    }
}

/// Sets the single element of a list if the text is one line.
fn set_line<T: for<'t> From<&'t str>>(field: &mut T, text: &str) {
    if !text.is_empty() && !text.contains('\n') {
        *field = text.into();
    }
}

/// Returns the values of a list, one in each line; `None` for an empty list.
fn join_lines(values: impl IntoIterator<Item = impl ToString>) -> Option<String> {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    (!values.is_empty()).then(|| values.join("\n"))
}

/// Returns whether the region is in the partition `aws`.
fn is_in_aws_partition(instance: &Instance) -> bool {
    instance.partition().id == "aws"
}
