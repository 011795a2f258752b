//! Filters of DescribeInstances: names are ANDed, the values of one name are ORed, both are case-sensitive. In a value
//! `*` stands for any text, `?` for one character, and `\` takes the next character as it is.

use super::error::{Code, Ec2Error};
use crate::clock::iso_milliseconds;
use crate::instance::Instance;
use crate::registry::Entry;

/// EC2's limit on the values in one call.
const MOST_VALUES: usize = 200;

/// What an instance has under a filter's name: none, one or several values.
type ValuesOf = fn(&Entry) -> Vec<String>;

/// Every filter but `tag:<key>`.
const FILTERS: [(&str, ValuesOf); 25] = [
    ("availability-zone", |entry| one(&entry.instance.placement.availability_zone)),
    ("iam-instance-profile.arn", |entry| entry.instance.iam_instance_profile.iter().map(|p| p.arn.clone()).collect()),
    ("image-id", |entry| one(&entry.instance.image_id)),
    ("instance-id", |entry| one(&entry.instance.instance_id)),
    ("instance-lifecycle", |entry| any(&entry.instance.instance_lifecycle)),
    ("instance-state-code", |entry| one(entry.instance.state.code())),
    ("instance-state-name", |entry| one(entry.instance.state.as_str())),
    ("instance-type", |entry| one(&entry.instance.instance_type)),
    ("ip-address", |entry| any(&entry.instance.public_ip_address)),
    ("ipv6-address", |entry| ipv6_addresses(&entry.instance)),
    ("key-name", |entry| any(&entry.instance.key_name)),
    ("launch-time", |entry| one(iso_milliseconds(entry.instance.launch_time))),
    ("metadata-options.http-endpoint", |entry| one(entry.instance.metadata_options.http_endpoint.as_str())),
    // No option turns IPv4 off, so it is on.
    ("metadata-options.http-protocol-ipv4", |_| one("enabled")),
    ("metadata-options.http-protocol-ipv6", |entry| one(entry.instance.metadata_options.http_protocol_ipv6.as_str())),
    ("metadata-options.http-put-response-hop-limit", |entry| {
        one(entry.instance.metadata_options.http_put_response_hop_limit.get())
    }),
    ("metadata-options.http-tokens", |entry| one(entry.instance.metadata_options.http_tokens.as_str())),
    ("metadata-options.instance-metadata-tags", |entry| {
        one(entry.instance.metadata_options.instance_metadata_tags.as_str())
    }),
    ("metadata-options.state", |entry| one(entry.options_state().as_str())),
    ("network-interface.mac-address", |entry| {
        entry.instance.network_interfaces.iter().map(|interface| interface.mac_address.clone()).collect()
    }),
    ("owner-id", |entry| one(entry.instance.owner_id())),
    ("private-ip-address", |entry| any(&entry.instance.private_ip_address)),
    ("reservation-id", |entry| one(entry.instance.reservation_id())),
    ("subnet-id", |entry| any(&entry.instance.subnet_id)),
    ("vpc-id", |entry| any(&entry.instance.vpc_id)),
];

/// All filters of one call.
#[derive(Debug)]
pub(super) struct Filters(Vec<Filter>);

#[derive(Debug)]
struct Filter {
    subject: Subject,
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
enum Subject {
    /// An entry of [`FILTERS`].
    Listed(ValuesOf),
    /// `tag-key`
    TagKey,
    /// `tag:<key>`
    Tag(String),
}

impl Filters {
    /// Reads filters as they came: a name, which may be missing, and values.
    pub(super) fn read(filters: Vec<(Option<String>, Vec<String>)>) -> Result<Filters, Ec2Error> {
        if filters.iter().map(|(_, values)| values.len()).sum::<usize>() > MOST_VALUES {
            let message = format!("The maximum number of filter values specified on a single call is {MOST_VALUES}");
            return Err(Ec2Error::new(Code::FilterLimitExceeded, message));
        }
        let filter = |(place, (name, values)): (usize, (Option<String>, Vec<String>))| {
            let name = name.unwrap_or_else(|| "null".to_string());
            let subject = Subject::read(&name)
                .ok_or_else(|| Ec2Error::new(Code::InvalidParameterValue, format!("The filter '{name}' is invalid")))?;
            // A filter without values would match nothing, which nobody means.
            if values.is_empty() {
                return Err(Ec2Error::missing_parameter(&format!("Filter.{}.Value", place + 1)));
            }
            Ok(Filter { subject, patterns: values.iter().map(|value| Pattern::read(value)).collect() })
        };
        filters.into_iter().enumerate().map(filter).collect::<Result<_, _>>().map(Filters)
    }

    /// Whether an instance passes all of them.
    pub(super) fn match_entry(&self, entry: &Entry) -> bool {
        self.0.iter().all(|filter| {
            let matches = |value: &String| filter.patterns.iter().any(|pattern| pattern.matches(value));
            filter.subject.values(entry).iter().any(matches)
        })
    }
}

impl Subject {
    fn read(name: &str) -> Option<Subject> {
        match (name, name.strip_prefix("tag:")) {
            ("tag-key", _) => Some(Subject::TagKey),
            (_, Some(key)) => (!key.is_empty()).then(|| Subject::Tag(key.to_string())),
            (name, None) => {
                FILTERS.iter().find(|(known, _)| *known == name).map(|(_, values)| Subject::Listed(*values))
            }
        }
    }

    fn values(&self, entry: &Entry) -> Vec<String> {
        let tags = entry.instance.tags.iter();
        match self {
            Subject::Listed(values) => values(entry),
            Subject::TagKey => tags.map(|tag| tag.key.clone()).collect(),
            Subject::Tag(key) => tags.filter(|tag| tag.key == *key).map(|tag| tag.value.clone()).collect(),
        }
    }
}

fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

fn any<T: ToString>(value: &Option<T>) -> Vec<String> {
    value.iter().map(T::to_string).collect()
}

fn ipv6_addresses(instance: &Instance) -> Vec<String> {
    let of_interfaces = instance.network_interfaces.iter().flat_map(|interface| &interface.ipv6_addresses);
    let addresses = instance.ipv6_address.into_iter().chain(of_interfaces.map(|address| address.ipv6_address));
    addresses.map(|address| address.to_string()).collect()
}

/// A value with wildcards.
#[derive(Debug)]
struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Exactly(char),
    One,
    Any,
}

impl Pattern {
    fn read(text: &str) -> Pattern {
        let mut characters = text.chars();
        let mut pieces = Vec::new();
        while let Some(c) = characters.next() {
            pieces.push(match c {
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => Piece::Exactly(characters.next().unwrap_or('\\')),
                other => Piece::Exactly(other),
            });
        }
        Pattern(pieces)
    }

    /// Goes back to the last `*` only, so that no pattern takes more than pattern times text.
    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut piece, mut place) = (0, 0);
        let mut last_any = None;
        while place < text.len() {
            match self.0.get(piece) {
                Some(Piece::Any) => {
                    last_any = Some((piece, place));
                    piece += 1;
                }
                Some(Piece::One) => (piece, place) = (piece + 1, place + 1),
                Some(Piece::Exactly(c)) if *c == text[place] => (piece, place) = (piece + 1, place + 1),
                _ => {
                    let Some((any, from)) = last_any else { return false };
                    last_any = Some((any, from + 1));
                    (piece, place) = (any + 1, from + 1);
                }
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_wildcards_and_a_way_around_them() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("web", "web", true),
            ("web", "Web", false),
            ("web", "web1", false),
            ("web*", "web", true),
            ("web*", "web-1", true),
            ("*web", "my web", true),
            ("*e*", "web", true),
            ("*", "", true),
            ("**", "anything", true),
            ("?", "", false),
            ("?", "ü", true),
            ("??", "ü", false),
            ("w?b", "wöb", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"\?", "x", false),
            (r"\\", r"\", true),
            (r"\", r"\", true),
            (r"a\*b*", "a*b-1", true),
            (".*", "x", false),
        ] {
            assert_eq!(Pattern::read(pattern).matches(text), matches, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_does_not_take_for_ever() {
        let pattern = Pattern::read(&"*a".repeat(2_000));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(256))));
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        let filter = |name: Option<&str>, values: &[&str]| {
            let values = values.iter().map(ToString::to_string).collect();
            Filters::read(vec![(name.map(str::to_string), values)]).unwrap_err()
        };
        for (name, message) in [
            (Some("public-ip"), "The filter 'public-ip' is invalid"),
            (Some("Instance-Id"), "The filter 'Instance-Id' is invalid"),
            (Some("tag:"), "The filter 'tag:' is invalid"),
            (Some("tag-value"), "The filter 'tag-value' is invalid"),
            (Some(""), "The filter '' is invalid"),
            (None, "The filter 'null' is invalid"),
        ] {
            assert_eq!(filter(name, &["x"]), Ec2Error::new(Code::InvalidParameterValue, message));
        }
        assert_eq!(filter(Some("image-id"), &[]), Ec2Error::missing_parameter("Filter.1.Value"));
        assert_eq!(filter(Some("image-id"), &["x"; 201]).code, Code::FilterLimitExceeded);
    }
}
