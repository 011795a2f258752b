//! ModifyImageAttribute: gives an image the attribute `imdsSupport=v2.0`, for good, as in EC2.
//! ResetImageAttribute: EC2 resets the launch permission only, and here there is none to reset.
//!
//! The attribute is stored with the account's defaults. It decides about later launches and about
//! documents that are registered later, not about existing instances.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::caller::Caller;
use crate::control::error::{Code, Ec2Error};
use crate::control::images::{images_not_found, known_images, read_image_id};
use crate::control::operation::{Input, Operation};
use crate::control::params::{Parameters, flag};
use crate::control::policy::rules::Target;
use crate::control::render::write_return;
use crate::control::xml::ResponseBody;
use crate::instance::{Images, ImdsSupport};
use crate::registry::Transaction;

/// Parameters that EC2 has and imdsd does not.
const UNSUPPORTED: [&str; 8] = [
    "Description",
    "LaunchPermission",
    "OperationType",
    "OrganizationArn",
    "OrganizationalUnitArn",
    "ProductCode",
    "UserGroup",
    "UserId",
];

/// ModifyImageAttribute.
pub(super) struct ModifyImageAttribute {
    image_id: String,
    dry_run: bool,
}

/// ResetImageAttribute.
pub(super) struct ResetImageAttribute {
    image_id: String,
    dry_run: bool,
}

impl Operation for ModifyImageAttribute {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let image_id = parameters.take_required("ImageId");
        let dry_run = parameters.take("DryRun");
        let value = take_imds_support(&mut parameters)?;
        parameters.finish_without(&UNSUPPORTED)?;
        let image_id = image_id?;
        match value.as_deref() {
            Some("v2.0") => Ok(ModifyImageAttribute {
                image_id: read_image_id(image_id)?,
                dry_run: flag("DryRun", dry_run.as_deref())?,
            }),
            Some(value) => Err(Ec2Error::invalid_value(format!(
                "A value of '{value}' is not valid for ImdsSupport. The only value is 'v2.0', which can't be unset."
            ))),
            None => Err(Ec2Error::new(
                Code::InvalidParameterCombination,
                "No attributes specified.",
            )),
        }
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::ModifyImageAttribute;
        let (caller, images) = (call.caller.clone(), Arc::clone(call.registry.images()));
        let plan = move |transaction: &mut Transaction| {
            caller.authorize(ACTION, &Vec::new(), Target::Account)?;
            refuse_unknown(&self.image_id, &caller, transaction, &images)?;
            let mut account = transaction
                .account()
                .map_err(|_| Ec2Error::account_unreadable())?;
            if self.dry_run {
                return Err(Ec2Error::dry_run());
            }
            if account.imds_support(&images, &self.image_id) == ImdsSupport::Unset {
                account.imds_v2_images.insert(self.image_id);
                transaction.set_account(account);
            }
            Ok(())
        };
        call.change_or_warn("The image may have been changed.", plan)
            .await?;
        Ok(call.response(ACTION, write_return))
    }
}

/// Takes the attribute in either spelling: `ImdsSupport.Value=…`, or the older
/// `Attribute=imdsSupport&Value=…`.
fn take_imds_support(parameters: &mut Parameters) -> Result<Option<String>, Ec2Error> {
    let value = parameters.take("ImdsSupport.Value");
    let Some(attribute) = parameters.take("Attribute") else {
        return Ok(value);
    };
    // Other attributes have parameters of their own instead of a value.
    if attribute != "imdsSupport" {
        return Err(Ec2Error::new(
            Code::UnsupportedOperation,
            format!("The attribute {attribute} can't be modified here."),
        ));
    }
    let older = parameters.take_required("Value")?;
    match value {
        None => Ok(Some(older)),
        Some(_) => Err(Ec2Error::new(
            Code::InvalidParameterCombination,
            "Fields for multiple attribute types specified",
        )),
    }
}

/// Refuses an image that the caller does not see: one that imdsd does not know, and one that only
/// instances have that the caller may not describe.
fn refuse_unknown(
    id: &str,
    caller: &Caller,
    transaction: &Transaction,
    images: &Images,
) -> Result<(), Ec2Error> {
    let account = transaction
        .account()
        .map_err(|_| Ec2Error::account_unreadable())?;
    let visible = caller.described_instances(transaction.before());
    let instances = visible.map(|entry| &entry.instance);
    match known_images(images, &account, instances, "").contains_key(id) {
        true => Ok(()),
        false => Err(images_not_found(&[id])),
    }
}

impl Operation for ResetImageAttribute {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let image_id = parameters.take_required("ImageId");
        let attribute = parameters.take_required("Attribute");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        let (image_id, attribute) = (image_id?, attribute?);
        if attribute != "launchPermission" {
            return Err(Ec2Error::invalid_value(format!(
                "Value ({attribute}) for parameter attribute is invalid. Only launchPermission can be reset."
            )));
        }
        Ok(ResetImageAttribute {
            image_id: read_image_id(image_id)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::ResetImageAttribute;
        let (caller, images) = (call.caller.clone(), Arc::clone(call.registry.images()));
        let plan = move |transaction: &mut Transaction| {
            caller.authorize(ACTION, &Vec::new(), Target::Account)?;
            refuse_unknown(&self.image_id, &caller, transaction, &images)?;
            match self.dry_run {
                true => Err(Ec2Error::dry_run()),
                false => Ok(()),
            }
        };
        call.change(plan).await?;
        Ok(call.response(ACTION, write_return))
    }
}
