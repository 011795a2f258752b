//! The changes that are published: each returns the next snapshot, and what it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::Entry;
use super::next_snapshot::{NextSnapshot, Publication};
use super::quarantine::{QuarantineReason, Quarantined};
use super::snapshot::{Snapshot, UnownedAttachments};
use crate::instance::{InstanceAttachment, InstanceId, LaunchToken, LinkIdentities, LinkIdentity};

impl Snapshot {
    /// Returns the snapshot of a store's contents. Until the host's links are known, every bound
    /// attachment is void.
    pub(super) fn new(
        entries: impl IntoIterator<Item = Entry>,
        quarantined: impl IntoIterator<Item = (InstanceId, Quarantined)>,
    ) -> Snapshot {
        let empty = Snapshot::default();
        let mut next = NextSnapshot::after(&empty);
        for entry in entries {
            next.insert(Arc::new(entry));
        }
        for (id, instance) in quarantined {
            next.quarantine(&id, instance);
        }
        next.publication().snapshot
    }

    /// Returns this snapshot with entries inserted or replaced, all at once.
    pub(super) fn with_entries(
        &self,
        changed: impl IntoIterator<Item = Arc<Entry>>,
        observed: &BTreeMap<String, LinkIdentity>,
    ) -> Publication {
        let mut next = NextSnapshot::after(self);
        for entry in changed {
            next.insert(entry);
        }
        for (name, link) in observed {
            next.set_link(name, Some(link.clone()));
        }
        next.publication()
    }

    /// Returns the links of bindings with those that a change has just read from the kernel.
    pub(super) fn links_with(
        &self,
        observed: &BTreeMap<String, LinkIdentity>,
    ) -> Arc<LinkIdentities> {
        let mut links = Arc::clone(&self.links);
        if !observed.is_empty() {
            let links = Arc::make_mut(&mut links);
            for (name, link) in observed {
                links.by_name.insert_mut(name.clone(), link.clone());
            }
        }
        links
    }

    /// Returns this snapshot with the links of the host as they are now; `None` if no binding
    /// names a link that changed.
    pub(super) fn with_links(
        &self,
        boot_id: &str,
        identity_of: impl Fn(&str) -> Option<LinkIdentity>,
    ) -> Option<Publication> {
        let names = self.bound_interfaces.keys().map(|name| &**name);
        self.with_links_named(boot_id, names, identity_of)
    }

    /// Like [`Snapshot::with_links`], where only links of these names can have changed.
    pub(super) fn with_links_named<'n>(
        &self,
        boot_id: &str,
        names: impl IntoIterator<Item = &'n str>,
        identity_of: impl Fn(&str) -> Option<LinkIdentity>,
    ) -> Option<Publication> {
        let mut next = NextSnapshot::after(self);
        next.set_boot(boot_id);
        for name in names {
            next.set_link(name, identity_of(name));
        }
        let publication = next.publication();
        publication.changes.links.then_some(publication)
    }

    /// Returns this snapshot with these attachments reserved for instances that are not known, and
    /// no others; `None` when they are the same.
    pub(super) fn with_unowned(&self, unowned: UnownedAttachments) -> Option<Publication> {
        if *self.unowned == unowned {
            return None;
        }
        let mut next = NextSnapshot::after(self);
        next.set_unowned(unowned);
        Some(next.publication())
    }

    /// Returns this snapshot without one instance.
    pub(super) fn without(&self, id: &InstanceId) -> Publication {
        let mut next = NextSnapshot::after(self);
        next.remove(id);
        next.publication()
    }

    /// Returns this snapshot without one instance whose record is removed.
    pub(super) fn without_record(&self, id: &InstanceId) -> Publication {
        let mut next = NextSnapshot::after(self);
        next.remove(id);
        next.set_tombstone(id, false);
        next.publication()
    }

    /// Returns this snapshot without one terminated instance, which becomes a tombstone: its record
    /// stays.
    pub(super) fn with_tombstone(&self, id: &InstanceId) -> Publication {
        let mut next = NextSnapshot::after(self);
        next.remove(id);
        next.set_tombstone(id, true);
        next.publication()
    }

    /// Returns this snapshot with one instance quarantined because its on-disk state is unknown.
    /// It keeps its attachments, and the client token of its launch; `client_token` is that of an
    /// instance that has not been published.
    pub(super) fn with_state_unknown(
        &self,
        id: &InstanceId,
        client_token: Option<LaunchToken>,
    ) -> Publication {
        let mut instance = match self.quarantined.get(id) {
            Some(instance) => Quarantined::clone(instance),
            None => Quarantined::with_attachments(QuarantineReason::StateUnknown, []),
        };
        instance.reason = QuarantineReason::StateUnknown;
        instance.client_tokens.extend(client_token);
        if let Some(published) = self.entry(id) {
            instance.client_tokens.extend(published.launch_token());
            let claimed = published.instance.claimed_attachments(&self.links);
            instance.attachments.extend(claimed.cloned());
        }
        self.with_quarantined(id, instance)
    }

    /// Returns this snapshot with one instance quarantined that has no record. Its attachments are
    /// reserved; `None` when they are already, for the same reason.
    pub(super) fn with_unregistered(
        &self,
        id: &InstanceId,
        reason: QuarantineReason,
        attachments: &[InstanceAttachment],
    ) -> Option<Publication> {
        let instance = Quarantined::with_attachments(reason, attachments.iter().cloned());
        let is_same = self.quarantined.get(id).is_some_and(|known| {
            known.reason == reason && known.attachments == instance.attachments
        });
        (!is_same).then(|| self.with_quarantined(id, instance))
    }

    /// Returns this snapshot with the quarantine reason of one instance set to "not stored": a
    /// failed write left nothing in the store, and the daemon registers the document again.
    pub(super) fn with_reason_not_stored(&self, id: &InstanceId) -> Publication {
        let mut next = NextSnapshot::after(self);
        if let Some(instance) = self.quarantined.get(id) {
            let instance = Quarantined {
                reason: QuarantineReason::NotStored,
                ..Quarantined::clone(instance)
            };
            next.quarantine(id, instance);
        }
        next.publication()
    }

    /// Returns this snapshot with more attachments reserved for a quarantined instance; `None`
    /// when it has them already.
    pub(super) fn with_reserved_attachments(
        &self,
        id: &InstanceId,
        attachments: &[InstanceAttachment],
    ) -> Option<Publication> {
        let mut instance = Quarantined::clone(self.quarantined.get(id)?);
        let reserved = instance.attachments.len();
        instance.attachments.extend(attachments.iter().cloned());
        (instance.attachments.len() > reserved).then(|| self.with_quarantined(id, instance))
    }

    /// Returns this snapshot with one instance quarantined like this.
    pub(super) fn with_quarantined(&self, id: &InstanceId, instance: Quarantined) -> Publication {
        let mut next = NextSnapshot::after(self);
        next.quarantine(id, instance);
        next.publication()
    }
}
