//! The interface where a guest's packets reach the host's IP layer: its own, or its bridge's.

use crate::host::examine::probe::NetworkState;
use crate::host::examine::service::MetadataService;
use crate::host::guests::HostGuest;
use crate::host::netlink::Link;

/// RFC 8200, section 5. The kernel disables IPv6 on an interface with a smaller MTU.
pub(super) const MIN_IPV6_MTU: u32 = 1280;

/// An interface with the guest behind it.
#[derive(Clone, Copy)]
pub(super) struct GuestDevice<'s> {
    pub(super) link: &'s Link,
    pub(super) guest: &'s HostGuest,
    /// Whether it is a bridge, which other guests use too.
    pub(super) is_bridge: bool,
    pub(super) network: &'s NetworkState,
    pub(super) service: &'s MetadataService,
}

impl GuestDevice<'_> {
    pub(super) fn name(&self) -> &str {
        &self.link.name
    }

    /// Returns whether the guest uses IPv6 and the interface's MTU allows it.
    pub(super) fn has_ipv6(&self) -> bool {
        self.guest.uses_ipv6 && self.link.mtu >= MIN_IPV6_MTU
    }

    pub(super) fn is_ipv6_disabled(&self) -> bool {
        self.ipv6_setting("disable_ipv6") == Some(1)
    }

    /// Returns a number below /proc/sys/net/ipv6/conf/INTERFACE.
    pub(super) fn ipv6_setting(&self, setting: &str) -> Option<i64> {
        let path = format!("ipv6/conf/{}/{setting}", self.name());
        self.network.setting(&path)
    }

    /// Returns the value of an IPv4 setting in `conf.all`, and in `conf.INTERFACE`.
    pub(super) fn ipv4_settings(&self, setting: &str) -> Option<(i64, i64)> {
        let value = |of: &str| self.network.setting(&format!("ipv4/conf/{of}/{setting}"));
        Some((value("all")?, value(self.name())?))
    }
}
