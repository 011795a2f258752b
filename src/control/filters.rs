//! Filters of describe actions: names are ANDed, the values of one name are ORed, both are
//! case-sensitive. Values are patterns. A [`Filterable`] type defines its filter names; those of
//! instances are here.

use serde_json::Value;

use super::error::{Code, Ec2Error};
use super::policy::pattern::Pattern;
use super::render::shown_state;
use crate::clock::iso_milliseconds;
use crate::instance::{
    Association, EbsVolume, Instance, NetworkInterface, PrivateAddress, SecurityGroup, SharedText,
    StateReason, Tag,
};
use crate::registry::Entry;

/// EC2's limit on the values in one call.
const MAX_VALUES: usize = 200;

/// An item that a describe action lists.
pub(super) trait Filterable: Sized + 'static {
    /// Every filter except `tag:<key>`, by name.
    const FILTERS: &'static [(&'static str, FilterValues<Self>)];
    /// Returns the item's tags; `None` where `tag:<key>` is not a filter.
    const TAGS: Option<fn(&Self) -> &[Tag]>;
}

/// Returns the values that an item has under a filter's name: none, one or several.
pub(super) type FilterValues<T> = fn(&T) -> Vec<String>;

impl Filterable for Entry {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(|entry| &entry.instance.tags);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("architecture", |entry| one(&entry.instance.architecture)),
        ("availability-zone", |entry| {
            one(&entry.instance.placement.availability_zone)
        }),
        ("availability-zone-id", |entry| {
            optional(&entry.instance.availability_zone_id())
        }),
        ("block-device-mapping.attach-time", |entry| {
            each_volume(&entry.instance, |ebs| ebs.attach_time.map(iso_milliseconds))
        }),
        ("block-device-mapping.delete-on-termination", |entry| {
            each_volume(&entry.instance, |ebs| {
                ebs.delete_on_termination.map(|flag| flag.to_string())
            })
        }),
        ("block-device-mapping.device-name", |entry| {
            each(entry.instance.volumes(), |device| {
                Some(device.device_name.to_string())
            })
        }),
        ("block-device-mapping.status", |entry| {
            each_volume(&entry.instance, |ebs| ebs.status.clone())
        }),
        ("block-device-mapping.volume-id", |entry| {
            each(entry.instance.volumes(), |device| {
                device.ebs.as_ref().map(|ebs| ebs.volume_id.to_string())
            })
        }),
        ("boot-mode", |entry| kept(&entry.instance, &["BootMode"])),
        ("capacity-reservation-id", |entry| {
            kept(&entry.instance, &["CapacityReservationId"])
        }),
        (
            "capacity-reservation-specification.capacity-reservation-preference",
            |entry| {
                kept(
                    &entry.instance,
                    &[
                        "CapacityReservationSpecification",
                        "CapacityReservationPreference",
                    ],
                )
            },
        ),
        (
            "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
            |entry| {
                kept(
                    &entry.instance,
                    &[
                        "CapacityReservationSpecification",
                        "CapacityReservationTarget",
                        "CapacityReservationId",
                    ],
                )
            },
        ),
        (
            "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
            |entry| {
                kept(
                    &entry.instance,
                    &[
                        "CapacityReservationSpecification",
                        "CapacityReservationTarget",
                        "CapacityReservationResourceGroupArn",
                    ],
                )
            },
        ),
        ("client-token", |entry| {
            optional(&entry.instance.client_token)
        }),
        ("current-instance-boot-mode", |entry| {
            kept(&entry.instance, &["CurrentInstanceBootMode"])
        }),
        ("dns-name", |entry| {
            optional(&entry.instance.public_host_name())
        }),
        ("ebs-optimized", |entry| one(entry.instance.ebs_optimized())),
        ("ena-support", |entry| one(entry.instance.ena_support())),
        ("enclave-options.enabled", |entry| {
            one(entry.instance.enclaves_enabled())
        }),
        ("hibernation-options.configured", |entry| {
            one(entry
                .instance
                .hibernation_options
                .as_ref()
                .is_some_and(|options| options.configured))
        }),
        ("host-id", |entry| {
            optional(&entry.instance.placement.host_id)
        }),
        ("hypervisor", |entry| optional(&entry.instance.hypervisor)),
        ("iam-instance-profile.arn", |entry| {
            entry
                .instance
                .iam_instance_profile
                .iter()
                .map(|p| p.arn.to_string())
                .collect()
        }),
        ("iam-instance-profile.id", |entry| {
            entry
                .instance
                .iam_instance_profile
                .iter()
                .map(|p| p.id.to_string())
                .collect()
        }),
        ("image-id", |entry| one(&entry.instance.image_id)),
        ("instance-id", |entry| one(&entry.instance.instance_id)),
        ("instance-lifecycle", |entry| {
            optional(&entry.instance.instance_lifecycle)
        }),
        ("instance-state-code", |entry| {
            one(entry.instance.state.code())
        }),
        ("instance-state-name", |entry| {
            one(entry.instance.state.as_str())
        }),
        ("instance-type", |entry| one(&entry.instance.instance_type)),
        ("instance.group-id", |entry| {
            each(entry.instance.groups(), |group| {
                Some(group.group_id.to_string())
            })
        }),
        ("instance.group-name", |entry| {
            each(entry.instance.groups(), |group| {
                Some(group.group_name.to_string())
            })
        }),
        ("ip-address", |entry| {
            optional(&entry.instance.public_address())
        }),
        ("ipv6-address", |entry| {
            entry
                .instance
                .ipv6_addresses()
                .map(|address| address.to_string())
                .collect()
        }),
        ("kernel-id", |entry| optional(&entry.instance.kernel_id)),
        ("key-name", |entry| optional(&entry.instance.key_name)),
        ("launch-index", |entry| one(entry.instance.ami_launch_index)),
        ("launch-time", |entry| {
            one(iso_milliseconds(entry.instance.launch_time))
        }),
        ("maintenance-options.auto-recovery", |entry| {
            kept(&entry.instance, &["MaintenanceOptions", "AutoRecovery"])
        }),
        ("metadata-options.http-endpoint", |entry| {
            one(entry.instance.metadata_options.http_endpoint.as_str())
        }),
        // No option disables IPv4.
        ("metadata-options.http-protocol-ipv4", |_| one("enabled")),
        ("metadata-options.http-protocol-ipv6", |entry| {
            one(entry.instance.metadata_options.http_protocol_ipv6.as_str())
        }),
        ("metadata-options.http-put-response-hop-limit", |entry| {
            one(entry
                .instance
                .metadata_options
                .http_put_response_hop_limit
                .get())
        }),
        ("metadata-options.http-tokens", |entry| {
            one(entry.instance.metadata_options.http_tokens.as_str())
        }),
        ("metadata-options.instance-metadata-tags", |entry| {
            one(entry
                .instance
                .metadata_options
                .instance_metadata_tags
                .as_str())
        }),
        ("metadata-options.state", |entry| {
            one(shown_state(entry).as_str())
        }),
        ("monitoring-state", |entry| {
            one(entry.instance.monitoring_state())
        }),
        (
            "network-interface.addresses.association.ip-owner-id",
            |entry| each_association(&entry.instance, |to| to.ip_owner_id.clone()),
        ),
        (
            "network-interface.addresses.association.public-dns-name",
            |entry| each_association(&entry.instance, |to| to.public_dns_name.clone()),
        ),
        (
            "network-interface.addresses.association.public-ip",
            |entry| each_association(&entry.instance, |to| to.public_ip.map(|ip| ip.to_string())),
        ),
        ("network-interface.addresses.primary", |entry| {
            each_address(&entry.instance, |address| Some(address.primary.to_string()))
        }),
        ("network-interface.addresses.private-dns-name", |entry| {
            each_address(&entry.instance, |address| address.private_dns_name.clone())
        }),
        ("network-interface.addresses.private-ip-address", |entry| {
            each_address(&entry.instance, |address| {
                Some(address.private_ip_address.to_string())
            })
        }),
        ("network-interface.association.ip-owner-id", |entry| {
            each_primary_association(&entry.instance, |to| to.ip_owner_id.clone())
        }),
        ("network-interface.association.public-dns-name", |entry| {
            each_primary_association(&entry.instance, |to| to.public_dns_name.clone())
        }),
        ("network-interface.association.public-ip", |entry| {
            each_primary_association(&entry.instance, |to| to.public_ip.map(|ip| ip.to_string()))
        }),
        ("network-interface.attachment.attach-time", |entry| {
            each_interface(&entry.instance, |interface| {
                interface.attachment.attach_time.map(iso_milliseconds)
            })
        }),
        ("network-interface.attachment.attachment-id", |entry| {
            each_interface(&entry.instance, |interface| {
                interface.attachment.attachment_id.clone()
            })
        }),
        (
            "network-interface.attachment.delete-on-termination",
            |entry| {
                each_interface(&entry.instance, |interface| {
                    interface
                        .attachment
                        .delete_on_termination
                        .map(|flag| flag.to_string())
                })
            },
        ),
        ("network-interface.attachment.device-index", |entry| {
            each_interface(&entry.instance, |interface| {
                Some(interface.attachment.device_index.to_string())
            })
        }),
        ("network-interface.attachment.instance-id", |entry| {
            each_interface(&entry.instance, |_| {
                Some(entry.instance.instance_id.to_string())
            })
        }),
        ("network-interface.attachment.instance-owner-id", |entry| {
            each_interface(&entry.instance, |_| {
                Some(entry.instance.owner_id().to_string())
            })
        }),
        ("network-interface.attachment.network-card-index", |entry| {
            each_interface(&entry.instance, |interface| {
                interface
                    .attachment
                    .network_card_index
                    .map(|index| index.to_string())
            })
        }),
        ("network-interface.attachment.status", |entry| {
            each_interface(&entry.instance, |interface| {
                interface.attachment.status.clone()
            })
        }),
        ("network-interface.availability-zone", |entry| {
            each_interface(&entry.instance, |_| {
                Some(entry.instance.placement.availability_zone.to_string())
            })
        }),
        ("network-interface.description", |entry| {
            each_interface(&entry.instance, |interface| interface.description.clone())
        }),
        ("network-interface.group-id", |entry| {
            each_interface_group(&entry.instance, |group| &group.group_id)
        }),
        ("network-interface.group-name", |entry| {
            each_interface_group(&entry.instance, |group| &group.group_name)
        }),
        ("network-interface.ipv4-prefixes.ipv4-prefix", |entry| {
            entry
                .instance
                .interfaces()
                .iter()
                .flat_map(|interface| &interface.ipv4_prefixes)
                .map(|prefix| prefix.ipv4_prefix.clone())
                .collect()
        }),
        ("network-interface.ipv6-address", |entry| {
            interface_ipv6_addresses(&entry.instance)
        }),
        ("network-interface.ipv6-addresses.ipv6-address", |entry| {
            interface_ipv6_addresses(&entry.instance)
        }),
        ("network-interface.ipv6-prefixes.ipv6-prefix", |entry| {
            entry
                .instance
                .interfaces()
                .iter()
                .flat_map(|interface| &interface.ipv6_prefixes)
                .map(|prefix| prefix.ipv6_prefix.clone())
                .collect()
        }),
        ("network-interface.mac-address", |entry| {
            each(entry.instance.interfaces(), |interface| {
                Some(interface.mac_address.to_string())
            })
        }),
        ("network-interface.network-interface-id", |entry| {
            each(entry.instance.interfaces(), |interface| {
                Some(interface.network_interface_id.to_string())
            })
        }),
        ("network-interface.owner-id", |entry| {
            each_interface(&entry.instance, |interface| {
                Some(entry.instance.interface_owner(interface).to_string())
            })
        }),
        ("network-interface.private-dns-name", |entry| {
            each_interface(&entry.instance, |interface| {
                let name = entry.instance.interface_host_name(interface);
                name.map(|name| name.into_owned())
            })
        }),
        ("network-interface.private-ip-address", |entry| {
            each_interface(&entry.instance, |interface| {
                interface.private_ip_address.map(|ip| ip.to_string())
            })
        }),
        ("network-interface.public-dns-name", |entry| {
            each_primary_association(&entry.instance, |to| to.public_dns_name.clone())
        }),
        ("network-interface.source-dest-check", |entry| {
            each_interface(&entry.instance, |interface| {
                interface.source_dest_check.map(|flag| flag.to_string())
            })
        }),
        ("network-interface.status", |entry| {
            each_interface(&entry.instance, |interface| interface.status.clone())
        }),
        ("network-interface.subnet-id", |entry| {
            each(entry.instance.interfaces(), |interface| {
                interface.subnet_id.clone()
            })
        }),
        ("network-interface.vpc-id", |entry| {
            each(entry.instance.interfaces(), |interface| {
                interface.vpc_id.clone()
            })
        }),
        ("network-performance-options.bandwidth-weighting", |entry| {
            kept(
                &entry.instance,
                &["NetworkPerformanceOptions", "BandwidthWeighting"],
            )
        }),
        ("operator.managed", |entry| {
            kept_flag(&entry.instance, &["Operator", "Managed"], false)
        }),
        ("operator.principal", |entry| {
            kept(&entry.instance, &["Operator", "Principal"])
        }),
        ("outpost-arn", |entry| {
            kept(&entry.instance, &["OutpostArn"])
        }),
        ("owner-id", |entry| one(entry.instance.owner_id())),
        ("placement-group-name", |entry| {
            optional(&entry.instance.placement.group_name)
        }),
        ("placement-partition-number", |entry| {
            optional(&entry.instance.placement.partition_number)
        }),
        ("platform", |entry| kept(&entry.instance, &["Platform"])),
        ("platform-details", |entry| {
            kept(&entry.instance, &["PlatformDetails"])
        }),
        ("private-dns-name", |entry| {
            optional(&entry.instance.private_host_name())
        }),
        (
            "private-dns-name-options.enable-resource-name-dns-a-record",
            |entry| {
                kept(
                    &entry.instance,
                    &["PrivateDnsNameOptions", "EnableResourceNameDnsARecord"],
                )
            },
        ),
        (
            "private-dns-name-options.enable-resource-name-dns-aaaa-record",
            |entry| {
                kept(
                    &entry.instance,
                    &["PrivateDnsNameOptions", "EnableResourceNameDnsAAAARecord"],
                )
            },
        ),
        ("private-dns-name-options.hostname-type", |entry| {
            kept(&entry.instance, &["PrivateDnsNameOptions", "HostnameType"])
        }),
        ("private-ip-address", |entry| {
            optional(&entry.instance.primary_private_address())
        }),
        ("product-code", |entry| {
            each(&entry.instance.product_codes, |code| {
                Some(code.product_code_id.clone())
            })
        }),
        ("product-code.type", |entry| {
            each(&entry.instance.product_codes, |code| {
                Some(code.product_code_type.clone())
            })
        }),
        ("ramdisk-id", |entry| optional(&entry.instance.ramdisk_id)),
        ("reason", |entry| {
            optional(&entry.instance.state_transition_reason)
        }),
        ("requester-id", |entry| {
            optional(&entry.instance.imds.requester_id)
        }),
        ("reservation-id", |entry| {
            one(entry.instance.reservation_id())
        }),
        ("root-device-name", |entry| {
            optional(&entry.instance.root_device_name)
        }),
        ("root-device-type", |entry| {
            optional(&entry.instance.root_device_type)
        }),
        ("source-dest-check", |entry| {
            optional(&entry.instance.source_dest_check())
        }),
        ("spot-instance-request-id", |entry| {
            kept(&entry.instance, &["SpotInstanceRequestId"])
        }),
        ("state-reason-code", |entry| {
            state_reason(&entry.instance, |reason| reason.code.clone())
        }),
        ("state-reason-message", |entry| {
            state_reason(&entry.instance, |reason| reason.message.clone())
        }),
        ("subnet-id", |entry| optional(&entry.instance.subnet())),
        ("tag-key", |entry| {
            entry
                .instance
                .tags
                .iter()
                .map(|tag| tag.key.to_string())
                .collect()
        }),
        // No longer documented, but EC2 still has it.
        ("tag-value", |entry| {
            entry
                .instance
                .tags
                .iter()
                .map(|tag| tag.value.to_string())
                .collect()
        }),
        ("tenancy", |entry| one(entry.instance.tenancy())),
        ("tpm-support", |entry| {
            kept(&entry.instance, &["TpmSupport"])
        }),
        ("usage-operation", |entry| {
            kept(&entry.instance, &["UsageOperation"])
        }),
        ("usage-operation-update-time", |entry| {
            kept(&entry.instance, &["UsageOperationUpdateTime"])
        }),
        ("virtualization-type", |entry| {
            one(entry.instance.virtualization_type())
        }),
        ("vpc-id", |entry| optional(&entry.instance.vpc())),
    ];
}

/// All filters of one call.
#[derive(Debug)]
pub(super) struct Filters<T>(Vec<Filter<T>>);

#[derive(Debug)]
struct Filter<T> {
    key: FilterKey<T>,
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
enum FilterKey<T> {
    /// One of [`Filterable::FILTERS`].
    Listed(FilterValues<T>),
    /// `tag:<key>`
    Tag(fn(&T) -> &[Tag], String),
}

impl<T: Filterable> Filters<T> {
    /// Parses filters: each a name, which may be missing, and values.
    pub(super) fn read(
        filters: Vec<(Option<String>, Vec<String>)>,
    ) -> Result<Filters<T>, Ec2Error> {
        if filters
            .iter()
            .map(|(_, values)| values.len())
            .sum::<usize>()
            > MAX_VALUES
        {
            let message = format!(
                "The maximum number of filter values specified on a single call is {MAX_VALUES}"
            );
            return Err(Ec2Error::new(Code::FilterLimitExceeded, message));
        }
        let filter = |(index, (name, values)): (usize, (Option<String>, Vec<String>))| {
            let name = name.unwrap_or_else(|| "null".to_string());
            let key = FilterKey::parse(&name).ok_or_else(|| {
                Ec2Error::new(
                    Code::InvalidParameterValue,
                    format!("The filter '{name}' is invalid"),
                )
            })?;
            // A filter without values would match nothing, which is never intended.
            if values.is_empty() {
                return Err(Ec2Error::missing_parameter(&format!(
                    "Filter.{}.Value",
                    index + 1
                )));
            }
            Ok(Filter {
                key,
                patterns: values.iter().map(|value| Pattern::read(value)).collect(),
            })
        };
        filters
            .into_iter()
            .enumerate()
            .map(filter)
            .collect::<Result<_, _>>()
            .map(Filters)
    }

    /// Returns whether an item passes all filters.
    pub(super) fn match_all(&self, item: &T) -> bool {
        self.0.iter().all(|filter| {
            let matches =
                |value: &String| filter.patterns.iter().any(|pattern| pattern.matches(value));
            filter.key.values(item).iter().any(matches)
        })
    }
}

impl<T: Filterable> FilterKey<T> {
    fn parse(name: &str) -> Option<FilterKey<T>> {
        match (name.strip_prefix("tag:"), T::TAGS) {
            (Some(key), Some(tags)) => {
                (!key.is_empty()).then(|| FilterKey::Tag(tags, key.to_string()))
            }
            (Some(_), None) => None,
            (None, _) => T::FILTERS
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, values)| FilterKey::Listed(*values)),
        }
    }

    fn values(&self, item: &T) -> Vec<String> {
        match self {
            FilterKey::Listed(values) => values(item),
            FilterKey::Tag(tags, key) => tags(item)
                .iter()
                .filter(|tag| tag.key == *key)
                .map(|tag| tag.value.to_string())
                .collect(),
        }
    }
}

/// Returns one value.
pub(super) fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

/// Returns one value, or none.
pub(super) fn optional<T: ToString>(value: &Option<T>) -> Vec<String> {
    value.iter().map(T::to_string).collect()
}

/// Returns all texts of a list.
pub(super) fn each_text(texts: &[SharedText]) -> Vec<String> {
    texts.iter().map(SharedText::to_string).collect()
}

/// Returns the value of each element that has one.
fn each<E, T: ToString>(elements: &[E], value: impl Fn(&E) -> Option<T>) -> Vec<String> {
    let values = elements.iter().filter_map(value);
    values.map(|value| value.to_string()).collect()
}

/// Returns the value of each volume that has one.
fn each_volume<T: ToString>(
    instance: &Instance,
    value: fn(&EbsVolume) -> Option<T>,
) -> Vec<String> {
    each(instance.volumes(), |device| {
        device.ebs.as_ref().and_then(value)
    })
}

/// Returns the value of each interface that has one.
fn each_interface<T: ToString>(
    instance: &Instance,
    value: impl Fn(&NetworkInterface) -> Option<T>,
) -> Vec<String> {
    each(instance.interfaces(), value)
}

/// Returns a value of each security group of an interface.
fn each_interface_group(instance: &Instance, value: fn(&SecurityGroup) -> &str) -> Vec<String> {
    let interfaces = instance.interfaces().iter();
    interfaces
        .flat_map(|interface| &interface.groups)
        .map(|group| value(group).to_string())
        .collect()
}

/// Returns the value of each private IPv4 address of an interface that has one.
fn each_address<T: ToString>(
    instance: &Instance,
    value: impl Fn(&PrivateAddress) -> Option<T>,
) -> Vec<String> {
    let interfaces = instance.interfaces().iter();
    interfaces
        .flat_map(NetworkInterface::private_addresses)
        .filter_map(|address| Some(value(&address)?.to_string()))
        .collect()
}

/// Returns the value of the association with each private address of an interface.
fn each_association<T: ToString>(
    instance: &Instance,
    value: fn(&Association) -> Option<T>,
) -> Vec<String> {
    each_address(instance, |address| {
        address.association.as_ref().and_then(value)
    })
}

/// Returns the value of each interface's own association.
fn each_primary_association<T: ToString>(
    instance: &Instance,
    value: fn(&Association) -> Option<T>,
) -> Vec<String> {
    each_interface(instance, |interface| {
        interface.shown_association().and_then(value)
    })
}

fn interface_ipv6_addresses(instance: &Instance) -> Vec<String> {
    let interfaces = instance.interfaces().iter();
    interfaces
        .flat_map(|interface| &interface.ipv6_addresses)
        .map(|address| address.ipv6_address.to_string())
        .collect()
}

fn state_reason<T: ToString>(
    instance: &Instance,
    value: fn(&StateReason) -> Option<T>,
) -> Vec<String> {
    optional(&instance.state_reason.as_ref().and_then(value))
}

/// Returns the value of a field that EC2 prints and imdsd only keeps, by its path in the document.
fn kept(instance: &Instance, path: &[&str]) -> Vec<String> {
    let Some((first, rest)) = path.split_first() else {
        return Vec::new();
    };
    let value = instance.other.get(first);
    let field = rest
        .iter()
        .try_fold(value.as_ref(), |value, name| Some(value?.get(name)));
    match field.flatten() {
        Some(Value::String(text)) => one(text),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => one(value),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => Vec::new(),
    }
}

/// Returns the value of such a field that is true or false; `default` where the document has none.
fn kept_flag(instance: &Instance, path: &[&str], default: bool) -> Vec<String> {
    let values = kept(instance, path);
    if values.is_empty() {
        one(default)
    } else {
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_empty_filters_are_refused() {
        let filter = |name: Option<&str>, values: &[&str]| {
            let values = values.iter().map(ToString::to_string).collect();
            Filters::<Entry>::read(vec![(name.map(str::to_string), values)]).unwrap_err()
        };
        for (name, message) in [
            (Some("public-ip"), "The filter 'public-ip' is invalid"),
            (Some("Instance-Id"), "The filter 'Instance-Id' is invalid"),
            (Some("tag:"), "The filter 'tag:' is invalid"),
            (Some(""), "The filter '' is invalid"),
            (None, "The filter 'null' is invalid"),
        ] {
            assert_eq!(
                filter(name, &["x"]),
                Ec2Error::new(Code::InvalidParameterValue, message)
            );
        }
        assert_eq!(
            filter(Some("image-id"), &[]),
            Ec2Error::missing_parameter("Filter.1.Value")
        );
        assert_eq!(
            filter(Some("image-id"), &["x"; 201]).code,
            Code::FilterLimitExceeded
        );
    }
}
