//! Which texts of an instance others are likely to have too. What keeps many instances keeps these
//! once.
//!
//! Ids of the instance's own interfaces and volumes, host names and user data are not among them.
//! Host names that are the same in several places of one instance are one text by
//! [`Instance::share_host_names`].

use crate::instance::attachment::Attachment;
use crate::instance::block_device::BlockDevice;
use crate::instance::instance_attachment::InstanceAttachment;
use crate::instance::model::{Imds, Instance};
use crate::instance::network::{
    Association, InterfaceAttachment, NetworkInterface, PrivateAddress, SecurityGroup,
};
use crate::instance::placement::Placement;
use crate::instance::text::SharedText;

/// What is done with each of the texts.
type VisitText<'v> = &'v mut dyn FnMut(&mut SharedText);

impl Instance {
    /// Calls `visit` with each text that other instances are likely to have too.
    pub fn common_texts(&mut self, visit: VisitText<'_>) {
        let always = [
            &mut self.image_id,
            &mut self.instance_type,
            &mut self.architecture,
        ];
        always.into_iter().for_each(&mut *visit);
        let optional = [
            &mut self.subnet_id,
            &mut self.vpc_id,
            &mut self.key_name,
            &mut self.kernel_id,
            &mut self.ramdisk_id,
            &mut self.instance_lifecycle,
            &mut self.root_device_name,
            &mut self.root_device_type,
            &mut self.virtualization_type,
            &mut self.hypervisor,
            &mut self.client_token,
            &mut self.state_transition_reason,
        ];
        optional.into_iter().flatten().for_each(&mut *visit);
        if let Some(reason) = &mut self.state_reason {
            let texts = [&mut reason.code, &mut reason.message];
            texts.into_iter().flatten().for_each(&mut *visit);
        }
        if let Some(monitoring) = &mut self.monitoring {
            visit(&mut monitoring.state);
        }
        if let Some(profile) = &mut self.iam_instance_profile {
            visit(&mut profile.arn);
            visit(&mut profile.id);
        }
        for tag in &mut self.tags {
            visit(&mut tag.key);
            visit(&mut tag.value);
        }
        of_placement(&mut self.placement, visit);
        of_groups(&mut self.security_groups, visit);
        self.network_interfaces
            .iter_mut()
            .for_each(|interface| of_interface(interface, visit));
        self.block_device_mappings
            .iter_mut()
            .for_each(|device| of_device(device, visit));
        of_imds(&mut self.imds, visit);
        self.other.common_text().into_iter().for_each(visit);
    }

    /// Makes the host names of interfaces and addresses that are those of the instance one text.
    pub fn share_host_names(&mut self) {
        let of_instance = [&self.private_dns_name, &self.public_dns_name].map(Clone::clone);
        for interface in &mut self.network_interfaces {
            let addresses = interface.private_ip_addresses.iter_mut();
            let of_addresses = addresses.flat_map(|address| {
                let association = address.association.as_mut();
                let public = association.map(|public| &mut public.public_dns_name);
                [Some(&mut address.private_dns_name), public]
            });
            let association = interface.association.as_mut();
            let names = [
                Some(&mut interface.private_dns_name),
                association.map(|public| &mut public.public_dns_name),
            ];
            for name in names.into_iter().chain(of_addresses).flatten() {
                if let Some(same) = of_instance.iter().find(|of_instance| *of_instance == name) {
                    name.clone_from(same);
                }
            }
        }
    }
}

fn of_placement(placement: &mut Placement, visit: VisitText<'_>) {
    visit(&mut placement.availability_zone);
    let optional = [
        &mut placement.availability_zone_id,
        &mut placement.group_name,
        &mut placement.host_id,
        &mut placement.tenancy,
    ];
    optional.into_iter().flatten().for_each(&mut *visit);
    placement.other.common_text().into_iter().for_each(visit);
}

fn of_groups(groups: &mut [SecurityGroup], visit: VisitText<'_>) {
    for group in groups {
        visit(&mut group.group_id);
        visit(&mut group.group_name);
    }
}

fn of_interface(interface: &mut NetworkInterface, visit: VisitText<'_>) {
    let optional = [
        &mut interface.owner_id,
        &mut interface.subnet_id,
        &mut interface.vpc_id,
        &mut interface.status,
        &mut interface.description,
    ];
    optional.into_iter().flatten().for_each(&mut *visit);
    let InterfaceAttachment { status, other, .. } = &mut interface.attachment;
    status.iter_mut().for_each(&mut *visit);
    other.common_text().into_iter().for_each(&mut *visit);
    of_groups(&mut interface.groups, visit);
    let addresses = interface.private_ip_addresses.iter_mut();
    let associations =
        addresses.filter_map(|PrivateAddress { association, .. }| association.as_mut());
    for Association {
        ip_owner_id, other, ..
    } in associations.chain(&mut interface.association)
    {
        ip_owner_id.iter_mut().for_each(&mut *visit);
        other.common_text().into_iter().for_each(&mut *visit);
    }
    for address in &mut interface.ipv6_addresses {
        address
            .other
            .common_text()
            .into_iter()
            .for_each(&mut *visit);
    }
    interface.other.common_text().into_iter().for_each(visit);
}

fn of_device(device: &mut BlockDevice, visit: VisitText<'_>) {
    visit(&mut device.device_name);
    if let Some(volume) = &mut device.ebs {
        volume.status.iter_mut().for_each(&mut *visit);
        volume.other.common_text().into_iter().for_each(visit);
    }
}

fn of_attachment(of: &mut InstanceAttachment, visit: VisitText<'_>) {
    match &mut of.attachment {
        Attachment::Listener(name) => visit(name),
        Attachment::BridgePort(port) => visit(&mut port.bridge),
        Attachment::SourceAddress(address) => visit(&mut address.listener),
        // Names of this guest's own.
        Attachment::Interface(_) | Attachment::NetworkNamespace(_) => {}
    }
    let boot_id = of.binding.as_mut().map(|binding| &mut binding.boot_id);
    let words = boot_id.into_iter().chain([&mut of.claimed_by]);
    words.flatten().for_each(visit);
}

fn of_imds(imds: &mut Imds, visit: VisitText<'_>) {
    let optional = [
        &mut imds.owner_id,
        &mut imds.reservation_id,
        &mut imds.requester_id,
        &mut imds.region,
        &mut imds.open_ssh_key,
    ];
    optional.into_iter().flatten().for_each(&mut *visit);
    of_groups(&mut imds.reservation_groups, visit);
    for attachment in &mut imds.attachments {
        of_attachment(attachment, visit);
    }
    for blocks in imds.subnets.values_mut().chain(imds.vpcs.values_mut()) {
        let blocks = [&mut blocks.ipv4_cidr_blocks, &mut blocks.ipv6_cidr_blocks];
        blocks.into_iter().flatten().for_each(&mut *visit);
    }
}
