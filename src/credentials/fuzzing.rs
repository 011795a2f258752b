//! Fuzz targets of the sources of credentials: what a program prints, and what an STS answers.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;

use super::fetch::{FailureKind, FetchedCredentials};
use super::process;
use super::sts::fuzzing::answer;

/// The output of a credential program. What is read is printed and read again; an error contains
/// nothing of the output.
pub fn credential_process(data: &[u8]) {
    let read = match process::parse(data) {
        Ok(read) => read,
        Err(reason) => {
            let shape: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
            let is_known = [
                "is not JSON (line , column )",
                "has no Version ",
                "has an Expiration that is not a time by RFC ",
            ]
            .contains(&shape.as_str());
            let is_of_field = [
                "AccessKeyId",
                "SecretAccessKey",
                "SessionToken",
                "Expiration",
            ]
            .iter()
            .any(|field| {
                shape == format!("has no {field}")
                    || shape == format!("has {field} that is not a string")
            });
            assert!(is_known || is_of_field, "{reason:?}");
            return;
        }
    };
    assert!(!read.access_key_id.is_empty() && !read.secret_access_key.expose().is_empty());
    let printed = json!({
        "Version": 1,
        "AccessKeyId": read.access_key_id,
        "SecretAccessKey": read.secret_access_key.expose(),
        "SessionToken": read.session_token.expose(),
        "Expiration": read.expiration.map(|time| time.to_string()),
    });
    assert_eq!(process::parse(printed.to_string().as_bytes()), Ok(read));
}

/// The answer of an STS: the first byte chooses the status, the rest is the body. Credentials come
/// with 200 only and are printed and read again; a reason for the log is one short line without the
/// secrets that were sent.
pub fn sts_answer(data: &[u8]) {
    const SECRETS: [&str; 2] = ["sent-token", "sent-secret"];
    let Some((status, body)) = data.split_first() else {
        return;
    };
    let status = [200, 400, 403, 408, 429, 500, 503, 302][usize::from(status % 8)];
    let status = StatusCode::from_u16(status).expect("a status");
    match answer((status, Bytes::copy_from_slice(body)), &SECRETS) {
        Ok(read) => {
            assert_eq!(status, StatusCode::OK);
            assert!(read.expiration.is_some());
            let again = answer((status, print(&read).into()), &SECRETS);
            assert_eq!(again.as_ref(), Ok(&read));
        }
        Err(error) => {
            let reason = error.to_string();
            assert!(!reason.chars().any(char::is_control), "{reason:?}");
            assert!(reason.chars().count() < 400, "{reason:?}");
            for secret in SECRETS {
                assert!(!reason.contains(secret), "{reason:?}");
            }
            let is_refusal = error.kind == FailureKind::Refused;
            assert!(!is_refusal || status.is_client_error());
        }
    }
}

fn print(read: &FetchedCredentials) -> String {
    let escaped = |text: &str| -> String {
        text.chars()
            .map(|c| format!("&#{};", u32::from(c)))
            .collect()
    };
    let expiration = read
        .expiration
        .map(|time| time.to_string())
        .unwrap_or_default();
    format!(
        "<R><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{expiration}</Expiration></Credentials></R>",
        escaped(&read.access_key_id),
        escaped(read.secret_access_key.expose()),
        escaped(read.session_token.expose()),
    )
}
