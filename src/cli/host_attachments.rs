//! The attachments that instances have to this host's network.

use std::io;

use crate::config::Config;
use crate::guest::gate;
use crate::host::guests::{self, GuestAttachment};
use crate::host::netlink::{self, Links};
use crate::instance::{Attachment, Instance, LinkIdentities};
use crate::origin::Family;

/// Returns the attachments of these instances to the host's network. The gate decides for which
/// address families an instance has listeners; an instance without any has no guest. Void attachments
/// are left out.
pub(super) fn host_attachments<'i>(
    instances: &'i [Instance],
    links: &LinkIdentities,
) -> Vec<GuestAttachment<'i>> {
    let of_instance = |instance: &'i Instance| {
        let mut families = Family::ALL.to_vec();
        families.retain(|family| gate::listens_for(instance, *family));
        guests::attachments(instance, &families, links)
    };
    instances.iter().flat_map(of_instance).collect()
}

/// Returns the network interfaces of this host.
pub(super) fn host_links() -> io::Result<Links> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (_netlink, links) = netlink::read_links().await?;
        Ok(links)
    })
}

/// Returns a text for each attachment, and each listener, that waits for an interface which does not
/// exist on this host.
pub(super) fn missing_interfaces(
    config: &Config,
    attachments: &[GuestAttachment<'_>],
    links: &Links,
) -> Vec<String> {
    let is_missing = |name: &&str| links.named(name).is_none();
    let listeners = config.listeners.iter().filter_map(|listener| {
        let interface = listener.interface.as_deref().filter(is_missing)?;
        Some(format!(
            "listener '{}': there is no interface '{interface}' yet; the listener waits for it",
            listener.name
        ))
    });
    let guests = attachments.iter().filter_map(|attachment| {
        let names = match attachment.attachment {
            Attachment::Interface(name) => vec![name.as_str()],
            Attachment::BridgePort(port) => vec![port.bridge.as_str(), port.port.as_str()],
            Attachment::NetworkNamespace(_)
            | Attachment::Listener(_)
            | Attachment::SourceAddress(_) => Vec::new(),
        };
        let missing = names.into_iter().find(|name| is_missing(name))?;
        Some(format!(
            "{}: {}: there is no interface '{missing}' yet; the instance is served there once it exists",
            attachment.guest.id, attachment.attachment
        ))
    });
    listeners.chain(guests).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::instance::{InstanceState, Switch};

    /// Rules are for every guest that is served, including one whose instance is stopping.
    #[test]
    fn only_instances_that_are_served_have_host_attachments() {
        let mut instance = demo_instance();
        instance.imds.attachments = vec![Attachment::Interface("tap0".into()).into()];
        for (state, count) in [
            (InstanceState::Running, 1),
            (InstanceState::Stopping, 1),
            (InstanceState::Stopped, 0),
            (InstanceState::Terminated, 0),
        ] {
            instance.state = state;
            let attachments =
                host_attachments(std::slice::from_ref(&instance), &LinkIdentities::default());
            assert_eq!(attachments.len(), count, "{}", state.as_str());
        }
    }

    #[test]
    fn http_protocol_ipv6_decides_whether_a_guest_uses_ipv6() {
        let mut instance = demo_instance();
        instance.imds.attachments = vec![Attachment::Interface("tap0".into()).into()];
        for (setting, uses_ipv6) in [(Switch::Enabled, true), (Switch::Disabled, false)] {
            instance.metadata_options.http_protocol_ipv6 = setting;
            let attachments =
                host_attachments(std::slice::from_ref(&instance), &LinkIdentities::default());
            assert_eq!(attachments[0].guest.uses_ipv6, uses_ipv6);
        }
    }
}
