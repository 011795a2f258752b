//! Logging to standard error, as text or JSON. In systemd's journal, each line has its priority.
//!
//! The callers decide what is logged: never a token, a secret, a signature or user data.

use std::io::{self, IsTerminal as _, Stderr, Write};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, LogLevel};

/// Starts logging for the process. Must be called only once.
pub(crate) fn start(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // If the reader of the log closes the stream, the subscriber must not report that on the same
    // stream: it would panic during a guest's request.
    let lines = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_max_level(level)
        .with_target(false);
    if is_journal() {
        // The journal has the time of each line.
        let lines = lines.without_time().with_writer(JournalLines);
        return match format {
            LogFormat::Text => lines.with_ansi(false).init(),
            LogFormat::Json => lines.json().flatten_event(true).init(),
        };
    }
    let lines = lines.with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Returns whether standard error leads to systemd's journal: JOURNAL_STREAM has the device and the
/// inode of the stream (systemd.exec(5)). A program that redirected the stream has another one.
fn is_journal() -> bool {
    let Ok(expected) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stat = rustix::fs::fstat(io::stderr());
    stat.is_ok_and(|stat| expected == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Writes lines with the prefix that the journal reads their priority from.
struct JournalLines;

/// Writes one line.
struct JournalLine(&'static [u8]);

impl<'a> MakeWriter<'a> for JournalLines {
    type Writer = JournalLine;

    fn make_writer(&'a self) -> JournalLine {
        JournalLine(priority(Level::INFO))
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> JournalLine {
        JournalLine(priority(*metadata.level()))
    }
}

/// The prefixes of sd-daemon(3).
fn priority(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        Level::DEBUG | Level::TRACE => b"<7>",
    }
}

impl Write for JournalLine {
    /// The subscriber writes an event with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr: Stderr = io::stderr();
        stderr.write_all(&[self.0, line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
