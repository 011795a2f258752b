//! Runs publishing on the primitives of a model checker, which tries the orders in which threads
//! can take their steps: two writers, readers and a consumer of a feed.
//!
//! What is checked is the code of `publisher` and `change_feed`, with real snapshots. A step is a
//! use of a lock, of the published snapshot or of a signal. The checker tries every order of steps
//! in which threads are interrupted at most two or three times while they could go on.
//! What the primitives of the daemon are made of (`parking_lot`, `arc-swap`, `tokio`) is taken as
//! right, and so are the reference counts of `Arc` and `Weak`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use loom::future::{AtomicWaker, block_on};
use loom::sync::Mutex;
use loom::thread;

use crate::config::demo_instance;
use crate::instance::{Attachment, Instance, InstanceId};
use crate::registry::change_feed::FeedOn;
use crate::registry::entry::Entry;
use crate::registry::next_snapshot::Publication;
use crate::registry::primitives::Primitives;
use crate::registry::publisher::Publisher;
use crate::registry::record::Record;
use crate::registry::snapshot::Snapshot;

/// A signal as tokio's `Notify` has it: kept until a task waits for it.
struct ModelSignal {
    is_set: Mutex<bool>,
    waker: AtomicWaker,
}

impl ModelSignal {
    fn new() -> ModelSignal {
        ModelSignal {
            is_set: Mutex::new(false),
            waker: AtomicWaker::new(),
        }
    }

    fn take(&self) -> bool {
        std::mem::take(&mut *self.is_set.lock().unwrap())
    }
}

/// Implements the primitives with those of the checker, apart from what a test breaks.
macro_rules! model {
    ($name:ident, in_turn: $in_turn:expr) => {
        struct $name;

        impl Primitives for $name {
            type Locked<T: Send> = Mutex<T>;

            fn locked<T: Send>(value: T) -> Self::Locked<T> {
                Mutex::new(value)
            }

            fn with<T: Send, R>(locked: &Self::Locked<T>, work: impl FnOnce(&mut T) -> R) -> R {
                work(&mut locked.lock().unwrap())
            }

            type Turn = Mutex<()>;

            fn turn() -> Self::Turn {
                Mutex::new(())
            }

            fn in_turn<R>(turn: &Self::Turn, work: impl FnOnce() -> R) -> R {
                let _turn = $in_turn(turn);
                work()
            }

            type Shared<T: Send + Sync> = Mutex<Arc<T>>;

            fn shared<T: Send + Sync>(value: Arc<T>) -> Self::Shared<T> {
                Mutex::new(value)
            }

            fn load<T: Send + Sync>(shared: &Self::Shared<T>) -> Arc<T> {
                Arc::clone(&shared.lock().unwrap())
            }

            fn read<T: Send + Sync, R>(shared: &Self::Shared<T>, work: impl FnOnce(&T) -> R) -> R {
                work(&Self::load(shared))
            }

            fn store<T: Send + Sync>(shared: &Self::Shared<T>, value: Arc<T>) {
                *shared.lock().unwrap() = value;
            }

            type Signal = ModelSignal;

            fn signal() -> Self::Signal {
                ModelSignal::new()
            }

            fn notify(signal: &Self::Signal) {
                *signal.is_set.lock().unwrap() = true;
                signal.waker.wake();
            }

            async fn notified(signal: &Self::Signal) {
                std::future::poll_fn(|context| {
                    signal.waker.register_by_ref(context.waker());
                    match signal.take() {
                        true => std::task::Poll::Ready(()),
                        false => std::task::Poll::Pending,
                    }
                })
                .await;
            }
        }
    };
}

fn lock(turn: &Mutex<()>) -> impl Drop + use<'_> {
    turn.lock().unwrap()
}

model!(Model, in_turn: lock);
// Broken: writers do not wait for each other.
model!(WithoutTurn, in_turn: |_| ());

/// Tries every order of the steps of `model` with at most so many interruptions.
fn check(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(model);
}

fn id(number: u32) -> InstanceId {
    InstanceId::parse(&format!("i-{number:08x}")).unwrap()
}

fn listener() -> Attachment {
    Attachment::Listener("lan".into())
}

/// Returns an entry of an instance that has the listener, or nothing.
fn entry(number: u32, has_listener: bool, generation: u64) -> Arc<Entry> {
    let mut instance = Instance {
        instance_id: id(number),
        ..demo_instance()
    };
    instance.imds.attachments = has_listener
        .then(|| listener().into())
        .into_iter()
        .collect();
    Arc::new(Entry::of_record(Record {
        generation,
        ..Record::first(instance, String::new(), None, Timestamp::UNIX_EPOCH)
    }))
}

fn with(entries: &[Arc<Entry>], snapshot: &Snapshot) -> Publication {
    snapshot.with_entries(entries.iter().map(Arc::clone), &BTreeMap::new())
}

fn publisher<P: Primitives>(entries: &[Arc<Entry>]) -> Arc<Publisher<P>> {
    Arc::new(Publisher::new(with(entries, &Snapshot::default()).snapshot))
}

/// Publishes the next generation of an instance.
fn raise<P: Primitives>(publisher: &Publisher<P>, next: &[Arc<Entry>]) {
    publisher.publish(|snapshot| {
        let generation = generation(snapshot, &next[0].instance.instance_id);
        let next = next
            .iter()
            .find(|next| next.generation == generation + 1)
            .unwrap();
        Some(with(std::slice::from_ref(next), snapshot))
    });
}

fn generation(snapshot: &Snapshot, id: &InstanceId) -> u64 {
    snapshot.entry(id).unwrap().generation
}

/// Two writers raise the generations of two instances, each of both.
fn no_update_is_lost<P: Primitives>() {
    let entries: Arc<Vec<Vec<_>>> = Arc::new(
        (0..2)
            .map(|number| (0..3).map(|it| entry(number, false, it)).collect())
            .collect(),
    );
    check(3, move || {
        let publisher = publisher::<P>(&[Arc::clone(&entries[0][0]), Arc::clone(&entries[1][0])]);
        let (other, next) = (Arc::clone(&publisher), Arc::clone(&entries));
        let writer = thread::spawn(move || {
            raise(&other, &next[1]);
            raise(&other, &next[0]);
        });
        raise(&publisher, &entries[0]);
        raise(&publisher, &entries[1]);
        writer.join().unwrap();
        let snapshot = publisher.snapshot();
        let generations = [0, 1].map(|number| generation(&snapshot, &id(number)));
        assert_eq!(generations, [2, 2], "an update was lost");
    });
}

#[test]
fn two_writers_lose_no_update() {
    no_update_is_lost::<Model>();
}

#[test]
#[should_panic(expected = "an update was lost")]
fn the_checker_finds_that_writers_who_do_not_take_turns_lose_updates() {
    no_update_is_lost::<WithoutTurn>();
}

/// A writer passes a listener from one instance to another and back, beside another writer.
#[test]
fn readers_see_one_snapshot_and_never_an_earlier_one_again() {
    let entries: Arc<Vec<[_; 2]>> = Arc::new(
        (0..3)
            .map(|it| [entry(0, it % 2 == 0, it), entry(1, it % 2 == 1, it)])
            .collect(),
    );
    let third = entry(2, false, 1);
    check(3, move || {
        let publisher = publisher::<Model>(&entries[0]);
        let (other, next) = (Arc::clone(&publisher), Arc::clone(&entries));
        let writer = thread::spawn(move || {
            for next in &next[1..] {
                other.publish(|snapshot| Some(with(next, snapshot)));
            }
        });
        let (other, third) = (Arc::clone(&publisher), Arc::clone(&third));
        let unrelated = thread::spawn(move || {
            other.publish(|snapshot| Some(with(&[third], snapshot)));
        });
        let mut last = 0;
        for _ in 0..2 {
            last = publisher.read(|snapshot| {
                let [one, two] = [0, 1].map(|number| generation(snapshot, &id(number)));
                assert!(one == two && one >= last, "{one} and {two} after {last}");
                let holder = snapshot
                    .attached_to(&listener())
                    .expect("one instance has it");
                assert_eq!(
                    holder.instance.instance_id,
                    id(u32::try_from(one % 2).unwrap())
                );
                one
            });
        }
        writer.join().unwrap();
        unrelated.join().unwrap();
        assert_eq!(generation(&publisher.snapshot(), &id(0)), 2);
    });
}

/// Follows a feed until both instances have their last generations.
fn follow<P: Primitives>(publisher: &Publisher<P>, feed: &FeedOn<P>) {
    let mut known = [0, 0];
    while known != [1, 1] {
        block_on(feed.changed());
        let changes = feed.take();
        let snapshot = publisher.snapshot();
        for (number, known) in (0..).zip(&mut known) {
            if changes.everything || changes.instances.contains(&id(number)) {
                *known = generation(&snapshot, &id(number));
            }
        }
    }
}

/// A consumer subscribes while two writers publish, and follows what changes. If it missed a change,
/// it would wait for ever, which the checker reports.
#[test]
fn a_feed_misses_no_change() {
    let entries: Arc<Vec<Vec<_>>> = Arc::new(
        (0..2)
            .map(|number| (0..2).map(|it| entry(number, false, it)).collect())
            .collect(),
    );
    check(2, move || {
        let first = [0, 1].map(|number: usize| Arc::clone(&entries[number][0]));
        let publisher = publisher::<Model>(&first);
        let writers = [0, 1].map(|number: usize| {
            let (publisher, entries) = (Arc::clone(&publisher), Arc::clone(&entries));
            thread::spawn(move || {
                raise(&publisher, &entries[number]);
                publisher.wake();
            })
        });
        follow(&publisher, &publisher.feed());
        for writer in writers {
            writer.join().unwrap();
        }
    });
}
