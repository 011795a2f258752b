//! `imdsd reload`: a running daemon reads its documents, keys and certificate again.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin_client::{self, AdminClient, CommandFailure, print_fault};
use super::output::{self, OutputArgs, each, text};

#[derive(Args)]
#[command(after_help = "\
Example:
  imdsd reload && imdsd instance list

Access keys, the certificate and each document are taken in separately. Faults are reported and
everything else is taken in; the exit status is 1. SIGHUP does the same and logs the outcome.
New instances are registered; documents that were edited are reported, and `imdsd instance put`
applies them. The configuration file itself (listeners, directories) is read at start only.")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    client: AdminClient,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: ReloadArgs) -> ExitCode {
    admin_client::exit(reload(&args))
}

fn reload(ReloadArgs { client, output }: &ReloadArgs) -> Result<(), CommandFailure> {
    let report = client.call_long("/v1/reload", b"")?;
    match output.json {
        true => output::print_json(&report),
        false => print_report(&report),
    }
    let mut failures = Vec::new();
    for (field, one, several) in [
        ("Faults", "fault", "faults"),
        (
            "NotStored",
            "instance that could not be stored",
            "instances that could not be stored",
        ),
    ] {
        match each(&report[field]).count() {
            0 => {}
            1 => failures.push(format!("1 {one}")),
            count => failures.push(format!("{count} {several}")),
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(CommandFailure::report(format!(
            "{}; everything else was reloaded",
            failures.join(" and ")
        ))),
    }
}

fn print_report(report: &Value) {
    each(&report["Faults"]).for_each(print_fault);
    for kept in each(&report["Kept"]) {
        match kept.as_str() {
            Some("AccessKeys") => eprintln!(
                "the file of access keys cannot be used; {} previous keys stay in force",
                report["AccessKeys"]
            ),
            _ => eprintln!("the certificate cannot be read; the previous one stays in use"),
        }
    }
    let mut lines = String::new();
    for (field, message) in [
        ("Registered", "registered"),
        (
            "Edited",
            "its document was edited, but the stored one stays in force; apply the edit with \
             `imdsd instance put`",
        ),
        (
            "Terminated",
            "was terminated; its document does not bring it back",
        ),
        (
            "Unreadable",
            "its record can't be read, and a document does not replace it",
        ),
        (
            "FaultyRecorded",
            "its document has faults; it is served from its record",
        ),
        (
            "FaultyNotServed",
            "not served, because its document has faults",
        ),
    ] {
        for id in each(&report[field]) {
            lines += &format!("{}: {message}\n", text(id));
        }
    }
    for id in each(&report["WithoutDocument"]) {
        let id = text(id);
        lines += &format!(
            "{id}: its document was removed, and it stays registered; to remove it: imdsd instance \
             delete {id}\n"
        );
    }
    for instance in each(&report["NotStored"]) {
        lines += &format!(
            "{}: not served, because it could not be stored; tried again every second: {}\n",
            text(&instance["InstanceId"]),
            text(&instance["Reason"])
        );
    }
    lines += &format!("{} instances unchanged", each(&report["Unchanged"]).count());
    if let Some(keys) = report["AccessKeys"].as_u64() {
        lines += &format!(", {keys} access keys in force");
    }
    output::print(&(lines + "\n"));
}
