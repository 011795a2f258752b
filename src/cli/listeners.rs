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
and is tried again).

A second table lists every attachment at which its instance is not, or not completely, served:
closed (by HttpProtocolIpv6), partial, waiting, refused, void (its interface is gone), inactive (the
instance is stopped or terminated) or quarantined, with the reason. The options of a running instance
are pending while one of its attachments is in this table and not closed.")]
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
    let is_served = |attachment: &&Value| attachment["State"] == "open";
    let unserved = each(&answer["Attachments"]).filter(|attachment| !is_served(attachment));
    let rows: Vec<Vec<String>> = unserved.map(attachment_row).collect();
    if !rows.is_empty() {
        output::print("\n");
        output::print_table(&["ATTACHMENT", "INSTANCE", "STATE"], &rows);
    }
    Ok(())
}

fn attachment_row(attachment: &Value) -> Vec<String> {
    let state = text(&attachment["State"]);
    let state = match attachment["Reason"].as_str() {
        Some(reason) => format!("{state}: {reason}"),
        None => state,
    };
    vec![
        text(&attachment["Text"]),
        text(&attachment["InstanceId"]),
        state,
    ]
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
