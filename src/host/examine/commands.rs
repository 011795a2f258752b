//! The commands that findings print. An operator pastes them into a shell, so names are quoted.

use std::fmt;
use std::net::IpAddr;

/// Returns the command that adds an address to an interface: an IPv6 address with `nodad`, because
/// a guest could otherwise claim it first.
pub(super) fn add_address(ip: &str, interface: &str, address: IpAddr) -> String {
    let (prefix, nodad) = if address.is_ipv4() {
        (32, "")
    } else {
        (128, " nodad")
    };
    let interface = shell_word(interface);
    format!("{ip} address add {address}/{prefix} dev {interface}{nodad}")
}

/// Returns the command that sets numbers below /proc/sys/net. Paths are relative to that directory.
pub(super) fn sysctl(settings: &[(String, i64)]) -> String {
    // sysctl ends a name at the first `=` and reads the other characters as patterns.
    if settings
        .iter()
        .any(|(path, _)| path.contains(['=', '*', '?', '[']))
    {
        let write = |(path, value): &(String, i64)| {
            let file = format!("/proc/sys/net/{path}");
            format!("echo {value} >{}", shell_word(&file))
        };
        return settings.iter().map(write).collect::<Vec<_>>().join(" && ");
    }
    let mut command = "sysctl -w".to_string();
    for (path, value) in settings {
        // sysctl accepts `.` and `/` as separators; a name that contains a dot needs `/`.
        let name = if path.contains('.') {
            format!("net/{path}")
        } else {
            format!("net/{path}").replace('/', ".")
        };
        command += &format!(" {}={value}", shell_word(&name));
    }
    command
}

/// Returns the command that sets an IPv4 setting of `conf.all` and of `conf.INTERFACE` to `value`,
/// each only if its current value is above `limit`.
pub(super) fn lower(
    interface: &str,
    setting: &str,
    (all, own): (i64, i64),
    limit: i64,
    value: i64,
) -> String {
    let settings: Vec<(String, i64)> = [("all", all), (interface, own)]
        .into_iter()
        .filter(|(_, current)| *current > limit)
        .map(|(of, _)| (format!("ipv4/conf/{of}/{setting}"), value))
        .collect();
    sysctl(&settings)
}

/// Quotes a word for a shell. The kernel allows nearly every character in the name of an interface.
pub fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@%:/".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Returns the items separated by commas.
pub(super) fn join(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
