//! `[guest]`

use std::time::Duration;

use crate::config::resolve::values::host_name;
use crate::config::section::{Faults, Section};
use crate::config::settings::{
    BURST, BURST_RANGE, CONNECTIONS, CONNECTIONS_RANGE, GUEST_THREADS, GUEST_THREADS_RANGE,
    GuestSettings, HEAD_SECONDS, HEAD_SECONDS_RANGE, REFUSE_REBINDING, REQUESTS_PER_SECOND,
    REQUESTS_PER_SECOND_RANGE,
};

pub(super) fn read(root: &mut Section<'_>, faults: &mut Faults<'_>) -> GuestSettings {
    let Some(mut section) = root.table("guest", faults) else {
        return GuestSettings::default();
    };
    let allowed_hosts = section.each("allowed_hosts", faults, host_name);
    let refuse_rebinding = section.boolean("refuse_rebinding", faults);
    let connections = section.integer("connections", CONNECTIONS_RANGE, "connections", faults);
    let seconds = section.integer("head_seconds", HEAD_SECONDS_RANGE, "seconds", faults);
    let requests = section.integer(
        "requests_per_second",
        REQUESTS_PER_SECOND_RANGE,
        "requests",
        faults,
    );
    let burst = section.integer("burst", BURST_RANGE, "requests", faults);
    let threads = section.integer("threads", GUEST_THREADS_RANGE, "threads", faults);
    section.finish(faults);
    GuestSettings {
        allowed_hosts: allowed_hosts.unwrap_or_default(),
        refuse_rebinding: refuse_rebinding.unwrap_or(REFUSE_REBINDING),
        connections: connections.map_or(CONNECTIONS, |count| count as usize),
        head_time: Duration::from_secs(seconds.unwrap_or(HEAD_SECONDS) as u64),
        requests_per_second: requests.map_or(REQUESTS_PER_SECOND, |count| count as u32),
        burst: burst.map_or(BURST, |count| count as u32),
        threads: threads.map_or(GUEST_THREADS, |count| count as usize),
        ..GuestSettings::default()
    }
}
