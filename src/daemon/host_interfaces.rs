//! The interfaces of the host, for guests that are identified by them: which exist, and the
//! addresses and routes that the daemon adds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, warn};

use crate::config::{AddressMode, Config, InterfaceSettings};
use crate::daemon::start_error::StartError;
use crate::host::addresses::{DesiredAddresses, InterfaceAddresses};
use crate::host::netlink::{self, Links, Netlink, OwnAddresses};
use crate::host::own_metadata;

/// How often to check what the kernel does not report: routes that other programs changed, and
/// whether the host itself uses a metadata service.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The host's interfaces, as they change.
pub(super) struct HostInterfaces {
    links: watch::Receiver<Links>,
    /// Keeps the links up to date.
    netlink: Netlink,
    /// The addresses of the service.
    metadata: (Ipv4Addr, Ipv6Addr),
    /// The addresses and routes that the daemon adds; `None` if the operator adds them.
    addresses: Option<InterfaceAddresses>,
    /// Whether to add addresses even if the host itself uses a metadata service.
    may_shadow: bool,
    /// The time of the last recheck, and the evidence that it found for such a service.
    rechecked: Option<Instant>,
    evidence: Option<String>,
    /// The versions of the links and of the desired addresses that were settled last.
    settled: Option<(u64, u64)>,
}

impl HostInterfaces {
    /// Watches the host's interfaces if the configuration needs them, and keeps `own` up to date.
    /// Otherwise removes the addresses that an earlier daemon left.
    pub(super) async fn open(
        config: &Config,
        own: OwnAddresses,
    ) -> Result<Option<HostInterfaces>, StartError> {
        let directory = config.runtime_directory.as_deref();
        let is_managed = config
            .interfaces
            .as_ref()
            .is_some_and(|interfaces| interfaces.addresses == AddressMode::Manage);
        if let (false, Some(directory)) = (is_managed, directory) {
            remove_leftovers(directory).await;
        }
        let is_needed = config.interfaces.is_some()
            || config
                .listeners
                .iter()
                .any(|listener| listener.interface.is_some());
        if !is_needed {
            return Ok(None);
        }
        let interfaces = config.interfaces.clone().unwrap_or_default();
        HostInterfaces::watch(&interfaces, directory, own)
            .await
            .map(Some)
    }

    async fn watch(
        interfaces: &InterfaceSettings,
        runtime_directory: Option<&Path>,
        own: OwnAddresses,
    ) -> Result<HostInterfaces, StartError> {
        let metadata = (*interfaces.ipv4.ip(), *interfaces.ipv6.ip());
        let addresses = BTreeSet::from([metadata.0.into(), metadata.1.into()]);
        let (netlink, links) = netlink::watch(addresses, own)
            .await
            .map_err(StartError::Host)?;
        let addresses = match interfaces.addresses {
            AddressMode::Check => None,
            AddressMode::Manage => {
                let addresses = InterfaceAddresses::open(netlink.clone(), runtime_directory)
                    .map_err(StartError::System)?;
                let now = links.borrow().clone();
                addresses.log_unrecorded(&now).await;
                Some(addresses)
            }
        };
        Ok(HostInterfaces {
            links,
            netlink,
            metadata,
            addresses,
            may_shadow: interfaces.shadow_host_metadata,
            rechecked: None,
            evidence: None,
            settled: None,
        })
    }

    /// Returns a receiver that changes with every change of the links.
    pub(super) fn changes(&self) -> watch::Receiver<Links> {
        self.links.clone()
    }

    /// Returns the links as they are now. It is a copy: news of links must not wait for what is
    /// done with these.
    pub(super) fn links(&mut self) -> Links {
        self.links.borrow_and_update().clone()
    }

    /// Returns which addresses could not be added, by interface; `None` if the daemon adds none.
    pub(super) fn address_faults(&self) -> Option<&BTreeMap<String, String>> {
        self.addresses.as_ref().map(InterfaceAddresses::faults)
    }

    /// Adds the desired addresses and routes to the interfaces. Adds none if the host itself uses a
    /// metadata service: its requests would reach this daemon. `version` is that of the desired
    /// addresses. If nothing changed and nothing failed, there is nothing to do.
    pub(super) async fn settle(
        &mut self,
        links: &Links,
        desired: &BTreeMap<String, DesiredAddresses>,
        version: u64,
    ) {
        let is_due = self
            .rechecked
            .is_none_or(|rechecked| rechecked.elapsed() > RECHECK_INTERVAL);
        if self.addresses.is_some() && is_due {
            self.rechecked = Some(Instant::now());
            self.recheck(links, desired).await;
        }
        let versions = Some((links.version(), version));
        if let Some(addresses) = &mut self.addresses
            && (is_due || self.settled != versions)
        {
            let none = BTreeMap::new();
            let desired = self.evidence.as_ref().map_or(desired, |_| &none);
            addresses.settle(links, desired).await;
            self.settled = versions.filter(|_| addresses.is_settled(links, desired));
        }
    }

    /// Removes the addresses and routes that the daemon added.
    pub(super) async fn release(&mut self) {
        if let Some(addresses) = &mut self.addresses {
            addresses.release().await;
        }
    }

    async fn recheck(&mut self, links: &Links, desired: &BTreeMap<String, DesiredAddresses>) {
        let guests: BTreeSet<&str> = desired.keys().map(String::as_str).collect();
        if let Some(addresses) = &mut self.addresses {
            addresses.recheck_routes(&guests).await;
        }
        if self.may_shadow {
            return;
        }
        let evidence =
            match own_metadata::evidence(&self.netlink, links, &guests, self.metadata).await {
                Ok(evidence) => evidence,
                Err(reason) => Some(format!("cannot read its routes: {reason}")),
            };
        if let Some(evidence) = evidence.as_ref().filter(|_| evidence != self.evidence) {
            error!(
                "the host seems to use a metadata service of its own: {evidence}. No address is \
                 added to any interface; if the host needs no such service, set \
                 interfaces.shadow_host_metadata = true"
            );
        }
        self.evidence = evidence;
    }
}

/// Removes the addresses of an earlier daemon that managed addresses and was killed. This one may
/// not manage any.
async fn remove_leftovers(directory: &Path) {
    if !InterfaceAddresses::are_recorded(directory) {
        return;
    }
    let released = async {
        let (netlink, links) = netlink::read_links().await?;
        let mut addresses = InterfaceAddresses::open(netlink, Some(directory))?;
        addresses.settle(&links, &BTreeMap::new()).await;
        io::Result::Ok(())
    };
    if let Err(reason) = released.await {
        warn!(%reason, "cannot remove addresses left over from a previous run");
    }
}
