//! The hop limit in packets, measured by a client that drops packets with a TTL below a minimum.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use crate::support::{Daemon, PATIENCE, TOKEN_REQUEST, read_to_end};

/// How long to wait for an answer that must not arrive: several retransmissions of the kernel.
pub const LISTEN: Duration = Duration::from_secs(2);

/// Makes the kernel drop packets of a connection that arrive with a lower TTL or hop limit:
/// IP_MINTTL (ip(7)) and IPV6_MINHOPCOUNT.
pub fn set_minimum_ttl(stream: &TcpStream, address: SocketAddr, minimum: u8) {
    const IPV6_MINHOPCOUNT: i32 = 73;
    const IP_MINTTL: i32 = 21;
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, IP_MINTTL),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT),
    };
    let value = i32::from(minimum);
    // SAFETY: the descriptor is open, and the option is an int that outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

/// Returns what a client receives that drops packets below a minimum TTL after the handshake.
fn ask_with_minimum(address: SocketAddr, minimum: u8, request: &str, patience: Duration) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    set_minimum_ttl(&stream, address, minimum);
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    read_to_end(&mut stream)
}

fn with_limit(limit: u8) -> Daemon {
    Daemon::start(move |instance| {
        let options = &mut instance["MetadataOptions"];
        options["HttpTokens"] = "optional".into();
        options["HttpProtocolIpv6"] = "enabled".into();
        options["HttpPutResponseHopLimit"] = limit.into();
    })
}

#[test]
fn a_token_answer_travels_exactly_as_far_as_the_hop_limit() {
    let daemon = with_limit(5);
    let get = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n\r\n";
    for address in [daemon.ipv4, daemon.ipv6] {
        let near = ask_with_minimum(address, 5, TOKEN_REQUEST, PATIENCE);
        assert!(near.starts_with("HTTP/1.1 200 OK"), "{address}: {near:?}");
        let far = ask_with_minimum(address, 6, TOKEN_REQUEST, LISTEN);
        assert_eq!(far, "", "{address}: no byte, retransmissions included");
        let get = ask_with_minimum(address, 64, get, PATIENCE);
        assert!(
            get.ends_with("i-0123456789abcdef0"),
            "{address}: a GET's answer is not limited: {get:?}"
        );
        println!(
            "{address}: minimum 5: token; minimum 6: {} bytes; GET with minimum 64: answered",
            far.len()
        );
    }
}

#[test]
fn refusals_of_a_put_have_the_hop_limit_too() {
    let daemon = with_limit(3);
    let refused = "PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\n\r\n";
    assert!(ask_with_minimum(daemon.ipv4, 3, refused, PATIENCE).starts_with("HTTP/1.1 400 "));
    assert_eq!(ask_with_minimum(daemon.ipv4, 4, refused, LISTEN), "");
}

/// A GET after a PUT on the same connection keeps the limit of the PUT. If the limit were raised,
/// retransmitted bytes of a token could travel farther.
#[test]
fn the_hop_limit_of_a_connection_is_never_raised() {
    let daemon = with_limit(2);
    let put = "PUT /nope HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n";
    let get = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n\r\n";
    let near = ask_with_minimum(daemon.ipv4, 2, &format!("{put}{get}"), PATIENCE);
    assert!(
        near.contains("403") && near.ends_with("i-0123456789abcdef0"),
        "{near:?}"
    );
    assert_eq!(
        ask_with_minimum(daemon.ipv4, 3, &format!("{put}{get}"), LISTEN),
        ""
    );
}

/// `100 Continue` is part of the answer too.
#[test]
fn a_100_continue_to_a_put_has_the_hop_limit_too() {
    let daemon = with_limit(3);
    let put = TOKEN_REQUEST.trim_end();
    let expecting = format!("{put}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(ask_with_minimum(daemon.ipv4, 4, &expecting, LISTEN), "");
    assert!(
        ask_with_minimum(daemon.ipv4, 3, &expecting, LISTEN).starts_with("HTTP/1.1 100 Continue")
    );
}
