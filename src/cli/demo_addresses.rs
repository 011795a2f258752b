//! `--listen` and `--control`: the loopback addresses of a demo.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use clap::Args;

use super::demo::Demo;

/// Where a demo listens.
#[derive(Args)]
pub(super) struct DemoAddresses {
    /// Serve the demo's metadata at this port of 127.0.0.1 and ::1, or at this loopback address and
    /// port, such as 8080 or 127.0.0.2:8080 [default: 1338, or the port of the mock's configuration]
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = demo_address, conflicts_with = "config")]
    listen: Option<DemoAddress>,

    /// Serve the demo's EC2 API at this port of 127.0.0.1, or at this loopback address and port, such
    /// as 8081 [default: the port after that of the metadata]
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = demo_address, conflicts_with = "config")]
    control: Option<DemoAddress>,
}

/// A port of every loopback address, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DemoAddress {
    Port(u16),
    Address(SocketAddr),
}

impl DemoAddresses {
    /// Moves a demo to the addresses that were given.
    pub(super) fn apply(&self, demo: &mut Demo) {
        if let Some(address) = self.listen {
            let listener = &mut demo.config.listeners[0];
            (listener.ipv4, listener.ipv6) = address.per_family();
        }
        let next_port = self
            .listen
            .and_then(|address| address.port().checked_add(1));
        let control = match (self.control, next_port) {
            (Some(DemoAddress::Address(address)), _) => Some(address),
            (Some(DemoAddress::Port(port)), _) | (None, Some(port)) => {
                Some((Ipv4Addr::LOCALHOST, port).into())
            }
            (None, None) => None,
        };
        if let (Some(settings), Some(listen)) = (&mut demo.config.control, control) {
            settings.listen = listen;
        }
    }
}

impl DemoAddress {
    fn port(self) -> u16 {
        match self {
            DemoAddress::Port(port) => port,
            DemoAddress::Address(address) => address.port(),
        }
    }

    fn per_family(self) -> (Option<SocketAddrV4>, Option<SocketAddrV6>) {
        match self {
            DemoAddress::Port(port) => (
                Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)),
                Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)),
            ),
            DemoAddress::Address(SocketAddr::V4(address)) => (Some(address), None),
            DemoAddress::Address(SocketAddr::V6(address)) => (None, Some(address)),
        }
    }
}

/// Parses a port or a loopback address. A demo has credentials that anybody knows, so the network
/// never sees it.
fn demo_address(text: &str) -> Result<DemoAddress, String> {
    const EXPECTED: &str = "expected a port from 1 to 65535, such as 8080, or an address and a port, \
                            such as 127.0.0.2:8080";
    let address = match text.parse::<u16>() {
        Ok(port) => DemoAddress::Port(port),
        Err(_) => DemoAddress::Address(text.parse().map_err(|_| EXPECTED)?),
    };
    match address {
        _ if address.port() == 0 => Err(EXPECTED.to_string()),
        DemoAddress::Address(address) if !address.ip().is_loopback() => Err(format!(
            "{} is not a loopback address; for guests elsewhere write a configuration (--config) with \
             a [[listener]], and an instance document",
            address.ip()
        )),
        address => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_moves_to_the_given_loopback_addresses() {
        for (listen, control, ipv4, ipv6, ec2) in [
            (
                None,
                None,
                Some("127.0.0.1:1338"),
                Some("[::1]:1338"),
                "127.0.0.1:1339",
            ),
            (
                Some("8080"),
                None,
                Some("127.0.0.1:8080"),
                Some("[::1]:8080"),
                "127.0.0.1:8081",
            ),
            (
                None,
                Some("8081"),
                Some("127.0.0.1:1338"),
                Some("[::1]:1338"),
                "127.0.0.1:8081",
            ),
            (
                Some("127.0.0.2:80"),
                Some("[::1]:9"),
                Some("127.0.0.2:80"),
                None,
                "[::1]:9",
            ),
            (
                Some("[::1]:8080"),
                None,
                None,
                Some("[::1]:8080"),
                "127.0.0.1:8081",
            ),
        ] {
            let parse = |text: &str| demo_address(text).unwrap();
            let addresses = DemoAddresses {
                listen: listen.map(parse),
                control: control.map(parse),
            };
            let mut demo = Demo::built_in();
            addresses.apply(&mut demo);
            let listener = &demo.config.listeners[0];
            let case = format!("{listen:?} {control:?}");
            assert_eq!(
                listener.ipv4,
                ipv4.map(|text| text.parse().unwrap()),
                "{case}"
            );
            assert_eq!(
                listener.ipv6,
                ipv6.map(|text| text.parse().unwrap()),
                "{case}"
            );
            let settings = demo.config.control.unwrap();
            assert_eq!(settings.listen, ec2.parse().unwrap(), "{case}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for (text, expected) in [
            ("0", "a port from 1"),
            ("65536", "a port from 1"),
            ("http", "a port from 1"),
            ("127.0.0.1", "a port from 1"),
            ("127.0.0.1:0", "a port from 1"),
            ("localhost:80", "a port from 1"),
            ("0.0.0.0:80", "0.0.0.0 is not a loopback address"),
            ("[::]:80", ":: is not a loopback address"),
            ("169.254.169.254:80", "is not a loopback address"),
            ("[::ffff:127.0.0.1]:80", "is not a loopback address"),
        ] {
            let refused = demo_address(text).unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
