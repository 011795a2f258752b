//! Instance ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An instance id: `i-` and 8 or 17 lower-case hexadecimal digits. EC2 gives new instances 17
/// digits; the ids of old instances have 8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// Parses an instance id; returns `None` if it is malformed.
    pub fn parse(text: &str) -> Option<InstanceId> {
        let digits = text.strip_prefix("i-")?;
        let hexadecimal = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (matches!(digits.len(), 8 | 17) && hexadecimal).then(|| InstanceId(text.to_string()))
    }

    /// Returns the id as EC2 prints it.
    pub fn as_str(&self) -> &str {
        &self.0
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
        id.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
}
