//! `[guest]`

use std::time::Duration;

use crate::config::resolve::values::host_name;
use crate::config::section::{Faults, Section};
use crate::config::settings::{
    CONNECTIONS, CONNECTIONS_RANGE, GUEST_THREADS, GUEST_THREADS_RANGE, GuestSettings,
    HEAD_SECONDS, HEAD_SECONDS_RANGE, REFUSE_REBINDING,
};

pub(super) fn read(root: &mut Section<'_>, faults: &mut Faults<'_>) -> GuestSettings {
    let Some(mut section) = root.table("guest", faults) else {
        return GuestSettings::default();
    };
    let allowed_hosts = section.each("allowed_hosts", faults, host_name);
    let refuse_rebinding = section.boolean("refuse_rebinding", faults);
    let connections = section.integer("connections", CONNECTIONS_RANGE, "connections", faults);
    let seconds = section.integer("head_seconds", HEAD_SECONDS_RANGE, "seconds", faults);
    let threads = section.integer("threads", GUEST_THREADS_RANGE, "threads", faults);
    section.finish(faults);
    GuestSettings {
        allowed_hosts: allowed_hosts.unwrap_or_default(),
        refuse_rebinding: refuse_rebinding.unwrap_or(REFUSE_REBINDING),
        connections: connections.map_or(CONNECTIONS, |count| count as usize),
        head_time: Duration::from_secs(seconds.unwrap_or(HEAD_SECONDS) as u64),
        threads: threads.map_or(GUEST_THREADS, |count| count as usize),
    }
}
