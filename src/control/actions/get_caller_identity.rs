//! GetCallerIdentity of STS: whose access key signed the call. Nobody needs a permission for it.

use super::Call;
use crate::control::error::Ec2Error;
use crate::control::params::Parameters;
use crate::control::service::STS_NAMESPACE;
use crate::control::xml::{Document, Xml};

pub(super) fn perform(parameters: Parameters, call: &Call<'_>) -> Result<Document, Ec2Error> {
    parameters.finish()?;
    let (account, id) = (&call.caller.account, &call.caller.access_key_id);
    Ok(Xml::document(
        "GetCallerIdentityResponse",
        Some(STS_NAMESPACE),
        |xml| {
            xml.element("GetCallerIdentityResult", |xml| {
                // Keys are all there is of a caller here, so the user is called like the key.
                xml.text("Arn", format!("arn:aws:iam::{account}:user/{id}"));
                xml.text("UserId", id);
                xml.text("Account", account);
            });
            xml.element("ResponseMetadata", |xml| {
                xml.text("RequestId", call.request_id)
            });
        },
    ))
}
