//! Validation: the rules for an instance that could be deserialized, one function for each part.
//!
//! Some rules are EC2's (limits, name patterns), some are needed to serve the instance (unique MAC
//! addresses), some keep metadata well-formed (no control characters).

mod attachments;
mod characters;
mod network;
mod other_fields;
mod role;
mod ssh;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::document::fields::IMDS;
use crate::document::json_path::{JsonPath, PathFault};
use crate::fault::FieldFault;
use crate::instance::events::timeline::TimelineFault;
use crate::instance::events::{MAX_MAINTENANCE, event_id_fault};
use crate::instance::{Instance, MAX_USER_DATA, Overrides, tags};

pub use ssh::{is_authorized_key, is_os_user};

/// Returns the faults of an instance: the field, and what is wrong with it. For documents, and for
/// a change of an instance before it is stored.
pub fn faults(instance: &Instance) -> Vec<FieldFault> {
    instance_faults(instance, &fields_text(instance))
        .into_iter()
        .map(|fault| FieldFault::new(fault.path.to_string(), fault.message))
        .collect()
}

/// Returns the fields of an instance that imdsd reads as JSON text, for [`instance_faults`].
pub(super) fn fields_text(instance: &Instance) -> String {
    serde_json::to_string(instance).expect("all keys of an instance are strings")
}

/// Like [`faults`], with paths. `text` has the fields of the instance.
pub(super) fn instance_faults(instance: &Instance, text: &str) -> Vec<PathFault> {
    let mut faults = Vec::new();
    check_placement(instance, &mut faults);
    check_tags(instance, &mut faults);
    network::check_interfaces(instance, &mut faults);
    attachments::check_attachments(instance, &mut faults);
    check_user_data(instance, &mut faults);
    ssh::check_open_ssh_key(instance, &mut faults);
    role::check_role(instance, &mut faults);
    check_events(instance, &mut faults);
    ssh::check_managed_keys(instance, &mut faults);
    check_overrides(instance, &mut faults);
    network::check_address_blocks(instance, &mut faults);
    check_owner(instance, &mut faults);
    other_fields::check_other_fields(instance, &mut faults);
    characters::check_characters(instance, text, &mut faults);
    faults
}

/// Returns what is wrong with an account number; `None` if it is 12 digits.
pub(super) fn account_fault(text: &str) -> Option<String> {
    let is_account = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    (!is_account).then(|| format!("an account is 12 digits, not '{}'", text.escape_debug()))
}

fn check_placement(instance: &Instance, faults: &mut Vec<PathFault>) {
    let is_name = |name: &str| {
        let letters = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        letters && (1..=64).contains(&name.len())
    };
    if !is_name(&instance.placement.availability_zone) {
        faults.push(PathFault::new(
            JsonPath::root().key("Placement").key("AvailabilityZone"),
            "a zone is lower-case letters, digits and hyphens, such as us-east-1a",
        ));
    }
    let region = instance.imds.region.as_deref();
    if region.is_some_and(|region| !is_name(region)) {
        faults.push(PathFault::new(
            JsonPath::root().key(IMDS).key("Region"),
            "a region is lower-case letters, digits and hyphens, such as us-east-1",
        ));
    }
}

fn check_tags(instance: &Instance, faults: &mut Vec<PathFault>) {
    let path = JsonPath::root().key("Tags");
    faults.extend(
        tags::faults(&instance.tags)
            .into_iter()
            .map(|(index, message)| PathFault::new(path.index(index), message)),
    );
    // An empty key is one of the faults above.
    let shown = instance.metadata_options.instance_metadata_tags;
    let unfit =
        tags::keys_unfit_for_metadata(&instance.tags, shown).filter(|(_, key)| !key.is_empty());
    for (index, _) in unfit {
        let message = "metadata cannot show this key, and InstanceMetadataTags is enabled: use \
                       letters, digits and -_+=,.@: only, and not . or .. or _index";
        faults.push(PathFault::new(path.index(index).key("Key"), message));
    }
}

fn check_user_data(instance: &Instance, faults: &mut Vec<PathFault>) {
    let imds = JsonPath::root().key(IMDS);
    let (encoded, text) = (&instance.imds.user_data, &instance.imds.user_data_text);
    if encoded.is_some() && text.is_some() {
        faults.push(PathFault::new(
            imds.key("UserDataText"),
            "cannot be combined with UserData",
        ));
    }
    let decoded = encoded.as_ref().map(|encoded| BASE64.decode(encoded));
    let length = match &decoded {
        Some(Ok(bytes)) => Some(("UserData", bytes.len())),
        Some(Err(_)) => {
            faults.push(PathFault::new(
                imds.key("UserData"),
                "is not base64: use the standard alphabet, padded with =, without white space",
            ));
            None
        }
        None => text.as_ref().map(|text| ("UserDataText", text.len())),
    };
    if let Some((field, length)) = length.filter(|(_, length)| *length > MAX_USER_DATA) {
        let message =
            format!("user data has at most {MAX_USER_DATA} bytes before base64, not {length}");
        faults.push(PathFault::new(imds.key(field), message));
    }
}

fn check_events(instance: &Instance, faults: &mut Vec<PathFault>) {
    let imds = JsonPath::root().key(IMDS);
    let maintenance = imds.key("Events").key("Maintenance");
    for (index, event) in instance.imds.events.maintenance.iter().enumerate() {
        let fault = event_id_fault(&event.event_id);
        faults.extend(
            fault.map(|message| PathFault::new(maintenance.index(index).key("EventId"), message)),
        );
    }
    if instance.imds.events.maintenance.len() > MAX_MAINTENANCE {
        let message = format!(
            "an instance has at most {MAX_MAINTENANCE} scheduled events, past ones included"
        );
        faults.push(PathFault::new(maintenance, message));
    }
    let timeline = imds.key("Timeline");
    let of_timeline = instance
        .imds
        .timeline
        .faults(&instance.imds.events, &instance.imds.overrides);
    for TimelineFault {
        step,
        fields,
        message,
    } in of_timeline
    {
        let step = step.map_or(timeline.clone(), |index| timeline.index(index));
        let path = fields.into_iter().fold(step, |path, field| path.key(field));
        faults.push(PathFault::new(path, message));
    }
}

fn check_overrides(instance: &Instance, faults: &mut Vec<PathFault>) {
    let path = JsonPath::root().key(IMDS).key("Overrides");
    let overrides = &instance.imds.overrides;
    if overrides.is_full() {
        faults.push(PathFault::new(path.clone(), Overrides::full()));
    }
    let of_overrides = overrides.faults().into_iter();
    faults.extend(of_overrides.map(|fault| PathFault::new(path.key(&fault.field), fault.message)));
}

fn check_owner(instance: &Instance, faults: &mut Vec<PathFault>) {
    let fault = instance.imds.owner_id.as_deref().and_then(account_fault);
    let path = JsonPath::root().key(IMDS).key("OwnerId");
    faults.extend(fault.map(|message| PathFault::new(path, message)));
}
