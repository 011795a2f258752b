//! The services that share the one port, and how each of them says no.
//!
//! | service | called by | answers in |
//! |---|---|---|
//! | `ec2` | `Action` and version 2016-11-15 | XML |
//! | `sts` | `Action` and version 2011-06-15 | XML of another shape |
//! | `ec2-instance-connect` | `X-Amz-Target` | JSON |
//!
//! A signature must be for the service that is called: one that was made for STS can't be sent to EC2.

use hyper::StatusCode;
use hyper::http::request::Parts;

use super::error::{Code, Ec2Error};
use super::reply::RequestId;
use super::xml::{Document, Xml};
use crate::sigv4::AuthError;

/// The header that names an action of a JSON service.
pub(super) const TARGET: &str = "x-amz-target";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Ec2,
    Sts,
    InstanceConnect,
}

impl Service {
    /// The names that this endpoint has in a credential's scope.
    pub(super) const SCOPES: [&str; 3] = ["ec2", "sts", "ec2-instance-connect"];

    /// The name in a credential's scope, and in front of an action's name in rules.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::Sts => "sts",
            Service::InstanceConnect => "ec2-instance-connect",
        }
    }

    /// Which service a request seems to be meant for, for the shape of a refusal: of what is not believed yet, only the
    /// head is looked at.
    pub(super) fn seems(head: &Parts) -> Service {
        let authorization = head
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let query = head.uri.query().unwrap_or("");
        if head.headers.contains_key(TARGET) {
            Service::InstanceConnect
        } else if authorization.contains("/sts/aws4_request")
            || query.contains("%2Fsts%2Faws4_request")
        {
            Service::Sts
        } else {
            Service::Ec2
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Service::Ec2 => "text/xml;charset=UTF-8",
            Service::Sts => "text/xml",
            Service::InstanceConnect => "application/x-amz-json-1.1",
        }
    }

    /// Status and document of a refusal of a caller who is known.
    pub(super) fn refusal(self, error: &Ec2Error, id: &RequestId) -> (StatusCode, Document) {
        let status = error.code.status();
        match self {
            Service::Ec2 => (status, ec2_error(error.code.as_str(), &error.message, id)),
            Service::Sts => (
                status,
                sts_error(status, error.code.as_str(), &error.message, id),
            ),
            Service::InstanceConnect => {
                (status, json_error(error.code.exception(), &error.message))
            }
        }
    }

    /// Status and document of a refusal of a caller who is not. Services have names of their own for it.
    pub(super) fn unauthenticated(
        self,
        error: &AuthError,
        id: &RequestId,
    ) -> (StatusCode, Document) {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let invalid = "The security token included in the request is invalid.";
        match (self, error) {
            (Service::Ec2, error) => (status, ec2_error(error.code(), &error.message(), id)),
            (Service::Sts, AuthError::Refused(_)) => {
                let status = StatusCode::FORBIDDEN;
                (
                    status,
                    sts_error(status, "InvalidClientTokenId", invalid, id),
                )
            }
            (Service::Sts, AuthError::Unsigned) => {
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
            (Service::Sts, error) => (
                status,
                sts_error(status, error.code(), &error.message(), id),
            ),
            (Service::InstanceConnect, AuthError::Refused(_)) => (
                StatusCode::BAD_REQUEST,
                json_error("UnrecognizedClientException", invalid),
            ),
            (Service::InstanceConnect, AuthError::Unsigned) => {
                let message = "Missing Authentication Token";
                (
                    StatusCode::BAD_REQUEST,
                    json_error("MissingAuthenticationTokenException", message),
                )
            }
            (Service::InstanceConnect, AuthError::Incomplete(what)) => (
                StatusCode::BAD_REQUEST,
                json_error("IncompleteSignatureException", what),
            ),
            (Service::InstanceConnect, error) => (
                StatusCode::BAD_REQUEST,
                json_error("InvalidSignatureException", &error.message()),
            ),
        }
    }

    /// A signature that is good, and for another service.
    pub(super) fn wrong_scope(self) -> Ec2Error {
        let message = format!(
            "Credential should be scoped to correct service: '{}'.",
            self.as_str()
        );
        Ec2Error::new(Code::SignatureDoesNotMatch, message)
    }
}

/// It has no namespace, and its `RequestID` is spelled unlike a success's `requestId`.
fn ec2_error(code: &str, message: &str, id: &RequestId) -> Document {
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

fn sts_error(status: StatusCode, code: &str, message: &str, id: &RequestId) -> Document {
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

fn json_error(exception: &str, message: &str) -> Document {
    Document::json(&serde_json::json!({ "__type": exception, "Message": message }))
}

/// The namespace of every answer of STS.
pub(super) const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
