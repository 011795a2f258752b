//! Bindings: which link an attachment's interface name meant when it was written.
//!
//! Linux reuses interface names: libvirt numbers `vnetN` again after a restart. A name alone then
//! means the guest that gets it next. A [`Binding`] names the link itself. While the host has
//! another link of that name, or none, the attachment is void: it claims nothing.
//!
//! An attachment without a binding keeps its meaning: the interface that has the name.

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::instance::text::SharedText;

/// The link that an attachment is bound to. Every field that is present must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Binding {
    /// The kernel's index of the link (`ip link` shows it). The kernel counts up, so a new link has
    /// a new index until the host boots again. Present with `boot_id` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_index: Option<u32>,
    /// The boot of the host in which the link has this index: the contents of
    /// /proc/sys/kernel/random/boot_id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<SharedText>,
    /// The MAC address of the host's interface, not of the guest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<SharedText>,
}

/// What identifies one link of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkIdentity {
    /// The kernel's index.
    pub index: u32,
    /// The MAC address as colon-separated lower-case hexadecimal; `None` where it cannot identify
    /// the link: it has none, or it is a bridge, whose MAC address follows its ports.
    pub mac_address: Option<String>,
}

/// The links of the host that bindings are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkIdentities {
    /// This boot of the host; empty while it is unknown.
    pub boot_id: String,
    /// The links by name. A copy shares them.
    pub by_name: RedBlackTreeMapSync<String, LinkIdentity>,
}

impl Binding {
    /// Returns a binding to a link of the current boot.
    pub fn to_link(link: &LinkIdentity, boot_id: &str) -> Binding {
        Binding {
            if_index: Some(link.index),
            boot_id: Some(boot_id.into()),
            mac_address: link.mac_address.as_ref().map(SharedText::from),
        }
    }

    /// Returns why the interface of this name is not the bound link; `None` if it is.
    pub fn void_reason(&self, interface: &str, links: &LinkIdentities) -> Option<String> {
        // 1. An index of another boot means nothing.
        if let Some(boot_id) = &self.boot_id
            && *boot_id != links.boot_id
        {
            return Some("it is bound to a link of an earlier boot of the host".to_string());
        }
        // 2. The link is gone.
        let Some(link) = links.by_name.get(interface) else {
            return Some(format!("there is no interface '{interface}' any more"));
        };
        // 3. Another link has its name.
        if let Some(index) = self.if_index.filter(|index| *index != link.index) {
            return Some(format!(
                "interface '{interface}' is another link: its index is {}, not {index}",
                link.index
            ));
        }
        let bound = self.mac_address.as_deref()?;
        (link.mac_address.as_deref() != Some(bound)).then(|| {
            let found = link.mac_address.as_deref().unwrap_or("none");
            format!(
                "interface '{interface}' is another link: its MAC address is {found}, not {bound}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(if_index: Option<u32>, boot_id: Option<&str>, mac_address: Option<&str>) -> Binding {
        Binding {
            if_index,
            boot_id: boot_id.map(Into::into),
            mac_address: mac_address.map(Into::into),
        }
    }

    /// Each row is a way in which an interface of the bound name is another one, or is the same.
    #[test]
    fn a_binding_is_void_unless_the_name_means_the_bound_link() {
        const MAC: &str = "fe:54:00:00:00:05";
        const OTHER: &str = "fe:54:00:00:00:06";
        let link = |index, mac: Option<&str>| LinkIdentity {
            index,
            mac_address: mac.map(str::to_string),
        };
        let full = binding(Some(17), Some("boot"), Some(MAC));
        let by_index = binding(Some(17), Some("boot"), None);
        let by_mac = binding(None, None, Some(MAC));
        for (binding, boot_id, found, reason) in [
            (&full, "boot", Some(link(17, Some(MAC))), None),
            (&full, "boot", None, Some("no interface")),
            (
                &full,
                "boot",
                Some(link(18, Some(MAC))),
                Some("index is 18, not 17"),
            ),
            (
                &full,
                "boot",
                Some(link(17, Some(OTHER))),
                Some("not fe:54:00:00:00:05"),
            ),
            (
                &full,
                "next",
                Some(link(17, Some(MAC))),
                Some("earlier boot"),
            ),
            (&full, "", Some(link(17, Some(MAC))), Some("earlier boot")),
            (&by_index, "boot", Some(link(17, Some(OTHER))), None),
            (
                &by_index,
                "boot",
                Some(link(18, Some(MAC))),
                Some("another link"),
            ),
            // A MAC address alone outlives the link and the boot: the operator gives it to one
            // guest only.
            (&by_mac, "next", Some(link(18, Some(MAC))), None),
            (
                &by_mac,
                "next",
                Some(link(18, Some(OTHER))),
                Some("another link"),
            ),
            (
                &by_mac,
                "boot",
                Some(link(17, None)),
                Some("address is none"),
            ),
            (&by_mac, "boot", None, Some("no interface")),
        ] {
            let links = LinkIdentities {
                boot_id: boot_id.to_string(),
                by_name: found
                    .iter()
                    .map(|link| ("vnet0".to_string(), link.clone()))
                    .collect(),
            };
            let found_reason = binding.void_reason("vnet0", &links);
            match (&found_reason, reason) {
                (None, None) => {}
                (Some(text), Some(reason)) if text.contains(reason) => {}
                _ => panic!("{binding:?} with {found:?}: {found_reason:?}, not {reason:?}"),
            }
        }
    }

    #[test]
    fn a_binding_to_a_link_is_not_void_while_that_link_exists() {
        let link = LinkIdentity {
            index: 3,
            mac_address: None,
        };
        let links = LinkIdentities {
            boot_id: "boot".to_string(),
            by_name: [("br0".to_string(), link.clone())].into_iter().collect(),
        };
        let binding = Binding::to_link(&link, "boot");
        assert_eq!(binding.void_reason("br0", &links), None);
        assert!(
            binding
                .void_reason("br0", &LinkIdentities::default())
                .is_some()
        );
    }
}
