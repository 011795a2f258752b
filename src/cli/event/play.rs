//! `imdsd event play`: stores a scenario, then reports each step when it takes effect.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::args::TargetArgs;
use super::describe::{change_text, moment, outcome_lines, steps_of};
use crate::cli::admin_client::{AdminClient, CommandFailure};
use crate::cli::output::{self, OutputArgs};
use crate::clock::Moment;
use crate::plain_file;

pub(super) fn play(
    client: &AdminClient,
    file: &Path,
    no_wait: bool,
    targets: &TargetArgs,
    output: &OutputArgs,
) -> Result<(), CommandFailure> {
    let text = plain_file::read_text(file, plain_file::MAX_BYTES).map_err(|reason| {
        CommandFailure::report(format_args!("{}: can't be read: {reason}", file.display()))
    })?;
    let body = json!({ "Targets": targets.targets(), "Scenario": { "File": file, "Text": text } });
    let answer = client.call_long("/v1/events", body.to_string().as_bytes())?;
    if output.json {
        output::print_json(&answer);
        return Ok(());
    }
    output::print(&outcome_lines(&answer, Moment::now().wall));
    if no_wait {
        return Ok(());
    }
    output::print("stored; the daemon carries it out from here on\n");
    let steps = steps_of(&answer);
    let count = steps.len();
    for (index, (step, ids)) in steps.iter().enumerate() {
        let number = index + 1;
        wait_until(step.at, &format!("step {number} of {count}"));
        output::print(&format!(
            "{number}/{count}  {}: {ids}\n",
            change_text(&step.set)
        ));
    }
    Ok(())
}

/// Waits by the wall clock, which decides for guests too; counts down on a terminal.
fn wait_until(time: Timestamp, label: &str) {
    let counts_down = std::io::stdout().is_terminal();
    loop {
        let left = time.duration_since(Moment::now().wall);
        if left <= SignedDuration::ZERO {
            break;
        }
        if counts_down {
            let left = moment(time, Moment::now().wall);
            output::print(&format!("\r{label} {left}\x1b[K"));
        }
        let slice = left.min(SignedDuration::from_millis(500));
        std::thread::sleep(Duration::try_from(slice).unwrap_or_default());
    }
    if counts_down {
        output::print("\r\x1b[K");
    }
}
