//! Section 5: the guest rules, and which guests need them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::findings::Report;
use super::probe::NetworkState;
use super::service::MetadataService;
use crate::host::guest_rules::{self, Interference, MetadataAddresses};
use crate::host::guests::{self, GuestAttachment};
use crate::instance::{Attachment, InstanceId};

/// The guest rules, and which guests need them.
pub(super) struct RulesCheck<'s> {
    /// What is loaded; or why that is unknown.
    pub(super) loaded: Result<LoadedRules, String>,
    /// The guests with an address that another guest has too: connection tracking would merge their
    /// connections.
    pub(super) shared: BTreeMap<InstanceId, SharedAddress>,
    /// The command that loads the rules.
    pub(super) load: &'s str,
}

/// The guest rules that are loaded.
#[derive(Clone, Debug, Default)]
pub(super) struct LoadedRules {
    /// Whether there are rules for any guest.
    pub(super) exist: bool,
    /// What is missing, by guest.
    pub(super) lacking: BTreeMap<InstanceId, String>,
    /// Which other rules interfere, by guest.
    pub(super) interfering: BTreeMap<InstanceId, Interference>,
}

/// An address, and another guest that has it.
pub(super) type SharedAddress = (IpAddr, InstanceId);

impl<'s> RulesCheck<'s> {
    /// `listed` is the output of `nft --json list ruleset`, or why there is none.
    pub(super) fn new(
        listed: Result<Value, String>,
        attachments: &[GuestAttachment<'_>],
        network: &NetworkState,
        service: &'s MetadataService,
    ) -> RulesCheck<'s> {
        let addresses = MetadataAddresses {
            ipv4: service.ipv4,
            ipv6: service.ipv6,
        };
        let loaded = listed.map(|listed| {
            let guests = guests::filtered(attachments, &network.links);
            let table = &service.rules_table;
            let lacking = guest_rules::lacking(&listed, table, &guests, addresses);
            let interfering = guest_rules::interferences(&listed, table, &guests);
            LoadedRules {
                exist: guest_rules::are_loaded(&listed, table),
                lacking: lacking.into_iter().collect(),
                interfering: interfering.into_iter().collect(),
            }
        });
        let shared = if network.has_conntrack {
            shared_addresses(attachments)
        } else {
            BTreeMap::new()
        };
        RulesCheck {
            loaded,
            shared,
            load: &service.load_rules,
        }
    }

    /// Checks the rules of one guest. On a bridge no guest is identified without them. On an
    /// interface of its own, a guest needs them only if it shares an address; but rules of an
    /// earlier document may block it.
    pub(super) fn check(&self, attachment: &GuestAttachment<'_>, report: &mut Report) {
        let id = &attachment.guest.id;
        let is_bridged = matches!(attachment.attachment, Attachment::BridgePort(_));
        let shared = self.shared.get(id);
        let rules = match &self.loaded {
            Ok(rules) => rules,
            Err(reason) => {
                if is_bridged || shared.is_some() {
                    report.unchecked(format_args!("the guest rules: {reason}"));
                }
                return;
            }
        };
        if let Some(interference) = rules.interfering.get(id) {
            self.report_interference(interference, report);
            if *interference == Interference::Earlier {
                return;
            }
        }
        match (rules.lacking.get(id), shared) {
            (Some(what), _) if is_bridged || rules.exist => {
                report.problem(format_args!("guest rules: {what}"), self.load);
            }
            (Some(_), Some((address, other))) => report.problem(
                format_args!(
                    "{other} has the address {address} too, and connection tracking merges the connections of both; the \
                     guest rules prevent that"
                ),
                self.load,
            ),
            _ => {}
        }
    }
}

impl RulesCheck<'_> {
    /// Returns what guests on interfaces of their own lack while no rules are loaded.
    pub(super) fn note(&self, attachments: &[GuestAttachment<'_>]) -> Option<String> {
        let is_own = |of: &GuestAttachment<'_>| matches!(of.attachment, Attachment::Interface(_));
        let are_missing = self.loaded.as_ref().is_ok_and(|rules| !rules.exist);
        (are_missing && attachments.iter().any(is_own)).then(|| {
            format!(
                "no guest rules are loaded: the daemon alone keeps the host's own processes from guests on \
                 interfaces, and nothing restricts those guests to their addresses; to load the rules: {}",
                self.load
            )
        })
    }

    fn report_interference(&self, interference: &Interference, report: &mut Report) {
        match interference {
            Interference::Earlier => report.problem(
                "the tables imdsd, which an earlier version loaded, are still there and interfere with the guest rules",
                self.load,
            ),
            Interference::Guest(table) => report.problem(
                format_args!("the table {table} has rules for this guest too"),
                format_args!(
                    "nft delete table {table}, if it is this daemon's under an earlier name; otherwise remove the guest \
                     from the other daemon's documents"
                ),
            ),
            Interference::Mark(table) => report.problem(
                format_args!("a guest of the table {table} has the same mark"),
                "in the document of one of them, use another mark: every bridge port of a host needs its own",
            ),
        }
    }
}

/// Returns every guest that shares an address with another guest. Network namespaces do not count:
/// each has its own connection tracking.
pub(super) fn shared_addresses(
    attachments: &[GuestAttachment<'_>],
) -> BTreeMap<InstanceId, SharedAddress> {
    let mut holders: BTreeMap<IpAddr, BTreeSet<&InstanceId>> = BTreeMap::new();
    for attachment in attachments {
        if matches!(attachment.attachment, Attachment::NetworkNamespace(_)) {
            continue;
        }
        for address in attachment.guest.addresses() {
            holders
                .entry(address)
                .or_default()
                .insert(&attachment.guest.id);
        }
    }
    let mut shared = BTreeMap::new();
    for (address, holders) in holders {
        for holder in &holders {
            if let Some(other) = holders.iter().find(|other| *other != holder) {
                shared
                    .entry((*holder).clone())
                    .or_insert_with(|| (address, (*other).clone()));
            }
        }
    }
    shared
}
