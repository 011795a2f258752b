//! Which of the desired listeners exist on this host: their interfaces are up, their network
//! namespaces are there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use crate::daemon::listeners::conflicts::interface_conflicts;
use crate::daemon::listeners::desired::{DesiredListener, ListenerConfig};
use crate::daemon::listeners::key::ListenerKey;
use crate::host::netlink::{Incarnation, Links};
use crate::instance::namespace_path;
use crate::registry::Snapshot;

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

/// Which listeners exist, and which must not be opened.
pub(super) struct PresenceSurvey {
    /// The listeners that exist and can be opened.
    pub(super) present: BTreeMap<ListenerKey, ListenerPresence>,
    /// Listeners at which no instance is served on this host, with the reason.
    pub(super) unusable: BTreeMap<ListenerKey, String>,
}

impl PresenceSurvey {
    pub(super) fn run(
        config: &ListenerConfig,
        desired: &BTreeMap<ListenerKey, DesiredListener<'_>>,
        before: &BTreeMap<&ListenerKey, ListenerPresence>,
        snapshot: &Snapshot,
        links: &Links,
    ) -> PresenceSurvey {
        let mut survey = PresenceSurvey {
            present: BTreeMap::new(),
            unusable: BTreeMap::new(),
        };
        for key in desired.keys() {
            let presence = match (key, config.interface_of(key)) {
                (ListenerKey::Namespace(name), _) => survey.namespace(key, name),
                (_, Some(interface)) => {
                    survey.reject_vrf(key, interface, links);
                    link_presence(interface, before.get(key), links)
                }
                (_, None) => Some(ListenerPresence::Always),
            };
            if let Some(presence) = presence {
                survey.present.insert(key.clone(), presence);
            }
        }
        survey.reject_host_namespace();
        survey.reject_shared_namespaces();
        survey
            .unusable
            .extend(interface_conflicts(config, snapshot, links));
        let unusable = &survey.unusable;
        survey.present.retain(|key, _| !unusable.contains_key(key));
        survey
    }

    fn namespace(&mut self, key: &ListenerKey, name: &str) -> Option<ListenerPresence> {
        namespace_presence(&namespace_path(name)).unwrap_or_else(|reason| {
            self.unusable.insert(key.clone(), reason);
            None
        })
    }

    /// In a VRF, the kernel does not distinguish the packets of a guest from those of the host's own
    /// processes (`net::arrival_filter`).
    fn reject_vrf(&mut self, key: &ListenerKey, interface: &str, links: &Links) {
        let vrf = links.named(interface).and_then(|link| links.vrf_of(link));
        if let Some(vrf) = vrf {
            let reason = format!(
                "in a VRF ({}), the host's own processes cannot be distinguished from the guest",
                vrf.name
            );
            self.unusable.insert(key.clone(), reason);
        }
    }

    /// A guest's namespace cannot be that of the daemon.
    fn reject_host_namespace(&mut self) {
        let Ok(Some(own)) = namespace_presence(Path::new("/proc/self/ns/net")) else {
            return;
        };
        for (key, _) in self
            .present
            .iter()
            .filter(|(_, presence)| **presence == own)
        {
            let reason = "it is the host's own namespace".to_string();
            self.unusable.insert(key.clone(), reason);
        }
    }

    /// Two names of one namespace would be two guests that the kernel cannot tell apart.
    fn reject_shared_namespaces(&mut self) {
        let mut keys_of: HashMap<ListenerPresence, Vec<ListenerKey>> = HashMap::new();
        for (key, presence) in &self.present {
            if matches!(key, ListenerKey::Namespace(_)) && !self.unusable.contains_key(key) {
                keys_of.entry(*presence).or_default().push(key.clone());
            }
        }
        for keys in keys_of.into_values().filter(|keys| keys.len() > 1) {
            let names: Vec<String> = keys.iter().map(ListenerKey::to_string).collect();
            let reason = format!("{} are the same namespace", names.join(" and "));
            self.unusable
                .extend(keys.into_iter().map(|key| (key, reason.clone())));
        }
    }
}

/// Returns the presence of an interface; `None` if it does not exist. An interface that is not up
/// yet does not count. One that goes down later keeps its sockets.
fn link_presence(
    name: &str,
    before: Option<&ListenerPresence>,
    links: &Links,
) -> Option<ListenerPresence> {
    let link = links.named(name)?;
    let presence = ListenerPresence::Link(link.incarnation);
    (link.up || before == Some(&presence)).then_some(presence)
}

/// Returns the presence of a network namespace; `None` if its file does not exist. Fails if that
/// cannot be determined.
fn namespace_presence(path: &Path) -> Result<Option<ListenerPresence>, String> {
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
