//! What the file of an action provides: see [`Operation`]. How to add an action is described in
//! `action.rs`.

use super::call::ApiCall;
use super::error::Ec2Error;
use super::params::Parameters;
use super::policy::condition::Values;
use super::xml::ResponseBody;

/// The input of a call.
pub(super) struct Input<'b> {
    /// The parameters of an EC2 or STS action; none for a JSON service.
    pub(super) parameters: Parameters,
    /// The raw body, for a JSON service.
    pub(super) body: &'b [u8],
}

/// One action.
///
/// The checks of a call come in this order: parameters and their syntax; permission; existence of
/// the instance; its state and the account's defaults; DryRun. All checks after the first run under
/// the registry's writer, so nothing can change between a check and the change.
pub(super) trait Operation: Sized {
    /// The condition keys `ec2:Attribute/<Name>` that a call can have a value for, with the
    /// possible values. The names are those of `REQUEST_ATTRIBUTES` in `policy/condition.rs`.
    const ATTRIBUTES: &'static [(&'static str, Values)] = &[];

    /// Reads the input: complete and well-formed, but not checked against the registry. Unknown
    /// parameters are refused.
    fn read(input: Input<'_>) -> Result<Self, Ec2Error>;

    /// Checks permission, state and DryRun, carries the call out, and returns the body of the
    /// reply.
    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error>;
}
