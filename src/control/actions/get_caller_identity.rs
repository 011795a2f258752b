//! GetCallerIdentity of STS: the access key that signed the call. It needs no permission. The ARN has
//! the partition of the region that the call is signed for.

use crate::control::call::ApiCall;
use crate::control::error::Ec2Error;
use crate::control::operation::{Input, Operation};
use crate::control::service::STS_NAMESPACE;
use crate::control::xml::{ResponseBody, Xml};
use crate::instance::Partition;

/// The input of a call: it has none.
pub(super) struct GetCallerIdentity;

impl Operation for GetCallerIdentity {
    fn read(input: Input<'_>) -> Result<Self, Ec2Error> {
        input.parameters.finish()?;
        Ok(GetCallerIdentity)
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let (account, id) = (&call.caller.account, &call.caller.access_key_id);
        // imdsd has keys but no users, so the user has the name of the key.
        let partition = Partition::of_region(&call.caller.region);
        let arn = partition.iam_arn(account, &format!("user/{id}"));
        let response = "GetCallerIdentityResponse";
        Ok(Xml::document(response, Some(STS_NAMESPACE), |xml| {
            xml.element("GetCallerIdentityResult", |xml| {
                xml.text("Arn", &arn);
                xml.text("UserId", id);
                xml.text("Account", account);
            });
            xml.element("ResponseMetadata", |xml| {
                xml.text("RequestId", call.request_id)
            });
        }))
    }
}
