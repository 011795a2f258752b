//! Work that the main loop starts again and again, and never waits for.

use tokio::task::JoinHandle;

/// A task of which at most one runs.
#[derive(Default)]
pub(super) struct SingleTask {
    task: Option<JoinHandle<()>>,
}

impl SingleTask {
    /// Returns whether the task that was started last has ended.
    pub(super) fn is_idle(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Starts the work, unless the work that was started before still runs: a disk may take its
    /// time, and the work must not pile up.
    pub(super) fn start(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        if self.is_idle() {
            self.task = Some(tokio::spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn work_that_still_runs_is_not_started_again() {
        let (mut task, started, end) = (
            SingleTask::default(),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Notify::new()),
        );
        let work = || {
            let (started, end) = (Arc::clone(&started), Arc::clone(&end));
            async move {
                started.fetch_add(1, Ordering::Relaxed);
                end.notified().await;
            }
        };
        for _ in 0..3 {
            task.start(work());
            tokio::task::yield_now().await;
        }
        assert_eq!(started.load(Ordering::Relaxed), 1);
        end.notify_one();
        while !task.is_idle() {
            tokio::task::yield_now().await;
        }
        task.start(work());
        tokio::task::yield_now().await;
        assert_eq!(started.load(Ordering::Relaxed), 2);
    }
}
