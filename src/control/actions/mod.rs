//! The actions, one file each, and which of them a call asks for.

mod describe_instances;
mod modify_instance_metadata_options;

use std::sync::Arc;

use super::error::{Code, Ec2Error};
use super::params::Parameters;
use super::reply::RequestId;
use super::xml::{Document, Xml};
use crate::clock::Moment;
use crate::instance::{InstanceId, MetadataOptions};
use crate::registry::{OptionsState, Registry};
use describe_instances::DescribeInstances;
use modify_instance_metadata_options::ModifyInstanceMetadataOptions;

/// The one version of the API.
const VERSION: &str = "2016-11-15";

/// What this endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    DescribeInstances,
    ModifyInstanceMetadataOptions,
}

impl Action {
    const ALL: [Action; 2] = [Action::DescribeInstances, Action::ModifyInstanceMetadataOptions];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Action::DescribeInstances => "DescribeInstances",
            Action::ModifyInstanceMetadataOptions => "ModifyInstanceMetadataOptions",
        }
    }

    /// Which action a call asks for, and in the one version there is.
    pub(super) fn read(parameters: &mut Parameters) -> Result<Action, Ec2Error> {
        let action = parameters.take("Action").filter(|action| !action.is_empty()).ok_or_else(|| {
            Ec2Error::new(Code::MissingAction, "The request is missing an action or operation parameter.")
        })?;
        // The version says which actions there are, so it comes before the action's name.
        let version = parameters.take("Version").ok_or_else(|| Ec2Error::missing_parameter("Version"))?;
        if version != VERSION {
            let message = format!("The requested version ({version}) of service AmazonEC2 does not exist");
            return Err(Ec2Error::new(Code::NoSuchVersion, message));
        }
        Action::ALL.into_iter().find(|known| known.as_str() == action).ok_or_else(|| {
            Ec2Error::new(Code::InvalidAction, format!("The action {action} is not valid for this web service."))
        })
    }

    /// Reads the rest of the parameters as this action's input, and carries it out.
    pub(super) async fn perform(
        self,
        parameters: Parameters,
        registry: &Arc<Registry>,
        request_id: &RequestId,
        now: Moment,
    ) -> Result<Document, Ec2Error> {
        match self {
            Action::DescribeInstances => {
                let describe = DescribeInstances::read(parameters)?;
                let (snapshot, request_id) = (registry.snapshot(), request_id.clone());
                // Thousands of instances under hundreds of patterns take a while, and guests must not wait for it.
                let describing = tokio::task::spawn_blocking(move || describe.perform(&snapshot, &request_id));
                describing.await.expect("a describe does not panic")
            }
            Action::ModifyInstanceMetadataOptions => {
                ModifyInstanceMetadataOptions::read(parameters)?.perform(registry, request_id, now).await
            }
        }
    }
}

/// What an id in a request names: EC2 takes one with blanks at its end for well-formed, but finds no such instance.
fn read_instance_id(text: &str) -> Result<InstanceId, Ec2Error> {
    match (InstanceId::parse(text), InstanceId::parse(text.trim_end_matches(' '))) {
        (Some(id), _) => Ok(id),
        (None, Some(_)) => Err(Ec2Error::not_found(text)),
        (None, None) => Err(Ec2Error::malformed_id(text)),
    }
}

/// The six elements of an option set. The element around them has another name in every action.
fn write_options(xml: &mut Xml, state: OptionsState, options: &MetadataOptions) {
    xml.text("state", state.as_str());
    xml.text("httpTokens", options.http_tokens.as_str());
    xml.text("httpPutResponseHopLimit", options.http_put_response_hop_limit.get());
    xml.text("httpEndpoint", options.http_endpoint.as_str());
    xml.text("httpProtocolIpv6", options.http_protocol_ipv6.as_str());
    xml.text("instanceMetadataTags", options.instance_metadata_tags.as_str());
}
