//! Parameters of RunInstances that imdsd keeps in the record for those who read them back, and the
//! one network interface that a plain launch describes.
//!
//! | parameter | values | kept in |
//! |---|---|---|
//! | CapacityReservationSpecification.CapacityReservationPreference | `open`, `none` | the field of this name |
//! | CpuOptions.CoreCount, .ThreadsPerCore | both, from 1 | the field of this name |
//! | CreditSpecification.CpuCredits | `standard`, `unlimited`; burstable types | `Imds.CpuCredits` |
//! | EbsOptimized | `true`, `false` | the field of this name |
//! | InstanceInitiatedShutdownBehavior | `stop`, `terminate` | `Imds` |
//! | MaintenanceOptions.AutoRecovery | `default`, `disabled` | the field of this name |
//! | PrivateDnsNameOptions.HostnameType | `ip-name` | the field of this name |
//!
//! A launch here creates no interface. `NetworkInterface.1` with the device index 0 is another way
//! to name the subnet, the groups and the private address of the instance; clients use it even for
//! a launch that asks for nothing special. A public address is refused: imdsd has none to give, and
//! an instance without it would look changed to the client.

use serde_json::{Value, json};

use super::error::{Code, Ec2Error};
use super::params::{Parameters, flag};
use super::policy::rules::Attributes;
use super::syntax::read_shutdown_behavior;
use crate::instance::{CpuCredits, Instance, ShutdownBehavior, type_facts};

/// The parameters that the record holds.
const HELD: [&str; 10] = [
    "CapacityReservationSpecification.CapacityReservationPreference",
    "CpuOptions.CoreCount",
    "CpuOptions.ThreadsPerCore",
    "CreditSpecification.CpuCredits",
    "EbsOptimized",
    "InstanceInitiatedShutdownBehavior",
    "MaintenanceOptions.AutoRecovery",
    "PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord",
    "PrivateDnsNameOptions.EnableResourceNameDnsARecord",
    "PrivateDnsNameOptions.HostnameType",
];

/// The options, not parsed yet.
pub(super) struct LaunchOptionParameters(Vec<(&'static str, String)>);

/// The options of a launch.
#[derive(Debug, Default)]
pub(super) struct LaunchOptions {
    capacity_preference: Option<&'static str>,
    /// Cores, and threads of each.
    cpu: Option<(u16, u16)>,
    credits: Option<CpuCredits>,
    ebs_optimized: Option<bool>,
    shutdown_behavior: Option<ShutdownBehavior>,
    auto_recovery: Option<&'static str>,
    /// Whether the call has options of the host name; only one value of each is supported.
    names_host: bool,
}

impl LaunchOptionParameters {
    /// Takes the options from the parameters of the call.
    pub(super) fn take(parameters: &mut Parameters) -> LaunchOptionParameters {
        let given = HELD.into_iter();
        LaunchOptionParameters(
            given
                .filter_map(|name| Some((name, parameters.take(name)?)))
                .collect(),
        )
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(given, _)| *given == name);
        named.next().map(|(_, value)| value.as_str())
    }

    fn word(&self, name: &str, words: [&'static str; 2]) -> Result<Option<&'static str>, Ec2Error> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match words.into_iter().find(|word| *word == value) {
            Some(word) => Ok(Some(word)),
            None => Err(Ec2Error::not_one_of(value, name, words[0], words[1])),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Ec2Error> {
        let value = self.value(name);
        value.map(|value| flag(name, Some(value))).transpose()
    }

    fn count(&self, name: &str) -> Result<Option<u16>, Ec2Error> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let has_only_digits = value.bytes().all(|b| b.is_ascii_digit());
        match value.parse() {
            Ok(count) if has_only_digits && count > 0 => Ok(Some(count)),
            Ok(_) | Err(_) => Err(Ec2Error::invalid_value(format!(
                "Value ({value}) for parameter {name} is invalid. Specify a positive integer."
            ))),
        }
    }

    fn cpu(&self) -> Result<Option<(u16, u16)>, Ec2Error> {
        let (cores, threads) = ("CpuOptions.CoreCount", "CpuOptions.ThreadsPerCore");
        match (self.count(cores)?, self.count(threads)?) {
            (None, None) => Ok(None),
            (Some(cores), Some(threads)) => Ok(Some((cores, threads))),
            (None, Some(_)) => Err(Ec2Error::missing_parameter(cores)),
            (Some(_), None) => Err(Ec2Error::missing_parameter(threads)),
        }
    }

    /// Returns whether the call has options of the host name.
    fn names_host(&self) -> Result<bool, Ec2Error> {
        let prefix = "PrivateDnsNameOptions.";
        let hostname = self.word(
            "PrivateDnsNameOptions.HostnameType",
            ["ip-name", "resource-name"],
        )?;
        let of_records = [
            self.flag("PrivateDnsNameOptions.EnableResourceNameDnsARecord")?,
            self.flag("PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord")?,
        ];
        if hostname == Some("resource-name") || of_records.contains(&Some(true)) {
            let message = "Host names of the kind 'resource-name' are not supported.";
            return Err(Ec2Error::new(Code::UnsupportedOperation, message));
        }
        Ok(self.0.iter().any(|(name, _)| name.starts_with(prefix)))
    }

    /// Parses the options. Credits need a burstable type.
    pub(super) fn read(self, instance_type: Option<&str>) -> Result<LaunchOptions, Ec2Error> {
        let credits = self.word("CreditSpecification.CpuCredits", ["standard", "unlimited"])?;
        let shutdown = self.value("InstanceInitiatedShutdownBehavior");
        let is_burstable = || {
            let facts = type_facts(instance_type.unwrap_or_default());
            facts.is_some_and(|facts| facts.default_credits.is_some())
        };
        if credits.is_some() && !is_burstable() {
            let message = "The parameter CreditSpecification needs a burstable instance type.";
            return Err(Ec2Error::new(Code::InvalidParameterCombination, message));
        }
        Ok(LaunchOptions {
            capacity_preference: self.word(
                "CapacityReservationSpecification.CapacityReservationPreference",
                ["open", "none"],
            )?,
            cpu: self.cpu()?,
            credits: credits.and_then(CpuCredits::parse),
            ebs_optimized: self.flag("EbsOptimized")?,
            shutdown_behavior: shutdown.map(read_shutdown_behavior).transpose()?,
            auto_recovery: self.word("MaintenanceOptions.AutoRecovery", ["default", "disabled"])?,
            names_host: self.names_host()?,
        })
    }
}

impl LaunchOptions {
    /// Returns the options that rules can compare, as attributes of the call.
    pub(super) fn attributes(&self) -> Attributes {
        let named = [
            ("EbsOptimized", self.ebs_optimized.map(Into::into)),
            (
                "InstanceInitiatedShutdownBehavior",
                self.shutdown_behavior
                    .map(|behavior| behavior.as_str().into()),
            ),
        ];
        let given = named.into_iter();
        given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// Puts the options into a new instance.
    pub(super) fn apply(&self, instance: &mut Instance) {
        // EC2 always prints these two, and clients compare them.
        instance.ebs_optimized = Some(self.ebs_optimized.unwrap_or(false));
        instance.set_source_dest_check(true);
        instance.imds.cpu_credits = self.credits;
        instance.imds.instance_initiated_shutdown_behavior =
            self.shutdown_behavior.unwrap_or_default();
        let mut keep = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                instance.other.insert(field.to_string(), value);
            }
        };
        keep(
            "CapacityReservationSpecification",
            self.capacity_preference
                .map(|preference| json!({ "CapacityReservationPreference": preference })),
        );
        keep(
            "CpuOptions",
            self.cpu
                .map(|(cores, threads)| json!({"CoreCount": cores, "ThreadsPerCore": threads})),
        );
        keep(
            "MaintenanceOptions",
            self.auto_recovery
                .map(|recovery| json!({ "AutoRecovery": recovery })),
        );
        keep(
            "PrivateDnsNameOptions",
            self.names_host.then(|| {
                json!({
                    "HostnameType": "ip-name",
                    "EnableResourceNameDnsARecord": false,
                    "EnableResourceNameDnsAAAARecord": false
                })
            }),
        );
    }
}

/// What a launch says about the network, at the level of the instance or of its interface.
pub(super) struct NetworkParameters {
    pub(super) subnet_id: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) private_ip_address: Option<String>,
}

impl NetworkParameters {
    /// Takes both forms. EC2 refuses a call with values of both.
    pub(super) fn take(parameters: &mut Parameters) -> Result<NetworkParameters, Ec2Error> {
        let of_instance = NetworkParameters::at(parameters, "");
        // Without an index, these could describe another interface.
        if parameters.take("NetworkInterface.1.DeviceIndex").as_deref() != Some("0") {
            return Ok(of_instance);
        }
        let of_interface = NetworkParameters::at(parameters, "NetworkInterface.1.");
        let kept = parameters.take("NetworkInterface.1.DeleteOnTermination");
        flag("NetworkInterface.1.DeleteOnTermination", kept.as_deref())?;
        for (name, default) in [
            ("AssociatePublicIpAddress", "false"),
            ("InterfaceType", "interface"),
            ("Ipv6AddressCount", "0"),
            ("NetworkCardIndex", "0"),
        ] {
            parameters.take_if(&format!("NetworkInterface.1.{name}"), default);
        }
        for (what, is_given) in [
            ("subnet ID", of_instance.subnet_id.is_some()),
            ("security groups", !of_instance.groups.is_empty()),
            ("private address", of_instance.private_ip_address.is_some()),
        ] {
            if is_given {
                let message = format!(
                    "Network interfaces and an instance-level {what} may not be specified on the same request"
                );
                return Err(Ec2Error::new(Code::InvalidParameterCombination, message));
            }
        }
        Ok(of_interface)
    }

    fn at(parameters: &mut Parameters, prefix: &str) -> NetworkParameters {
        NetworkParameters {
            subnet_id: parameters.take(&format!("{prefix}SubnetId")),
            groups: parameters.take_list(&format!("{prefix}SecurityGroupId")),
            private_ip_address: parameters.take(&format!("{prefix}PrivateIpAddress")),
        }
    }
}
