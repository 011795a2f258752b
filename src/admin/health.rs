//! `GET /v1/health`: whether something needs an operator's attention, and what.

use serde_json::{Value, json};

use super::api::AdminApi;
use super::counts::Counts;
use super::fault_json::fault_json;

/// Returns `ok`, or `degraded` with a sentence for each problem.
pub(super) fn report(api: &AdminApi) -> Value {
    let Counts {
        instances,
        attachments,
        listeners,
        connections,
        file_faults,
        with_injected_faults,
    } = Counts::now(api);
    let problems = [
        (
            instances.unreadable,
            "instances with unreadable records (see `imdsd instance list`)",
        ),
        (
            instances.not_stored,
            "instances whose documents could not be stored; tried again every second (see the log)",
        ),
        (
            file_faults,
            "faults in documents, access keys or certificates at the last start or reload (see `imdsd check`)",
        ),
        (
            instances.faulty_documents,
            "instances that are not served because their documents have faults (see `imdsd check`)",
        ),
        (
            instances.account_unreadable,
            "unreadable record of the account's metadata defaults (see `imdsd check` and the log)",
        ),
        (
            attachments.disputed,
            "attachments that several instances claim (see `imdsd instance list`)",
        ),
        (
            attachments.unserved,
            "attachments that this configuration or this host cannot serve (see `imdsd listeners`)",
        ),
        (
            listeners.sockets_refused,
            "sockets that could not be opened (see `imdsd listeners`)",
        ),
        (
            with_injected_faults,
            "instances whose guests get slow or failing answers on purpose (see `imdsd event list`)",
        ),
    ];
    let look_at: Vec<String> = problems
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, problem)| format!("{count} {problem}"))
        .collect();
    json!({
        "Status": if look_at.is_empty() { "ok" } else { "degraded" },
        "Version": env!("CARGO_PKG_VERSION"),
        "Instances": instances.by_state.values().sum::<usize>(),
        "InstancesByState": instances.by_state,
        "BeingRegistered": instances.being_registered,
        "OptionsPending": instances.options_pending,
        "Listeners": {
            "All": listeners.all,
            "Waiting": listeners.waiting,
            "SocketsOpen": listeners.sockets_open,
            "SocketsRefused": listeners.sockets_refused,
        },
        "GuestConnections": connections,
        "InstancesWithInjectedFaults": with_injected_faults,
        "Pid": std::process::id(),
        "LookAt": look_at,
        "Faults": api.daemon.file_faults().iter().map(fault_json).collect::<Vec<_>>(),
    })
}
