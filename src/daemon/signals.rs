//! The signals that the daemon handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the daemon: SIGTERM, SIGINT, and SIGHUP if there is nothing to reload.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Without a configuration, a hangup means that the terminal was closed.
    hangup: Option<Signal>,
}

/// SIGHUP, if there is something to reload.
pub(super) struct ReloadSignal(Option<Signal>);

/// Handles the signals from now on. One that arrives before it is waited for is not lost.
pub(super) fn install(is_reloadable: bool) -> io::Result<(StopSignals, ReloadSignal)> {
    let hangup = signal(SignalKind::hangup())?;
    let (reload, hangup) = match is_reloadable {
        true => (Some(hangup), None),
        false => (None, Some(hangup)),
    };
    let stop = StopSignals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup,
    };
    Ok((stop, ReloadSignal(reload)))
}

impl StopSignals {
    /// Returns when the daemon has to end.
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = received(self.hangup.as_mut()) => {}
        }
    }
}

impl ReloadSignal {
    /// Returns when the operator's files have to be read again. Never if there are none.
    pub(super) async fn received(&mut self) {
        received(self.0.as_mut()).await;
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            let _ = signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
