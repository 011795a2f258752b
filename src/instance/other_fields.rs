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

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

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

/// The values of fields that imdsd does not read. No field costs one pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherFields(Option<Box<Map<String, Value>>>);

impl OtherFields {
    /// Returns the value of a field.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.as_ref()?.get(field)
    }

    /// Returns the value of a field that is a string.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.get(field)?.as_str()
    }

    /// Sets a field.
    pub fn insert(&mut self, field: String, value: Value) {
        self.0.get_or_insert_default().insert(field, value);
    }

    /// Returns the names and values of all fields.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().flat_map(|fields| fields.iter())
    }

    /// Returns whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl FromIterator<(String, Value)> for OtherFields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> OtherFields {
        let fields: Map<String, Value> = fields.into_iter().collect();
        OtherFields((!fields.is_empty()).then(|| Box::new(fields)))
    }
}

impl Serialize for OtherFields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for OtherFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<OtherFields, D::Error> {
        // As in the fields that imdsd reads, null means absent.
        let fields = Map::<String, Value>::deserialize(from)?;
        Ok(fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect())
    }
}
