//! The orderly end of connections.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells connections to end, and waits for them.
#[derive(Clone)]
pub(crate) struct Drain {
    ending: watch::Receiver<Ending>,
    open: Arc<watch::Sender<usize>>,
}

/// The other end of a [`Drain`]. When it is dropped, all connections end.
pub(crate) struct DrainControl {
    ending: watch::Sender<Ending>,
    drain: Drain,
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    No,
    AfterTheAnswer,
    Now,
}

/// An open connection. A [`DrainControl`] waits until this is dropped.
pub(super) struct OpenConnection(Arc<watch::Sender<usize>>);

impl DrainControl {
    /// Returns the control of any number of connections.
    pub(crate) fn new() -> DrainControl {
        let (ending, receiver) = watch::channel(Ending::No);
        DrainControl {
            ending,
            drain: Drain {
                ending: receiver,
                open: Arc::new(watch::Sender::new(0)),
            },
        }
    }

    /// Returns the end that connections hold.
    pub(crate) fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Tells all connections to end: idle ones now, busy ones after their answer.
    pub(crate) fn end(&self) {
        self.ending.send_replace(Ending::AfterTheAnswer);
    }

    /// Cuts off all connections, whatever they are doing.
    pub(crate) fn cut(&self) {
        self.ending.send_replace(Ending::Now);
    }

    /// Returns when all connections have ended.
    pub(crate) async fn ended(&self) {
        // Cannot fail: this holds the sender.
        let _ = self
            .drain
            .open
            .subscribe()
            .wait_for(|open| *open == 0)
            .await;
    }
}

impl Default for DrainControl {
    fn default() -> Self {
        DrainControl::new()
    }
}

impl Drain {
    /// Counts one more connection.
    pub(super) fn open(&self) -> OpenConnection {
        self.open.send_modify(|open| *open += 1);
        OpenConnection(Arc::clone(&self.open))
    }

    /// Returns whether anything was said about the end since this drain looked last.
    pub(super) fn has_news(&self) -> bool {
        self.ending.has_changed().unwrap_or(true)
    }

    /// Returns when connections have to end.
    pub(super) async fn ending(&mut self) {
        // An error means that the control was dropped, which ends connections too.
        let _ = self.ending.wait_for(|ending| *ending != Ending::No).await;
    }

    /// Returns when connections are cut off. A dropped control does not cut them off: it may have
    /// ended them after their answer before.
    pub(super) async fn cut_off(&mut self) {
        if self
            .ending
            .wait_for(|ending| *ending == Ending::Now)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}
