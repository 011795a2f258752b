//! The threads that serve guests and do nothing else.
//!
//! Each has a runtime of its own, so no guest waits for what another plane does: a TLS handshake, a
//! list, a file, a change. A listener stays on one thread with its sockets and connections. A new
//! one goes to the thread that has the fewest.
//!
//! Whatever starts a program stays off these threads: the kernel ends such a program with the thread
//! that started it (`PR_SET_PDEATHSIG`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the threads may take to end. One that hangs ends with the process.
const ENDING: Duration = Duration::from_millis(500);

/// After how many tasks a thread looks for what has arrived. A guest that keeps the thread busy delays
/// the others by so many of its requests.
const EVENT_INTERVAL: u32 = 8;

/// All guest threads. They end when this is dropped.
pub(super) struct GuestThreads {
    threads: Vec<Arc<GuestThread>>,
    /// Turns true when the threads have to end.
    ending: watch::Sender<bool>,
    /// Closed once all of them have ended.
    running: watch::Receiver<()>,
}

/// One guest thread. It is shared by the listeners that it serves.
pub(super) struct GuestThread {
    runtime: Handle,
}

/// Whether every guest thread makes progress.
pub(super) struct Heartbeats {
    threads: Vec<(Arc<GuestThread>, Arc<AtomicBool>)>,
}

impl GuestThreads {
    /// Starts the threads. They get the network namespace of the calling thread.
    pub(super) fn start(count: usize) -> io::Result<GuestThreads> {
        let ending = watch::Sender::new(false);
        let (while_running, running) = watch::channel(());
        let while_running = Arc::new(while_running);
        let mut threads = Vec::new();
        for number in 0..count {
            let mut builder = Builder::new_current_thread();
            // Guests need no signals, which would be looked at in every turn.
            builder
                .enable_io()
                .enable_time()
                .event_interval(EVENT_INTERVAL);
            let runtime = builder.build()?;
            let handle = runtime.handle().clone();
            let (ending, while_running) = (ending.subscribe(), Arc::clone(&while_running));
            std::thread::Builder::new()
                .name(format!("guest-{number}"))
                .spawn(move || {
                    run(runtime, ending);
                    drop(while_running);
                })?;
            threads.push(Arc::new(GuestThread { runtime: handle }));
        }
        Ok(GuestThreads {
            threads,
            ending,
            running,
        })
    }

    /// Returns the thread for a new listener: the one that has the fewest.
    pub(super) fn least_used(&self) -> Arc<GuestThread> {
        // Each listener holds its thread.
        let least_used = self.threads.iter().min_by_key(|one| Arc::strong_count(one));
        Arc::clone(least_used.expect("there is at least one guest thread"))
    }

    /// Returns what shows whether all threads make progress.
    pub(super) fn heartbeats(&self) -> Heartbeats {
        let threads = self.threads.iter();
        Heartbeats {
            threads: threads
                .map(|thread| (Arc::clone(thread), Arc::new(AtomicBool::new(true))))
                .collect(),
        }
    }

    /// Ends the threads. Connections that are still open are closed.
    pub(super) async fn end(&self) {
        self.ending.send_replace(true);
        let mut running = self.running.clone();
        let ended = async { while running.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(ENDING, ended).await;
    }
}

impl GuestThread {
    /// Opens a socket that is used on this thread. Opening itself happens on the calling thread: it
    /// may take long, or enter a network namespace.
    pub(super) fn open<T>(&self, open: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _entered = self.runtime.enter();
        open()
    }

    /// Runs a task on this thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(task)
    }
}

impl Heartbeats {
    /// Returns whether every thread has run the task that the last call gave it. If so, each gets
    /// the next one.
    pub(super) fn have_beaten(&mut self) -> bool {
        let is_alive = |(_, beaten): &(_, Arc<AtomicBool>)| beaten.load(Ordering::Relaxed);
        if !self.threads.iter().all(is_alive) {
            return false;
        }
        for (thread, beaten) in &self.threads {
            beaten.store(false, Ordering::Relaxed);
            let beaten = Arc::clone(beaten);
            drop(thread.spawn(async move { beaten.store(true, Ordering::Relaxed) }));
        }
        true
    }
}

/// Runs tasks until the threads have to end, or until nothing can end them any more.
fn run(runtime: Runtime, mut ending: watch::Receiver<bool>) {
    let _ = runtime.block_on(ending.wait_for(|ending| *ending));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn names_of(threads: &GuestThreads, count: usize) -> Vec<String> {
        let (send, names) = mpsc::channel();
        let used: Vec<Arc<GuestThread>> = (0..count)
            .map(|_| {
                let (thread, send) = (threads.least_used(), send.clone());
                drop(thread.spawn(async move {
                    let name = std::thread::current().name().map(str::to_string);
                    send.send(name.unwrap_or_default()).unwrap();
                }));
                thread
            })
            .collect();
        let mut names: Vec<String> = names.iter().take(used.len()).collect();
        names.sort();
        names
    }

    #[test]
    fn listeners_are_spread_over_the_threads() {
        let threads = GuestThreads::start(2).unwrap();
        let names = ["guest-0", "guest-0", "guest-1", "guest-1"];
        assert_eq!(names_of(&threads, 4), names);
        // What was closed makes room.
        assert_eq!(names_of(&threads, 2), ["guest-0", "guest-1"]);
    }

    /// Otherwise systemd would not restart a daemon whose guests get no answers.
    #[test]
    fn a_guest_thread_that_hangs_has_no_heartbeat() {
        let threads = GuestThreads::start(2).unwrap();
        let mut heartbeats = threads.heartbeats();
        assert!(heartbeats.have_beaten());
        let (resume, hang) = mpsc::channel::<()>();
        let (hangs, is_hanging) = mpsc::channel();
        let hanging = threads.least_used();
        drop(hanging.spawn(async move {
            hangs.send(()).unwrap();
            let _ = hang.recv();
        }));
        is_hanging.recv().unwrap();
        // The first task may have run before. The next one cannot run on the thread that hangs.
        for _ in 0..2 {
            run_on_others(&threads, &hanging);
            heartbeats.have_beaten();
        }
        for _ in 0..100 {
            assert!(!heartbeats.have_beaten());
        }
        drop(resume);
        while !heartbeats.have_beaten() {
            std::thread::yield_now();
        }
    }

    /// Returns when the threads that do not hang have run what they were given.
    fn run_on_others(threads: &GuestThreads, hanging: &Arc<GuestThread>) {
        for thread in &threads.threads {
            if !Arc::ptr_eq(thread, hanging) {
                let (send, ran) = mpsc::channel();
                drop(thread.spawn(async move { send.send(()).unwrap() }));
                ran.recv().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_the_threads_run_ends_with_them() {
        let threads = GuestThreads::start(1).unwrap();
        let (held, dropped) = mpsc::channel::<()>();
        let task = threads.least_used().spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        threads.end().await;
        assert!(dropped.recv().is_err());
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
        // No heart beats any more.
        let mut heartbeats = threads.heartbeats();
        heartbeats.have_beaten();
        assert!(!heartbeats.have_beaten());
    }
}
