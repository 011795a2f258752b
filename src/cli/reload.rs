//! `imdsd reload` and `imdsd listeners`: a running daemon reads its files again, and says how its listeners are.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::instance::Form;
use crate::cli::admin_client;
use crate::cli::admin_client::{Door, NotDone, each, joined, text};

#[derive(Args)]
#[command(
    after_help = "Example:\n  imdsd reload && imdsd instance list\nOn any fault in the files nothing is changed. SIGHUP does the same, \
                        and says in the log what came of it. The configuration itself (listeners, directories) is read at a \
                        start only."
)]
pub struct Arguments {
    #[command(flatten)]
    door: Door,
    #[command(flatten)]
    form: Form,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  imdsd listeners --json | jq '.Listeners[] | select(.WaitsFor)'"
)]
pub struct Listeners {
    #[command(flatten)]
    door: Door,
    #[command(flatten)]
    form: Form,
}

pub fn run(arguments: Arguments) -> ExitCode {
    admin_client::exit(reload(&arguments))
}

pub fn run_listeners(arguments: Listeners) -> ExitCode {
    admin_client::exit(ways(&arguments))
}

fn reload(Arguments { door, form }: &Arguments) -> Result<(), NotDone> {
    let answer = door.ask("POST", "/v1/reload", b"")?;
    match form.json {
        true => admin_client::print_json(&answer),
        false => tell(&answer),
    }
    match each(&answer["NotStored"]).count() {
        0 => Ok(()),
        count => Err(NotDone::saying(format!(
            "{count} instances could not be stored; everything else is done"
        ))),
    }
}

fn tell(answer: &Value) {
    let mut said = String::new();
    for (field, what) in [
        ("Registered", "registered"),
        (
            "Edited",
            "its document was edited, and the stored one stays in force; take the edit in with `imdsd instance put`",
        ),
        (
            "Terminated",
            "was terminated; its document does not bring it back",
        ),
        (
            "Unreadable",
            "its record can't be read, and no document replaces it",
        ),
    ] {
        for id in each(&answer[field]) {
            said += &format!("{}: {what}\n", text(id));
        }
    }
    for instance in each(&answer["NotStored"]) {
        said += &format!(
            "{}: not served, as it could not be stored, which is tried over and over: {}\n",
            text(&instance["InstanceId"]),
            text(&instance["Reason"])
        );
    }
    said += &format!("{} instances unchanged", each(&answer["Unchanged"]).count());
    if let Some(keys) = answer["AccessKeys"].as_u64() {
        said += &format!(", {keys} access keys in force");
    }
    admin_client::print(&(said + "\n"));
}

fn ways(Listeners { door, form }: &Listeners) -> Result<(), NotDone> {
    let answer = door.ask("GET", "/v1/listeners", b"")?;
    if form.json {
        admin_client::print_json(&answer);
        return Ok(());
    }
    let socket = |socket: &Value| {
        let reason = socket["Reason"]
            .as_str()
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        format!(
            "{} {}{reason}",
            text(&socket["Address"]),
            text(&socket["State"])
        )
    };
    let row = |way: &Value| {
        let state = match way["WaitsFor"].as_str() {
            Some(missing) => format!("waits: {missing}"),
            None => each(&way["Sockets"])
                .map(socket)
                .collect::<Vec<_>>()
                .join(", "),
        };
        let instances = joined(&way["Instances"]);
        let instances = if instances.is_empty() {
            "-".to_string()
        } else {
            instances
        };
        vec![text(&way["Kind"]), text(&way["Name"]), instances, state]
    };
    let rows: Vec<Vec<String>> = each(&answer["Listeners"]).map(row).collect();
    admin_client::print_table(&["KIND", "NAME", "INSTANCES", "STATE"], &rows);
    for unserved in each(&answer["Unserved"]) {
        eprintln!(
            "{} is not served: {}",
            text(&unserved["Attachment"]),
            text(&unserved["Reason"])
        );
    }
    Ok(())
}
