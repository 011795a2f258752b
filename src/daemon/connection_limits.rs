//! How many connections each guest may hold, so that none can use up the descriptors that the
//! others, the control endpoint and the store need.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::instance::InstanceId;
use crate::net::slots::ConnectionSlots;
use crate::registry::Snapshot;

/// The maximum number of connections to the control endpoint.
pub(super) const CONTROL_CONNECTIONS: usize = 32;
/// Descriptors for the store, logs, credential programs and the runtime.
const RESERVED_DESCRIPTORS: u64 = 128 + CONTROL_CONNECTIONS as u64;
/// Descriptors of one listener: a socket for each family.
const DESCRIPTORS_PER_LISTENER: u64 = 2;

/// The places of all guests.
pub struct ConnectionLimits {
    /// What the operator allows each guest.
    connections: usize,
    /// What each guest has: the same, or its share of the descriptors.
    each: Arc<AtomicUsize>,
    guests: Mutex<HashMap<InstanceId, Arc<ConnectionSlots>>>,
    /// What was needed when the share was last reckoned.
    needed: AtomicU64,
    /// The share that the operator was told of last.
    told: AtomicUsize,
}

impl ConnectionLimits {
    /// At most `connections` for each guest.
    pub fn new(connections: usize) -> ConnectionLimits {
        let each = Arc::new(AtomicUsize::new(connections));
        ConnectionLimits {
            connections,
            each,
            guests: Mutex::default(),
            needed: AtomicU64::new(0),
            told: AtomicUsize::new(usize::MAX),
        }
    }

    /// One guest's places.
    pub fn of(&self, id: &InstanceId) -> Arc<ConnectionSlots> {
        let mut guests = self.guests.lock();
        match guests.get(id) {
            Some(slots) => Arc::clone(slots),
            None => Arc::clone(
                guests
                    .entry(id.clone())
                    .or_insert(ConnectionSlots::new(Arc::clone(&self.each))),
            ),
        }
    }

    /// How many connections all guests have.
    pub fn connections(&self) -> usize {
        self.guests.lock().values().map(|slots| slots.count()).sum()
    }

    /// Shares the descriptors out among the instances, as many as there are now, and forgets guests
    /// that are no more. The process's limit is raised as far as it goes.
    pub fn share(&self, snapshot: &Snapshot, listeners: usize) {
        self.guests
            .lock()
            .retain(|id, _| snapshot.entry(id).is_some());
        let attached = snapshot
            .entries()
            .filter(|entry| !entry.instance.imds.attachments.is_empty());
        let guests = attached.count().max(1) as u64;
        let reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_PER_LISTENER * listeners as u64;
        let needed = (self.connections as u64)
            .saturating_mul(guests)
            .saturating_add(reserved);
        if self.needed.swap(needed, Ordering::Relaxed) == needed {
            return;
        }
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < needed) {
            limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
            let _ = setrlimit(Resource::Nofile, limit);
        }
        let share = match getrlimit(Resource::Nofile).current {
            Some(limit) if limit < needed => {
                let share = (limit.saturating_sub(reserved) / guests).max(2);
                let share = usize::try_from(share)
                    .unwrap_or(self.connections)
                    .min(self.connections);
                // Once more when it has halved: a thousand new guests are no thousand lines.
                if share <= self.told.load(Ordering::Relaxed) / 2 {
                    self.told.store(share, Ordering::Relaxed);
                    warn!(
                        limit,
                        share,
                        "too few file descriptors for guest.connections; each guest has this share. Raise LimitNOFILE"
                    );
                }
                share
            }
            _ => self.connections,
        };
        self.each.store(share, Ordering::Relaxed);
    }
}
