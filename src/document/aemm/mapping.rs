//! The mock's settings as an instance, part by part. The leaves of the metadata tree are in
//! [`leaves`](super::leaves), the events in [`events`](super::events).

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::document::aemm::keys::eth0_mut;
use crate::document::aemm::settings::Settings;
use crate::instance::{
    CredentialSource, HttpTokens, Instance, InstanceId, NamedOptions, StaticCredentials, Tag, tags,
};
use crate::secret::Secret;

/// The mock's default port.
pub const PORT: u16 = 1338;

/// Sets the names that the paths of other leaves contain: the instance id, the MAC address and the
/// public address.
pub(super) fn set_names(settings: &mut Settings<'_>, instance: &mut Instance) {
    const ID: &str = "metadata.values.instance-id";
    if let Some(id) = settings.text(ID) {
        match InstanceId::try_from(id) {
            Ok(id) => instance.instance_id = id,
            Err(message) => settings.refuse(ID, &message),
        }
    }
    const MAC: &str = "metadata.values.mac";
    if let Some(mac) = settings.text(MAC) {
        eth0_mut(instance).mac_address = mac.to_lowercase().into();
        if !is_mac_address(&mac) {
            let message = "a MAC address is six pairs of hexadecimal digits between colons; to show \
                           another text, set mac-mac, or meta-data/mac in Imds.Overrides of an \
                           instance document";
            settings.refuse(MAC, message);
        }
    }
    if let Some(address) = settings.text("metadata.values.public-ipv4")
        && let Ok(address) = address.parse()
    {
        instance.public_ip_address = Some(address);
        if let Some(association) = &mut eth0_mut(instance).private_ip_addresses[0].association {
            association.public_ip = Some(address);
        }
    }
}

fn is_mac_address(text: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok();
    text.split(':').count() == 6 && text.split(':').all(is_pair)
}

/// Sets the role, its instance profile and its credentials.
pub(super) fn set_role(settings: &mut Settings<'_>, instance: &mut Instance) {
    let Some(role) = &mut instance.imds.role else {
        return;
    };
    if let Some(name) = settings.text("metadata.values.iam-security-credentials-role") {
        role.role_name = name;
    }
    if let Some(profile) = &mut instance.iam_instance_profile {
        if let Some(arn) = settings.text("metadata.values.iam-info.instanceprofilearn") {
            profile.arn = arn.into();
        }
        if let Some(id) = settings.text("metadata.values.iam-info.instanceprofileid") {
            profile.id = id.into();
        }
    }
    if let CredentialSource::Static(source) = &mut role.source {
        let mut credentials = source.v2.clone();
        set_credentials(settings, &mut credentials);
        // The mock serves the same credentials to reads with and without a session token.
        source.v1 = Some(credentials.clone());
        source.v2 = credentials;
    }

    let credentials = "metadata.values.iam-security-credentials";
    for key in [
        "metadata.values.iam-info.code".to_string(),
        format!("{credentials}.code"),
    ] {
        if settings
            .compared(&key)
            .is_some_and(|code| code != "Success")
        {
            settings.warn(
                &key,
                "is ignored: imdsd shows a failure when the source of a role fails",
            );
        }
    }
    // imdsd generates these.
    settings.compared("metadata.values.iam-info.lastupdated");
    settings.compared(&format!("{credentials}.lastupdated"));
    settings.compared(&format!("{credentials}.type"));
}

fn set_credentials(settings: &mut Settings<'_>, credentials: &mut StaticCredentials) {
    let key = |field: &str| format!("metadata.values.iam-security-credentials.{field}");
    if let Some(id) = settings.text(&key("accesskeyid")) {
        credentials.access_key_id = id;
    }
    if let Some(secret) = settings.text(&key("secretaccesskey")) {
        credentials.secret_access_key = Secret::new(secret);
    }
    if let Some(token) = settings.text(&key("token")) {
        credentials.session_token = Secret::new(token);
    }
    if let Some(expiration) = settings.time(&key("expiration")) {
        match expiration > settings.start() {
            true => credentials.expiration = Some(expiration),
            false => settings.warn(
                &key("expiration"),
                "is past, and is ignored: imdsd does not serve expired credentials and shows a future \
                 expiration",
            ),
        }
    }
}

/// Sets the tags.
pub(super) fn set_tags(settings: &mut Settings<'_>, instance: &mut Instance) {
    let keys = settings.keys_with_prefix("metadata.values.tags-instance.");
    if !keys.is_empty() {
        instance.tags.clear();
    }
    for key in keys {
        let name = settings.name(&key).unwrap_or_default();
        set_tag(settings, instance, &key, name);
    }
    for (key, name) in [
        ("metadata.values.tags-instance-name", "Name"),
        ("metadata.values.tags-instance-test", "Test"),
    ] {
        set_tag(settings, instance, key, name.to_string());
    }
}

fn set_tag(settings: &mut Settings<'_>, instance: &mut Instance, setting: &str, key: String) {
    let Some(value) = settings.text(setting) else {
        return;
    };
    if !tags::key_fits_metadata(&key) {
        settings.refuse(
            setting,
            "a tag key in metadata has only letters, digits and -_+=,.@:",
        );
    }
    instance.tags.retain(|tag| tag.key != key);
    instance.tags.push(Tag {
        key: key.into(),
        value: value.into(),
    });
}

/// Takes what the identity document follows from; imdsd generates and signs the document itself.
pub(super) fn set_identity(settings: &mut Settings<'_>, instance: &mut Instance) {
    const DOCUMENT: &str = "dynamic.values.instance-identity-document";
    let key = |field: &str| format!("{DOCUMENT}.{field}");
    let mut ignored = Vec::new();
    match settings.text(&key("accountid")) {
        Some(account) if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) => {
            instance.imds.owner_id = Some(account.into());
        }
        Some(_) => ignored.push("accountId (an account has 12 digits)"),
        None => {}
    }
    if let Some(launched) = settings.time(&key("pendingtime")) {
        instance.launch_time = launched;
    }
    if let Some(architecture) = settings.text(&key("architecture")) {
        instance.architecture = architecture.into();
    }
    for (name, actual) in identity_fields(instance) {
        let given = settings.compared(&key(&name.to_lowercase()));
        if given.is_some() && given != actual {
            ignored.push(name);
        }
    }
    if !ignored.is_empty() {
        let message = format!(
            "the document is signed and follows the instance, so these are ignored: {}; set metadata.values",
            ignored.join(", ")
        );
        settings.warn(DOCUMENT, &message);
    }
    for key in [
        "dynamic.values.instance-identity-pkcs",
        "dynamic.values.instance-identity-signature",
    ] {
        if settings.compared(key).is_some() {
            settings.warn(
                key,
                "is ignored: imdsd signs the document that it serves; see docs/identity.md",
            );
        }
    }
}

/// Returns the fields of the identity document that follow the instance, and their values.
fn identity_fields(instance: &Instance) -> [(&'static str, Option<String>); 12] {
    let text = |text: &str| Some(text.to_string());
    let private = instance
        .primary_private_address()
        .map(|address| address.to_string());
    [
        ("imageId", text(&instance.image_id)),
        (
            "availabilityZone",
            text(&instance.placement.availability_zone),
        ),
        ("region", text(instance.region())),
        ("privateIp", private),
        ("instanceId", text(instance.instance_id.as_str())),
        ("instanceType", text(&instance.instance_type)),
        (
            "kernelId",
            instance.kernel_id.as_deref().map(str::to_string),
        ),
        (
            "ramdiskId",
            instance.ramdisk_id.as_deref().map(str::to_string),
        ),
        ("version", text("2017-09-30")),
        ("devpayProductCodes", None),
        ("marketplaceProductCodes", None),
        ("billingProducts", None),
    ]
}

/// Sets the user data. Since version 1.11 the mock has it in base64; other texts are taken as they
/// are, as by older versions.
pub(super) fn set_user_data(settings: &mut Settings<'_>, instance: &mut Instance) {
    for key in ["metadata.values.userdata", "userdata.values.userdata"] {
        let Some(text) = settings.text(key) else {
            continue;
        };
        let encoded = BASE64.decode(&text).is_ok();
        (instance.imds.user_data, instance.imds.user_data_text) = if encoded {
            (Some(text.into()), None)
        } else {
            (None, Some(text.into()))
        };
    }
}

/// Sets the server's options. Returns the address and port of its listener.
pub(super) fn set_server(settings: &mut Settings<'_>, instance: &mut Instance) -> (Ipv4Addr, u16) {
    let port = settings.text("server.port").map(|port| port.parse::<u16>());
    let port = match port {
        None => PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => {
            settings.refuse("server.port", "a port is 1 to 65535");
            PORT
        }
    };
    let address = loopback_address(settings);
    // The mock's options are all known: neither an account nor an image decides about them.
    instance.named_options = NamedOptions::default();
    if let Some(required) = settings.text("imdsv2") {
        match required.to_lowercase().as_str() {
            "true" | "1" => instance.metadata_options.http_tokens = HttpTokens::Required,
            "false" | "0" | "" => instance.metadata_options.http_tokens = HttpTokens::Optional,
            _ => settings.refuse(
                "imdsv2",
                "must be true or false; imdsd calls it HttpTokens, required or optional",
            ),
        }
    }
    for key in ["save-config-to-file", "watch-config-file"] {
        if settings.compared(key).is_some_and(|text| text != "false") {
            settings.warn(
                key,
                "is ignored; imdsd stores instances in its state directory and can change them while it runs",
            );
        }
    }
    settings.compared("config-file");
    (address, port)
}

/// Returns the loopback address that `server.hostname` stands for.
fn loopback_address(settings: &mut Settings<'_>) -> Ipv4Addr {
    const KEY: &str = "server.hostname";
    const OTHER_ADDRESS: &str = "a configuration of the mock is served on loopback; for guests \
                                 elsewhere write a configuration (--config) with a [[listener]], and \
                                 an instance document";
    let name = settings.text(KEY).unwrap_or_default();
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_loopback() => return address,
        Ok(IpAddr::V6(address)) if address.is_loopback() => {}
        Ok(address) if address.is_unspecified() => settings.warn(KEY, OTHER_ADDRESS),
        Err(_) if name.is_empty() || name.eq_ignore_ascii_case("localhost") => {}
        Ok(_) | Err(_) => settings.refuse(KEY, OTHER_ADDRESS),
    }
    Ipv4Addr::LOCALHOST
}
