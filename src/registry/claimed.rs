//! What an instance claims, or a file reserves, in a snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::claim_index::ClaimOwner;
use super::snapshot::Snapshot;
use crate::instance::{Attachment, Instance, InstanceAttachment, LinkIdentities};

/// Returns what an owner claims.
pub(super) fn claimed<'s>(snapshot: &'s Snapshot, owner: &ClaimOwner) -> BTreeSet<&'s Attachment> {
    let instance = match owner {
        ClaimOwner::Instance(id) => snapshot.entry(id).map(|entry| &entry.instance),
        ClaimOwner::File(_) => None,
    };
    claimed_on(&snapshot.links, snapshot, owner, instance)
}

/// Returns what an owner claims on these links. If it is an instance, `instance` is what it is in
/// place of its entry in the snapshot.
pub(super) fn claimed_on<'s>(
    links: &LinkIdentities,
    snapshot: &'s Snapshot,
    owner: &ClaimOwner,
    instance: Option<&'s Instance>,
) -> BTreeSet<&'s Attachment> {
    let served = instance.into_iter();
    let served = served.flat_map(|instance| instance.claimed_attachments(links));
    let reserved = reserved_for(snapshot, owner);
    let reserved = reserved.filter(|attachment| attachment.void_reason(links).is_none());
    let claimed = served.chain(reserved);
    claimed.map(|claimed| &claimed.attachment).collect()
}

/// Returns all attachments of an owner, also those that it does not claim.
pub(super) fn attachments_of<'s>(
    snapshot: &'s Snapshot,
    owner: &ClaimOwner,
) -> impl Iterator<Item = &'s InstanceAttachment> {
    let entry = match owner {
        ClaimOwner::Instance(id) => snapshot.entry(id),
        ClaimOwner::File(_) => None,
    };
    let of_entry = entry.into_iter();
    let of_entry = of_entry.flat_map(|entry| &entry.instance.imds.attachments);
    of_entry.chain(reserved_for(snapshot, owner))
}

/// Returns the attachments that are reserved for a quarantined instance, or that a file reserves.
fn reserved_for<'s>(
    snapshot: &'s Snapshot,
    owner: &ClaimOwner,
) -> impl Iterator<Item = &'s InstanceAttachment> {
    let reserved = match owner {
        ClaimOwner::Instance(id) => {
            let quarantined = snapshot.quarantined.get(id);
            quarantined.map(|instance| &instance.attachments)
        }
        ClaimOwner::File(file) => snapshot.unowned.get(&**file),
    };
    reserved.into_iter().flatten()
}

/// Returns the name of the interface that an attachment is bound to.
pub(super) fn bound_interface(attachment: &InstanceAttachment) -> Option<&str> {
    attachment.binding.as_ref()?;
    attachment.bindable_interface()
}

/// Returns the names of the interfaces that the attachments of an owner are bound to.
pub(super) fn bound_interfaces(snapshot: &Snapshot, owner: &ClaimOwner) -> BTreeSet<Arc<str>> {
    let attachments = attachments_of(snapshot, owner);
    let names = attachments.filter_map(bound_interface);
    names.map(Arc::from).collect()
}
