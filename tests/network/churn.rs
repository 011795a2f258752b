//! Interfaces that disappear and appear under traffic, while another guest keeps reading.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::imdsd::{Imdsd, MANAGE, id, on_interface, with_addresses, with_option};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, Lines, SocketOpener, Wire, get, spread};
use crate::support::{PATIENCE, require};

const ROUNDS: usize = 50;
/// The interval between two reads of the other guest: 200 a second.
const PACE: Duration = Duration::from_millis(5);
/// How long one attempt may take for the guest whose interface has just come up.
const TRY: Duration = Duration::from_millis(50);

const COMES_AND_GOES: Wire<'_> = Wire {
    guest: "g0",
    tap: "tap0",
    mac: "02:00:00:00:00:10",
    ipv4: Some("10.0.0.5/24"),
    ipv6: Some("fd11::5/64"),
};
const STAYS: Wire<'_> = Wire {
    guest: "g1",
    tap: "tap1",
    mac: "02:00:00:00:00:01",
    ..COMES_AND_GOES
};

/// Reads at a steady pace until `stop` is set. Returns the number of reads and the failures.
fn read_steadily(socket: &SocketOpener, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (started, mut count, mut failures) = (Instant::now(), 0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let address = if count % 2 == 0 { IPV4 } else { IPV6 };
        match socket.try_ask(address, &get(INSTANCE_ID), PATIENCE) {
            Ok(answer) if answer.body == id(1) => {}
            Ok(answer) => failures.push(format!("{address}: {:?}", answer.raw)),
            Err(reason) => failures.push(format!("{address}: {reason}")),
        }
        count += 1;
        // Only keeps the pace; no condition is awaited.
        std::thread::sleep((started + PACE * count).saturating_duration_since(Instant::now()));
    }
    (count as usize, failures)
}

struct StopsAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Deletes and creates the interface of a guest many times, and measures the time from link up on
/// the host to the guest's first answer by IPv4.
fn delete_and_create(
    test: &str,
    lab: &Lab,
    mut plug_in: impl FnMut(&Lab) -> Option<Lines>,
    unplug: impl Fn(&Lab, Option<Lines>),
) {
    lab.add(COMES_AND_GOES.guest);
    lab.guest(&STAYS);
    let instances = [(0, &COMES_AND_GOES), (1, &STAYS)].map(|(number, wire)| {
        let instance = with_addresses(
            on_interface(number, wire.tap),
            wire.mac,
            "10.0.0.5",
            "fd11::5",
        );
        with_option(instance, "HttpTokens", "optional")
    });
    let _imdsd = Imdsd::start(lab, MANAGE, &instances);
    let [coming, traffic] = [(); 2].map(|()| lab.sockets(COMES_AND_GOES.guest));
    let steady = lab.sockets(STAYS.guest);
    crate::lab::eventually("the other guest is served", || {
        steady.get(IPV6, INSTANCE_ID).body == id(1)
    });
    // One process sets all links up: starting a process takes longer than the measured time.
    let mut links = lab.command(HOST, "ip");
    let mut links = links
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut link = links.stdin.take().unwrap();

    let stop = AtomicBool::new(false);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let steady = scope.spawn(|| read_steadily(&steady, &stop));
        let traffic = scope.spawn(|| {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                match traffic.try_ask(IPV4, &get("/latest/user-data"), TRY) {
                    Ok(answer) if answer.status == 200 => served += 1,
                    // Without an interface every try fails at once.
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            served
        });
        // The scope waits for the other threads, also when this one fails.
        let _stop = StopsAtTheEnd(&stop);
        for _ in 0..ROUNDS {
            let wire = plug_in(lab);
            // With the default interval of a second between neighbour requests, the guest would
            // dominate the time.
            lab.sh(
                COMES_AND_GOES.guest,
                "sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=5",
            );
            lab.address(&COMES_AND_GOES);
            let up = Instant::now();
            writeln!(link, "link set tap0 up").unwrap();
            let deadline = up + PATIENCE;
            while !coming
                .try_ask(IPV4, &get(INSTANCE_ID), TRY)
                .is_ok_and(|answer| answer.body == id(0))
            {
                if Instant::now() > deadline {
                    panic!("not served after {PATIENCE:?}; {} rounds were", times.len());
                }
            }
            times.push(up.elapsed());
            unplug(lab, wire);
        }
        stop.store(true, Ordering::Relaxed);
        let (count, failures) = steady.join().unwrap();
        let served = traffic.join().unwrap();
        println!(
            "{test}: {ROUNDS} times deleted and created again, {served} other reads of that guest; from link up to the first \
             answer: {}; the other guest: {count} reads, {} failures",
            spread(&times),
            failures.len()
        );
        assert_eq!(failures, Vec::<String>::new());
        assert!(count > 50, "{count}");
    });
    drop(link);
    links.wait().unwrap();
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn an_interface_that_is_recreated_is_served_and_other_guests_are_not_affected() {
    let test = "a veth";
    let lab = Lab::new();
    let Wire {
        guest, tap, mac, ..
    } = COMES_AND_GOES;
    let add = format!("ip link add {tap} type veth peer name eth0 address {mac} netns {guest}");
    delete_and_create(
        test,
        &lab,
        |lab| {
            lab.sh(HOST, &add);
            None
        },
        |lab, _| drop(lab.sh(HOST, "ip link del tap0")),
    );
}

/// Like a hypervisor: the tap is created when a machine starts and disappears when it ends.
#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_tap_that_is_recreated_is_served_and_other_guests_are_not_affected() {
    let test = "a tap";
    let lab = Lab::new();
    let opened = lab
        .command(HOST, "sh")
        .args(["-c", ": <> /dev/net/tun"])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    require(opened.success(), "root, and a kernel with tap devices");
    delete_and_create(
        test,
        &lab,
        |lab| {
            let wire = Lines::of(
                lab.script(HOST, "tap_wire.py")
                    .args([COMES_AND_GOES.tap, COMES_AND_GOES.guest]),
            );
            wire.next(PATIENCE).expect("the wire is there");
            Some(wire)
        },
        // The hypervisor ends, and with it its tap.
        |_, wire| drop(wire),
    );
}
