//! The errors of the EC2 API: a code, its HTTP status and a message.

use hyper::StatusCode;

use crate::instance::InstanceId;
use crate::registry::QuarantineReason;

/// The exception of EC2 Instance Connect for every code without an exception of its own.
const INVALID: &str = "InvalidArgsException";

/// Generates [`Code`] and its methods from the table below.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident, $wire:literal, $status:ident, $exception:expr;)*) => {
        /// EC2's error codes, except those of a bad signature (see [`crate::sigv4::AuthError`]). On
        /// the wire they have no `Client.` or `Server.` prefix.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// Returns the code as it appears on the wire.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Code::$code => $wire,)*
                }
            }

            /// Returns the HTTP status that EC2 sends with the code.
            pub(crate) fn status(self) -> StatusCode {
                match self {
                    $(Code::$code => StatusCode::$status,)*
                }
            }

            /// Returns the name of the EC2 Instance Connect exception for the code.
            pub(super) fn exception(self) -> &'static str {
                match self {
                    $(Code::$code => $exception,)*
                }
            }
        }
    };
}

// One row for each code: name, code on the wire, HTTP status, exception of EC2 Instance Connect.
codes! {
    /// The dry run would have succeeded.
    DryRunOperation, "DryRunOperation", PRECONDITION_FAILED, INVALID;
    /// More filter values than one call may have.
    FilterLimitExceeded, "FilterLimitExceeded", BAD_REQUEST, INVALID;
    /// The instances launched with this client token were terminated.
    IdempotentInstanceTerminated, "IdempotentInstanceTerminated", BAD_REQUEST, INVALID;
    /// The client token was used before with other parameters.
    IdempotentParameterMismatch, "IdempotentParameterMismatch", BAD_REQUEST, INVALID;
    /// The instance's state does not allow the action.
    IncorrectInstanceState, "IncorrectInstanceState", BAD_REQUEST, "EC2InstanceStateInvalidException";
    /// The instance has no CPU credits.
    InstanceCreditSpecificationNotSupported, "InstanceCreditSpecification.NotSupported", BAD_REQUEST, INVALID;
    /// The event cannot be moved.
    InstanceEventStartTimeCannotChange, "InstanceEventStartTimeCannotChange", BAD_REQUEST, INVALID;
    /// More instances than the limit.
    InstanceLimitExceeded, "InstanceLimitExceeded", BAD_REQUEST, INVALID;
    /// The store failed, or a record cannot be read.
    InternalError, "InternalError", INTERNAL_SERVER_ERROR, "ServiceException";
    /// Unknown action.
    InvalidAction, "InvalidAction", BAD_REQUEST, "UnknownOperationException";
    /// Unknown Elastic IP address.
    InvalidAddressNotFound, "InvalidAddress.NotFound", BAD_REQUEST, INVALID;
    /// Unknown allocation of an Elastic IP address.
    InvalidAllocationIdNotFound, "InvalidAllocationID.NotFound", BAD_REQUEST, INVALID;
    /// Not an image id.
    InvalidAmiIdMalformed, "InvalidAMIID.Malformed", BAD_REQUEST, INVALID;
    /// Unknown image.
    InvalidAmiIdNotFound, "InvalidAMIID.NotFound", BAD_REQUEST, INVALID;
    /// Unknown association of an instance profile.
    InvalidAssociationIdNotFound, "InvalidAssociationID.NotFound", BAD_REQUEST, INVALID;
    /// Unknown security group.
    InvalidGroupNotFound, "InvalidGroup.NotFound", BAD_REQUEST, INVALID;
    /// Not the id of a resource that can have tags here.
    InvalidId, "InvalidID", BAD_REQUEST, INVALID;
    /// Unknown event. EC2 spells this code without a dot.
    InvalidInstanceEventIdNotFound, "InvalidInstanceEventIDNotFound", BAD_REQUEST, INVALID;
    /// The event cannot be moved to that time.
    InvalidInstanceEventStartTime, "InvalidInstanceEventStartTime", BAD_REQUEST, INVALID;
    /// The instance has several interfaces, and the action concerns one.
    InvalidInstanceId, "InvalidInstanceID", BAD_REQUEST, INVALID;
    /// Not an instance id.
    InvalidInstanceIdMalformed, "InvalidInstanceID.Malformed", BAD_REQUEST, INVALID;
    /// Unknown instance.
    InvalidInstanceIdNotFound, "InvalidInstanceID.NotFound", BAD_REQUEST, "EC2InstanceNotFoundException";
    /// Unknown instance type.
    InvalidInstanceType, "InvalidInstanceType", BAD_REQUEST, INVALID;
    /// Unknown key pair.
    InvalidKeyPairNotFound, "InvalidKeyPair.NotFound", BAD_REQUEST, INVALID;
    /// Unknown launch template.
    InvalidLaunchTemplateIdNotFound, "InvalidLaunchTemplateId.NotFound", BAD_REQUEST, INVALID;
    /// Unknown name of a launch template.
    InvalidLaunchTemplateNameNotFound, "InvalidLaunchTemplateName.NotFoundException", BAD_REQUEST, INVALID;
    /// Unknown network interface.
    InvalidNetworkInterfaceIdNotFound, "InvalidNetworkInterfaceID.NotFound", BAD_REQUEST, INVALID;
    /// Not a page token of this endpoint.
    InvalidNextToken, "InvalidNextToken", BAD_REQUEST, INVALID;
    /// The parameters cannot be combined.
    InvalidParameterCombination, "InvalidParameterCombination", BAD_REQUEST, INVALID;
    /// The value of a parameter is invalid.
    InvalidParameterValue, "InvalidParameterValue", BAD_REQUEST, INVALID;
    /// Unknown subnet.
    InvalidSubnetIdNotFound, "InvalidSubnetID.NotFound", BAD_REQUEST, INVALID;
    /// A tag key with the reserved prefix.
    InvalidTagKeyMalformed, "InvalidTagKey.Malformed", BAD_REQUEST, INVALID;
    /// User data that is not base64.
    InvalidUserDataMalformed, "InvalidUserData.Malformed", BAD_REQUEST, INVALID;
    /// The volume was never modified.
    InvalidVolumeModificationNotFound, "InvalidVolumeModification.NotFound", BAD_REQUEST, INVALID;
    /// Unknown volume.
    InvalidVolumeNotFound, "InvalidVolume.NotFound", BAD_REQUEST, INVALID;
    /// Unknown VPC.
    InvalidVpcIdNotFound, "InvalidVpcID.NotFound", BAD_REQUEST, INVALID;
    /// Not HTTP/1.1. The code is in AWS's list of common errors, with the ending Exception.
    MalformedHttpRequest, "MalformedHttpRequest", BAD_REQUEST, INVALID;
    /// The parameters cannot be decoded.
    MalformedQueryString, "MalformedQueryString", BAD_REQUEST, INVALID;
    /// A method other than GET and POST.
    MethodNotAllowed, "MethodNotAllowed", METHOD_NOT_ALLOWED, INVALID;
    /// `Action` is missing.
    MissingAction, "MissingAction", BAD_REQUEST, INVALID;
    /// A body without Content-Length. The code is one of S3.
    MissingContentLength, "MissingContentLength", LENGTH_REQUIRED, INVALID;
    /// A required parameter is missing.
    MissingParameter, "MissingParameter", BAD_REQUEST, INVALID;
    /// Unsupported version of the API.
    NoSuchVersion, "NoSuchVersion", BAD_REQUEST, INVALID;
    /// An instance attribute forbids the action.
    OperationNotPermitted, "OperationNotPermitted", BAD_REQUEST, INVALID;
    /// The body is too large.
    RequestEntityTooLarge, "RequestEntityTooLarge", PAYLOAD_TOO_LARGE, INVALID;
    /// The head is too large. The code is one of S3, the status that of RFC 6585.
    RequestHeaderSectionTooLarge, "RequestHeaderSectionTooLarge", REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID;
    /// The request did not end in time. The code is one of S3, the status that of RFC 9110.
    RequestTimeout, "RequestTimeout", REQUEST_TIMEOUT, INVALID;
    /// The target is too long.
    RequestUriTooLong, "RequestUriTooLong", URI_TOO_LONG, INVALID;
    /// The signature is scoped to another service than the one called.
    SignatureDoesNotMatch, "SignatureDoesNotMatch", FORBIDDEN, "InvalidSignatureException";
    /// More tags than an instance may have.
    TagLimitExceeded, "TagLimitExceeded", BAD_REQUEST, INVALID;
    /// Too many calls or items in a short time.
    Throttling, "Throttling", BAD_REQUEST, "ThrottlingException";
    /// The caller lacks the permission.
    UnauthorizedOperation, "UnauthorizedOperation", FORBIDDEN, "AuthException";
    /// A parameter that the action does not have.
    UnknownParameter, "UnknownParameter", BAD_REQUEST, INVALID;
    /// Supported by EC2 but not by imdsd, or forbidden by the account's defaults.
    UnsupportedOperation, "UnsupportedOperation", BAD_REQUEST, INVALID;
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ec2Error {
    /// For programs.
    pub code: Code,
    /// For people. It can contain input of the caller, so it is not logged.
    pub message: String,
}

impl Ec2Error {
    /// Returns an error with this message.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Ec2Error {
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

    /// Returns the error for a missing permission. It does not reveal whether the named resource
    /// exists.
    pub(super) fn unauthorized() -> Ec2Error {
        Ec2Error::new(
            Code::UnauthorizedOperation,
            "You are not authorized to perform this operation.",
        )
    }

    /// Returns EC2's error for an instance whose state does not allow the action. `what` is a
    /// participle, such as `started`.
    pub(super) fn incorrect_state(id: &InstanceId, what: &str) -> Ec2Error {
        let message = format!("The instance '{id}' is not in a state from which it can be {what}.");
        Ec2Error::new(Code::IncorrectInstanceState, message)
    }

    pub(super) fn invalid_value(message: impl Into<String>) -> Ec2Error {
        Ec2Error::new(Code::InvalidParameterValue, message)
    }

    /// Returns the error for an action that depends on account defaults that cannot be read.
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

    /// Returns EC2's error for a value that is not one of two words.
    pub(super) fn not_one_of(value: &str, name: &str, one: &str, other: &str) -> Ec2Error {
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

    pub(super) fn instance_not_found(id: &str) -> Ec2Error {
        Ec2Error::new(
            Code::InvalidInstanceIdNotFound,
            format!("The instance ID '{id}' does not exist"),
        )
    }

    pub(super) fn instances_not_found(ids: &[String]) -> Ec2Error {
        match ids {
            [id] => Ec2Error::instance_not_found(id),
            ids => Ec2Error::new(
                Code::InvalidInstanceIdNotFound,
                format!("The instance IDs '{}' do not exist", ids.join(", ")),
            ),
        }
    }

    /// Returns the error for a launch whose client token may be that of a quarantined instance. It
    /// says nothing about the instance, which may be another account's.
    pub(super) fn launch_uncertain() -> Ec2Error {
        let message = "An earlier call with this client token may have launched instances whose records can't be \
            used now. Nothing was launched.";
        Ec2Error::new(Code::InternalError, message)
    }

    /// Returns the error for a quarantined instance: it exists, but its record cannot be trusted.
    /// "Not found" would make tools forget or replace it.
    pub(super) fn quarantined(id: &InstanceId, reason: QuarantineReason) -> Ec2Error {
        let message = match reason {
            QuarantineReason::Unreadable => {
                format!("The record of the instance '{id}' can't be read.")
            }
            QuarantineReason::StateUnknown => format!(
                "A change of the instance '{id}' could not be stored. It is served again once its previous record is stored."
            ),
            QuarantineReason::NotStored => format!(
                "The document of the instance '{id}' could not be stored. imdsd retries every second and serves \
                 the instance once it is stored."
            ),
            QuarantineReason::FaultyDocument => format!(
                "The document of the instance '{id}' has faults, so the instance is not registered."
            ),
            QuarantineReason::BeingRegistered => {
                format!("The instance '{id}' is being registered. Try again in a moment.")
            }
        };
        Ec2Error::new(Code::InternalError, message)
    }
}
