//! Fields of EC2's output that imdsd keeps and does not read: one table of their names in JSON and
//! in XML and of their types, and the values of an instance.
//!
//! The table has every field of the shape `Instance` of EC2's API that has no field in the structs of
//! `model`, `network`, `placement` and `block_device`. Documents are checked with it, and
//! DescribeInstances writes with it. `tests/clients` compares it with the API model of the installed
//! botocore. Fields that are not in the table either, because EC2 added them later, are kept in
//! records and exports, and in no reply.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html>

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::instance::text::SharedText;

/// A field: its name in JSON, its element in XML, and its type.
#[derive(Debug)]
pub struct OtherField {
    /// The name in documents, as the AWS CLI prints it.
    pub json: &'static str,
    /// The name of the element in replies.
    pub xml: &'static str,
    /// The type of its value.
    pub kind: FieldKind,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum FieldKind {
    /// A string.
    Text,
    /// A whole number of 32 bits.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A time as a string.
    Time,
    /// An object with these fields.
    Structure(&'static [OtherField]),
    /// An array of such objects.
    List(&'static [OtherField]),
}

use FieldKind::{Boolean, Integer, List, Structure, Text, Time};

const fn field(json: &'static str, xml: &'static str, kind: FieldKind) -> OtherField {
    OtherField { json, xml, kind }
}

/// Of an instance.
#[rustfmt::skip]
pub const INSTANCE: &[OtherField] = &[
    field("BootMode", "bootMode", Text),
    field("CapacityBlockId", "capacityBlockId", Text),
    field("CapacityReservationId", "capacityReservationId", Text),
    field("CapacityReservationSpecification", "capacityReservationSpecification", Structure(&[
        field("CapacityReservationPreference", "capacityReservationPreference", Text),
        field("CapacityReservationTarget", "capacityReservationTarget", Structure(&[
            field("CapacityReservationId", "capacityReservationId", Text),
            field("CapacityReservationResourceGroupArn", "capacityReservationResourceGroupArn", Text),
        ])),
    ])),
    field("CpuOptions", "cpuOptions", Structure(&[
        field("CoreCount", "coreCount", Integer),
        field("ThreadsPerCore", "threadsPerCore", Integer),
        field("AmdSevSnp", "amdSevSnp", Text),
        field("NestedVirtualization", "nestedVirtualization", Text),
    ])),
    field("CurrentInstanceBootMode", "currentInstanceBootMode", Text),
    field("ElasticGpuAssociations", "elasticGpuAssociationSet", List(&[
        field("ElasticGpuId", "elasticGpuId", Text),
        field("ElasticGpuAssociationId", "elasticGpuAssociationId", Text),
        field("ElasticGpuAssociationState", "elasticGpuAssociationState", Text),
        // A string in the model, unlike the time of an inference accelerator.
        field("ElasticGpuAssociationTime", "elasticGpuAssociationTime", Text),
    ])),
    field("ElasticInferenceAcceleratorAssociations", "elasticInferenceAcceleratorAssociationSet", List(&[
        field("ElasticInferenceAcceleratorArn", "elasticInferenceAcceleratorArn", Text),
        field("ElasticInferenceAcceleratorAssociationId", "elasticInferenceAcceleratorAssociationId", Text),
        field("ElasticInferenceAcceleratorAssociationState", "elasticInferenceAcceleratorAssociationState", Text),
        field("ElasticInferenceAcceleratorAssociationTime", "elasticInferenceAcceleratorAssociationTime", Time),
    ])),
    field("Licenses", "licenseSet", List(&[field("LicenseConfigurationArn", "licenseConfigurationArn", Text)])),
    field("MaintenanceOptions", "maintenanceOptions", Structure(&[
        field("AutoRecovery", "autoRecovery", Text),
        field("RebootMigration", "rebootMigration", Text),
    ])),
    field("NetworkPerformanceOptions", "networkPerformanceOptions", Structure(&[
        field("BandwidthWeighting", "bandwidthWeighting", Text),
    ])),
    field("Operator", "operator", Structure(OPERATOR)),
    field("OutpostArn", "outpostArn", Text),
    field("Platform", "platform", Text),
    field("PlatformDetails", "platformDetails", Text),
    field("PrivateDnsNameOptions", "privateDnsNameOptions", Structure(&[
        field("HostnameType", "hostnameType", Text),
        field("EnableResourceNameDnsARecord", "enableResourceNameDnsARecord", Boolean),
        field("EnableResourceNameDnsAAAARecord", "enableResourceNameDnsAAAARecord", Boolean),
    ])),
    field("SecondaryInterfaces", "secondaryInterfaceSet", List(&[
        field("Attachment", "attachment", Structure(&[
            field("AttachTime", "attachTime", Time),
            field("AttachmentId", "attachmentId", Text),
            field("DeleteOnTermination", "deleteOnTermination", Boolean),
            field("DeviceIndex", "deviceIndex", Integer),
            field("Status", "status", Text),
            field("NetworkCardIndex", "networkCardIndex", Integer),
        ])),
        field("MacAddress", "macAddress", Text),
        field("SecondaryInterfaceId", "secondaryInterfaceId", Text),
        field("OwnerId", "ownerId", Text),
        // The element has another name than that of an ordinary interface.
        field("PrivateIpAddresses", "privateIpAddressSet", List(&[field("PrivateIpAddress", "privateIpAddress", Text)])),
        field("SourceDestCheck", "sourceDestCheck", Boolean),
        field("Status", "status", Text),
        field("SecondarySubnetId", "secondarySubnetId", Text),
        field("SecondaryNetworkId", "secondaryNetworkId", Text),
        field("InterfaceType", "interfaceType", Text),
    ])),
    field("SpotInstanceRequestId", "spotInstanceRequestId", Text),
    field("SriovNetSupport", "sriovNetSupport", Text),
    field("TpmSupport", "tpmSupport", Text),
    field("UsageOperation", "usageOperation", Text),
    field("UsageOperationUpdateTime", "usageOperationUpdateTime", Time),
];

/// Of `Placement`.
#[rustfmt::skip]
pub const PLACEMENT: &[OtherField] = &[
    field("Affinity", "affinity", Text),
    field("GroupId", "groupId", Text),
    field("HostResourceGroupArn", "hostResourceGroupArn", Text),
    field("SpreadDomain", "spreadDomain", Text),
];

/// Of `BlockDeviceMappings[].Ebs`.
#[rustfmt::skip]
pub const EBS_VOLUME: &[OtherField] = &[
    field("AssociatedResource", "associatedResource", Text),
    field("VolumeOwnerId", "volumeOwnerId", Text),
    field("Operator", "operator", Structure(OPERATOR)),
    field("EbsCardIndex", "ebsCardIndex", Integer),
];

/// Of `NetworkInterfaces[]`.
#[rustfmt::skip]
pub const NETWORK_INTERFACE: &[OtherField] = &[
    field("InterfaceType", "interfaceType", Text),
    field("ConnectionTrackingConfiguration", "connectionTrackingConfiguration", Structure(&[
        field("TcpEstablishedTimeout", "tcpEstablishedTimeout", Integer),
        field("UdpStreamTimeout", "udpStreamTimeout", Integer),
        field("UdpTimeout", "udpTimeout", Integer),
    ])),
    field("Operator", "operator", Structure(OPERATOR)),
];

/// Of `NetworkInterfaces[].Attachment`.
#[rustfmt::skip]
pub const INTERFACE_ATTACHMENT: &[OtherField] = &[
    field("EnaSrdSpecification", "enaSrdSpecification", Structure(&[
        field("EnaSrdEnabled", "enaSrdEnabled", Boolean),
        field("EnaSrdUdpSpecification", "enaSrdUdpSpecification", Structure(&[
            field("EnaSrdUdpEnabled", "enaSrdUdpEnabled", Boolean),
        ])),
    ])),
    field("EnaQueueCount", "enaQueueCount", Integer),
];

/// Of the `Association` of an interface and of a private address.
#[rustfmt::skip]
pub const ASSOCIATION: &[OtherField] = &[
    field("CarrierIp", "carrierIp", Text),
    field("CustomerOwnedIp", "customerOwnedIp", Text),
];

/// Of `NetworkInterfaces[].Ipv6Addresses[]`.
pub const IPV6_ADDRESS: &[OtherField] = &[field("IsPrimaryIpv6", "isPrimaryIpv6", Boolean)];

/// The service that manages a resource.
const OPERATOR: &[OtherField] = &[
    field("Managed", "managed", Boolean),
    field("Principal", "principal", Text),
    field("HiddenByDefault", "hiddenByDefault", Boolean),
];

/// The values of fields that imdsd does not read, as one JSON object in text. A tree of values
/// would be most of what an instance costs in memory, and only replies of the EC2 API, exports and
/// records need them. `None` without a field.
///
/// The text is the only one for its values: keys are sorted, and nothing separates tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherFields(Option<SharedText>);

impl OtherFields {
    /// Returns the value of a field.
    pub fn get(&self, field: &str) -> Option<Value> {
        let mut from = serde_json::Deserializer::from_str(self.0.as_ref()?);
        FieldSeed(field).deserialize(&mut from).ok()?
    }

    /// Returns the value of a field that is a string.
    pub fn text(&self, field: &str) -> Option<String> {
        match self.get(field)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Sets a field.
    pub fn insert(&mut self, field: String, value: Value) {
        let mut values = self.values();
        values.insert(field, value);
        *self = OtherFields::from(values);
    }

    /// Returns the values of all fields.
    pub fn values(&self) -> Map<String, Value> {
        let values = self.0.as_ref().map(|text| serde_json::from_str(text));
        values.and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the texts of the values of all fields, by name.
    pub fn texts(&self) -> Vec<(Cow<'_, str>, &RawValue)> {
        let fields = self.0.as_ref().map(|text| serde_json::from_str(text));
        let FieldTexts(texts) = fields.and_then(Result::ok).unwrap_or_default();
        texts
    }

    /// Returns the text of all fields, which other instances are likely to have too.
    pub(super) fn common_text(&mut self) -> Option<&mut SharedText> {
        self.0.as_mut()
    }

    /// Returns the text of the object of all fields.
    pub fn as_text(&self) -> &str {
        self.0.as_deref().unwrap_or("{}")
    }

    /// Returns whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<Map<String, Value>> for OtherFields {
    fn from(values: Map<String, Value>) -> OtherFields {
        match values.is_empty() {
            true => OtherFields(None),
            false => OtherFields(Some(Value::Object(values).to_string().into())),
        }
    }
}

impl FromIterator<(String, Value)> for OtherFields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> OtherFields {
        OtherFields::from(fields.into_iter().collect::<Map<String, Value>>())
    }
}

impl Serialize for OtherFields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.texts())
    }
}

impl<'de> Deserialize<'de> for OtherFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<OtherFields, D::Error> {
        // As in the fields that imdsd reads, null means absent.
        let mut fields = Map::<String, Value>::deserialize(from)?;
        fields.retain(|_, value| !value.is_null());
        Ok(OtherFields::from(fields))
    }
}

/// The fields of an object, with the texts of their values.
#[derive(Default)]
struct FieldTexts<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de> Deserialize<'de> for FieldTexts<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FieldTexts<'de>, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = FieldTexts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some((FieldName(name), text)) = object.next_entry()? {
                    texts.push((name, text));
                }
                Ok(FieldTexts(texts))
            }
        }

        from.deserialize_map(TextsVisitor)
    }
}

/// The name of a field: a part of the text, unless it has escapes.
#[derive(Deserialize)]
pub struct FieldName<'t>(#[serde(borrow)] pub Cow<'t, str>);

/// Reads the value of one field of an object, without those of the others.
struct FieldSeed<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Value>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Option<Value>, A::Error> {
        let mut found = None;
        while let Some(name) = object.next_key::<String>()? {
            match name == self.0 {
                true => found = Some(object.next_value()?),
                false => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> OtherFields {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn fields_are_equal_when_their_values_are_whatever_their_order() {
        let text = r#"{"B": {"y": [1, 2.50], "x": "\u00e9\""}, "A": true}"#;
        let read: OtherFields = serde_json::from_str(text).unwrap();
        let values = json!({ "A": true, "B": { "x": "é\"", "y": [1, 2.5] } });
        assert_eq!(read, fields(values.clone()));
        assert_eq!(serde_json::to_value(&read).unwrap(), values);
        assert_eq!(Value::Object(read.values()), values);
        assert_eq!(serde_json::to_string(&read).unwrap(), values.to_string());
        assert_ne!(read, fields(json!({ "A": true })));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name_at_the_top_only() {
        let of = fields(json!({ "A": { "B": 1 }, "AB": "text", "C\n": 2, "N": null }));
        for (name, value) in [
            ("A", Some(json!({ "B": 1 }))),
            ("AB", Some(json!("text"))),
            ("C\n", Some(json!(2))),
            ("B", None),
            ("", None),
            ("N", None),
        ] {
            assert_eq!(of.get(name), value, "{name:?}");
        }
        assert_eq!(of.text("AB").as_deref(), Some("text"));
        assert_eq!(of.text("A"), None, "it is not a string");
        assert_eq!(OtherFields::default().get("A"), None);
    }

    #[test]
    fn fields_are_set_one_by_one() {
        let mut of = OtherFields::default();
        assert!(of.is_empty() && fields(json!({ "A": null })).is_empty());
        of.insert("B".to_string(), json!(1));
        of.insert("A".to_string(), json!(2));
        of.insert("B".to_string(), json!(3));
        assert_eq!(of, fields(json!({ "A": 2, "B": 3 })));
        assert!(!of.is_empty());
    }
}
