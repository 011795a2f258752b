//! What the daemon reports to systemd, if systemd started it: that it is ready, that it lives, and what
//! it serves.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use crate::daemon::guest_threads::Heartbeats;
use crate::net::status::{ListenersStatus, SocketState};
use crate::registry::{Phase, Progress, Snapshot};

/// For how long systemd waits after each step of a start or an end: far longer than a step takes.
const STEP: Duration = Duration::from_secs(30);
/// How often the daemon reports that it is still ending, and how often at most.
const ENDING_TICK: Duration = Duration::from_secs(2);
const MAX_ENDING_TICKS: usize = 60;

/// The connection to systemd. It does nothing without systemd.
pub(super) struct Supervisor {
    watchdog: Option<JoinHandle<()>>,
    is_connected: bool,
    status: String,
}

impl Supervisor {
    /// Reports that the daemon starts.
    pub(super) fn starting() -> Supervisor {
        let mut supervisor = Supervisor {
            watchdog: None,
            is_connected: std::env::var_os("NOTIFY_SOCKET").is_some(),
            status: String::new(),
        };
        supervisor.set_status("starting: reading records and documents".to_string());
        supervisor
    }

    /// Reports how far the start is. It may take as long as it makes progress.
    pub(super) fn report_start(&mut self, progress: Progress) {
        self.set_status(start_status(progress));
        self.notify(&[extension()]);
    }

    /// Reports that the daemon is ready, and from then on that it lives.
    ///
    /// The reports come from the main thread, and only while the guest threads make progress too. A
    /// daemon that hangs sends none, and systemd restarts it. They do not wait for a disk or for a
    /// change.
    pub(super) fn ready(&mut self, heartbeats: Heartbeats) {
        self.notify(&[NotifyState::Ready]);
        self.watchdog = sd_notify::watchdog_enabled()
            .filter(|_| self.is_connected)
            .map(|time| tokio::spawn(keep_alive(time / 3, heartbeats)));
    }

    /// Reports what is served, if that has changed.
    pub(super) fn report(&mut self, snapshot: &Snapshot, listeners: &ListenersStatus) {
        if self.is_connected {
            self.set_status(status(snapshot, listeners));
        }
    }

    /// Reports that the daemon ends, and runs its end. Removing addresses from very many interfaces
    /// may take longer than systemd waits by default.
    pub(super) async fn stopping(&self, end: impl Future<Output = ()>) {
        self.notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        let mut end = std::pin::pin!(end);
        for _ in 0..MAX_ENDING_TICKS {
            if tokio::time::timeout(ENDING_TICK, &mut end).await.is_ok() {
                return;
            }
            self.notify(&[extension()]);
        }
        end.await;
    }

    fn set_status(&mut self, status: String) {
        if status != self.status {
            self.notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        if self.is_connected {
            let _ = sd_notify::notify(states);
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

async fn keep_alive(pause: Duration, mut heartbeats: Heartbeats) {
    let mut tick = tokio::time::interval(pause.max(Duration::from_millis(1)));
    loop {
        tick.tick().await;
        if heartbeats.have_beaten() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Asks systemd to wait for the next step.
fn extension() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(STEP.as_micros() as u32)
}

/// Returns the line that `systemctl status` shows during a start.
fn start_status(progress: Progress) -> String {
    match progress.phase {
        Phase::Preparing => "starting: reading the instance documents".to_string(),
        Phase::Committing => format!(
            "starting: {} of {} stored",
            progress.done,
            counted(progress.total, "new instance")
        ),
    }
}

/// Returns the line that `systemctl status` shows: first what is served, then the faults.
fn status(snapshot: &Snapshot, status: &ListenersStatus) -> String {
    let mut text = format!(
        "{}, {}",
        counted(status.instance_count(), "instance"),
        counted(status.sockets_in(SocketState::Listening), "open socket")
    );
    for (count, what) in [
        (
            status.waiting_count(),
            "waiting for an interface or a namespace",
        ),
        (status.sockets_in(SocketState::Refused), "refused"),
        (status.unserved_count(), "not servable here"),
        (snapshot.unreadable().count(), "with an unreadable record"),
        (snapshot.not_stored().count(), "not stored"),
        (snapshot.being_registered().count(), "being registered"),
    ] {
        if count > 0 {
            text += &format!("; {count} {what}");
        }
    }
    text
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Attachment;

    #[test]
    fn the_status_of_a_start_says_how_far_it_is() {
        let progress = |phase, done| {
            start_status(Progress {
                phase,
                done,
                total: 10_000,
            })
        };
        assert_eq!(
            progress(Phase::Committing, 500),
            "starting: 500 of 10000 new instances stored"
        );
        assert!(progress(Phase::Preparing, 0).contains("reading"));
    }

    #[test]
    fn the_status_has_what_is_served_and_then_the_faults() {
        let (snapshot, mut listeners) = (Snapshot::default(), ListenersStatus::default());
        assert_eq!(status(&snapshot, &listeners), "0 instances, 0 open sockets");
        let attachment = Attachment::Interface("tap0".into());
        listeners.set_unserved(&attachment, Some("why".to_string()));
        assert_eq!(
            status(&snapshot, &listeners),
            "0 instances, 0 open sockets; 1 not servable here"
        );
    }
}
