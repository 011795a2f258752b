//! What is measured: an HTTP address, as a URL names it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// EC2's IPv6 address of the metadata service.
const EC2_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// An address that requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BenchTarget {
    /// The URL as it was given, without a slash at its end.
    pub(crate) url: String,
    /// The value of the Host header.
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
}

impl BenchTarget {
    /// Returns whether the address belongs to this machine or this link: no request leaves it.
    pub(crate) fn is_local(&self) -> bool {
        match self.address.ip() {
            IpAddr::V4(address) => is_local_v4(address),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(mapped) => is_local_v4(mapped),
                None => {
                    address.is_loopback() || address.is_unicast_link_local() || address == EC2_IPV6
                }
            },
        }
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_link_local()
}

impl fmt::Display for BenchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl FromStr for BenchTarget {
    type Err = String;

    /// Reads `http://HOST[:PORT]`. A name must have one address, or several of which the first is
    /// used.
    fn from_str(url: &str) -> Result<BenchTarget, String> {
        let expected = "expected a URL such as http://169.254.169.254 or http://127.0.0.1:1338";
        let url = url.trim_end_matches('/');
        let host = match url.split_once("://") {
            Some(("http", host)) => host,
            Some(("https", _)) => {
                return Err("a metadata service speaks plain HTTP: use http://".to_string());
            }
            _ => return Err(expected.to_string()),
        };
        if host.is_empty() || host.bytes().any(|byte| b"/?#@ ".contains(&byte)) {
            return Err(format!("{expected}; --path is the path that is read"));
        }
        // `[::1]` and `127.0.0.1` have no port, `[::1]:80` and `127.0.0.1:80` have one.
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        let socket = match has_port {
            true => host.to_string(),
            false => format!("{host}:80"),
        };
        let mut addresses = socket
            .to_socket_addrs()
            .map_err(|reason| format!("{socket}: {reason}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{socket} has no address"))?;
        Ok(BenchTarget {
            url: url.to_string(),
            host: host.to_string(),
            address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_perhaps_a_port() {
        for (url, host, address) in [
            ("http://127.0.0.1:1338", "127.0.0.1:1338", "127.0.0.1:1338"),
            (
                "http://169.254.169.254/",
                "169.254.169.254",
                "169.254.169.254:80",
            ),
            (
                "http://[fd00:ec2::254]",
                "[fd00:ec2::254]",
                "[fd00:ec2::254]:80",
            ),
            ("http://[::1]:8080", "[::1]:8080", "[::1]:8080"),
        ] {
            let target: BenchTarget = url.parse().unwrap();
            assert_eq!(target.host, host);
            assert_eq!(target.address, address.parse().unwrap());
            assert!(target.is_local(), "{url}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_form_that_is_expected() {
        for url in [
            "",
            "127.0.0.1:1338",
            "ftp://127.0.0.1",
            "http://",
            "https://127.0.0.1",
            "http://127.0.0.1/latest/meta-data",
            "http://user@127.0.0.1",
            "http://127.0.0.1:99999",
            "http://127.0.0.1?x",
        ] {
            assert!(url.parse::<BenchTarget>().is_err(), "{url}");
        }
    }

    #[test]
    fn addresses_beyond_this_machine_and_its_links_are_not_local() {
        for url in [
            "http://10.0.0.1",
            "http://192.0.2.1:80",
            "http://[2001:db8::1]",
            "http://[fd00:ec2::253]",
            "http://[::ffff:10.0.0.1]",
            "http://0.0.0.0",
        ] {
            assert!(!url.parse::<BenchTarget>().unwrap().is_local(), "{url}");
        }
    }
}
