//! Durations in the operator's requests: `5s`, `2m30s`, `168h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A duration from 0 to ten years: `5s`, `2m30s`, `168h`, or `PT5S` as in ISO 8601.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventDuration(SignedDuration);

impl EventDuration {
    const MAX: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

    /// Returns the length for calculations with times.
    pub(super) fn signed(self) -> SignedDuration {
        self.0
    }

    /// Returns the length.
    pub fn length(self) -> Duration {
        self.0.unsigned_abs()
    }
}

impl FromStr for EventDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<EventDuration, String> {
        let length = text.parse::<SignedDuration>().ok();
        let length =
            length.filter(|length| (SignedDuration::ZERO..=EventDuration::MAX).contains(length));
        length.map(EventDuration).ok_or_else(|| {
            format!(
                "a duration looks like 5s, 2m30s or 168h and is at most ten years, not '{}'",
                text.escape_debug()
            )
        })
    }
}

impl TryFrom<String> for EventDuration {
    type Error = String;

    fn try_from(text: String) -> Result<EventDuration, String> {
        text.parse()
    }
}

impl From<EventDuration> for String {
    fn from(length: EventDuration) -> String {
        length.to_string()
    }
}

impl fmt::Display for EventDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alternate form of jiff's `Display` is the readable one.
        write!(f, "{:#}", self.0)
    }
}
