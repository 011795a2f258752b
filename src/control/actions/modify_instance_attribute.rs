//! ModifyInstanceAttribute: user data while the instance is stopped, and protection from StopInstances and
//! TerminateInstances. One attribute a call, as on EC2, in either of its two spellings. What describes the machine itself
//! is not ours to change and is refused.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{
    Action, Call, attribute_of, done, read_instance_id, read_user_data, refuse_new_faults,
};
use crate::control::error::{Code, Ec2Error};
use crate::control::params::{Parameters, flag};
use crate::control::policy::Attributes;
use crate::control::xml::Document;
use crate::instance::{InstanceId, InstanceState};
use crate::registry::Transaction;

/// What EC2 can change too.
const UNSUPPORTED: [&str; 11] = [
    "BlockDeviceMapping",
    "EbsOptimized",
    "EnaSupport",
    "EnclaveOptions",
    "GroupId",
    "InstanceInitiatedShutdownBehavior",
    "InstanceType",
    "Kernel",
    "Ramdisk",
    "SourceDestCheck",
    "SriovNetSupport",
];

/// The input of one call.
pub(super) struct ModifyInstanceAttribute {
    instance_id: InstanceId,
    attribute: Attribute,
    dry_run: bool,
}

enum Attribute {
    /// In base64, made anew from the bytes.
    UserData(String),
    DisableApiStop(bool),
    DisableApiTermination(bool),
}

impl ModifyInstanceAttribute {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_id = parameters.take_required("InstanceId");
        let dry_run = parameters.take("DryRun");
        let mut named = Vec::new();
        for name in ["UserData", "DisableApiStop", "DisableApiTermination"] {
            named.extend(
                parameters
                    .take(&format!("{name}.Value"))
                    .map(|value| (name.to_string(), value)),
            );
        }
        // The older spelling: Attribute=userData&Value=….
        if let Some(attribute) = parameters.take("Attribute") {
            // Silence is no value: an empty one would erase the user data.
            let value = parameters
                .take("Value")
                .ok_or_else(|| Ec2Error::missing_parameter("Value"))?;
            let name = match attribute.as_str() {
                "userData" => "UserData",
                "disableApiStop" => "DisableApiStop",
                "disableApiTermination" => "DisableApiTermination",
                other => other,
            };
            named.push((name.to_string(), value));
        }
        parameters.finish_without(&UNSUPPORTED)?;
        let instance_id = instance_id?;

        let combination =
            |message: &str| Err(Ec2Error::new(Code::InvalidParameterCombination, message));
        let (name, value) = match &named[..] {
            [] => return combination("No attributes specified."),
            [(name, value)] => (name.as_str(), value.as_str()),
            _ => return combination("Fields for multiple attribute types specified"),
        };
        let attribute = match name {
            "UserData" => Attribute::UserData(STANDARD.encode(read_user_data(value)?)),
            "DisableApiStop" => Attribute::DisableApiStop(flag("DisableApiStop", Some(value))?),
            "DisableApiTermination" => {
                Attribute::DisableApiTermination(flag("DisableApiTermination", Some(value))?)
            }
            other => {
                let message = format!("The attribute {other} can't be modified here.");
                return Err(Ec2Error::new(Code::UnsupportedOperation, message));
            }
        };
        Ok(ModifyInstanceAttribute {
            instance_id: read_instance_id(&instance_id)?,
            attribute,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceAttribute;
        let caller = call.caller.clone();
        let plan = move |transaction: &mut Transaction| {
            let attributes = self.attribute.attributes();
            let before = Arc::clone(caller.one(
                ACTION,
                &attributes,
                transaction.before(),
                &self.instance_id,
            )?);
            let instance = transaction
                .instance(&self.instance_id)
                .expect("it has an entry");
            match instance.state {
                InstanceState::ShuttingDown | InstanceState::Terminated => {
                    return Err(Ec2Error::incorrect_state(&self.instance_id, "modified"));
                }
                InstanceState::Stopped => {}
                InstanceState::Pending | InstanceState::Running | InstanceState::Stopping => {
                    if let Attribute::UserData(_) = self.attribute {
                        let id = &self.instance_id;
                        let message = format!(
                            "The instance '{id}' must be in a 'stopped' state in order to modify its user data."
                        );
                        return Err(Ec2Error::new(Code::IncorrectInstanceState, message));
                    }
                }
            }
            match self.attribute {
                Attribute::UserData(encoded) => {
                    instance.imds.user_data = Some(encoded).filter(|encoded| !encoded.is_empty());
                    instance.imds.user_data_text = None;
                }
                Attribute::DisableApiStop(protected) => instance.imds.disable_api_stop = protected,
                Attribute::DisableApiTermination(protected) => {
                    instance.imds.disable_api_termination = protected
                }
            }
            refuse_new_faults(Some(&before.instance), instance)?;
            if self.dry_run {
                Err(Ec2Error::dry_run())
            } else {
                Ok(())
            }
        };
        call.change(plan).await?;
        Ok(call.document(ACTION, done))
    }
}

impl Attribute {
    fn attributes(&self) -> Attributes {
        vec![match self {
            Attribute::UserData(encoded) => ("UserData", encoded.as_str().into()),
            Attribute::DisableApiStop(protected) => ("DisableApiStop", attribute_of(*protected)),
            Attribute::DisableApiTermination(protected) => {
                ("DisableApiTermination", attribute_of(*protected))
            }
        }]
    }
}
