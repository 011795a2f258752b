//! The attachments that instances have to this host's network.

use crate::guest::gate;
use crate::host::guests::{self, GuestAttachment};
use crate::instance::{Instance, LinkIdentities};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::instance::{Attachment, InstanceState, Switch};

    /// Rules are for every guest that is served, including one whose instance is stopping.
    #[test]
    fn only_instances_that_are_served_have_host_attachments() {
        let mut instance = demo_instance();
        instance.imds.attachments = vec![Attachment::Interface("tap0".to_string()).into()];
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
        instance.imds.attachments = vec![Attachment::Interface("tap0".to_string()).into()];
        for (setting, uses_ipv6) in [(Switch::Enabled, true), (Switch::Disabled, false)] {
            instance.metadata_options.http_protocol_ipv6 = setting;
            let attachments =
                host_attachments(std::slice::from_ref(&instance), &LinkIdentities::default());
            assert_eq!(attachments[0].guest.uses_ipv6, uses_ipv6);
        }
    }
}
