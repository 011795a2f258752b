//! Parsers of single values: paths, names, addresses, URLs. Errors are messages for the operator.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use crate::instance::interface_name_fault;

/// Returns a parser of paths that are relative to `directory`.
pub(super) fn path_in(directory: &Path) -> impl Fn(&str) -> Result<PathBuf, String> {
    move |text| match text {
        "" => Err("a path cannot be empty".to_string()),
        text => Ok(directory.join(text)),
    }
}

pub(super) fn interface_name(text: &str) -> Result<String, String> {
    match interface_name_fault(text) {
        None => Ok(text.to_string()),
        Some(fault) => Err(fault),
    }
}

pub(super) fn listener_name(text: &str) -> Result<String, String> {
    let letters = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match letters && (1..=64).contains(&text.len()) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "a listener's name has 1 to 64 letters, digits and ._-, found '{}'",
            text.escape_debug()
        )),
    }
}

/// Parses the ending of a table's name. With what imdsd puts before it, the name has at most 31
/// bytes, as kernels before 4.14 require.
pub(super) fn rules_table(text: &str) -> Result<String, String> {
    let letters = text
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    match letters && (1..=24).contains(&text.len()) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "the ending of a table's name has 1 to 24 lower-case letters, digits and hyphens, found '{}'",
            text.escape_debug()
        )),
    }
}

/// Parses the URL of an issuer. Verifiers compare it byte by byte, and fetch the key set from a
/// path below it.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or_default();
    let letters = rest
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._:/[]".contains(&b));
    match letters && !rest.is_empty() && !rest.ends_with('/') {
        true => Ok(text.to_string()),
        false => Err(format!(
            "'{}' is not a URL such as https://imds.example.com (without a slash at the end)",
            text.escape_debug()
        )),
    }
}

/// Parses a host name or an address, as it appears in `Host` before the port.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_address = bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let letters = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match is_address || (letters && (1..=253).contains(&text.len())) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "'{}' is not a host name without a port",
            text.escape_debug()
        )),
    }
}

pub(super) fn region(text: &str) -> Result<String, String> {
    let letters = text
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    match letters && (1..=64).contains(&text.len()) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "'{}' is not a region such as us-east-1",
            text.escape_debug()
        )),
    }
}

pub(super) fn not_an_address(text: &str, family: &str, example: &str) -> String {
    format!(
        "'{}' is not {family} address and port such as {example}",
        text.escape_debug()
    )
}
