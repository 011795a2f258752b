//! What publishing needs from threads: locks, a value that is read while it is replaced, a signal.
//!
//! Publishing is written against this trait, so that the tests can run the same code on the
//! primitives of a model checker, which tries the orders of the threads' steps.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

/// The primitives that publishing is made of.
pub(super) trait Primitives: 'static {
    /// A value that one thread at a time uses.
    type Locked<T: Send>: Send + Sync;
    /// Returns such a value.
    fn locked<T: Send>(value: T) -> Self::Locked<T>;
    /// Does `work` with the value.
    fn with<T: Send, R>(locked: &Self::Locked<T>, work: impl FnOnce(&mut T) -> R) -> R;

    /// What lets one thread at a time publish.
    type Turn: Send + Sync;
    /// Returns a turn that no thread has.
    fn turn() -> Self::Turn;
    /// Does `work` while no other thread has the turn.
    fn in_turn<R>(turn: &Self::Turn, work: impl FnOnce() -> R) -> R;

    /// A value that threads read while another thread replaces it.
    type Shared<T: Send + Sync>: Send + Sync;
    /// Returns such a value.
    fn shared<T: Send + Sync>(value: Arc<T>) -> Self::Shared<T>;
    /// Returns the current value.
    fn load<T: Send + Sync>(shared: &Self::Shared<T>) -> Arc<T>;
    /// Does `work` with the current value.
    fn read<T: Send + Sync, R>(shared: &Self::Shared<T>, work: impl FnOnce(&T) -> R) -> R;
    /// Replaces the value.
    fn store<T: Send + Sync>(shared: &Self::Shared<T>, value: Arc<T>);

    /// A signal to one waiting task. It is kept until the task waits for it.
    type Signal: Send + Sync;
    /// Returns a signal that is not set.
    fn signal() -> Self::Signal;
    /// Sets the signal.
    fn notify(signal: &Self::Signal);
    /// Waits until the signal is set, and takes it.
    fn notified(signal: &Self::Signal) -> impl Future<Output = ()> + Send;
}

/// The primitives of the daemon.
pub(super) struct Native;

impl Primitives for Native {
    type Locked<T: Send> = parking_lot::Mutex<T>;

    fn locked<T: Send>(value: T) -> Self::Locked<T> {
        parking_lot::Mutex::new(value)
    }

    fn with<T: Send, R>(locked: &Self::Locked<T>, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut locked.lock())
    }

    type Turn = parking_lot::Mutex<()>;

    fn turn() -> Self::Turn {
        parking_lot::Mutex::new(())
    }

    fn in_turn<R>(turn: &Self::Turn, work: impl FnOnce() -> R) -> R {
        let _turn = turn.lock();
        work()
    }

    type Shared<T: Send + Sync> = ArcSwap<T>;

    fn shared<T: Send + Sync>(value: Arc<T>) -> Self::Shared<T> {
        ArcSwap::new(value)
    }

    fn load<T: Send + Sync>(shared: &Self::Shared<T>) -> Arc<T> {
        shared.load_full()
    }

    fn read<T: Send + Sync, R>(shared: &Self::Shared<T>, work: impl FnOnce(&T) -> R) -> R {
        work(&shared.load())
    }

    fn store<T: Send + Sync>(shared: &Self::Shared<T>, value: Arc<T>) {
        shared.store(value);
    }

    type Signal = Notify;

    fn signal() -> Self::Signal {
        Notify::new()
    }

    fn notify(signal: &Self::Signal) {
        signal.notify_one();
    }

    fn notified(signal: &Self::Signal) -> impl Future<Output = ()> + Send {
        signal.notified()
    }
}
