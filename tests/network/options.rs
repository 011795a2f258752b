//! The AWS CLI on the host changes options, and two guests on interfaces of their own observe the
//! effect.

use std::cell::RefCell;
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use crate::imdsd::{CHECK, Imdsd, id, on_interface, with_option};
use crate::lab::{
    HOST, INSTANCE_ID, IPV4, IPV6, Lab, Sniffer, SocketOpener, Wire, get, get_with, request_on,
};
use crate::support::{ACCESS_KEY, Namespace, TOKEN_REQUEST, venv_python};

struct Guest {
    socket: SocketOpener,
    sniffer: RefCell<Sniffer>,
}

impl Guest {
    /// Returns the TTL with which the token answer arrives.
    fn ttl_of_a_token(&self) -> u8 {
        use std::io::Write as _;
        let mut stream = self.socket.connect(IPV4).unwrap();
        let port = stream.local_addr().unwrap().port();
        stream.write_all(TOKEN_REQUEST.as_bytes()).unwrap();
        let answer = |segment: &&crate::lab::Segment| {
            segment.target_port == port && !segment.payload.is_empty()
        };
        let mut sniffer = self.sniffer.borrow_mut();
        let seen = sniffer.wait_for(|seen| seen.iter().any(|segment| answer(&segment)));
        seen.iter().find(answer).unwrap().hops
    }
}

fn aws(lab: &Lab, aws: &Path, home: &Path, arguments: &[&str]) -> Value {
    let mut command = lab.command(HOST, aws);
    command
        .env("HOME", home)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
        .arg("ec2")
        .args(arguments)
        .args([
            "--region",
            "us-east-1",
            "--output",
            "json",
            "--endpoint-url",
        ])
        .arg(format!("http://{}", Namespace::CONTROL));
    let said = command.output().unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
#[ignore = "needs network namespaces, nft, and the AWS CLI in .venv; tests/all runs it"]
fn a_change_applies_to_the_next_request_of_that_guest_and_to_no_other() {
    let python = venv_python();
    let cli = python.with_file_name("aws");
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
        ipv4: Some("10.0.0.6/24"),
        ipv6: Some("fd11::6/64"),
    };
    for (wire, ipv6) in [(&one, "fd11::5"), (&two, "fd11::6")] {
        lab.guest(wire);
        lab.serve_on(wire.tap);
        lab.sh(HOST, &format!("ip -6 route add {ipv6} dev {}", wire.tap));
    }
    // The AWS CLI may take longer than the default idle timeout of a kept-alive connection.
    let config = format!("{CHECK}[guest]\nhead_seconds = 60\n");
    let instances = [on_interface(1, "tap1"), on_interface(2, "tap2")];
    let imdsd = Imdsd::start(
        &lab,
        &config,
        &instances.map(|instance| with_option(instance, "HttpProtocolIpv6", "disabled")),
    );
    let guest = |name| Guest {
        socket: lab.sockets(name),
        sniffer: RefCell::new(lab.sniff(name, "eth0")),
    };
    let (changed, neighbour) = (guest("g1"), guest("g2"));
    // The token was issued before the first change.
    let token = neighbour.socket.token(IPV4);
    let mut kept_reads = 0;
    let mut read_on = |kept: &mut TcpStream, when: &str| {
        let answer = request_on(kept, &get_with(INSTANCE_ID, &token))
            .unwrap_or_else(|reason| panic!("{when}: {reason}"));
        assert_eq!(answer.body, id(2), "{when}");
        kept_reads += 1;
    };

    let tokens = |guest: &Guest| guest.socket.get(IPV4, INSTANCE_ID).status.to_string();
    let hops = |guest: &Guest| format!("TTL {}", guest.ttl_of_a_token());
    let tags = |guest: &Guest| {
        guest
            .socket
            .get_with(
                IPV4,
                "/latest/meta-data/tags/instance/Name",
                &guest.socket.token(IPV4),
            )
            .status
            .to_string()
    };
    let ipv6 = |guest: &Guest| match guest.socket.connect(IPV6) {
        Ok(_) => guest.socket.ask(IPV6, &get("/")).status.to_string(),
        Err(reason) => reason.kind().to_string(),
    };
    let endpoint = |guest: &Guest| guest.socket.ask(IPV4, TOKEN_REQUEST).status.to_string();
    type Effect<'a> = &'a dyn Fn(&Guest) -> String;
    // HttpEndpoint comes last: a disabled endpoint answers no request.
    let rows: [(&str, &str, Effect<'_>, [&str; 2]); 5] = [
        (
            "http-put-response-hop-limit",
            "5",
            &hops,
            ["TTL 2", "TTL 5"],
        ),
        (
            "http-protocol-ipv6",
            "enabled",
            &ipv6,
            ["connection refused", "401"],
        ),
        ("http-tokens", "optional", &tokens, ["401", "200"]),
        ("instance-metadata-tags", "enabled", &tags, ["404", "200"]),
        ("http-endpoint", "disabled", &endpoint, ["200", "403"]),
    ];
    println!("| option | change | changed guest | its neighbour |\n|---|---|---|---|");
    for (option, value, effect, [seen_before, seen_after]) in rows {
        // A connection that stays open during the change. None may live longer than a minute, which
        // the calls may take.
        let mut kept = neighbour.socket.connect(IPV4).unwrap();
        read_on(&mut kept, option);
        assert_eq!(effect(&changed), seen_before, "{option}: before");
        assert_eq!(
            effect(&neighbour),
            seen_before,
            "{option}: the neighbour before"
        );
        let flag = format!("--{option}");
        let arguments = [
            "modify-instance-metadata-options",
            "--instance-id",
            &id(1),
            &flag,
            value,
        ];
        aws(&lab, &cli, imdsd.directory.path(), &arguments);
        assert_eq!(effect(&changed), seen_after, "{option}={value}");
        assert_eq!(
            effect(&neighbour),
            seen_before,
            "{option}={value}: the neighbour"
        );
        println!("| {option} | {value} | {seen_before} → {seen_after} | {seen_before} |");
        read_on(&mut kept, option);
    }
    println!("the neighbour's connections were kept open over the changes for {kept_reads} reads");
}
