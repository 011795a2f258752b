//! The snapshot that follows another one, and what changed.
//!
//! A change costs what it touches: the entries that it replaces, their attachments, and the claims
//! that conflict with those. Everything else is shared with the earlier snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change_feed::Changes;
use super::claim_index::ClaimOwner;
use super::claimants::{Claimants, claimants_of};
use super::claimed::{attachments_of, bound_interface, bound_interfaces, claimed};
use super::entry::Entry;
use super::quarantine::Quarantined;
use super::snapshot::{ClaimState, Snapshot, UnownedAttachments};
use crate::instance::{Attachment, InstanceId, LinkIdentity};

/// A snapshot to publish, and what differs from the one before.
pub(super) struct Publication {
    pub(super) snapshot: Snapshot,
    pub(super) changes: Changes,
}

/// The next snapshot while it is made.
pub(super) struct NextSnapshot<'s> {
    before: &'s Snapshot,
    after: Snapshot,
    /// The instances that were changed, and the files of changed reservations.
    owners: BTreeSet<ClaimOwner>,
    /// The names of links that were set.
    links: BTreeSet<Arc<str>>,
}

/// What to change.
impl<'s> NextSnapshot<'s> {
    /// Starts with an equal snapshot.
    pub(super) fn after(before: &'s Snapshot) -> NextSnapshot<'s> {
        NextSnapshot {
            before,
            after: before.clone(),
            owners: BTreeSet::new(),
            links: BTreeSet::new(),
        }
    }

    /// Inserts or replaces an instance, which is not quarantined then.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) {
        let id = entry.instance.instance_id.clone();
        self.after.quarantined.remove_mut(&id);
        self.after.entries.insert_mut(id.clone(), entry);
        self.owners.insert(ClaimOwner::Instance(id));
    }

    /// Removes an instance, also a quarantined one.
    pub(super) fn remove(&mut self, id: &InstanceId) {
        self.after.entries.remove_mut(id);
        self.after.quarantined.remove_mut(id);
        self.owners.insert(ClaimOwner::Instance(id.clone()));
    }

    /// Quarantines an instance in place of its entry, or changes its quarantine.
    pub(super) fn quarantine(&mut self, id: &InstanceId, instance: Quarantined) {
        self.after.entries.remove_mut(id);
        let quarantined = &mut self.after.quarantined;
        quarantined.insert_mut(id.clone(), Arc::new(instance));
        self.owners.insert(ClaimOwner::Instance(id.clone()));
    }

    /// Sets whether the instance is a tombstone.
    pub(super) fn set_tombstone(&mut self, id: &InstanceId, is_tombstone: bool) {
        match is_tombstone {
            true => self.after.tombstones.insert_mut(id.clone()),
            false => drop(self.after.tombstones.remove_mut(id)),
        }
    }

    /// Sets the link that has a name now. One that no binding names is ignored.
    pub(super) fn set_link(&mut self, name: &str, link: Option<LinkIdentity>) {
        if self.after.links.by_name.get(name) == link.as_ref() {
            return;
        }
        let by_name = &mut Arc::make_mut(&mut self.after.links).by_name;
        match link {
            Some(link) => by_name.insert_mut(name.to_string(), link),
            None => drop(by_name.remove_mut(name)),
        }
        self.links.insert(name.into());
    }

    /// Sets the boot that bindings are compared with.
    pub(super) fn set_boot(&mut self, boot_id: &str) {
        if self.after.links.boot_id != boot_id {
            Arc::make_mut(&mut self.after.links).boot_id = boot_id.to_string();
        }
    }

    /// Sets what is reserved for instances that are not known.
    pub(super) fn set_unowned(&mut self, unowned: UnownedAttachments) {
        let before = Arc::clone(&self.after.unowned);
        for file in before.keys().chain(unowned.keys()) {
            if before.get(file) != unowned.get(file) {
                self.owners.insert(ClaimOwner::File(file.as_path().into()));
            }
        }
        self.after.unowned = Arc::new(unowned);
    }
}

/// What follows from it.
impl NextSnapshot<'_> {
    /// Returns the snapshot, and what differs from the one before.
    pub(super) fn publication(mut self) -> Publication {
        let mut changes = Changes::default();
        self.update_bound_interfaces();
        self.update_links(&mut changes);
        self.update_indexes(&mut changes);
        for attachment in self.update_claim_index() {
            self.update_claimants(&attachment, &mut changes);
        }
        self.update_served();
        Publication {
            snapshot: self.after,
            changes,
        }
    }

    /// Brings the names of bound interfaces up to date, and forgets the links that no binding names
    /// any more.
    fn update_bound_interfaces(&mut self) {
        for owner in &self.owners {
            let before = bound_interfaces(self.before, owner);
            let after = bound_interfaces(&self.after, owner);
            let index = &mut self.after.bound_interfaces;
            for name in before.difference(&after) {
                index.remove(Arc::clone(name), owner.clone());
                self.links.insert(Arc::clone(name));
            }
            for name in after.difference(&before) {
                index.insert(Arc::clone(name), owner.clone());
            }
        }
        for name in &self.links {
            let is_bound = self.after.bound_interfaces.of(Arc::clone(name)).next();
            if is_bound.is_none() && self.after.links.by_name.contains_key(&**name) {
                let links = Arc::make_mut(&mut self.after.links);
                links.by_name.remove_mut(&**name);
            }
        }
    }

    /// Finds the links that changed. The owners of bindings to them may claim something else now.
    fn update_links(&mut self, changes: &mut Changes) {
        let (before, after) = (&self.before.links, &self.after.links);
        let is_same_boot = before.boot_id == after.boot_id;
        let changed: BTreeSet<Arc<str>> = match is_same_boot {
            true => {
                let link = |name: &str| (before.by_name.get(name), after.by_name.get(name));
                let is_changed = |name: &&Arc<str>| link(name).0 != link(name).1;
                self.links.iter().filter(is_changed).cloned().collect()
            }
            false => self.after.bound_interfaces.keys().cloned().collect(),
        };
        changes.links = !is_same_boot || !changed.is_empty();
        for name in &changed {
            for owner in self.after.bound_interfaces.of(Arc::clone(name)) {
                if let ClaimOwner::Instance(id) = owner {
                    let attachments = attachments_of(&self.after, owner);
                    let bound = attachments.filter(|bound| bound_interface(bound) == Some(&**name));
                    let bound = bound.map(|bound| bound.attachment.clone());
                    changes.attachments.extend(bound);
                    changes.instances.insert(id.clone());
                }
                self.owners.insert(owner.clone());
            }
        }
    }

    /// Brings up to date what is indexed of the entries of instances.
    fn update_indexes(&mut self, changes: &mut Changes) {
        let mut launches = std::mem::take(&mut self.after.launches);
        for owner in &self.owners {
            let ClaimOwner::Instance(id) = owner else {
                continue;
            };
            let (before, after) = (
                launch_tokens(self.before, id),
                launch_tokens(&self.after, id),
            );
            for token in before.difference(&after) {
                launches.remove((*token).into(), id.clone());
            }
            for token in after.difference(&before) {
                launches.insert((*token).into(), id.clone());
            }
            let (before, after) = (self.before.entry(id), self.after.entries.get(id));
            let terminated = |entry: Option<&Arc<Entry>>| entry?.terminated;
            let (earlier, time) = (terminated(before), terminated(after));
            if let Some(earlier) = earlier.filter(|earlier| time != Some(*earlier)) {
                self.after.terminated.remove_mut(&(earlier, id.clone()));
            }
            if let Some(time) = time {
                self.after.terminated.insert_mut((time, id.clone()));
            }
            let quarantined = self.after.quarantined.get(id);
            if before.map(Arc::as_ptr) != after.map(Arc::as_ptr)
                || self.before.quarantined.get(id) != quarantined
            {
                changes.instances.insert(id.clone());
            }
        }
        self.after.launches = launches;
    }

    /// Brings the claims of the owners up to date. Returns the attachments whose claimants may have
    /// changed.
    fn update_claim_index(&mut self) -> BTreeSet<Arc<Attachment>> {
        let (mut affected, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let mut index = std::mem::take(&mut self.after.claim_index);
        for owner in &self.owners {
            let (before, after) = (claimed(self.before, owner), claimed(&self.after, owner));
            let changed = before.symmetric_difference(&after);
            affected.extend(changed.map(|attachment| Arc::new((*attachment).clone())));
            keys.extend(index.replace(owner, &before, &after));
        }
        for key in keys {
            let conflicting = index.conflicting_at(key);
            affected.extend(conflicting.map(|claim| Arc::clone(&claim.attachment)));
        }
        self.after.claim_index = index;
        affected
    }

    /// Brings the claimants of an attachment up to date.
    fn update_claimants(&mut self, attachment: &Attachment, changes: &mut Changes) {
        let before = self.before.claim(attachment);
        let after = claimants_of(&self.after.claim_index, attachment);
        if before == after.as_ref().map(|(_, claimants)| claimants) {
            return;
        }
        changes.attachments.insert(attachment.clone());
        let ids = before.into_iter().flat_map(Claimants::ids);
        changes.instances.extend(ids.cloned());
        match after {
            Some((attachment, claimants)) => {
                changes.instances.extend(claimants.ids().cloned());
                self.set_claimants(attachment, claimants);
            }
            None => drop(self.after.claims.remove_mut(attachment)),
        }
    }

    /// Replaces the entries that are served at the attachments of the owners.
    fn update_served(&mut self) {
        let mut outdated = Vec::new();
        for owner in &self.owners {
            for attachment in claimed(&self.after, owner) {
                let claims = &self.after.claims;
                let Some((attachment, state)) = claims.get_key_value(attachment) else {
                    continue;
                };
                let served = self.served(&state.claimants);
                if state.served.as_ref().map(Arc::as_ptr) != served.map(Arc::as_ptr) {
                    outdated.push((Arc::clone(attachment), state.claimants.clone()));
                }
            }
        }
        for (attachment, claimants) in outdated {
            self.set_claimants(attachment, claimants);
        }
    }

    fn set_claimants(&mut self, attachment: Arc<Attachment>, claimants: Claimants) {
        let served = self.served(&claimants).cloned();
        let state = ClaimState { claimants, served };
        self.after.claims.insert_mut(attachment, state);
    }

    /// Returns the entry that is served at an attachment with these claimants.
    fn served(&self, claimants: &Claimants) -> Option<&Arc<Entry>> {
        match claimants {
            Claimants::One(id) => self.after.entries.get(id),
            Claimants::Conflict(_) => None,
        }
    }
}

/// Returns the client tokens of the launch of an instance, and those that its record may have.
fn launch_tokens<'s>(snapshot: &'s Snapshot, id: &InstanceId) -> BTreeSet<&'s str> {
    let entry = snapshot.entry(id);
    let launched = entry.filter(|entry| entry.launch_request.is_some());
    let token = launched.and_then(|entry| entry.instance.client_token.as_deref());
    let quarantined = snapshot.quarantined.get(id).into_iter();
    let uncertain = quarantined.flat_map(|instance| &instance.client_tokens);
    let uncertain = uncertain.map(|launch| launch.token.as_str());
    token.into_iter().chain(uncertain).collect()
}
