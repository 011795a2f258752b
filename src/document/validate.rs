//! What is wrong with an instance whose form is right: a table of rules, one function for each part of a document.

use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::document::json_path::Place;
use crate::document::{IMDS, Judgement};
use crate::instance::events::timeline::TimelineFault;
use crate::instance::events::{MAX_MAINTENANCE, event_id_fault};
use crate::instance::{
    Attachment, BridgePort, CredentialSource, Instance, MAX_USER_DATA, NetworkInterface, Overrides,
    ProcessSource, SourceAddress, StaticSource, interface_name_fault, tags,
};

pub(super) fn judge(instance: &Instance) -> Judgement {
    let mut wrong = Judgement::new();
    judge_placement(instance, &mut wrong);
    judge_tags(instance, &mut wrong);
    judge_interfaces(instance, &mut wrong);
    judge_attachments(instance, &mut wrong);
    judge_user_data(instance, &mut wrong);
    judge_key(instance, &mut wrong);
    judge_role(instance, &mut wrong);
    judge_events(instance, &mut wrong);
    let overrides = Place::root().key(IMDS).key("Overrides");
    if instance.imds.overrides.is_full() {
        wrong.push((overrides.clone(), Overrides::full()));
    }
    wrong.extend(
        instance
            .imds
            .overrides
            .faults()
            .into_iter()
            .map(|fault| (overrides.key(&fault.field), fault.message)),
    );
    judge_blocks(instance, &mut wrong);

    let imds = Place::root().key(IMDS);
    if let Some(account) = instance
        .imds
        .owner_id
        .as_deref()
        .filter(|account| !is_account(account))
    {
        wrong.push((imds.key("OwnerId"), not_an_account(account)));
    }
    judge_characters(instance, &mut wrong);
    wrong
}

pub(super) fn judge_placement(instance: &Instance, wrong: &mut Judgement) {
    let is_name = |name: &str| {
        let letters = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        letters && (1..=64).contains(&name.len())
    };
    if !is_name(&instance.placement.availability_zone) {
        let place = Place::root().key("Placement").key("AvailabilityZone");
        wrong.push((
            place,
            "a zone is lower-case letters, digits and hyphens, us-east-1a say".to_string(),
        ));
    }
    if instance
        .imds
        .region
        .as_deref()
        .is_some_and(|region| !is_name(region))
    {
        let place = Place::root().key(IMDS).key("Region");
        wrong.push((
            place,
            "a region is lower-case letters, digits and hyphens, us-east-1 say".to_string(),
        ));
    }
}

pub(super) fn judge_tags(instance: &Instance, wrong: &mut Judgement) {
    let place = Place::root().key("Tags");
    wrong.extend(
        tags::faults(&instance.tags)
            .into_iter()
            .map(|(index, message)| (place.index(index), message)),
    );
    // An empty key is one of the faults above.
    let shown = instance.metadata_options.instance_metadata_tags;
    let unfit =
        tags::keys_unfit_for_metadata(&instance.tags, shown).filter(|(_, key)| !key.is_empty());
    for (index, _) in unfit {
        let message = "can't be shown in metadata, and InstanceMetadataTags is enabled: a key there has letters, digits \
                       and -_+=,.@: only, and is not . or .. or _index";
        wrong.push((place.index(index).key("Key"), message.to_string()));
    }
}

pub(super) fn judge_interfaces(instance: &Instance, wrong: &mut Judgement) {
    let place = Place::root().key("NetworkInterfaces");
    let seat = |interface: &NetworkInterface| {
        (
            interface.attachment.network_card_index.unwrap_or(0),
            interface.attachment.device_index,
        )
    };
    for (index, interface) in instance.network_interfaces.iter().enumerate() {
        let place = place.index(index);
        let earlier = &instance.network_interfaces[..index];
        if !is_mac(&interface.mac_address) {
            let message = "a MAC address is six pairs of hexadecimal digits between colons, 02:00:00:00:00:10 say";
            wrong.push((place.key("MacAddress"), message.to_string()));
        } else if earlier
            .iter()
            .any(|other| other.mac_address == interface.mac_address)
        {
            wrong.push((
                place.key("MacAddress"),
                "another interface of the instance has this MAC address".to_string(),
            ));
        }
        if earlier.iter().any(|other| seat(other) == seat(interface)) {
            let message =
                "another interface of the instance has this device index on this network card";
            wrong.push((
                place.key("Attachment").key("DeviceIndex"),
                message.to_string(),
            ));
        }
        let primary = interface
            .private_ip_addresses
            .iter()
            .find(|address| address.primary);
        if let (Some(address), Some(primary)) = (interface.private_ip_address, primary)
            && address != primary.private_ip_address
        {
            let message = format!(
                "the primary one of PrivateIpAddresses is {}",
                primary.private_ip_address
            );
            wrong.push((place.key("PrivateIpAddress"), message));
        }
        for (index, prefix) in interface.ipv4_prefixes.iter().enumerate() {
            let place = place.key("Ipv4Prefixes").index(index).key("Ipv4Prefix");
            judge_block(place, &prefix.ipv4_prefix, AddressFamily::Ipv4, wrong);
        }
        for (index, prefix) in interface.ipv6_prefixes.iter().enumerate() {
            let place = place.key("Ipv6Prefixes").index(index).key("Ipv6Prefix");
            judge_block(place, &prefix.ipv6_prefix, AddressFamily::Ipv6, wrong);
        }
    }
    let of_interface = instance
        .primary_interface()
        .and_then(|interface| interface.private_ip_address);
    if let (Some(address), Some(of_interface)) = (instance.private_ip_address, of_interface)
        && address != of_interface
    {
        let message = format!(
            "the interface with device index 0 has {of_interface}; the two are one address"
        );
        wrong.push((Place::root().key("PrivateIpAddress"), message));
    }
}

pub(super) fn judge_attachments(instance: &Instance, wrong: &mut Judgement) {
    let attachments = &instance.imds.attachments;
    for (index, attachment) in attachments.iter().enumerate() {
        let place = Place::root().key(IMDS).key("Attachments").index(index);
        let fault = match attachment {
            Attachment::Listener(name) => listener_fault(name).map(|fault| ("Listener", "", fault)),
            Attachment::Interface(name) => {
                interface_name_fault(name).map(|fault| ("Interface", "", fault))
            }
            Attachment::BridgePort(BridgePort { bridge, port, mark }) => {
                let of_bridge =
                    interface_name_fault(bridge).map(|fault| ("BridgePort", "Bridge", fault));
                let of_port = interface_name_fault(port).map(|fault| ("BridgePort", "Port", fault));
                let of_mark = (*mark == 0).then(|| {
                    (
                        "BridgePort",
                        "Mark",
                        "0 is the mark of packets that nobody marked".to_string(),
                    )
                });
                of_bridge.or(of_port).or(of_mark)
            }
            Attachment::NetworkNamespace(name) => {
                namespace_fault(name).map(|fault| ("NetworkNamespace", "", fault))
            }
            Attachment::SourceAddress(SourceAddress { listener, address }) => {
                let of_listener =
                    listener_fault(listener).map(|fault| ("SourceAddress", "Listener", fault));
                of_listener
                    .or(address_fault(*address).map(|fault| ("SourceAddress", "Address", fault)))
            }
        };
        if let Some((kind, field, message)) = fault {
            let kind = place.key(kind);
            wrong.push((
                if field.is_empty() {
                    kind
                } else {
                    kind.key(field)
                },
                message,
            ));
        }
        let before = &attachments[..index];
        if before.contains(attachment) {
            wrong.push((place, format!("{attachment} stands twice")));
        } else if let Some(other) = before.iter().find(|other| other.repeats(attachment)) {
            wrong.push((place, format!("{attachment} can't be told from {other}")));
        }
    }
}

pub(super) fn listener_fault(name: &str) -> Option<String> {
    name.is_empty()
        .then(|| "names no listener of the configuration".to_string())
}

pub(super) fn address_fault(address: std::net::IpAddr) -> Option<String> {
    let (is_shared, mapped) = match address {
        std::net::IpAddr::V4(address) => (address.is_link_local() || address.is_broadcast(), None),
        std::net::IpAddr::V6(address) => {
            (address.is_unicast_link_local(), address.to_ipv4_mapped())
        }
    };
    if let Some(ipv4) = mapped {
        return Some(format!(
            "connections come in by IPv4 as such: this is {ipv4}"
        ));
    }
    let no_guests = is_shared || address.is_unspecified() || address.is_multicast();
    no_guests.then(|| format!("{address} is no address that one guest alone can have"))
}

pub(super) fn namespace_fault(name: &str) -> Option<String> {
    let is_name = !name.is_empty() && !matches!(name, "." | "..") && !name.contains('/');
    let is_path = name.starts_with('/');
    let sound = (is_name || is_path) && !name.contains('\0');
    let name = name.escape_debug();
    (!sound).then(|| format!("this is a name below /run/netns or an absolute path, not '{name}'"))
}

pub(super) fn judge_user_data(instance: &Instance, wrong: &mut Judgement) {
    let imds = Place::root().key(IMDS);
    let (encoded, text) = (&instance.imds.user_data, &instance.imds.user_data_text);
    if encoded.is_some() && text.is_some() {
        wrong.push((
            imds.key("UserDataText"),
            "UserData is there too; an instance has one of the two".to_string(),
        ));
    }
    let decoded = encoded.as_ref().map(|encoded| BASE64.decode(encoded));
    let length = match &decoded {
        Some(Ok(bytes)) => Some(("UserData", bytes.len())),
        Some(Err(_)) => {
            let message =
                "this is not base64: the standard alphabet, padded with =, without white space";
            wrong.push((imds.key("UserData"), message.to_string()));
            None
        }
        None => text.as_ref().map(|text| ("UserDataText", text.len())),
    };
    if let Some((field, length)) = length.filter(|(_, length)| *length > MAX_USER_DATA) {
        let message =
            format!("user data has at most {MAX_USER_DATA} bytes before base64, not {length}");
        wrong.push((imds.key(field), message));
    }
}

pub(super) fn judge_key(instance: &Instance, wrong: &mut Judgement) {
    let Some(line) = &instance.imds.open_ssh_key else {
        return;
    };
    if !is_authorized_key(line) {
        let message = "this is not one line of authorized_keys: a key type, the key in base64, and a comment if you like, \
                       without options in front and without a line end";
        wrong.push((
            Place::root().key(IMDS).key("OpenSshKey"),
            message.to_string(),
        ));
    }
    if instance.key_name.is_none() {
        wrong.push((
            Place::root().key("KeyName"),
            "is missing; Imds.OpenSshKey is shown under it".to_string(),
        ));
    }
}

pub(super) fn judge_role(instance: &Instance, wrong: &mut Judgement) {
    let Some(role) = &instance.imds.role else {
        return;
    };
    let place = Place::root().key(IMDS).key("Role");
    // IAM's pattern for role names.
    let letters = role
        .role_name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b));
    if !letters || !(1..=64).contains(&role.role_name.len()) {
        let message = "a role name is 1 to 64 letters, digits and +=,.@_-";
        wrong.push((place.key("RoleName"), message.to_string()));
    }
    let source = place.key("Source");
    match &role.source {
        CredentialSource::Static(StaticSource { v1, v2 }) => {
            for (delivery, credentials) in [("V1", v1.as_ref()), ("V2", Some(v2))] {
                let Some(credentials) = credentials else {
                    continue;
                };
                let place = source.key("Static").key(delivery);
                let secret = credentials.secret_access_key.expose();
                for (field, value) in [
                    ("AccessKeyId", credentials.access_key_id.as_str()),
                    ("SecretAccessKey", secret),
                ] {
                    if value.is_empty() {
                        wrong.push((place.key(field), "can't be empty".to_string()));
                    }
                }
            }
        }
        CredentialSource::Process(ProcessSource {
            command,
            timeout_seconds,
        }) => {
            let place = source.key("Process");
            if !command
                .first()
                .is_some_and(|program| program.starts_with('/'))
            {
                let message = "begins with the absolute path of a program; no shell reads it";
                wrong.push((place.key("Command"), message.to_string()));
            }
            if timeout_seconds.is_some_and(|seconds| !(1..=60).contains(&seconds)) {
                wrong.push((place.key("TimeoutSeconds"), "is 1 to 60".to_string()));
            }
        }
        CredentialSource::AssumeRole(of) => {
            let place = source.key("AssumeRole");
            judge_sts(
                &place,
                &of.endpoint,
                &of.role_arn,
                of.duration_seconds,
                of.ca_file.as_deref(),
                wrong,
            );
            if of.region.is_empty()
                || !of
                    .region
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            {
                wrong.push((
                    place.key("Region"),
                    "a region is letters, digits and -, us-east-1 say".to_string(),
                ));
            }
            if !of.access_key_file.is_absolute() {
                wrong.push((
                    place.key("AccessKeyFile"),
                    "must be an absolute path".to_string(),
                ));
            }
            // STS's own pattern.
            let fits = |id: &String| {
                (2..=1224).contains(&id.len())
                    && id
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
            };
            if of.external_id.as_ref().is_some_and(|id| !fits(id)) {
                let message = "an external id is 2 to 1224 letters, digits and _+=,.@:/-";
                wrong.push((place.key("ExternalId"), message.to_string()));
            }
        }
        CredentialSource::AssumeRoleWithWebIdentity(of) => {
            let place = source.key("AssumeRoleWithWebIdentity");
            judge_sts(
                &place,
                &of.endpoint,
                &of.role_arn,
                of.duration_seconds,
                of.ca_file.as_deref(),
                wrong,
            );
            if of.audience.as_deref() == Some("") {
                let message = "can't be empty; without it the token is for sts.amazonaws.com";
                wrong.push((place.key("Audience"), message.to_string()));
            }
        }
    }
    if instance.iam_instance_profile.is_none() {
        let message = "is missing; Imds.Role is the role in it";
        wrong.push((Place::root().key("IamInstanceProfile"), message.to_string()));
    }
}

pub(super) fn judge_events(instance: &Instance, wrong: &mut Judgement) {
    let imds = Place::root().key(IMDS);
    let maintenance = imds.key("Events").key("Maintenance");
    for (index, event) in instance.imds.events.maintenance.iter().enumerate() {
        let fault = event_id_fault(&event.event_id);
        wrong.extend(fault.map(|message| (maintenance.index(index).key("EventId"), message)));
    }
    if instance.imds.events.maintenance.len() > MAX_MAINTENANCE {
        let message = format!(
            "an instance has at most {MAX_MAINTENANCE} scheduled events, past ones included"
        );
        wrong.push((maintenance, message));
    }
    for TimelineFault {
        step,
        fields,
        message,
    } in instance
        .imds
        .timeline
        .faults(&instance.imds.events, &instance.imds.overrides)
    {
        let timeline = imds.key("Timeline");
        let step = step.map_or(timeline.clone(), |index| timeline.index(index));
        wrong.push((
            fields
                .into_iter()
                .fold(step, |place, field| place.key(field)),
            message,
        ));
    }
    let keys = imds.key("ManagedSshKeys");
    for (index, key) in instance.imds.managed_ssh_keys.iter().enumerate() {
        if !is_os_user(&key.instance_os_user) {
            let message = "an operating system user is 1 to 32 letters, digits and _.-@";
            wrong.push((keys.index(index).key("InstanceOSUser"), message.to_string()));
        }
    }
}

/// What both calls of STS have.
pub(super) fn judge_sts(
    place: &Place,
    endpoint: &str,
    role_arn: &str,
    duration_seconds: Option<u32>,
    ca_file: Option<&Path>,
    wrong: &mut Judgement,
) {
    if !is_endpoint(endpoint) {
        let message = "an endpoint is http:// or https://, a host, and a port and a path if need be; nothing else";
        wrong.push((place.key("Endpoint"), message.to_string()));
    }
    if !is_role_arn(role_arn) {
        let message = "a role's ARN is arn:aws:iam::123456789012:role/NAME; MinIO and Ceph may leave the account out";
        wrong.push((place.key("RoleArn"), message.to_string()));
    }
    if duration_seconds.is_some_and(|seconds| !(900..=43_200).contains(&seconds)) {
        wrong.push((place.key("DurationSeconds"), "is 900 to 43200".to_string()));
    }
    if ca_file.is_some_and(|file| !file.is_absolute()) {
        wrong.push((place.key("CaFile"), "must be an absolute path".to_string()));
    }
}

/// Without user, password, query and fragment: the first two belong nowhere, the other two would not be sent.
pub(super) fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<hyper::Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    // Only a host and a sound port put together again are what stood there.
    let plain = match authority.port_u16() {
        Some(port) => authority.as_str() == format!("{}:{port}", authority.host()) && port > 0,
        None => authority.as_str() == authority.host(),
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && plain
        && !authority.host().is_empty()
        && !text.contains(['?', '#'])
}

/// `arn:PARTITION:iam:REGION:ACCOUNT:role/NAME`. Only AWS has accounts of twelve digits: Ceph's are of letters too, and with
/// MinIO both region and account may be empty.
pub(super) fn is_role_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", region, account, role] = parts[..] else {
        return false;
    };
    let word = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    !partition.is_empty()
        && [partition, region, account].into_iter().all(word)
        && (partition == "minio" || region.is_empty())
        && role.strip_prefix("role/").is_some_and(visible)
        && text.len() <= 2048
}

pub(super) fn judge_blocks(instance: &Instance, wrong: &mut Judgement) {
    let imds = Place::root().key(IMDS);
    for (field, networks) in [
        ("Subnets", &instance.imds.subnets),
        ("Vpcs", &instance.imds.vpcs),
    ] {
        for (id, blocks) in networks {
            let place = imds.key(field).key(id);
            for (index, block) in blocks.ipv4_cidr_blocks.iter().enumerate() {
                judge_block(
                    place.key("Ipv4CidrBlocks").index(index),
                    block,
                    AddressFamily::Ipv4,
                    wrong,
                );
            }
            for (index, block) in blocks.ipv6_cidr_blocks.iter().enumerate() {
                judge_block(
                    place.key("Ipv6CidrBlocks").index(index),
                    block,
                    AddressFamily::Ipv6,
                    wrong,
                );
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressFamily {
    Ipv4,
    Ipv6,
}

pub(super) fn judge_block(place: Place, block: &str, family: AddressFamily, wrong: &mut Judgement) {
    let example = match family {
        AddressFamily::Ipv4 => {
            "an IPv4 address block is an address and a prefix length, 10.0.0.0/24 say"
        }
        AddressFamily::Ipv6 => {
            "an IPv6 address block is an address and a prefix length, 2001:db8::/64 say"
        }
    };
    let Some((address, length)) = address_and_length(block, family) else {
        return wrong.push((place, example.to_string()));
    };
    let start = first_address(address, length);
    if start != address {
        wrong.push((
            place,
            format!("the address has bits beyond the prefix; the block is {start}/{length}"),
        ));
    }
}

pub(super) fn address_and_length(block: &str, family: AddressFamily) -> Option<(IpAddr, u32)> {
    let (address, length) = block.split_once('/')?;
    // `u32::from_str` would take a plus sign.
    let length = length
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| length.parse::<u32>().ok())??;
    let (address, most) = match family {
        AddressFamily::Ipv4 => (IpAddr::V4(address.parse().ok()?), 32),
        AddressFamily::Ipv6 => (IpAddr::V6(address.parse().ok()?), 128),
    };
    (length <= most).then_some((address, length))
}

pub(super) fn first_address(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Every string may become a line of metadata or a header's neighbour: a control character in it could end the line.
/// User data is bytes and has no lines.
pub(super) fn judge_characters(instance: &Instance, wrong: &mut Judgement) {
    let Ok(mut fields) = serde_json::to_value(instance) else {
        return;
    };
    // User data are bytes, tag values are as they are on EC2, an override is a leaf's whole body and may have lines (what
    // its path may be is judged with it), and the rest of these is not shown in metadata.
    const SHOWN_AS_THEY_ARE: [&str; 8] = [
        "UserData",
        "UserDataText",
        "Tags",
        "Description",
        "StateTransitionReason",
        "ClientToken",
        "Overrides",
        "Override",
    ];
    without(&mut fields, &SHOWN_AS_THEY_ARE);
    let known: Vec<Place> = wrong.iter().map(|(place, _)| place.clone()).collect();
    let mut found = Vec::new();
    control_characters(&fields, &Place::root(), &mut found);
    for (place, character) in found {
        if !known.contains(&place) {
            let message = format!(
                "has a control character (U+{:04X}); metadata can't show it",
                u32::from(character)
            );
            wrong.push((place, message));
        }
    }
}

pub(super) fn without(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Array(elements) => elements
            .iter_mut()
            .for_each(|element| without(element, fields)),
        Value::Object(members) => {
            members.retain(|field, _| !fields.contains(&field.as_str()));
            members
                .values_mut()
                .for_each(|member| without(member, fields));
        }
        _ => {}
    }
}

pub(super) fn control_characters(value: &Value, place: &Place, found: &mut Vec<(Place, char)>) {
    match value {
        Value::String(text) => found.extend(
            text.chars()
                .find(|c| c.is_control())
                .map(|c| (place.clone(), c)),
        ),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                control_characters(element, &place.index(index), found);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let place = place.key(key);
                found.extend(
                    key.chars()
                        .find(|c| c.is_control())
                        .map(|c| (place.clone(), c)),
                );
                control_characters(member, &place, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn not_an_account(text: &str) -> String {
    format!("an account is 12 digits, not '{}'", text.escape_debug())
}

/// Lower case only: documents are lowered when they are read.
pub(super) fn is_mac(text: &str) -> bool {
    let pair = |pair: &str| {
        pair.len() == 2 && pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    text.split(':').count() == 6 && text.split(':').all(pair)
}

/// Whether a text can be the name of a user of the guest's operating system, and stand in a path.
pub fn is_os_user(name: &str) -> bool {
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b));
    letters && (1..=32).contains(&name.len()) && !matches!(name, "." | "..")
}

/// `ssh-ed25519 AAAA… comment`. The key repeats its type inside the base64 (RFC 4253, 6.6), which a truncated or mixed-up
/// line rarely survives.
pub fn is_authorized_key(line: &str) -> bool {
    if line.chars().any(char::is_control) {
        return false;
    }
    let mut words = line.split(' ');
    let (Some(name), Some(encoded)) = (words.next(), words.next()) else {
        return false;
    };
    let Ok(key) = BASE64.decode(encoded) else {
        return false;
    };
    let Some((length, rest)) = key.split_first_chunk::<4>() else {
        return false;
    };
    !name.is_empty()
        && u32::from_be_bytes(*length) as usize == name.len()
        && rest.starts_with(name.as_bytes())
}
