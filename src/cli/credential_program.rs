//! The start of a credential program by the daemon: no subcommand that a person uses.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::credentials::launch;

/// What a shell returns for a program that it cannot execute.
const CANNOT_EXECUTE: u8 = 126;

/// Becomes the program that the arguments name. The daemon logs the text of a failure.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let program = arguments.next().unwrap_or_default();
    let reason = launch::launch(&program, arguments);
    eprintln!("cannot be run: {reason}");
    ExitCode::from(CANNOT_EXECUTE)
}
