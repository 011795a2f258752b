//! What `imdsd` serves without a configuration.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::path::Path;

use crate::config::settings::{
    AccessKeySource, CONTROL_LISTEN, Config, ControlEndpointSettings, DEMO_LISTENER, DEMO_PORT,
    GuestSettings, IdentitySettings, ListenerSettings, LogSettings,
};
use crate::document;
use crate::instance::{Images, Instance};
use crate::sigv4::Regions;

impl Config {
    /// Returns the configuration of the demo: one instance on loopback, without root, with nothing
    /// kept on disk.
    pub fn demo() -> Config {
        Config {
            instances: None,
            state_directory: None,
            runtime_directory: None,
            guest: GuestSettings::default(),
            listeners: vec![ListenerSettings {
                name: DEMO_LISTENER.to_string(),
                ipv4: Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, DEMO_PORT)),
                ipv6: Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, DEMO_PORT, 0, 0)),
                interface: None,
                anti_spoofed: false,
                extra_hops: 0,
            }],
            interfaces: None,
            images: Images::default(),
            control: Some(ControlEndpointSettings {
                listen: CONTROL_LISTEN,
                tls: None,
                access_keys: AccessKeySource::Demo,
                regions: Regions::Any,
            }),
            admin: None,
            identity: IdentitySettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// Returns the instance that the demo serves.
pub fn demo_instance() -> Instance {
    const TEXT: &str = include_str!("../../config/demo-instance.json");
    let mut instances = document::read(Path::new("demo-instance.json"), TEXT)
        .expect("the built-in document is valid");
    instances.remove(0)
}
