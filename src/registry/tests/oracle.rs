//! Holds the snapshots that are made from the one before against snapshots that are made from
//! nothing, over random sequences of changes.
//!
//! The oracle knows the rule of [`claims`](crate::instance::claims) and nothing of what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::RngSeed;

use crate::config::demo_instance;
use crate::instance::claims::Claims;
use crate::instance::{
    Attachment, Binding, BridgePort, Instance, InstanceAttachment, InstanceId, InstanceState,
    LaunchToken, LinkIdentities, LinkIdentity, SourceAddress,
};
use crate::registry::account::AccountState;
use crate::registry::change_feed::Changes;
use crate::registry::claimants::Claimants;
use crate::registry::conflicts::{ClaimConflict, UnownedConflict};
use crate::registry::entry::Entry;
use crate::registry::next_snapshot::Publication;
use crate::registry::quarantine::QuarantineReason;
use crate::registry::record::Record;
use crate::registry::snapshot::{Snapshot, UnownedAttachments};
use crate::registry::transaction::Transaction;

/// What all instances have in common. Reading it is slow.
static DEMO: LazyLock<Instance> = LazyLock::new(demo_instance);

const BOOTS: [&str; 2] = ["boot", "next"];
const INTERFACES: [&str; 4] = ["a", "b", "br0", "br1"];
const MAC: &str = "fe:54:00:00:00:05";

fn id(number: usize) -> InstanceId {
    InstanceId::parse(&format!("i-{number:08x}")).unwrap()
}

fn file(number: usize) -> PathBuf {
    PathBuf::from(format!("/{number}.json"))
}

fn moment(seconds: usize) -> Timestamp {
    Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap()
}

/// Returns attachments that conflict with each other in every way.
fn attachments() -> Vec<Attachment> {
    let port = |bridge: &str, port: &str, mark| {
        Attachment::BridgePort(BridgePort {
            bridge: bridge.into(),
            port: port.into(),
            mark,
        })
    };
    let address = |listener: &str, address: &str| {
        let (listener, address) = (listener.to_string(), address.parse().unwrap());
        Attachment::SourceAddress(SourceAddress {
            listener: listener.into(),
            address,
        })
    };
    let mut all = vec![
        port("br0", "a", 1),
        port("br0", "b", 1),
        port("br0", "b", 2),
        port("br1", "a", 3),
        port("br1", "c", 1),
        address("lan", "10.0.0.5"),
        address("lan", "10.0.0.6"),
        address("wan", "10.0.0.5"),
        Attachment::Listener("lan".into()),
        Attachment::NetworkNamespace("a".into()),
        Attachment::NetworkNamespace("/run/netns/a".into()),
    ];
    all.extend(INTERFACES.map(|name| Attachment::Interface(name.into())));
    all
}

fn any_binding() -> impl Strategy<Value = Option<Binding>> {
    prop_oneof![
        3 => Just(None),
        2 => (1..3_u32, 0..2_usize).prop_map(|(index, boot)| Some(Binding {
            if_index: Some(index),
            boot_id: Some(BOOTS[boot].into()),
            mac_address: None,
        })),
        1 => Just(Some(Binding { mac_address: Some(MAC.into()), ..Binding::default() })),
    ]
}

fn any_attachments() -> impl Strategy<Value = Vec<InstanceAttachment>> {
    let bindings = proptest::collection::vec(any_binding(), 4);
    (subsequence(attachments(), 0..4), bindings).prop_map(|(attachments, bindings)| {
        let bound = attachments.into_iter().zip(bindings);
        bound
            .map(|(attachment, binding)| InstanceAttachment {
                binding,
                ..attachment.into()
            })
            .collect()
    })
}

fn any_link() -> impl Strategy<Value = LinkIdentity> {
    (1..3_u32, any::<bool>()).prop_map(|(index, has_mac)| LinkIdentity {
        index,
        mac_address: has_mac.then(|| MAC.to_string()),
    })
}

fn any_links() -> impl Strategy<Value = BTreeMap<String, LinkIdentity>> {
    let names = proptest::sample::select(&INTERFACES[..]).prop_map(String::from);
    proptest::collection::btree_map(names, any_link(), 0..4)
}

fn any_instance() -> impl Strategy<Value = Record> {
    let state = prop_oneof![
        4 => Just(InstanceState::Running),
        1 => Just(InstanceState::Stopped),
        1 => Just(InstanceState::Terminated),
    ];
    let token = proptest::option::of(0..3_usize);
    let number = 0..6_usize;
    let parts = (
        number,
        state,
        any_attachments(),
        token,
        0..3_usize,
        any::<bool>(),
    );
    parts.prop_map(|(number, state, attachments, token, time, is_from_api)| {
        let mut instance = Instance {
            instance_id: id(number),
            state,
            client_token: token.map(|token| token.to_string().into()),
            ..DEMO.clone()
        };
        instance.imds.attachments = attachments;
        Record {
            terminated: (state == InstanceState::Terminated).then(|| moment(time)),
            launch_request: is_from_api.then(String::new),
            ..Record::first(instance, String::new(), None, moment(0))
        }
    })
}

/// A change of the registry that is published.
#[derive(Clone, Debug)]
enum RandomStep {
    Entries(Vec<Record>, BTreeMap<String, LinkIdentity>),
    Without(InstanceId),
    WithoutRecord(InstanceId),
    Tombstone(InstanceId),
    StateUnknown(InstanceId, Option<usize>),
    Unregistered(InstanceId, usize, Vec<InstanceAttachment>),
    NotStored(InstanceId),
    Reserved(InstanceId, Vec<InstanceAttachment>),
    Unowned(BTreeMap<usize, Vec<InstanceAttachment>>),
    Links(usize, BTreeMap<String, LinkIdentity>),
    LinksNamed(usize, Vec<String>, BTreeMap<String, LinkIdentity>),
}

fn any_step() -> impl Strategy<Value = RandomStep> {
    let any_id = || (0..6_usize).prop_map(id);
    let names = subsequence(INTERFACES.map(String::from).to_vec(), 0..4);
    let unowned = proptest::collection::btree_map(0..2_usize, any_attachments(), 0..3);
    prop_oneof![
        8 => (proptest::collection::vec(any_instance(), 1..4), any_links())
            .prop_map(|(records, links)| RandomStep::Entries(records, links)),
        1 => any_id().prop_map(RandomStep::Without),
        1 => any_id().prop_map(RandomStep::WithoutRecord),
        1 => any_id().prop_map(RandomStep::Tombstone),
        2 => (any_id(), proptest::option::of(0..3_usize))
            .prop_map(|(id, token)| RandomStep::StateUnknown(id, token)),
        2 => (any_id(), 0..3_usize, any_attachments())
            .prop_map(|(id, reason, attachments)| RandomStep::Unregistered(id, reason, attachments)),
        1 => any_id().prop_map(RandomStep::NotStored),
        1 => (any_id(), any_attachments()).prop_map(|(id, attachments)| RandomStep::Reserved(id, attachments)),
        2 => unowned.prop_map(RandomStep::Unowned),
        2 => (0..2_usize, any_links()).prop_map(|(boot, links)| RandomStep::Links(boot, links)),
        2 => (0..2_usize, names, any_links())
            .prop_map(|(boot, names, links)| RandomStep::LinksNamed(boot, names, links)),
    ]
}

impl RandomStep {
    fn apply(self, to: &Snapshot) -> Option<Publication> {
        match self {
            RandomStep::Entries(records, links) => {
                let entries = records.into_iter();
                let entries = entries.map(|record| Arc::new(Entry::of_record(record)));
                Some(to.with_entries(entries, &links))
            }
            RandomStep::Without(id) => Some(to.without(&id)),
            RandomStep::WithoutRecord(id) => Some(to.without_record(&id)),
            RandomStep::Tombstone(id) => Some(to.with_tombstone(&id)),
            RandomStep::StateUnknown(id, token) => {
                let token = token.map(|token| LaunchToken {
                    token: token.to_string(),
                    account: None,
                    region: None,
                });
                Some(to.with_state_unknown(&id, token))
            }
            RandomStep::Unregistered(id, reason, attachments) => {
                let reasons = [
                    QuarantineReason::FaultyDocument,
                    QuarantineReason::NotStored,
                    QuarantineReason::BeingRegistered,
                ];
                to.with_unregistered(&id, reasons[reason], &attachments)
            }
            RandomStep::NotStored(id) => Some(to.with_reason_not_stored(&id)),
            RandomStep::Reserved(id, attachments) => {
                to.with_reserved_attachments(&id, &attachments)
            }
            RandomStep::Unowned(unowned) => {
                let unowned = unowned.into_iter();
                let unowned = unowned
                    .map(|(number, attachments)| (file(number), attachments.into_iter().collect()));
                to.with_unowned(unowned.collect())
            }
            RandomStep::Links(boot, links) => {
                to.with_links(BOOTS[boot], |name| links.get(name).cloned())
            }
            RandomStep::LinksNamed(boot, names, links) => {
                let names = names.iter().map(String::as_str);
                to.with_links_named(BOOTS[boot], names, |name| links.get(name).cloned())
            }
        }
    }
}

/// What claims an attachment, as the oracle sees it: an instance, or a file.
type Owner<'a> = (Option<&'a InstanceId>, Option<&'a Path>);

/// Returns every claim on these links: of the instances in `changed`, then of the other entries, of
/// quarantined instances, and of files.
fn all_claims<'a>(
    snapshot: &'a Snapshot,
    changed: &'a BTreeMap<InstanceId, Instance>,
    links: &'a LinkIdentities,
) -> Vec<(Owner<'a>, &'a Attachment)> {
    let entries = snapshot.entries().map(|entry| &entry.instance);
    let unchanged = entries.filter(|instance| !changed.contains_key(&instance.instance_id));
    let instances = changed.values().chain(unchanged);
    let served = instances.flat_map(|instance| {
        let claimed = instance.claimed_attachments(links);
        claimed.map(|claimed| ((Some(&instance.instance_id), None), claimed))
    });
    let is_claimed = |attachment: &InstanceAttachment| attachment.void_reason(links).is_none();
    let reserved = snapshot.reserved();
    let reserved = reserved.map(|(id, reserved)| ((Some(id), None), reserved));
    let of_files = snapshot.unowned().iter().flat_map(|(file, attachments)| {
        let attachments = attachments.iter();
        attachments.map(|attachment| ((None, Some(file.as_path())), attachment))
    });
    let reserved = reserved.chain(of_files);
    let reserved = reserved.filter(|(_, attachment)| is_claimed(attachment));
    let claims = served.chain(reserved);
    claims
        .map(|(owner, claimed)| (owner, &claimed.attachment))
        .collect()
}

fn index<'a>(claims: &[(Owner<'a>, &'a Attachment)]) -> Claims<'a, Owner<'a>> {
    let mut index = Claims::new();
    for (owner, attachment) in claims {
        index.add(attachment, *owner);
    }
    index
}

/// Returns the claimants of every attachment.
fn claimants(claims: &[(Owner<'_>, &Attachment)]) -> HashMap<Attachment, Claimants> {
    let index = index(claims);
    let mut claimants: HashMap<Attachment, Claimants> = HashMap::new();
    for (owner, attachment) in claims {
        let Some(id) = owner.0 else { continue };
        let conflicts: Vec<Owner<'_>> = index
            .conflicts(attachment, *owner)
            .map(|claim| claim.claimant)
            .collect();
        if conflicts.is_empty() {
            claimants.insert((*attachment).clone(), Claimants::One(id.clone()));
            continue;
        }
        let mut ids: BTreeSet<InstanceId> = conflicts
            .iter()
            .filter_map(|owner| owner.0)
            .cloned()
            .collect();
        ids.insert(id.clone());
        match claimants.get_mut(attachment) {
            Some(Claimants::Conflict(known)) => known.extend(ids),
            _ => drop(claimants.insert((*attachment).clone(), Claimants::Conflict(ids))),
        }
    }
    claimants
}

/// Returns what differs between two snapshots, by comparing everything.
fn difference(before: &Snapshot, after: &Snapshot) -> Changes {
    let mut changes = Changes {
        links: before.links() != after.links(),
        ..Changes::default()
    };
    for id in (0..6).map(id) {
        let entry = |snapshot: &Snapshot| snapshot.entry(&id).map(Arc::as_ptr);
        let quarantined = |snapshot: &Snapshot| snapshot.quarantined.get(&id).cloned();
        if entry(before) != entry(after) || quarantined(before) != quarantined(after) {
            changes.instances.insert(id);
        }
    }
    for attachment in attachments() {
        let (earlier, claim) = (before.claim(&attachment), after.claim(&attachment));
        if earlier != claim {
            let ids = earlier.into_iter().chain(claim).flat_map(Claimants::ids);
            changes.instances.extend(ids.cloned());
            changes.attachments.insert(attachment);
        }
    }
    let is_changed = |name: &str| {
        let link = |snapshot: &Snapshot| snapshot.links().by_name.get(name).cloned();
        before.links().boot_id != after.links().boot_id || link(before) != link(after)
    };
    let served = after.entries().flat_map(|entry| {
        let attachments = entry.instance.imds.attachments.iter();
        attachments.map(|attachment| (&entry.instance.instance_id, attachment))
    });
    for (id, attachment) in served.chain(after.reserved()) {
        let name = attachment.bindable_interface();
        if attachment.binding.is_some() && name.is_some_and(is_changed) {
            changes.instances.insert(id.clone());
            changes.attachments.insert(attachment.attachment.clone());
        }
    }
    changes
}

fn check_claims(snapshot: &Snapshot) {
    let none = BTreeMap::new();
    let claims = all_claims(snapshot, &none, snapshot.links());
    let found = snapshot.claims();
    let found: HashMap<Attachment, Claimants> = found
        .map(|(attachment, claimants)| (attachment.clone(), claimants.clone()))
        .collect();
    assert_eq!(found, claimants(&claims));
    let files: Vec<_> = claims
        .into_iter()
        .filter(|(owner, _)| owner.1.is_some())
        .collect();
    let files = index(&files);
    for attachment in &attachments() {
        let served = match found.get(attachment) {
            Some(Claimants::One(id)) => snapshot.entry(id).map(Arc::as_ptr),
            Some(Claimants::Conflict(_)) | None => None,
        };
        assert_eq!(snapshot.attached_to(attachment).map(Arc::as_ptr), served);
        let reserving = files.first_conflict(attachment, (None, None));
        let reserving = reserving.and_then(|claim| claim.claimant.1);
        assert_eq!(snapshot.file_that_reserves(attachment), reserving);
    }
}

/// Checks that nothing is left in the indexes of what was there before.
fn check_indexes(snapshot: &Snapshot) {
    let mut again = Snapshot {
        links: Arc::clone(&snapshot.links),
        ..Snapshot::default()
    };
    let entries = snapshot.entries().map(Arc::clone);
    if let Some(next) = again.with_unowned(UnownedAttachments::clone(snapshot.unowned())) {
        again = next.snapshot;
    }
    again = again.with_entries(entries, &BTreeMap::new()).snapshot;
    for (id, instance) in &snapshot.quarantined {
        again = again
            .with_quarantined(id, instance.as_ref().clone())
            .snapshot;
    }
    assert_eq!(again.claim_index, snapshot.claim_index);
    assert_eq!(again.bound_interfaces, snapshot.bound_interfaces);
    assert_eq!(again.launches, snapshot.launches);
    assert_eq!(again.terminated, snapshot.terminated);
    assert_eq!(again.claims.size(), snapshot.claims.size());
    let mut links = snapshot.links().by_name.keys();
    assert!(links.all(|name| {
        snapshot
            .bound_interfaces
            .of(name.as_str().into())
            .next()
            .is_some()
    }));
    let times = snapshot.terminated().map(|entry| entry.terminated);
    assert!(times.is_sorted());
    let terminated = snapshot
        .entries()
        .filter(|entry| entry.terminated.is_some());
    assert_eq!(snapshot.terminated().count(), terminated.count());
}

fn check_launches(snapshot: &Snapshot) {
    for token in ["0", "1", "2"] {
        let is_of_token = |entry: &&Arc<Entry>| {
            entry
                .launch_token()
                .is_some_and(|launch| launch.token == token)
        };
        let launched: Vec<_> = snapshot
            .entries()
            .filter(is_of_token)
            .map(Arc::as_ptr)
            .collect();
        let found: Vec<_> = snapshot.launches(token).map(Arc::as_ptr).collect();
        assert_eq!(found, launched);
        let quarantined = snapshot.quarantined.values();
        let uncertain = quarantined.flat_map(|instance| &instance.client_tokens);
        let uncertain = uncertain.filter(|launch| launch.token == token);
        assert_eq!(
            snapshot.quarantined_launches(token).count(),
            uncertain.count()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x0f_f5e7),
        cases: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_snapshot_made_from_the_one_before_equals_one_made_from_nothing(
        steps in proptest::collection::vec(any_step(), 1..25),
    ) {
        let mut snapshot = Snapshot::default();
        for step in steps {
            let before = (snapshot.entries().count(), snapshot.claims().count());
            let Some(Publication { snapshot: next, changes }) = step.apply(&snapshot) else {
                continue;
            };
            check_claims(&next);
            check_indexes(&next);
            check_launches(&next);
            prop_assert_eq!(changes, difference(&snapshot, &next));
            // The earlier snapshot stays as it was: requests may still read it.
            prop_assert_eq!((snapshot.entries().count(), snapshot.claims().count()), before);
            check_claims(&snapshot);
            snapshot = next;
        }
    }

    #[test]
    fn the_conflicts_of_a_transaction_are_those_of_everything_that_is_claimed_after_it(
        steps in proptest::collection::vec(any_step(), 1..15),
        changed in proptest::collection::vec(any_instance(), 0..4),
        observed in any_links(),
    ) {
        let mut snapshot = Snapshot::default();
        for step in steps {
            if let Some(next) = step.apply(&snapshot) {
                snapshot = next.snapshot;
            }
        }
        let snapshot = Arc::new(snapshot);
        let account = Arc::new(AccountState::Known(None));
        let mut transaction = Transaction::new(Arc::clone(&snapshot), account);
        let mut after: BTreeMap<InstanceId, Instance> = BTreeMap::new();
        for record in changed {
            let instance = record.instance;
            let id = instance.instance_id.clone();
            if after.contains_key(&id) {
                continue;
            }
            after.insert(id.clone(), instance.clone());
            match transaction.instance(&id) {
                Some(known) => *known = instance,
                None => transaction.register(instance),
            }
        }
        for (name, link) in &observed {
            transaction.observe_link(name, link);
        }
        let links = snapshot.links_with(&observed);
        let claims = all_claims(&snapshot, &after, &links);
        let (owned, of_files): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|(owner, _)| owner.0.is_some());
        let (owned, of_files) = (index(&owned), index(&of_files));
        let mut new = BTreeSet::new();
        let mut unowned = Vec::new();
        for instance in after.values() {
            let id = &instance.instance_id;
            let mut all = BTreeSet::new();
            let earlier = snapshot.entry(id).map(|entry| {
                let claimed = entry.instance.claimed_attachments(snapshot.links());
                claimed.map(|claimed| claimed.attachment.clone()).collect::<BTreeSet<_>>()
            });
            for claimed in instance.claimed_attachments(&links) {
                let attachment = &claimed.attachment;
                let conflicts = owned.conflicts(attachment, (Some(id), None));
                let conflicts: Vec<_> = conflicts
                    .map(|claim| ClaimConflict {
                        instance: id.clone(),
                        attachment: attachment.clone(),
                        holder: claim.claimant.0.unwrap().clone(),
                        held: claim.attachment.clone(),
                    })
                    .collect();
                all.extend(conflicts.iter().cloned());
                if earlier.as_ref().is_some_and(|earlier| earlier.contains(attachment)) {
                    continue;
                }
                new.extend(conflicts);
                let file = of_files.first_conflict(attachment, (None, None));
                unowned.extend(file.and_then(|claim| claim.claimant.1).map(|file| UnownedConflict {
                    instance: id.clone(),
                    attachment: attachment.clone(),
                    file: file.to_path_buf(),
                }));
            }
            prop_assert_eq!(transaction.conflicts_of(id), all.into_iter().collect::<Vec<_>>());
        }
        prop_assert_eq!(transaction.new_conflicts(), new.into_iter().collect::<Vec<_>>());
        let mut found = transaction.unowned_conflicts();
        let order = |conflict: &UnownedConflict| (conflict.instance.clone(), conflict.attachment.clone());
        found.sort_by_key(order);
        unowned.sort_by_key(order);
        prop_assert_eq!(found, unowned);
    }
}
