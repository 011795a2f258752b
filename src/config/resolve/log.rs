//! `[log]`

use crate::config::section::{Faults, Section};
use crate::config::settings::{LogFormat, LogLevel, LogSettings};

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

pub(super) fn read(root: &mut Section<'_>, faults: &mut Faults<'_>) -> LogSettings {
    let Some(mut section) = root.table("log", faults) else {
        return LogSettings::default();
    };
    let format = section.word("format", &FORMATS, faults);
    let level = section.word("level", &LEVELS, faults);
    section.finish(faults);
    LogSettings {
        format: format.unwrap_or_default(),
        level: level.unwrap_or_default(),
    }
}
