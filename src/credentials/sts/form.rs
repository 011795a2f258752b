//! The form of an STS request.

use crate::sigv4::percent_encode;

pub(super) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// How long STS credentials are valid by default, in seconds. STS has the same default.
pub(super) const DEFAULT_DURATION: u32 = 3600;

/// A body of `name=value` pairs.
pub(super) struct StsForm(String);

impl StsForm {
    /// Returns a form with the action and the API version.
    pub(super) fn new(action: &str) -> StsForm {
        StsForm(format!("Action={action}&Version=2011-06-15"))
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.0 += &format!("&{name}={}", percent_encode(value.as_bytes()));
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        let mut form = StsForm::new("A");
        form.add("T", "a b&c=d+e/ü~");
        assert_eq!(
            form.0,
            "Action=A&Version=2011-06-15&T=a%20b%26c%3Dd%2Be%2F%C3%BC~"
        );
    }
}
