//! `imdsd listeners`: the state of each listener of a running daemon.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin_client::{self, AdminClient, CommandFailure};
use super::output::{self, OutputArgs, each, joined, text};

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd listeners
  imdsd listeners --json | jq '.Listeners[] | select(.WaitsFor)'

A listener waits until its interface, bridge or network namespace is ready. A socket is listening,
closed (no instance there is served over that address family) or refused (it could not be opened,
and is tried again).")]
pub(super) struct ListenersArgs {
    #[command(flatten)]
    client: AdminClient,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: ListenersArgs) -> ExitCode {
    admin_client::exit(list(&args))
}

fn list(ListenersArgs { client, output }: &ListenersArgs) -> Result<(), CommandFailure> {
    let answer = client.call("GET", "/v1/listeners", b"")?;
    if output.json {
        output::print_json(&answer);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = each(&answer["Listeners"]).map(row).collect();
    output::print_table(&["KIND", "NAME", "INSTANCES", "STATE"], &rows);
    for unserved in each(&answer["Unserved"]) {
        eprintln!(
            "{} is not served: {}",
            text(&unserved["Attachment"]),
            text(&unserved["Reason"])
        );
    }
    Ok(())
}

fn row(listener: &Value) -> Vec<String> {
    let state = match listener["WaitsFor"].as_str() {
        Some(missing) => format!("waits: {missing}"),
        None => {
            let sockets: Vec<String> = each(&listener["Sockets"]).map(socket).collect();
            sockets.join(", ")
        }
    };
    let instances = match joined(&listener["Instances"]) {
        none if none.is_empty() => "-".to_string(),
        some => some,
    };
    let (kind, name) = (text(&listener["Kind"]), text(&listener["Name"]));
    vec![kind, name, instances, state]
}

fn socket(socket: &Value) -> String {
    let reason = socket["Reason"].as_str();
    let reason = reason.map(|reason| format!(" ({reason})"));
    format!(
        "{} {}{}",
        text(&socket["Address"]),
        text(&socket["State"]),
        reason.unwrap_or_default()
    )
}
