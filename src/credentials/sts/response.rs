//! The response of an STS: credentials, or an error.

use bytes::Bytes;
use hyper::StatusCode;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

use super::endpoint::Endpoint;
use crate::credentials::fetch::{FetchError, FetchedCredentials, log_excerpt, parse_expiration};
use crate::instance::xml_characters::unfit_for_xml;
use crate::secret::Secret;

/// Returns the credentials in a response, or the reason why there are none. The reason contains
/// none of `secrets`, which were sent with the request: servers echo them.
pub(super) fn credentials(
    endpoint: &Endpoint,
    response: (StatusCode, Bytes),
    secrets: &[&str],
) -> Result<FetchedCredentials, FetchError> {
    let (status, body) = response;
    let response = StsResponse::read(&body);
    if status == StatusCode::OK {
        return response
            .and_then(StsResponse::credentials)
            .map_err(|reason| endpoint.unavailable(reason));
    }
    let (code, message) = match response {
        Ok(StsResponse {
            code: Some(code),
            message,
            ..
        }) => (code, message.unwrap_or_default()),
        _ => {
            return Err(endpoint.unavailable(format_args!("{status}, without an STS error")));
        }
    };
    let text = format!("{code}: {message}");
    let text = secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(text, |text, secret| text.replace(secret, "[redacted]"));
    let reason = format!("STS at {}: {}", endpoint.authority, log_excerpt(&text));
    match status.is_client_error() && !is_temporary(status, &code) {
        true => Err(FetchError::refused(reason)),
        false => Err(FetchError::unavailable(reason)),
    }
}

/// Returns whether a client error (4xx) is temporary and not the fault of the caller.
fn is_temporary(status: StatusCode, code: &str) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    ) || matches!(
        code,
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "SlowDown"
    ) || matches!(
        code,
        "IDPCommunicationError" | "RequestTimeout" | "RequestTimeTooSkewed" | "RequestExpired"
    )
}

/// The parts of a response that matter here.
#[derive(Default)]
struct StsResponse {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    expiration: Option<String>,
    code: Option<String>,
    message: Option<String>,
}

impl StsResponse {
    /// Reads elements by their local names, because namespaces differ between servers or are
    /// missing.
    fn read(xml: &[u8]) -> Result<StsResponse, &'static str> {
        let malformed = "the response is not XML of STS";
        let mut reader = Reader::from_str(str::from_utf8(xml).map_err(|_| malformed)?);
        let mut response = StsResponse::default();
        let (mut path, mut text) = (Vec::<String>::new(), String::new());
        loop {
            match reader.read_event().map_err(|_| malformed)? {
                Event::Start(element) => {
                    path.push(element.local_name().into_inner().to_string());
                    text.clear();
                }
                Event::Text(part) => text += &part.xml10_content(),
                Event::CData(part) => text += &part.xml10_content(),
                Event::GeneralRef(entity) => {
                    match entity.resolve_char_ref().map_err(|_| malformed)? {
                        Some(character) => text.push(character),
                        None => text += resolve_predefined_entity(&entity).ok_or(malformed)?,
                    }
                }
                Event::End(_) => {
                    if let Some(field) = response.field(&path) {
                        *field = Some(std::mem::take(&mut text).trim().to_string());
                    }
                    text.clear();
                    path.pop();
                }
                Event::Eof if path.is_empty() => return Ok(response),
                Event::Eof => return Err(malformed),
                Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
    }

    /// Returns the field for an element, by its name and its parent's.
    fn field(&mut self, path: &[String]) -> Option<&mut Option<String>> {
        let [.., parent, name] = path else {
            return None;
        };
        Some(match (parent.as_str(), name.as_str()) {
            ("Credentials", "AccessKeyId") => &mut self.access_key_id,
            ("Credentials", "SecretAccessKey") => &mut self.secret_access_key,
            ("Credentials", "SessionToken") => &mut self.session_token,
            ("Credentials", "Expiration") => &mut self.expiration,
            ("Error", "Code") => &mut self.code,
            ("Error", "Message") => &mut self.message,
            _ => return None,
        })
    }

    fn credentials(self) -> Result<FetchedCredentials, &'static str> {
        let required = |field: Option<String>| {
            let text = field
                .filter(|text| !text.is_empty())
                .ok_or("the credentials are incomplete")?;
            // The parser accepts characters that XML does not have, such as NUL.
            match unfit_for_xml(&text) {
                None => Ok(text),
                Some(_) => Err("the credentials have control characters"),
            }
        };
        let expiration = required(self.expiration)?;
        Ok(FetchedCredentials {
            access_key_id: required(self.access_key_id)?,
            secret_access_key: Secret::new(required(self.secret_access_key)?),
            session_token: Secret::new(required(self.session_token)?),
            expiration: Some(
                parse_expiration(&expiration)
                    .ok_or("the Expiration of the credentials is not a time")?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::fetch::FailureKind;

    /// The example in AWS's STS API reference, shortened. MinIO and Ceph differ in the namespace
    /// and in other elements.
    const ASSUMED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
        <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/demo/TestAR</Arn></AssumedRoleUser>
        <Credentials><AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>
        <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY</SecretAccessKey>
        <SessionToken>
          AQoDYXdzEPT//////////wEXAMPLE==
        </SessionToken>
        <Expiration>2019-11-09T13:34:41Z</Expiration></Credentials>
        <PackedPolicySize>6</PackedPolicySize></AssumeRoleResult></AssumeRoleResponse>"#;

    fn endpoint() -> Endpoint {
        Endpoint::read("https://sts.example.com").unwrap()
    }

    fn credentials_of(
        status: u16,
        body: &str,
        secrets: &[&str],
    ) -> Result<FetchedCredentials, FetchError> {
        let response = (
            StatusCode::from_u16(status).unwrap(),
            Bytes::from(body.to_string()),
        );
        credentials(&endpoint(), response, secrets)
    }

    #[test]
    fn credentials_are_read_with_any_namespace() {
        let bare = ASSUMED.replace(r#" xmlns="https://sts.amazonaws.com/doc/2011-06-15/""#, "");
        let prefixed = ASSUMED
            .replace("<Cred", "<s:Cred")
            .replace("</Cred", "</s:Cred")
            .replace("<Access", "<s:Access");
        let prefixed = prefixed
            .replace("</Access", "</s:Access")
            .replace("xmlns=", "xmlns:s=");
        let web = ASSUMED.replace("AssumeRoleRes", "AssumeRoleWithWebIdentityRes");
        let escaped = ASSUMED
            .replace("wEXAMPLE", "w&#69;XAMPLE")
            .replace("ASIAI", "<![CDATA[ASIA]]>I");
        for text in [ASSUMED, &bare, &prefixed, &web, &escaped] {
            let fetched = credentials_of(200, text, &[]).unwrap();
            assert_eq!(fetched.access_key_id, "ASIAIOSFODNN7EXAMPLE");
            assert_eq!(
                fetched.secret_access_key.expose(),
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"
            );
            assert_eq!(
                fetched.session_token.expose(),
                "AQoDYXdzEPT//////////wEXAMPLE=="
            );
            assert_eq!(
                fetched.expiration,
                Some("2019-11-09T13:34:41Z".parse().unwrap())
            );
        }
    }

    #[test]
    fn a_client_error_is_a_refusal_unless_it_is_temporary() {
        let error = |code: &str| {
            format!(
                r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
                <Code>{code}</Code><Message>it &quot;is&quot; so</Message></Error><RequestId>1</RequestId></ErrorResponse>"#
            )
        };
        use FailureKind::{Refused, Unavailable};
        let bare = "<Error><Code>AccessDenied</Code></Error>";
        for (status, body, kind, reason) in [
            (
                403,
                error("AccessDenied"),
                Refused,
                "STS at sts.example.com: AccessDenied: it \"is\" so",
            ),
            (
                400,
                error("ExpiredTokenException"),
                Refused,
                "ExpiredTokenException: it \"is\" so",
            ),
            (
                403,
                error("SignatureDoesNotMatch"),
                Refused,
                "SignatureDoesNotMatch",
            ),
            // Ceph returns errors in the format of S3.
            (403, bare.to_string(), Refused, "AccessDenied:"),
            (400, error("Throttling"), Unavailable, "Throttling"),
            (
                400,
                error("IDPCommunicationError"),
                Unavailable,
                "IDPCommunicationError",
            ),
            (429, error("Slow"), Unavailable, "Slow"),
            (
                500,
                error("InternalFailure"),
                Unavailable,
                "InternalFailure",
            ),
            (503, error("AccessDenied"), Unavailable, "AccessDenied"),
            (302, error("AccessDenied"), Unavailable, "AccessDenied"),
            (
                403,
                "<html>no</html>".to_string(),
                Unavailable,
                "without an STS error",
            ),
            (404, String::new(), Unavailable, "without an STS error"),
            (
                200,
                error("AccessDenied"),
                Unavailable,
                "the credentials are incomplete",
            ),
        ] {
            let refused = credentials_of(status, &body, &[]).unwrap_err();
            assert!(
                refused.kind == kind && refused.to_string().contains(reason),
                "{status} {body}: {refused:?}"
            );
        }
        let echo =
            "<Error><Code>InvalidIdentityToken</Code><Message>bad: hunter2\nmore</Message></Error>";
        let error = credentials_of(400, echo, &["", "hunter2"])
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("InvalidIdentityToken: bad: [redacted] more"),
            "{error}"
        );
    }

    /// XML has no such characters, and a guest would get them in its credentials.
    #[test]
    fn credentials_with_control_characters_are_refused() {
        for odd in [
            "\0",
            "\u{1b}",
            "&#1;",
            "&#x1b;",
            "<![CDATA[\0]]>",
            "\u{ffff}",
        ] {
            for part in ["ASIAI", "wJalr", "AQoDY"] {
                let text = ASSUMED.replace(part, &format!("{part}{odd}"));
                let refused = credentials_of(200, &text, &[]).unwrap_err();
                assert_eq!(refused.kind, FailureKind::Unavailable, "{odd:?}");
            }
        }
    }

    #[test]
    fn an_incomplete_response_has_no_credentials() {
        for (from, to) in [
            ("<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>", ""),
            (
                "<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>",
                "<AccessKeyId/>",
            ),
            (
                "<SecretAccessKey>",
                "<Other/><SecretAccessKey><x/>&unknown;",
            ),
            ("2019-11-09T13:34:41Z", "soon"),
            ("</AssumeRoleResponse>", ""),
            ("</Credentials>", "</Credential>"),
            ("Credentials>", "Credential>"),
            ("<Expiration>2019-11-09T13:34:41Z</Expiration>", ""),
        ] {
            let text = ASSUMED.replace(from, to);
            assert_ne!(text, ASSUMED);
            let refused = credentials_of(200, &text, &[]).unwrap_err();
            assert!(!refused.to_string().contains("wJalr"), "{refused}");
        }
        for cut in 0..ASSUMED.len() {
            assert!(credentials_of(200, &ASSUMED[..cut], &[]).is_err());
        }
    }
}
