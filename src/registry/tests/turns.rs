//! Which changes wait for each other, over a store that a test can hold in the middle of its work;
//! and that no change is lost, whatever is made at the same time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::config::demo_instance;
use crate::instance::{Attachment, Instance, InstanceId, InstanceState};
use crate::registry::store::{CommitError, Expected, Loaded, PreparedWrite, Write};
use crate::registry::{
    Account, Document, PartialEffect, Phase, Progress, QuarantineReason, Record, RegisterOutcome,
    Registry, Store, StoreError, StoredState, Transaction, UpdateError, file, memory,
};

/// A store whose work a test holds.
#[derive(Default)]
struct HeldStore {
    held: Mutex<Held>,
    released: Condvar,
    waiting: watch::Sender<usize>,
    commit_fails: AtomicBool,
    commit_panics: AtomicBool,
}

#[derive(Default)]
struct Held {
    /// Writes of these instances are not prepared until they are released.
    preparing: BTreeSet<InstanceId>,
    is_committing_held: bool,
    /// How many batches each commit had.
    commits: Vec<usize>,
    /// How many writes were prepared.
    prepared: usize,
}

impl HeldStore {
    fn hold(&self, ids: impl IntoIterator<Item = InstanceId>) {
        self.held.lock().preparing = ids.into_iter().collect();
    }

    fn hold_commits(&self) {
        self.held.lock().is_committing_held = true;
    }

    fn release(&self) {
        let mut held = self.held.lock();
        (held.preparing, held.is_committing_held) = (BTreeSet::new(), false);
        self.released.notify_all();
    }

    /// Waits until this many threads are held.
    async fn wait_for(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting == count).await.unwrap();
    }

    fn wait_while(&self, is_held: impl Fn(&Held) -> bool) {
        let mut held = self.held.lock();
        if is_held(&held) {
            self.waiting.send_modify(|waiting| *waiting += 1);
            self.released.wait_while(&mut held, |held| is_held(held));
            self.waiting.send_modify(|waiting| *waiting -= 1);
        }
    }
}

impl Store for HeldStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn prepare(&self, writes: Vec<Write>) -> Result<Vec<PreparedWrite>, StoreError> {
        self.wait_while(|held| {
            writes
                .iter()
                .any(|write| held.preparing.contains(&write.id))
        });
        self.held.lock().prepared += writes.len();
        memory::MemoryStore.prepare(writes)
    }

    fn commit(&self, batches: Vec<Vec<PreparedWrite>>) -> Vec<Result<(), CommitError>> {
        self.held.lock().commits.push(batches.len());
        self.wait_while(|held| held.is_committing_held);
        // Not `assert!`, whose message looks like that of a failed test.
        if self.commit_panics.load(Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("the store panics, as the test wants"));
        }
        let fail = |_| {
            Err(StoreError {
                action: "write".into(),
                reason: std::io::Error::other("disk"),
                stored: StoredState::Previous,
            }
            .into())
        };
        match self.commit_fails.load(Ordering::Relaxed) {
            true => batches.into_iter().map(fail).collect(),
            false => memory::MemoryStore.commit(batches),
        }
    }

    fn put_account(&self, _: &Account) -> Result<(), StoreError> {
        Ok(())
    }
}

fn now() -> Timestamp {
    "2026-05-16T16:25:07Z".parse().unwrap()
}

fn id(number: usize) -> InstanceId {
    InstanceId::parse(&format!("i-{number:017x}")).unwrap()
}

fn instance(number: usize) -> Instance {
    let mut instance = demo_instance();
    instance.instance_id = id(number);
    instance.ami_launch_index = 0;
    instance.imds.attachments = vec![Attachment::Interface(format!("tap{number}").into()).into()];
    instance
}

fn document(number: usize) -> Arc<Document> {
    Arc::new(Document::of(instance(number)))
}

fn add(instance: &mut Instance) -> Result<(), ()> {
    instance.ami_launch_index += 1;
    Ok(())
}

fn index_of(registry: &Registry, number: usize) -> u32 {
    let snapshot = registry.snapshot();
    let entry = snapshot.entry(&id(number)).unwrap();
    entry.instance.ami_launch_index
}

fn unwatched() -> watch::Sender<Progress> {
    watch::Sender::new(Progress::default())
}

/// A registry with instances 0 to `count` - 1.
async fn registry_of(store: &Arc<HeldStore>, count: usize) -> Arc<Registry> {
    let (registry, _) = Registry::open(Arc::clone(store) as Arc<dyn Store>).unwrap();
    let documents = (0..count).map(document).collect();
    let outcomes = registry.register_all(documents, now(), unwatched()).await;
    assert!(
        outcomes
            .iter()
            .all(|(_, outcome)| matches!(outcome, Ok(RegisterOutcome::New)))
    );
    registry
}

fn spawn_add(registry: &Arc<Registry>, number: usize) -> tokio::task::JoinHandle<()> {
    let registry = Arc::clone(registry);
    tokio::spawn(async move {
        registry.update(&id(number), now(), add).await.unwrap();
    })
}

/// Publishing itself wakes no consumer.
#[tokio::test]
async fn consumers_that_wait_are_woken_by_every_kind_of_change() {
    let registry = registry_of(&Arc::default(), 2).await;
    let feed = Arc::new(registry.change_feed());
    for kind in 0..5 {
        feed.take();
        let (feed, mut publications) = (Arc::clone(&feed), registry.publications());
        let consumer = tokio::spawn(async move {
            feed.changed().await;
            publications.changed().await.unwrap();
        });
        tokio::task::yield_now().await;
        assert!(!consumer.is_finished());
        let plan = |transaction: &mut Transaction| add(transaction.instance(&id(0)).unwrap());
        match kind {
            0 => spawn_add(&registry, 0).await.unwrap(),
            1 => drop(registry.change(now(), plan).await.unwrap()),
            2 => {
                let all = registry.change_all([id(0), id(1)], now(), add, unwatched());
                drop(all.await.unwrap());
            }
            3 => {
                let documents = vec![document(2)];
                let registered = registry.register_all(documents, now(), unwatched());
                drop(registered.await);
            }
            _ => registry.delete(&id(2), |_| Ok::<_, ()>(())).await.unwrap(),
        }
        let woken = tokio::time::timeout(std::time::Duration::from_secs(60), consumer);
        woken.await.expect("the consumer is woken").unwrap();
    }
}

#[tokio::test]
async fn a_change_waits_for_one_of_the_same_instance_and_for_no_other() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 2).await;
    store.hold([id(0)]);
    let first = spawn_add(&registry, 0);
    store.wait_for(1).await;
    let second = spawn_add(&registry, 0);
    // Another instance's change is made meanwhile.
    spawn_add(&registry, 1).await.unwrap();
    assert_eq!((index_of(&registry, 0), index_of(&registry, 1)), (0, 1));
    assert!(!first.is_finished() && !second.is_finished());
    store.release();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(
        index_of(&registry, 0),
        2,
        "the second was planned on the first"
    );
}

/// Creating instances and taking attachments is planned alone. Its disk is not waited for.
#[tokio::test]
async fn a_change_of_one_instance_goes_on_while_others_are_created_or_change_attachments() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 2).await;
    store.hold([id(0), id(7)]);
    let creating = Arc::clone(&registry);
    let create = tokio::spawn(async move {
        let plan = |transaction: &mut Transaction| {
            transaction.create(instance(7), "request".into());
            Ok::<_, ()>(())
        };
        creating.change(now(), plan).await.unwrap();
    });
    store.wait_for(1).await;
    spawn_add(&registry, 1).await.unwrap();
    // This one gives up its attachment, so it waits for the change that was planned alone.
    let releasing = Arc::clone(&registry);
    let release = tokio::spawn(async move {
        let release = |instance: &mut Instance| {
            instance.imds.attachments.clear();
            Ok::<_, ()>(())
        };
        releasing.update(&id(0), now(), release).await.unwrap();
    });
    spawn_add(&registry, 1).await.unwrap();
    assert!(!create.is_finished() && !release.is_finished());
    store.release();
    create.await.unwrap();
    release.await.unwrap();
    assert_eq!(index_of(&registry, 1), 2);
    let snapshot = registry.snapshot();
    assert!(snapshot.entry(&id(7)).is_some());
    assert!(
        snapshot
            .attached_to(&Attachment::Interface("tap0".into()))
            .is_none()
    );
}

#[tokio::test]
async fn changes_that_are_ready_at_the_same_time_share_one_commit_and_one_publication() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 6).await;
    *store.held.lock() = Held::default();
    store.hold_commits();
    let first = spawn_add(&registry, 0);
    store.wait_for(1).await;
    let before = *registry.publications().borrow();
    let others: Vec<_> = (1..6).map(|number| spawn_add(&registry, number)).collect();
    while store.held.lock().prepared < 6 || registry.group_commit.waiting() < 5 {
        tokio::task::yield_now().await;
    }
    store.release();
    first.await.unwrap();
    for other in others {
        other.await.unwrap();
    }
    assert_eq!(store.held.lock().commits, [1, 5]);
    assert_eq!(*registry.publications().borrow() - before, 2);
    assert!((0..6).all(|number| index_of(&registry, number) == 1));
}

/// Nothing is known of what the store has done: all of them fail, and their instances are not served
/// until their previous records are stored.
#[tokio::test]
async fn a_store_that_panics_fails_all_changes_of_its_commit_and_stops_no_later_one() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 6).await;
    *store.held.lock() = Held::default();
    store.hold_commits();
    let failing = |number: usize| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.update(&id(number), now(), add).await.map(drop) })
    };
    let first = failing(0);
    store.wait_for(1).await;
    let mut changes: Vec<_> = (1..4).map(failing).collect();
    while registry.group_commit.waiting() < 3 {
        tokio::task::yield_now().await;
    }
    store.commit_panics.store(true, Ordering::Relaxed);
    store.release();
    changes.push(first);
    for change in changes {
        let Err(UpdateError::Store(error, PartialEffect::Possible)) = change.await.unwrap() else {
            panic!("it fails")
        };
        let expected = "cannot store the change: the store failed unexpectedly";
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(
        store.held.lock().commits,
        [1, 3],
        "the others were one group"
    );
    let deleted = registry.delete(&id(4), |_| Ok::<_, ()>(())).await;
    assert!(matches!(
        deleted,
        Err(UpdateError::Store(_, PartialEffect::Possible))
    ));
    let reason_of = |number: usize| registry.snapshot().quarantine_reason(&id(number));
    let unknown = Some(QuarantineReason::StateUnknown);
    assert!((0..5).all(|number| reason_of(number) == unknown));
    assert_eq!(reason_of(5), None);

    store.commit_panics.store(false, Ordering::Relaxed);
    spawn_add(&registry, 5).await.unwrap();
    registry.retry_failed_writes().await;
    assert!((0..5).all(|number| reason_of(number).is_none() && index_of(&registry, number) == 0));
    spawn_add(&registry, 0).await.unwrap();
    assert_eq!([index_of(&registry, 0), index_of(&registry, 5)], [1, 1]);
}

/// A command that is interrupted while its change is prepared and waits for its turn.
#[tokio::test]
async fn a_change_of_many_whose_caller_leaves_before_its_turn_changes_nothing() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 2).await;
    let turn = registry.turns.alone().await;
    let (progress, of_all) = (unwatched(), Arc::clone(&registry));
    let mut seen = progress.subscribe();
    let left = tokio::spawn(async move {
        of_all
            .change_all((0..2).map(id), now(), add, progress)
            .await
    });
    seen.wait_for(|progress| progress.done == 2).await.unwrap();
    // It asks for its turn next.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    drop(turn);
    // Turns are taken in order, so the change had its own before this one.
    drop(registry.turns.alone().await);
    assert_eq!([index_of(&registry, 0), index_of(&registry, 1)], [0, 0]);
}

#[tokio::test]
async fn a_change_of_many_lets_others_go_on_and_keeps_what_they_changed() {
    const COUNT: usize = 250;
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, COUNT).await;
    store.hold([id(COUNT - 1)]);
    let (progress, of_all) = (unwatched(), Arc::clone(&registry));
    let seen = progress.subscribe();
    let before = *registry.publications().borrow();
    let all = tokio::spawn(async move {
        of_all
            .change_all((0..COUNT).map(id), now(), add, progress)
            .await
    });
    store.wait_for(1).await;
    let half_way = *seen.borrow();
    assert_eq!((half_way.phase, half_way.total), (Phase::Preparing, COUNT));
    assert!((1..COUNT).contains(&half_way.done));
    // One that it has prepared, and one that it removes.
    spawn_add(&registry, 0).await.unwrap();
    registry.delete(&id(1), |_| Ok::<_, ()>(())).await.unwrap();
    assert_eq!(*registry.publications().borrow() - before, 2);
    store.release();
    let changed = all.await.unwrap().unwrap();
    assert_eq!(
        changed.len(),
        COUNT - 1,
        "an instance that was removed is left out"
    );
    assert_eq!(
        *registry.publications().borrow() - before,
        3,
        "it is published once"
    );
    assert_eq!(index_of(&registry, 0), 2);
    assert!((2..COUNT).all(|number| index_of(&registry, number) == 1));
    let end = *seen.borrow();
    assert_eq!((end.phase, end.done), (Phase::Committing, COUNT - 1));
}

#[tokio::test]
async fn a_change_of_many_that_is_refused_dropped_or_not_stored_changes_none() {
    const COUNT: usize = 250;
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, COUNT).await;
    let before = registry.snapshot();
    let is_unchanged = || {
        let after = registry.snapshot();
        before
            .entries()
            .zip(after.entries())
            .all(|(a, b)| Arc::ptr_eq(a, b))
    };
    let ids = || (0..COUNT).map(id);

    // Every refusal is returned, and nothing was written for it.
    let prepared = store.held.lock().prepared;
    let refuse_two = |instance: &mut Instance| {
        let is_refused = [id(3), id(200)].contains(&instance.instance_id);
        if is_refused { Err("no") } else { Ok(()) }
    };
    let refused = registry
        .change_all(ids(), now(), refuse_two, unwatched())
        .await;
    let Err(UpdateError::Refused(refusals)) = refused else {
        panic!("it is refused")
    };
    assert_eq!(refusals, [(id(3), "no"), (id(200), "no")]);
    assert_eq!(store.held.lock().prepared, prepared);

    // The caller goes away.
    store.hold([id(120)]);
    let of_all = Arc::clone(&registry);
    let dropped = tokio::spawn(async move {
        of_all
            .change_all((0..COUNT).map(id), now(), add, unwatched())
            .await
    });
    store.wait_for(1).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    store.release();
    store.wait_for(0).await;
    // The last part is never prepared: the work ends at the next one.
    registry
        .update(&id(0), now(), |_| Ok::<_, ()>(()))
        .await
        .unwrap();
    assert!(store.held.lock().prepared < prepared + COUNT);
    assert!(is_unchanged());

    store.commit_fails.store(true, Ordering::Relaxed);
    let failed = registry.change_all(ids(), now(), add, unwatched()).await;
    assert!(matches!(
        failed,
        Err(UpdateError::Store(_, PartialEffect::None))
    ));
    assert!(is_unchanged());
}

/// The account decides about changes of instances, so neither overtakes the other.
#[tokio::test]
async fn a_change_of_the_account_waits_for_changes_that_were_planned_by_it() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 1).await;
    store.hold([id(0)]);
    let change = spawn_add(&registry, 0);
    store.wait_for(1).await;
    let of_account = Arc::clone(&registry);
    let account = tokio::spawn(async move {
        let plan = |transaction: &mut Transaction| {
            transaction.set_account(Account {
                imds_v2_images: ["ami-12345678".to_string()].into(),
                ..Account::default()
            });
            Ok::<_, ()>(())
        };
        of_account.change(now(), plan).await.unwrap();
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(registry.account().account(), Ok(Account::default()));
    store.release();
    change.await.unwrap();
    account.await.unwrap();
    assert_ne!(registry.account().account(), Ok(Account::default()));
}

/// Every kind of change at random, by several tasks, which plan and store on threads of their own:
/// what was acknowledged is there, once.
#[tokio::test]
async fn no_change_is_lost_whatever_is_made_at_the_same_time() {
    const INSTANCES: usize = 8;
    const TASKS: u64 = 8;
    const CHANGES: usize = 30;
    let directory = tempfile::tempdir().unwrap();
    let open = || Registry::open(Arc::new(file::FileStore::open(directory.path()).unwrap()));
    let (registry, _) = open().unwrap();
    let documents = (0..INSTANCES).map(document).collect();
    registry.register_all(documents, now(), unwatched()).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(change_at_random(Arc::clone(&registry), task, CHANGES)))
        .collect();
    let mut expected = [0_u32; INSTANCES];
    for task in tasks {
        for (number, added) in task.await.unwrap().into_iter().enumerate() {
            expected[number] += added;
        }
    }
    let shown: Vec<u32> = (0..INSTANCES)
        .map(|number| index_of(&registry, number))
        .collect();
    assert_eq!(shown, expected);
    let generations: Vec<u64> = registry
        .snapshot()
        .entries()
        .map(|entry| entry.generation)
        .collect();
    drop(registry);
    // The disk has the same, and the generations count the changes.
    let (registry, faults) = open().unwrap();
    assert!(faults.is_empty());
    let stored: Vec<u32> = (0..INSTANCES)
        .map(|number| index_of(&registry, number))
        .collect();
    assert_eq!(stored, expected);
    let of_disk: Vec<u64> = registry
        .snapshot()
        .entries()
        .map(|entry| entry.generation)
        .collect();
    assert_eq!(of_disk, generations);
    assert!(
        of_disk
            .iter()
            .zip(expected)
            .all(|(generation, added)| *generation > u64::from(added))
    );
}

/// Returns how often each instance was added to.
async fn change_at_random(registry: Arc<Registry>, seed: u64, changes: usize) -> [u32; 8] {
    let mut random = seed + 1;
    let mut below = move |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from((random >> 33) % bound).unwrap()
    };
    let mut added = [0; 8];
    for _ in 0..changes {
        let (one, other) = (below(8), below(8));
        match below(10) {
            0..5 => {
                registry.update(&id(one), now(), add).await.unwrap();
                added[one] += 1;
            }
            5 => {
                let plan = move |transaction: &mut Transaction| {
                    for number in BTreeSet::from([one, other]) {
                        add(transaction.instance(&id(number)).unwrap())?;
                    }
                    Ok::<_, ()>(())
                };
                let ids = [id(one), id(other)];
                registry.change_beside(ids, now(), plan).await.unwrap();
                BTreeSet::from([one, other])
                    .into_iter()
                    .for_each(|number| added[number] += 1);
            }
            6 => {
                // An attachment moves, which is planned alone.
                let update = move |instance: &mut Instance| {
                    instance.imds.attachments.clear();
                    add(instance)
                };
                registry.update(&id(one), now(), update).await.unwrap();
                added[one] += 1;
            }
            7 => {
                let plan = move |transaction: &mut Transaction| {
                    add(transaction.instance(&id(one)).unwrap())
                };
                registry.change(now(), plan).await.unwrap();
                added[one] += 1;
            }
            8 => {
                let all = registry.change_all((0..8).map(id), now(), add, unwatched());
                assert_eq!(all.await.unwrap().len(), 8);
                added.iter_mut().for_each(|count| *count += 1);
            }
            _ => {
                // Another instance comes and goes.
                let number = 100 + usize::try_from(seed).unwrap();
                let outcome = registry.register(instance(number), now()).await.unwrap();
                assert_eq!(outcome, RegisterOutcome::New);
                registry
                    .delete(&id(number), |_| Ok::<_, ()>(()))
                    .await
                    .unwrap();
            }
        }
    }
    added
}

#[tokio::test]
async fn documents_are_registered_in_batches_and_one_that_is_not_stored_affects_no_other() {
    let store = Arc::<HeldStore>::default();
    let (registry, _) = Registry::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let mut documents: Vec<Arc<Document>> = (0..1200).map(document).collect();
    // Of two documents of one id, the first is registered.
    documents.push(Arc::new(Document::of(Instance {
        state: InstanceState::Stopped,
        ..instance(5)
    })));
    let before = *registry.publications().borrow();
    let progress = unwatched();
    let seen = progress.subscribe();
    let outcomes = registry
        .register_all(documents.clone(), now(), progress)
        .await;
    let (last, first) = outcomes.split_last().unwrap();
    assert!(
        first
            .iter()
            .all(|(_, outcome)| matches!(outcome, Ok(RegisterOutcome::New)))
    );
    assert!(matches!(last, (of, Ok(RegisterOutcome::Edited)) if *of == id(5)));
    assert!(
        first
            .iter()
            .enumerate()
            .all(|(number, (of, _))| *of == id(number))
    );
    assert_eq!(store.held.lock().commits, [1, 1, 1], "500, 500 and 200");
    assert_eq!(*registry.publications().borrow() - before, 3);
    assert_eq!((seen.borrow().done, seen.borrow().total), (1201, 1201));

    // Known instances are not written.
    let again = registry.register_all(documents, now(), unwatched()).await;
    assert!(
        again[..1200]
            .iter()
            .all(|(_, outcome)| matches!(outcome, Ok(RegisterOutcome::Known)))
    );
    assert_eq!(store.held.lock().commits.len(), 3);

    // A store that fails leaves each unstored and quarantined.
    store.commit_fails.store(true, Ordering::Relaxed);
    let more = (2000..2003).map(document).collect();
    let failed = registry.register_all(more, now(), unwatched()).await;
    assert!(failed.iter().all(|(_, outcome)| outcome.is_err()));
    let snapshot = registry.snapshot();
    let reason = QuarantineReason::NotStored;
    assert!((2000..2003).all(|number| snapshot.quarantine_reason(&id(number)) == Some(reason)));

    let faulty = (2000..2003)
        .map(|number| (id(number), Vec::new()))
        .collect();
    let before = *registry.publications().borrow();
    registry.register_all_faulty(faulty).await;
    registry.withdraw_all((2000..2003).map(id).collect()).await;
    assert_eq!(*registry.publications().borrow() - before, 2);
    assert!(
        (2000..2003).all(|number| registry.snapshot().quarantine_reason(&id(number)).is_none())
    );
}

/// A start reserves what thousands of documents claim before it stores the first of them.
#[tokio::test]
async fn the_attachments_of_many_new_documents_are_reserved_in_few_publications() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 1).await;
    let now_served = |number: usize| {
        let attachment = Attachment::Interface(format!("tap{number}").into());
        registry.snapshot().attached_to(&attachment).is_some()
    };
    let reason_of = |number: usize| registry.snapshot().quarantine_reason(&id(number));
    // 1. One document could not be stored before, and one had faults.
    store.commit_fails.store(true, Ordering::Relaxed);
    registry.register(instance(1), now()).await.unwrap_err();
    registry.register_faulty(&id(2), Vec::new()).await;
    store.commit_fails.store(false, Ordering::Relaxed);

    // 2. Reserved: the known instance is served, and what failed counts as failed.
    let documents: Vec<Arc<Document>> = (0..1000).map(document).collect();
    let before = *registry.publications().borrow();
    registry.reserve_new(&documents).await;
    assert_eq!(
        *registry.publications().borrow() - before,
        4,
        "256 at a time"
    );
    assert!(now_served(0) && reason_of(0).is_none());
    assert_eq!(reason_of(1), Some(QuarantineReason::NotStored));
    let being_registered = Some(QuarantineReason::BeingRegistered);
    assert!((2..1000).all(|number| reason_of(number) == being_registered));
    let snapshot = registry.snapshot();
    assert_eq!(
        (
            snapshot.being_registered().count(),
            snapshot.not_stored().count()
        ),
        (998, 1)
    );

    // 3. Closed to others, also to one that is put meanwhile.
    let mut rival = instance(5000);
    rival.imds.attachments = vec![Attachment::Interface("tap7".into()).into()];
    let put = move |transaction: &mut Transaction| {
        transaction.register(rival);
        Err::<(), _>(transaction.new_conflicts().len())
    };
    let refused = registry.change(now(), put).await;
    assert!(matches!(refused, Err(UpdateError::Refused(1))));
    let absent = registry.delete(&id(7), |_| Ok::<(), ()>(())).await;
    assert!(matches!(absent, Err(UpdateError::Unknown(_))));

    // 4. Reserved again, as after an interrupted reload; then registered, or withdrawn.
    let before = *registry.publications().borrow();
    registry.reserve_new(&documents).await;
    assert_eq!(*registry.publications().borrow(), before, "nothing changed");
    registry.withdraw_all((900..1000).map(id).collect()).await;
    let documents = documents[..900].to_vec();
    registry.register_all(documents, now(), unwatched()).await;
    assert!((0..900).all(|number| now_served(number) && reason_of(number).is_none()));
    assert!((900..1000).all(|number| !now_served(number) && reason_of(number).is_none()));
}

/// What is forgotten together is removed in one commit.
#[tokio::test]
async fn terminated_instances_are_forgotten_together() {
    let store = Arc::<HeldStore>::default();
    let registry = registry_of(&store, 1).await;
    let create = |transaction: &mut Transaction| {
        (1..50).for_each(|number| transaction.create(instance(number), "request".into()));
        Ok::<_, ()>(())
    };
    registry.change(now(), create).await.unwrap();
    let terminate = |transaction: &mut Transaction| {
        for number in 0..50 {
            transaction.instance(&id(number)).unwrap().state = InstanceState::Terminated;
        }
        Ok::<_, ()>(())
    };
    registry.change(now(), terminate).await.unwrap();
    store.held.lock().commits.clear();
    let before = *registry.publications().borrow();
    let later = now() + jiff::SignedDuration::from_hours(1);
    assert!(registry.forget_terminated(later).await.is_empty());
    assert_eq!(store.held.lock().commits, [1]);
    assert_eq!(*registry.publications().borrow() - before, 1);
    assert_eq!(registry.snapshot().entries().count(), 0);
    assert!(
        registry.snapshot().is_tombstone(&id(0)),
        "it came from a document"
    );
    assert!(!registry.snapshot().is_tombstone(&id(1)));
}

#[test]
fn a_write_that_would_lose_anothers_change_is_a_conflict() {
    let directory = tempfile::tempdir().unwrap();
    let store = file::FileStore::open(directory.path()).unwrap();
    let record = |generation| {
        let record = Record::first(instance(0), String::new(), None, now());
        Arc::new(Record {
            generation,
            ..record
        })
    };
    let found = |expected: Expected, generation: u64| {
        let written = store.write(Write::put(record(generation), expected));
        let conflict = written
            .err()
            .map(|error| error.as_conflict().unwrap().found);
        (
            conflict,
            store
                .load()
                .unwrap()
                .records
                .first()
                .map(|record| record.generation),
        )
    };
    assert_eq!(found(Expected::Generation(1), 2), (Some(None), None));
    assert_eq!(found(Expected::Absent, 1), (None, Some(1)));
    assert_eq!(found(Expected::Absent, 1), (Some(Some(1)), Some(1)));
    assert_eq!(found(Expected::Generation(2), 3), (Some(Some(1)), Some(1)));
    assert_eq!(found(Expected::Generation(1), 2), (None, Some(2)));
    let removal = Write::remove(id(0), Expected::Generation(1));
    assert!(store.write(removal).unwrap_err().as_conflict().is_some());

    // Two writers that planned on the same record: the second one changes nothing.
    let writes = [3, 30].map(|generation| Write::put(record(generation), Expected::Generation(2)));
    let batches = writes.map(|write| store.prepare(vec![write]).unwrap());
    let outcomes = store.commit(batches.into());
    assert!(outcomes[0].is_ok());
    let conflict = outcomes[1].as_ref().unwrap_err();
    assert!(conflict.unknown.is_empty());
    assert_eq!(
        conflict.error.to_string(),
        format!(
            "cannot write {}: another writer was first: the stored record has generation 3, and 2 \
             was expected",
            directory
                .path()
                .join(format!("instances/{}.json", id(0)))
                .display()
        )
    );
    assert_eq!(store.load().unwrap().records[0].generation, 3);
}
