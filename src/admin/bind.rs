//! Binds attachments to the links that the kernel has at this moment.

use std::collections::BTreeSet;

use super::daemon_view::DaemonView;
use super::refusal::Refusal;
use crate::fault::FieldFault;
use crate::instance::{Binding, Instance, InstanceAttachment, LinkIdentities};
use crate::registry::Transaction;

/// Reads the links that these attachments name.
pub(super) async fn read_links(
    daemon: &dyn DaemonView,
    attachments: impl IntoIterator<Item = &InstanceAttachment>,
) -> Result<LinkIdentities, Refusal> {
    let attachments = attachments.into_iter();
    let names: BTreeSet<String> = attachments
        .filter_map(InstanceAttachment::bindable_interface)
        .map(str::to_string)
        .collect();
    let links = daemon.links(names).await;
    links.map_err(|reason| {
        let message = format!("cannot read the interfaces of this host: {reason}");
        Refusal::new(500, "InternalError", message)
    })
}

/// Binds every attachment of an instance that has an interface to the link that has its name, and
/// adds that link to what the change is judged by. Returns a fault for each missing interface.
pub(super) fn bind_attachments(
    transaction: &mut Transaction,
    instance: &mut Instance,
    links: &LinkIdentities,
) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    for (index, attachment) in instance.imds.attachments.iter_mut().enumerate() {
        let Some(name) = attachment.bindable_interface().map(str::to_string) else {
            continue;
        };
        match links.by_name.get(&name) {
            Some(link) => {
                transaction.observe_link(&name, link);
                attachment.binding = Some(Binding::to_link(link, &links.boot_id));
            }
            None => faults.push(FieldFault::new(
                format!("Imds.Attachments[{index}]"),
                format!("there is no interface '{name}' to bind to"),
            )),
        }
    }
    faults
}
