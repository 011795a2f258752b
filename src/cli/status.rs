//! `imdsd status`: one screen about a running daemon.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin_client::{self, AdminClient, CommandFailure};
use super::output::{self, OutputArgs, each, text};

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd status
  imdsd status --json | jq .Status

The exit status is 0 if everything is served, 1 if something needs attention, and 3 if no daemon
could be reached.")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    client: AdminClient,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: StatusArgs) -> ExitCode {
    admin_client::exit(status(&args))
}

fn status(StatusArgs { client, output }: &StatusArgs) -> Result<(), CommandFailure> {
    let health = client.call("GET", "/v1/health", b"")?;
    match output.json {
        true => output::print_json(&health),
        false => output::print(&screen(&health)),
    }
    match health["Status"].as_str() {
        Some("ok") => Ok(()),
        _ => Err(CommandFailure::silent()),
    }
}

fn screen(health: &Value) -> String {
    let version = text(&health["Version"]);
    let mut lines = vec![
        row("status", text(&health["Status"])),
        row(
            "imdsd",
            format!("{version}, process {}", text(&health["Pid"])),
        ),
        row("instances", by_state(health)),
        row("options", pending(health)),
        row("listeners", listeners(health)),
        row("connections", text(&health["GuestConnections"])),
    ];
    lines.extend(each(&health["LookAt"]).map(|problem| row("look at", text(problem))));
    lines.concat()
}

fn row(name: &str, value: String) -> String {
    format!("{name:12} {value}\n")
}

/// `3 (running 2, stopped 1)`
fn by_state(health: &Value) -> String {
    let states = health["InstancesByState"].as_object().into_iter().flatten();
    let states: Vec<String> = states
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(state, count)| format!("{state} {count}"))
        .collect();
    let by_state = match states.is_empty() {
        true => text(&health["Instances"]),
        false => format!("{} ({})", text(&health["Instances"]), states.join(", ")),
    };
    match health["BeingRegistered"].as_u64() {
        None | Some(0) => by_state,
        Some(count) => format!("{by_state}, {count} being registered"),
    }
}

fn pending(health: &Value) -> String {
    match health["OptionsPending"].as_u64() {
        Some(0) => "all applied".to_string(),
        _ => format!("{} pending", text(&health["OptionsPending"])),
    }
}

fn listeners(health: &Value) -> String {
    let listeners = &health["Listeners"];
    format!(
        "{} ({} waiting), sockets open {}, refused {}",
        text(&listeners["All"]),
        text(&listeners["Waiting"]),
        text(&listeners["SocketsOpen"]),
        text(&listeners["SocketsRefused"])
    )
}
