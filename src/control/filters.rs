//! Filters of describe actions: names are ANDed, the values of one name are ORed, both are
//! case-sensitive. Values are patterns. A [`Filterable`] type defines its filter names; those of
//! instances are here.

use super::error::{Code, Ec2Error};
use super::policy::pattern::Pattern;
use super::render::shown_state;
use crate::clock::iso_milliseconds;
use crate::instance::Tag;
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
        ("block-device-mapping.device-name", |entry| {
            each(entry.instance.volumes(), |device| {
                Some(device.device_name.clone())
            })
        }),
        ("block-device-mapping.volume-id", |entry| {
            each(entry.instance.volumes(), |device| {
                device.ebs.as_ref().map(|ebs| ebs.volume_id.clone())
            })
        }),
        ("client-token", |entry| {
            optional(&entry.instance.client_token)
        }),
        ("dns-name", |entry| {
            optional(&entry.instance.public_host_name())
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
                .map(|p| p.arn.clone())
                .collect()
        }),
        ("iam-instance-profile.id", |entry| {
            entry
                .instance
                .iam_instance_profile
                .iter()
                .map(|p| p.id.clone())
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
                Some(group.group_id.clone())
            })
        }),
        ("instance.group-name", |entry| {
            each(entry.instance.groups(), |group| {
                Some(group.group_name.clone())
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
        ("network-interface.mac-address", |entry| {
            each(entry.instance.interfaces(), |interface| {
                Some(interface.mac_address.clone())
            })
        }),
        ("network-interface.network-interface-id", |entry| {
            each(entry.instance.interfaces(), |interface| {
                Some(interface.network_interface_id.clone())
            })
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
        ("owner-id", |entry| one(entry.instance.owner_id())),
        ("placement-group-name", |entry| {
            optional(&entry.instance.placement.group_name)
        }),
        ("placement-partition-number", |entry| {
            optional(&entry.instance.placement.partition_number)
        }),
        ("private-dns-name", |entry| {
            optional(&entry.instance.private_host_name())
        }),
        ("private-ip-address", |entry| {
            optional(&entry.instance.primary_private_address())
        }),
        ("product-code", |entry| {
            each(&entry.instance.product_codes, |code| {
                Some(code.product_code_id.clone())
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
        ("subnet-id", |entry| optional(&entry.instance.subnet())),
        ("tag-key", |entry| {
            entry
                .instance
                .tags
                .iter()
                .map(|tag| tag.key.clone())
                .collect()
        }),
        ("tenancy", |entry| one(entry.instance.tenancy())),
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
                .map(|tag| tag.value.clone())
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

/// Returns the value of each element that has one.
fn each<T>(elements: &[T], value: impl Fn(&T) -> Option<String>) -> Vec<String> {
    elements.iter().filter_map(value).collect()
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
            (Some("tag-value"), "The filter 'tag-value' is invalid"),
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
