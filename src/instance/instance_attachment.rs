//! One element of `Imds.Attachments`: the attachment, what it is bound to, and who claimed it.
//!
//! ```json
//! { "Interface": "vnet0", "Binding": { "IfIndex": 17, "BootId": "…" }, "ClaimedBy": "libvirt" }
//! ```

use std::fmt;
use std::ops::Deref;

use serde::de::{Error as _, MapAccess, Unexpected, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::instance::attachment::{Attachment, BridgePort};
use crate::instance::binding::{Binding, LinkIdentities};
use crate::instance::text::SharedText;

/// One attachment of an instance. It reads like its [`Attachment`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceAttachment {
    /// How the guest is connected.
    pub attachment: Attachment,
    /// The link that the interface's name means. Without one, it is the link that has the name.
    pub binding: Option<Binding>,
    /// A word of the program that claimed the attachment, with which it can release it.
    pub claimed_by: Option<SharedText>,
}

impl InstanceAttachment {
    /// Returns the interface that a binding is about: the guest's interface, or its bridge port.
    /// `None` for attachments that cannot be bound.
    pub fn bindable_interface(&self) -> Option<&str> {
        match &self.attachment {
            Attachment::Interface(name) | Attachment::BridgePort(BridgePort { port: name, .. }) => {
                Some(name)
            }
            Attachment::Listener(_)
            | Attachment::NetworkNamespace(_)
            | Attachment::SourceAddress(_) => None,
        }
    }

    /// Returns why the attachment is void; `None` if it is not, or has no binding.
    pub fn void_reason(&self, links: &LinkIdentities) -> Option<String> {
        let binding = self.binding.as_ref()?;
        match self.bindable_interface() {
            Some(interface) => binding.void_reason(interface, links),
            // Documents with such a binding are refused.
            None => Some("it has a binding and no interface".to_string()),
        }
    }
}

impl From<Attachment> for InstanceAttachment {
    fn from(attachment: Attachment) -> InstanceAttachment {
        InstanceAttachment {
            attachment,
            binding: None,
            claimed_by: None,
        }
    }
}

impl Deref for InstanceAttachment {
    type Target = Attachment;

    fn deref(&self) -> &Attachment {
        &self.attachment
    }
}

impl fmt::Display for InstanceAttachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.attachment.fmt(f)
    }
}

/// The keys beside the one of the attachment's kind.
const BINDING: &str = "Binding";
const CLAIMED_BY: &str = "ClaimedBy";
/// The keys of the kinds of attachments.
const KINDS: &[&str] = &[
    "Listener",
    "Interface",
    "BridgePort",
    "NetworkNamespace",
    "SourceAddress",
];

impl Serialize for InstanceAttachment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        match &self.attachment {
            Attachment::Listener(name) => map.serialize_entry("Listener", name)?,
            Attachment::Interface(name) => map.serialize_entry("Interface", name)?,
            Attachment::BridgePort(port) => map.serialize_entry("BridgePort", port)?,
            Attachment::NetworkNamespace(name) => map.serialize_entry("NetworkNamespace", name)?,
            Attachment::SourceAddress(of) => map.serialize_entry("SourceAddress", of)?,
        }
        if let Some(binding) = &self.binding {
            map.serialize_entry(BINDING, binding)?;
        }
        if let Some(claimed_by) = &self.claimed_by {
            map.serialize_entry(CLAIMED_BY, claimed_by)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for InstanceAttachment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(AttachmentVisitor)
    }
}

struct AttachmentVisitor;

impl<'de> Visitor<'de> for AttachmentVisitor {
    type Value = InstanceAttachment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one key, such as {\"Listener\": \"NAME\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InstanceAttachment, A::Error> {
        let (mut found, mut binding, mut claimed_by) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let attachment = match key.as_str() {
                "Listener" => Attachment::Listener(map.next_value()?),
                "Interface" => Attachment::Interface(map.next_value()?),
                "BridgePort" => Attachment::BridgePort(map.next_value()?),
                "NetworkNamespace" => Attachment::NetworkNamespace(map.next_value()?),
                "SourceAddress" => Attachment::SourceAddress(map.next_value()?),
                BINDING => match binding.replace(map.next_value()?) {
                    None => continue,
                    Some(_) => return Err(A::Error::duplicate_field(BINDING)),
                },
                CLAIMED_BY => match claimed_by.replace(map.next_value()?) {
                    None => continue,
                    Some(_) => return Err(A::Error::duplicate_field(CLAIMED_BY)),
                },
                _ => return Err(A::Error::unknown_variant(&key, KINDS)),
            };
            if found.replace(attachment).is_some() {
                return Err(not_one_kind());
            }
        }
        Ok(InstanceAttachment {
            attachment: found.ok_or_else(not_one_kind)?,
            binding,
            claimed_by,
        })
    }
}

fn not_one_kind<E: serde::de::Error>() -> E {
    E::invalid_value(
        Unexpected::Map,
        &"map with a single key besides Binding and ClaimedBy",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_attachment_is_read_as_it_is_written() {
        for text in [
            json!({ "Listener": "a" }),
            json!({ "Interface": "vnet0", "ClaimedBy": "libvirt" }),
            json!({ "Interface": "vnet0", "Binding": { "IfIndex": 17, "BootId": "b", "MacAddress": "fe:54:00:00:00:05" } }),
            json!({ "BridgePort": { "Bridge": "br0", "Port": "vnet0", "Mark": 7 }, "Binding": { "MacAddress": "fe:54:00:00:00:05" } }),
            json!({ "NetworkNamespace": "blue" }),
            json!({ "SourceAddress": { "Listener": "lan", "Address": "10.0.0.5" } }),
        ] {
            let read: InstanceAttachment = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), text);
        }
    }

    #[test]
    fn an_attachment_has_exactly_one_kind_and_no_unknown_key() {
        for (text, message) in [
            (json!({}), "single key"),
            (json!({ "Binding": {} }), "single key"),
            (json!({ "Interface": "a", "Listener": "b" }), "single key"),
            (json!({ "Tap": "a" }), "unknown variant `Tap`"),
            (
                json!({ "Interface": "a", "binding": {} }),
                "unknown variant `binding`",
            ),
            (
                json!({ "Interface": "a", "Binding": { "Ifindex": 1 } }),
                "unknown field `Ifindex`",
            ),
            (json!({ "Interface": "a", "Binding": 7 }), "invalid type"),
            (json!("a"), "an object with one key"),
        ] {
            let read = serde_json::from_value::<InstanceAttachment>(text.clone());
            let error = read.unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn only_an_interface_or_a_bridge_port_can_be_bound() {
        let mut listener = InstanceAttachment::from(Attachment::Listener("a".into()));
        let links = LinkIdentities::default();
        assert_eq!(listener.void_reason(&links), None);
        listener.binding = Some(Binding::default());
        assert!(listener.void_reason(&links).is_some(), "it fails closed");
        let port = InstanceAttachment::from(Attachment::BridgePort(BridgePort {
            bridge: "br0".into(),
            port: "vnet2".into(),
            mark: 1,
        }));
        assert_eq!(port.bindable_interface(), Some("vnet2"));
    }
}
