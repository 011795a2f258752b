//! What EC2 answers to a signed request that it does not carry out: a code, its HTTP status, and a sentence.

use hyper::StatusCode;

use crate::instance::InstanceId;
use crate::registry::QuarantineReason;

/// EC2's error codes, but for those of a bad signature (see [`crate::sigv4::AuthError`]). On the wire they have no
/// `Client.` or `Server.` prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The dry run would have succeeded.
    DryRunOperation,
    /// More filter values than one call may have.
    FilterLimitExceeded,
    /// The instances of this client token were terminated.
    IdempotentInstanceTerminated,
    /// The client token was used with other parameters.
    IdempotentParameterMismatch,
    /// The instance is in no state for this.
    IncorrectInstanceState,
    /// The event can't be moved.
    InstanceEventStartTimeCannotChange,
    /// More instances than there may be.
    InstanceLimitExceeded,
    /// The store failed; nothing changed.
    InternalError,
    /// No such action.
    InvalidAction,
    /// Not an image id.
    InvalidAmiIdMalformed,
    /// Not the id of anything that has tags here.
    InvalidId,
    /// No such event. EC2 spells this one without a dot.
    InvalidInstanceEventIdNotFound,
    /// The event can't be moved to that time.
    InvalidInstanceEventStartTime,
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
    /// A tag key that is EC2's own.
    InvalidTagKeyMalformed,
    /// User data that is no base64.
    InvalidUserDataMalformed,
    /// The parameters can't be decoded.
    MalformedQueryString,
    /// Neither GET nor POST.
    MethodNotAllowed,
    /// `Action` is missing.
    MissingAction,
    /// A body whose length was not said. The code is the one that S3 uses.
    MissingContentLength,
    /// A required parameter is missing.
    MissingParameter,
    /// Another version of the API.
    NoSuchVersion,
    /// An instance attribute forbids it.
    OperationNotPermitted,
    /// The body is too large.
    RequestEntityTooLarge,
    /// Signed for another service than the one that is called.
    SignatureDoesNotMatch,
    /// More tags than an instance may have.
    TagLimitExceeded,
    /// Too much at once.
    Throttling,
    /// The caller may not do this.
    UnauthorizedOperation,
    /// A parameter that the action does not have.
    UnknownParameter,
    /// EC2 does this and imdsd does not, or the account's defaults forbid it.
    UnsupportedOperation,
}

impl Code {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::DryRunOperation => "DryRunOperation",
            Code::FilterLimitExceeded => "FilterLimitExceeded",
            Code::IdempotentInstanceTerminated => "IdempotentInstanceTerminated",
            Code::IdempotentParameterMismatch => "IdempotentParameterMismatch",
            Code::IncorrectInstanceState => "IncorrectInstanceState",
            Code::InstanceEventStartTimeCannotChange => "InstanceEventStartTimeCannotChange",
            Code::InstanceLimitExceeded => "InstanceLimitExceeded",
            Code::InternalError => "InternalError",
            Code::InvalidAction => "InvalidAction",
            Code::InvalidAmiIdMalformed => "InvalidAMIID.Malformed",
            Code::InvalidId => "InvalidID",
            Code::InvalidInstanceEventIdNotFound => "InvalidInstanceEventIDNotFound",
            Code::InvalidInstanceEventStartTime => "InvalidInstanceEventStartTime",
            Code::InvalidInstanceIdMalformed => "InvalidInstanceID.Malformed",
            Code::InvalidInstanceIdNotFound => "InvalidInstanceID.NotFound",
            Code::InvalidNextToken => "InvalidNextToken",
            Code::InvalidParameterCombination => "InvalidParameterCombination",
            Code::InvalidParameterValue => "InvalidParameterValue",
            Code::InvalidTagKeyMalformed => "InvalidTagKey.Malformed",
            Code::InvalidUserDataMalformed => "InvalidUserData.Malformed",
            Code::MalformedQueryString => "MalformedQueryString",
            Code::MethodNotAllowed => "MethodNotAllowed",
            Code::MissingAction => "MissingAction",
            Code::MissingContentLength => "MissingContentLength",
            Code::MissingParameter => "MissingParameter",
            Code::NoSuchVersion => "NoSuchVersion",
            Code::OperationNotPermitted => "OperationNotPermitted",
            Code::RequestEntityTooLarge => "RequestEntityTooLarge",
            Code::SignatureDoesNotMatch => "SignatureDoesNotMatch",
            Code::TagLimitExceeded => "TagLimitExceeded",
            Code::Throttling => "Throttling",
            Code::UnauthorizedOperation => "UnauthorizedOperation",
            Code::UnknownParameter => "UnknownParameter",
            Code::UnsupportedOperation => "UnsupportedOperation",
        }
    }

    /// The name of the exception that EC2 Instance Connect has for it.
    pub(super) fn exception(self) -> &'static str {
        match self {
            Code::UnauthorizedOperation => "AuthException",
            Code::InvalidInstanceIdNotFound => "EC2InstanceNotFoundException",
            Code::IncorrectInstanceState => "EC2InstanceStateInvalidException",
            Code::InternalError => "ServiceException",
            Code::InvalidAction => "UnknownOperationException",
            Code::SignatureDoesNotMatch => "InvalidSignatureException",
            Code::Throttling => "ThrottlingException",
            Code::DryRunOperation
            | Code::FilterLimitExceeded
            | Code::IdempotentInstanceTerminated
            | Code::IdempotentParameterMismatch
            | Code::InstanceEventStartTimeCannotChange
            | Code::InstanceLimitExceeded
            | Code::InvalidAmiIdMalformed
            | Code::InvalidId
            | Code::InvalidInstanceEventIdNotFound
            | Code::InvalidInstanceEventStartTime
            | Code::InvalidInstanceIdMalformed
            | Code::InvalidNextToken
            | Code::InvalidParameterCombination
            | Code::InvalidParameterValue
            | Code::InvalidTagKeyMalformed
            | Code::InvalidUserDataMalformed
            | Code::MalformedQueryString
            | Code::MethodNotAllowed
            | Code::MissingAction
            | Code::MissingContentLength
            | Code::MissingParameter
            | Code::NoSuchVersion
            | Code::OperationNotPermitted
            | Code::RequestEntityTooLarge
            | Code::TagLimitExceeded
            | Code::UnknownParameter
            | Code::UnsupportedOperation => "InvalidArgsException",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Code::DryRunOperation => StatusCode::PRECONDITION_FAILED,
            Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::MissingContentLength => StatusCode::LENGTH_REQUIRED,
            Code::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::SignatureDoesNotMatch | Code::UnauthorizedOperation => StatusCode::FORBIDDEN,
            Code::FilterLimitExceeded
            | Code::IdempotentInstanceTerminated
            | Code::IdempotentParameterMismatch
            | Code::IncorrectInstanceState
            | Code::InstanceEventStartTimeCannotChange
            | Code::InstanceLimitExceeded
            | Code::InvalidAction
            | Code::InvalidAmiIdMalformed
            | Code::InvalidId
            | Code::InvalidInstanceEventIdNotFound
            | Code::InvalidInstanceEventStartTime
            | Code::InvalidInstanceIdMalformed
            | Code::InvalidInstanceIdNotFound
            | Code::InvalidNextToken
            | Code::InvalidParameterCombination
            | Code::InvalidParameterValue
            | Code::InvalidTagKeyMalformed
            | Code::InvalidUserDataMalformed
            | Code::MalformedQueryString
            | Code::MissingAction
            | Code::MissingParameter
            | Code::NoSuchVersion
            | Code::OperationNotPermitted
            | Code::TagLimitExceeded
            | Code::Throttling
            | Code::UnknownParameter
            | Code::UnsupportedOperation => StatusCode::BAD_REQUEST,
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
        Ec2Error {
            code,
            message: message.into(),
        }
    }

    pub(super) fn dry_run() -> Ec2Error {
        Ec2Error::new(
            Code::DryRunOperation,
            "Request would have succeeded, but DryRun flag is set.",
        )
    }

    /// It says nothing of what the caller named, not even whether it exists.
    pub(super) fn unauthorized() -> Ec2Error {
        Ec2Error::new(
            Code::UnauthorizedOperation,
            "You are not authorized to perform this operation.",
        )
    }

    /// EC2's sentence for an instance that is in no state for this. `what` is a participle.
    pub(super) fn incorrect_state(id: &InstanceId, what: &str) -> Ec2Error {
        let message = format!("The instance '{id}' is not in a state from which it can be {what}.");
        Ec2Error::new(Code::IncorrectInstanceState, message)
    }

    pub(super) fn invalid_value(message: impl Into<String>) -> Ec2Error {
        Ec2Error::new(Code::InvalidParameterValue, message)
    }

    /// The defaults decide, and nobody knows what they are.
    pub(super) fn account_unreadable() -> Ec2Error {
        Ec2Error::new(
            Code::InternalError,
            "The record of the account's metadata defaults can't be read.",
        )
    }

    pub(super) fn missing_parameter(name: &str) -> Ec2Error {
        Ec2Error::new(
            Code::MissingParameter,
            format!("The request must contain the parameter {name}"),
        )
    }

    pub(super) fn unknown_parameter(name: &str) -> Ec2Error {
        Ec2Error::new(
            Code::UnknownParameter,
            format!("The parameter {name} is not recognized"),
        )
    }

    /// EC2's sentence for a word that is not one of two.
    pub(super) fn neither(value: &str, name: &str, one: &str, other: &str) -> Ec2Error {
        Ec2Error::new(
            Code::InvalidParameterValue,
            format!(
                "A value of '{value}' is not valid for {name}. Specify either '{one}' or '{other}' and try again."
            ),
        )
    }

    pub(super) fn malformed_id(text: &str) -> Ec2Error {
        Ec2Error::new(
            Code::InvalidInstanceIdMalformed,
            format!("Invalid id: \"{text}\""),
        )
    }

    pub(super) fn not_found(id: &str) -> Ec2Error {
        Ec2Error::new(
            Code::InvalidInstanceIdNotFound,
            format!("The instance ID '{id}' does not exist"),
        )
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

    /// The instance exists, but it has no record that can be relied on. "Not found" would make tools forget or replace it.
    pub(super) fn quarantined(id: &InstanceId, doubt: QuarantineReason) -> Ec2Error {
        let message = match doubt {
            QuarantineReason::Unreadable => {
                format!("The record of the instance '{id}' can't be read.")
            }
            QuarantineReason::StateUnknown => format!(
                "A change of the instance '{id}' could not be stored. It is served again once its record of before is stored."
            ),
            QuarantineReason::NotStored => format!(
                "The document of the instance '{id}' could not be stored. That is tried again every second, and it is served \
                 once it is stored."
            ),
        };
        Ec2Error::new(Code::InternalError, message)
    }
}
