//! Instance ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The length of a new instance's id.
const LENGTH: usize = 19;
/// The length of an old instance's id.
const OLD_LENGTH: usize = 10;

/// An instance id: `i-` and 8 or 17 lower-case hexadecimal digits. EC2 gives new instances 17
/// digits; the ids of old instances have 8.
///
/// The digits are stored in place, so that a copy costs no allocation: every map has them as keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    /// The text. Zeros follow a short one, so ids are ordered like their texts.
    bytes: [u8; LENGTH],
}

impl InstanceId {
    /// Parses an instance id; returns `None` if it is malformed.
    pub fn parse(text: &str) -> Option<InstanceId> {
        let digits = text.strip_prefix("i-")?;
        let hexadecimal = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !matches!(text.len(), OLD_LENGTH | LENGTH) || !hexadecimal {
            return None;
        }
        let mut bytes = [0; LENGTH];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(InstanceId { bytes })
    }

    /// Returns the id as EC2 prints it.
    pub fn as_str(&self) -> &str {
        let length = match self.bytes[OLD_LENGTH] {
            0 => OLD_LENGTH,
            _ => LENGTH,
        };
        std::str::from_utf8(&self.bytes[..length]).expect("the text is ASCII")
    }
}

impl TryFrom<String> for InstanceId {
    type Error = String;

    /// Like [`InstanceId::parse`]; the error is the one sentence that every part of imdsd reports
    /// for a malformed id.
    fn try_from(text: String) -> Result<Self, String> {
        InstanceId::parse(&text).ok_or_else(|| {
            format!("an instance id is i- and 8 or 17 hexadecimal digits, not '{text}'")
        })
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.as_str().to_string()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InstanceId").field(&self.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EC2 uses two lengths of resource ids:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html>
    #[test]
    fn an_instance_id_is_i_and_8_or_17_hexadecimal_digits() {
        for good in ["i-12345678", "i-0123456789abcdef0"] {
            assert_eq!(InstanceId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "i-",
            "i-1234567",
            "i-123456789",
            "i-0123456789ABCDEF0",
            "I-12345678",
            "i-1234567g",
            "i-0123456789abcdef0 ",
            "../../../etc/passwd",
            "ma1",
        ] {
            assert_eq!(InstanceId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ids_are_ordered_and_printed_like_their_texts() {
        let mut texts = [
            "i-ffffffff",
            "i-0123456789abcdef0",
            "i-01234567",
            "i-0123456700000000f",
            "i-01234568",
        ];
        let mut ids = texts.map(|text| InstanceId::parse(text).unwrap());
        texts.sort();
        ids.sort();
        assert_eq!(ids.clone().map(String::from), texts);
        assert_eq!(format!("{:?}", ids[0]), "InstanceId(\"i-01234567\")");
    }
}
