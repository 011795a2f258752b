//! The hop limit as packets carry it: a client that drops packets below a minimum TTL is the measuring instrument.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use crate::support::{Daemon, PATIENCE, TOKEN_REQUEST, read_to_end};

/// How long to listen for an answer that must not come: several of the kernel's retransmissions.
pub const LISTEN: Duration = Duration::from_secs(2);

/// Linux: packets of a connection that arrive with a lower TTL (hop limit) are dropped.
pub fn demand(stream: &TcpStream, address: SocketAddr, minimum: u8) {
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

/// What a client gets that demands a minimum TTL of every packet after the handshake.
fn ask_demanding(address: SocketAddr, minimum: u8, request: &str, patience: Duration) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    demand(&stream, address, minimum);
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
fn a_token_answer_travels_as_far_as_the_hop_limit_and_no_farther() {
    let daemon = with_limit(5);
    let get = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n\r\n";
    for address in [daemon.ipv4, daemon.ipv6] {
        let near = ask_demanding(address, 5, TOKEN_REQUEST, PATIENCE);
        assert!(near.starts_with("HTTP/1.1 200 OK"), "{address}: {near:?}");
        let far = ask_demanding(address, 6, TOKEN_REQUEST, LISTEN);
        assert_eq!(far, "", "{address}: not a byte, resent ones included");
        let get = ask_demanding(address, 64, get, PATIENCE);
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
fn refusals_of_a_put_are_limited_too() {
    let daemon = with_limit(3);
    let refused = "PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\n\r\n";
    assert!(ask_demanding(daemon.ipv4, 3, refused, PATIENCE).starts_with("HTTP/1.1 400 "));
    assert_eq!(ask_demanding(daemon.ipv4, 4, refused, LISTEN), "");
}

/// A GET that follows a PUT on one connection stays under the PUT's limit: raising it again would free resent token bytes.
#[test]
fn the_limit_is_never_raised_again_on_a_connection() {
    let daemon = with_limit(2);
    let put = "PUT /nope HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n";
    let get = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n\r\n";
    let near = ask_demanding(daemon.ipv4, 2, &format!("{put}{get}"), PATIENCE);
    assert!(
        near.contains("403") && near.ends_with("i-0123456789abcdef0"),
        "{near:?}"
    );
    assert_eq!(
        ask_demanding(daemon.ipv4, 3, &format!("{put}{get}"), LISTEN),
        ""
    );
}

/// `100 Continue` is a packet of the answer too.
#[test]
fn a_continue_to_a_put_is_limited_too() {
    let daemon = with_limit(3);
    let put = TOKEN_REQUEST.trim_end();
    let expecting = format!("{put}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(ask_demanding(daemon.ipv4, 4, &expecting, LISTEN), "");
    assert!(ask_demanding(daemon.ipv4, 3, &expecting, LISTEN).starts_with("HTTP/1.1 100 Continue"));
}
