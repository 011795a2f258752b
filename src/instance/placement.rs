//! The placement of an instance: its availability zone, region and host.

use arcstr::literal;
use serde::{Deserialize, Serialize};

use crate::instance::absent::empty_is_absent;
use crate::instance::other_fields::OtherFields;
use crate::instance::text::SharedText;

/// The placement of an instance (`Placement` in describe-instances).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Placement {
    /// The zone, such as `us-east-1a`, which is the default: lower-case letters, digits and
    /// hyphens, 1 to 64.
    #[serde(default = "default_zone")]
    pub availability_zone: SharedText,
    /// The zone's id, such as `use1-az1`; see `Instance::availability_zone_id` for the default.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub availability_zone_id: Option<SharedText>,
    /// The placement group.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub group_name: Option<SharedText>,
    /// The dedicated host, `h-…`.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub host_id: Option<SharedText>,
    /// The partition of the placement group, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_number: Option<u32>,
    /// `default`, `dedicated` or `host`.
    #[serde(
        default,
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub tenancy: Option<SharedText>,
    /// The other fields.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl Default for Placement {
    fn default() -> Self {
        Placement {
            availability_zone: default_zone(),
            availability_zone_id: None,
            group_name: None,
            host_id: None,
            partition_number: None,
            tenancy: None,
            other: OtherFields::default(),
        }
    }
}

/// Returns the region in the name of an availability zone: everything up to and including the first
/// number (`us-west-2` of `us-west-2-lax-1a`).
pub fn region_of_zone(zone: &str) -> &str {
    let Some(first_digit) = zone.find(|c: char| c.is_ascii_digit()) else {
        return zone;
    };
    let digits = zone[first_digit..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    &zone[..first_digit + digits]
}

/// Returns the usual id of a zone, `use1-az1` for `us-east-1a`; `None` if the zone's name does not
/// follow EC2's pattern.
pub fn zone_id(zone: &str) -> Option<String> {
    let region = region_of_zone(zone);
    let letter = match zone.as_bytes()[region.len()..] {
        [letter @ b'a'..=b'z'] => letter,
        _ => return None,
    };
    if region.split('-').count() < 3 {
        return None;
    }
    let mut words = region.split('-');
    let mut id = words.next()?.to_string();
    for word in words {
        id += match word {
            "gov" => "g",
            "north" => "n",
            "south" => "s",
            "east" => "e",
            "west" => "w",
            "central" => "c",
            "northeast" => "ne",
            "northwest" => "nw",
            "southeast" => "se",
            "southwest" => "sw",
            number if number.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => return None,
        };
    }
    Some(format!("{id}-az{}", letter - b'a' + 1))
}

fn default_zone() -> SharedText {
    literal!("us-east-1a")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_zone_up_to_its_first_number() {
        for (zone, region) in [
            ("us-east-1a", "us-east-1"),
            ("us-west-2-lax-1a", "us-west-2"),
            ("us-gov-west-1b", "us-gov-west-1"),
            ("ap-southeast-12c", "ap-southeast-12"),
            ("basement", "basement"),
        ] {
            assert_eq!(region_of_zone(zone), region);
        }
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-regions-availability-zones.html>
    #[test]
    fn zone_ids_are_ec2s_abbreviations() {
        for (zone, id) in [
            ("us-east-1a", Some("use1-az1")),
            ("ap-southeast-2c", Some("apse2-az3")),
            ("us-gov-west-1b", Some("usgw1-az2")),
            ("eu-central-1z", Some("euc1-az26")),
            ("us-west-2-lax-1a", None),
            ("us-east-1", None),
            ("basement", None),
            ("rack-7b", None),
        ] {
            assert_eq!(zone_id(zone).as_deref(), id, "{zone}");
        }
    }
}
