//! GetCallerIdentity of STS: the access key that signed the call. It needs no permission.

use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::service::STS_NAMESPACE;
use crate::control::xml::{ResponseBody, Xml};

/// The input of a call: it has none.
pub(super) struct GetCallerIdentity;

impl Operation for GetCallerIdentity {
    fn read(input: Input<'_>) -> Result<Self, Ec2Error> {
        input.parameters.finish()?;
        Ok(GetCallerIdentity)
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let (account, id) = (&call.caller.account, &call.caller.access_key_id);
        let response = "GetCallerIdentityResponse";
        Ok(Xml::document(response, Some(STS_NAMESPACE), |xml| {
            xml.element("GetCallerIdentityResult", |xml| {
                // imdsd has keys but no users, so the user has the name of the key.
                xml.text("Arn", format!("arn:aws:iam::{account}:user/{id}"));
                xml.text("UserId", id);
                xml.text("Account", account);
            });
            xml.element("ResponseMetadata", |xml| {
                xml.text("RequestId", call.request_id)
            });
        }))
    }
}
