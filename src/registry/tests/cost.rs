//! What a publication and a lookup cost, counted in allocations: the same beside ten instances and
//! beside ten thousand, apart from the depth of the maps.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use allocation_counter::measure;
use jiff::Timestamp;

use crate::config::demo_instance;
use crate::instance::{
    Attachment, Binding, BridgePort, Instance, InstanceAttachment, InstanceId, LinkIdentity,
    SourceAddress,
};
use crate::origin::{Family, Origin};
use crate::registry::account::AccountState;
use crate::registry::entry::Entry;
use crate::registry::next_snapshot::Publication;
use crate::registry::record::Record;
use crate::registry::snapshot::Snapshot;
use crate::registry::transaction::Transaction;

/// What all instances have in common. Reading it is slow.
static DEMO: LazyLock<Instance> = LazyLock::new(demo_instance);
/// Ten instances, and ten thousand.
static SNAPSHOTS: LazyLock<[Arc<Snapshot>; 2]> =
    LazyLock::new(|| [10, 10_000].map(|instances| Arc::new(snapshot(instances))));

const BOOT: &str = "boot";
/// The depth of a map grows with the logarithm of its size.
const GROWTH_OF_LOGARITHM: u64 = 4;

fn id(number: u32) -> InstanceId {
    InstanceId::parse(&format!("i-{number:08x}")).unwrap()
}

fn link(name: &str) -> Option<LinkIdentity> {
    let index = name.strip_prefix("tap")?.parse().ok()?;
    Some(LinkIdentity {
        index,
        mac_address: None,
    })
}

/// Returns an instance with a bound port of one bridge and an address on one listener, both of which
/// it shares with all others.
fn instance(number: u32) -> Instance {
    let port = format!("tap{number}");
    let bound = InstanceAttachment {
        binding: Some(Binding::to_link(&link(&port).unwrap(), BOOT)),
        ..Attachment::BridgePort(BridgePort {
            bridge: "br0".into(),
            port: port.into(),
            mark: number,
        })
        .into()
    };
    let mut instance = Instance {
        instance_id: id(number),
        client_token: Some(number.to_string().into()),
        ..DEMO.clone()
    };
    instance.imds.attachments = vec![bound, address(number).into()];
    instance
}

fn address(number: u32) -> Attachment {
    Attachment::SourceAddress(SourceAddress {
        listener: "lan".into(),
        address: std::net::Ipv4Addr::from(0x0a00_0000 + number).into(),
    })
}

fn entry(instance: Instance) -> Entry {
    let request = Some(String::new());
    Entry::of_record(Record::first(
        instance,
        String::new(),
        request,
        Timestamp::UNIX_EPOCH,
    ))
}

fn snapshot(instances: u32) -> Snapshot {
    let entries = (1..=instances).map(|number| entry(instance(number)));
    let snapshot = Snapshot::new(entries, []);
    snapshot.with_links(BOOT, link).unwrap().snapshot
}

/// Asserts that `work` costs as much beside ten thousand instances as beside ten.
fn assert_cost_is_of_the_change<T>(what: &str, work: impl Fn(&Arc<Snapshot>) -> T) {
    let costs = SNAPSHOTS.each_ref().map(|snapshot| {
        let cost = measure(|| drop(work(snapshot)));
        (cost.count_total, cost.bytes_total)
    });
    let [(few, _), (many, _)] = costs;
    println!("{what}: allocations and bytes {costs:?}");
    assert!(
        many <= GROWTH_OF_LOGARITHM * few,
        "{what}: {few} allocations beside 10 instances, {many} beside 10,000"
    );
}

fn with(snapshot: &Snapshot, entry: &Arc<Entry>) -> Publication {
    snapshot.with_entries([Arc::clone(entry)], &BTreeMap::new())
}

#[test]
fn a_publication_costs_what_it_changes() {
    let entry_of = |instance: Instance| Arc::new(entry(instance));
    let (same, new) = (entry_of(instance(7)), entry_of(instance(20_000)));
    let mut rival = instance(20_000);
    rival.imds.attachments.push(address(7).into());
    let rival = entry_of(rival);
    assert_cost_is_of_the_change("a replaced entry", |before| with(before, &same));
    assert_cost_is_of_the_change("a new instance", |before| with(before, &new));
    assert_cost_is_of_the_change("a new conflict", |before| with(before, &rival));
    assert_cost_is_of_the_change("a removed instance", |before| before.without(&id(7)));
    assert_cost_is_of_the_change("a forgotten instance", |before| {
        before.with_tombstone(&id(7))
    });
    assert_cost_is_of_the_change("a quarantined instance", |before| {
        before.with_state_unknown(&id(7), None)
    });
    assert_cost_is_of_the_change("a link that is gone", |before| {
        before.with_links_named(BOOT, ["tap7"], |_| None).unwrap()
    });
    assert_cost_is_of_the_change("a transaction that claims an attachment", |before| {
        let account = Arc::new(AccountState::Known(None));
        let mut transaction = Transaction::new(Arc::clone(before), account);
        let instance = transaction.instance(&id(7)).unwrap();
        instance.imds.attachments.push(address(8).into());
        let conflicts = transaction.new_conflicts();
        assert_eq!((conflicts.len(), &conflicts[0].holder), (1, &id(8)));
        assert_eq!(transaction.unowned_conflicts(), []);
    });
}

#[test]
fn a_lookup_allocates_nothing() {
    let [_, snapshot] = &*SNAPSHOTS;
    let entry = snapshot.entry(&id(7)).unwrap();
    let origin = Origin {
        attachment: address(7),
        family: Family::Ipv4,
        peer: "10.0.0.7:40000".parse().unwrap(),
        holder: Some(entry.holder()),
    };
    let cost = measure(|| assert_eq!(snapshot.at(&origin).unwrap().instance.instance_id, id(7)));
    // The id in the assertion is parsed from a text.
    let of_id = measure(|| assert_eq!(id(7).as_str().len(), 10));
    assert_eq!(cost.count_total, of_id.count_total);
}

/// The maps of a snapshot, apart from the entries themselves.
#[test]
fn the_maps_of_a_snapshot_cost_little_for_an_instance() {
    let entries: Vec<_> = (1..=1000)
        .map(|number| Arc::new(entry(instance(number))))
        .collect();
    let mut all = None;
    let cost = measure(|| {
        let entries = entries.iter().map(Arc::clone);
        all = Some(
            Snapshot::default()
                .with_entries(entries, &BTreeMap::new())
                .snapshot,
        );
    });
    let bytes = cost.bytes_current / 1000;
    println!("{bytes} bytes for an instance");
    assert!(bytes < 2500, "{bytes}");
}
