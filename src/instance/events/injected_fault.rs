//! Injected faults: what an operator does to the answers that a guest gets, to find out how software
//! behaves while its metadata service is slow or fails.
//!
//! ```json
//! { "Fault": { "Path": "meta-data/iam/*", "Delay": "2s", "Probability": 0.5, "For": "5m" } }
//! ```
//!
//! A fault does not belong to the instance: no record, document or export contains it, so a restart
//! ends it. Refused: a fault that does nothing, delays of more than [`MAX_DELAY`], and statuses
//! that are not errors.

use std::fmt;
use std::num::NonZero;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::instance::events::event_duration::EventDuration;

/// The longest delay of an answer. A guest's connection lives as long.
pub const MAX_DELAY: Duration = Duration::from_secs(60);
/// The maximum number of faults of an instance, those to come included.
pub const MAX_FAULTS: usize = 64;
/// The highest rate that a fault can permit, in requests a second.
const MAX_RATE: u32 = 100_000;

/// A fault to inject. The first four fields say which requests it affects, the others how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct FaultRequest {
    /// The requests' path.
    pub path: FaultPath,
    /// The share of these requests that is affected: 0 to 1. All of them by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// So many of these requests a second are not affected, and those beyond are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<NonZero<u32>>,
    /// How long the fault lasts; until it is cleared by default.
    #[serde(default, rename = "For", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<EventDuration>,
    /// How long the answer is delayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<EventDuration>,
    /// Up to this much more, at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<EventDuration>,
    /// What is sent instead of the answer. By default the answer itself; 503 beyond a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<FaultAnswer>,
}

/// What is sent instead of an answer: `{"Status": 503}`, `"Drop"` or `"Cut"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultAnswer {
    /// An error with this status, 400 to 599, and an empty body.
    Status(u16),
    /// Nothing: the connection ends without a byte.
    Drop,
    /// The first half of the answer's bytes; then the connection ends.
    Cut,
}

/// The faults to clear: `{"Path": "meta-data/iam/*"}`, or `{}` for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct FaultsToClear {
    /// The path of the fault, as it was injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<FaultPath>,
}

/// Which paths a fault affects, without a version: `meta-data/instance-id` for one path,
/// `meta-data/iam/*` for all that begin so, `*` for all requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FaultPath(String);

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectedFault {
    /// What it does.
    pub request: FaultRequest,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends; `None` if it lasts until it is cleared.
    pub until: Option<Timestamp>,
}

/// A change of the faults of an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultChange {
    /// Adds a fault. From its beginning on it replaces the one with the same path.
    Inject(InjectedFault),
    /// Ends faults, and removes those that would begin later.
    Clear {
        /// When they end.
        at: Timestamp,
        /// Which.
        faults: FaultsToClear,
    },
}

impl FaultChange {
    /// Returns when it takes effect.
    pub fn at(&self) -> Timestamp {
        match self {
            FaultChange::Inject(fault) => fault.from,
            FaultChange::Clear { at, .. } => *at,
        }
    }
}

impl FaultRequest {
    /// Returns the fault from a moment on, or a message that says what is wrong with it.
    pub(super) fn change(&self, from: Timestamp) -> Result<FaultChange, String> {
        if let Some(message) = self.message() {
            return Err(message);
        }
        let until = self.lasts.map(|lasts| from.checked_add(lasts.signed()));
        let until = until
            .transpose()
            .map_err(|_| "For ends too far in the future")?;
        Ok(FaultChange::Inject(InjectedFault {
            request: self.clone(),
            from,
            until,
        }))
    }

    /// Returns what is wrong with it.
    fn message(&self) -> Option<String> {
        let length = |length: Option<EventDuration>| length.map(EventDuration::length);
        let delay = length(self.delay).unwrap_or_default();
        let longest = delay.saturating_add(length(self.jitter).unwrap_or_default());
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        if self.probability.is_some_and(|share| !is_share(share)) {
            Some("Probability is from 0 to 1".to_string())
        } else if self.throttle.is_some_and(|rate| rate.get() > MAX_RATE) {
            Some(format!(
                "Throttle is from 1 to {MAX_RATE} requests a second"
            ))
        } else if length(self.lasts).is_some_and(|lasts| lasts.is_zero()) {
            Some("For is longer than 0s".to_string())
        } else if longest > MAX_DELAY {
            let most = MAX_DELAY.as_secs();
            Some(format!("Delay and Jitter together are at most {most}s"))
        } else if let Some(FaultAnswer::Status(status)) = self.answer
            && !(400..=599).contains(&status)
        {
            Some("the Status of an Answer is from 400 to 599".to_string())
        } else if longest.is_zero() && self.answer.is_none() && self.throttle.is_none() {
            Some("does nothing: give a Delay, a Jitter, a Throttle or an Answer".to_string())
        } else {
            None
        }
    }
}

impl InjectedFault {
    /// Returns whether it affects requests at a moment.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.from <= now && !self.is_over(now)
    }

    /// Returns whether it will never affect a request again.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What it does, in words: `half of the requests for meta-data/iam/* …`.
impl fmt::Display for FaultRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path)?;
        if let Some(rate) = self.throttle {
            write!(f, " beyond {rate} requests a second,")?;
        }
        if let Some(share) = self.probability.filter(|share| *share < 1.0) {
            write!(f, " {} % of requests,", share * 100.0)?;
        }
        let answer = self.answer_beyond_rate();
        match (self.delay, self.jitter) {
            (None, None) => {}
            (Some(delay), None) => write!(f, " delayed by {delay}")?,
            (None, Some(jitter)) => write!(f, " delayed by up to {jitter}")?,
            (Some(delay), Some(jitter)) => {
                write!(f, " delayed by {delay} and up to {jitter} more")?
            }
        }
        if (self.delay.is_some() || self.jitter.is_some()) && answer.is_some() {
            f.write_str(", then")?;
        }
        match answer {
            None => Ok(()),
            Some(FaultAnswer::Status(status)) => write!(f, " answered {status}"),
            Some(FaultAnswer::Drop) => f.write_str(" dropped without an answer"),
            Some(FaultAnswer::Cut) => f.write_str(" cut in the middle of the answer"),
        }
    }
}

impl FaultRequest {
    /// Returns what is sent instead of the answer. A fault that only permits a rate answers 503, as
    /// EC2 does.
    pub fn answer_beyond_rate(&self) -> Option<FaultAnswer> {
        let is_rate_only = self.throttle.is_some() && self.delay.is_none() && self.jitter.is_none();
        let refused = is_rate_only.then_some(FaultAnswer::Status(503));
        self.answer.or(refused)
    }
}

impl FaultPath {
    /// Returns whether a request for this path is affected. It is without a version and without
    /// slashes at its ends; `None` if the request names no known version.
    pub fn matches(&self, path: Option<&str>) -> bool {
        match (self.0.strip_suffix('*'), path) {
            (Some(""), _) => true,
            (_, None) => false,
            (Some(beginning), Some(path)) => {
                path.starts_with(beginning) || beginning.strip_suffix('/') == Some(path)
            }
            (None, Some(path)) => path == self.0,
        }
    }

    /// Returns the path, or with `true` what paths have to begin with.
    pub fn text(&self) -> (&str, bool) {
        match self.0.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (&self.0, false),
        }
    }
}

impl TryFrom<String> for FaultPath {
    type Error = String;

    fn try_from(text: String) -> Result<FaultPath, String> {
        let expected = "a path is below the version, such as meta-data/iam/* or api/token, without a slash \
                        at its beginning; a * can only be its end";
        let path = text.strip_suffix('*').unwrap_or(&text);
        let is_path = |byte: u8| byte.is_ascii_graphic() && !b"*%?#".contains(&byte);
        let is_valid = path.bytes().all(is_path)
            && !path.starts_with('/')
            && !path.contains("//")
            && (text.ends_with('*') || !path.is_empty() && !path.ends_with('/'));
        match is_valid {
            true => Ok(FaultPath(text)),
            false => Err(expected.to_string()),
        }
    }
}

impl From<FaultPath> for String {
    fn from(path: FaultPath) -> String {
        path.0
    }
}

impl fmt::Display for FaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-06-01T10:00:00Z".parse().unwrap()
    }

    fn request(value: Value) -> Result<FaultRequest, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn injected(value: Value) -> Result<InjectedFault, String> {
        match request(value)?.change(now())? {
            FaultChange::Inject(fault) => Ok(fault),
            FaultChange::Clear { .. } => unreachable!(),
        }
    }

    #[test]
    fn faults_that_make_no_sense_are_refused_with_the_fix() {
        for (more, expected) in [
            (json!({}), "does nothing"),
            (json!({ "Delay": "0s", "Jitter": "0s" }), "does nothing"),
            (json!({ "Probability": 0.5 }), "does nothing"),
            (json!({ "Delay": "1s", "Probability": 1.5 }), "from 0 to 1"),
            (json!({ "Delay": "1s", "Probability": -0.1 }), "from 0 to 1"),
            (json!({ "Delay": "61s" }), "at most 60s"),
            (json!({ "Delay": "40s", "Jitter": "21s" }), "at most 60s"),
            (json!({ "Delay": "-1s" }), "a duration looks like"),
            (json!({ "Delay": 5 }), "expected a string"),
            (json!({ "Delay": "1s", "For": "0s" }), "longer than 0s"),
            (json!({ "Answer": { "Status": 200 } }), "from 400 to 599"),
            (json!({ "Answer": { "Status": 399 } }), "from 400 to 599"),
            (json!({ "Answer": { "Status": 600 } }), "from 400 to 599"),
            (json!({ "Answer": "Explode" }), "unknown variant"),
            (json!({ "Throttle": 0 }), "nonzero"),
            (json!({ "Throttle": 100_001 }), "from 1 to 100000"),
            (json!({ "Delays": "1s" }), "unknown field"),
        ] {
            let mut value = more.clone();
            value["Path"] = "*".into();
            let message = injected(value).unwrap_err();
            assert!(message.contains(expected), "{more}: {message}");
        }
        assert!(
            injected(json!({ "Delay": "1s" }))
                .unwrap_err()
                .contains("Path")
        );
    }

    #[test]
    fn bounds_themselves_are_accepted() {
        for more in [
            json!({ "Delay": "60s" }),
            json!({ "Delay": "1ms", "Jitter": "59s", "Probability": 0 }),
            json!({ "Answer": { "Status": 400 }, "Probability": 1 }),
            json!({ "Answer": { "Status": 599 } }),
            json!({ "Answer": "Drop", "For": "1ms" }),
            json!({ "Answer": "Cut" }),
            json!({ "Throttle": 1 }),
        ] {
            let mut value = more.clone();
            value["Path"] = "*".into();
            let fault = injected(value).unwrap_or_else(|message| panic!("{more}: {message}"));
            let again = serde_json::to_value(&fault.request).unwrap();
            assert_eq!(request(again), Ok(fault.request));
        }
    }

    #[test]
    fn a_fault_lasts_from_its_beginning_until_its_end() {
        let fault = injected(json!({ "Path": "*", "Delay": "1s", "For": "10s" })).unwrap();
        for (second, in_force, over) in [
            (-1, false, false),
            (0, true, false),
            (9, true, false),
            (10, false, true),
        ] {
            let at = now() + jiff::SignedDuration::from_secs(second);
            assert_eq!(fault.is_in_force(at), in_force, "{second}");
            assert_eq!(fault.is_over(at), over, "{second}");
        }
        let endless = injected(json!({ "Path": "*", "Delay": "1s" })).unwrap();
        assert!(endless.is_in_force(Timestamp::MAX));
    }

    #[test]
    fn a_path_is_exact_or_a_beginning() {
        let matches = |pattern: &str, path: Option<&str>| {
            FaultPath::try_from(pattern.to_string())
                .unwrap()
                .matches(path)
        };
        for (pattern, path, expected) in [
            ("*", Some("meta-data/instance-id"), true),
            ("*", Some(""), true),
            ("*", None, true),
            ("meta-data/instance-id", Some("meta-data/instance-id"), true),
            (
                "meta-data/instance-id",
                Some("meta-data/instance-id/x"),
                false,
            ),
            ("meta-data/instance-id", Some("meta-data/instance-i"), false),
            ("meta-data/instance-id", None, false),
            ("meta-data/iam/*", Some("meta-data/iam/info"), true),
            (
                "meta-data/iam/*",
                Some("meta-data/iam/security-credentials/r"),
                true,
            ),
            // The listing of the directory.
            ("meta-data/iam/*", Some("meta-data/iam"), true),
            ("meta-data/iam/*", Some("meta-data/iam2"), false),
            ("meta-data/iam*", Some("meta-data/iam2"), true),
            ("meta-data/iam/*", Some("dynamic/iam/info"), false),
            ("api/token", Some("api/token"), true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path:?}");
        }
    }

    #[test]
    fn texts_that_are_no_path_are_refused() {
        for text in [
            "",
            "/latest/meta-data",
            "/*",
            "meta-data/",
            "meta-data//x",
            "meta-data/*/x",
            "meta-data/**",
            "meta data/*",
            "meta-data/%20",
            "meta-data?x",
            "meta-data/é",
            "meta-data\n",
        ] {
            let refused = FaultPath::try_from(text.to_string());
            assert!(
                refused.is_err_and(|message| message.contains("below the version")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_fault_is_described_in_words() {
        for (more, expected) in [
            (json!({ "Delay": "2s" }), "*: delayed by 2s"),
            (
                json!({ "Delay": "2s", "Jitter": "500ms", "Probability": 0.25 }),
                "*: 25 % of requests, delayed by 2s and up to 500ms more",
            ),
            (
                json!({ "Jitter": "1s", "Answer": { "Status": 500 } }),
                "*: delayed by up to 1s, then answered 500",
            ),
            (
                json!({ "Throttle": 5 }),
                "*: beyond 5 requests a second, answered 503",
            ),
            (
                json!({ "Throttle": 5, "Answer": { "Status": 429 } }),
                "*: beyond 5 requests a second, answered 429",
            ),
            (json!({ "Answer": "Drop" }), "*: dropped without an answer"),
            (
                json!({ "Answer": "Cut" }),
                "*: cut in the middle of the answer",
            ),
        ] {
            let mut value = more.clone();
            value["Path"] = "*".into();
            assert_eq!(request(value).unwrap().to_string(), expected);
        }
    }
}
