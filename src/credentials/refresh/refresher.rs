//! The refresher: it owns one task for each session, and starts and ends them as the targets
//! change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::fetch_limits::FetchLimits;
use super::session_task::{self, Counters, RefreshContext};
use super::target::{RefreshTarget, SessionKey, sessions};
use crate::credentials::cache::Cache;
use crate::credentials::fetch::Fetch;
use crate::credentials::session::RoleSession;

/// The owner of the session tasks. Dropping it ends them; [`Refresher::stop`] also waits for their
/// end.
pub struct Refresher {
    ending: watch::Sender<bool>,
    task: OwnedTask,
    counters: Arc<Counters>,
}

impl Refresher {
    /// Starts to keep `cache` filled with the credentials of `targets`, now and after each change
    /// of them.
    pub fn start(
        cache: Cache,
        source: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
        mut targets: watch::Receiver<Vec<RefreshTarget>>,
    ) -> Refresher {
        let counters = Arc::new(Counters::default());
        let context = Arc::new(RefreshContext {
            cache,
            source,
            clock,
            limits: FetchLimits::new(),
            counters: Arc::clone(&counters),
        });
        let (ending, mut is_ending) = watch::channel(false);
        let task = OwnedTask::spawn(async move {
            let mut running = SessionTasks::new();
            loop {
                let sessions = sessions(&targets.borrow_and_update());
                reconcile(&context, &mut running, sessions).await;
                tokio::select! {
                    changed = targets.changed() => if changed.is_err() { break },
                    _ = is_ending.wait_for(|ending| *ending) => break,
                }
            }
            end_all(running.into_values().collect()).await;
        });
        Refresher {
            ending,
            task,
            counters,
        }
    }

    /// Returns the number of fetches so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Stops every running fetch and program, and waits for their end. The cache keeps its
    /// contents.
    pub async fn stop(mut self) {
        self.ending.send_replace(true);
        let _ = (&mut self.task.0).await;
    }
}

/// A task that is aborted on drop.
struct OwnedTask(JoinHandle<()>);

impl OwnedTask {
    fn spawn(work: impl Future<Output = ()> + Send + 'static) -> OwnedTask {
        OwnedTask(tokio::spawn(work))
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The running tasks, each with its session.
type SessionTasks = HashMap<SessionKey, (Arc<RoleSession>, OwnedTask)>;

/// Ends the tasks of sessions that are no longer needed or have changed, then starts the missing
/// ones.
async fn reconcile(
    context: &Arc<RefreshContext>,
    running: &mut SessionTasks,
    sessions: BTreeMap<SessionKey, RoleSession>,
) {
    let is_obsolete = |key: &SessionKey, (session, task): &mut (Arc<RoleSession>, OwnedTask)| {
        sessions.get(key) != Some(session) || task.0.is_finished()
    };
    let obsolete: Vec<_> = running
        .extract_if(is_obsolete)
        .map(|(_, entry)| entry)
        .collect();
    let removed: Vec<_> = obsolete
        .iter()
        .map(|(session, _)| Arc::clone(session))
        .collect();
    // The cache entry is removed after the task has ended. Before that, the task might publish it
    // again.
    end_all(obsolete).await;
    for session in removed {
        context.cache.remove(&session);
    }
    for (key, session) in sessions {
        running.entry(key).or_insert_with(|| {
            let session = Arc::new(session);
            let work = session_task::run(Arc::clone(context), Arc::clone(&session));
            (session, OwnedTask::spawn(work))
        });
    }
}

async fn end_all(tasks: Vec<(Arc<RoleSession>, OwnedTask)>) {
    for (_, task) in &tasks {
        task.0.abort();
    }
    for (_, mut task) in tasks {
        let _ = (&mut task.0).await;
    }
}
