//! What EC2 answers to a signed request that it does not carry out: a code, its HTTP status, and a sentence.

use hyper::StatusCode;

use crate::instance::InstanceId;

/// EC2's error codes, but for those of a bad signature (see [`crate::sigv4::AuthError`]). On the wire they have no
/// `Client.` or `Server.` prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The dry run would have succeeded.
    DryRunOperation,
    /// More filter values than one call may have.
    FilterLimitExceeded,
    /// The instance is in no state for this.
    IncorrectInstanceState,
    /// The store failed; nothing changed.
    InternalError,
    /// No such action.
    InvalidAction,
    /// Not an instance id.
    InvalidInstanceIdMalformed,
    /// No such instance.
    InvalidInstanceIdNotFound,
    /// Not a token that we gave.
    InvalidNextToken,
    /// Parameters that can't stand together.
    InvalidParameterCombination,
    /// A parameter has a value that it can't have.
    InvalidParameterValue,
    /// The parameters can't be decoded.
    MalformedQueryString,
    /// Neither GET nor POST.
    MethodNotAllowed,
    /// `Action` is missing.
    MissingAction,
    /// A required parameter is missing.
    MissingParameter,
    /// Another version of the API.
    NoSuchVersion,
    /// The body is too large.
    RequestEntityTooLarge,
    /// A parameter that the action does not have.
    UnknownParameter,
}

impl Code {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::DryRunOperation => "DryRunOperation",
            Code::FilterLimitExceeded => "FilterLimitExceeded",
            Code::IncorrectInstanceState => "IncorrectInstanceState",
            Code::InternalError => "InternalError",
            Code::InvalidAction => "InvalidAction",
            Code::InvalidInstanceIdMalformed => "InvalidInstanceID.Malformed",
            Code::InvalidInstanceIdNotFound => "InvalidInstanceID.NotFound",
            Code::InvalidNextToken => "InvalidNextToken",
            Code::InvalidParameterCombination => "InvalidParameterCombination",
            Code::InvalidParameterValue => "InvalidParameterValue",
            Code::MalformedQueryString => "MalformedQueryString",
            Code::MethodNotAllowed => "MethodNotAllowed",
            Code::MissingAction => "MissingAction",
            Code::MissingParameter => "MissingParameter",
            Code::NoSuchVersion => "NoSuchVersion",
            Code::RequestEntityTooLarge => "RequestEntityTooLarge",
            Code::UnknownParameter => "UnknownParameter",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Code::DryRunOperation => StatusCode::PRECONDITION_FAILED,
            Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::FilterLimitExceeded
            | Code::IncorrectInstanceState
            | Code::InvalidAction
            | Code::InvalidInstanceIdMalformed
            | Code::InvalidInstanceIdNotFound
            | Code::InvalidNextToken
            | Code::InvalidParameterCombination
            | Code::InvalidParameterValue
            | Code::MalformedQueryString
            | Code::MissingAction
            | Code::MissingParameter
            | Code::NoSuchVersion
            | Code::UnknownParameter => StatusCode::BAD_REQUEST,
        }
    }
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Error {
    /// What SDKs look at.
    pub code: Code,
    /// What people look at. It may repeat what the caller sent, so it is not logged.
    pub message: String,
}

impl Ec2Error {
    /// A refusal with a sentence of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Ec2Error {
        Ec2Error { code, message: message.into() }
    }

    pub(super) fn dry_run() -> Ec2Error {
        Ec2Error::new(Code::DryRunOperation, "Request would have succeeded, but DryRun flag is set.")
    }

    pub(super) fn missing_parameter(name: &str) -> Ec2Error {
        Ec2Error::new(Code::MissingParameter, format!("The request must contain the parameter {name}"))
    }

    pub(super) fn unknown_parameter(name: &str) -> Ec2Error {
        Ec2Error::new(Code::UnknownParameter, format!("The parameter {name} is not recognized"))
    }

    /// EC2's sentence for a word that is not one of two.
    pub(super) fn neither(value: &str, name: &str, one: &str, other: &str) -> Ec2Error {
        Ec2Error::new(
            Code::InvalidParameterValue,
            format!("A value of '{value}' is not valid for {name}. Specify either '{one}' or '{other}' and try again."),
        )
    }

    pub(super) fn malformed_id(text: &str) -> Ec2Error {
        Ec2Error::new(Code::InvalidInstanceIdMalformed, format!("Invalid id: \"{text}\""))
    }

    pub(super) fn not_found(id: &str) -> Ec2Error {
        Ec2Error::new(Code::InvalidInstanceIdNotFound, format!("The instance ID '{id}' does not exist"))
    }

    pub(super) fn none_found(ids: &[String]) -> Ec2Error {
        match ids {
            [id] => Ec2Error::not_found(id),
            ids => Ec2Error::new(
                Code::InvalidInstanceIdNotFound,
                format!("The instance IDs '{}' do not exist", ids.join(", ")),
            ),
        }
    }

    /// The instance exists, but its record can't be read. "Not found" would make tools forget or replace it.
    pub(super) fn unreadable(id: &InstanceId) -> Ec2Error {
        Ec2Error::new(Code::InternalError, format!("The record of the instance '{id}' can't be read."))
    }
}
