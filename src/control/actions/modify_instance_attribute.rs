//! ModifyInstanceAttribute: user data and EBS optimization while the instance is stopped; protection
//! from StopInstances and TerminateInstances, the check of source and destination, and what a
//! shutdown does, at any time. One attribute for each call, as on EC2, in either of its two
//! spellings. Other attributes of the virtual machine are refused: imdsd does not run it.
//!
//! The last three are kept in the record, for callers that read them back and for the operator's
//! software. imdsd drops no packets and sees no shutdown.

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
use crate::control::syntax::{
    FLAG_VALUES, SHUTDOWN_VALUES, read_instance_id, read_shutdown_behavior, read_user_data,
};
use crate::control::xml::ResponseBody;
use crate::instance::{Instance, InstanceId, InstanceState, SharedText, ShutdownBehavior};
use crate::registry::Transaction;

/// Attributes that EC2 can change and imdsd cannot.
const UNSUPPORTED: [&str; 8] = [
    "BlockDeviceMapping",
    "EnaSupport",
    "EnclaveOptions",
    "GroupId",
    "InstanceType",
    "Kernel",
    "Ramdisk",
    "SriovNetSupport",
];

/// Attributes that can change, with the name that the older spelling has.
const SUPPORTED: [(&str, &str); 6] = [
    ("UserData", "userData"),
    ("DisableApiStop", "disableApiStop"),
    ("DisableApiTermination", "disableApiTermination"),
    ("EbsOptimized", "ebsOptimized"),
    (
        "InstanceInitiatedShutdownBehavior",
        "instanceInitiatedShutdownBehavior",
    ),
    ("SourceDestCheck", "sourceDestCheck"),
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
    EbsOptimized(bool),
    InstanceInitiatedShutdownBehavior(ShutdownBehavior),
    SourceDestCheck(bool),
}

impl Operation for ModifyInstanceAttribute {
    const ATTRIBUTES: &'static [(&'static str, Values)] = &[
        ("DisableApiStop", FLAG_VALUES),
        ("DisableApiTermination", FLAG_VALUES),
        ("EbsOptimized", FLAG_VALUES),
        ("InstanceInitiatedShutdownBehavior", SHUTDOWN_VALUES),
        ("SourceDestCheck", FLAG_VALUES),
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
            "EbsOptimized" => AttributeChange::EbsOptimized(flag(name, Some(value))?),
            "InstanceInitiatedShutdownBehavior" => {
                AttributeChange::InstanceInitiatedShutdownBehavior(read_shutdown_behavior(value)?)
            }
            "SourceDestCheck" => AttributeChange::SourceDestCheck(flag(name, Some(value))?),
            other => return Err(unsupported(other)),
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
        let id = self.instance_id.clone();
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
        call.change_beside([id], plan).await?;
        Ok(call.response(ACTION, write_return))
    }
}

/// Takes the attributes that a call names, in either spelling: `UserData.Value=…`, or the older
/// `Attribute=userData&Value=…`.
fn take_attributes(parameters: &mut Parameters) -> Result<Vec<(String, String)>, Ec2Error> {
    let mut attributes = Vec::new();
    for (name, _) in SUPPORTED {
        let value = parameters.take(&format!("{name}.Value"));
        attributes.extend(value.map(|value| (name.to_string(), value)));
    }
    if let Some(attribute) = parameters.take("Attribute") {
        // Some of the other attributes have parameters of their own instead of a value.
        let known = SUPPORTED.iter().find(|(_, older)| *older == attribute);
        let (name, _) = known.ok_or_else(|| unsupported(&attribute))?;
        // A missing value must not count as an empty one, which would erase the user data.
        let value = parameters
            .take("Value")
            .ok_or_else(|| Ec2Error::missing_parameter("Value"))?;
        attributes.push((name.to_string(), value));
    }
    Ok(attributes)
}

fn unsupported(attribute: &str) -> Ec2Error {
    let message = format!("The attribute {attribute} can't be modified here.");
    Ec2Error::new(Code::UnsupportedOperation, message)
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
            AttributeChange::EbsOptimized(optimized) => ("EbsOptimized", (*optimized).into()),
            AttributeChange::InstanceInitiatedShutdownBehavior(behavior) => (
                "InstanceInitiatedShutdownBehavior",
                behavior.as_str().into(),
            ),
            AttributeChange::SourceDestCheck(check) => ("SourceDestCheck", (*check).into()),
        }]
    }

    fn refuse_by_state(&self, instance: &Instance) -> Result<(), Ec2Error> {
        let id = &instance.instance_id;
        match (instance.state, self) {
            (InstanceState::ShuttingDown | InstanceState::Terminated, _) => {
                Err(Ec2Error::incorrect_state(id, "modified"))
            }
            // EC2 cannot know which of several interfaces is meant.
            (_, AttributeChange::SourceDestCheck(_)) if instance.interfaces().len() > 1 => {
                let message = format!(
                    "There are multiple interfaces attached to instance '{id}'. Please specify an interface ID for the \
                     operation instead."
                );
                Err(Ec2Error::new(Code::InvalidInstanceId, message))
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
                AttributeChange::EbsOptimized(_),
            ) => {
                let message = format!("The instance '{id}' is not in the 'stopped' state.");
                Err(Ec2Error::new(Code::IncorrectInstanceState, message))
            }
            (
                InstanceState::Pending | InstanceState::Running | InstanceState::Stopping,
                AttributeChange::DisableApiStop(_)
                | AttributeChange::DisableApiTermination(_)
                | AttributeChange::InstanceInitiatedShutdownBehavior(_)
                | AttributeChange::SourceDestCheck(_),
            ) => Ok(()),
        }
    }

    fn apply(&self, instance: &mut Instance) {
        match self {
            AttributeChange::UserData(encoded) => {
                instance.imds.user_data =
                    Some(SharedText::from(encoded)).filter(|encoded| !encoded.is_empty());
                instance.imds.user_data_text = None;
            }
            AttributeChange::DisableApiStop(protected) => {
                instance.imds.disable_api_stop = *protected;
            }
            AttributeChange::DisableApiTermination(protected) => {
                instance.imds.disable_api_termination = *protected;
            }
            AttributeChange::EbsOptimized(optimized) => instance.ebs_optimized = Some(*optimized),
            AttributeChange::InstanceInitiatedShutdownBehavior(behavior) => {
                instance.imds.instance_initiated_shutdown_behavior = *behavior;
            }
            AttributeChange::SourceDestCheck(check) => instance.set_source_dest_check(*check),
        }
    }
}
