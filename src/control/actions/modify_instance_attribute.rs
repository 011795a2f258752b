//! ModifyInstanceAttribute: user data while the instance is stopped, and protection from
//! StopInstances and TerminateInstances. One attribute for each call, as on EC2, in either of its
//! two spellings. Attributes of the virtual machine itself are refused: imdsd does not run it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::checks::refuse_new_faults;
use crate::control::error::{Code, Ec2Error};
use crate::control::operation::{Input, Operation};
use crate::control::params::{Parameters, flag};
use crate::control::policy::condition::Values;
use crate::control::policy::rules::Attributes;
use crate::control::render::write_return;
use crate::control::syntax::{FLAG_VALUES, read_instance_id, read_user_data};
use crate::control::xml::ResponseBody;
use crate::instance::{Instance, InstanceId, InstanceState};
use crate::registry::Transaction;

/// Attributes that EC2 can change and imdsd cannot.
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

/// The input of a call.
pub(super) struct ModifyInstanceAttribute {
    instance_id: InstanceId,
    change: AttributeChange,
    dry_run: bool,
}

enum AttributeChange {
    /// Encoded again from the decoded bytes.
    UserData(String),
    DisableApiStop(bool),
    DisableApiTermination(bool),
}

impl Operation for ModifyInstanceAttribute {
    const ATTRIBUTES: &'static [(&'static str, Values)] = &[
        ("DisableApiStop", FLAG_VALUES),
        ("DisableApiTermination", FLAG_VALUES),
        ("UserData", Values::AnyText),
    ];

    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let instance_id = parameters.take_required("InstanceId");
        let dry_run = parameters.take("DryRun");
        let attributes = take_attributes(&mut parameters)?;
        parameters.finish_without(&UNSUPPORTED)?;
        let instance_id = instance_id?;

        let combination =
            |message: &str| Err(Ec2Error::new(Code::InvalidParameterCombination, message));
        let (name, value) = match &attributes[..] {
            [] => return combination("No attributes specified."),
            [(name, value)] => (name.as_str(), value.as_str()),
            _ => return combination("Fields for multiple attribute types specified"),
        };
        let change = match name {
            "UserData" => AttributeChange::UserData(STANDARD.encode(read_user_data(value)?)),
            "DisableApiStop" => AttributeChange::DisableApiStop(flag(name, Some(value))?),
            "DisableApiTermination" => {
                AttributeChange::DisableApiTermination(flag(name, Some(value))?)
            }
            other => {
                let message = format!("The attribute {other} can't be modified here.");
                return Err(Ec2Error::new(Code::UnsupportedOperation, message));
            }
        };
        Ok(ModifyInstanceAttribute {
            instance_id: read_instance_id(&instance_id)?,
            change,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::ModifyInstanceAttribute;
        let caller = call.caller.clone();
        let plan = move |transaction: &mut Transaction| {
            let attributes = self.change.attributes();
            let before = Arc::clone(caller.instance(
                ACTION,
                &attributes,
                transaction.before(),
                &self.instance_id,
            )?);
            self.change.refuse_by_state(&before.instance)?;
            let instance = transaction
                .instance(&self.instance_id)
                .expect("the instance has an entry");
            self.change.apply(instance);
            refuse_new_faults(Some(&before.instance), instance)?;
            if self.dry_run {
                Err(Ec2Error::dry_run())
            } else {
                Ok(())
            }
        };
        call.change(plan).await?;
        Ok(call.response(ACTION, write_return))
    }
}

/// Takes the attributes that a call names, in either spelling: `UserData.Value=…`, or the older
/// `Attribute=userData&Value=…`.
fn take_attributes(parameters: &mut Parameters) -> Result<Vec<(String, String)>, Ec2Error> {
    let mut attributes = Vec::new();
    for name in ["UserData", "DisableApiStop", "DisableApiTermination"] {
        let value = parameters.take(&format!("{name}.Value"));
        attributes.extend(value.map(|value| (name.to_string(), value)));
    }
    if let Some(attribute) = parameters.take("Attribute") {
        // A missing value must not count as an empty one, which would erase the user data.
        let value = parameters
            .take("Value")
            .ok_or_else(|| Ec2Error::missing_parameter("Value"))?;
        let name = match attribute.as_str() {
            "userData" => "UserData",
            "disableApiStop" => "DisableApiStop",
            "disableApiTermination" => "DisableApiTermination",
            other => other,
        };
        attributes.push((name.to_string(), value));
    }
    Ok(attributes)
}

impl AttributeChange {
    /// Returns the change as the attributes of the call.
    fn attributes(&self) -> Attributes {
        vec![match self {
            AttributeChange::UserData(encoded) => ("UserData", encoded.as_str().into()),
            AttributeChange::DisableApiStop(protected) => ("DisableApiStop", (*protected).into()),
            AttributeChange::DisableApiTermination(protected) => {
                ("DisableApiTermination", (*protected).into())
            }
        }]
    }

    fn refuse_by_state(&self, instance: &Instance) -> Result<(), Ec2Error> {
        let id = &instance.instance_id;
        match (instance.state, self) {
            (InstanceState::ShuttingDown | InstanceState::Terminated, _) => {
                Err(Ec2Error::incorrect_state(id, "modified"))
            }
            (InstanceState::Stopped, _) => Ok(()),
            (
                InstanceState::Pending | InstanceState::Running | InstanceState::Stopping,
                AttributeChange::UserData(_),
            ) => {
                let message = format!(
                    "The instance '{id}' must be in a 'stopped' state in order to modify its user data."
                );
                Err(Ec2Error::new(Code::IncorrectInstanceState, message))
            }
            (
                InstanceState::Pending | InstanceState::Running | InstanceState::Stopping,
                AttributeChange::DisableApiStop(_) | AttributeChange::DisableApiTermination(_),
            ) => Ok(()),
        }
    }

    fn apply(self, instance: &mut Instance) {
        match self {
            AttributeChange::UserData(encoded) => {
                instance.imds.user_data = Some(encoded).filter(|encoded| !encoded.is_empty());
                instance.imds.user_data_text = None;
            }
            AttributeChange::DisableApiStop(protected) => {
                instance.imds.disable_api_stop = protected;
            }
            AttributeChange::DisableApiTermination(protected) => {
                instance.imds.disable_api_termination = protected;
            }
        }
    }
}
