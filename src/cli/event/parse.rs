//! Parsers of argument values.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::TIME;
use crate::instance::InstanceId;
use crate::instance::events::injected_fault::FaultPath;
use crate::instance::events::request::{EventDuration, EventTime, TagTarget};

/// One of EC2's words, such as `system-reboot`.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_string()))
        .map_err(|error| error.to_string().replace('`', "'"))
}

/// A time with its date and offset: a time of day alone has no date.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| format!("expected a time such as {TIME}"))
}

/// A duration, or a time.
pub(super) fn when(text: &str) -> Result<EventTime, String> {
    match (text.parse::<EventDuration>(), text.parse::<Timestamp>()) {
        (Ok(length), _) => Ok(EventTime::After(length)),
        (Err(_), Ok(time)) => Ok(EventTime::At(time)),
        (Err(_), Err(_)) => Err(format!(
            "expected a duration such as 168h, or a time such as {TIME}"
        )),
    }
}

pub(super) fn instance_id(text: &str) -> Result<InstanceId, String> {
    InstanceId::try_from(text.to_string())
}

/// A path below the version.
pub(super) fn fault_path(text: &str) -> Result<FaultPath, String> {
    FaultPath::try_from(text.to_string())
}

/// A share of all requests. JSON has no infinite numbers and none that are not numbers.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| share.is_finite());
    share.ok_or_else(|| "expected a number from 0 to 1".to_string())
}

pub(super) fn tag(text: &str) -> Result<TagTarget, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(TagTarget {
            key: key.to_string(),
            value: value.to_string(),
        }),
        _ => Err("expected KEY=VALUE".to_string()),
    }
}
