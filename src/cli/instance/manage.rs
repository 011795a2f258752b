//! `imdsd instance get`, `list` and `delete`.

use serde_json::Value;

use crate::admin::client::ClientRequest;
use crate::cli::admin_client::{AdminClient, CommandFailure};
use crate::cli::output::{self, OutputArgs, each, joined, text};
use crate::instance::InstanceId;

/// The query that shows secrets, or none.
pub(super) fn secrets_query(with_secrets: bool) -> &'static str {
    if with_secrets { "?secrets=shown" } else { "" }
}

pub(super) fn get(
    client: &AdminClient,
    id: &InstanceId,
    with_secrets: bool,
) -> Result<(), CommandFailure> {
    let path = format!("/v1/instances/{id}{}", secrets_query(with_secrets));
    output::print_json(&client.call("GET", &path, b"")?);
    Ok(())
}

pub(super) fn list(client: &AdminClient, output: &OutputArgs) -> Result<(), CommandFailure> {
    let answer = client.call("GET", "/v1/instances", b"")?;
    if output.json {
        output::print_json(&answer);
        return Ok(());
    }
    let header = [
        "INSTANCE",
        "NAME",
        "STATE",
        "ADDRESS",
        "TOKENS",
        "ENDPOINT",
        "OPTIONS",
        "GENERATION",
        "ATTACHMENTS",
    ];
    let rows: Vec<Vec<String>> = each(&answer["Instances"]).map(row).collect();
    output::print_table(&header, &rows);
    for id in each(&answer["Unreadable"]) {
        eprintln!(
            "{}: not served, because its record can't be read or trusted; see the daemon's log",
            text(id)
        );
    }
    for id in each(&answer["NotStored"]) {
        eprintln!(
            "{}: not served, because its document could not be stored; tried again every second",
            text(id)
        );
    }
    // Thousands, perhaps, and nothing is wrong with them.
    match each(&answer["BeingRegistered"]).count() {
        0 => {}
        1 => eprintln!("1 new instance is being registered, and is not served yet"),
        count => eprintln!("{count} new instances are being registered, and are not served yet"),
    }
    for instance in each(&answer["Instances"]) {
        if instance["InjectedFaults"]
            .as_u64()
            .is_some_and(|count| count > 0)
        {
            eprintln!(
                "{}: its guest gets slow or failing answers on purpose; see `imdsd event list`",
                text(&instance["InstanceId"])
            );
        }
    }
    for id in each(&answer["FaultyDocuments"]) {
        eprintln!(
            "{}: not served, because its document has faults; `imdsd check` names them",
            text(id)
        );
    }
    Ok(())
}

fn row(instance: &Value) -> Vec<String> {
    let options = &instance["MetadataOptions"];
    let attachments: Vec<String> = each(&instance["Attachments"]).map(attachment).collect();
    vec![
        text(&instance["InstanceId"]),
        text(&instance["Name"]),
        text(&instance["State"]),
        text(&instance["PrivateIpAddress"]),
        text(&options["HttpTokens"]),
        text(&options["HttpEndpoint"]),
        text(&instance["OptionsState"]),
        text(&instance["Generation"]),
        match attachments.is_empty() {
            true => "-".to_string(),
            false => attachments.join(", "),
        },
    ]
}

fn attachment(attachment: &Value) -> String {
    let name = text(&attachment["Text"]);
    if let Some(reason) = attachment["Void"].as_str() {
        return format!("{name} (void: {reason})");
    }
    match joined(&attachment["DisputedWith"]).as_str() {
        "" => name,
        others => format!("{name} (disputed with {others})"),
    }
}

pub(super) fn delete(
    client: &AdminClient,
    ids: &[InstanceId],
    generation: Option<u64>,
) -> Result<(), CommandFailure> {
    if ids.len() > 1 && generation.is_some() {
        return Err(CommandFailure::report(
            "--generation applies to one instance; delete the others separately",
        ));
    }
    // One request for each: a refused deletion is reported and does not stop the others.
    let mut outcome = Ok(());
    for id in ids {
        let path = format!("/v1/instances/{id}");
        let deleted = client.send(&ClientRequest {
            method: "DELETE",
            path: &path,
            if_match: generation,
            body: b"",
        });
        match deleted {
            Ok(answer) => output::print(&format!("{id}: {}\n", text(&answer.json()["Message"]))),
            Err(failure) if failure.is_unreachable() => return Err(failure),
            Err(failure) => outcome = Err(failure),
        }
    }
    outcome
}
