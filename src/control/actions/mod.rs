//! The actions, one file each, and which of them a call asks for.
//!
//! | about | actions |
//! |---|---|
//! | metadata options | ModifyInstanceMetadataOptions, GetInstanceMetadataDefaults, ModifyInstanceMetadataDefaults |
//! | instances | DescribeInstances, DescribeInstanceStatus, DescribeInstanceAttribute, ModifyInstanceAttribute |
//! | their life | RunInstances, StartInstances, StopInstances, RebootInstances, TerminateInstances |
//! | tags | CreateTags, DeleteTags, DescribeTags |
//! | events | ModifyInstanceEventStartTime |
//! | places | DescribeRegions, DescribeAvailabilityZones |
//! | other services | GetCallerIdentity (STS), SendSSHPublicKey (EC2 Instance Connect) |
//!
//! imdsd runs no machines: what the actions change is what it answers, and whoever runs the machine does the rest.
//!
//! Checks come in one order: parameters and their syntax, then whether the caller may, then whether the instance is
//! there, then its state and the account's defaults, then DryRun. All but the first are made under the registry's
//! writer, so nothing can change between a check and the change.

mod change_instance_state;
mod create_tags;
mod delete_tags;
mod describe_availability_zones;
mod describe_instance_attribute;
mod describe_instance_status;
mod describe_instances;
mod describe_regions;
mod describe_tags;
mod get_caller_identity;
mod get_instance_metadata_defaults;
mod modify_instance_attribute;
mod modify_instance_event_start_time;
mod modify_instance_metadata_defaults;
mod modify_instance_metadata_options;
mod reboot_instances;
mod run_instances;
mod send_ssh_public_key;

use std::sync::Arc;

use hyper::http::request::Parts;

use super::error::{Code, Ec2Error};
use super::params::Parameters;
use super::policy::{AccessRequest, Attributes, Rules, Target, Value};
use super::reply::RequestId;
use super::service::Service;
use super::xml::{Document, NAMESPACE, Xml};
use crate::clock::Moment;
use crate::control::access_keys::AccessKeys;
use crate::document;
use crate::instance::{
    HopLimit, HttpTokens, Instance, InstanceId, InstanceState, MetadataOptions, OptionsUpdate,
    Switch, Tag, tags::keys_unfit_for_metadata,
};
use crate::registry::{
    Entry, OptionsState, PartialEffect, Registry, Snapshot, Transaction, UpdateError,
};
use crate::sigv4::{Regions, Signer};
use change_instance_state::{ChangeInstanceState, StateChange};
use create_tags::CreateTags;
use delete_tags::DeleteTags;
use describe_availability_zones::DescribeAvailabilityZones;
use describe_instance_attribute::DescribeInstanceAttribute;
use describe_instance_status::DescribeInstanceStatus;
use describe_instances::DescribeInstances;
use describe_regions::DescribeRegions;
use describe_tags::DescribeTags;
use modify_instance_attribute::ModifyInstanceAttribute;
use modify_instance_event_start_time::ModifyInstanceEventStartTime;
use modify_instance_metadata_defaults::ModifyInstanceMetadataDefaults;
use modify_instance_metadata_options::ModifyInstanceMetadataOptions;
use reboot_instances::RebootInstances;
use run_instances::RunInstances;
use send_ssh_public_key::SendSshPublicKey;

/// The one version of EC2's API, and that of STS's.
const EC2_VERSION: &str = "2016-11-15";
const STS_VERSION: &str = "2011-06-15";
/// What an action of EC2 Instance Connect is called in `X-Amz-Target`, before its name.
const CONNECT_TARGET: &str = "AWSEC2InstanceConnectService.";

/// What this endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    CreateTags,
    DeleteTags,
    DescribeAvailabilityZones,
    DescribeInstanceAttribute,
    DescribeInstanceStatus,
    DescribeInstances,
    DescribeRegions,
    DescribeTags,
    GetCallerIdentity,
    GetInstanceMetadataDefaults,
    ModifyInstanceAttribute,
    ModifyInstanceEventStartTime,
    ModifyInstanceMetadataDefaults,
    ModifyInstanceMetadataOptions,
    RebootInstances,
    RunInstances,
    SendSshPublicKey,
    StartInstances,
    StopInstances,
    TerminateInstances,
}

/// The rest of a call, not read yet.
pub(super) enum Input<'b> {
    /// Of EC2 and STS.
    Parameters(Parameters),
    /// The body of a JSON service.
    Json(&'b [u8]),
}

impl Action {
    pub(super) const ALL: [Action; 20] = [
        Action::CreateTags,
        Action::DeleteTags,
        Action::DescribeAvailabilityZones,
        Action::DescribeInstanceAttribute,
        Action::DescribeInstanceStatus,
        Action::DescribeInstances,
        Action::DescribeRegions,
        Action::DescribeTags,
        Action::GetCallerIdentity,
        Action::GetInstanceMetadataDefaults,
        Action::ModifyInstanceAttribute,
        Action::ModifyInstanceEventStartTime,
        Action::ModifyInstanceMetadataDefaults,
        Action::ModifyInstanceMetadataOptions,
        Action::RebootInstances,
        Action::RunInstances,
        Action::SendSshPublicKey,
        Action::StartInstances,
        Action::StopInstances,
        Action::TerminateInstances,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Action::CreateTags => "CreateTags",
            Action::DeleteTags => "DeleteTags",
            Action::DescribeAvailabilityZones => "DescribeAvailabilityZones",
            Action::DescribeInstanceAttribute => "DescribeInstanceAttribute",
            Action::DescribeInstanceStatus => "DescribeInstanceStatus",
            Action::DescribeInstances => "DescribeInstances",
            Action::DescribeRegions => "DescribeRegions",
            Action::DescribeTags => "DescribeTags",
            Action::GetCallerIdentity => "GetCallerIdentity",
            Action::GetInstanceMetadataDefaults => "GetInstanceMetadataDefaults",
            Action::ModifyInstanceAttribute => "ModifyInstanceAttribute",
            Action::ModifyInstanceEventStartTime => "ModifyInstanceEventStartTime",
            Action::ModifyInstanceMetadataDefaults => "ModifyInstanceMetadataDefaults",
            Action::ModifyInstanceMetadataOptions => "ModifyInstanceMetadataOptions",
            Action::RebootInstances => "RebootInstances",
            Action::RunInstances => "RunInstances",
            Action::SendSshPublicKey => "SendSSHPublicKey",
            Action::StartInstances => "StartInstances",
            Action::StopInstances => "StopInstances",
            Action::TerminateInstances => "TerminateInstances",
        }
    }

    pub(super) fn service(self) -> Service {
        match self {
            Action::GetCallerIdentity => Service::Sts,
            Action::SendSshPublicKey => Service::InstanceConnect,
            Action::CreateTags
            | Action::DeleteTags
            | Action::DescribeAvailabilityZones
            | Action::DescribeInstanceAttribute
            | Action::DescribeInstanceStatus
            | Action::DescribeInstances
            | Action::DescribeRegions
            | Action::DescribeTags
            | Action::GetInstanceMetadataDefaults
            | Action::ModifyInstanceAttribute
            | Action::ModifyInstanceEventStartTime
            | Action::ModifyInstanceMetadataDefaults
            | Action::ModifyInstanceMetadataOptions
            | Action::RebootInstances
            | Action::RunInstances
            | Action::StartInstances
            | Action::StopInstances
            | Action::TerminateInstances => Service::Ec2,
        }
    }

    /// What rules call it: `ec2:StopInstances`.
    pub(super) fn permission(self) -> String {
        format!("{}:{}", self.service().as_str(), self.as_str())
    }

    /// Which action of EC2 or STS a call asks for, and in the one version there is.
    pub(super) fn read(parameters: &mut Parameters) -> Result<Action, Ec2Error> {
        let action = parameters
            .take("Action")
            .filter(|action| !action.is_empty())
            .ok_or_else(|| {
                Ec2Error::new(
                    Code::MissingAction,
                    "The request is missing an action or operation parameter.",
                )
            })?;
        // The version says which actions there are, so it comes before the action's name.
        let version = parameters
            .take("Version")
            .ok_or_else(|| Ec2Error::missing_parameter("Version"))?;
        let service = match version.as_str() {
            EC2_VERSION => Service::Ec2,
            STS_VERSION => Service::Sts,
            _ => {
                let message = format!(
                    "The requested version ({version}) of service AmazonEC2 does not exist"
                );
                return Err(Ec2Error::new(Code::NoSuchVersion, message));
            }
        };
        Action::find(service, &action).ok_or_else(|| {
            Ec2Error::new(
                Code::InvalidAction,
                format!("The action {action} is not valid for this web service."),
            )
        })
    }

    /// Which action of a JSON service a call asks for.
    pub(super) fn of_target(target: &str) -> Result<Action, Ec2Error> {
        let action = target
            .strip_prefix(CONNECT_TARGET)
            .and_then(|name| Action::find(Service::InstanceConnect, name));
        action.ok_or_else(|| Ec2Error::new(Code::InvalidAction, "The operation is not known."))
    }

    fn find(service: Service, name: &str) -> Option<Action> {
        Action::ALL
            .into_iter()
            .find(|known| known.as_str() == name && known.service() == service)
    }

    /// Reads the rest of the call as this action's input, and carries it out.
    pub(super) async fn perform(
        self,
        input: Input<'_>,
        call: &Call<'_>,
    ) -> Result<Document, Ec2Error> {
        let parameters = match input {
            Input::Json(body) => return SendSshPublicKey::read(body)?.perform(call).await,
            Input::Parameters(parameters) => parameters,
        };
        match self {
            Action::CreateTags => CreateTags::read(parameters)?.perform(call).await,
            Action::DeleteTags => DeleteTags::read(parameters)?.perform(call).await,
            Action::DescribeAvailabilityZones => {
                DescribeAvailabilityZones::read(parameters)?.perform(call)
            }
            Action::DescribeInstanceAttribute => {
                DescribeInstanceAttribute::read(parameters)?.perform(call)
            }
            Action::DescribeInstanceStatus => {
                DescribeInstanceStatus::read(parameters)?
                    .perform(call)
                    .await
            }
            Action::DescribeInstances => DescribeInstances::read(parameters)?.perform(call).await,
            Action::DescribeRegions => DescribeRegions::read(parameters)?.perform(call),
            Action::DescribeTags => DescribeTags::read(parameters)?.perform(call).await,
            Action::GetCallerIdentity => get_caller_identity::perform(parameters, call),
            Action::GetInstanceMetadataDefaults => {
                get_instance_metadata_defaults::perform(parameters, call)
            }
            Action::ModifyInstanceAttribute => {
                ModifyInstanceAttribute::read(parameters)?
                    .perform(call)
                    .await
            }
            Action::ModifyInstanceEventStartTime => {
                ModifyInstanceEventStartTime::read(parameters)?
                    .perform(call)
                    .await
            }
            Action::ModifyInstanceMetadataDefaults => {
                ModifyInstanceMetadataDefaults::read(parameters)?
                    .perform(call)
                    .await
            }
            Action::ModifyInstanceMetadataOptions => {
                ModifyInstanceMetadataOptions::read(parameters)?
                    .perform(call)
                    .await
            }
            Action::RebootInstances => RebootInstances::read(parameters)?.perform(call),
            Action::RunInstances => RunInstances::read(parameters)?.perform(call).await,
            Action::StartInstances => {
                ChangeInstanceState::read(StateChange::Start, parameters)?
                    .perform(call)
                    .await
            }
            Action::StopInstances => {
                ChangeInstanceState::read(StateChange::Stop, parameters)?
                    .perform(call)
                    .await
            }
            Action::TerminateInstances => {
                ChangeInstanceState::read(StateChange::Terminate, parameters)?
                    .perform(call)
                    .await
            }
            Action::SendSshPublicKey => {
                unreachable!("it is found by its target only, and its input is JSON")
            }
        }
    }
}

/// One call: who makes it, when, and on what.
pub(super) struct Call<'c> {
    pub(super) registry: &'c Arc<Registry>,
    pub(super) regions: &'c Regions,
    pub(super) caller: Caller,
    pub(super) request_id: &'c RequestId,
    pub(super) now: Moment,
}

/// Who makes a call, and what they may do.
#[derive(Clone)]
pub(super) struct Caller {
    access_key_id: String,
    account: String,
    /// The region the call was signed for.
    region: String,
    /// Where the caller reached us.
    endpoint: String,
    rules: Arc<Rules>,
}

/// What a list is made of, owned, for a thread of its own.
struct Listing {
    caller: Caller,
    snapshot: Arc<Snapshot>,
    request_id: RequestId,
    now: Moment,
}

impl Call<'_> {
    /// Carries out what `plan` makes up of instances: all of it, or nothing, unless the store fails in the middle.
    async fn change<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&mut Transaction) -> Result<T, Ec2Error> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), Ec2Error> {
        self.change_of("Some of the instances may have been changed.", plan)
            .await
    }

    /// The same of whatever else; `perhaps` is what a caller is told where the store failed in the middle.
    async fn change_of<T: Send + 'static>(
        &self,
        perhaps: &str,
        plan: impl FnOnce(&mut Transaction) -> Result<T, Ec2Error> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), Ec2Error> {
        let request_id = self.request_id;
        self.registry
            .change(self.now.wall, plan)
            .await
            .map_err(|error| match error {
                UpdateError::Unknown(id) => Ec2Error::not_found(id.as_str()),
                UpdateError::Refused(error) => error,
                UpdateError::Store(error, changed) => {
                    tracing::error!(%request_id, "control: can't store a change: {error}");
                    let left = match changed {
                        PartialEffect::None => "Nothing was changed.",
                        PartialEffect::Possible => perhaps,
                    };
                    Ec2Error::new(
                        Code::InternalError,
                        format!("An internal error has occurred. {left}"),
                    )
                }
            })
    }

    /// Makes a list off the runtime: thousands of instances under hundreds of patterns take a while, and guests must not
    /// wait for it.
    async fn list(
        &self,
        make: impl FnOnce(Listing) -> Result<Document, Ec2Error> + Send + 'static,
    ) -> Result<Document, Ec2Error> {
        let listing = Listing {
            caller: self.caller.clone(),
            snapshot: self.registry.snapshot(),
            request_id: self.request_id.clone(),
            now: self.now,
        };
        tokio::task::spawn_blocking(move || make(listing))
            .await
            .expect("a list is made without a panic")
    }

    /// The document of an action of EC2: `<ActionResponse>`, the request id, and whatever `fill` writes.
    fn document(&self, action: Action, fill: impl FnOnce(&mut Xml)) -> Document {
        ec2_document(action, self.request_id, fill)
    }
}

fn ec2_document(action: Action, request_id: &RequestId, fill: impl FnOnce(&mut Xml)) -> Document {
    Xml::document(
        &format!("{}Response", action.as_str()),
        Some(NAMESPACE),
        |xml| {
            xml.text("requestId", request_id);
            fill(xml);
        },
    )
}

/// What EC2 answers where there is nothing to say.
fn done(xml: &mut Xml) {
    xml.text("return", true);
}

impl Caller {
    pub(super) fn new(keys: &AccessKeys, verified: &Signer, head: &Parts) -> Caller {
        let holder = keys
            .holder(&verified.access_key_id)
            .expect("the key that signed is among those it was found in");
        let host = head
            .headers
            .get("host")
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        Caller {
            access_key_id: verified.access_key_id.clone(),
            account: holder.account.clone(),
            region: verified.region.clone(),
            endpoint: host.to_string(),
            rules: Arc::clone(&holder.rules),
        }
    }

    /// Whether the caller may do this.
    fn may(
        &self,
        action: Action,
        attributes: &Attributes,
        target: Target<'_>,
    ) -> Result<(), Ec2Error> {
        let wish = AccessRequest {
            action: &action.permission(),
            attributes,
            target,
        };
        if self.rules.allow(&wish) {
            Ok(())
        } else {
            Err(Ec2Error::unauthorized())
        }
    }

    /// The instances that a call names: all of them, or why not. Who may not touch one of them is told nothing about any.
    fn named<'s>(
        &self,
        action: Action,
        attributes: &Attributes,
        snapshot: &'s Snapshot,
        ids: &[InstanceId],
    ) -> Result<Vec<&'s Arc<Entry>>, Ec2Error> {
        for id in ids {
            let target = snapshot.entry(id).map_or(Target::Nobody(id), |entry| {
                Target::Instance(&entry.instance)
            });
            self.may(action, attributes, target)?;
        }
        if let Some((id, doubt)) = ids
            .iter()
            .find_map(|id| Some((id, snapshot.quarantine_reason(id)?)))
        {
            return Err(Ec2Error::quarantined(id, doubt));
        }
        let absent: Vec<_> = ids
            .iter()
            .filter(|id| snapshot.entry(id).is_none())
            .map(InstanceId::to_string)
            .collect();
        if !absent.is_empty() {
            return Err(Ec2Error::none_found(&absent));
        }
        Ok(ids.iter().filter_map(|id| snapshot.entry(id)).collect())
    }

    /// The one instance that a call names.
    fn one<'s>(
        &self,
        action: Action,
        attributes: &Attributes,
        snapshot: &'s Snapshot,
        id: &InstanceId,
    ) -> Result<&'s Arc<Entry>, Ec2Error> {
        Ok(self.named(action, attributes, snapshot, std::slice::from_ref(id))?[0])
    }

    /// The instances for a list: those named, or all that the caller may see.
    fn listed<'s>(
        &self,
        action: Action,
        snapshot: &'s Snapshot,
        ids: &[InstanceId],
    ) -> Result<Vec<&'s Arc<Entry>>, Ec2Error> {
        if !ids.is_empty() {
            return self.named(action, &Vec::new(), snapshot, ids);
        }
        if !self.rules.allow_some(&action.permission()) {
            return Err(Ec2Error::unauthorized());
        }
        let visible = |entry: &&Arc<Entry>| {
            self.may(action, &Vec::new(), Target::Instance(&entry.instance))
                .is_ok()
        };
        Ok(snapshot.entries().filter(visible).collect())
    }
}

/// What an id in a request names: EC2 takes one with blanks at its end for well-formed, but finds no such instance.
fn read_instance_id(text: &str) -> Result<InstanceId, Ec2Error> {
    match (
        InstanceId::parse(text),
        InstanceId::parse(text.trim_end_matches(' ')),
    ) {
        (Some(id), _) => Ok(id),
        (None, Some(_)) => Err(Ec2Error::not_found(text)),
        (None, None) => Err(Ec2Error::malformed_id(text)),
    }
}

/// The ids of a list, each once, in the order they came.
fn read_instance_ids(texts: &[String]) -> Result<Vec<InstanceId>, Ec2Error> {
    if texts.iter().any(String::is_empty) {
        return Err(Ec2Error::missing_parameter("InstanceId"));
    }
    let mut ids = Vec::new();
    for text in texts {
        let id = read_instance_id(text)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The ids of an action that needs some.
fn read_some_instance_ids(texts: &[String]) -> Result<Vec<InstanceId>, Ec2Error> {
    match texts {
        [] => Err(Ec2Error::missing_parameter("InstanceId")),
        texts => read_instance_ids(texts),
    }
}

/// The state of an instance's options as it is shown. While an instance is stopped, what is stored is all there is to
/// apply: clients that wait for `applied` would otherwise wait for ever.
pub(super) fn shown_state(entry: &Entry) -> OptionsState {
    match entry.instance.state {
        InstanceState::Stopped | InstanceState::Terminated => OptionsState::Applied,
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::ShuttingDown
        | InstanceState::Stopping => entry.options_state(),
    }
}

/// The six elements of an option set. The element around them has another name in every action.
fn write_options(xml: &mut Xml, state: OptionsState, options: &MetadataOptions) {
    xml.text("state", state.as_str());
    xml.text("httpTokens", options.http_tokens.as_str());
    xml.text(
        "httpPutResponseHopLimit",
        options.http_put_response_hop_limit.get(),
    );
    xml.text("httpEndpoint", options.http_endpoint.as_str());
    xml.text("httpProtocolIpv6", options.http_protocol_ipv6.as_str());
    xml.text(
        "instanceMetadataTags",
        options.instance_metadata_tags.as_str(),
    );
}

fn write_state(xml: &mut Xml, name: &str, state: InstanceState) {
    xml.element(name, |xml| {
        xml.text("code", state.code());
        xml.text("name", state.as_str());
    });
}

/// The options that an update names, as rules see them.
fn attributes_of(update: OptionsUpdate) -> Attributes {
    let switch = |switch: Option<Switch>| switch.map(|switch| switch.as_str().into());
    let named = [
        (
            "HttpTokens",
            update.http_tokens.map(|tokens| tokens.as_str().into()),
        ),
        (
            "HttpPutResponseHopLimit",
            update
                .http_put_response_hop_limit
                .map(|limit| Value::Number(limit.get().into())),
        ),
        ("HttpEndpoint", switch(update.http_endpoint)),
        ("HttpProtocolIpv6", switch(update.http_protocol_ipv6)),
        (
            "InstanceMetadataTags",
            switch(update.instance_metadata_tags),
        ),
    ];
    named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// A flag, as rules see it.
fn attribute_of(flag: bool) -> Value {
    if flag { "true" } else { "false" }.into()
}

fn read_http_tokens(value: &str) -> Result<HttpTokens, Ec2Error> {
    HttpTokens::parse(value)
        .ok_or_else(|| Ec2Error::neither(value, "HttpTokens", "optional", "required"))
}

fn read_switch(name: &str, value: &str) -> Result<Switch, Ec2Error> {
    Switch::parse(value).ok_or_else(|| Ec2Error::neither(value, name, "enabled", "disabled"))
}

/// EC2's own sentence is not known; this one follows that for the other options.
fn read_hop_limit(value: &str) -> Result<HopLimit, Ec2Error> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let limit = value
        .parse::<i64>()
        .ok()
        .filter(|_| digits)
        .and_then(|value| HopLimit::try_from(value).ok());
    limit.ok_or_else(|| {
        Ec2Error::invalid_value(format!(
            "A value of '{value}' is not valid for HttpPutResponseHopLimit. Specify an integer from 1 to 64 and \
             try again."
        ))
    })
}

/// User data as the API carries it.
fn read_user_data(encoded: &str) -> Result<Vec<u8>, Ec2Error> {
    use base64::Engine as _;
    // Clients that wrap their base64 at 76 characters are as old as base64.
    let unwrapped: String = encoded
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(unwrapped)
        .map_err(|_| {
            Ec2Error::new(
                Code::InvalidUserDataMalformed,
                "Invalid BASE64 encoding of user data.",
            )
        })?;
    if bytes.len() > crate::instance::MAX_USER_DATA {
        let most = crate::instance::MAX_USER_DATA;
        return Err(Ec2Error::invalid_value(format!(
            "User data is limited to {most} bytes"
        )));
    }
    Ok(bytes)
}

/// Refuses what a document may not say either, as far as it is new: everything that is served goes through one head_filter.
fn refuse_new_faults(before: Option<&Instance>, after: &Instance) -> Result<(), Ec2Error> {
    let known = before.map(document::faults).unwrap_or_default();
    match document::faults(after)
        .into_iter()
        .find(|fault| !known.contains(fault))
    {
        Some(fault) => Err(Ec2Error::invalid_value(fault.to_string())),
        None => Ok(()),
    }
}

/// EC2's sentence for a tag key that metadata can't show. The doubled backslash is its own.
fn refuse_keys_unfit_for_metadata(tags: &[Tag], shown: Switch) -> Result<(), Ec2Error> {
    match keys_unfit_for_metadata(tags, shown).next() {
        Some((_, key)) => Err(Ec2Error::invalid_value(format!(
            "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and must not \
             be a reserved name ('.', '..', '_index')"
        ))),
        None => Ok(()),
    }
}
