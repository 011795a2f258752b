//! The long operations that are under way: `GET /v1/operations`.
//!
//! A request that can take long is listed here from its beginning to its answer, with how far it
//! is. A client gives its request a key (`?operation=KEY`) and asks meanwhile, on another
//! connection, how far the operation with that key is.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::Moment;
use crate::registry::{Phase, Progress};

/// The most characters of a key.
pub(super) const MAX_KEY: usize = 64;

/// The operations that are under way.
#[derive(Default)]
pub(super) struct Operations(Arc<Mutex<Listed>>);

#[derive(Default)]
struct Listed {
    next: u64,
    by_number: BTreeMap<u64, RunningOperation>,
}

/// One operation.
struct RunningOperation {
    key: Option<String>,
    action: &'static str,
    uid: Option<u32>,
    since: Moment,
    progress: watch::Receiver<Progress>,
}

/// An operation that is listed until this is dropped.
pub(super) struct ListedOperation {
    number: u64,
    operations: Arc<Mutex<Listed>>,
}

impl Operations {
    /// Lists an operation from now on. Returns also where its progress is reported.
    pub(super) fn begin(
        &self,
        action: &'static str,
        key: Option<&str>,
        uid: Option<u32>,
        now: Moment,
    ) -> (ListedOperation, watch::Sender<Progress>) {
        let (sender, progress) = watch::channel(Progress::default());
        let mut listed = self.0.lock();
        let number = listed.next;
        listed.next += 1;
        let operation = RunningOperation {
            key: key.map(str::to_string),
            action,
            uid,
            since: now,
            progress,
        };
        listed.by_number.insert(number, operation);
        let operations = Arc::clone(&self.0);
        (ListedOperation { number, operations }, sender)
    }

    /// Returns all operations, the oldest first.
    pub(super) fn list(&self, now: Moment) -> Value {
        let listed = self.0.lock();
        let operations = listed.by_number.values().map(|operation| {
            let Progress { phase, done, total } = *operation.progress.borrow();
            let phase = match phase {
                Phase::Preparing => "preparing",
                Phase::Committing => "committing",
            };
            let seconds = now.since_boot.saturating_sub(operation.since.since_boot);
            json!({
                "Key": operation.key,
                "Action": operation.action,
                "Uid": operation.uid,
                "Seconds": seconds.as_secs(),
                "Phase": phase,
                "Done": done,
                "Total": total,
            })
        });
        json!({ "Operations": operations.collect::<Vec<Value>>() })
    }
}

impl Drop for ListedOperation {
    fn drop(&mut self) {
        self.operations.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_listed_with_its_progress_until_it_ends() {
        let (operations, now) = (Operations::default(), Moment::now());
        let (first, progress) = operations.begin("POST /v1/events", Some("k"), Some(7), now);
        let (second, _) = operations.begin("POST /v1/reload", None, None, now);
        progress.send_replace(Progress {
            phase: Phase::Committing,
            done: 3,
            total: 10,
        });
        let listed = operations.list(now);
        assert_eq!(
            listed["Operations"],
            json!([
                {"Key": "k", "Action": "POST /v1/events", "Uid": 7, "Seconds": 0,
                 "Phase": "committing", "Done": 3, "Total": 10},
                {"Key": null, "Action": "POST /v1/reload", "Uid": null, "Seconds": 0,
                 "Phase": "preparing", "Done": 0, "Total": 0},
            ])
        );
        drop(first);
        assert_eq!(
            operations.list(now)["Operations"].as_array().unwrap().len(),
            1
        );
        drop(second);
        assert_eq!(operations.list(now)["Operations"], json!([]));
    }
}
