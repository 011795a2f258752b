//! The connection limit and the request rate of each guest, so that no guest can use up the file
//! descriptors that other guests, the control endpoint and the store need, nor their time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::clock::Moment;
use crate::config::{GuestSettings, MAX_GUEST_THREADS};
use crate::credentials::{DESCRIPTORS_PER_FETCH, MAX_FETCHES};
use crate::daemon::throttled::{ThrottleCounts, ThrottleLog, Throttling};
use crate::instance::InstanceId;
use crate::net::rate::RateLimit;
use crate::net::slots::{ConnectionSlot, ConnectionSlots, NoSlot};
use crate::net::unix::{MAX_CALLERS, MAX_REFUSED, MAX_SERVED, MAX_TURNED_AWAY};

/// The maximum number of connections to the control endpoint.
pub(super) const CONTROL_CONNECTIONS: usize = 32;
/// What needs descriptors besides guests and their listeners, each at its own limit.
const RESERVED: [(&str, usize); 7] = [
    // Standard streams, epoll, eventfd and signals of the runtime, netlink, the locks, the two
    // listening sockets, and one connection that each of them has just accepted.
    ("the process itself", 64),
    (
        "runtimes of the guest threads",
        MAX_GUEST_THREADS * DESCRIPTORS_PER_THREAD,
    ),
    ("calls of the control endpoint", CONTROL_CONNECTIONS),
    (
        "callers of the admin socket",
        MAX_CALLERS + MAX_REFUSED + MAX_TURNED_AWAY,
    ),
    // A document or a key that a call reads, and its connection again.
    ("files of admin calls", 2 * MAX_SERVED),
    ("credential fetches", MAX_FETCHES * DESCRIPTORS_PER_FETCH),
    // The one writer of the store (a record, its directory), a reload, keys, network namespaces, and
    // the pipes of a program that is being started.
    ("background work", 32),
];
/// Descriptors of the runtime of a guest thread: epoll twice, an eventfd, and a socket for signals.
const DESCRIPTORS_PER_THREAD: usize = 4;
/// Descriptors that guests' connections and listeners must leave free.
const RESERVED_DESCRIPTORS: u64 = {
    let (mut sum, mut index) = (0, 0);
    while index < RESERVED.len() {
        sum += RESERVED[index].1 as u64;
        index += 1;
    }
    sum
};
/// Descriptors of one listener: a socket for each family.
const DESCRIPTORS_PER_LISTENER: u64 = 2;

/// What each guest gets of the daemon: its connection slots, and its request rate.
pub(super) struct ConnectionLimits {
    /// The limit that the operator set for each guest.
    connections: usize,
    /// The limit in force: the operator's, or each guest's share of the descriptors if that is less.
    each: Arc<AtomicUsize>,
    /// The request rate of each guest; `None` means no limit.
    rate: Option<RateLimit>,
    guests: Mutex<HashMap<InstanceId, Arc<GuestShare>, foldhash::fast::RandomState>>,
    throttled: ThrottleCounts,
    /// How many descriptors were needed when the share was last computed.
    needed: AtomicU64,
    /// The share that was logged last.
    logged_share: AtomicUsize,
}

/// One guest's share. It is dropped with the guest.
struct GuestShare {
    slots: Arc<ConnectionSlots>,
    throttled: ThrottleLog,
}

impl ConnectionLimits {
    /// Returns the limits that the settings give each guest.
    pub(super) fn new(settings: &GuestSettings) -> ConnectionLimits {
        ConnectionLimits {
            connections: settings.connections,
            each: Arc::new(AtomicUsize::new(settings.connections)),
            rate: RateLimit::new(settings.requests_per_second, settings.burst),
            guests: Mutex::default(),
            throttled: ThrottleCounts::default(),
            needed: AtomicU64::new(0),
            logged_share: AtomicUsize::new(usize::MAX),
        }
    }

    /// Takes a slot for a new connection of a guest; `None` if it gets none.
    pub(super) fn take(&self, id: &InstanceId, now: Moment) -> Option<ConnectionSlot> {
        let share = self.of(id);
        match share.slots.take(Instant::now()) {
            Ok(slot) => Some(slot),
            Err(NoSlot::AllBusy) => None,
            Err(NoSlot::TooFast) => {
                self.note(&share, id, Throttling::Reset, now);
                None
            }
        }
    }

    /// Counts a request that was refused because its guest exceeds the request rate.
    pub(super) fn note_refused(&self, id: &InstanceId, now: Moment) {
        self.note(&self.of(id), id, Throttling::Refused, now);
    }

    fn note(&self, share: &GuestShare, id: &InstanceId, done: Throttling, now: Moment) {
        self.throttled.count(done);
        share.throttled.note(id, done, now.since_boot);
    }

    /// Returns how often guests exceeded the request rate, by the answer that they got.
    pub(super) fn throttled(&self) -> [(&'static str, u64); 2] {
        self.throttled.by_answer()
    }

    fn of(&self, id: &InstanceId) -> Arc<GuestShare> {
        let mut guests = self.guests.lock();
        if let Some(share) = guests.get(id) {
            return Arc::clone(share);
        }
        let slots = ConnectionSlots::new(Arc::clone(&self.each), self.rate, Instant::now());
        let share = Arc::new(GuestShare {
            slots,
            throttled: ThrottleLog::default(),
        });
        guests.insert(id.clone(), Arc::clone(&share));
        share
    }

    /// Returns how many connections all guests hold.
    pub(super) fn connections(&self) -> usize {
        // Guests that connect do not wait until all are counted.
        let all: Vec<Arc<GuestShare>> = self.guests.lock().values().cloned().collect();
        all.iter().map(|share| share.slots.count()).sum()
    }

    /// Drops the slots of a guest that is gone.
    pub(super) fn forget(&self, id: &InstanceId) {
        self.guests.lock().remove(id);
    }

    /// Shares the descriptors among this number of instances with attachments. Raises the process's
    /// soft limit as far as its hard limit allows.
    pub(super) fn share(&self, guests: usize, listeners: usize) {
        let guests = guests.max(1) as u64;
        let reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_PER_LISTENER * listeners as u64;
        let needed = (self.connections as u64)
            .saturating_mul(guests)
            .saturating_add(reserved);
        if self.needed.swap(needed, Ordering::Relaxed) == needed {
            return;
        }
        let share = match raise_descriptor_limit(needed) {
            Some(limit) if limit < needed => {
                let share = (limit.saturating_sub(reserved) / guests).max(2);
                let share = usize::try_from(share)
                    .unwrap_or(self.connections)
                    .min(self.connections);
                self.log_share(limit, share);
                share
            }
            _ => self.connections,
        };
        self.each.store(share, Ordering::Relaxed);
    }

    /// Logs the share if it has halved since the last log line, so that a thousand new guests do
    /// not log a thousand lines.
    fn log_share(&self, limit: u64, share: usize) {
        if share > self.logged_share.load(Ordering::Relaxed) / 2 {
            return;
        }
        self.logged_share.store(share, Ordering::Relaxed);
        warn!(
            limit,
            share,
            "too few file descriptors for guest.connections; each guest has this share. Raise LimitNOFILE"
        );
    }
}

/// Raises the soft limit of open descriptors to `needed`, or to the hard limit if that is lower.
/// Returns the soft limit in force; `None` if there is none.
fn raise_descriptor_limit(needed: u64) -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise guests can take the descriptors that operators need, and accept(2) fails for them.
    #[test]
    fn the_reserve_covers_everything_else_at_its_limit() {
        let admin = (MAX_CALLERS + MAX_REFUSED + MAX_TURNED_AWAY + 2 * MAX_SERVED) as u64;
        let fetches = (MAX_FETCHES * DESCRIPTORS_PER_FETCH) as u64;
        let threads = (MAX_GUEST_THREADS * DESCRIPTORS_PER_THREAD) as u64;
        let at_their_limits = CONTROL_CONNECTIONS as u64 + admin + fetches + threads;
        let sum: u64 = RESERVED.iter().map(|(_, most)| *most as u64).sum();
        assert_eq!(RESERVED_DESCRIPTORS, sum);
        assert_eq!(RESERVED_DESCRIPTORS - at_their_limits, 64 + 32);
        assert!(RESERVED.iter().all(|(_, most)| *most > 0));
    }
}
