//! The AWS services that share the port, and the form of each service's errors.
//!
//! | service | selected by | reply format |
//! |---|---|---|
//! | `ec2` | `Action` and no version, or one from 2013-10-15 to 2016-11-15 | XML |
//! | `sts` | `Action` and version 2011-06-15 | XML with other elements |
//! | `ec2-instance-connect` | `X-Amz-Target` | JSON |
//!
//! A signature must be scoped to the service that is called: one made for STS cannot be sent to
//! EC2.

use hyper::StatusCode;
use hyper::http::request::Parts;

use super::error::{Code, Ec2Error};
use super::request_id::RequestId;
use super::xml::{ResponseBody, Xml};
use crate::sigv4::AuthError;

/// The header that names an action of a JSON service.
pub(super) const TARGET: &str = "x-amz-target";

/// One of these services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AwsService {
    Ec2,
    Sts,
    InstanceConnect,
}

impl AwsService {
    /// The service names that a credential may be scoped to.
    pub(super) const SCOPES: [&str; 3] = ["ec2", "sts", "ec2-instance-connect"];

    /// Returns the name in a credential's scope, which is also the prefix of actions in rules.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            AwsService::Ec2 => "ec2",
            AwsService::Sts => "sts",
            AwsService::InstanceConnect => "ec2-instance-connect",
        }
    }

    /// Guesses the service from the head of a request that is not authenticated, to choose the
    /// error format.
    pub(super) fn guess(head: &Parts) -> AwsService {
        let authorization = head
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let query = head.uri.query().unwrap_or("");
        if head.headers.contains_key(TARGET) {
            AwsService::InstanceConnect
        } else if authorization.contains("/sts/aws4_request")
            || query.contains("%2Fsts%2Faws4_request")
        {
            AwsService::Sts
        } else {
            AwsService::Ec2
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            AwsService::Ec2 => "text/xml;charset=UTF-8",
            AwsService::Sts => "text/xml",
            AwsService::InstanceConnect => "application/x-amz-json-1.1",
        }
    }

    /// Returns status and body of an error after authentication.
    pub(super) fn refusal(self, error: &Ec2Error, id: &RequestId) -> (StatusCode, ResponseBody) {
        let status = error.code.status();
        match self {
            AwsService::Ec2 => (status, ec2_error(error.code.as_str(), &error.message, id)),
            AwsService::Sts => (
                status,
                sts_error(status, error.code.as_str(), &error.message, id),
            ),
            AwsService::InstanceConnect => {
                (status, json_error(error.code.exception(), &error.message))
            }
        }
    }

    /// Returns status and body of an authentication error. Each service has its own codes for
    /// these.
    pub(super) fn unauthenticated(
        self,
        error: &AuthError,
        id: &RequestId,
    ) -> (StatusCode, ResponseBody) {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let invalid = "The security token included in the request is invalid.";
        match (self, error) {
            (AwsService::Ec2, error) => (status, ec2_error(error.code(), &error.message(), id)),
            (AwsService::Sts, AuthError::Refused(_)) => {
                let status = StatusCode::FORBIDDEN;
                (
                    status,
                    sts_error(status, "InvalidClientTokenId", invalid, id),
                )
            }
            (AwsService::Sts, AuthError::Unsigned) => {
                let status = StatusCode::FORBIDDEN;
                (
                    status,
                    sts_error(
                        status,
                        "MissingAuthenticationToken",
                        "Request is missing Authentication Token",
                        id,
                    ),
                )
            }
            (AwsService::Sts, error) => (
                status,
                sts_error(status, error.code(), &error.message(), id),
            ),
            (AwsService::InstanceConnect, AuthError::Refused(_)) => (
                StatusCode::BAD_REQUEST,
                json_error("UnrecognizedClientException", invalid),
            ),
            (AwsService::InstanceConnect, AuthError::Unsigned) => {
                let message = "Missing Authentication Token";
                (
                    StatusCode::BAD_REQUEST,
                    json_error("MissingAuthenticationTokenException", message),
                )
            }
            (AwsService::InstanceConnect, AuthError::Incomplete(what)) => (
                StatusCode::BAD_REQUEST,
                json_error("IncompleteSignatureException", what),
            ),
            (AwsService::InstanceConnect, error) => (
                StatusCode::BAD_REQUEST,
                json_error("InvalidSignatureException", &error.message()),
            ),
        }
    }

    /// Returns the error for a valid signature that is scoped to another service.
    pub(super) fn wrong_scope(self) -> Ec2Error {
        let message = format!(
            "Credential should be scoped to correct service: '{}'.",
            self.as_str()
        );
        Ec2Error::new(Code::SignatureDoesNotMatch, message)
    }
}

/// EC2's error document has no namespace and spells `RequestID`; a successful reply spells
/// `requestId`.
fn ec2_error(code: &str, message: &str, id: &RequestId) -> ResponseBody {
    Xml::document("Response", None, |xml| {
        xml.element("Errors", |xml| {
            xml.element("Error", |xml| {
                xml.text("Code", code);
                xml.text("Message", message);
            });
        });
        xml.text("RequestID", id);
    })
}

fn sts_error(status: StatusCode, code: &str, message: &str, id: &RequestId) -> ResponseBody {
    Xml::document("ErrorResponse", Some(STS_NAMESPACE), |xml| {
        xml.element("Error", |xml| {
            xml.text(
                "Type",
                if status.is_server_error() {
                    "Receiver"
                } else {
                    "Sender"
                },
            );
            xml.text("Code", code);
            xml.text("Message", message);
        });
        xml.text("RequestId", id);
    })
}

fn json_error(exception: &str, message: &str) -> ResponseBody {
    ResponseBody::json(&serde_json::json!({ "__type": exception, "Message": message }))
}

/// The XML namespace of every STS reply.
pub(super) const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
