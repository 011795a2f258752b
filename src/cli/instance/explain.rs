//! `imdsd instance explain`.

use serde_json::{Value, json};

use super::args::ExplainArgs;
use crate::cli::admin_client::{AdminClient, CommandFailure};
use crate::cli::output::{self, each, text};

pub(super) fn explain(client: &AdminClient, args: &ExplainArgs) -> Result<(), CommandFailure> {
    let question = question(args).to_string();
    let answer = client.call("POST", "/v1/explain", question.as_bytes())?;
    if args.output.json {
        output::print_json(&answer);
        return Ok(());
    }
    let mut lines = String::new();
    for explanation in each(&answer["Explanations"]) {
        lines += &explanation_lines(explanation, args);
    }
    for note in each(&answer["Notes"]) {
        lines += &format!("{}\n", text(note));
    }
    output::print(&lines);
    Ok(())
}

fn question(args: &ExplainArgs) -> Value {
    let token = args.token.iter().map(|token| {
        let name = "X-aws-ec2-metadata-token".to_string();
        (name, token.clone())
    });
    let headers: Vec<(String, String)> = args.headers.iter().cloned().chain(token).collect();
    json!({
        "InstanceId": args.id,
        "Listener": args.listener,
        "Interface": args.interface,
        "Mark": args.mark,
        "NetworkNamespace": args.namespace,
        "Address": args.address,
        "Request": {
            "Method": args.method,
            "Path": args.path,
            "Family": if args.ipv6 { "ipv6" } else { "ipv4" },
            "Headers": headers,
            "HasBody": args.body,
        },
    })
}

fn explanation_lines(explanation: &Value, args: &ExplainArgs) -> String {
    let instance = match &explanation["InstanceId"] {
        Value::Null => "no instance".to_string(),
        id => text(id),
    };
    let (attachment, reason) = (text(&explanation["Attachment"]), text(&explanation["Why"]));
    let lines = format!("{attachment}: {instance}\n  {reason}\n");
    let answer = &explanation["Answer"];
    if answer.is_null() {
        return lines;
    }
    let status = answer["Status"].as_u64();
    let status = status.map_or("no answer".to_string(), |status| status.to_string());
    let condition = match explanation["Reached"] == true {
        true => "",
        false => "no request gets there; if one did: ",
    };
    let (method, path, rule) = (&args.method, &args.path, text(&answer["Rule"]));
    lines + &format!("  {method} {path}: {condition}{status}, {rule}\n")
}
