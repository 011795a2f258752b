//! `imdsd instance put` and `import`.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::PutArgs;
use crate::admin::client::ClientRequest;
use crate::cli::admin_client::{AdminClient, CommandFailure};
use crate::cli::output::{self, each, joined, text};
use crate::document;
use crate::fault::Fault;

pub(super) fn put(client: &AdminClient, args: &PutArgs) -> Result<(), CommandFailure> {
    let documents: Vec<Value> = read_files(&args.paths)?
        .into_iter()
        .map(|(file, text)| json!({ "File": file, "Text": text }))
        .collect();
    let body = json!({ "Documents": documents }).to_string();
    let path = format!(
        "/v1/instances?relaunch={}&bind={}&force={}&dry-run={}",
        args.relaunch, args.bind, args.force, args.dry_run
    );
    let request = ClientRequest {
        method: "POST",
        path: &path,
        if_match: args.generation,
        body: body.as_bytes(),
    };
    let answer = client.send_long(&request)?.json();
    if args.output.json {
        output::print_json(&answer);
        return Ok(());
    }
    let lines = each(&answer["Instances"]).map(|instance| outcome_line(instance, args.dry_run));
    output::print(&lines.collect::<String>());
    output::print(&each(&answer["Lost"]).map(lost_line).collect::<String>());
    for disputed in each(&answer["Disputed"]) {
        eprintln!(
            "warning: {} is claimed by {}: none of them is served there",
            text(&disputed["Attachment"]),
            joined(&disputed["Claimants"])
        );
    }
    Ok(())
}

/// `i-…: lost interface 'vnet0' to i-…`
pub(super) fn lost_line(lost: &Value) -> String {
    let (id, attachment) = (text(&lost["InstanceId"]), text(&lost["Attachment"]));
    format!("{id}: lost {attachment} to {}\n", text(&lost["To"]))
}

/// `i-…: replaced, generation 2: Tags`
fn outcome_line(instance: &Value, dry_run: bool) -> String {
    let (id, outcome) = (text(&instance["InstanceId"]), text(&instance["Outcome"]));
    let would = if dry_run { "would be " } else { "" };
    let mut line = format!("{id}: {would}{outcome}");
    if let Some(generation) = instance["Generation"].as_u64().filter(|_| !dry_run) {
        line += &format!(", generation {generation}");
    }
    match joined(&instance["Changed"]).as_str() {
        "" => line + "\n",
        changed => line + &format!(": {changed}\n"),
    }
}

/// Returns the files' names and texts. Without paths it reads standard input.
fn read_files(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, CommandFailure> {
    if paths.is_empty() && std::io::stdin().is_terminal() {
        return Err(CommandFailure::report(
            "name a document or a directory of documents, or pass a document on standard input",
        ));
    }
    let standard_input = [PathBuf::from("-")];
    let paths = if paths.is_empty() {
        &standard_input[..]
    } else {
        paths
    };
    let mut files = Vec::new();
    for path in paths {
        match path == Path::new("-") {
            true => files.push((PathBuf::from("standard input"), read_standard_input()?)),
            false => files.extend(document::texts_at(path).map_err(|faults| report(&faults))?),
        }
    }
    match files.is_empty() {
        true => Err(CommandFailure::report("there is no *.json in it")),
        false => Ok(files),
    }
}

fn read_standard_input() -> Result<String, CommandFailure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|reason| reason.to_string());
    let text = read.and_then(|_| document::decode(bytes));
    text.map_err(|reason| {
        CommandFailure::report(format_args!("standard input can't be read: {reason}"))
    })
}

fn report(faults: &[Fault]) -> CommandFailure {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    CommandFailure::report(lines.join("\n"))
}
