//! The configuration of amazon-ec2-metadata-mock, AWS's test double of IMDS, as an instance, a timeline and a port.
//!
//! Its keys are read as it reads them: in any letter case, dotted or nested, numbers as texts. Its defaults are those of
//! `config/aemm-instance.json`. What EC2 has a word for goes into the instance; a value that the instance would not show so
//! goes into its overrides, at the mock's path or the one that the file gives it. Events become steps of a timeline that
//! begins when the file is read.
//!
//! Refused: what imdsd can't serve truly, a MAC address that is none, say, or another path for what options, deliveries or
//! signatures decide about. Warned of: what is passed over. Not read: the mock's environment variables and flags.
//! `docs/from-the-mock.md` has every key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::document;
use crate::document::{JsonFile, Place, is_authorized_key, near_miss};
use crate::fault::Fault;
use crate::instance::events::overrides::PathOverride;
use crate::instance::events::timeline::{Step, TimelineChange};
use crate::instance::events::{
    Maintenance, MaintenanceCode, MaintenanceState, Rebalance, SPOT_NOTICE, SpotAction,
    SpotInterruption, TargetLifecycleState,
};
use crate::instance::{
    CredentialSource, HttpTokens, Instance, InstanceId, Ipv6Address, Monitoring, NetworkInterface,
    Overrides, StaticCredentials, Tag, tags,
};
use crate::plain_file;
use crate::secret::Secret;

/// The port of the mock.
pub const PORT: u16 = 1338;

/// What a configuration of the mock comes to.
#[derive(Clone, Debug)]
pub struct Mock {
    /// The instance with its timeline, without an attachment.
    pub instance: Instance,
    /// The loopback address to answer on.
    pub address: Ipv4Addr,
    /// The port to answer on.
    pub port: u16,
    /// What is passed over.
    pub warnings: Vec<Fault>,
}

/// The mock's commands: which events happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MockCommand {
    /// None was given: spot and scheduled events, and what else the file names.
    #[default]
    All,
    /// `spot`
    Spot,
    /// `events`
    Events,
    /// `asglifecycle`
    AsgLifecycle,
}

/// Reads a configuration of the mock, which starts now.
pub fn read(file: &Path, command: MockCommand, start: Timestamp) -> Result<Mock, Vec<Fault>> {
    match plain_file::read_text(file, plain_file::MAX_BYTES) {
        Ok(text) => parse(file, &text, command, start),
        Err(reason) => Err(vec![Fault::of_file(
            file,
            format_args!("can't be read: {reason}"),
        )]),
    }
}

/// The same of a text; `file` stands in faults.
pub fn parse(
    file: &Path,
    text: &str,
    command: MockCommand,
    start: Timestamp,
) -> Result<Mock, Vec<Fault>> {
    let json = JsonFile::of(file, text)?;
    let Value::Object(members) = &json.value else {
        return Err(vec![
            json.fault(&Place::root(), "the mock's configuration is an object"),
        ]);
    };
    let mut given = BTreeMap::new();
    flatten("", &Place::root(), members, &mut given);
    let faults = json.keys_twice();
    let mut mapping = Mapping {
        json: &json,
        given,
        used: BTreeSet::new(),
        faults,
        warnings: Vec::new(),
        start,
    };

    // 1. What names other things goes first: paths depend on it.
    let base = base();
    let mut instance = base.clone();
    instance.imds.overrides = Overrides::default();
    mapping.names(&mut instance);
    mapping.role(&mut instance);
    mapping.tags(&mut instance);
    // 2. Every leaf, where the mock has it.
    mapping.leaves(&base, &mut instance);
    mapping.identity(&mut instance);
    mapping.user_data(&mut instance);
    // 3. The server, and what happens when.
    let (address, port) = mapping.server(&mut instance);
    let steps = mapping.steps(command, &mut instance);
    mapping.passed_over();

    let Mapping {
        mut faults,
        warnings,
        ..
    } = mapping;
    if faults.is_empty() {
        let of_steps = instance.schedule(steps, start).err().into_iter().flatten();
        faults.extend(of_steps.map(|message| Fault::of_file(file, message)));
        let of_instance = document::faults(&instance).into_iter();
        faults.extend(of_instance.map(|fault| fault.in_file(file, 0)));
    }
    match faults.is_empty() {
        true => Ok(Mock {
            instance,
            address,
            port,
            warnings,
        }),
        false => {
            faults.sort_by_key(|fault| fault.line);
            Err(faults)
        }
    }
}

/// What the mock serves without a configuration.
fn base() -> Instance {
    const TEXT: &str = include_str!("../../../config/aemm-instance.json");
    let instances = document::read(Path::new("aemm-instance.json"), TEXT)
        .expect("the built-in document is sound");
    instances.into_iter().next().expect("it has one instance")
}

/// A value that the file gives.
struct Given<'t> {
    place: Place,
    /// Its own name as it is written, for tags.
    name: &'t str,
    value: &'t Value,
}

/// Every value that is no object, by its dotted key in lower case. Nothing stands for `null`, which the mock takes for
/// nothing said.
fn flatten<'t>(
    prefix: &str,
    place: &Place,
    members: &'t Map<String, Value>,
    given: &mut BTreeMap<String, Given<'t>>,
) {
    for (name, value) in members {
        let key = format!("{prefix}{}", name.to_lowercase());
        let place = place.key(name);
        match value {
            Value::Object(members) => flatten(&format!("{key}."), &place, members, given),
            Value::Null => {}
            value => drop(given.insert(key, Given { place, name, value })),
        }
    }
}

/// A leaf that the mock has.
struct Leaf {
    /// What the mock calls its value, and its path.
    key: &'static str,
    /// Below the version; `{mac}`, `{public}` and `{eia}` stand for the instance's.
    path: &'static str,
    /// What an instance shows there without overrides.
    shown: fn(&Instance) -> Option<String>,
    /// Makes an instance show it, where it has a field for it and the text fits the field.
    put: fn(&mut Instance, &str),
}

const META_DATA: &str = "metadata";
const DYNAMIC: &str = "dynamic";

const fn leaf(
    key: &'static str,
    path: &'static str,
    shown: fn(&Instance) -> Option<String>,
    put: fn(&mut Instance, &str),
) -> Leaf {
    Leaf {
        key,
        path,
        shown,
        put,
    }
}

/// A leaf without a field.
const fn bare(
    key: &'static str,
    path: &'static str,
    shown: fn(&Instance) -> Option<String>,
) -> Leaf {
    Leaf {
        key,
        path,
        shown,
        put: |_, _| {},
    }
}

/// A row each, however long it is.
#[rustfmt::skip]
const LEAVES: &[Leaf] = &[
    leaf("ami-id", "meta-data/ami-id", |i| Some(i.image_id.clone()), |i, text| i.image_id = text.into()),
    leaf("ami-launch-index", "meta-data/ami-launch-index", |i| Some(i.ami_launch_index.to_string()), |i, text| put(&mut i.ami_launch_index, text)),
    bare("ami-manifest-path", "meta-data/ami-manifest-path", |_| Some("(unknown)".into())),
    leaf("block-device-mapping-root", "meta-data/block-device-mapping/root", |i| i.root_device_name.clone(), |i, text| i.root_device_name = word(text)),
    bare("block-device-mapping-ami", "meta-data/block-device-mapping/ami", |i| i.root_device_name.clone()),
    bare("block-device-mapping-ebs", "meta-data/block-device-mapping/ebs0", |_| None),
    bare("block-device-mapping-ephemeral", "meta-data/block-device-mapping/ephemeral0", |_| None),
    bare("block-device-mapping-swap", "meta-data/block-device-mapping/swap", |_| None),
    bare("elastic-inference-accelerator", "meta-data/elastic-inference/associations/{eia}", |_| None),
    leaf("hostname", "meta-data/hostname", |i| Some(i.private_host_name().into()), |i, text| i.private_dns_name = word(text)),
    bare("local-hostname", "meta-data/local-hostname", |i| Some(i.private_host_name().into())),
    bare("instance-action", "meta-data/instance-action", |_| Some("none".into())),
    bare("instance-id", "meta-data/instance-id", |i| Some(i.instance_id.to_string())),
    leaf("instance-life-cycle", "meta-data/instance-life-cycle", |i| Some(i.instance_lifecycle.clone().unwrap_or("on-demand".into())), |i, text| i.instance_lifecycle = word(text).filter(|text| text != "on-demand")),
    leaf("instance-type", "meta-data/instance-type", |i| Some(i.instance_type.clone()), |i, text| i.instance_type = text.into()),
    leaf("kernel-id", "meta-data/kernel-id", |i| i.kernel_id.clone(), |i, text| i.kernel_id = word(text)),
    leaf("local-ipv4", "meta-data/local-ipv4", |i| i.primary_private_address().map(|a| a.to_string()), |i, text| {
        if let Ok(address) = text.parse() {
            i.private_ip_address = Some(address);
            eth0(i).private_ip_address = Some(address);
            eth0(i).private_ip_addresses[0].private_ip_address = address;
        }
    }),
    bare("mac", "meta-data/mac", |i| Some(of(i).mac_address.clone())),
    bare("mac-device-number", "meta-data/network/interfaces/macs/{mac}/device-number", |_| Some("0".into())),
    leaf("mac-network-interface-id", "meta-data/network/interfaces/macs/{mac}/interface-id", |i| Some(of(i).network_interface_id.clone()), |i, text| eth0(i).network_interface_id = text.into()),
    bare("mac-network-interface-card-index", "meta-data/network/interfaces/macs/{mac}/network-card-index", |_| None),
    bare("mac-ipv4-associations", "meta-data/network/interfaces/macs/{mac}/ipv4-associations/{public}", |i| Some(of(i).private_ip_address?.to_string())),
    leaf("mac-ipv6-associations", "meta-data/network/interfaces/macs/{mac}/ipv6s", |i| lines(of(i).ipv6_addresses.iter().map(|a| a.ipv6_address)), |i, text| {
        let addresses: Result<Vec<Ipv6Addr>, _> = text.lines().map(str::parse).collect();
        if let Ok(addresses) = addresses {
            eth0(i).ipv6_addresses = addresses.into_iter().map(|ipv6_address| Ipv6Address { ipv6_address }).collect();
        }
    }),
    leaf("mac-local-hostname", "meta-data/network/interfaces/macs/{mac}/local-hostname", |i| of(i).private_dns_name.clone(), |i, text| eth0(i).private_dns_name = word(text)),
    bare("mac-local-ipv4s", "meta-data/network/interfaces/macs/{mac}/local-ipv4s", |i| Some(of(i).private_ip_address?.to_string())),
    bare("mac-mac", "meta-data/network/interfaces/macs/{mac}/mac", |i| Some(of(i).mac_address.clone())),
    leaf("mac-owner-id", "meta-data/network/interfaces/macs/{mac}/owner-id", |i| of(i).owner_id.clone(), |i, text| eth0(i).owner_id = word(text)),
    leaf("mac-public-hostname", "meta-data/network/interfaces/macs/{mac}/public-hostname", |i| of(i).private_ip_addresses[0].association.as_ref()?.public_dns_name.clone(), |i, text| {
        if let Some(association) = &mut eth0(i).private_ip_addresses[0].association {
            association.public_dns_name = word(text);
        }
    }),
    bare("mac-public-ipv4s", "meta-data/network/interfaces/macs/{mac}/public-ipv4s", |i| Some(of(i).private_ip_addresses[0].association.as_ref()?.public_ip?.to_string())),
    leaf("mac-security-group-ids", "meta-data/network/interfaces/macs/{mac}/security-group-ids", |i| Some(of(i).groups[0].group_id.clone()), |i, text| one(&mut eth0(i).groups[0].group_id, text)),
    leaf("mac-security-groups", "meta-data/network/interfaces/macs/{mac}/security-groups", |i| Some(of(i).groups[0].group_name.clone()), |i, text| one(&mut eth0(i).groups[0].group_name, text)),
    leaf("mac-subnet-id", "meta-data/network/interfaces/macs/{mac}/subnet-id", |i| of(i).subnet_id.clone(), |i, text| {
        i.imds.subnets = std::mem::take(&mut i.imds.subnets).into_values().map(|blocks| (text.to_string(), blocks)).collect();
        i.subnet_id = word(text);
        eth0(i).subnet_id = word(text);
    }),
    bare("mac-subnet-ipv4-cidr-block", "meta-data/network/interfaces/macs/{mac}/subnet-ipv4-cidr-block", |i| i.imds.subnets.values().next()?.ipv4_cidr_blocks.first().cloned()),
    bare("mac-subnet-ipv6-cidr-blocks", "meta-data/network/interfaces/macs/{mac}/subnet-ipv6-cidr-blocks", |i| lines(&i.imds.subnets.values().next()?.ipv6_cidr_blocks)),
    leaf("mac-vpc-id", "meta-data/network/interfaces/macs/{mac}/vpc-id", |i| of(i).vpc_id.clone(), |i, text| {
        i.imds.vpcs = std::mem::take(&mut i.imds.vpcs).into_values().map(|blocks| (text.to_string(), blocks)).collect();
        i.vpc_id = word(text);
        eth0(i).vpc_id = word(text);
    }),
    bare("mac-vpc-ipv4-cidr-block", "meta-data/network/interfaces/macs/{mac}/vpc-ipv4-cidr-block", |i| i.imds.vpcs.values().next()?.ipv4_cidr_blocks.first().cloned()),
    bare("mac-vpc-ipv4-cidr-blocks", "meta-data/network/interfaces/macs/{mac}/vpc-ipv4-cidr-blocks", |i| lines(&i.imds.vpcs.values().next()?.ipv4_cidr_blocks)),
    bare("mac-vpc-ipv6-cidr-blocks", "meta-data/network/interfaces/macs/{mac}/vpc-ipv6-cidr-blocks", |i| lines(&i.imds.vpcs.values().next()?.ipv6_cidr_blocks)),
    leaf("placement-availability-zone", "meta-data/placement/availability-zone", |i| Some(i.placement.availability_zone.clone()), |i, text| i.placement.availability_zone = text.into()),
    leaf("placement-availability-zone-id", "meta-data/placement/availability-zone-id", |i| i.placement.availability_zone_id.clone(), |i, text| i.placement.availability_zone_id = word(text)),
    leaf("placement-group-name", "meta-data/placement/group-name", |i| i.placement.group_name.clone(), |i, text| i.placement.group_name = word(text)),
    leaf("placement-host-id", "meta-data/placement/host-id", |i| i.placement.host_id.clone(), |i, text| i.placement.host_id = word(text)),
    leaf("placement-partition-number", "meta-data/placement/partition-number", |i| i.placement.partition_number.map(|n| n.to_string()), |i, text| i.placement.partition_number = text.parse().ok()),
    leaf("placement-region", "meta-data/placement/region", |i| Some(i.region().into()), |i, text| i.imds.region = word(text)),
    leaf("product-codes", "meta-data/product-codes", |i| Some(i.product_codes[0].product_code_id.clone()), |i, text| one(&mut i.product_codes[0].product_code_id, text)),
    leaf("public-hostname", "meta-data/public-hostname", |i| i.public_dns_name.clone(), |i, text| i.public_dns_name = word(text)),
    bare("public-ipv4", "meta-data/public-ipv4", |i| i.public_ip_address.map(|a| a.to_string())),
    leaf("public-key", "meta-data/public-keys/0/openssh-key", |i| i.imds.open_ssh_key.clone(), |i, text| {
        // imdsd shows the key under the pair's name, which is the third word.
        if let (true, Some(name)) = (is_authorized_key(text), text.splitn(3, ' ').nth(2).filter(|name| !name.contains(' '))) {
            i.key_name = word(name);
            i.imds.open_ssh_key = word(text);
        }
    }),
    leaf("ramdisk-id", "meta-data/ramdisk-id", |i| i.ramdisk_id.clone(), |i, text| i.ramdisk_id = word(text)),
    leaf("reservation-id", "meta-data/reservation-id", |i| Some(i.reservation_id().into()), |i, text| i.imds.reservation_id = word(text)),
    leaf("security-groups", "meta-data/security-groups", |i| Some(i.security_groups[0].group_name.clone()), |i, text| one(&mut i.security_groups[0].group_name, text)),
    bare("services-domain", "meta-data/services/domain", |i| is_of_aws(i).then(|| "amazonaws.com".into())),
    bare("services-partition", "meta-data/services/partition", |i| is_of_aws(i).then(|| "aws".into())),
    leaf("fws-instance-monitoring", "dynamic/fws/instance-monitoring", |i| Some(i.monitoring.as_ref()?.state.clone()), |i, text| i.monitoring = Some(Monitoring { state: text.into() })),
];

/// Paths that stay where EC2 has them, and what decides about each.
#[rustfmt::skip]
const FIXED: &[(&str, &str)] = &[
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

/// A configuration on its way to an instance.
struct Mapping<'t> {
    json: &'t JsonFile<'t>,
    given: BTreeMap<String, Given<'t>>,
    used: BTreeSet<String>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    start: Timestamp,
}

impl Mapping<'_> {
    /// The ids by which other paths are named.
    fn names(&mut self, instance: &mut Instance) {
        if let Some(id) = self.text("metadata.values.instance-id") {
            match InstanceId::parse(&id) {
                Some(id) => instance.instance_id = id,
                None => self.refuse(
                    "metadata.values.instance-id",
                    "an instance id is i- and 8 or 17 hexadecimal digits",
                ),
            }
        }
        if let Some(mac) = self.text("metadata.values.mac") {
            eth0(instance).mac_address = mac.to_lowercase();
            let pairs: Vec<&str> = mac.split(':').collect();
            if pairs.len() != 6
                || !pairs
                    .iter()
                    .all(|pair| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok())
            {
                let message = "a MAC address is six pairs of hexadecimal digits between colons; to show another text, set \
                               mac-mac, or meta-data/mac in Imds.Overrides of an instance document";
                self.refuse("metadata.values.mac", message);
            }
        }
        if let Some(address) = self.text("metadata.values.public-ipv4")
            && let Ok(address) = address.parse()
        {
            instance.public_ip_address = Some(address);
            if let Some(association) = &mut eth0(instance).private_ip_addresses[0].association {
                association.public_ip = Some(address);
            }
        }
    }

    fn role(&mut self, instance: &mut Instance) {
        let Some(role) = &mut instance.imds.role else {
            return;
        };
        if let Some(name) = self.text("metadata.values.iam-security-credentials-role") {
            role.role_name = name;
        }
        if let (Some(profile), Some(arn)) = (
            &mut instance.iam_instance_profile,
            self.text("metadata.values.iam-info.instanceprofilearn"),
        ) {
            profile.arn = arn;
        }
        if let (Some(profile), Some(id)) = (
            &mut instance.iam_instance_profile,
            self.text("metadata.values.iam-info.instanceprofileid"),
        ) {
            profile.id = id;
        }

        let of = |field: &str| format!("metadata.values.iam-security-credentials.{field}");
        let CredentialSource::Static(source) = &mut role.source else {
            return;
        };
        let mut credentials: StaticCredentials = source.v2.clone();
        if let Some(id) = self.text(&of("accesskeyid")) {
            credentials.access_key_id = id;
        }
        if let Some(secret) = self.text(&of("secretaccesskey")) {
            credentials.secret_access_key = Secret::new(secret);
        }
        if let Some(token) = self.text(&of("token")) {
            credentials.session_token = Secret::new(token);
        }
        if let Some(end) = self.time(&of("expiration")) {
            match end > self.start {
                true => credentials.expiration = Some(end),
                false => self.warn(
                    &of("expiration"),
                    "is past: imdsd serves no expired credentials, and shows an end to come",
                ),
            }
        }
        // The mock gives one set to reads with and without a token.
        source.v1 = Some(credentials.clone());
        source.v2 = credentials;

        for field in ["metadata.values.iam-info.code".to_string(), of("code")] {
            if self.text(&field).is_some_and(|code| code != "Success") {
                self.warn(
                    &field,
                    "is passed over: a failure is what imdsd shows when a role's source fails",
                );
            }
        }
        for field in [
            "metadata.values.iam-info.lastupdated".to_string(),
            of("lastupdated"),
            of("type"),
        ] {
            self.text(&field);
        }
    }

    fn tags(&mut self, instance: &mut Instance) {
        const PREFIX: &str = "metadata.values.tags-instance.";
        let keys: Vec<String> = self
            .given
            .keys()
            .filter(|key| key.starts_with(PREFIX))
            .cloned()
            .collect();
        if !keys.is_empty() {
            instance.tags.clear();
        }
        let tag = |mapping: &mut Self, instance: &mut Instance, given: &str, key: String| {
            let Some(value) = mapping.text(given) else {
                return;
            };
            if !tags::key_fits_metadata(&key) {
                mapping.refuse(
                    given,
                    "a tag key in metadata has letters, digits and -_+=,.@: only",
                );
            }
            instance.tags.retain(|tag| tag.key != key);
            instance.tags.push(Tag { key, value });
        };
        for given in keys {
            let name = self.given[&given].name.to_string();
            tag(self, instance, &given, name);
        }
        tag(
            self,
            instance,
            "metadata.values.tags-instance-name",
            "Name".to_string(),
        );
        tag(
            self,
            instance,
            "metadata.values.tags-instance-test",
            "Test".to_string(),
        );
    }

    /// Every leaf of the table: what the instance does not show by itself is overridden.
    fn leaves(&mut self, base: &Instance, instance: &mut Instance) {
        let given: Vec<Option<String>> = LEAVES.iter().map(|leaf| self.value(leaf)).collect();
        for (leaf, value) in LEAVES.iter().zip(&given) {
            if let Some(value) = value {
                (leaf.put)(instance, value);
            }
        }
        let eia = self.text("metadata.values.elastic-inference-associations");
        let before = Names::of(base, None, None);
        let now = Names::of(instance, self.text("metadata.values.public-ipv4"), eia);
        for (leaf, value) in LEAVES.iter().zip(given) {
            let of_base = before.path(leaf.path);
            let by_default = || match base.imds.overrides.of(&of_base) {
                PathOverride::Set(text) => Some(text.to_string()),
                PathOverride::Hidden | PathOverride::NotOverridden => (leaf.shown)(base),
            };
            let value = value.or_else(by_default);
            let path = now.path(leaf.path);
            let shown = (leaf.shown)(instance);
            match self.path_of(leaf, &before, &now) {
                // Where EC2 has it.
                None => {
                    if value != shown {
                        instance.imds.overrides.put(&path, value);
                    }
                }
                Some(elsewhere) => {
                    instance.imds.overrides.put(&path, None);
                    if !elsewhere.is_empty() {
                        instance.imds.overrides.put(&elsewhere, value);
                    }
                }
            }
        }
        for (key, path) in FIXED {
            let role = instance
                .imds
                .role
                .as_ref()
                .map(|role| role.role_name.as_str())
                .unwrap_or_default();
            let path = path.replace("{role}", role);
            if let Some(given) = self.text(key)
                && before.replaced(&given, &now).replace("baskinc-role", role) != path
            {
                self.refuse(
                    key,
                    &format!("imdsd serves this at {path}, as EC2 does, and nowhere else"),
                );
            }
        }
    }

    /// What the file gives for a leaf; an object is one line of JSON.
    fn value(&mut self, leaf: &Leaf) -> Option<String> {
        let key = format!("{}.values.{}", leaf.section(), leaf.key);
        if let Some(text) = self.text(&key) {
            return Some(text);
        }
        let below = format!("{key}.");
        let keys: Vec<String> = self
            .given
            .keys()
            .filter(|given| given.starts_with(&below))
            .cloned()
            .collect();
        self.used.extend(keys.iter().cloned());
        let mut found = &self.json.value;
        for name in key.split('.') {
            found = found
                .as_object()?
                .iter()
                .find(|(member, _)| member.to_lowercase() == name)?
                .1;
        }
        (!keys.is_empty()).then(|| found.to_string())
    }

    /// Where the file puts a leaf, below the version; `None` where that is where EC2 has it. Empty: nowhere.
    fn path_of(&mut self, leaf: &Leaf, before: &Names, now: &Names) -> Option<String> {
        let key = format!("{}.paths.{}", leaf.section(), leaf.key);
        let given = self.text(&key)?;
        let path = before.replaced(&given, now);
        if path.is_empty() {
            return Some(path);
        }
        match path
            .strip_prefix("/latest/")
            .map(|path| path.trim_end_matches('/'))
        {
            Some(below) if below == now.path(leaf.path) => None,
            Some(below) if below.starts_with("meta-data/") || below.starts_with("dynamic/") => {
                Some(below.to_string())
            }
            _ => {
                self.refuse(
                    &key,
                    "a path begins with /latest/meta-data/ or /latest/dynamic/",
                );
                None
            }
        }
    }

    /// The identity document is imdsd's to make and to sign; what it follows is taken.
    fn identity(&mut self, instance: &mut Instance) {
        const DOCUMENT: &str = "dynamic.values.instance-identity-document";
        let of = |field: &str| format!("{DOCUMENT}.{field}");
        let mut apart = Vec::new();
        match self.text(&of("accountid")) {
            Some(account) if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) => {
                instance.imds.owner_id = Some(account);
            }
            Some(_) => apart.push("accountId (an account has 12 digits)"),
            None => {}
        }
        if let Some(launched) = self.time(&of("pendingtime")) {
            instance.launch_time = launched;
        }
        if let Some(architecture) = self.text(&of("architecture")) {
            instance.architecture = architecture;
        }
        let private = instance
            .primary_private_address()
            .map(|address| address.to_string());
        for (field, name, is) in [
            ("imageid", "imageId", Some(instance.image_id.clone())),
            (
                "availabilityzone",
                "availabilityZone",
                Some(instance.placement.availability_zone.clone()),
            ),
            ("region", "region", Some(instance.region().to_string())),
            ("privateip", "privateIp", private),
            (
                "instanceid",
                "instanceId",
                Some(instance.instance_id.to_string()),
            ),
            (
                "instancetype",
                "instanceType",
                Some(instance.instance_type.clone()),
            ),
            ("kernelid", "kernelId", instance.kernel_id.clone()),
            ("ramdiskid", "ramdiskId", instance.ramdisk_id.clone()),
            ("version", "version", Some("2017-09-30".to_string())),
            ("devpayproductcodes", "devpayProductCodes", None),
            ("marketplaceproductcodes", "marketplaceProductCodes", None),
            ("billingproducts", "billingProducts", None),
        ] {
            let said = self.text(&of(field));
            if said.is_some() && said != is {
                apart.push(name);
            }
        }
        if !apart.is_empty() {
            let message = format!(
                "the document is signed and follows the instance, so these are passed over: {}; set metadata.values",
                apart.join(", ")
            );
            self.warn(DOCUMENT, &message);
        }
        for key in [
            "dynamic.values.instance-identity-pkcs",
            "dynamic.values.instance-identity-signature",
        ] {
            if self.text(key).is_some() {
                self.warn(
                    key,
                    "is passed over: imdsd signs the document it serves; see docs/identity.md",
                );
            }
        }
    }

    /// In base64, as the mock has it since 1.11; what is no base64 is taken as it stands, as by those before.
    fn user_data(&mut self, instance: &mut Instance) {
        for key in ["metadata.values.userdata", "userdata.values.userdata"] {
            let Some(text) = self.text(key) else { continue };
            let encoded = BASE64.decode(&text).is_ok();
            (instance.imds.user_data, instance.imds.user_data_text) = if encoded {
                (Some(text), None)
            } else {
                (None, Some(text))
            };
        }
    }

    fn server(&mut self, instance: &mut Instance) -> (Ipv4Addr, u16) {
        let port = match self.text("server.port").map(|port| port.parse::<u16>()) {
            None => PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => {
                self.refuse("server.port", "a port is 1 to 65535");
                PORT
            }
        };
        const ELSEWHERE: &str = "a configuration of the mock is served on loopback; for guests elsewhere write a \
                                 configuration (--config) with a [[listener]], and an instance document";
        let name = self.text("server.hostname").unwrap_or_default();
        let address = match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) if address.is_loopback() => address,
            Ok(address) if address.is_unspecified() => {
                self.warn("server.hostname", ELSEWHERE);
                Ipv4Addr::LOCALHOST
            }
            Ok(IpAddr::V6(address)) if address.is_loopback() => Ipv4Addr::LOCALHOST,
            Err(_) if name.is_empty() || name.eq_ignore_ascii_case("localhost") => {
                Ipv4Addr::LOCALHOST
            }
            Ok(_) | Err(_) => {
                self.refuse("server.hostname", ELSEWHERE);
                Ipv4Addr::LOCALHOST
            }
        };
        if let Some(required) = self.text("imdsv2") {
            match required.to_lowercase().as_str() {
                "true" | "1" => instance.metadata_options.http_tokens = HttpTokens::Required,
                "false" | "0" | "" => instance.metadata_options.http_tokens = HttpTokens::Optional,
                _ => self.refuse(
                    "imdsv2",
                    "is true or false; imdsd calls it HttpTokens, required or optional",
                ),
            }
        }
        for key in ["save-config-to-file", "watch-config-file"] {
            if self.text(key).is_some_and(|text| text != "false") {
                self.warn(key, "is passed over; imdsd keeps instances in its state directory, and changes them live");
            }
        }
        self.text("config-file");
        (address, port)
    }

    /// What happens, and when. What EC2 would not show yet is absent until then.
    fn steps(&mut self, command: MockCommand, instance: &mut Instance) -> Vec<Step> {
        let told = self.moment("mock-trigger-time", "mock-delay-sec");
        let recommended = self.moment("rebalance-trigger-time", "rebalance-delay-sec");
        let mut steps = Vec::new();

        let action = self.word::<SpotAction>(&[
            "spot.action",
            "spot.instance-action",
            "spot-itn.instance-action",
        ]);
        let action = action.unwrap_or(SpotAction::Terminate);
        let lead = if action == SpotAction::Hibernate {
            SignedDuration::ZERO
        } else {
            SPOT_NOTICE
        };
        let time = self.first_time(&[
            "spot.time",
            "spot.termination-time",
            "spot-itn.time",
            "spot-itn.termination-time",
        ]);
        let notice = self.time("spot.rebalance-rec-time");
        if matches!(command, MockCommand::All | MockCommand::Spot) {
            let time = time.or(told.checked_add(lead).ok()).unwrap_or(told);
            let spot = SpotInterruption {
                action,
                time,
                notice_time: Some(told),
            };
            steps.push(Step {
                at: told,
                set: TimelineChange::Spot(spot),
            });
            let rebalance = Rebalance {
                notice_time: notice.unwrap_or(recommended),
            };
            steps.push(Step {
                at: recommended,
                set: TimelineChange::Rebalance(rebalance),
            });
        }

        let event = self.maintenance();
        if matches!(command, MockCommand::All | MockCommand::Events) {
            steps.push(Step {
                at: told,
                set: TimelineChange::Maintenance(event),
            });
        }

        let named =
            |key: &String| key.starts_with("asg-termination-") || key.starts_with("autoscaling.");
        let is_named = self.given.keys().any(named);
        let ended = self.moment("asg-termination-trigger-time", "asg-termination-delay-sec");
        let states = self.lifecycle();
        if command == MockCommand::AsgLifecycle || (command == MockCommand::All && is_named) {
            instance.imds.events.target_lifecycle_state = Some(TargetLifecycleState::InService);
            let state = |(at, state)| Step {
                at,
                set: TimelineChange::TargetLifecycleState(state),
            };
            match states.is_empty() {
                true => steps.push(state((ended, TargetLifecycleState::Terminated))),
                false => steps.extend(states.into_iter().map(state)),
            }
        }

        match self.number("mock-ip-count") {
            Some(0) => return Vec::new(),
            // The mock's default, and everybody.
            None | Some(2 | ..0) => {}
            Some(_) => {
                let message = "is passed over: imdsd tells guests apart as instances, and an event says for which it is";
                self.warn("mock-ip-count", message);
            }
        }
        steps.sort_by_key(|step| step.at);
        steps
    }

    fn maintenance(&mut self) -> Maintenance {
        let key = |field: &str| {
            [
                format!("events.{field}"),
                format!("scheduled-events.{field}"),
            ]
        };
        let mut time = |field: &str, days: i64| {
            let [one, other] = key(field);
            let later = self
                .start
                .checked_add(SignedDuration::from_hours(24 * days))
                .unwrap_or(self.start);
            self.first_time(&[&one, &other]).unwrap_or(later)
        };
        let (not_before, not_after, deadline) = (
            time("not-before", 0),
            time("not-after", 7),
            time("not-before-deadline", 9),
        );
        let ([code, older_code], [state, older_state]) = (key("code"), key("state"));
        let code = self
            .word::<MaintenanceCode>(&[&code, &older_code])
            .unwrap_or(MaintenanceCode::SystemReboot);
        let state = self
            .word::<MaintenanceState>(&[&state, &older_state])
            .unwrap_or_default();
        let id = self.text("metadata.values.event-id");
        Maintenance {
            event_id: id.unwrap_or_else(|| "instance-event-1234567890abcdef0".to_string()),
            code,
            description: code.usual_description().to_string(),
            not_before,
            not_after: Some(not_after),
            not_before_deadline: Some(deadline),
            state,
        }
    }

    /// `["InService", "2m", "Terminated"]`: states with times or lengths of time between them.
    fn lifecycle(&mut self) -> Vec<(Timestamp, TargetLifecycleState)> {
        const KEY: &str = "autoscaling.target-lifecycle-state";
        let Some(Given { value, .. }) = self.given.get(KEY) else {
            return Vec::new();
        };
        self.used.insert(KEY.to_string());
        let words: Option<Vec<&str>> = value
            .as_array()
            .and_then(|words| words.iter().map(Value::as_str).collect());
        let read = |words: Vec<&str>| {
            let mut at = self.start;
            let mut states = Vec::new();
            for (index, word) in words.iter().enumerate() {
                if index % 2 == 0 {
                    states.push((at, word_as(word)?));
                } else {
                    let length = || {
                        word.parse::<SignedDuration>()
                            .ok()
                            .filter(|length| !length.is_negative())
                    };
                    at = word
                        .parse()
                        .ok()
                        .or_else(|| at.checked_add(length()?).ok())?;
                }
            }
            (words.len() % 2 == 1).then_some(states)
        };
        let states = words.and_then(read);
        if states.is_none() {
            let message = "is states with a time or a length of time between them: [\"InService\", \"2m\", \"Terminated\"]";
            self.refuse(KEY, message);
        }
        states.unwrap_or_default()
    }

    /// A time by the clock, or a number of seconds after the start; the first goes before the second.
    fn moment(&mut self, time: &str, delay: &str) -> Timestamp {
        let seconds = self.number(delay).unwrap_or(0).max(0);
        let after = self.start.checked_add(SignedDuration::from_secs(seconds));
        if after.is_err() {
            self.refuse(delay, "is too far ahead");
        }
        self.time(time).unwrap_or(after.unwrap_or(self.start))
    }

    /// A value of the file as a text; none where it is of another kind, which is refused.
    fn text(&mut self, key: &str) -> Option<String> {
        let given = self.given.get(key)?;
        self.used.insert(key.to_string());
        match given.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                self.refuse(key, "this is a text");
                None
            }
        }
    }

    fn number(&mut self, key: &str) -> Option<i64> {
        let text = self.text(key).filter(|text| !text.is_empty())?;
        let number = text.parse().ok();
        if number.is_none() {
            self.refuse(key, "this is a whole number");
        }
        number
    }

    /// The mock takes an empty text for none.
    fn time(&mut self, key: &str) -> Option<Timestamp> {
        let text = self.text(key).filter(|text| !text.is_empty())?;
        let time = text.parse().ok();
        if time.is_none() {
            self.refuse(key, "a time is 2020-01-07T01:03:47Z, or with an offset");
        }
        time
    }

    fn first_time(&mut self, keys: &[&str]) -> Option<Timestamp> {
        let times: Vec<_> = keys.iter().map(|key| self.time(key)).collect();
        times.into_iter().flatten().next()
    }

    /// The first of several spellings that is given, as one of EC2's words.
    fn word<T: DeserializeOwned>(&mut self, keys: &[&str]) -> Option<T> {
        let words: Vec<_> = keys.iter().map(|key| (*key, self.text(key))).collect();
        let (key, text) = words
            .into_iter()
            .find_map(|(key, text)| Some((key, text.filter(|text| !text.is_empty())?)))?;
        match serde_json::from_value(Value::String(text)) {
            Ok(word) => Some(word),
            Err(error) => {
                self.refuse(key, &error.to_string().replace('`', "'"));
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, message: &str) {
        let fault = self.fault(key, message);
        self.faults.push(fault);
    }

    fn warn(&mut self, key: &str, message: &str) {
        let fault = self.fault(key, message);
        self.warnings.push(fault);
    }

    /// A fault at a key, or where the first below it stands.
    fn fault(&self, key: &str, message: &str) -> Fault {
        let below = format!("{key}.");
        let exact = self.given.get(key).map(|given| given.place.clone());
        let first = || {
            self.given
                .iter()
                .find(|(given, _)| given.starts_with(&below))
                .map(|(_, given)| given.place.clone())
        };
        let place = exact.or_else(first).unwrap_or(Place::root());
        Fault {
            field: key.to_string(),
            ..self.json.fault(&place, message)
        }
    }

    /// What nobody asked for is passed over, as the mock does.
    fn passed_over(&mut self) {
        let unused: Vec<String> = self
            .given
            .keys()
            .filter(|key| !self.used.contains(*key))
            .cloned()
            .collect();
        let known: Vec<String> = LEAVES
            .iter()
            .flat_map(|leaf| {
                ["values", "paths"].map(|kind| format!("{}.{kind}.{}", leaf.section(), leaf.key))
            })
            .chain(KNOWN.iter().map(ToString::to_string))
            .collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        for key in unused {
            let hint = near_miss(&key, &known)
                .map(|meant| format!("; did you mean {meant}?"))
                .unwrap_or_default();
            self.warn(&key, &format!("is not known, and passed over{hint}"));
        }
    }
}

/// What else may be meant by a key that is not known.
const KNOWN: &[&str] = &[
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

impl Leaf {
    /// Where the mock has its value and its path.
    fn section(&self) -> &'static str {
        if self.path.starts_with("dynamic/") {
            DYNAMIC
        } else {
            META_DATA
        }
    }
}

/// What paths are named by.
struct Names {
    mac: String,
    public: String,
    eia: String,
}

impl Names {
    /// Of an instance; the mock's default names it where the file does not.
    fn of(instance: &Instance, public: Option<String>, eia: Option<String>) -> Names {
        let address = || {
            instance
                .public_ip_address
                .map(|address| address.to_string())
        };
        Names {
            mac: of(instance).mac_address.clone(),
            public: public.or_else(address).unwrap_or_default(),
            eia: eia.unwrap_or_else(|| "eia-bfa21c7904f64a82a21b9f4540169ce1".to_string()),
        }
    }

    fn path(&self, path: &str) -> String {
        path.replace("{mac}", &self.mac)
            .replace("{public}", &self.public)
            .replace("{eia}", &self.eia)
    }

    /// The mock puts the names in force into paths that have its default names.
    fn replaced(&self, path: &str, now: &Names) -> String {
        path.replace(&self.mac, &now.mac)
            .replace(&self.public, &now.public)
            .replace(&self.eia, &now.eia)
    }
}

/// The one interface that the mock has.
fn of(instance: &Instance) -> &NetworkInterface {
    &instance.network_interfaces[0]
}

fn eth0(instance: &mut Instance) -> &mut NetworkInterface {
    &mut instance.network_interfaces[0]
}

/// A field that is absent rather than empty.
fn word(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

/// A field that takes the text if it can.
fn put<T: std::str::FromStr>(field: &mut T, text: &str) {
    if let Ok(value) = text.parse() {
        *field = value;
    }
}

/// A field of a list that has one element here.
fn one(field: &mut String, text: &str) {
    if !text.is_empty() && !text.contains('\n') {
        *field = text.to_string();
    }
}

fn lines(values: impl IntoIterator<Item = impl ToString>) -> Option<String> {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    (!values.is_empty()).then(|| values.join("\n"))
}

fn is_of_aws(instance: &Instance) -> bool {
    !["cn-", "us-gov-", "us-iso"]
        .iter()
        .any(|other| instance.region().starts_with(other))
}

fn word_as<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(Value::String(word.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn start() -> Timestamp {
        "2026-05-17T08:30:00Z".parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        start() + SignedDuration::from_secs(second)
    }

    fn of(config: &Value, command: MockCommand) -> Result<Mock, Vec<String>> {
        let mock = parse(Path::new("a.json"), &config.to_string(), command, start());
        mock.map_err(|faults| faults.iter().map(Fault::to_string).collect())
    }

    fn read(config: Value) -> Mock {
        of(&config, MockCommand::All).unwrap_or_else(|faults| panic!("{faults:#?}"))
    }

    fn warnings(mock: &Mock) -> Vec<&str> {
        mock.warnings
            .iter()
            .map(|warning| warning.field.as_str())
            .collect()
    }

    #[test]
    fn an_empty_configuration_is_the_mocks_defaults() {
        let mock = read(json!({}));
        assert_eq!((mock.address, mock.port), (Ipv4Addr::LOCALHOST, 1338));
        assert_eq!(warnings(&mock), [""; 0]);
        let mut instance = mock.instance;
        assert!(
            instance.imds.timeline.is_empty(),
            "what is told at once is no step any more"
        );
        instance.imds.events = Default::default();
        assert_eq!(instance, base());
    }

    /// The mock's saved configuration: everything is in it, in lower case, and nothing of it is new.
    #[test]
    fn a_saved_configuration_is_the_mocks_defaults_too() {
        let text = include_str!("../../../tests/data/aemm-config-saved.json");
        let mock = parse(Path::new("a.json"), text, MockCommand::All, start())
            .unwrap_or_else(|faults| panic!("{faults:#?}"));
        assert_eq!(
            warnings(&mock),
            [
                "metadata.values.iam-security-credentials.expiration",
                "dynamic.values.instance-identity-document",
                "dynamic.values.instance-identity-pkcs",
                "dynamic.values.instance-identity-signature",
                "server.hostname",
                "save-config-to-file",
            ]
        );
        let mut instance = mock.instance;
        instance.imds.events = Default::default();
        assert_eq!(instance, base());
    }

    #[test]
    fn a_value_goes_into_the_instance_and_where_there_is_no_field_into_its_overrides() {
        let mock = read(json!({ "metadata": { "values": {
            "ami-id": "ami-1", "instance-type": "m7i.large", "local-ipv4": "10.0.0.9", "mac": "0E:49:61:0f:c3:77",
            "public-ipv4": "203.0.113.7", "hostname": "h", "instance-action": "shutdown", "ami-launch-index": 3,
            "iam-security-credentials-role": "web", "tags-instance": { "Team": "x", "cost": "1" },
            "iam-security-credentials": { "AccessKeyId": "AKID", "SecretAccessKey": "s", "Token": "t" },
            "mac-mac": "FOO", "security-groups": "a\nb", "placement-availability-zone": "us-east-1b" } } }));
        let instance = &mock.instance;
        assert_eq!(instance.image_id, "ami-1");
        assert_eq!(instance.ami_launch_index, 3);
        assert_eq!(
            instance.network_interfaces[0].mac_address,
            "0e:49:61:0f:c3:77"
        );
        assert_eq!(
            instance.primary_private_address().unwrap().to_string(),
            "10.0.0.9"
        );
        assert_eq!(instance.imds.role.as_ref().unwrap().role_name, "web");
        let tags: Vec<_> = instance
            .tags
            .iter()
            .map(|tag| (tag.key.as_str(), tag.value.as_str()))
            .collect();
        assert_eq!(tags, [("cost", "1"), ("Team", "x")]);
        let CredentialSource::Static(source) = &instance.imds.role.as_ref().unwrap().source else {
            panic!()
        };
        assert_eq!(source.v1.as_ref(), Some(&source.v2));
        assert_eq!(source.v2.access_key_id, "AKID");
        let macs = "meta-data/network/interfaces/macs/0e:49:61:0f:c3:77";
        for (path, text) in [
            ("meta-data/mac".to_string(), "0E:49:61:0f:c3:77"),
            (format!("{macs}/mac"), "FOO"),
            (format!("{macs}/network-card-index"), "0"),
            (
                format!("{macs}/ipv4-associations/203.0.113.7"),
                "192.0.2.54",
            ),
            (format!("{macs}/local-ipv4s"), "172.16.34.43"),
            (format!("{macs}/public-ipv4s"), "192.0.2.54"),
            (
                "meta-data/local-hostname".to_string(),
                "ip-172-16-34-43.ec2.internal",
            ),
            ("meta-data/instance-action".to_string(), "shutdown"),
            ("meta-data/security-groups".to_string(), "a\nb"),
        ] {
            assert_eq!(
                instance.imds.overrides.of(&path),
                PathOverride::Set(text),
                "{path}"
            );
        }
        for path in [
            "meta-data/ami-id",
            "meta-data/hostname",
            "meta-data/public-ipv4",
            "meta-data/placement/region",
        ] {
            assert_eq!(
                instance.imds.overrides.of(path),
                PathOverride::NotOverridden,
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_of_ones_own_takes_the_value_from_where_ec2_has_it() {
        let mock = read(json!({ "metadata": {
            "paths": {
                "mac-device-number": "/latest/meta-data/network/interfaces/macs/BAR/device-number",
                "ami-id": "/latest/meta-data/own/ami", "system": "/latest/meta-data/system", "kernel-id": "",
                "mac-vpc-id": "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:11/vpc-id",
                "ipv4-associations": "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:77/ipv4-associations/192.0.2.54"
            },
            "values": { "mac": "0e:49:61:0f:c3:77" }
        } }));
        let overrides = &mock.instance.imds.overrides;
        let macs = "meta-data/network/interfaces/macs";
        for (path, said) in [
            (format!("{macs}/BAR/device-number"), PathOverride::Set("0")),
            (
                format!("{macs}/0e:49:61:0f:c3:77/device-number"),
                PathOverride::Hidden,
            ),
            (
                format!("{macs}/0e:49:61:0f:c3:77/vpc-id"),
                PathOverride::NotOverridden,
            ),
            (
                "meta-data/own/ami".to_string(),
                PathOverride::Set("ami-0a887e401f7654935"),
            ),
            ("meta-data/ami-id".to_string(), PathOverride::Hidden),
            ("meta-data/kernel-id".to_string(), PathOverride::Hidden),
        ] {
            assert_eq!(overrides.of(&path), said, "{path}");
        }
        assert_eq!(
            warnings(&mock),
            ["metadata.paths.ipv4-associations", "metadata.paths.system"]
        );
    }

    /// What a guest could be shown: spot, rebalance, scheduled, history, lifecycle.
    fn shown(mock: &Mock, second: i64) -> (bool, bool, bool, bool, &'static str) {
        let (now, events) = (at(second), mock.instance.events_at(at(second)));
        (
            events.spot_instance_action(now).is_some(),
            events.rebalance_recommendation(now).is_some(),
            events.maintenance_scheduled() != "[]",
            events.maintenance_history() != "[]",
            events
                .target_lifecycle_state
                .map_or("", TargetLifecycleState::as_str),
        )
    }

    #[test]
    #[rustfmt::skip]
    fn events_happen_when_the_mocks_would() {
        let all = MockCommand::All;
        for (config, command, second, expected) in [
            (json!({}), all, 0, (true, true, true, false, "")),
            (json!({}), MockCommand::Spot, 0, (true, true, false, false, "")),
            (json!({}), MockCommand::Events, 0, (false, false, true, false, "")),
            (json!({}), MockCommand::AsgLifecycle, 0, (false, false, false, false, "Terminated")),
            (json!({ "mock-delay-sec": 12 }), all, 11, (false, true, false, false, "")),
            (json!({ "mock-delay-sec": "12" }), all, 12, (true, true, true, false, "")),
            (json!({ "mock-delay-sec": 12, "mock-trigger-time": "2026-05-17T03:30:20-05:00" }), all, 19, (false, true, false, false, "")),
            (json!({ "mock-delay-sec": 12, "mock-trigger-time": "2026-05-17T03:30:20-05:00" }), all, 20, (true, true, true, false, "")),
            (json!({ "mock-trigger-time": "" }), all, 0, (true, true, true, false, "")),
            (json!({ "rebalance-delay-sec": 5 }), all, 4, (true, false, true, false, "")),
            (json!({ "rebalance-delay-sec": 5 }), all, 5, (true, true, true, false, "")),
            (json!({ "rebalance-trigger-time": "2026-05-17T08:31:00Z" }), all, 59, (true, false, true, false, "")),
            (json!({ "rebalance-trigger-time": "2026-05-17T08:31:00Z" }), all, 60, (true, true, true, false, "")),
            (json!({ "events": { "state": "completed" } }), all, 0, (true, true, false, true, "")),
            (json!({ "scheduled-events": { "state": "canceled" } }), all, 0, (true, true, false, true, "")),
            (json!({ "mock-ip-count": 0 }), all, 0, (false, false, false, false, "")),
            (json!({ "asg-termination-delay-sec": 3 }), all, 2, (true, true, true, false, "InService")),
            (json!({ "asg-termination-delay-sec": 3 }), all, 3, (true, true, true, false, "Terminated")),
            (json!({ "asg-termination-trigger-time": "2026-05-17T08:30:09Z" }), MockCommand::AsgLifecycle, 8, (false, false, false, false, "InService")),
            (json!({ "asg-termination-trigger-time": "2026-05-17T08:30:09Z" }), MockCommand::AsgLifecycle, 9, (false, false, false, false, "Terminated")),
            (json!({ "autoscaling": { "target-lifecycle-state": ["InService", "2m", "Terminated"] } }), all, 119, (true, true, true, false, "InService")),
            (json!({ "autoscaling": { "target-lifecycle-state": ["InService", "2m", "Terminated"] } }), all, 120, (true, true, true, false, "Terminated")),
        ] {
            let mock = of(&config, command).unwrap();
            assert_eq!(shown(&mock, second), expected, "{config} {command:?} {second}");
        }
    }

    #[test]
    fn an_event_has_the_values_of_the_file() {
        for (config, action) in [
            (
                json!({ "spot": { "action": "stop", "time": "2020-01-07T01:03:47Z" } }),
                r#"{"action": "stop", "time": "2020-01-07T01:03:47Z"}"#,
            ),
            (
                json!({ "SPOT.Action": "stop" }),
                r#"{"action": "stop", "time": "2026-05-17T08:32:00Z"}"#,
            ),
            (
                json!({ "spot-itn": { "instance-action": "hibernate", "time": "" } }),
                r#"{"action": "hibernate", "time": "2026-05-17T08:30:00Z"}"#,
            ),
            (
                json!({ "spot-itn": { "termination-time": "2020-01-07T01:03:47Z" } }),
                r#"{"action": "terminate", "time": "2020-01-07T01:03:47Z"}"#,
            ),
        ] {
            let events = read(config.clone())
                .instance
                .events_at(start())
                .into_owned();
            assert_eq!(
                events.spot_instance_action(start()).as_deref(),
                Some(action),
                "{config}"
            );
        }
        let mock = read(json!({
            "spot": { "rebalance-rec-time": "2026-05-17T08:00:00Z" },
            "events": { "code": "instance-stop", "not-before": "2026-06-01T00:00:00Z", "not-after": "2026-06-02T00:00:00Z" },
            "metadata": { "values": { "event-id": "instance-event-0000000000000000a" } }
        }));
        let events = mock.instance.events_at(start());
        assert_eq!(
            events.rebalance_recommendation(start()).as_deref(),
            Some(r#"{"noticeTime": "2026-05-17T08:00:00Z"}"#)
        );
        let scheduled: Value = serde_json::from_str(&events.maintenance_scheduled()).unwrap();
        assert_eq!(
            scheduled,
            json!([{ "NotBefore": "01 Jun 2026 00:00:00 GMT", "Code": "instance-stop", "Description": "scheduled stop",
                     "EventId": "instance-event-0000000000000000a", "NotAfter": "02 Jun 2026 00:00:00 GMT", "State": "active" }])
        );
    }

    #[test]
    fn the_server_the_tokens_and_the_user_data() {
        let mock = read(
            json!({ "server": { "port": "1550", "hostname": "localhost" }, "imdsv2": true,
                                "userdata": { "values": { "userdata": "aGk=" } } }),
        );
        assert_eq!((mock.address, mock.port), (Ipv4Addr::LOCALHOST, 1550));
        assert_eq!(
            mock.instance.metadata_options.http_tokens,
            HttpTokens::Required
        );
        assert_eq!(mock.instance.user_data().unwrap(), b"hi");
        let mock = read(json!({ "server": { "port": 1550, "hostname": "127.0.0.9" },
                                "userdata": { "values": { "userdata": "#!/bin/sh" } } }));
        assert_eq!(
            (mock.address, mock.port),
            (Ipv4Addr::new(127, 0, 0, 9), 1550)
        );
        assert_eq!(
            mock.instance.metadata_options.http_tokens,
            HttpTokens::Optional
        );
        assert_eq!(mock.instance.user_data().unwrap(), b"#!/bin/sh");
    }

    #[test]
    fn what_is_passed_over_is_warned_of() {
        for (config, field) in [
            (json!({ "mock-ip-count": 5 }), "mock-ip-count"),
            (
                json!({ "save-config-to-file": true }),
                "save-config-to-file",
            ),
            (json!({ "watch-config-file": true }), "watch-config-file"),
            (
                json!({ "server": { "hostname": "0.0.0.0" } }),
                "server.hostname",
            ),
            (
                json!({ "dynamic": { "values": { "instance-identity-pkcs": "x" } } }),
                "dynamic.values.instance-identity-pkcs",
            ),
            (
                json!({ "dynamic": { "values": { "instance-identity-document": { "accountId": "1" } } } }),
                "dynamic.values.instance-identity-document",
            ),
            (
                json!({ "metadata": { "values": { "iam-info": { "Code": "Failed" } } } }),
                "metadata.values.iam-info.code",
            ),
            (json!({ "spot": { "acton": "stop" } }), "spot.acton"),
            (json!({ "x": [1] }), "x"),
        ] {
            assert_eq!(warnings(&read(config.clone())), [field], "{config}");
        }
        let mock = read(json!({ "spot": { "acton": "stop" } }));
        assert!(
            mock.warnings[0]
                .message
                .ends_with("did you mean spot.action?"),
            "{:?}",
            mock.warnings
        );
        for silent in [
            json!({ "mock-ip-count": 2 }),
            json!({ "mock-ip-count": -1 }),
            json!({ "config-file": "x" }),
        ] {
            assert_eq!(warnings(&read(silent.clone())), [""; 0], "{silent}");
        }
    }

    #[test]
    fn what_cannot_be_served_truly_is_refused() {
        let values = |values: Value| json!({ "metadata": { "values": values } });
        let paths = |paths: Value| json!({ "metadata": { "paths": paths } });
        for (config, fields) in [
            (json!([]), vec![""]),
            (
                values(json!({ "instance-id": "ma1" })),
                vec!["metadata.values.instance-id"],
            ),
            (values(json!({ "mac": "FOO" })), vec!["metadata.values.mac"]),
            (
                values(json!({ "ami-id": ["a"] })),
                vec!["metadata.values.ami-id"],
            ),
            (
                values(json!({ "tags-instance": { "a b": "c" } })),
                vec!["metadata.values.tags-instance.a b"],
            ),
            (values(json!({ "event-id": "e" })), vec![""]),
            (
                values(json!({ "iam-security-credentials-role": "a b" })),
                vec!["Imds.Role.RoleName"],
            ),
            (
                values(json!({ "placement-availability-zone": "US" })),
                vec!["Placement.AvailabilityZone"],
            ),
            (
                paths(json!({ "ami-id": "/ami" })),
                vec!["metadata.paths.ami-id"],
            ),
            (
                paths(json!({ "ami-id": "/latest/meta-data/tags/instance/ami" })),
                vec!["Imds.Overrides.meta-data/tags/instance/ami"],
            ),
            (
                paths(json!({ "spot": "/latest/meta-data/own" })),
                vec!["metadata.paths.spot"],
            ),
            (
                paths(json!({ "iam-security-credentials": "/latest/meta-data/own" })),
                vec!["metadata.paths.iam-security-credentials"],
            ),
            (
                json!({ "userdata": { "paths": { "userdata": "/x" } } }),
                vec!["userdata.paths.userdata"],
            ),
            (json!({ "server": { "port": "0" } }), vec!["server.port"]),
            (
                json!({ "server": { "port": "65536" } }),
                vec!["server.port"],
            ),
            (
                json!({ "server": { "hostname": "192.0.2.1" } }),
                vec!["server.hostname"],
            ),
            (
                json!({ "server": { "hostname": "example.com" } }),
                vec!["server.hostname"],
            ),
            (json!({ "imdsv2": "perhaps" }), vec!["imdsv2"]),
            (json!({ "mock-delay-sec": "soon" }), vec!["mock-delay-sec"]),
            (json!({ "mock-delay-sec": 1.5 }), vec!["mock-delay-sec"]),
            (
                json!({ "mock-delay-sec": i64::MAX }),
                vec!["mock-delay-sec"],
            ),
            (
                json!({ "mock-trigger-time": "soon" }),
                vec!["mock-trigger-time"],
            ),
            (
                json!({ "spot": { "action": "destroy" } }),
                vec!["spot.action"],
            ),
            (json!({ "spot": { "time": "soon" } }), vec!["spot.time"]),
            (
                json!({ "events": { "code": "reboot" } }),
                vec!["events.code"],
            ),
            (
                json!({ "events": { "state": "done", "not-after": "x" } }),
                vec!["events.state", "events.not-after"],
            ),
            (
                json!({ "autoscaling": { "target-lifecycle-state": ["InService", "2m"] } }),
                vec!["autoscaling.target-lifecycle-state"],
            ),
            (
                json!({ "autoscaling": { "target-lifecycle-state": "Gone" } }),
                vec!["autoscaling.target-lifecycle-state"],
            ),
        ] {
            let mock = parse(
                Path::new("a.json"),
                &config.to_string(),
                MockCommand::All,
                start(),
            );
            let faults = mock.map(|mock| mock.port).expect_err(&config.to_string());
            let mut seen: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
            let mut fields = fields;
            seen.sort();
            fields.sort();
            assert_eq!(seen, fields, "{config} {faults:#?}");
        }
        let text = "{\n\"metadata\": { \"values\": {\n\"mac\": \"FOO\" } } }";
        let faults = parse(Path::new("a.json"), text, MockCommand::All, start())
            .map(|mock| mock.port)
            .unwrap_err();
        assert!(
            faults[0]
                .to_string()
                .starts_with("a.json:3: metadata.values.mac: a MAC address"),
            "{faults:?}"
        );
    }
}
