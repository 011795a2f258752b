//! The refresher: it owns one task for each session, and starts and ends them as the targets
//! change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::fetch_limits::FetchLimits;
use super::session_task::{self, Counters, RefreshContext};
use super::target::{RefreshTarget, SessionKey, sessions};
use super::targets::RefreshTargets;
use crate::credentials::cache::Cache;
use crate::credentials::fetch::Fetch;
use crate::credentials::session::RoleSession;
use crate::instance::{InstanceId, RoleDelivery};

/// How many instances are brought up to date before other tasks get their turn.
const TURN: usize = 64;
/// How often to look for tasks that have ended, which only a fault in the program can cause.
const LOOK_FOR_ENDED: Duration = Duration::from_secs(60);

/// The owner of the session tasks. Dropping it ends them; [`Refresher::stop`] also waits for their
/// end.
pub struct Refresher {
    ending: watch::Sender<bool>,
    task: OwnedTask,
    counters: Arc<Counters>,
}

impl Refresher {
    /// Starts to keep `cache` filled with the credentials of `targets`, now and after each change
    /// of them. A change of one costs the same whatever the number of the others is.
    pub fn start(
        cache: Cache,
        source: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
        targets: RefreshTargets,
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
            let mut look_for_ended = tokio::time::interval(LOOK_FOR_ENDED);
            while !*is_ending.borrow_and_update() {
                let changed = targets.take(TURN);
                if !changed.is_empty() {
                    reconcile(&context, &mut running, changed).await;
                    tokio::task::yield_now().await;
                    continue;
                }
                tokio::select! {
                    () = targets.changed() => {}
                    _ = look_for_ended.tick() => start_again(&context, &mut running),
                    _ = is_ending.changed() => {}
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

/// Ends the tasks of these instances' sessions that are no longer needed or have changed, then
/// starts the missing ones.
async fn reconcile(
    context: &Arc<RefreshContext>,
    running: &mut SessionTasks,
    changed: Vec<(InstanceId, Option<RefreshTarget>)>,
) {
    let (mut obsolete, mut needed) = (Vec::new(), Vec::new());
    for (instance, target) in changed {
        let sessions = target.map(sessions).unwrap_or_default();
        for delivery in [RoleDelivery::V1, RoleDelivery::V2] {
            let key = (instance.clone(), delivery);
            let is_current = |(session, task): &(Arc<RoleSession>, OwnedTask)| {
                sessions.get(&key) == Some(&**session) && !task.0.is_finished()
            };
            if !running.get(&key).is_some_and(is_current) {
                obsolete.extend(running.remove(&key));
            }
        }
        needed.extend(sessions);
    }
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
    for (key, session) in needed {
        let start = || start(context, Arc::new(session));
        running.entry(key).or_insert_with(start);
    }
}

fn start(
    context: &Arc<RefreshContext>,
    session: Arc<RoleSession>,
) -> (Arc<RoleSession>, OwnedTask) {
    let work = session_task::run(Arc::clone(context), Arc::clone(&session));
    (session, OwnedTask::spawn(work))
}

/// Starts the tasks again that have ended.
fn start_again(context: &Arc<RefreshContext>, running: &mut SessionTasks) {
    for task in running
        .values_mut()
        .filter(|(_, task)| task.0.is_finished())
    {
        *task = start(context, Arc::clone(&task.0));
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
