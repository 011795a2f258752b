//! The connection limit applies to each guest, however many addresses it has.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};

use crate::imdsd::{CHECK, Imdsd, id, on_interface, with_option};
use crate::lab::{HOST, INSTANCE_ID, IPV4, IPV6, Lab, Wire, eventually, get, request_on};
use crate::support::PATIENCE;

const MOST: usize = 8;

fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    matches!(stream.read(&mut [0; 64]), Err(reason) if reason.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
#[ignore = "needs network namespaces, iproute2, nft and python3; tests/all runs it"]
fn a_guest_with_many_addresses_has_one_connection_limit_and_does_not_affect_other_guests() {
    let lab = Lab::new();
    let one = Wire {
        guest: "g1",
        tap: "tap1",
        mac: "02:00:00:00:00:01",
        ipv4: Some("10.0.0.5/24"),
        ipv6: Some("fd11::5/64"),
    };
    let two = Wire {
        guest: "g2",
        tap: "tap2",
        mac: "02:00:00:00:00:02",
        ..one
    };
    for (wire, metric) in [(&one, 1), (&two, 2)] {
        lab.guest(wire);
        lab.serve_on(wire.tap);
        lab.sh(
            HOST,
            &format!("ip -6 route add fd11::5 dev {} metric {metric}", wire.tap),
        );
    }
    let sources: Vec<String> = (0..6)
        .map(|last| format!("10.0.0.{}:0", 100 + last))
        .collect();
    for source in &sources {
        lab.sh(
            "g1",
            &format!(
                "ip address add {}/24 dev eth0",
                source.trim_end_matches(":0")
            ),
        );
    }
    let config = format!("{CHECK}[guest]\nconnections = {MOST}\nhead_seconds = 60\n");
    let instances = [on_interface(1, "tap1"), on_interface(2, "tap2")];
    let _imdsd = Imdsd::start(
        &lab,
        &config,
        &instances.map(|one| with_option(one, "HttpTokens", "optional")),
    );
    let (greedy, modest) = (lab.sockets("g1"), lab.sockets("g2"));
    let mut kept: Vec<TcpStream> = (0..MOST - 1)
        .map(|_| modest.connect(IPV4).unwrap())
        .collect();

    let mut streams = Vec::new();
    for round in 0..5 * MOST {
        // IPv6 connections count too.
        let stream = match round % (sources.len() + 1) {
            6 => greedy.connect(IPV6).unwrap(),
            number => {
                let from: SocketAddr = sources[number].parse().unwrap();
                greedy.connect_as(Some(from), IPV4, PATIENCE).unwrap()
            }
        };
        streams.push(stream);
    }
    let count =
        |streams: &mut [TcpStream]| streams.iter_mut().map(is_open).filter(|open| *open).count();
    eventually("only so many are left open", || count(&mut streams) <= MOST);
    let left = count(&mut streams);
    println!(
        "{} connections from {} addresses: {left} left open",
        streams.len(),
        sources.len() + 1
    );
    // The newest connections remain, and a new one is still accepted.
    assert!(
        left >= MOST / 2 && is_open(streams.last_mut().unwrap()),
        "{left}"
    );
    assert_eq!(greedy.get(IPV4, INSTANCE_ID).body, id(1));

    assert_eq!(
        count(&mut kept),
        MOST - 1,
        "the other guest's connections are all there"
    );
    let mut oldest = kept.remove(0);
    oldest.set_nonblocking(false).unwrap();
    assert_eq!(
        request_on(&mut oldest, &get(INSTANCE_ID)).unwrap().body,
        id(2)
    );
    assert_eq!(modest.get(IPV6, INSTANCE_ID).body, id(2));
}
