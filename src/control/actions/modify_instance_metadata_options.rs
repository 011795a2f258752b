//! ModifyInstanceMetadataOptions: a partial update of one instance's options. What the call leaves out keeps its value.
//!
//! A call that names no option succeeds and shows the options as they are ("if no parameter is specified, the existing
//! state is maintained"). Options that come together with `HttpEndpoint=disabled` are stored and count once it is
//! enabled.

use std::sync::Arc;

use super::{read_instance_id, write_options};
use crate::clock::Moment;
use crate::control::error::{Code, Ec2Error};
use crate::control::params::{Parameters, flag};
use crate::control::reply::RequestId;
use crate::control::xml::{Document, NAMESPACE, Xml};
use crate::instance::{HopLimit, HttpTokens, Instance, InstanceId, InstanceState, OptionsUpdate, Switch, tags};
use crate::registry::{Registry, UpdateError};

/// The input of one call: complete and well-formed, not checked against the instance yet.
pub(super) struct ModifyInstanceMetadataOptions {
    instance_id: InstanceId,
    update: OptionsUpdate,
    dry_run: bool,
}

impl ModifyInstanceMetadataOptions {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let mut take = |name| parameters.take(name);
        let instance_id = take("InstanceId");
        let http_tokens = take("HttpTokens");
        let http_put_response_hop_limit = take("HttpPutResponseHopLimit");
        let http_endpoint = take("HttpEndpoint");
        let http_protocol_ipv6 = take("HttpProtocolIpv6");
        let instance_metadata_tags = take("InstanceMetadataTags");
        let dry_run = take("DryRun");
        parameters.finish()?;

        let instance_id = instance_id.filter(|id| !id.is_empty());
        let instance_id = instance_id.ok_or_else(|| Ec2Error::missing_parameter("InstanceId"))?;
        Ok(ModifyInstanceMetadataOptions {
            instance_id: read_instance_id(&instance_id)?,
            update: OptionsUpdate {
                http_tokens: http_tokens.map(|value| read_http_tokens(&value)).transpose()?,
                http_put_response_hop_limit: http_put_response_hop_limit
                    .map(|value| read_hop_limit(&value))
                    .transpose()?,
                http_endpoint: read_switch("HttpEndpoint", http_endpoint)?,
                http_protocol_ipv6: read_switch("HttpProtocolIpv6", http_protocol_ipv6)?,
                instance_metadata_tags: read_switch("InstanceMetadataTags", instance_metadata_tags)?,
            },
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(
        self,
        registry: &Arc<Registry>,
        request_id: &RequestId,
        now: Moment,
    ) -> Result<Document, Ec2Error> {
        let ModifyInstanceMetadataOptions { instance_id, update, dry_run } = self;
        if dry_run {
            let snapshot = registry.snapshot();
            let Some(entry) = snapshot.entry(&instance_id) else {
                return Err(absent(registry, &instance_id));
            };
            may_modify(&entry.instance, update)?;
            return Err(Ec2Error::dry_run());
        }
        // The checks are made under the writer: an instance can't end, nor get a tag, between check and change.
        let change = move |instance: &mut Instance| {
            may_modify(instance, update)?;
            update.apply(&mut instance.metadata_options);
            Ok(())
        };
        let (entry, ()) = registry.update(&instance_id, now.wall, change).await.map_err(|error| match error {
            UpdateError::Unknown(id) => absent(registry, &id),
            UpdateError::Refused(error) => error,
            UpdateError::Store(error) => {
                tracing::error!(%request_id, %instance_id, "control: can't store metadata options: {error}");
                Ec2Error::new(Code::InternalError, "An internal error has occurred. The options were not changed.")
            }
        })?;
        Ok(Xml::document("ModifyInstanceMetadataOptionsResponse", Some(NAMESPACE), |xml| {
            xml.text("requestId", request_id);
            xml.text("instanceId", &instance_id);
            xml.element("instanceMetadataOptions", |xml| {
                write_options(xml, entry.options_state(), &entry.instance.metadata_options);
            });
        }))
    }
}

/// Whether the instance, as it is, takes this update.
fn may_modify(instance: &Instance, update: OptionsUpdate) -> Result<(), Ec2Error> {
    match instance.state {
        InstanceState::ShuttingDown | InstanceState::Terminated => {
            let id = &instance.instance_id;
            let message =
                format!("The instance '{id}' is not in a state from which its metadata options can be modified.");
            return Err(Ec2Error::new(Code::IncorrectInstanceState, message));
        }
        InstanceState::Pending | InstanceState::Running | InstanceState::Stopping | InstanceState::Stopped => {}
    }
    if update.instance_metadata_tags == Some(Switch::Enabled)
        && let Some(tag) = instance.tags.iter().find(|tag| !tags::key_fits_metadata(&tag.key))
    {
        // The doubled backslash is EC2's own.
        let message = format!(
            "'{}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and must not \
             be a reserved name ('.', '..', '_index')",
            tag.key
        );
        return Err(Ec2Error::new(Code::InvalidParameterValue, message));
    }
    Ok(())
}

fn absent(registry: &Registry, id: &InstanceId) -> Ec2Error {
    if registry.snapshot().is_unreadable(id) { Ec2Error::unreadable(id) } else { Ec2Error::not_found(id.as_str()) }
}

fn read_http_tokens(value: &str) -> Result<HttpTokens, Ec2Error> {
    HttpTokens::parse(value).ok_or_else(|| Ec2Error::neither(value, "HttpTokens", "optional", "required"))
}

fn read_switch(name: &str, value: Option<String>) -> Result<Option<Switch>, Ec2Error> {
    let read =
        |value: String| Switch::parse(&value).ok_or_else(|| Ec2Error::neither(&value, name, "enabled", "disabled"));
    value.map(read).transpose()
}

/// EC2's own sentence is not known; this one follows that for the other options.
fn read_hop_limit(value: &str) -> Result<HopLimit, Ec2Error> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let limit = value.parse::<i64>().ok().filter(|_| digits).and_then(|value| HopLimit::try_from(value).ok());
    limit.ok_or_else(|| {
        let message = format!(
            "A value of '{value}' is not valid for HttpPutResponseHopLimit. Specify an integer from 1 to 64 and \
             try again."
        );
        Ec2Error::new(Code::InvalidParameterValue, message)
    })
}
