//! Why a configuration does not serve an attachment. The check of documents and the reconciler
//! report the same reasons.

use crate::config::{Config, InterfaceSettings, ListenerSettings};
use crate::document::near_miss;
use crate::instance::{Attachment, BridgePort, SourceAddress};

/// The settings that decide which attachments are served.
#[derive(Clone, Copy)]
pub(super) struct AttachmentSettings<'c> {
    /// The listeners of the configuration.
    pub listeners: &'c [ListenerSettings],
    /// The table `[interfaces]`.
    pub interfaces: Option<&'c InterfaceSettings>,
}

impl<'c> From<&'c Config> for AttachmentSettings<'c> {
    fn from(config: &'c Config) -> Self {
        AttachmentSettings {
            listeners: &config.listeners,
            interfaces: config.interfaces.as_ref(),
        }
    }
}

impl AttachmentSettings<'_> {
    /// Returns why no instance can be served at `attachment`; `None` if one can.
    pub(super) fn unserved_reason(&self, attachment: &Attachment) -> Option<String> {
        match attachment {
            Attachment::Listener(name) => {
                self.listener_reason(name, |listener| match listener.anti_spoofed {
                    true => Some(format!(
                        "listener '{name}' is anti_spoofed: attach the instance by SourceAddress"
                    )),
                    false => None,
                })
            }
            Attachment::SourceAddress(SourceAddress { listener: name, .. }) => {
                self.listener_reason(name, |listener| match listener.anti_spoofed {
                    true => None,
                    false => Some(format!(
                        "guests at listener '{name}' can choose their source address; set anti_spoofed = true if \
                         something prevents that"
                    )),
                })
            }
            Attachment::Interface(name) | Attachment::BridgePort(BridgePort { bridge: name, .. }) => self
                .interfaces_reason()
                .or_else(|| self.bound_listener_reason(name)),
            Attachment::NetworkNamespace(_) => self.interfaces_reason(),
        }
    }

    fn listener_reason(
        &self,
        name: &str,
        reason: impl FnOnce(&ListenerSettings) -> Option<String>,
    ) -> Option<String> {
        match self.listeners.iter().find(|listener| listener.name == name) {
            Some(listener) => reason(listener),
            None => {
                let names: Vec<&str> = self
                    .listeners
                    .iter()
                    .map(|listener| listener.name.as_str())
                    .collect();
                let hint = near_miss(name, &names)
                    .map(|name| format!("; did you mean '{name}'?"))
                    .unwrap_or_default();
                Some(format!("the configuration has no listener '{name}'{hint}"))
            }
        }
    }

    fn interfaces_reason(&self) -> Option<String> {
        self.interfaces
            .is_none()
            .then(|| "the configuration has no table [interfaces], which may be empty".to_string())
    }

    fn bound_listener_reason(&self, interface: &str) -> Option<String> {
        let listener = self
            .listeners
            .iter()
            .find(|listener| listener.interface.as_deref() == Some(interface))?;
        Some(format!(
            "listener '{}' of the configuration accepts connections from interface '{interface}' too",
            listener.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attachment_needs_its_own_settings() {
        let listener = |name: &str, interface: Option<&str>, anti_spoofed| ListenerSettings {
            name: name.to_string(),
            ipv4: None,
            ipv6: None,
            interface: interface.map(str::to_string),
            anti_spoofed,
            extra_hops: 0,
        };
        let listeners = [
            listener("plain", None, false),
            listener("lan", Some("br0"), true),
        ];
        let interfaces = InterfaceSettings::default();
        let with = |interfaces| AttachmentSettings {
            listeners: &listeners,
            interfaces,
        };
        let at = |name: &str| Attachment::Listener(name.into());
        let from = |listener: &str| {
            let (listener, address) = (listener.to_string(), "10.0.0.5".parse().unwrap());
            Attachment::SourceAddress(SourceAddress {
                listener: listener.into(),
                address,
            })
        };
        let on = |name: &str| Attachment::Interface(name.into());
        let port = |bridge: &str| {
            Attachment::BridgePort(BridgePort {
                bridge: bridge.into(),
                port: "tap0".into(),
                mark: 1,
            })
        };
        let namespace = Attachment::NetworkNamespace("blue".into());
        for (attachment, without, with_table) in [
            (at("plain"), None, None),
            (at("lan"), Some("is anti_spoofed"), Some("is anti_spoofed")),
            (at("plan"), Some("did you mean"), Some("did you mean")),
            (from("lan"), None, None),
            (
                from("plain"),
                Some("source address"),
                Some("source address"),
            ),
            (
                from("wan"),
                Some("no listener 'wan'"),
                Some("no listener 'wan'"),
            ),
            (on("tap0"), Some("no table [interfaces]"), None),
            (
                on("br0"),
                Some("no table [interfaces]"),
                Some("listener 'lan'"),
            ),
            (
                port("br0"),
                Some("no table [interfaces]"),
                Some("listener 'lan'"),
            ),
            (port("br1"), Some("no table [interfaces]"), None),
            (namespace, Some("no table [interfaces]"), None),
        ] {
            for (interfaces, expected) in [(None, without), (Some(&interfaces), with_table)] {
                let reason = with(interfaces).unserved_reason(&attachment);
                match (&reason, expected) {
                    (None, None) => {}
                    (Some(reason), Some(expected)) if reason.contains(expected) => {}
                    _ => panic!("{attachment}: {reason:?}, not {expected:?}"),
                }
            }
        }
    }
}
