//! The subcommands that inject one event, and the list.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::{EventArgs, EventCommand, InjectionArgs};
use super::describe::{
    IN_FORCE, active_changes, change_text, fault_text, future_steps, moment, outcome_lines,
};
use super::play::play;
use super::request::event_of;
use crate::cli::admin_client::{self, AdminClient, CommandFailure};
use crate::cli::output::{self, OutputArgs, each, text};
use crate::clock::Moment;
use crate::instance::events::request::{Event, EventRequest};

pub(crate) fn run(EventArgs { client, command }: EventArgs) -> ExitCode {
    admin_client::exit(match command {
        EventCommand::List { output } => list(&client, &output),
        EventCommand::Play {
            file,
            no_wait,
            targets,
            output,
        } => play(&client, &file, no_wait, &targets, &output),
        command => match event_of(command) {
            Some((event, injection)) => inject(&client, event, &injection),
            None => Ok(()),
        },
    })
}

fn inject(
    client: &AdminClient,
    event: Event,
    injection: &InjectionArgs,
) -> Result<(), CommandFailure> {
    let request = EventRequest {
        when: injection.start.when(),
        event,
    };
    let body = json!({ "Targets": injection.targets.targets(), "Request": request });
    let answer = client.call_long("/v1/events", body.to_string().as_bytes())?;
    if injection.output.json {
        output::print_json(&answer);
        return Ok(());
    }
    output::print(&outcome_lines(&answer, Moment::now().wall));
    Ok(())
}

fn list(client: &AdminClient, output: &OutputArgs) -> Result<(), CommandFailure> {
    let answer = client.call("GET", "/v1/events", b"")?;
    if output.json {
        output::print_json(&answer);
        return Ok(());
    }
    let now = Moment::now().wall;
    let rows: Vec<Vec<String>> = each(&answer["Instances"])
        .flat_map(|instance| rows_of(instance, now))
        .collect();
    output::print_table(&["INSTANCE", "WHEN", "WHAT"], &rows);
    Ok(())
}

fn rows_of(instance: &Value, now: Timestamp) -> Vec<Vec<String>> {
    let id = text(&instance["InstanceId"]);
    let active = active_changes(instance)
        .into_iter()
        .map(|change| (IN_FORCE.to_string(), change));
    let future = future_steps(instance)
        .into_iter()
        .map(|step| (moment(step.at, now), change_text(&step.set)));
    let faults = each(&instance["Faults"]).filter_map(|fault| fault_text(fault, now));
    active
        .chain(future)
        .chain(faults)
        .map(|(when, what)| vec![id.clone(), when, what])
        .collect()
}
