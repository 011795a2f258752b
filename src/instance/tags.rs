//! Tags: EC2's limits, and the stricter rule for the keys of tags that metadata shows.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html>

use serde::{Deserialize, Serialize};

use crate::instance::options::Switch;
use crate::instance::text::SharedText;
use crate::instance::xml_characters::unfit_for_xml;

/// The maximum number of tags of an instance (EC2's limit).
pub const MAX_TAGS: usize = 50;
/// The maximum length of a key in characters. EC2's user guide says 128, its API model 127.
pub const MAX_KEY_LENGTH: usize = 128;
/// The maximum length of a value in characters (EC2's limit).
pub const MAX_VALUE_LENGTH: usize = 256;

/// One tag of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// 1 to 128 characters.
    pub key: SharedText,
    /// 0 to 256 characters.
    #[serde(default)]
    pub value: SharedText,
}

/// Returns whether metadata can show a tag with this key: `[0-9a-zA-Z\-_+=,.@:]{1,255}`, except
/// `.`, `..` and `_index`.
///
/// EC2 checks this when InstanceMetadataTags is enabled, and when a tag is added while it is
/// enabled.
pub fn key_fits_metadata(key: &str) -> bool {
    let letters = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_+=,.@:".contains(&b));
    letters && (1..=255).contains(&key.len()) && !matches!(key, "." | ".." | "_index")
}

/// Returns the keys that metadata cannot show, each with its index in `tags`. There are none unless
/// `shown`, the value of InstanceMetadataTags, is `enabled`.
pub fn keys_unfit_for_metadata(tags: &[Tag], shown: Switch) -> impl Iterator<Item = (usize, &str)> {
    let keys = tags.iter().map(|tag| tag.key.as_str()).enumerate();
    keys.filter(move |(_, key)| shown == Switch::Enabled && !key_fits_metadata(key))
}

/// Returns the faults of a list of tags that hold whether or not metadata shows them: the tag's
/// index and a message.
pub fn faults(tags: &[Tag]) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    // Tags that AWS adds do not count.
    let own = tags
        .iter()
        .filter(|tag| !tag.key.starts_with("aws:"))
        .count();
    if own > MAX_TAGS {
        faults.push((
            MAX_TAGS,
            format!("an instance has at most {MAX_TAGS} tags without the prefix aws:, not {own}"),
        ));
    }
    for (index, tag) in tags.iter().enumerate() {
        if tag.key.is_empty() {
            faults.push((index, "a tag key cannot be empty".to_string()));
        }
        if tag.key.chars().count() > MAX_KEY_LENGTH {
            faults.push((
                index,
                format!("a tag key has at most {MAX_KEY_LENGTH} characters"),
            ));
        }
        if tag.value.chars().count() > MAX_VALUE_LENGTH {
            faults.push((
                index,
                format!("a tag value has at most {MAX_VALUE_LENGTH} characters"),
            ));
        }
        // EC2 allows any character in tags, and its XML represents almost any.
        for (field, text) in [("key", &tag.key), ("value", &tag.value)] {
            if let Some(c) = unfit_for_xml(text) {
                let code = u32::from(c);
                faults.push((
                    index,
                    format!("a tag {field} cannot have the character U+{code:04X}: EC2's XML cannot represent it"),
                ));
            }
        }
        if tags[..index].iter().any(|earlier| earlier.key == tag.key) {
            faults.push((index, format!("the tag key '{}' appears twice", tag.key)));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html>
    #[test]
    fn keys_in_metadata_follow_the_stricter_rule() {
        for good in [
            "Name",
            "a",
            "team:web",
            "a+b=c,d.e@f-g_h",
            "...",
            "aws:autoscaling:groupName",
        ] {
            assert!(key_fits_metadata(good), "{good}");
        }
        let long = "k".repeat(256);
        for bad in [
            "", ".", "..", "_index", "a b", "a/b", "ü", "a\n", "a%b", &long,
        ] {
            assert!(!key_fits_metadata(bad), "{bad}");
        }
    }

    #[test]
    fn a_key_is_unfit_only_while_metadata_shows_tags() {
        let tags = ["Name", "cost center"].map(|key| Tag {
            key: key.into(),
            value: "".into(),
        });
        let unfit = |shown| keys_unfit_for_metadata(&tags, shown).collect::<Vec<_>>();
        assert_eq!(unfit(Switch::Disabled), []);
        assert_eq!(unfit(Switch::Enabled), [(1, "cost center")]);
    }

    #[test]
    fn limits_are_counted_in_characters() {
        let tag = |key: String, value: String| Tag {
            key: key.into(),
            value: value.into(),
        };
        assert!(faults(&[tag("ü".repeat(128), "ü".repeat(256))]).is_empty());
        assert_eq!(faults(&[tag("k".repeat(129), String::new())]).len(), 1);
        assert_eq!(faults(&[tag("k".into(), "v".repeat(257))]).len(), 1);
        assert_eq!(faults(&[tag(String::new(), String::new())]).len(), 1);
        assert!(faults(&[tag("a\tb".into(), "c\nd\r\u{85}".into())]).is_empty());
        assert_eq!(faults(&[tag("a\u{1}".into(), "b\u{1b}".into())]).len(), 2);
        assert_eq!(
            faults(&[tag("k".into(), "1".into()), tag("k".into(), "2".into())]).len(),
            1
        );
        let many = |n: usize| {
            (0..n)
                .map(|i| tag(i.to_string(), String::new()))
                .collect::<Vec<_>>()
        };
        assert!(faults(&many(50)).is_empty());
        assert_eq!(faults(&many(51)).len(), 1);
        let of_ec2 = [tag("aws:ec2launchtemplate:id".into(), String::new())];
        assert!(faults(&[&many(50)[..], &of_ec2].concat()).is_empty());
    }
}
