//! Rules for SSH keys and the users they log in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::document::fields::IMDS;
use crate::document::json_path::{JsonPath, PathFault};
use crate::instance::Instance;

pub(super) fn check_open_ssh_key(instance: &Instance, faults: &mut Vec<PathFault>) {
    let Some(line) = &instance.imds.open_ssh_key else {
        return;
    };
    if !is_authorized_key(line) {
        let message = "expected one line of authorized_keys: a key type, the key in base64, and \
                       optionally a comment, without options in front and without a line end";
        let path = JsonPath::root().key(IMDS).key("OpenSshKey");
        faults.push(PathFault::new(path, message));
    }
    if instance.key_name.is_none() {
        let message = "is missing; metadata shows Imds.OpenSshKey under this name";
        faults.push(PathFault::new(JsonPath::root().key("KeyName"), message));
    }
}

pub(super) fn check_managed_keys(instance: &Instance, faults: &mut Vec<PathFault>) {
    let keys = JsonPath::root().key(IMDS).key("ManagedSshKeys");
    for (index, key) in instance.imds.managed_ssh_keys.iter().enumerate() {
        if !is_os_user(&key.instance_os_user) {
            let message = "an operating system user is 1 to 32 letters, digits and _.-@";
            faults.push(PathFault::new(
                keys.index(index).key("InstanceOSUser"),
                message,
            ));
        }
    }
}

/// Returns whether a text can be the name of a user of the guest's operating system, and a segment
/// of a path: 1 to 32 letters, digits and `_.-@`, except `.` and `..`.
pub fn is_os_user(name: &str) -> bool {
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b));
    letters && (1..=32).contains(&name.len()) && !matches!(name, "." | "..")
}

/// Returns whether a text is one line of authorized_keys: `ssh-ed25519 AAAA… comment`. The base64
/// part repeats the key type (RFC 4253, section 6.6), which a truncated or mixed-up line rarely
/// matches.
pub fn is_authorized_key(line: &str) -> bool {
    if line.chars().any(char::is_control) {
        return false;
    }
    let mut words = line.split(' ');
    let (Some(key_type), Some(encoded)) = (words.next(), words.next()) else {
        return false;
    };
    let Ok(key) = BASE64.decode(encoded) else {
        return false;
    };
    let Some((length, rest)) = key.split_first_chunk::<4>() else {
        return false;
    };
    !key_type.is_empty()
        && u32::from_be_bytes(*length) as usize == key_type.len()
        && rest.starts_with(key_type.as_bytes())
}
