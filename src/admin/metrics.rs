//! A few counts: `GET /v1/health` as JSON, `GET /metrics` in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::AdminApi;
use crate::instance::InstanceState;
use crate::net::status::{ListenerStatus, SocketState};
use crate::registry::{Claimants, OptionsState};

const STATES: [InstanceState; 6] = [
    InstanceState::Pending,
    InstanceState::Running,
    InstanceState::ShuttingDown,
    InstanceState::Terminated,
    InstanceState::Stopping,
    InstanceState::Stopped,
];

/// What is counted, at one moment.
struct Counts {
    by_state: BTreeMap<&'static str, usize>,
    unreadable: usize,
    not_stored: usize,
    account_unreadable: usize,
    options_pending: usize,
    disputed: usize,
    unserved: usize,
    listeners: usize,
    waiting: usize,
    listening: usize,
    refused: usize,
    connections: usize,
}

impl Counts {
    fn now(admin: &AdminApi) -> Counts {
        let (snapshot, listeners) = (admin.registry.snapshot(), admin.listeners.load());
        let mut by_state: BTreeMap<_, _> = STATES.iter().map(|state| (state.as_str(), 0)).collect();
        for entry in snapshot.entries() {
            *by_state.entry(entry.instance.state.as_str()).or_default() += 1;
        }
        let sockets = |state| {
            listeners
                .listeners
                .iter()
                .flat_map(|way| &way.sockets)
                .filter(|socket| socket.state == state)
                .count()
        };
        let is_waiting = |way: &&ListenerStatus| way.waits_for.is_some();
        Counts {
            by_state,
            unreadable: snapshot.unreadable().count(),
            not_stored: snapshot.not_stored().count(),
            account_unreadable: usize::from(admin.registry.account().account().is_err()),
            options_pending: snapshot
                .entries()
                .filter(|entry| entry.options_state() == OptionsState::Pending)
                .count(),
            disputed: snapshot
                .claims()
                .filter(|(_, claim)| matches!(claim, Claimants::Conflict(_)))
                .count(),
            unserved: listeners.unserved.len(),
            listeners: listeners.listeners.len(),
            waiting: listeners.listeners.iter().filter(is_waiting).count(),
            listening: sockets(SocketState::Listening),
            refused: sockets(SocketState::Refused),
            connections: admin.daemon.connections(),
        }
    }
}

/// Whether an operator has something to look at, and what.
pub(super) fn health(admin: &AdminApi) -> Value {
    let counts = Counts::now(admin);
    let mut look_at = Vec::new();
    for (count, what) in [
        (
            counts.unreadable,
            "instances with unreadable records (`imdsd instance list`)",
        ),
        (
            counts.not_stored,
            "instances whose documents could not be stored, tried again every second (the log)",
        ),
        (
            counts.account_unreadable,
            "unreadable record of the account's metadata defaults (`imdsd check`, the log)",
        ),
        (
            counts.disputed,
            "listeners in that several instances claim (`imdsd instance list`)",
        ),
        (
            counts.unserved,
            "attachments at which nobody is served, by the configuration or on this host (GET /v1/listeners)",
        ),
        (
            counts.refused,
            "sockets that could not be opened (GET /v1/listeners)",
        ),
    ] {
        if count > 0 {
            look_at.push(format!("{count} {what}"));
        }
    }
    json!({
        "Status": if look_at.is_empty() { "ok" } else { "degraded" },
        "Version": env!("CARGO_PKG_VERSION"),
        "Instances": counts.by_state.values().sum::<usize>(),
        "LookAt": look_at,
    })
}

/// All of it, in the form that Prometheus reads.
pub(super) fn text(admin: &AdminApi) -> String {
    let counts = Counts::now(admin);
    let mut text = String::new();
    let mut family = |name: &str, help: &str, values: &[(String, usize)]| {
        let _ = writeln!(
            text,
            "# HELP imdsd_{name} {help}\n# TYPE imdsd_{name} gauge"
        );
        for (labels, value) in values {
            let _ = writeln!(text, "imdsd_{name}{labels} {value}");
        }
    };
    let one = |value| vec![(String::new(), value)];
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    family("build_info", "The version that runs.", &[(version, 1)]);
    let by_state: Vec<_> = counts
        .by_state
        .iter()
        .map(|(state, count)| (format!("{{state=\"{state}\"}}"), *count))
        .collect();
    family("instances", "Instances by state.", &by_state);
    family(
        "instances_unreadable",
        "Instances that are not served as their records can't be read or relied on.",
        &one(counts.unreadable),
    );
    family(
        "instances_not_stored",
        "Instances that are not served as their documents could not be stored.",
        &one(counts.not_stored),
    );
    family(
        "account_unreadable",
        "Whether the record of the account's metadata defaults can't be read or relied on.",
        &one(counts.account_unreadable),
    );
    family(
        "options_pending",
        "Instances whose newest options no socket carries yet.",
        &one(counts.options_pending),
    );
    family(
        "attachments_disputed",
        "Attachments that several instances claim.",
        &one(counts.disputed),
    );
    family(
        "attachments_unserved",
        "Attachments at which nobody is served, by the configuration or on this host.",
        &one(counts.unserved),
    );
    family(
        "listeners",
        "ListenersStatus in that the configuration or an instance asks for.",
        &one(counts.listeners),
    );
    family(
        "ways_waiting",
        "ListenersStatus in that wait for their link or namespace.",
        &one(counts.waiting),
    );
    family(
        "listeners_open",
        "Guest sockets that listen.",
        &one(counts.listening),
    );
    family(
        "listeners_refused",
        "Guest sockets that could not be opened.",
        &one(counts.refused),
    );
    family(
        "guest_connections",
        "Connections of guests.",
        &one(counts.connections),
    );
    text
}
