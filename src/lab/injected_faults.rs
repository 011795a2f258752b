//! The faults of all instances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::instance_faults::InstanceFaults;
use crate::instance::InstanceId;
use crate::instance::events::injected_fault::FaultChange;

/// How many instances one line of the log names.
const MAX_LOGGED: usize = 20;

type ByInstance = BTreeMap<InstanceId, Arc<InstanceFaults>>;

/// The injected faults of this daemon.
#[derive(Debug, Default)]
pub(crate) struct InjectedFaults {
    by_instance: ArcSwap<ByInstance>,
    /// Whether any instance has faults. Every request looks at it.
    are_any: AtomicBool,
    /// One writer at a time.
    writer: Mutex<()>,
}

/// What a change did to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultsChanged {
    pub(crate) instance: InstanceId,
    /// How many faults it ended, removed or replaced.
    pub(crate) ended: usize,
}

impl InjectedFaults {
    /// Returns the faults of an instance; `None` if it has none. It costs one look at a flag if no
    /// instance has any.
    pub(crate) fn of(&self, instance: &InstanceId) -> Option<Arc<InstanceFaults>> {
        match self.are_any.load(Ordering::Relaxed) {
            true => self.by_instance.load().get(instance).cloned(),
            false => None,
        }
    }

    /// Returns all faults.
    pub(crate) fn all(&self) -> Arc<ByInstance> {
        self.by_instance.load_full()
    }

    /// Makes changes for each instance: all of them, or none. Returns what they did, or the messages
    /// about what keeps them from being made.
    pub(crate) fn change(
        &self,
        changes: &BTreeMap<InstanceId, Vec<&FaultChange>>,
        now: Timestamp,
    ) -> Result<Vec<FaultsChanged>, Vec<String>> {
        let _writer = self.writer.lock();
        let (next, changed) = self.changed(changes, now)?;
        self.publish(next);
        log_changes(changes);
        Ok(changed)
    }

    /// Returns the messages that [`InjectedFaults::change`] would return.
    pub(crate) fn refusals(
        &self,
        changes: &BTreeMap<InstanceId, Vec<&FaultChange>>,
        now: Timestamp,
    ) -> Vec<String> {
        self.changed(changes, now).err().unwrap_or_default()
    }

    fn changed(
        &self,
        changes: &BTreeMap<InstanceId, Vec<&FaultChange>>,
        now: Timestamp,
    ) -> Result<(ByInstance, Vec<FaultsChanged>), Vec<String>> {
        let mut next = ByInstance::clone(&self.by_instance.load());
        let (mut changed, mut messages) = (Vec::new(), Vec::new());
        for (id, changes) in changes {
            let mut faults = next.get(id).map_or_else(InstanceFaults::default, |faults| {
                InstanceFaults::clone(faults)
            });
            faults.remove_past(now);
            let ended = changes.iter().map(|change| faults.change(change)).sum();
            faults.remove_past(now);
            messages.extend(faults.size_fault().map(|fault| format!("{id}: {fault}")));
            changed.push(FaultsChanged {
                instance: id.clone(),
                ended,
            });
            put(&mut next, id, faults);
        }
        match messages.is_empty() {
            true => Ok((next, changed)),
            false => Err(messages),
        }
    }

    /// Removes the faults that are over, and those of instances that are gone.
    pub(crate) fn remove_past(&self, now: Timestamp, is_present: impl Fn(&InstanceId) -> bool) {
        if !self.are_any.load(Ordering::Relaxed) {
            return;
        }
        let _writer = self.writer.lock();
        let before = self.by_instance.load_full();
        let mut next = ByInstance::clone(&before);
        let mut is_changed = false;
        for (id, faults) in &*before {
            let mut left = InstanceFaults::clone(faults);
            let mut past = left.remove_past(now);
            if !is_present(id) {
                past.push("the instance is gone".to_string());
                left = InstanceFaults::default();
            }
            if !past.is_empty() {
                let (instance, faults) = (id.as_str(), past.join("; "));
                info!(instance, faults, "injected faults ended");
                put(&mut next, id, left);
                is_changed = true;
            }
        }
        if is_changed {
            self.publish(next);
        }
    }

    fn publish(&self, next: ByInstance) {
        let are_any = !next.is_empty();
        self.by_instance.store(Arc::new(next));
        self.are_any.store(are_any, Ordering::Relaxed);
    }
}

fn put(all: &mut ByInstance, id: &InstanceId, faults: InstanceFaults) {
    match faults.is_empty() {
        true => all.remove(id),
        false => all.insert(id.clone(), Arc::new(faults)),
    };
}

/// Logs each change with the first instances that it is for.
fn log_changes(changes: &BTreeMap<InstanceId, Vec<&FaultChange>>) {
    let mut by_change: Vec<(&FaultChange, Vec<&str>)> = Vec::new();
    for (id, changes) in changes {
        for change in changes {
            let known = by_change
                .iter_mut()
                .find(|(known, _)| std::ptr::eq(*known, *change));
            match known {
                Some((_, ids)) => ids.push(id.as_str()),
                None => by_change.push((change, vec![id.as_str()])),
            }
        }
    }
    for (change, ids) in by_change {
        let count = ids.len();
        let instances = ids[..count.min(MAX_LOGGED)].join(",");
        let from = change.at().to_string();
        match change {
            FaultChange::Inject(fault) => {
                let until = fault.until.map(|until| until.to_string());
                let until = until.unwrap_or_else(|| "cleared".to_string());
                let effect = fault.request.to_string();
                warn!(
                    count,
                    instances,
                    effect,
                    from,
                    until,
                    "fault injected: guests get slow or failing answers on purpose"
                );
            }
            FaultChange::Clear { faults, .. } => {
                let path = faults.path.as_ref().map(ToString::to_string);
                let path = path.unwrap_or_else(|| "all".to_string());
                info!(count, instances, path, from, "injected faults cleared");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::events::request::EventRequest;
    use jiff::SignedDuration;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        let start: Timestamp = "2026-06-01T10:00:00Z".parse().unwrap();
        start + SignedDuration::from_secs(second)
    }

    fn id(number: u32) -> InstanceId {
        InstanceId::try_from(format!("i-{number:08}")).unwrap()
    }

    fn change(event: serde_json::Value) -> FaultChange {
        let request: EventRequest = serde_json::from_value(json!({ "Event": event })).unwrap();
        request.fault_change(at(0)).unwrap().unwrap()
    }

    #[test]
    fn faults_of_one_instance_are_not_those_of_another() {
        let faults = InjectedFaults::default();
        let delay = change(json!({ "Fault": { "Path": "*", "Delay": "1s" } }));
        assert!(faults.of(&id(1)).is_none());
        let changes = BTreeMap::from([(id(1), vec![&delay])]);
        assert_eq!(faults.refusals(&changes, at(0)), [""; 0]);
        assert!(faults.of(&id(1)).is_none());
        faults.change(&changes, at(0)).unwrap();
        assert!(faults.of(&id(1)).is_some());
        assert!(faults.of(&id(2)).is_none());
        let clear = change(json!({ "ClearFaults": {} }));
        let both = BTreeMap::from([(id(1), vec![&clear]), (id(2), vec![&clear])]);
        let changed = faults.change(&both, at(1)).unwrap();
        let ended: Vec<usize> = changed.iter().map(|changed| changed.ended).collect();
        assert_eq!(ended, [1, 0]);
    }

    #[test]
    fn changes_are_made_for_all_instances_or_for_none() {
        let faults = InjectedFaults::default();
        let many: Vec<FaultChange> = (0..64)
            .map(|number| {
                let path = format!("user-data{number}*");
                change(json!({ "Fault": { "Path": path, "Delay": "1s" } }))
            })
            .collect();
        let full = BTreeMap::from([(id(2), many.iter().collect())]);
        faults.change(&full, at(0)).unwrap();
        let one = change(json!({ "Fault": { "Path": "*", "Delay": "1s" } }));
        let both = BTreeMap::from([(id(1), vec![&one]), (id(2), vec![&one])]);
        let messages = faults.change(&both, at(0)).unwrap_err();
        assert!(
            messages[0].starts_with("i-00000002: an instance has at most 64"),
            "{messages:?}"
        );
        assert_eq!(messages.len(), 1);
        assert_eq!(faults.refusals(&both, at(0)), messages);
        assert!(faults.of(&id(1)).is_none());
    }

    #[test]
    fn past_faults_and_those_of_instances_that_are_gone_are_removed() {
        let faults = InjectedFaults::default();
        let short = change(json!({ "Fault": { "Path": "*", "Delay": "1s", "For": "10s" } }));
        let long = change(json!({ "Fault": { "Path": "user-data", "Delay": "1s" } }));
        let changes = BTreeMap::from([(id(1), vec![&short, &long]), (id(2), vec![&short])]);
        faults.change(&changes, at(0)).unwrap();
        faults.remove_past(at(9), |_| true);
        assert_eq!(faults.all().len(), 2);
        faults.remove_past(at(10), |_| true);
        assert_eq!(faults.all().len(), 1);
        assert!(faults.of(&id(1)).is_some());
        faults.remove_past(at(10), |_| false);
        assert!(faults.all().is_empty());
        assert!(faults.of(&id(1)).is_none());
    }
}
