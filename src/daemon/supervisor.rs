//! What the daemon reports to systemd, if systemd started it: that it is ready, that it lives, and what
//! it serves.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use crate::daemon::guest_threads::Heartbeats;
use crate::net::status::{ListenersStatus, SocketState};
use crate::registry::Snapshot;

/// The connection to systemd. It does nothing without systemd.
pub(super) struct Supervisor {
    watchdog: Option<JoinHandle<()>>,
    is_connected: bool,
    status: String,
}

impl Supervisor {
    /// Reports that the daemon is ready, and from then on that it lives.
    ///
    /// The reports come from the main thread, and only while the guest threads make progress too. A
    /// daemon that hangs sends none, and systemd restarts it. They do not wait for a disk or for a
    /// change.
    pub(super) fn ready(heartbeats: Heartbeats) -> Supervisor {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let is_connected = std::env::var_os("NOTIFY_SOCKET").is_some();
        Supervisor {
            watchdog: sd_notify::watchdog_enabled()
                .filter(|_| is_connected)
                .map(|time| tokio::spawn(keep_alive(time / 3, heartbeats))),
            is_connected,
            status: String::new(),
        }
    }

    /// Reports what is served, if that has changed.
    pub(super) fn report(&mut self, snapshot: &Snapshot, listeners: &ListenersStatus) {
        if !self.is_connected {
            return;
        }
        let status = status(snapshot, listeners);
        if status != self.status {
            let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Reports that the daemon ends.
    pub(super) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
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
    fn the_status_has_what_is_served_and_then_the_faults() {
        let (snapshot, mut listeners) = (Snapshot::default(), ListenersStatus::default());
        assert_eq!(status(&snapshot, &listeners), "0 instances, 0 open sockets");
        let attachment = Attachment::Interface("tap0".to_string());
        listeners.set_unserved(&attachment, Some("why".to_string()));
        assert_eq!(
            status(&snapshot, &listeners),
            "0 instances, 0 open sockets; 1 not servable here"
        );
    }
}
