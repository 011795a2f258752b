//! Which of the desired listeners exist on this host: their interfaces are up, their network
//! namespaces are there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Bound;
use std::path::Path;

use crate::daemon::listeners::conflicts::InterfaceConflicts;
use crate::daemon::listeners::desired::ListenerConfig;
use crate::daemon::listeners::key::ListenerKey;
use crate::host::netlink::{Incarnation, Links};
use crate::instance::namespace_path;

/// What the sockets of a listener depend on. If it changes, the sockets must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ListenerPresence {
    /// Addresses of the configuration, which always exist.
    Always,
    /// An interface. One that is deleted and created again has another incarnation.
    Link(Incarnation),
    /// The device and the inode of a network namespace's file.
    Namespace(u64, u64),
}

/// Which listeners exist, and which must not be opened, as links, namespaces and claims change.
pub(super) struct PresenceSurvey {
    /// What was found of each desired listener.
    found: BTreeMap<ListenerKey, FoundListener>,
    /// The desired namespaces that exist, by what they are.
    namespaces: HashMap<ListenerPresence, BTreeSet<ListenerKey>>,
    /// The desired namespaces that do not exist, or cannot be read.
    missing_namespaces: BTreeSet<ListenerKey>,
    /// The daemon's own namespace.
    own_namespace: Option<ListenerPresence>,
    pub(super) conflicts: InterfaceConflicts,
}

/// What was found of one listener.
#[derive(Default, PartialEq, Eq)]
struct FoundListener {
    presence: Option<ListenerPresence>,
    /// Why it must not be opened, if that does not depend on other listeners.
    fault: Option<String>,
}

impl PresenceSurvey {
    pub(super) fn new() -> PresenceSurvey {
        let own = namespace_presence(Path::new("/proc/self/ns/net"));
        PresenceSurvey {
            found: BTreeMap::new(),
            namespaces: HashMap::new(),
            missing_namespaces: BTreeSet::new(),
            own_namespace: own.ok().flatten(),
            conflicts: InterfaceConflicts::default(),
        }
    }

    /// Returns what a listener's sockets depend on; `None` if it does not exist or must not be
    /// opened.
    pub(super) fn present(&self, key: &ListenerKey) -> Option<ListenerPresence> {
        let presence = self.found.get(key)?.presence;
        presence.filter(|_| self.unusable(key).is_none())
    }

    /// Returns why no instance is served at a listener on this host.
    pub(super) fn unusable(&self, key: &ListenerKey) -> Option<String> {
        if let Some(reason) = self.conflicts.reason(key) {
            return Some(reason.to_string());
        }
        let found = self.found.get(key)?;
        found.fault.clone().or_else(|| self.shared_namespace(found))
    }

    /// Two names of one namespace would be two guests that the kernel cannot distinguish.
    fn shared_namespace(&self, found: &FoundListener) -> Option<String> {
        let keys = self.namespaces.get(&found.presence?)?;
        (keys.len() > 1).then(|| {
            let names: Vec<String> = keys.iter().map(ListenerKey::to_string).collect();
            format!("{} are the same namespace", names.join(" and "))
        })
    }

    /// Looks at a listener again. `open` is what its sockets depend on, if it has any. Returns the
    /// other listeners for which that may have changed something.
    pub(super) fn look_at(
        &mut self,
        key: &ListenerKey,
        open: Option<ListenerPresence>,
        config: &ListenerConfig,
        links: &Links,
    ) -> BTreeSet<ListenerKey> {
        let found = match (key, config.interface_of(key)) {
            (ListenerKey::Namespace(name), _) => self.find_namespace(name),
            (_, Some(interface)) => FoundListener {
                presence: link_presence(interface, open, links),
                fault: vrf_fault(interface, links),
            },
            (_, None) => FoundListener {
                presence: Some(ListenerPresence::Always),
                fault: None,
            },
        };
        self.replace(key, Some(found))
    }

    /// Forgets a listener that is not desired any more. Returns the same.
    pub(super) fn forget(&mut self, key: &ListenerKey) -> BTreeSet<ListenerKey> {
        self.replace(key, None)
    }

    /// Returns whether a namespace is not what it was when it was last looked at.
    pub(super) fn has_changed(&self, key: &ListenerKey) -> bool {
        self.found.get(key) != Some(&self.find_namespace(key.name()))
    }

    /// Returns the desired namespaces that do not exist, or cannot be read.
    pub(super) fn missing_namespaces(&self) -> &BTreeSet<ListenerKey> {
        &self.missing_namespaces
    }

    /// Returns the desired namespaces in order.
    pub(super) fn namespaces<'s>(
        &'s self,
        start: Bound<&ListenerKey>,
    ) -> impl Iterator<Item = &'s ListenerKey> + use<'s> {
        let first = ListenerKey::Namespace("".into());
        let start = match start {
            Bound::Unbounded => Bound::Included(first),
            start => start.cloned(),
        };
        self.found
            .range((start, Bound::Unbounded))
            .map(|(key, _)| key)
    }

    fn replace(
        &mut self,
        key: &ListenerKey,
        found: Option<FoundListener>,
    ) -> BTreeSet<ListenerKey> {
        let mut others = BTreeSet::new();
        if let ListenerKey::Namespace(_) = key {
            self.missing_namespaces.remove(key);
            let before = self.found.get(key).and_then(|found| found.presence);
            let now = found.as_ref().and_then(|found| found.presence);
            if before != now {
                others.extend(self.leave_namespace(key, before));
                others.extend(self.enter_namespace(key, now));
            }
            if found.as_ref().is_some_and(|found| found.presence.is_none()) {
                self.missing_namespaces.insert(key.clone());
            }
        }
        match found {
            Some(found) => drop(self.found.insert(key.clone(), found)),
            None => drop(self.found.remove(key)),
        }
        others
    }

    fn leave_namespace(
        &mut self,
        key: &ListenerKey,
        presence: Option<ListenerPresence>,
    ) -> BTreeSet<ListenerKey> {
        let Some(presence) = presence else {
            return BTreeSet::new();
        };
        let Some(keys) = self.namespaces.get_mut(&presence) else {
            return BTreeSet::new();
        };
        keys.remove(key);
        let left = keys.clone();
        if left.is_empty() {
            self.namespaces.remove(&presence);
        }
        left
    }

    /// The host's own namespace belongs to no guest, even if a document names it.
    fn enter_namespace(
        &mut self,
        key: &ListenerKey,
        presence: Option<ListenerPresence>,
    ) -> BTreeSet<ListenerKey> {
        let Some(presence) = presence.filter(|_| presence != self.own_namespace) else {
            return BTreeSet::new();
        };
        let keys = self.namespaces.entry(presence).or_default();
        let others = keys.clone();
        keys.insert(key.clone());
        others
    }

    fn find_namespace(&self, name: &str) -> FoundListener {
        match namespace_presence(&namespace_path(name)) {
            Ok(presence) => FoundListener {
                presence,
                // A guest's namespace cannot be that of the daemon.
                fault: (presence.is_some() && presence == self.own_namespace)
                    .then(|| "it is the host's own namespace".to_string()),
            },
            Err(reason) => FoundListener {
                presence: None,
                fault: Some(reason),
            },
        }
    }
}

/// In a VRF, the kernel does not distinguish the packets of a guest from those of the host's own
/// processes (`net::arrival_filter`).
fn vrf_fault(interface: &str, links: &Links) -> Option<String> {
    let vrf = links.named(interface).and_then(|link| links.vrf_of(link))?;
    Some(format!(
        "in a VRF ({}), the host's own processes cannot be distinguished from the guest",
        vrf.name
    ))
}

/// Returns the presence of an interface; `None` if it does not exist. An interface that is not up
/// yet does not count. One that goes down later keeps its sockets.
pub(super) fn link_presence(
    name: &str,
    open: Option<ListenerPresence>,
    links: &Links,
) -> Option<ListenerPresence> {
    let link = links.named(name)?;
    let presence = ListenerPresence::Link(link.incarnation);
    (link.up || open == Some(presence)).then_some(presence)
}

/// Returns the presence of a network namespace; `None` if its file does not exist. Fails if that
/// cannot be determined.
pub(super) fn namespace_presence(path: &Path) -> Result<Option<ListenerPresence>, String> {
    use std::os::unix::fs::MetadataExt as _;
    let reason = match std::fs::metadata(path) {
        Ok(file) => return Ok(Some(ListenerPresence::Namespace(file.dev(), file.ino()))),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(reason) => reason,
    };
    // proc(5): the namespaces of other users' processes need the permission to trace them.
    let hint = match reason.kind() == io::ErrorKind::PermissionDenied && path.starts_with("/proc") {
        true => "; paths below /proc need CAP_SYS_PTRACE",
        false => "",
    };
    Err(format!("cannot read {}: {reason}{hint}", path.display()))
}
