//! How far a long operation is: a bar on a terminal, a line now and then in a pipe.
//!
//! Quick operations show nothing.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// How often a line is printed without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// The display of one operation on standard error.
pub(super) struct ProgressDisplay {
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl ProgressDisplay {
    pub(super) fn new() -> ProgressDisplay {
        let is_terminal = std::io::stderr().is_terminal();
        ProgressDisplay {
            bar: is_terminal.then(new_bar),
            last_line: Instant::now(),
        }
    }

    /// Shows an element of `GET /v1/operations`.
    pub(super) fn show(&mut self, operation: &Value) {
        if let Some(bar) = &self.bar {
            bar.set_length(operation["Total"].as_u64().unwrap_or(0));
            bar.set_position(operation["Done"].as_u64().unwrap_or(0));
            bar.set_message(text(operation));
            bar.tick();
            return;
        }
        if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            eprintln!("{}", text(operation));
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:30}] {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// `preparing: 4200 of 10000 instances, 3 s`
fn text(operation: &Value) -> String {
    let number = |field: &str| operation[field].as_u64().unwrap_or(0);
    let (seconds, total) = (number("Seconds"), number("Total"));
    let phase = operation["Phase"].as_str().unwrap_or("working");
    match total {
        0 => format!("{phase}, {seconds} s"),
        total => format!(
            "{phase}: {} of {total} instances, {seconds} s",
            number("Done")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_says_how_far_it_is() {
        for (operation, expected) in [
            (
                json!({"Phase": "preparing", "Done": 0, "Total": 0, "Seconds": 1}),
                "preparing, 1 s",
            ),
            (
                json!({"Phase": "committing", "Done": 42, "Total": 100, "Seconds": 3}),
                "committing: 42 of 100 instances, 3 s",
            ),
            (json!({}), "working, 0 s"),
        ] {
            assert_eq!(text(&operation), expected);
        }
    }
}
