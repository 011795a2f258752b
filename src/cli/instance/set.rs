//! `imdsd instance set`: changes metadata options.

use serde_json::{Map, Value};

use super::args::{OptionArgs, SetArgs};
use crate::admin::client::ClientRequest;
use crate::cli::admin_client::{AdminClient, CommandFailure};
use crate::cli::output::{self, each, text};

pub(super) fn set(client: &AdminClient, args: &SetArgs) -> Result<(), CommandFailure> {
    if args.ids.len() > 1 && args.generation.is_some() {
        return Err(CommandFailure::report(
            "--generation applies to one instance; change the others separately",
        ));
    }
    let options = Value::Object(args.options.to_json());
    let body = options.to_string();
    // One request for each: a refused change is reported and does not stop the others.
    let mut outcome = Ok(());
    let mut answers = Vec::new();
    for id in &args.ids {
        let changed = client.send(&ClientRequest {
            method: "PATCH",
            path: &format!("/v1/instances/{id}/metadata-options"),
            if_match: args.generation,
            body: body.as_bytes(),
        });
        match changed {
            Ok(answer) => answers.extend(each(&answer.json()["Instances"]).cloned()),
            Err(failure) if failure.is_unreachable() => return Err(failure),
            Err(failure) => outcome = Err(failure),
        }
    }
    match args.output.json {
        true => output::print_json(&serde_json::json!({ "Instances": answers })),
        false => output::print(&answers.iter().map(line).collect::<String>()),
    }
    outcome
}

/// `i-…: HttpEndpoint enabled, HttpTokens required, …: applied, generation 2`
fn line(instance: &Value) -> String {
    let options = instance["MetadataOptions"].as_object();
    let options: Vec<String> = options
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name} {}", text(value)))
        .collect();
    format!(
        "{}: {}: {}, generation {}\n",
        text(&instance["InstanceId"]),
        options.join(", "),
        text(&instance["OptionsState"]),
        text(&instance["Generation"])
    )
}

impl OptionArgs {
    /// Returns the options that were given, as the admin API reads them.
    fn to_json(&self) -> Map<String, Value> {
        let text = |value: &Option<String>| value.clone().map(Value::String);
        let given = [
            ("HttpTokens", text(&self.http_tokens)),
            ("HttpPutResponseHopLimit", self.hop_limit.map(Value::from)),
            ("HttpEndpoint", text(&self.http_endpoint)),
            ("HttpProtocolIpv6", text(&self.http_protocol_ipv6)),
            ("InstanceMetadataTags", text(&self.instance_metadata_tags)),
        ];
        given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_string(), value?)))
            .collect()
    }
}
