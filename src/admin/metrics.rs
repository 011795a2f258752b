//! `GET /metrics`: the counts in Prometheus's text format.

use std::fmt::{Display, Write as _};

use super::api::AdminApi;
use super::counts::Counts;

/// Returns every metric with its help text.
pub(super) fn render(api: &AdminApi) -> String {
    let Counts {
        instances,
        attachments,
        listeners,
        connections,
        file_faults,
        with_injected_faults,
    } = Counts::now(api);
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    let by_state: Vec<(String, usize)> = instances
        .by_state
        .iter()
        .map(|(state, count)| (format!("{{state=\"{state}\"}}"), *count))
        .collect();
    let attachments_by_state: Vec<(String, usize)> = attachments
        .by_state
        .iter()
        .map(|(state, count)| (format!("{{state=\"{state}\"}}"), *count))
        .collect();
    let mut text = String::new();
    add_gauge(
        &mut text,
        "build_info",
        "The running version.",
        &[(version, 1)],
    );
    add_gauge(&mut text, "instances", "Instances by state.", &by_state);
    add_gauge(
        &mut text,
        "attachments",
        "Attachments by state; each is in one.",
        &attachments_by_state,
    );
    for (name, help, value) in [
        (
            "instances_unreadable",
            "Instances that are not served because their records can't be read or trusted.",
            instances.unreadable,
        ),
        (
            "instances_not_stored",
            "Instances that are not served because their documents could not be stored.",
            instances.not_stored,
        ),
        (
            "instances_faulty_documents",
            "Instances that are not served because their documents have faults.",
            instances.faulty_documents,
        ),
        (
            "instances_being_registered",
            "New instances that a start or a reload is registering.",
            instances.being_registered,
        ),
        (
            "file_faults",
            "Faults in documents, access keys and certificates at the last start or reload.",
            file_faults,
        ),
        (
            "account_unreadable",
            "Whether the record of the account's metadata defaults can't be read or trusted.",
            instances.account_unreadable,
        ),
        (
            "options_pending",
            "Instances whose latest options are not yet applied to their sockets.",
            instances.options_pending,
        ),
        (
            "attachments_disputed",
            "Attachments that several instances claim.",
            attachments.disputed,
        ),
        (
            "attachments_unserved",
            "Attachments that this configuration or this host cannot serve.",
            attachments.unserved,
        ),
        (
            "listeners",
            "Listeners that the configuration or an instance needs.",
            listeners.all,
        ),
        (
            "listeners_waiting",
            "Listeners that wait for their link or namespace.",
            listeners.waiting,
        ),
        (
            "listeners_open",
            "Guest sockets that listen.",
            listeners.sockets_open,
        ),
        (
            "listeners_refused",
            "Guest sockets that could not be opened.",
            listeners.sockets_refused,
        ),
        ("guest_connections", "Open guest connections.", connections),
        (
            "instances_injected_faults",
            "Instances whose guests get slow or failing answers on purpose.",
            with_injected_faults,
        ),
    ] {
        add_gauge(&mut text, name, help, &[(String::new(), value)]);
    }
    let throttled = api
        .daemon
        .throttled()
        .map(|(answer, count)| (format!("{{answer=\"{answer}\"}}"), count));
    add_metric(
        &mut text,
        "counter",
        "guest_throttled_total",
        "Requests and connections of guests that exceeded their request rate, by answer.",
        &throttled,
    );
    let refused: Vec<(String, u64)> = api
        .daemon
        .control_refusals()
        .into_iter()
        .map(|(reason, count)| (format!("{{reason=\"{reason}\"}}"), count))
        .collect();
    add_metric(
        &mut text,
        "counter",
        "control_refused_total",
        "Requests to the EC2 API that were refused, by reason.",
        &refused,
    );
    text
}

fn add_gauge(text: &mut String, name: &str, help: &str, values: &[(String, usize)]) {
    add_metric(text, "gauge", name, help, values);
}

fn add_metric<T: Display>(
    text: &mut String,
    kind: &str,
    name: &str,
    help: &str,
    values: &[(String, T)],
) {
    let _ = writeln!(text, "# HELP imdsd_{name} {help}");
    let _ = writeln!(text, "# TYPE imdsd_{name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "imdsd_{name}{labels} {value}");
    }
}
