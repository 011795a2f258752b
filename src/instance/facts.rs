//! Facts that are derived from the fields of an instance. The metadata tree, the EC2 API with its
//! filters, the admin API and the packet rules call these functions, so that a guest and an operator
//! always see the same.
//!
//! | fact | is | if the document has none |
//! |---|---|---|
//! | [`region`](Instance::region) | `Imds.Region` | the zone's name up to its first number |
//! | [`partition`](Instance::partition) | | follows from the region |
//! | [`availability_zone_id`](Instance::availability_zone_id) | `Placement.AvailabilityZoneId` | the abbreviation of the zone's name |
//! | [`tenancy`](Instance::tenancy) | `Placement.Tenancy` | `default` |
//! | [`owner_id`](Instance::owner_id) | `Imds.OwnerId` | the owner of eth0, or zeros |
//! | [`reservation_id`](Instance::reservation_id) | `Imds.ReservationId` | the instance id with `r-` |
//! | [`monitoring_state`](Instance::monitoring_state) | `Monitoring.State` | `disabled` |
//! | [`virtualization_type`](Instance::virtualization_type) | `VirtualizationType` | `hvm` |
//! | [`hypervisor_system`](Instance::hypervisor_system) | | follows from virtualization and type |
//! | [`private_host_name`](Instance::private_host_name) | `PrivateDnsName` | from the private address, or the instance id |
//! | [`interface_host_name`](Instance::interface_host_name) | the interface's `PrivateDnsName` | that of the instance |
//! | [`interface_owner`](Instance::interface_owner) | the interface's `OwnerId` | that of the instance |
//! | [`primary_private_address`](Instance::primary_private_address) | `PrivateIpAddress` | that of eth0 |
//! | [`primary_ipv6_address`](Instance::primary_ipv6_address) | `Ipv6Address` | the first of eth0 |
//! | [`NetworkInterface::private_addresses`] | `PrivateIpAddress` and `PrivateIpAddresses` | |
//! | [`NetworkInterface::primary_association`] | that of the primary address | the first that there is |
//! | [`cpu_credits`](Instance::cpu_credits) | `Imds.CpuCredits` | that of the instance type |
//! | [`source_dest_check`](Instance::source_dest_check) | `SourceDestCheck` | that of eth0, or `true`; none once terminated |
//! | [`ebs_optimized`](Instance::ebs_optimized), [`ena_support`](Instance::ena_support) | the fields | `false`, `true` |
//!
//! A terminated instance has no interfaces, addresses, security groups and volumes: EC2 gives them to
//! others. Its record keeps the fields; the functions here return none, and nothing else may read
//! these fields for display:
//!
//! | [`interfaces`](Instance::interfaces), [`groups`](Instance::groups), [`volumes`](Instance::volumes), [`subnet`](Instance::subnet), [`vpc`](Instance::vpc) |
//! |---|
//! | [`public_address`](Instance::public_address), [`public_host_name`](Instance::public_host_name), and the addresses and host names above |

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use crate::instance::block_device::BlockDevice;
use crate::instance::instance_type::{HypervisorSystem, system_of};
use crate::instance::model::Instance;
use crate::instance::network::{Association, NetworkInterface, PrivateAddress, SecurityGroup};
use crate::instance::partition::Partition;
use crate::instance::placement::{region_of_zone, zone_id};
use crate::instance::state::InstanceState;
use crate::instance::type_facts::{CpuCredits, type_facts};

/// Where an instance is, and whose it is.
impl Instance {
    /// Returns the region: `Imds.Region`, or the availability zone up to its first number
    /// (`us-west-2` of `us-west-2-lax-1a`).
    pub fn region(&self) -> &str {
        self.imds
            .region
            .as_deref()
            .unwrap_or_else(|| region_of_zone(&self.placement.availability_zone))
    }

    /// Returns the partition that the region belongs to.
    pub fn partition(&self) -> &'static Partition {
        Partition::of_region(self.region())
    }

    /// Returns the zone's id: `AvailabilityZoneId`, or the usual abbreviation of the zone's name
    /// (`use1-az1` for `us-east-1a`). `None` if the zone's name does not follow EC2's pattern.
    ///
    /// EC2 maps letters to ids differently for each account; imdsd always uses a = 1.
    pub fn availability_zone_id(&self) -> Option<Cow<'_, str>> {
        match &self.placement.availability_zone_id {
            Some(id) => Some(Cow::Borrowed(id)),
            None => zone_id(&self.placement.availability_zone).map(Cow::Owned),
        }
    }

    /// Returns the tenancy; `default` if there is none.
    pub fn tenancy(&self) -> &str {
        self.placement.tenancy.as_deref().unwrap_or("default")
    }

    /// Returns the account: `Imds.OwnerId`, or the owner of eth0, or twelve zeros. A terminated
    /// instance keeps its owner.
    pub fn owner_id(&self) -> &str {
        let of_interface = || eth0(&self.network_interfaces)?.owner_id.as_deref();
        self.imds
            .owner_id
            .as_deref()
            .or_else(of_interface)
            .unwrap_or("000000000000")
    }

    /// Returns the reservation: `Imds.ReservationId`, or the instance id with `r-` for `i-`.
    pub fn reservation_id(&self) -> Cow<'_, str> {
        match &self.imds.reservation_id {
            Some(id) => Cow::Borrowed(id),
            None => Cow::Owned(self.instance_id.as_str().replacen("i-", "r-", 1)),
        }
    }
}

/// What an instance is made of.
impl Instance {
    /// Returns the state of detailed monitoring; `disabled` if there is none.
    pub fn monitoring_state(&self) -> &str {
        self.monitoring
            .as_ref()
            .map_or("disabled", |monitoring| &monitoring.state)
    }

    /// Returns `hvm` or `paravirtual`; `hvm` if the document has neither, as every image since 2017.
    pub fn virtualization_type(&self) -> &str {
        self.virtualization_type.as_deref().unwrap_or("hvm")
    }

    /// Returns what the instance runs on, as metadata shows it at `system`.
    pub fn hypervisor_system(&self) -> HypervisorSystem {
        system_of(self.virtualization_type(), &self.instance_type)
    }

    /// Returns the attribute `ebsOptimized`; `false` if the document has none.
    pub fn ebs_optimized(&self) -> bool {
        self.ebs_optimized.unwrap_or(false)
    }

    /// Returns the attribute `enaSupport`; `true` if the document has none, as for all current
    /// types.
    pub fn ena_support(&self) -> bool {
        self.ena_support.unwrap_or(true)
    }

    /// Returns the credit option of a burstable instance: `Imds.CpuCredits`, or what EC2 launches
    /// such a type with. `None` for any other type.
    pub fn cpu_credits(&self) -> Option<CpuCredits> {
        let default = type_facts(&self.instance_type)?.default_credits?;
        Some(self.imds.cpu_credits.unwrap_or(default))
    }

    /// Returns the attribute `enclaveOptions`; `false` if the document has none.
    pub fn enclaves_enabled(&self) -> bool {
        self.enclave_options
            .as_ref()
            .is_some_and(|options| options.enabled)
    }

    /// Returns the attribute `sourceDestCheck`: that of the instance, or of eth0, or `true`; `None` for
    /// a terminated instance, which has no interface that could check.
    pub fn source_dest_check(&self) -> Option<bool> {
        let of_interface = || self.primary_interface()?.source_dest_check;
        self.held(self.source_dest_check.or_else(of_interface).or(Some(true)))
    }

    /// Returns `SourceDestCheck` as describe-instances prints it; `None` if the document has none and
    /// for a terminated instance.
    pub fn shown_source_dest_check(&self) -> Option<bool> {
        self.held(self.source_dest_check)
    }

    /// Sets the attribute `sourceDestCheck`, which EC2 prints for the instance and for eth0.
    pub fn set_source_dest_check(&mut self, check: bool) {
        self.source_dest_check = Some(check);
        let eth0 = self
            .network_interfaces
            .iter_mut()
            .find(|interface| interface.attachment.device_index == 0);
        if let Some(interface) = eth0 {
            interface.source_dest_check = Some(check);
        }
    }

    /// Returns the user data's bytes; `None` if there is no user data or if it is empty (EC2 does
    /// not distinguish the two).
    pub fn user_data(&self) -> Option<Vec<u8>> {
        let bytes = match (&self.imds.user_data, &self.imds.user_data_text) {
            (Some(encoded), _) => BASE64.decode(encoded).ok()?,
            (None, Some(text)) => text.as_bytes().to_vec(),
            (None, None) => return None,
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// What a terminated instance no longer has.
impl Instance {
    /// Returns whether the instance still has its interfaces, addresses, groups and volumes.
    fn has_resources(&self) -> bool {
        self.state != InstanceState::Terminated
    }

    /// Returns the value of a field that a terminated instance does not have.
    fn held<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| self.has_resources())
    }

    /// Returns the attached interfaces.
    pub fn interfaces(&self) -> &[NetworkInterface] {
        match self.has_resources() {
            true => &self.network_interfaces,
            false => &[],
        }
    }

    /// Returns the attached volumes.
    pub fn volumes(&self) -> &[BlockDevice] {
        match self.has_resources() {
            true => &self.block_device_mappings,
            false => &[],
        }
    }

    /// Returns the security groups of the instance.
    pub fn groups(&self) -> &[SecurityGroup] {
        match self.has_resources() {
            true => &self.security_groups,
            false => &[],
        }
    }

    /// Returns the subnet.
    pub fn subnet(&self) -> Option<&str> {
        self.held(self.subnet_id.as_deref())
    }

    /// Returns the VPC.
    pub fn vpc(&self) -> Option<&str> {
        self.held(self.vpc_id.as_deref())
    }

    /// Returns the public or Elastic IPv4 address.
    pub fn public_address(&self) -> Option<Ipv4Addr> {
        self.held(self.public_ip_address)
    }

    /// Returns the public host name.
    pub fn public_host_name(&self) -> Option<&str> {
        self.held(self.public_dns_name.as_deref())
    }

    /// Returns the top-level fields that imdsd does not read, as describe-instances prints them.
    pub fn shown_others(&self) -> Map<String, Value> {
        let mut values = self.other.values();
        if !self.has_resources() {
            values.remove("SecondaryInterfaces");
        }
        values
    }

    /// Returns the interface with device index 0, which EC2 calls eth0.
    pub fn primary_interface(&self) -> Option<&NetworkInterface> {
        eth0(self.interfaces())
    }

    /// Returns the primary private IPv4 address of eth0; `None` for an IPv6-only instance.
    pub fn primary_private_address(&self) -> Option<Ipv4Addr> {
        self.held(self.private_ip_address)
            .or_else(|| self.primary_interface()?.private_ip_address)
    }

    /// Returns the IPv6 address that EC2 prints for the instance: `Ipv6Address`, or the first of
    /// eth0.
    pub fn primary_ipv6_address(&self) -> Option<Ipv6Addr> {
        let of_interface = || self.primary_interface()?.ipv6_addresses.first();
        self.held(self.ipv6_address)
            .or_else(|| of_interface().map(|listed| listed.ipv6_address))
    }

    /// Returns all private IPv4 addresses of all interfaces. An address can appear twice.
    pub fn private_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let of_interfaces = self
            .interfaces()
            .iter()
            .flat_map(NetworkInterface::private_addresses)
            .map(|address| address.private_ip_address);
        of_interfaces.chain(self.held(self.private_ip_address))
    }

    /// Returns all IPv6 addresses of all interfaces. An address can appear twice.
    pub fn ipv6_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let of_interfaces = self
            .interfaces()
            .iter()
            .flat_map(|interface| &interface.ipv6_addresses)
            .map(|listed| listed.ipv6_address);
        of_interfaces.chain(self.held(self.ipv6_address))
    }

    /// Returns the IPv6 addresses that need a route on the host. Link-local addresses are on every
    /// link and need none.
    pub fn routable_ipv6_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.ipv6_addresses()
            .filter(|address| !address.is_unicast_link_local())
    }

    /// Returns the host name inside the VPC: `PrivateDnsName`, or the name that EC2 would derive
    /// from the private IPv4 address or, without one, from the instance id. `None` for a terminated
    /// instance.
    pub fn private_host_name(&self) -> Option<Cow<'_, str>> {
        if !self.has_resources() {
            return None;
        }
        if let Some(name) = &self.private_dns_name {
            return Some(Cow::Borrowed(name));
        }
        let host = match self.primary_private_address() {
            Some(address) => format!("ip-{}", address.to_string().replace('.', "-")),
            None => self.instance_id.to_string(),
        };
        Some(Cow::Owned(match self.region() {
            "us-east-1" => format!("{host}.ec2.internal"),
            region => format!("{host}.{region}.compute.internal"),
        }))
    }

    /// Returns the host name of an interface: its own, or that of the instance.
    pub fn interface_host_name<'i>(
        &'i self,
        interface: &'i NetworkInterface,
    ) -> Option<Cow<'i, str>> {
        match &interface.private_dns_name {
            Some(name) => Some(Cow::Borrowed(name)),
            None => self.private_host_name(),
        }
    }

    /// Returns the account that owns an interface: its own, or that of the instance.
    pub fn interface_owner<'i>(&'i self, interface: &'i NetworkInterface) -> &'i str {
        interface.owner_id.as_deref().unwrap_or(self.owner_id())
    }
}

impl NetworkInterface {
    /// Returns the private addresses with their host names and public addresses, the primary
    /// address first, as on EC2.
    pub fn private_addresses(&self) -> impl Iterator<Item = Cow<'_, PrivateAddress>> {
        let listed = self.private_ip_addresses.iter();
        let primary = self.private_ip_address;
        let is_primary = move |address: &PrivateAddress| match primary {
            Some(primary) => address.private_ip_address == primary,
            None => address.primary,
        };
        // An address that the list does not have.
        let unlisted = primary.filter(|primary| {
            let mut all = listed.clone();
            !all.any(|address| address.private_ip_address == *primary)
        });
        let unlisted = unlisted.map(|private_ip_address| {
            Cow::Owned(PrivateAddress {
                private_ip_address,
                primary: true,
                private_dns_name: None,
                association: None,
            })
        });
        let first = listed.clone().filter(move |address| is_primary(address));
        let others = listed.filter(move |address| !is_primary(address));
        unlisted
            .into_iter()
            .chain(first.chain(others).map(Cow::Borrowed))
    }

    /// Returns the public address that EC2 prints for the interface: its own, or that of
    /// [`primary_association`](NetworkInterface::primary_association).
    pub fn shown_association(&self) -> Option<&Association> {
        let of_address = || self.primary_association()?.association.as_ref();
        self.association.as_ref().or_else(of_address)
    }

    /// Returns the public address of the interface: that of its primary private address, or the
    /// first that there is.
    pub fn primary_association(&self) -> Option<&PrivateAddress> {
        let mut mapped = self
            .private_ip_addresses
            .iter()
            .filter(|address| address.association.is_some());
        mapped
            .clone()
            .find(|address| address.primary)
            .or_else(|| mapped.next())
    }
}

fn eth0(interfaces: &[NetworkInterface]) -> Option<&NetworkInterface> {
    interfaces
        .iter()
        .find(|interface| interface.attachment.device_index == 0)
}
