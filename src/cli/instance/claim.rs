//! `imdsd instance claim` and `release`.

use serde_json::{Value, json};

use super::args::{AttachmentArgs, ClaimArgs, ReleaseArgs};
use super::put::lost_line;
use crate::admin::client::ClientRequest;
use crate::cli::admin_client::{AdminClient, CommandFailure};
use crate::cli::output::{self, each, text};
use crate::instance::{Attachment, InstanceAttachment, InstanceId, SharedText};

pub(super) fn claim(client: &AdminClient, args: &ClaimArgs) -> Result<(), CommandFailure> {
    let only_from = match (args.only_free, args.only_from.is_empty()) {
        (true, _) => json!([]),
        (false, true) => Value::Null,
        (false, false) => json!(args.only_from),
    };
    let launch = match (args.launch, args.resume) {
        (true, _) => json!("New"),
        (false, true) => json!("Resume"),
        (false, false) => Value::Null,
    };
    let body = json!({
        "Attachments": args.attachments.all(),
        "Add": args.add,
        "Bind": args.bind,
        "Launch": launch,
        "OnlyFrom": only_from,
        "ClaimedBy": args.claimed_by,
    });
    let answer = send(client, &args.id, "claim", args.generation, &body)?;
    if args.output.json {
        output::print_json(&answer);
        return Ok(());
    }
    let names: Vec<String> = each(&answer["Attachments"]).map(name).collect();
    let (generation, launch_time) = (text(&answer["Generation"]), text(&answer["LaunchTime"]));
    output::print(&format!(
        "{}: has {}; generation {generation}, launched {launch_time}\n",
        args.id,
        names.join(", ")
    ));
    output::print(&each(&answer["Lost"]).map(lost_line).collect::<String>());
    Ok(())
}

pub(super) fn release(client: &AdminClient, args: &ReleaseArgs) -> Result<(), CommandFailure> {
    let attachments = args.attachments.all();
    let body = json!({
        "Attachments": (!attachments.is_empty()).then_some(attachments),
        "ClaimedBy": args.claimed_by,
        "LaunchTime": args.launch_time,
        "Stop": args.stop,
    });
    let answer = send(client, &args.id, "release", args.generation, &body)?;
    if args.output.json {
        output::print_json(&answer);
        return Ok(());
    }
    let names: Vec<String> = each(&answer["Released"]).map(name).collect();
    let outcome = match (names.is_empty(), answer["Reason"].as_str()) {
        (false, _) => format!("gave up {}", names.join(", ")),
        (true, Some(reason)) => format!("nothing to release: {reason}"),
        (true, None) => "nothing to release".to_string(),
    };
    output::print(&format!("{}: {outcome}\n", args.id));
    Ok(())
}

fn send(
    client: &AdminClient,
    id: &InstanceId,
    verb: &str,
    generation: Option<u64>,
    body: &Value,
) -> Result<Value, CommandFailure> {
    let answer = client.send(&ClientRequest {
        method: "POST",
        path: &format!("/v1/instances/{id}/{verb}"),
        if_match: generation,
        body: body.to_string().as_bytes(),
    })?;
    Ok(answer.json())
}

fn name(attachment: &Value) -> String {
    let read = serde_json::from_value::<InstanceAttachment>(attachment.clone());
    read.map_or_else(|_| attachment.to_string(), |read| read.to_string())
}

impl AttachmentArgs {
    fn all(&self) -> Vec<Attachment> {
        let interfaces = self.interfaces.iter().map(SharedText::from);
        let ports = self
            .bridge_ports
            .iter()
            .cloned()
            .map(Attachment::BridgePort);
        let namespaces = self.namespaces.iter().map(SharedText::from);
        let listeners = self.listeners.iter().map(SharedText::from);
        let addresses = self.source_addresses.iter().cloned();
        interfaces
            .map(Attachment::Interface)
            .chain(ports)
            .chain(namespaces.map(Attachment::NetworkNamespace))
            .chain(listeners.map(Attachment::Listener))
            .chain(addresses.map(Attachment::SourceAddress))
            .collect()
    }
}
