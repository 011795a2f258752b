//! What the reconciler knows of the registry, the links and the namespaces, and how it follows
//! their changes. It looks at what changed and at nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::yield_now;

use crate::daemon::connection_limits::ConnectionLimits;
use crate::daemon::listeners::addresses::NeededAddresses;
use crate::daemon::listeners::attachments::AttachmentsInput;
use crate::daemon::listeners::desired::{AttachedInstance, DesiredListener, ListenerConfig};
use crate::daemon::listeners::key::ListenerKey;
use crate::daemon::listeners::namespaces::NamespaceWatch;
use crate::daemon::listeners::presence::PresenceSurvey;
use crate::daemon::listeners::socket::OpenListener;
use crate::daemon::listeners::status::{ConflictLog, kind_of, log_void};
use crate::daemon::listeners::work::PendingWork;
use crate::host::netlink::Links;
use crate::instance::{Attachment, InstanceId, SharedText};
use crate::net::status::ListenersStatus;
use crate::registry::{ChangeFeed, Changes, Claimants, Registry, Snapshot};

/// How many attachments, listeners or instances are looked at before other tasks get their turn.
const TURN: usize = 64;

/// The state of the reconciler between two calls.
pub(super) struct FollowedRegistry {
    feed: ChangeFeed,
    links: Links,
    namespaces: NamespaceWatch,
    pub(super) work: PendingWork,
    /// The listeners of the configuration, and those that the instances need. An attachment with a
    /// conflict needs none.
    pub(super) desired: BTreeMap<ListenerKey, DesiredListener>,
    pub(super) addresses: NeededAddresses,
    pub(super) survey: PresenceSurvey,
    /// The claimants of every claimed attachment, as they were last seen.
    claimed: HashMap<Attachment, Claimants>,
    /// The registered instances, and whether each has attachments.
    registered: HashMap<InstanceId, bool>,
    /// How many of them have attachments.
    attached: usize,
    /// The instances that are gone since the last second.
    gone: BTreeSet<InstanceId>,
    /// The instances with attachments at each listener, whether they are served there or not.
    instances_at: BTreeMap<ListenerKey, BTreeSet<InstanceId>>,
    pub(super) status: ListenersStatus,
    log: ConflictLog,
}

impl FollowedRegistry {
    pub(super) fn new(config: &ListenerConfig, feed: ChangeFeed) -> FollowedRegistry {
        let names = config.listeners.iter().map(|listener| &listener.name);
        let configured: BTreeSet<ListenerKey> = names
            .map(|name| ListenerKey::Listener(name.into()))
            .collect();
        let desired = configured.iter().cloned();
        FollowedRegistry {
            feed,
            links: Links::default(),
            namespaces: NamespaceWatch::new(),
            desired: desired
                .map(|key| (key, DesiredListener::default()))
                .collect(),
            work: PendingWork {
                listeners: configured,
                ..PendingWork::default()
            },
            addresses: NeededAddresses::new(config.interfaces.as_ref()),
            survey: PresenceSurvey::new(),
            claimed: HashMap::new(),
            registered: HashMap::new(),
            attached: 0,
            gone: BTreeSet::new(),
            instances_at: BTreeMap::new(),
            status: ListenersStatus::default(),
            log: ConflictLog::default(),
        }
    }

    /// Returns the number of registered instances with attachments.
    pub(super) fn attached_count(&self) -> usize {
        self.attached
    }

    /// Follows what changed in the registry and of the links since the last call. Returns the
    /// registry as it is now.
    pub(super) async fn follow(
        &mut self,
        config: &ListenerConfig,
        registry: &Registry,
        links: &Links,
        limits: &ConnectionLimits,
    ) -> Arc<Snapshot> {
        // The changes first: the snapshot then has at least these.
        let changes = self.feed.take();
        let snapshot = registry.snapshot();
        self.note(changes, &snapshot, limits);
        self.follow_links(config, links);
        let mut count = 0;
        while let Some(attachment) = self.work.attachments.pop_first() {
            self.follow_attachment(&attachment, config, &snapshot);
            count += 1;
            if count % TURN == 0 {
                yield_now().await;
            }
        }
        snapshot
    }

    /// Drops the slots of instances that are gone. A connection that was accepted just before, and
    /// a request on it, may have made some again since.
    pub(super) fn forget_gone(&mut self, limits: &ConnectionLimits) {
        for id in std::mem::take(&mut self.gone) {
            if !self.registered.contains_key(&id) {
                limits.forget(&id);
            }
        }
    }

    /// Adds the namespaces to the work that may have come, gone or changed.
    pub(super) fn look_at_namespaces(&mut self) {
        let survey = &self.survey;
        let missing = survey.missing_namespaces().iter().cloned();
        let due = self.namespaces.due(|start| survey.namespaces(start));
        for key in missing.chain(due) {
            if self.survey.has_changed(&key) {
                self.work.listeners.insert(key);
            }
        }
    }

    /// Finds out which of the listeners exist that may have changed.
    pub(super) async fn survey(
        &mut self,
        config: &ListenerConfig,
        open: &BTreeMap<ListenerKey, OpenListener>,
    ) {
        let keys: Vec<ListenerKey> = self.work.listeners.iter().cloned().collect();
        for (number, key) in keys.iter().enumerate() {
            let presence = open.get(key).map(|listener| listener.presence);
            let others = match self.desired.contains_key(key) {
                true => self.survey.look_at(key, presence, config, &self.links),
                false => self.survey.forget(key),
            };
            self.work.listeners.extend(others);
            if (number + 1) % TURN == 0 {
                yield_now().await;
            }
        }
        let conflicts = self.survey.conflicts.judge(config, &self.links);
        self.work.listeners.extend(conflicts);
    }

    /// Confirms the generations of the instances that may have changed, and brings the status and
    /// the log up to date.
    pub(super) async fn report(
        &mut self,
        config: &ListenerConfig,
        open: &BTreeMap<ListenerKey, OpenListener>,
        registry: &Registry,
        snapshot: &Snapshot,
    ) {
        let survey = &self.survey;
        let input = AttachmentsInput {
            config,
            open,
            unusable: &|key| survey.unusable(key),
            links: &self.links,
            snapshot,
        };
        for key in &self.work.listeners {
            let desired = self.desired.get(key);
            let unusable = survey.unusable(key);
            let is_waiting = desired.is_some() && !open.contains_key(key) && unusable.is_none();
            let status = desired.map(|desired| input.listener_status(key, desired));
            self.log
                .log_waiting(key, is_waiting.then(|| input.missing(key)));
            let is_changed = self.status.set_listener(kind_of(key), key.name(), status)
                | self.log.log_unusable(key, unusable);
            if is_changed && let Some(ids) = self.instances_at.get(key) {
                self.work.instances.extend(ids.iter().cloned());
            }
        }
        #[cfg(test)]
        {
            self.work.done.listeners += self.work.listeners.len();
            self.work.done.instances += self.work.instances.len();
        }
        for (number, id) in self.work.instances.iter().enumerate() {
            if let Some(entry) = snapshot.entry(id) {
                match input.is_applied(entry) {
                    true => registry.confirm(entry),
                    false => registry.retract(entry),
                }
            }
            let now = input.of_instance(id);
            for status in &now {
                let claim = snapshot.claim(&status.attachment);
                let reason = claim.and_then(|_| input.unserved_reason(&status.attachment));
                self.status.set_unserved(&status.attachment, reason);
            }
            let keys =
                |statuses: &[crate::net::status::AttachmentStatus]| -> BTreeSet<ListenerKey> {
                    statuses
                        .iter()
                        .map(|status| ListenerKey::of(&status.attachment))
                        .collect()
                };
            let before = self.status.of_instance(id);
            log_void(before, &now);
            let (left, entered) = (keys(before), keys(&now));
            for key in left.difference(&entered) {
                if let Some(ids) = self.instances_at.get_mut(key) {
                    ids.remove(id);
                    if ids.is_empty() {
                        self.instances_at.remove(key);
                    }
                }
            }
            for key in entered.difference(&left) {
                self.instances_at
                    .entry(key.clone())
                    .or_default()
                    .insert(id.clone());
            }
            self.status.set_attachments(id, now);
            if (number + 1) % TURN == 0 {
                yield_now().await;
            }
        }
        self.status.set_instance_count(self.registered.len());
        self.work.listeners.clear();
        self.work.instances.clear();
    }

    /// Adds to the work what changed in the registry.
    fn note(&mut self, mut changes: Changes, snapshot: &Snapshot, limits: &ConnectionLimits) {
        if changes.everything {
            let known = self
                .status
                .attachments()
                .map(|status| status.instance.clone());
            let registered = self.registered.keys().cloned();
            let entries = snapshot
                .entries()
                .map(|entry| entry.instance.instance_id.clone());
            let reserved = snapshot.reserved().map(|(id, _)| id.clone());
            let all = known.chain(registered).chain(entries).chain(reserved);
            changes.instances.extend(all);
            changes.attachments.extend(self.claimed.keys().cloned());
            let claimed = snapshot.claims().map(|(attachment, _)| attachment.clone());
            changes.attachments.extend(claimed);
        }
        for id in &changes.instances {
            let entry = snapshot.entry(id);
            self.note_registered(
                id,
                entry.map(|entry| !entry.instance.imds.attachments.is_empty()),
            );
            if entry.is_none() {
                limits.forget(id);
                self.gone.insert(id.clone());
            }
            let before = self
                .status
                .of_instance(id)
                .iter()
                .map(|status| &status.attachment);
            let now = entry
                .into_iter()
                .flat_map(|entry| &entry.instance.imds.attachments);
            let now = now
                .chain(snapshot.reserved_attachments(id))
                .map(|of| &of.attachment);
            self.work.attachments.extend(before.chain(now).cloned());
        }
        self.work.attachments.extend(changes.attachments);
        self.work.instances.extend(changes.instances);
    }

    /// Notes whether an instance is registered, and whether it has attachments.
    fn note_registered(&mut self, id: &InstanceId, has_attachments: Option<bool>) {
        let before = match has_attachments {
            Some(has_attachments) => self.registered.insert(id.clone(), has_attachments),
            None => self.registered.remove(id),
        };
        self.attached += usize::from(has_attachments == Some(true));
        self.attached -= usize::from(before == Some(true));
    }

    /// Adds to the work the listeners at links that changed.
    fn follow_links(&mut self, config: &ListenerConfig, links: &Links) {
        let before = std::mem::replace(&mut self.links, links.clone());
        let changed = links.changed_since(&before);
        self.survey.conflicts.follow_links(&before, links, &changed);
        let mut names: BTreeSet<String> = BTreeSet::new();
        for index in changed {
            for links in [&before, links] {
                let Some(link) = links.indexed(index) else {
                    continue;
                };
                names.insert(link.name.clone());
                if link.kind == "vrf" {
                    let ports = self.survey.conflicts.ports_of(index);
                    let ports = ports.filter_map(|port| links.indexed(port));
                    names.extend(ports.map(|port| port.name.clone()));
                }
            }
        }
        for name in names {
            let bound = config
                .listeners_on(&name)
                .map(|name| ListenerKey::Listener(name.into()));
            let name = SharedText::from(&name);
            let keys = [
                ListenerKey::Interface(name.clone()),
                ListenerKey::Bridge(name),
            ];
            let keys = keys.into_iter().chain(bound);
            let desired = &self.desired;
            self.work
                .listeners
                .extend(keys.filter(|key| desired.contains_key(key)));
        }
    }

    /// Follows the claimants of one attachment and the options of the instance there.
    fn follow_attachment(
        &mut self,
        attachment: &Attachment,
        config: &ListenerConfig,
        snapshot: &Snapshot,
    ) {
        #[cfg(test)]
        {
            self.work.done.attachments += 1;
        }
        let claimants = snapshot.claim(attachment);
        let before = match claimants {
            Some(claimants) => self.claimed.insert(attachment.clone(), claimants.clone()),
            None => self.claimed.remove(attachment),
        };
        let conflicts = &mut self.survey.conflicts;
        conflicts.set_claims(attachment, before.as_ref(), claimants, config, &self.links);
        self.log.log_unserved(attachment, claimants, config);
        if claimants.is_none() {
            self.status.set_unserved(attachment, None);
        }

        let served = snapshot.attached_to(attachment);
        let served = served.filter(|_| config.unserved_reason(attachment).is_none());
        self.addresses.set(attachment, served.map(Arc::as_ref));
        let key = ListenerKey::of(attachment);
        if served.is_none() && !self.desired.contains_key(&key) {
            return;
        }
        let attached = served.map(|entry| AttachedInstance::of(entry));
        let listener = self.desired.entry(key.clone()).or_default();
        if listener.set(attachment, attached) {
            if listener.is_empty() && !key.is_configured() {
                self.desired.remove(&key);
            }
            self.work.listeners.insert(key);
        }
    }
}
