//! The registry at one moment: immutable, shared by every request that began under it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::change_feed::Changes;
use super::claimants::{self, Claimants};
use super::entry::Entry;
use super::quarantine::{QuarantineReason, Quarantined};
use crate::instance::claims::Claims;
use crate::instance::{
    Attachment, InstanceAttachment, InstanceId, LaunchToken, LinkIdentities, LinkIdentity,
};
use crate::origin::Origin;

/// All instances, and the claimants of every attachment.
#[derive(Default)]
pub struct Snapshot {
    entries: BTreeMap<InstanceId, Arc<Entry>>,
    quarantined: BTreeMap<InstanceId, Quarantined>,
    claims: HashMap<Attachment, Claimants>,
    /// What the bindings of attachments are compared with: the links that bindings name.
    links: Arc<LinkIdentities>,
    /// What is reserved for instances that are not known, by the file that names it.
    unowned: Arc<UnownedAttachments>,
    /// The names of the interfaces of bound attachments.
    bound_interfaces: BTreeSet<String>,
}

/// Attachments that are reserved while nothing says whose they are, by the file that names them.
pub type UnownedAttachments = BTreeMap<PathBuf, BTreeSet<InstanceAttachment>>;

/// Building the next snapshot.
impl Snapshot {
    pub(super) fn new(
        entries: impl IntoIterator<Item = Entry>,
        quarantined: impl IntoIterator<Item = (InstanceId, Quarantined)>,
    ) -> Snapshot {
        let entries = entries
            .into_iter()
            .map(|entry| (entry.instance.instance_id.clone(), Arc::new(entry)))
            .collect();
        // Until the host's links are known, every bound attachment is void.
        let (links, unowned) = (Arc::default(), Arc::default());
        Snapshot::assemble(entries, quarantined.into_iter().collect(), links, unowned)
    }

    /// Returns this snapshot with entries inserted or replaced, all at once.
    pub(super) fn with_entries(
        &self,
        changed: impl IntoIterator<Item = Arc<Entry>>,
        observed: &BTreeMap<String, LinkIdentity>,
    ) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        for entry in changed {
            quarantined.remove(&entry.instance.instance_id);
            entries.insert(entry.instance.instance_id.clone(), entry);
        }
        let unowned = Arc::clone(&self.unowned);
        Snapshot::assemble(entries, quarantined, self.links_with(observed), unowned)
    }

    /// Returns the links of bindings with those that a change has just read from the kernel.
    pub(super) fn links_with(
        &self,
        observed: &BTreeMap<String, LinkIdentity>,
    ) -> Arc<LinkIdentities> {
        let mut links = Arc::clone(&self.links);
        if !observed.is_empty() {
            let links = Arc::make_mut(&mut links);
            let observed = observed.iter();
            links
                .by_name
                .extend(observed.map(|(name, link)| (name.clone(), link.clone())));
        }
        links
    }

    /// Returns this snapshot with the links of the host as they are now; `None` if no binding
    /// names a link that changed.
    pub(super) fn with_links(
        &self,
        boot_id: &str,
        identity_of: impl Fn(&str) -> Option<LinkIdentity>,
    ) -> Option<Snapshot> {
        let names = self.bound_interfaces.iter();
        let links = LinkIdentities {
            boot_id: boot_id.to_string(),
            by_name: names
                .filter_map(|name| Some((name.clone(), identity_of(name)?)))
                .collect(),
        };
        if *self.links == links {
            return None;
        }
        let (entries, quarantined) = (self.entries.clone(), self.quarantined.clone());
        let unowned = Arc::clone(&self.unowned);
        Some(Snapshot::assemble(
            entries,
            quarantined,
            Arc::new(links),
            unowned,
        ))
    }

    /// Returns this snapshot with these attachments reserved for instances that are not known, and
    /// no others; `None` when they are the same.
    pub(super) fn with_unowned(&self, unowned: UnownedAttachments) -> Option<Snapshot> {
        if *self.unowned == unowned {
            return None;
        }
        let (entries, quarantined) = (self.entries.clone(), self.quarantined.clone());
        let links = Arc::clone(&self.links);
        Some(Snapshot::assemble(
            entries,
            quarantined,
            links,
            Arc::new(unowned),
        ))
    }

    /// Returns this snapshot without one instance.
    pub(super) fn without(&self, id: &InstanceId) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        entries.remove(id);
        quarantined.remove(id);
        self.assembled(entries, quarantined)
    }

    /// Returns this snapshot with one instance quarantined because its on-disk state is unknown.
    /// It keeps its attachments, and the client token of its launch; `client_token` is that of an
    /// instance that has not been published.
    pub(super) fn with_state_unknown(
        &self,
        id: &InstanceId,
        client_token: Option<LaunchToken>,
    ) -> Snapshot {
        let (mut entries, mut quarantined) = (self.entries.clone(), self.quarantined.clone());
        let removed = entries.remove(id);
        let instance = quarantined.entry(id.clone()).or_insert(Quarantined {
            reason: QuarantineReason::StateUnknown,
            attachments: BTreeSet::new(),
            client_tokens: BTreeSet::new(),
        });
        instance.reason = QuarantineReason::StateUnknown;
        instance.client_tokens.extend(client_token);
        let published = removed.as_ref();
        instance
            .client_tokens
            .extend(published.and_then(|entry| entry.launch_token()));
        instance.attachments.extend(
            removed
                .iter()
                .flat_map(|entry| entry.instance.claimed_attachments(&self.links))
                .cloned(),
        );
        self.assembled(entries, quarantined)
    }

    /// Returns this snapshot with one instance quarantined that has no record. Its attachments are
    /// reserved; `None` when they are already, for the same reason.
    pub(super) fn with_unregistered(
        &self,
        id: &InstanceId,
        reason: QuarantineReason,
        attachments: &[InstanceAttachment],
    ) -> Option<Snapshot> {
        let attachments: BTreeSet<InstanceAttachment> = attachments.iter().cloned().collect();
        if self.quarantined.get(id).is_some_and(|instance| {
            instance.reason == reason && instance.attachments == attachments
        }) {
            return None;
        }
        let mut quarantined = self.quarantined.clone();
        quarantined.insert(
            id.clone(),
            Quarantined {
                reason,
                attachments,
                client_tokens: BTreeSet::new(),
            },
        );
        Some(self.assembled(self.entries.clone(), quarantined))
    }

    /// Returns this snapshot with the quarantine reason of one instance set to "not stored": a
    /// failed write left nothing in the store, and the daemon registers the document again.
    pub(super) fn with_reason_not_stored(&self, id: &InstanceId) -> Snapshot {
        let mut quarantined = self.quarantined.clone();
        if let Some(instance) = quarantined.get_mut(id) {
            instance.reason = QuarantineReason::NotStored;
        }
        self.assembled(self.entries.clone(), quarantined)
    }

    /// Returns this snapshot with more attachments reserved for a quarantined instance; `None`
    /// when it has them already.
    pub(super) fn with_reserved_attachments(
        &self,
        id: &InstanceId,
        attachments: &[InstanceAttachment],
    ) -> Option<Snapshot> {
        let reserved = &self.quarantined.get(id)?.attachments;
        if attachments
            .iter()
            .all(|attachment| reserved.contains(attachment))
        {
            return None;
        }
        let mut quarantined = self.quarantined.clone();
        quarantined
            .get_mut(id)?
            .attachments
            .extend(attachments.iter().cloned());
        Some(self.assembled(self.entries.clone(), quarantined))
    }

    /// Returns a snapshot of these instances on the same links.
    fn assembled(
        &self,
        entries: BTreeMap<InstanceId, Arc<Entry>>,
        quarantined: BTreeMap<InstanceId, Quarantined>,
    ) -> Snapshot {
        let (links, unowned) = (Arc::clone(&self.links), Arc::clone(&self.unowned));
        Snapshot::assemble(entries, quarantined, links, unowned)
    }

    fn assemble(
        entries: BTreeMap<InstanceId, Arc<Entry>>,
        quarantined: BTreeMap<InstanceId, Quarantined>,
        links: Arc<LinkIdentities>,
        unowned: Arc<UnownedAttachments>,
    ) -> Snapshot {
        let served = entries.iter().flat_map(|(id, entry)| {
            let claimed = entry.instance.claimed_attachments(&links);
            claimed.map(move |attachment| (id, &attachment.attachment))
        });
        let reserved = quarantined.iter().flat_map(|(id, instance)| {
            let reserved = instance.attachments.iter();
            let reserved = reserved.filter(|attachment| attachment.void_reason(&links).is_none());
            reserved.map(move |attachment| (id, &attachment.attachment))
        });
        let of_files = unowned.values().flatten();
        let of_files = of_files.filter(|attachment| attachment.void_reason(&links).is_none());
        let of_files = of_files.map(|attachment| &attachment.attachment);
        let claims = claimants::by_attachment(served.chain(reserved), of_files);
        let attachments = entries
            .values()
            .flat_map(|entry| &entry.instance.imds.attachments)
            .chain(
                quarantined
                    .values()
                    .flat_map(|instance| &instance.attachments),
            )
            .chain(unowned.values().flatten());
        let bound_interfaces = attachments
            .filter(|attachment| attachment.binding.is_some())
            .filter_map(|attachment| attachment.bindable_interface())
            .map(str::to_string)
            .collect();
        Snapshot {
            entries,
            quarantined,
            claims,
            links,
            unowned,
            bound_interfaces,
        }
    }
}

/// Comparing.
impl Snapshot {
    /// Returns what changed from an earlier snapshot to this one.
    pub(super) fn changes_since(&self, before: &Snapshot) -> Changes {
        let mut changes = Changes {
            links: self.links != before.links,
            ..Changes::default()
        };
        for id in self.entries.keys().chain(before.entries.keys()) {
            let (now, earlier) = (self.entries.get(id), before.entries.get(id));
            if now.map(Arc::as_ptr) != earlier.map(Arc::as_ptr) {
                changes.instances.insert(id.clone());
            }
        }
        for id in self.quarantined.keys().chain(before.quarantined.keys()) {
            if self.quarantined.get(id) != before.quarantined.get(id) {
                changes.instances.insert(id.clone());
            }
        }
        for attachment in self.claims.keys().chain(before.claims.keys()) {
            let (now, earlier) = (self.claims.get(attachment), before.claims.get(attachment));
            if now != earlier {
                let claimants = now.into_iter().chain(earlier).flat_map(Claimants::ids);
                changes.instances.extend(claimants.cloned());
                changes.attachments.insert(attachment.clone());
            }
        }
        if changes.links {
            self.add_bound_to_changed_links(before, &mut changes);
        }
        changes
    }

    /// Adds the attachments that are bound to links that changed, and their instances.
    fn add_bound_to_changed_links(&self, before: &Snapshot, changes: &mut Changes) {
        let (links, earlier) = (&self.links, &before.links);
        let is_same_boot = links.boot_id == earlier.boot_id;
        let is_rebound = |attachment: &InstanceAttachment| {
            let interface = attachment.bindable_interface();
            attachment.binding.is_some()
                && interface.is_some_and(|name| {
                    !is_same_boot || links.by_name.get(name) != earlier.by_name.get(name)
                })
        };
        let entries = self.entries.iter().flat_map(|(id, entry)| {
            let attachments = entry.instance.imds.attachments.iter();
            attachments.map(move |attachment| (id, attachment))
        });
        for (id, attachment) in entries.chain(self.reserved()) {
            if is_rebound(attachment) {
                changes.instances.insert(id.clone());
                changes.attachments.insert(attachment.attachment.clone());
            }
        }
    }
}

/// Reading.
impl Snapshot {
    /// Returns the instance that an origin belongs to. `None` when no instance or more than one
    /// claims the attachment, when the claimant is quarantined, and when another instance or
    /// launch held the attachment at the time that the connection was accepted.
    pub fn at(&self, origin: &Origin) -> Option<&Arc<Entry>> {
        let entry = self.attached_to(&origin.attachment)?;
        origin
            .holder
            .as_ref()
            .is_none_or(|holder| *holder == entry.holder())
            .then_some(entry)
    }

    /// Returns the one instance that holds this attachment.
    pub fn attached_to(&self, attachment: &Attachment) -> Option<&Arc<Entry>> {
        match self.claims.get(attachment)? {
            Claimants::One(id) => self.entries.get(id),
            Claimants::Conflict(_) => None,
        }
    }

    /// Returns one instance by its id.
    pub fn entry(&self, id: &InstanceId) -> Option<&Arc<Entry>> {
        self.entries.get(id)
    }

    /// Returns all instances that are served, ordered by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Returns every claimed attachment with its claimants.
    pub fn claims(&self) -> impl Iterator<Item = (&Attachment, &Claimants)> {
        self.claims.iter()
    }

    /// Returns the claimants of one attachment.
    pub fn claim(&self, attachment: &Attachment) -> Option<&Claimants> {
        self.claims.get(attachment)
    }

    /// Returns the links that the bindings of attachments are compared with.
    pub fn links(&self) -> &LinkIdentities {
        &self.links
    }

    /// Returns the attachments that are reserved for quarantined instances.
    pub fn reserved(&self) -> impl Iterator<Item = (&InstanceId, &InstanceAttachment)> {
        self.quarantined.iter().flat_map(|(id, instance)| {
            let attachments = instance.attachments.iter();
            attachments.map(move |attachment| (id, attachment))
        })
    }

    /// Returns the attachments that are reserved for instances that are not known, by the file that
    /// names them.
    pub fn unowned(&self) -> &UnownedAttachments {
        &self.unowned
    }

    /// Returns the file that reserves an attachment that conflicts with this one, while nothing says
    /// whose it is.
    pub fn file_that_reserves(&self, attachment: &Attachment) -> Option<&Path> {
        let mut claims = Claims::new();
        for (file, attachments) in &*self.unowned {
            for reserved in attachments {
                if reserved.void_reason(&self.links).is_none() {
                    claims.add(&reserved.attachment, Some(file.as_path()));
                }
            }
        }
        claims.first_conflict(attachment, None)?.claimant
    }

    /// Returns the instances that are quarantined because their records cannot be trusted.
    pub fn unreadable(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined.keys().filter(|id| self.is_unreadable(id))
    }

    /// Returns whether this instance is quarantined because its record cannot be trusted.
    pub fn is_unreadable(&self, id: &InstanceId) -> bool {
        matches!(
            self.quarantine_reason(id),
            Some(QuarantineReason::Unreadable | QuarantineReason::StateUnknown)
        )
    }

    /// Returns the instances that are quarantined because their documents could not be stored.
    pub fn not_stored(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined_for(QuarantineReason::NotStored)
    }

    /// Returns the instances that are quarantined because their documents have faults.
    pub fn faulty_documents(&self) -> impl Iterator<Item = &InstanceId> {
        self.quarantined_for(QuarantineReason::FaultyDocument)
    }

    fn quarantined_for(&self, reason: QuarantineReason) -> impl Iterator<Item = &InstanceId> {
        let quarantined = self.quarantined.iter();
        quarantined.filter_map(move |(id, instance)| (instance.reason == reason).then_some(id))
    }

    /// Returns the attachments that are reserved for a quarantined instance.
    pub fn reserved_attachments(
        &self,
        id: &InstanceId,
    ) -> impl Iterator<Item = &InstanceAttachment> {
        let instance = self.quarantined.get(id);
        instance
            .into_iter()
            .flat_map(|instance| &instance.attachments)
    }

    /// Returns the launches of quarantined instances that have this client token.
    pub fn quarantined_launches(&self, token: &str) -> impl Iterator<Item = &LaunchToken> {
        let launches = self.quarantined.values();
        launches
            .flat_map(|instance| &instance.client_tokens)
            .filter(move |launch| launch.token == token)
    }

    /// Returns why this instance is quarantined; `None` when it is not.
    pub fn quarantine_reason(&self, id: &InstanceId) -> Option<QuarantineReason> {
        self.quarantined.get(id).map(|instance| instance.reason)
    }
}
