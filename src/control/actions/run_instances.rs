//! RunInstances: creates instances that run at once, with options resolved as EC2 resolves them at
//! launch.
//!
//! A launch creates what imdsd serves for an instance, not a virtual machine. The instance has no
//! attachment: a caller of this API must not decide which network interface of the host belongs to
//! which guest, so the operator attaches it. It has no network interfaces, volumes or role either;
//! parameters that describe them are refused, not silently ignored. What clients send with every
//! launch is accepted: see [`launch_options`](crate::control::launch_options), and tags of volumes
//! and interfaces.
//!
//! Of a subnet and of security groups a call has only the ids. Zone, VPC and names are those of the
//! instances there that the caller may describe.
//!
//! Options that the call omits come from the account's defaults and from the image: the operator's
//! table says which images have `imdsSupport=v2.0`, and what counts for the others.
//!
//! A call that is repeated with its ClientToken launches nothing and returns the instances of the
//! first call.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arcstr::literal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;

use super::describe_security_groups::UsedGroup;
use super::describe_subnets::UsedSubnet;
use crate::clock::iso_seconds;
use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::caller::Caller;
use crate::control::checks::{
    refuse_keys_unfit_for_metadata, refuse_new_faults, refuse_too_many_tags,
};
use crate::control::error::{Code, Ec2Error};
use crate::control::images::read_image_id;
use crate::control::instance_xml::write_instance;
use crate::control::launch_options::{LaunchOptionParameters, LaunchOptions, NetworkParameters};
use crate::control::operation::{Input, Operation};
use crate::control::params::{Parameters, flag};
use crate::control::policy::condition::{AttributeValue, Values};
use crate::control::policy::rules::{Attributes, Target};
use crate::control::resource_list::ListedResource as _;
use crate::control::syntax::{
    FLAG_VALUES, OPTION_ATTRIBUTES, OptionParameters, SHUTDOWN_VALUES, option_attributes,
    read_tags, read_user_data,
};
use crate::control::xml::ResponseBody;
use crate::document;
use crate::instance::{
    IamInstanceProfile, Images, Instance, InstanceId, InstanceState, LaunchToken, Monitoring,
    OptionsUpdate, Partition, SecurityGroup, SharedText, StateReason, Tag, region_of_zone,
};
use crate::registry::{Entry, OptionsState, Snapshot, Transaction};

/// The limit of instances in one call.
const MAX_PER_CALL: usize = 100;
/// The limit of instances on a host; beyond it, launches are refused.
const MAX_INSTANCES: usize = 10_000;

/// Parameters that EC2 has and imdsd does not.
const UNSUPPORTED: [&str; 27] = [
    "AdditionalInfo",
    "BlockDeviceMapping",
    "CapacityReservationSpecification",
    "CpuOptions",
    "CreditSpecification",
    "EbsOptimized",
    "ElasticGpuSpecification",
    "ElasticInferenceAccelerator",
    "EnablePrimaryIpv6",
    "EnclaveOptions",
    "HibernationOptions",
    "InstanceInitiatedShutdownBehavior",
    "InstanceMarketOptions",
    "Ipv6Address",
    "Ipv6AddressCount",
    "KernelId",
    "LaunchTemplate",
    "LicenseSpecification",
    "MaintenanceOptions",
    "NetworkInterface",
    "NetworkPerformanceOptions",
    "Operator",
    "Placement",
    "PrivateDnsNameOptions",
    "RamdiskId",
    "SecondaryInterface",
    "SecurityGroup",
];

/// Unsupported parameters with the value that they have by default; clients may send these.
const DEFAULTS: [(&str, &str); 8] = [
    ("CpuOptions.AmdSevSnp", "disabled"),
    ("EnablePrimaryIpv6", "false"),
    ("EnclaveOptions.Enabled", "false"),
    ("HibernationOptions.Configured", "false"),
    (
        "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior",
        "terminate",
    ),
    (
        "InstanceMarketOptions.SpotOptions.SpotInstanceType",
        "one-time",
    ),
    ("Ipv6AddressCount", "0"),
    ("NetworkPerformanceOptions.BandwidthWeighting", "default"),
];

/// The other resource types that EC2 can tag at a launch. A launch here creates none of them; their
/// tags are checked and dropped, because clients send them with every launch.
const TAGGABLE: [&str; 3] = ["network-interface", "spot-instances-request", "volume"];

/// EC2's values of Placement.Tenancy.
const TENANCIES: [&str; 3] = ["default", "dedicated", "host"];

/// The input of a call.
pub(super) struct RunInstances {
    min_count: usize,
    max_count: usize,
    client_token: Option<String>,
    /// The digest of all parameters except the token, to recognize a repeated call.
    digest: String,
    options: OptionsUpdate,
    dry_run: bool,
    launch: LaunchSpec,
}

/// What all instances of a launch have in common.
struct LaunchSpec {
    image_id: String,
    instance_type: Option<String>,
    key_name: Option<String>,
    user_data: Option<Vec<u8>>,
    tags: Vec<Tag>,
    profile: Option<String>,
    groups: Vec<String>,
    subnet_id: Option<String>,
    private_ip_address: Option<Ipv4Addr>,
    zone: Option<String>,
    tenancy: Option<String>,
    placement_group: Option<String>,
    spot: bool,
    monitoring: Option<bool>,
    /// `None` where the call does not name it.
    disable_api_stop: Option<bool>,
    disable_api_termination: Option<bool>,
    options: LaunchOptions,
}

/// What is known of the subnet and the groups of a launch.
struct KnownNetwork {
    subnet: Option<UsedSubnet>,
    groups: Vec<SecurityGroup>,
}

/// The parameters of a [`LaunchSpec`], not parsed yet.
struct LaunchParameters {
    image_id: Result<String, Ec2Error>,
    instance_type: Option<String>,
    key_name: Option<String>,
    user_data: Option<String>,
    profile_arn: Option<String>,
    profile_name: Option<String>,
    network: NetworkParameters,
    zone: Option<String>,
    tenancy: Option<String>,
    placement_group: Option<String>,
    market: Option<String>,
    monitoring: Option<String>,
    disable_api_stop: Option<String>,
    disable_api_termination: Option<String>,
    options: LaunchOptionParameters,
}

impl Operation for RunInstances {
    const ATTRIBUTES: &'static [(&'static str, Values)] = &[
        OPTION_ATTRIBUTES[0],
        OPTION_ATTRIBUTES[1],
        OPTION_ATTRIBUTES[2],
        OPTION_ATTRIBUTES[3],
        OPTION_ATTRIBUTES[4],
        ("DisableApiStop", FLAG_VALUES),
        ("DisableApiTermination", FLAG_VALUES),
        ("EbsOptimized", FLAG_VALUES),
        ("InstanceInitiatedShutdownBehavior", SHUTDOWN_VALUES),
        ("UserData", Values::AnyText),
    ];

    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let digest = parameters.digest(&["Action", "Version", "ClientToken", "DryRun"]);
        let min_count = parameters.take_required("MinCount");
        let max_count = parameters.take_required("MaxCount");
        let client_token = parameters.take("ClientToken");
        let dry_run = parameters.take("DryRun");
        let options = OptionParameters::take(&mut parameters, "MetadataOptions.");
        let launch = LaunchParameters::take(&mut parameters)?;
        let tags = take_specified_tags(&mut parameters)?;
        for (name, default) in DEFAULTS {
            parameters.take_if(name, default);
        }
        parameters.finish_without(&UNSUPPORTED)?;

        let (min_count, max_count) = read_counts(&min_count?, &max_count?)?;
        let launch = launch.read(tags)?;
        if max_count > 1 && launch.private_ip_address.is_some() {
            let message =
                "A private IP address can't be specified for a launch of more than one instance.";
            return Err(Ec2Error::new(Code::InvalidParameterCombination, message));
        }
        if client_token
            .as_ref()
            .is_some_and(|token| token.chars().count() > 64)
        {
            return Err(Ec2Error::invalid_value(
                "A client token has at most 64 characters.",
            ));
        }
        Ok(RunInstances {
            min_count,
            max_count,
            client_token: client_token.filter(|token| !token.is_empty()),
            digest,
            options: options.read()?,
            launch,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let (caller, now) = (call.caller.clone(), call.now.wall);
        let images = Arc::clone(call.registry.images());
        let plan =
            move |transaction: &mut Transaction| self.plan(transaction, &caller, &images, now);
        let (launched, earlier) = call.change(plan).await?;
        let entries = if launched.is_empty() {
            earlier
        } else {
            launched
        };
        let (reservation, owner) = entries.first().map_or_else(Default::default, |entry| {
            (
                entry.instance.reservation_id().into_owned(),
                entry.instance.owner_id().to_string(),
            )
        });
        Ok(call.response(Action::RunInstances, |xml| {
            xml.text("reservationId", reservation);
            xml.text("ownerId", owner);
            xml.set("groupSet", [(); 0], |_, ()| {});
            xml.set("instancesSet", &entries, |xml, entry| {
                // EC2 replies before the instance runs.
                let state = match entry.instance.state {
                    InstanceState::Running => InstanceState::Pending,
                    other => other,
                };
                let state_reason = match state {
                    InstanceState::Pending => Some(StateReason::pending()),
                    _ => entry.instance.state_reason.clone(),
                };
                let instance = Instance {
                    state,
                    state_reason,
                    ..entry.instance.clone()
                };
                write_instance(xml, &instance, OptionsState::Pending);
            });
        }))
    }
}

impl RunInstances {
    /// Prepares the launch. Returns the instances of an earlier call with the same client token, or
    /// none.
    fn plan(
        &self,
        transaction: &mut Transaction,
        caller: &Caller,
        images: &Images,
        now: Timestamp,
    ) -> Result<Vec<Arc<Entry>>, Ec2Error> {
        // 1. The first instance as it would be, and whether the caller may launch it.
        let account = transaction
            .account()
            .map_err(|_| Ec2Error::account_unreadable())?;
        let defaults = account.metadata_defaults;
        let image = account.imds_support(images, &self.launch.image_id);
        let options = defaults.at_launch(self.options, image);
        let reservation_id = format!("r-{}", random_digits());
        let network = self.launch.known_network(caller, transaction.before());
        let zone = self.launch.zone(&network, caller, transaction.before())?;
        let build = |transaction: &Transaction, index: usize| {
            let id = unused_id(transaction);
            let mut instance = self.launch.instance(id, index, caller, now);
            instance.placement.availability_zone = SharedText::from(&zone);
            network.apply(&mut instance);
            if instance.region() != caller.region {
                instance.imds.region = Some(caller.region.clone().into());
            }
            instance.metadata_options = options;
            instance.client_token = shared(&self.client_token);
            instance.imds.reservation_id = Some(reservation_id.clone().into());
            instance
        };
        let first = build(transaction, 0);
        self.authorize(caller, &first)?;

        // 2. A repeated call.
        if let Some(earlier) = self.earlier_launch(transaction, caller)? {
            return if self.dry_run {
                Err(Ec2Error::dry_run())
            } else {
                Ok(earlier)
            };
        }

        // 3. The account's defaults, the tags, the checks of documents, and the limits.
        refuse_optional_tokens(defaults.allow_launch(options.http_tokens))?;
        refuse_too_many_tags(&first.tags)?;
        refuse_keys_unfit_for_metadata(&first.tags, options.instance_metadata_tags)?;
        refuse_new_faults(None, &first)?;
        let count = self.count(transaction)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }

        // 4. The launch.
        let mut instances = vec![first];
        for index in 1..count {
            instances.push(build(transaction, index));
        }
        for instance in instances {
            transaction.create(instance, self.digest.clone());
        }
        Ok(Vec::new())
    }

    fn authorize(&self, caller: &Caller, instance: &Instance) -> Result<(), Ec2Error> {
        let target = Target::Launch(instance);
        caller.authorize(Action::RunInstances, &self.attributes(), target)?;
        if !instance.tags.is_empty() {
            caller.authorize(Action::CreateTags, &Vec::new(), target)?;
        }
        Ok(())
    }

    /// Returns the attributes that the call names. Values that it omits are visible in the instance
    /// to be launched.
    fn attributes(&self) -> Attributes {
        let launch = &self.launch;
        let user_data = launch.user_data.as_ref();
        let named = [
            (
                "UserData",
                user_data.map(|data| AttributeValue::Text(STANDARD.encode(data))),
            ),
            ("DisableApiStop", launch.disable_api_stop.map(Into::into)),
            (
                "DisableApiTermination",
                launch.disable_api_termination.map(Into::into),
            ),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let mut attributes = option_attributes(self.options);
        attributes.extend(named);
        attributes.extend(launch.options.attributes());
        attributes
    }

    /// Returns the instances of an earlier call with the same client token, or refuses a call with
    /// other parameters.
    fn earlier_launch(
        &self,
        transaction: &Transaction,
        caller: &Caller,
    ) -> Result<Option<Vec<Arc<Entry>>>, Ec2Error> {
        let Some(token) = &self.client_token else {
            return Ok(None);
        };
        let earlier = launched_with(transaction, token, caller);
        refuse_uncertain_launch(transaction.before(), token, caller, earlier.is_empty())?;
        let Some(entry) = earlier.first() else {
            return Ok(None);
        };
        self.authorize_repeat(caller, &earlier)?;
        if entry.launch_request.as_deref() != Some(&self.digest) {
            let message = "Arguments on this idempotent request are inconsistent with arguments used in \
                previous request(s).";
            return Err(Ec2Error::new(Code::IdempotentParameterMismatch, message));
        }
        if earlier
            .iter()
            .all(|entry| entry.instance.state == InstanceState::Terminated)
        {
            let message = "The instances of this client token were terminated.";
            return Err(Ec2Error::new(Code::IdempotentInstanceTerminated, message));
        }
        Ok(Some(earlier))
    }

    /// Refuses a repeated call unless the caller may launch the earlier instances as they are now,
    /// and may see them: the reply shows all of their records.
    fn authorize_repeat(&self, caller: &Caller, earlier: &[Arc<Entry>]) -> Result<(), Ec2Error> {
        let instances = earlier.iter().map(|entry| &entry.instance);
        let ids = instances.clone().map(|instance| &instance.instance_id);
        caller.trail.name(ids);
        for instance in instances {
            self.authorize(caller, instance)?;
            let target = Target::Instance(instance);
            caller.authorize(Action::DescribeInstances, &Vec::new(), target)?;
        }
        Ok(())
    }

    /// Returns how many instances to launch: as many as requested and permitted, but at least the
    /// minimum.
    fn count(&self, transaction: &Transaction) -> Result<usize, Ec2Error> {
        let room = MAX_INSTANCES
            .saturating_sub(transaction.before().entries().count())
            .min(MAX_PER_CALL);
        let count = self.max_count.min(room);
        if count < self.min_count {
            let message = format!(
                "You have requested more instances ({}) than your current limit.",
                self.min_count
            );
            return Err(Ec2Error::new(Code::InstanceLimitExceeded, message));
        }
        Ok(count)
    }
}

impl LaunchParameters {
    fn take(parameters: &mut Parameters) -> Result<LaunchParameters, Ec2Error> {
        let image_id = parameters.take_required("ImageId");
        let network = NetworkParameters::take(parameters)?;
        let options = LaunchOptionParameters::take(parameters);
        let mut take = |name: &str| parameters.take(name);
        Ok(LaunchParameters {
            image_id,
            instance_type: take("InstanceType"),
            key_name: take("KeyName"),
            user_data: take("UserData"),
            profile_arn: take("IamInstanceProfile.Arn"),
            profile_name: take("IamInstanceProfile.Name"),
            network,
            zone: take("Placement.AvailabilityZone"),
            tenancy: take("Placement.Tenancy"),
            placement_group: take("Placement.GroupName"),
            market: take("InstanceMarketOptions.MarketType"),
            monitoring: take("Monitoring.Enabled"),
            disable_api_stop: take("DisableApiStop"),
            disable_api_termination: take("DisableApiTermination"),
            options,
        })
    }

    fn read(self, tags: Vec<Tag>) -> Result<LaunchSpec, Ec2Error> {
        let spot = match self.market.as_deref() {
            None => false,
            Some("spot") => true,
            Some(other) => {
                let message = format!("The market type '{other}' is not supported.");
                return Err(Ec2Error::new(Code::UnsupportedOperation, message));
            }
        };
        let NetworkParameters {
            subnet_id,
            groups,
            private_ip_address,
        } = self.network;
        let empty_group = groups.iter().find(|group| group.is_empty()).cloned();
        refuse_empty([
            ("instanceType", &self.instance_type),
            ("keyName", &self.key_name),
            ("iamInstanceProfile", &self.profile_arn),
            ("iamInstanceProfile", &self.profile_name),
            ("subnetId", &subnet_id),
            ("tenancy", &self.tenancy),
            ("groupName", &self.placement_group),
            ("groupId", &empty_group),
        ])?;
        let profile = read_profile(self.profile_arn, self.profile_name)?;
        if let Some(tenancy) = self.tenancy.as_deref()
            && !TENANCIES.contains(&tenancy)
        {
            let message = format!("Value ({tenancy}) for parameter tenancy is invalid.");
            return Err(Ec2Error::invalid_value(message));
        }
        let optional_flag = |name: &str, value: Option<String>| {
            value.map(|value| flag(name, Some(&value))).transpose()
        };
        Ok(LaunchSpec {
            image_id: read_image_id(self.image_id?)?,
            options: self.options.read(self.instance_type.as_deref())?,
            instance_type: self.instance_type,
            key_name: self.key_name,
            user_data: self
                .user_data
                .map(|encoded| read_user_data(&encoded))
                .transpose()?,
            tags,
            profile,
            groups,
            subnet_id,
            private_ip_address: private_ip_address
                .map(|address| read_address(&address))
                .transpose()?,
            zone: self.zone,
            tenancy: self.tenancy,
            placement_group: self.placement_group,
            spot,
            monitoring: optional_flag("Monitoring.Enabled", self.monitoring)?,
            disable_api_stop: optional_flag("DisableApiStop", self.disable_api_stop)?,
            disable_api_termination: optional_flag(
                "DisableApiTermination",
                self.disable_api_termination,
            )?,
        })
    }
}

impl LaunchSpec {
    /// Returns what the instances in the region that the caller may describe say of the subnet and
    /// the groups.
    fn known_network(&self, caller: &Caller, snapshot: &Snapshot) -> KnownNetwork {
        // Metadata shows names. Where no instance names a group, only its id is known.
        let group = |id: &String| SecurityGroup {
            group_id: id.clone().into(),
            group_name: id.clone().into(),
        };
        let mut known = KnownNetwork {
            subnet: None,
            groups: self.groups.iter().map(group).collect(),
        };
        if self.subnet_id.is_none() && self.groups.is_empty() {
            return known;
        }
        let is_there = |entry: &&Arc<Entry>| {
            let instance = &entry.instance;
            instance.state != InstanceState::Terminated && instance.region() == caller.region
        };
        let there = snapshot.entries().filter(is_there);
        for entry in caller.permitted(Action::DescribeInstances, there) {
            known.learn(entry, self.subnet_id.as_deref());
        }
        known
    }

    /// Returns the zone of the launch: the one that the call names, or that of the subnet, or the
    /// region's first.
    fn zone(
        &self,
        network: &KnownNetwork,
        caller: &Caller,
        snapshot: &Snapshot,
    ) -> Result<String, Ec2Error> {
        let zone = match (&self.zone, &network.subnet) {
            (Some(zone), Some(subnet)) if *zone != subnet.zone => {
                let message = format!(
                    "Value ({zone}) for parameter availabilityZone is invalid. Subnet '{}' is in the availability \
                     zone {}",
                    subnet.subnet_id, subnet.zone
                );
                return Err(Ec2Error::invalid_value(message));
            }
            (Some(zone), _) => zone.clone(),
            (None, Some(subnet)) => subnet.zone.clone(),
            (None, None) => format!("{}a", caller.region),
        };
        match is_of_region(&zone, &caller.region, snapshot) {
            true => Ok(zone),
            false => Err(Ec2Error::invalid_value(format!(
                "Invalid availability zone: [{zone}]"
            ))),
        }
    }

    /// Returns one of the instances, without its network, the options and the client token.
    fn instance(&self, id: InstanceId, index: usize, caller: &Caller, now: Timestamp) -> Instance {
        let minimal = json!({ "InstanceId": id, "LaunchTime": iso_seconds(now) });
        let mut instance = document::from_value(minimal).expect("a minimal document is valid");
        instance.image_id = SharedText::from(&self.image_id);
        if let Some(instance_type) = &self.instance_type {
            instance.instance_type = instance_type.into();
        }
        instance.ami_launch_index = u32::try_from(index).unwrap_or(u32::MAX);
        instance.placement.tenancy = shared(&self.tenancy);
        instance.placement.group_name = shared(&self.placement_group);
        instance.key_name = shared(&self.key_name);
        instance.subnet_id = shared(&self.subnet_id);
        instance.private_ip_address = self.private_ip_address;
        instance.tags.clone_from(&self.tags);
        instance.instance_lifecycle = self.spot.then(|| literal!("spot"));
        let monitoring = |enabled| match enabled {
            true => literal!("enabled"),
            false => literal!("disabled"),
        };
        instance.monitoring = self.monitoring.map(|enabled| Monitoring {
            state: monitoring(enabled),
        });
        instance.iam_instance_profile = self.profile.as_ref().map(|profile| {
            let arn = match profile.starts_with("arn:") {
                true => profile.clone(),
                false => Partition::of_region(&caller.region)
                    .iam_arn(&caller.account, &format!("instance-profile/{profile}")),
            };
            IamInstanceProfile {
                arn: arn.into(),
                id: format!("AIPA{}", random_digits().to_uppercase()).into(),
            }
        });
        instance.imds.owner_id = Some(caller.account.clone().into());
        instance.imds.user_data = self
            .user_data
            .as_ref()
            .filter(|data| !data.is_empty())
            .map(|data| STANDARD.encode(data).into());
        instance.imds.disable_api_stop = self.disable_api_stop.unwrap_or(false);
        instance.imds.disable_api_termination = self.disable_api_termination.unwrap_or(false);
        self.options.apply(&mut instance);
        instance
    }
}

/// Returns the text of a field.
fn shared(text: &Option<String>) -> Option<SharedText> {
    text.as_ref().map(SharedText::from)
}

impl KnownNetwork {
    /// Takes what an instance says.
    fn learn(&mut self, entry: &Arc<Entry>, subnet_id: Option<&str>) {
        for subnet in UsedSubnet::of(entry) {
            match &mut self.subnet {
                _ if subnet_id != Some(subnet.subnet_id.as_str()) => {}
                Some(known) => known.merge(subnet),
                unknown => *unknown = Some(subnet),
            }
        }
        for UsedGroup { group, .. } in UsedGroup::of(entry) {
            let is_unnamed = |known: &&mut SecurityGroup| {
                known.group_id == group.group_id && known.group_name == known.group_id
            };
            for known in self.groups.iter_mut().filter(is_unnamed) {
                known.group_name.clone_from(&group.group_name);
            }
        }
    }

    /// Puts the VPC, the zone's id and the groups into a new instance that is in the zone.
    fn apply(&self, instance: &mut Instance) {
        instance.security_groups.clone_from(&self.groups);
        let Some(subnet) = &self.subnet else {
            return;
        };
        instance.vpc_id = shared(&subnet.vpc_id);
        if instance.availability_zone_id().as_deref() != subnet.zone_id.as_deref() {
            instance.placement.availability_zone_id = shared(&subnet.zone_id);
        }
    }
}

/// Reads the instance profile of a launch, of which a call has the ARN or the name.
fn read_profile(arn: Option<String>, name: Option<String>) -> Result<Option<String>, Ec2Error> {
    let (parameter, what, value) = match (arn, name) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let message = "The parameter iamInstanceProfile.name may not be used in combination with \
                iamInstanceProfile.arn";
            return Err(Ec2Error::new(Code::InvalidParameterCombination, message));
        }
        (Some(arn), _) if document::profile_account(&arn).is_some() => return Ok(Some(arn)),
        (None, Some(name)) if is_profile_name(&name) => return Ok(Some(name)),
        (Some(arn), _) => ("arn", "ARN", arn),
        (None, Some(name)) => ("name", "name", name),
    };
    Err(Ec2Error::invalid_value(format!(
        "Value ({value}) for parameter iamInstanceProfile.{parameter} is invalid. Invalid IAM Instance Profile {what}"
    )))
}

/// IAM, CreateInstanceProfile: `[\w+=,.@-]+`, at most 128 characters.
fn is_profile_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// Returns the instances that the caller launched with this client token before, in the order of
/// the launch. A client token belongs to an account and a region.
fn launched_with(transaction: &Transaction, token: &str, caller: &Caller) -> Vec<Arc<Entry>> {
    let is_of_caller = |entry: &&Arc<Entry>| {
        let instance = &entry.instance;
        instance.owner_id() == caller.account && instance.region() == caller.region
    };
    let launched = transaction.before().launches(token);
    let mut entries: Vec<_> = launched.filter(is_of_caller).cloned().collect();
    entries.sort_by_key(|entry| entry.instance.ami_launch_index);
    entries
}

/// Refuses a call that may repeat a launch whose record cannot be trusted now: one of the caller's
/// account and region, or one of which these are unknown if the caller has no intact launch with
/// the token.
fn refuse_uncertain_launch(
    snapshot: &Snapshot,
    token: &str,
    caller: &Caller,
    is_new: bool,
) -> Result<(), Ec2Error> {
    let is_uncertain = |launch: &LaunchToken| {
        let is_of_caller = launch.is_of(&caller.account, &caller.region);
        is_of_caller.unwrap_or(is_new)
    };
    match snapshot.quarantined_launches(token).any(is_uncertain) {
        true => Err(Ec2Error::launch_uncertain()),
        false => Ok(()),
    }
}

/// Refuses optional tokens where the account enforces required ones.
fn refuse_optional_tokens(allowed: bool) -> Result<(), Ec2Error> {
    if allowed {
        return Ok(());
    }
    let message = "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account. Either \
        launch the instance with httpTokens=required or contact your account owner to disable httpTokensEnforced using \
        the ModifyInstanceMetadataDefaults API or the account settings in the EC2 console.";
    Err(Ec2Error::new(Code::UnsupportedOperation, message))
}

/// Returns whether a zone belongs to a region: by its name, as `us-east-1a` belongs to us-east-1
/// and `us-east-10a` does not; or because an instance has both. If the region's name has no number,
/// the zone's name is the region's and a letter.
fn is_of_region(zone: &str, region: &str, snapshot: &Snapshot) -> bool {
    let is_letter = |rest: &str| matches!(rest.as_bytes(), [b'a'..=b'z']);
    let by_name = zone != region
        && (region_of_zone(zone) == region || zone.strip_prefix(region).is_some_and(is_letter));
    let has = |entry: &Arc<Entry>| {
        entry.instance.placement.availability_zone == zone && entry.instance.region() == region
    };
    by_name || snapshot.entries().any(has)
}

/// Takes `TagSpecification.N` and returns the tags for instances.
fn take_specified_tags(parameters: &mut Parameters) -> Result<Vec<Tag>, Ec2Error> {
    let mut all = Vec::new();
    for n in 1.. {
        let kind = parameters.take(&format!("TagSpecification.{n}.ResourceType"));
        let tags = parameters.take_tags(&format!("TagSpecification.{n}."));
        match kind.as_deref() {
            None if tags.is_empty() => break,
            None => {
                return Err(Ec2Error::missing_parameter(&format!(
                    "TagSpecification.{n}.ResourceType"
                )));
            }
            Some("instance") => all.extend(tags),
            Some(other) if TAGGABLE.contains(&other) => drop(read_tags(tags)?),
            Some(other) => {
                let message =
                    format!("'{other}' is not a valid taggable resource type for this operation.");
                return Err(Ec2Error::invalid_value(message));
            }
        }
    }
    read_tags(all)
}

/// Refuses values that are present but empty.
fn refuse_empty<const N: usize>(values: [(&str, &Option<String>); N]) -> Result<(), Ec2Error> {
    let is_empty = |value: &Option<String>| value.as_ref().is_some_and(String::is_empty);
    match values.into_iter().find(|(_, value)| is_empty(value)) {
        Some((name, _)) => Err(Ec2Error::invalid_value(format!(
            "Value () for parameter {name} is invalid. The value cannot be empty"
        ))),
        None => Ok(()),
    }
}

fn read_counts(min: &str, max: &str) -> Result<(usize, usize), Ec2Error> {
    let (min, max) = (read_count("minCount", min)?, read_count("maxCount", max)?);
    if max < min {
        let message =
            format!("Value ({min}) for parameter minCount is invalid. It is more than maxCount.");
        return Err(Ec2Error::invalid_value(message));
    }
    Ok((min, max))
}

fn read_count(name: &str, value: &str) -> Result<usize, Ec2Error> {
    value
        .parse()
        .ok()
        .filter(|count| *count >= 1)
        .ok_or_else(|| {
            let message = format!(
                "Value ({value}) for parameter {name} is invalid. Parameter must be greater than 0."
            );
            Ec2Error::invalid_value(message)
        })
}

fn read_address(text: &str) -> Result<Ipv4Addr, Ec2Error> {
    text.parse().map_err(|_| {
        Ec2Error::invalid_value(format!(
            "Value ({text}) for parameter privateIpAddress is invalid. Not an IPv4 address."
        ))
    })
}

/// Returns 17 random hexadecimal digits, as in EC2's ids.
fn random_digits() -> String {
    format!("{:017x}", rand::random::<u128>() >> 60)
}

/// Returns a random id that no instance has or had.
fn unused_id(transaction: &Transaction) -> InstanceId {
    loop {
        let id =
            InstanceId::parse(&format!("i-{}", random_digits())).expect("17 hexadecimal digits");
        if !transaction.is_taken(&id) {
            return id;
        }
    }
}
