//! Interfaces that go and come under traffic, while other guests are read.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::imdsd::{Imdsd, MANAGE, id, on_interface, with_addresses, with_option};
use crate::lab::{Door, HOST, INSTANCE_ID, IPV4, IPV6, Lab, Lines, Wire, get, spread};
use crate::support::{PATIENCE, is_root, skip};

const ROUNDS: usize = 50;
/// Between two reads of the guest that is left alone: 200 a second.
const PACE: Duration = Duration::from_millis(5);
/// How long one try may take of the guest whose interface has just come up.
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

/// Reads at an even pace until it is told to stop: how often, and what went wrong.
fn read_steadily(door: &Door, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (started, mut count, mut failures) = (Instant::now(), 0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let address = if count % 2 == 0 { IPV4 } else { IPV6 };
        match door.try_ask(address, &get(INSTANCE_ID), PATIENCE) {
            Ok(answer) if answer.body == id(1) => {}
            Ok(answer) => failures.push(format!("{address}: {:?}", answer.raw)),
            Err(reason) => failures.push(format!("{address}: {reason}")),
        }
        count += 1;
        // The pace is what is asked for here; nothing waits for it.
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

/// Times from the link's going up on the host to the guest's first answer, by IPv4.
fn go_and_come(
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
    let [coming, traffic] = [(); 2].map(|()| lab.door(COMES_AND_GOES.guest));
    let steady = lab.door(STAYS.guest);
    crate::lab::eventually("the other guest is served", || {
        steady.get(IPV6, INSTANCE_ID).body == id(1)
    });
    // One process that sets links up: starting one takes longer than what is measured.
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
        // The scope waits for the others, when this fails too.
        let _stop = StopsAtTheEnd(&stop);
        for _ in 0..ROUNDS {
            let wire = plug_in(lab);
            // A guest that asks for a neighbour once a second would measure its own patience.
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
            "{test}: {ROUNDS} times deleted and made again, {served} other reads of that guest; from link up to the first \
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
fn an_interface_that_comes_and_goes_is_served_and_its_neighbours_do_not_notice() {
    let test = "a veth";
    let Some(lab) = Lab::new(test) else { return };
    let Wire {
        guest, tap, mac, ..
    } = COMES_AND_GOES;
    let add = format!("ip link add {tap} type veth peer name eth0 address {mac} netns {guest}");
    go_and_come(
        test,
        &lab,
        |lab| {
            lab.sh(HOST, &add);
            None
        },
        |lab, _| drop(lab.sh(HOST, "ip link del tap0")),
    );
}

/// The same as a hypervisor does it: a tap that is made when a machine starts and vanishes with it.
#[test]
fn a_tap_that_comes_and_goes_is_served_and_its_neighbours_do_not_notice() {
    let test = "a tap";
    let Some(lab) = Lab::new(test) else { return };
    let opened = lab
        .command(HOST, "sh")
        .args(["-c", ": <> /dev/net/tun"])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    if !opened.success() {
        let who = if is_root() {
            "this kernel has no tap"
        } else {
            "only root may make a tap here"
        };
        return skip(test, who);
    }
    go_and_come(
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
        // The hypervisor ends, and its tap with it.
        |_, wire| drop(wire),
    );
}
