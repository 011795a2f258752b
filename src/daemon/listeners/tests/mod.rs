//! Tests of the reconciler: whatever changes, its results are those of a computation from the
//! beginning, and its cost is that of the change.

mod oracle;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use super::work::DoneWork;
use super::*;
use crate::clock::Moment;
use crate::config::{
    AddressMode, GuestSettings, InterfaceSettings, ListenerSettings, demo_instance,
};
use crate::host::netlink::Link;
use crate::instance::{
    Attachment, Binding, BridgePort, Instance, InstanceAttachment, InstanceId, InstanceState,
    SourceAddress, Switch,
};
use crate::net::guest_service::{AcceptedConnection, GuestTurn};
use crate::net::status::{AttachmentState, AttachmentStatus};
use crate::origin::Origin;
use crate::registry::memory::MemoryStore;
use crate::registry::{Document, OptionsState, Transaction};
use oracle::Oracle;

const BOOT: &str = "this-boot";

/// Serves no connection.
struct NoService;

impl GuestService for NoService {
    fn accept(&self, _: &Origin) -> Option<AcceptedConnection> {
        None
    }

    fn turn<'a>(&'a self, _: &'a Origin) -> Option<Box<dyn GuestTurn + 'a>> {
        None
    }
}

/// A registry, a host with made-up links, and the reconciler. Its sockets are on loopback: those of
/// the interface `lo` can be opened, those of the others cannot, because they do not exist.
struct Host {
    registry: Arc<Registry>,
    links: Links,
    listeners: Listeners,
    limits: ConnectionLimits,
    /// The files of network namespaces.
    directory: tempfile::TempDir,
}

impl Host {
    fn new(configured: Vec<ListenerSettings>) -> Host {
        let mut config = Config::demo();
        config.listeners = configured;
        config.interfaces = Some(InterfaceSettings {
            addresses: AddressMode::Manage,
            ipv4: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
            ipv6: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0),
            ..InterfaceSettings::default()
        });
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        let own_addresses = OwnAddresses::default();
        let threads = Arc::new(GuestThreads::start(1).unwrap());
        let service = Arc::new(NoService);
        Host {
            listeners: Listeners::new(&config, &registry, service, own_addresses, threads),
            registry,
            links: Links::default(),
            limits: ConnectionLimits::new(&GuestSettings::default()),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn namespace(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn put(&self, number: usize, change: impl Fn(&mut Instance) + Send + 'static) {
        let id = id(number);
        let now = Moment::now().wall;
        if self.registry.snapshot().entry(&id).is_none() {
            let mut instance = demo_instance();
            instance.instance_id = id;
            change(&mut instance);
            self.registry.register(instance, now).await.unwrap();
            return;
        }
        let change = move |instance: &mut Instance| {
            change(instance);
            Ok::<(), ()>(())
        };
        let _ = self.registry.update(&id, now, change).await.unwrap();
    }

    async fn apply(&mut self, on_bind_error: OnBindError) {
        let links = &self.links;
        let identity_of = |name: &str| links.named(name).map(Link::identity);
        self.registry.observe_links(BOOT, identity_of);
        let applied = self
            .listeners
            .apply(&self.registry, links, &self.limits, on_bind_error);
        applied.await.unwrap();
    }

    /// Applies, and compares everything with the computation from the beginning.
    async fn check(&mut self, step: &str) {
        let open = self.listeners.open.iter();
        let before = open
            .map(|(key, listener)| (key.clone(), listener.presence))
            .collect();
        self.apply(OnBindError::Retry).await;
        let snapshot = self.registry.snapshot();
        let listeners = &self.listeners;
        let (followed, open) = (&listeners.followed, &listeners.open);
        let oracle = Oracle::new(&listeners.config, &snapshot, &self.links, &before);

        // What there should be, and what exists.
        let keys = |keys: BTreeSet<&ListenerKey>| keys.into_iter().cloned().collect::<Vec<_>>();
        let desired = keys(followed.desired.keys().collect());
        assert_eq!(
            desired,
            keys(oracle.desired.keys().collect()),
            "desired after {step}"
        );
        for key in &desired {
            let unusable = followed.survey.unusable(key);
            assert_eq!(
                unusable.as_ref(),
                oracle.unusable.get(key),
                "{key} after {step}"
            );
            let present = followed.survey.present(key);
            assert_eq!(
                present.as_ref(),
                oracle.present.get(key),
                "{key} after {step}"
            );
            let ports = followed.desired[key].bridge_ports().size();
            let is_port = |(of, _): &&(&Attachment, _)| matches!(of, Attachment::BridgePort(_));
            assert_eq!(ports, oracle.desired[key].iter().filter(is_port).count());
        }
        assert_eq!(
            followed.addresses.desired(),
            &oracle.addresses(),
            "after {step}"
        );

        // The sockets.
        let is_present = keys(oracle.present.keys().collect());
        assert_eq!(keys(open.keys().collect()), is_present, "open after {step}");
        for (key, listener) in open {
            for socket in &listener.sockets {
                let is_tried = socket.is_open() || socket.refused.is_some();
                let wanted = oracle.wants(key, socket.family);
                assert_eq!(is_tried, wanted, "{key} {:?} after {step}", socket.family);
            }
        }

        // What is published.
        let status = listeners.published.load();
        let (attachments, applied) = oracle.attachments(open);
        let published: Vec<&AttachmentStatus> = status.attachments().collect();
        assert_eq!(
            published,
            attachments.iter().collect::<Vec<_>>(),
            "after {step}"
        );
        for (id, is_applied) in applied {
            let state = snapshot.entry(&id).unwrap().options_state();
            assert_eq!(
                state == OptionsState::Applied,
                is_applied,
                "{id} after {step}"
            );
        }
        for state in crate::net::status::AttachmentState::ALL {
            let count = attachments
                .iter()
                .filter(|status| status.state == state)
                .count();
            assert_eq!(
                status.attachments_in(state),
                count,
                "{state:?} after {step}"
            );
        }
        let unserved = oracle.unserved();
        assert_eq!(
            status.unserved_count(),
            unserved.len(),
            "unserved after {step}"
        );
        for (attachment, reason) in unserved {
            assert_eq!(
                status.unserved(attachment),
                Some(reason.as_str()),
                "after {step}"
            );
        }
        assert_eq!(status.listener_count(), desired.len(), "after {step}");
        assert_eq!(
            status.waiting_count(),
            oracle.waiting(open).len(),
            "after {step}"
        );
        for key in &desired {
            let of_key = status
                .listener(super::status::kind_of(key), key.name())
                .unwrap();
            let instances: BTreeSet<InstanceId> = of_key.instances.iter().cloned().collect();
            assert_eq!(instances, oracle.instances(key), "{key} after {step}");
            let sockets = open.get(key).map_or(0, |listener| listener.sockets.len());
            assert_eq!(of_key.sockets.len(), sockets, "{key} after {step}");
        }
        let entries = snapshot.entries();
        let attached = entries.filter(|entry| !entry.instance.imds.attachments.is_empty());
        assert_eq!(followed.attached_count(), attached.count(), "after {step}");
        assert_eq!(
            status.instance_count(),
            snapshot.entries().count(),
            "after {step}"
        );
        assert!(followed.work.is_empty(), "after {step}");
    }
}

fn id(number: usize) -> InstanceId {
    InstanceId::parse(&format!("i-{number:08x}")).unwrap()
}

fn listener(
    name: &str,
    port: u16,
    interface: Option<&str>,
    anti_spoofed: bool,
) -> ListenerSettings {
    ListenerSettings {
        name: name.to_string(),
        ipv4: Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)),
        ipv6: None,
        interface: interface.map(str::to_string),
        anti_spoofed,
        extra_hops: 0,
    }
}

/// Random numbers with a fixed seed.
struct Dice(u64);

impl Dice {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

const NAMESPACES: [&str; 3] = ["one", "two", "three"];

fn attachments(host: &Host) -> Vec<InstanceAttachment> {
    let port = |bridge: &str, port: &str, mark| {
        Attachment::BridgePort(BridgePort {
            bridge: bridge.into(),
            port: port.into(),
            mark,
        })
    };
    let from = |listener: &str, last| {
        Attachment::SourceAddress(SourceAddress {
            listener: listener.into(),
            address: Ipv4Addr::new(10, 0, 0, last).into(),
        })
    };
    let mut all = vec![
        from("lan", 1),
        from("lan", 2),
        from("lan", 3),
        from("plain", 1),
        port("br0", "tap1", 1),
        port("br0", "tap2", 2),
        port("br0", "tap3", 3),
        port("lo", "tap2", 3),
        port("lo", "tap3", 2),
    ];
    all.extend(["plain", "busy", "bound", "none"].map(|name| Attachment::Listener(name.into())));
    all.extend(
        ["lo", "tap1", "tap2", "br0", "br0.5"].map(|name| Attachment::Interface(name.into())),
    );
    let path = |name| host.namespace(name).display().to_string();
    all.extend(NAMESPACES.map(|name| Attachment::NetworkNamespace(path(name).into())));
    let mut all: Vec<InstanceAttachment> = all.into_iter().map(InstanceAttachment::from).collect();
    for index in [2, 102] {
        all.push(InstanceAttachment {
            binding: Some(Binding {
                if_index: Some(index),
                boot_id: Some(BOOT.into()),
                mac_address: None,
            }),
            ..InstanceAttachment::from(Attachment::Interface("tap1".into()))
        });
    }
    all
}

/// Changes a link: it appears, goes up or down, changes its controller, its name or its kind, or
/// disappears.
fn change_link(host: &mut Host, dice: &mut Dice) {
    let (index, name, kind) = dice.one_of(&[
        (1, "lo", ""),
        (2, "tap1", "tun"),
        (102, "tap1", "tun"),
        (3, "tap2", "tun"),
        (4, "tap3", "tun"),
        (5, "br0", "bridge"),
        (6, "br0.5", "vlan"),
        (7, "blue", "vrf"),
        (7, "red", "vrf"),
    ]);
    if dice.below(4) == 0 {
        host.links.delete(index);
        return;
    }
    host.links.set(Link {
        up: dice.below(3) > 0,
        controller: [None, Some(5), Some(5), Some(7)][dice.below(4)].filter(|of| *of != index),
        below: (kind == "vlan").then_some(5),
        ..Link::example(index, name, kind)
    });
}

/// Changes the file of a namespace: it disappears, is another one, the same as another one, or the
/// host's own.
fn change_namespace(host: &Host, dice: &mut Dice) {
    let path = host.namespace(dice.one_of(&NAMESPACES));
    let _ = std::fs::remove_file(&path);
    match dice.below(4) {
        0 => {}
        1 => std::os::unix::fs::symlink("/proc/self/ns/net", path).unwrap(),
        2 => drop(std::fs::hard_link(host.namespace(NAMESPACES[0]), path)),
        _ => std::fs::write(path, "").unwrap(),
    }
}

/// Changes an instance: its attachments, its options, its state, its addresses.
async fn change_instance(host: &Host, number: usize, dice: &mut Dice) {
    let pool = attachments(host);
    let some: BTreeSet<InstanceAttachment> =
        (0..dice.below(4)).map(|_| dice.one_of(&pool)).collect();
    let switch = dice.one_of(&[Switch::Enabled, Switch::Disabled]);
    let state = dice.one_of(&[
        InstanceState::Running,
        InstanceState::Pending,
        InstanceState::Stopped,
        InstanceState::Terminated,
    ]);
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, dice.below(3) as u16);
    let kind = dice.below(8);
    let change = move |instance: &mut Instance| match kind {
        0 => instance.metadata_options.http_endpoint = switch,
        1 | 2 => instance.metadata_options.http_protocol_ipv6 = switch,
        3 => instance.state = state,
        4 => instance.ipv6_address = Some(address),
        _ => instance.imds.attachments = some.iter().cloned().collect(),
    };
    host.put(number, change).await;
}

/// Makes one random change of the registry or the host. Returns what it was.
async fn change(host: &mut Host, dice: &mut Dice, taken: &mut Option<TcpListener>) -> String {
    let number = dice.below(6);
    match dice.below(12) {
        0 | 1 => {
            change_link(host, dice);
            "a change of a link".to_string()
        }
        2 => {
            change_namespace(host, dice);
            "a change of a namespace".to_string()
        }
        3 => {
            let _ = host
                .registry
                .delete(&id(number), |_| Ok::<(), ()>(()))
                .await;
            format!("the deletion of {number}")
        }
        4 => {
            let reserved = vec![dice.one_of(&attachments(host))];
            host.registry.register_faulty(&id(number), reserved).await;
            format!("a faulty document of {number}")
        }
        5 => {
            host.registry.withdraw(&id(number)).await;
            format!("the withdrawal of {number}")
        }
        6 => {
            let reserved = BTreeSet::from([dice.one_of(&attachments(host))]);
            let unowned = [(PathBuf::from("faulty.json"), reserved)];
            let count = dice.below(2);
            host.registry
                .reserve_unowned(unowned.into_iter().take(count).collect())
                .await;
            format!("{count} reserved attachments")
        }
        7 => {
            // The port of the listener `busy` is taken by another process, or free.
            let port = host.listeners.config.listener("busy").ipv4.unwrap();
            *taken = match taken.take() {
                Some(_) => None,
                None => TcpListener::bind(port).ok(),
            };
            "a change of the port".to_string()
        }
        _ => {
            change_instance(host, number, dice).await;
            format!("a change of {number}")
        }
    }
}

/// Every step makes up to three changes at once.
#[tokio::test]
async fn what_is_followed_by_single_changes_is_what_a_computation_from_the_beginning_finds() {
    for seed in 1..=12_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let mut taken = Some(free);
        let mut host = Host::new(vec![
            listener("plain", 0, None, false),
            listener("busy", port, None, false),
            listener("lan", 0, None, true),
            listener("bound", 0, Some("br0"), false),
        ]);
        host.check("the start").await;
        for step in 0..80 {
            let mut changes = Vec::new();
            for _ in 0..=dice.below(3) {
                changes.push(change(&mut host, &mut dice, &mut taken).await);
            }
            if dice.below(2) == 0 {
                host.apply(OnBindError::Leave).await;
            }
            host.check(&format!("{changes:?} in step {step} of seed {seed}"))
                .await;
        }
        host.listeners.shut_down();
    }
}

/// Registers instances that are attached by their addresses to the listener `lan`.
async fn register(host: &Host, count: usize) {
    let plan = move |transaction: &mut Transaction| {
        let demo = demo_instance();
        for number in 0..count {
            let mut instance = demo.clone();
            instance.instance_id = id(number);
            let address = Ipv4Addr::from(0x0a00_0000 + number as u32).into();
            let listener = "lan".to_string();
            let attachment = Attachment::SourceAddress(SourceAddress {
                listener: listener.into(),
                address,
            });
            instance.imds.attachments = vec![attachment.into()];
            transaction.register(instance);
        }
        Ok::<(), ()>(())
    };
    let registered = host.registry.change(Moment::now().wall, plan).await;
    assert_eq!(registered.unwrap().0.len(), count);
}

/// Returns what is looked at after one change of the options of one instance of `count`, and in a
/// second without changes.
async fn work_after_one_change(count: usize) -> [DoneWork; 2] {
    let mut host = Host::new(vec![listener("lan", 0, None, true)]);
    register(&host, count).await;
    let done = |host: &mut Host| std::mem::take(&mut host.listeners.followed.work.done);
    host.apply(OnBindError::Retry).await;
    assert_eq!(done(&mut host).instances, count);
    host.put(0, |instance| {
        instance.metadata_options.http_endpoint = Switch::Disabled;
    })
    .await;
    host.apply(OnBindError::Leave).await;
    let after_change = done(&mut host);
    let entry = Arc::clone(host.registry.snapshot().entry(&id(0)).unwrap());
    assert_eq!(entry.options_state(), OptionsState::Applied);
    host.apply(OnBindError::Retry).await;
    [after_change, done(&mut host)]
}

#[tokio::test]
async fn one_change_costs_the_same_however_many_instances_there_are() {
    let few = work_after_one_change(10).await;
    let one_instance = DoneWork {
        attachments: 1,
        instances: 1,
        listeners: 0,
    };
    assert_eq!(few, [one_instance, DoneWork::default()]);
    assert_eq!(work_after_one_change(10_000).await, few);
}

/// Nothing failed: a start or a reload stores it soon.
#[tokio::test]
async fn the_attachments_of_an_instance_that_is_being_registered_wait() {
    let mut host = Host::new(vec![listener("plain", 0, None, false)]);
    let mut new = demo_instance();
    new.imds.attachments = vec![Attachment::Listener("plain".into()).into()];
    let document = Arc::new(Document::of(new.clone()));
    host.registry.reserve_new(&[document]).await;
    host.check("reserved").await;
    let status = host.listeners.published.load();
    let states = [AttachmentState::Waiting, AttachmentState::Quarantined];
    assert_eq!(states.map(|state| status.attachments_in(state)), [1, 0]);
    let registered = host.registry.register(new, Moment::now().wall);
    registered.await.unwrap();
    host.check("registered").await;
    let status = host.listeners.published.load();
    let states = [AttachmentState::Waiting, AttachmentState::Open];
    assert_eq!(states.map(|state| status.attachments_in(state)), [0, 1]);
}

/// A guest can close the sockets of a network namespace that it controls.
#[tokio::test]
async fn a_socket_that_the_kernel_closed_is_opened_again() {
    let mut host = Host::new(vec![listener("plain", 0, None, false)]);
    host.check("the start").await;
    let key = ListenerKey::Listener("plain".into());
    let address = host.listeners.open[&key].sockets[0].address;
    host.listeners.open[&key].sockets[0].end();
    host.listeners.ended.send.send(key.clone()).unwrap();
    assert!(!host.listeners.open[&key].sockets[0].is_open());
    // The guest thread still has to close it.
    let is_open = |host: &Host| host.listeners.open[&key].sockets[0].is_open();
    for _ in 0..1000 {
        host.check("the end of a socket").await;
        if is_open(&host) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(is_open(&host));
    let socket = &host.listeners.open[&key].sockets[0];
    assert_eq!(socket.address, address);
}

/// A change that is interrupted, and its changes taken, is made up for by the next.
#[tokio::test]
async fn an_interrupted_call_loses_nothing() {
    let mut host = Host::new(vec![listener("lan", 0, None, true)]);
    host.check("the start").await;
    register(&host, 300).await;
    let mut interrupted = 0;
    while interrupted < 1000 {
        let Host {
            listeners,
            registry,
            links,
            limits,
            ..
        } = &mut host;
        let mut apply = Box::pin(listeners.apply(registry, links, limits, OnBindError::Leave));
        // One poll more each time, until it comes to its end.
        let mut is_done = false;
        for _ in 0..=interrupted {
            is_done = std::future::poll_fn(|context| {
                std::task::Poll::Ready(apply.as_mut().poll(context).is_ready())
            })
            .await;
            if is_done {
                break;
            }
        }
        if is_done {
            break;
        }
        interrupted += 1;
    }
    assert!(interrupted > 3, "it yields to others");
    host.check("interrupted calls").await;
}
