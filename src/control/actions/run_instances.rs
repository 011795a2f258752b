//! RunInstances: makes instances that run from here on, with options resolved as EC2 resolves them at launch.
//!
//! What is made is what imdsd answers for an instance, not a machine. It has no way in: whoever may call this API may not
//! decide which network interface of the host is which guest, so the operator attaches it. It has no network interfaces,
//! volumes or role either; what describes them is refused and not accepted and then not done.
//!
//! Nothing is known of images, so every image counts as one whose software knows IMDSv2 (`imdsSupport=v2.0`): silence
//! gives required tokens, as in documents.
//!
//! A call that is repeated with its ClientToken makes nothing new and shows what the first one made.

use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::create_tags::{read_tags, refuse_too_many};
use super::describe_instances::write_instance;
use super::{
    Action, Call, Caller, attribute_of, attributes_of, read_hop_limit, read_http_tokens,
    read_switch, read_user_data, refuse_keys_unfit_for_metadata, refuse_new_faults,
};
use crate::clock::iso_seconds;
use crate::control::error::{Code, Ec2Error};
use crate::control::params::{Parameters, flag};
use crate::control::policy::{Attributes, Target, Value};
use crate::control::xml::Document;
use crate::document;
use crate::instance::{
    IamInstanceProfile, ImdsSupport, Instance, InstanceId, InstanceState, Monitoring,
    OptionsUpdate, SecurityGroup, Tag, region_of_zone,
};
use crate::registry::{Entry, OptionsState, Snapshot, Transaction};

/// The most instances of one call.
const MAX_PER_CALL: usize = 100;
/// The most instances that calls may fill a host with.
const MAX_INSTANCES: usize = 10_000;

/// What EC2 has and imdsd does not.
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

/// What asks for nothing: the values that these have when nobody names them.
const USUAL: [(&str, &str); 11] = [
    (
        "CapacityReservationSpecification.CapacityReservationPreference",
        "open",
    ),
    ("EbsOptimized", "false"),
    ("EnablePrimaryIpv6", "false"),
    ("EnclaveOptions.Enabled", "false"),
    ("HibernationOptions.Configured", "false"),
    ("InstanceInitiatedShutdownBehavior", "stop"),
    ("Ipv6AddressCount", "0"),
    ("MaintenanceOptions.AutoRecovery", "default"),
    ("NetworkPerformanceOptions.BandwidthWeighting", "default"),
    (
        "PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord",
        "false",
    ),
    (
        "PrivateDnsNameOptions.EnableResourceNameDnsARecord",
        "false",
    ),
];

/// What else of a launch EC2 can tag.
const TAGGABLE: [&str; 3] = ["network-interface", "spot-instances-request", "volume"];

/// The input of one call.
pub(super) struct RunInstances {
    min_count: usize,
    max_count: usize,
    client_token: Option<String>,
    /// Of everything but the token, for a repeated call.
    digest: String,
    options: OptionsUpdate,
    dry_run: bool,
    /// What all of them have in common.
    launch: Launch,
}

struct Launch {
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
    /// `None` where the call does not say.
    disable_api_stop: Option<bool>,
    disable_api_termination: Option<bool>,
}

impl RunInstances {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let digest = parameters.digest(&["Action", "Version", "ClientToken", "DryRun"]);
        let min_count = parameters.take_required("MinCount");
        let max_count = parameters.take_required("MaxCount");
        let image_id = parameters.take_required("ImageId");
        let mut take = |name: &str| parameters.take(name);
        let client_token = take("ClientToken");
        let dry_run = take("DryRun");
        let (http_tokens, hop_limit) = (
            take("MetadataOptions.HttpTokens"),
            take("MetadataOptions.HttpPutResponseHopLimit"),
        );
        let (endpoint, ipv6) = (
            take("MetadataOptions.HttpEndpoint"),
            take("MetadataOptions.HttpProtocolIpv6"),
        );
        let metadata_tags = take("MetadataOptions.InstanceMetadataTags");
        let (instance_type, key_name, user_data) =
            (take("InstanceType"), take("KeyName"), take("UserData"));
        let (profile_arn, profile_name) = (
            take("IamInstanceProfile.Arn"),
            take("IamInstanceProfile.Name"),
        );
        let (subnet_id, private_ip_address) = (take("SubnetId"), take("PrivateIpAddress"));
        let (zone, tenancy) = (
            take("Placement.AvailabilityZone"),
            take("Placement.Tenancy"),
        );
        let placement_group = take("Placement.GroupName");
        let (market, monitoring) = (
            take("InstanceMarketOptions.MarketType"),
            take("Monitoring.Enabled"),
        );
        let (stop, termination) = (take("DisableApiStop"), take("DisableApiTermination"));
        let groups = parameters.take_list("SecurityGroupId");
        let tags = take_specified_tags(&mut parameters)?;
        for (name, usual) in USUAL {
            parameters.take_if(name, usual);
        }
        parameters.finish_without(&UNSUPPORTED)?;

        let (min_count, max_count) = (
            read_count("minCount", &min_count?)?,
            read_count("maxCount", &max_count?)?,
        );
        if max_count < min_count {
            let message = format!(
                "Value ({min_count}) for parameter minCount is invalid. It is more than maxCount."
            );
            return Err(Ec2Error::invalid_value(message));
        }
        if client_token
            .as_ref()
            .is_some_and(|token| token.chars().count() > 64)
        {
            return Err(Ec2Error::invalid_value(
                "A client token has at most 64 characters.",
            ));
        }
        let switch = |name: &str, value: Option<String>| {
            value.map(|value| read_switch(name, &value)).transpose()
        };
        let named_flag = |name: &str, value: Option<String>| {
            value.map(|value| flag(name, Some(&value))).transpose()
        };
        let options = OptionsUpdate {
            http_tokens: http_tokens
                .map(|value| read_http_tokens(&value))
                .transpose()?,
            http_put_response_hop_limit: hop_limit
                .map(|value| read_hop_limit(&value))
                .transpose()?,
            http_endpoint: switch("HttpEndpoint", endpoint)?,
            http_protocol_ipv6: switch("HttpProtocolIpv6", ipv6)?,
            instance_metadata_tags: switch("InstanceMetadataTags", metadata_tags)?,
        };
        let profile = match (profile_arn, profile_name) {
            (Some(_), Some(_)) => {
                let message = "The parameter iamInstanceProfile.name may not be used in combination with \
                    iamInstanceProfile.arn";
                return Err(Ec2Error::new(Code::InvalidParameterCombination, message));
            }
            (arn, name) => arn.or(name),
        };
        let spot = match market.as_deref() {
            None => false,
            Some("spot") => true,
            Some(other) => {
                let message = format!("The market type '{other}' is not supported.");
                return Err(Ec2Error::new(Code::UnsupportedOperation, message));
            }
        };
        for (name, value) in [
            ("instanceType", &instance_type),
            ("keyName", &key_name),
            ("iamInstanceProfile", &profile),
            ("subnetId", &subnet_id),
            ("tenancy", &tenancy),
            ("groupName", &placement_group),
            (
                "groupId",
                &groups.iter().find(|group| group.is_empty()).cloned(),
            ),
        ] {
            if value.as_ref().is_some_and(String::is_empty) {
                let message =
                    format!("Value () for parameter {name} is invalid. The value cannot be empty");
                return Err(Ec2Error::invalid_value(message));
            }
        }
        let launch = Launch {
            image_id: read_image_id(image_id?)?,
            instance_type,
            key_name,
            user_data: user_data
                .map(|encoded| read_user_data(&encoded))
                .transpose()?,
            tags,
            profile,
            groups,
            subnet_id,
            private_ip_address: private_ip_address
                .map(|address| read_address(&address))
                .transpose()?,
            zone,
            tenancy,
            placement_group,
            spot,
            monitoring: named_flag("Monitoring.Enabled", monitoring)?,
            disable_api_stop: named_flag("DisableApiStop", stop)?,
            disable_api_termination: named_flag("DisableApiTermination", termination)?,
        };
        let dry_run = flag("DryRun", dry_run.as_deref())?;
        let client_token = client_token.filter(|token| !token.is_empty());
        Ok(RunInstances {
            min_count,
            max_count,
            client_token,
            digest,
            options,
            dry_run,
            launch,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::RunInstances;
        let (caller, now) = (call.caller.clone(), call.now.wall);
        let plan = move |transaction: &mut Transaction| {
            // 1. What it would be, and whether the caller may make such instances.
            let account = transaction
                .account()
                .map_err(|_| Ec2Error::account_unreadable())?;
            let defaults = account.metadata_defaults;
            let options = defaults.at_launch(self.options, ImdsSupport::V2);
            let reservation_id = format!("r-{}", random_digits());
            let make = |index: usize| {
                let id = unused_id(transaction);
                let mut instance =
                    self.launch
                        .instance(id, index, &caller, transaction.before(), now)?;
                instance.metadata_options = options;
                instance.client_token.clone_from(&self.client_token);
                instance.imds.reservation_id = Some(reservation_id.clone());
                Ok::<_, Ec2Error>(instance)
            };
            let first = make(0)?;
            caller.may(ACTION, &self.attributes(), Target::Launch(&first))?;
            if !first.tags.is_empty() {
                caller.may(Action::CreateTags, &Vec::new(), Target::Launch(&first))?;
            }

            // 2. A repeated call.
            if let Some(token) = &self.client_token {
                let earlier = made_with(transaction, token, &caller);
                if let Some(entry) = earlier.first() {
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
                    return if self.dry_run {
                        Err(Ec2Error::dry_run())
                    } else {
                        Ok(earlier)
                    };
                }
            }

            // 3. The account, the tags, everything that a document may not say either, and how many there may be.
            refuse_optional_tokens(defaults.allow_launch(options.http_tokens))?;
            refuse_too_many(&first.tags)?;
            refuse_keys_unfit_for_metadata(&first.tags, options.instance_metadata_tags)?;
            refuse_new_faults(None, &first)?;
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
            if self.dry_run {
                return Err(Ec2Error::dry_run());
            }
            let rest: Vec<_> = (1..count).map(make).collect::<Result<_, _>>()?;
            for instance in [first].into_iter().chain(rest) {
                transaction.create(instance, self.digest.clone());
            }
            Ok(Vec::new())
        };
        let (made, earlier) = call.change(plan).await?;
        let entries = if made.is_empty() { earlier } else { made };
        let (reservation, owner) = entries.first().map_or_else(Default::default, |entry| {
            (
                entry.instance.reservation_id().into_owned(),
                entry.instance.owner_id().to_string(),
            )
        });
        Ok(call.document(ACTION, |xml| {
            xml.text("reservationId", reservation);
            xml.text("ownerId", owner);
            xml.set("groupSet", [(); 0], |_, ()| {});
            xml.set("instancesSet", &entries, |xml, entry| {
                // EC2's answer comes before the instance runs.
                let state = match entry.instance.state {
                    InstanceState::Running => InstanceState::Pending,
                    other => other,
                };
                write_instance(
                    xml,
                    &Instance {
                        state,
                        ..entry.instance.clone()
                    },
                    OptionsState::Pending,
                );
            });
        }))
    }
}

impl RunInstances {
    /// What the call names, as rules see it. What it leaves out is seen in what the instance would be.
    fn attributes(&self) -> Attributes {
        let launch = &self.launch;
        let of_launch = [
            (
                "UserData",
                launch
                    .user_data
                    .as_ref()
                    .map(|data| Value::Text(STANDARD.encode(data))),
            ),
            ("DisableApiStop", launch.disable_api_stop.map(attribute_of)),
            (
                "DisableApiTermination",
                launch.disable_api_termination.map(attribute_of),
            ),
        ];
        let mut attributes = attributes_of(self.options);
        attributes.extend(
            of_launch
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        attributes
    }
}

impl Launch {
    /// One of the instances; its options come later.
    fn instance(
        &self,
        id: InstanceId,
        index: usize,
        caller: &Caller,
        snapshot: &Snapshot,
        now: jiff::Timestamp,
    ) -> Result<Instance, Ec2Error> {
        let zone = self
            .zone
            .clone()
            .unwrap_or_else(|| format!("{}a", caller.region));
        if !is_of_region(&zone, &caller.region, snapshot) {
            return Err(Ec2Error::invalid_value(format!(
                "Invalid availability zone: [{zone}]"
            )));
        }
        let smallest = json!({ "InstanceId": id, "LaunchTime": iso_seconds(now) });
        let mut instance = document::from_value(smallest).expect("a document needs no more");
        instance.image_id.clone_from(&self.image_id);
        if let Some(instance_type) = &self.instance_type {
            instance.instance_type.clone_from(instance_type);
        }
        instance.ami_launch_index = u32::try_from(index).unwrap_or(u32::MAX);
        instance.placement.availability_zone = zone;
        instance.placement.tenancy.clone_from(&self.tenancy);
        instance
            .placement
            .group_name
            .clone_from(&self.placement_group);
        instance.key_name.clone_from(&self.key_name);
        instance.subnet_id.clone_from(&self.subnet_id);
        instance.private_ip_address = self.private_ip_address;
        instance.tags.clone_from(&self.tags);
        instance.instance_lifecycle = self.spot.then(|| "spot".to_string());
        let monitoring = |enabled| if enabled { "enabled" } else { "disabled" }.to_string();
        instance.monitoring = self.monitoring.map(|enabled| Monitoring {
            state: monitoring(enabled),
        });
        // Only the ids are known here; metadata shows names.
        let group = |id: &String| SecurityGroup {
            group_id: id.clone(),
            group_name: id.clone(),
        };
        instance.security_groups = self.groups.iter().map(group).collect();
        instance.iam_instance_profile = self.profile.as_ref().map(|profile| {
            let arn = match profile.starts_with("arn:") {
                true => profile.clone(),
                false => format!("arn:aws:iam::{}:instance-profile/{profile}", caller.account),
            };
            IamInstanceProfile {
                arn,
                id: format!("AIPA{}", random_digits().to_uppercase()),
            }
        });
        instance.imds.owner_id = Some(caller.account.clone());
        instance.imds.user_data = self
            .user_data
            .as_ref()
            .filter(|data| !data.is_empty())
            .map(|data| STANDARD.encode(data));
        instance.imds.disable_api_stop = self.disable_api_stop.unwrap_or(false);
        instance.imds.disable_api_termination = self.disable_api_termination.unwrap_or(false);
        if instance.region() != caller.region {
            instance.imds.region = Some(caller.region.clone());
        }
        Ok(instance)
    }
}

/// The instances that a caller's earlier call with this token made, in the order of the launch.
fn made_with(transaction: &Transaction, token: &str, caller: &Caller) -> Vec<Arc<Entry>> {
    let is_of_call = |entry: &&Arc<Entry>| {
        let instance = &entry.instance;
        let same_token = instance.client_token.as_deref() == Some(token);
        same_token && entry.launch_request.is_some() && instance.owner_id() == caller.account
    };
    let mut entries: Vec<_> = transaction
        .before()
        .entries()
        .filter(is_of_call)
        .cloned()
        .collect();
    entries.sort_by_key(|entry| entry.instance.ami_launch_index);
    entries
}

fn refuse_optional_tokens(allowed: bool) -> Result<(), Ec2Error> {
    if allowed {
        return Ok(());
    }
    let message = "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account. Either \
        launch the instance with httpTokens=required or contact your account owner to disable httpTokensEnforced using \
        the ModifyInstanceMetadataDefaults API or the account settings in the EC2 console.";
    Err(Ec2Error::new(Code::UnsupportedOperation, message))
}

/// Whether a zone is one of the region: by its name, as `us-east-1a` is of us-east-1, and not `us-east-10a`; or because
/// there is an instance. Of a region whose name has no number in it, the letter alone follows the name.
fn is_of_region(zone: &str, region: &str, snapshot: &Snapshot) -> bool {
    let is_letter = |rest: &str| matches!(rest.as_bytes(), [b'a'..=b'z']);
    let by_name = zone != region
        && (region_of_zone(zone) == region || zone.strip_prefix(region).is_some_and(is_letter));
    let has = |entry: &Arc<Entry>| {
        entry.instance.placement.availability_zone == zone && entry.instance.region() == region
    };
    by_name || snapshot.entries().any(has)
}

/// `TagSpecification.N` for instances. Nothing else is made here that could be tagged.
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
            Some(other) if TAGGABLE.contains(&other) => {
                let message = format!("Tags of the resource type '{other}' are not supported.");
                return Err(Ec2Error::new(Code::UnsupportedOperation, message));
            }
            Some(other) => {
                let message =
                    format!("'{other}' is not a valid taggable resource type for this operation.");
                return Err(Ec2Error::invalid_value(message));
            }
        }
    }
    read_tags(all)
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

fn read_image_id(text: String) -> Result<String, Ec2Error> {
    let digits = text.strip_prefix("ami-").unwrap_or_default();
    let spelled = matches!(digits.len(), 8 | 17)
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match spelled {
        true => Ok(text),
        false => {
            let message = format!("Invalid id: \"{text}\" (expecting \"ami-...\")");
            Err(Ec2Error::new(Code::InvalidAmiIdMalformed, message))
        }
    }
}

fn read_address(text: &str) -> Result<Ipv4Addr, Ec2Error> {
    text.parse().map_err(|_| {
        Ec2Error::invalid_value(format!(
            "Value ({text}) for parameter privateIpAddress is invalid. Not an IPv4 address."
        ))
    })
}

/// 17 random hexadecimal digits, as EC2's ids have.
fn random_digits() -> String {
    format!("{:017x}", rand::random::<u128>() >> 60)
}

fn unused_id(transaction: &Transaction) -> InstanceId {
    loop {
        let id =
            InstanceId::parse(&format!("i-{}", random_digits())).expect("17 hexadecimal digits");
        if !transaction.is_taken(&id) {
            return id;
        }
    }
}
