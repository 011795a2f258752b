//! The registry over failing stores, with callers that go away and instances that claim the same
//! attachment.

mod cost;
mod oracle;
mod publisher;
mod texts;
mod turns;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};

use super::memory::MemoryStore;
use super::stepwise::StepwiseStore;
use super::store::Loaded;
use super::*;
use crate::config::demo_instance;
use crate::instance::{
    Attachment, HopLimit, HttpTokens, Instance, InstanceId, InstanceState, MetadataDefaults,
};
use crate::origin::{Family, Holder, Origin};

/// A store that fails on request, and records the generations that were put there.
struct FailingStore {
    fails: AtomicBool,
    stored: StoredState,
    put: parking_lot::Mutex<Vec<u64>>,
}

impl FailingStore {
    fn leaving(stored: StoredState) -> Arc<FailingStore> {
        Arc::new(FailingStore {
            fails: AtomicBool::new(false),
            stored,
            put: parking_lot::Mutex::default(),
        })
    }

    fn failure(&self, action: &str) -> Result<(), StoreError> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(StoreError {
                action: action.into(),
                reason: io::Error::other("disk"),
                stored: self.stored,
            }),
            false => Ok(()),
        }
    }
}

impl StepwiseStore for FailingStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn put(&self, record: &Record) -> Result<(), StoreError> {
        self.failure("write")?;
        self.put.lock().push(record.generation);
        Ok(())
    }

    fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
        self.failure("remove")
    }

    fn put_account(&self, _: &Account) -> Result<(), StoreError> {
        self.failure("write")
    }
}

fn now() -> Timestamp {
    "2026-05-16T16:25:07Z".parse().unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn limit(value: i64) -> impl Fn(&mut Instance) -> Result<(), ()> {
    move |instance| {
        instance.metadata_options.http_put_response_hop_limit = HopLimit::try_from(value).unwrap();
        Ok(())
    }
}

fn limit_of(registry: &Registry) -> Option<u8> {
    let snapshot = registry.snapshot();
    let entry = snapshot.entry(&demo_instance().instance_id)?;
    Some(
        entry
            .instance
            .metadata_options
            .http_put_response_hop_limit
            .get(),
    )
}

async fn with_demo(store: Arc<dyn Store>) -> Arc<Registry> {
    let (registry, _) = Registry::open(store).unwrap();
    assert_eq!(
        registry.register(demo_instance(), now()).await.unwrap(),
        RegisterOutcome::New
    );
    registry
}

#[test]
fn a_change_that_could_not_be_stored_changes_nothing() {
    run(async {
        let store = FailingStore::leaving(StoredState::Previous);
        let registry = with_demo(Arc::clone(&store) as Arc<dyn Store>).await;
        store.fails.store(true, Ordering::Relaxed);
        let refused = registry
            .update(&demo_instance().instance_id, now(), limit(7))
            .await;
        assert!(matches!(
            refused,
            Err(UpdateError::Store(_, PartialEffect::None))
        ));
        assert_eq!(limit_of(&registry), Some(2));
        store.fails.store(false, Ordering::Relaxed);
        registry
            .update(&demo_instance().instance_id, now(), limit(7))
            .await
            .unwrap();
        assert_eq!(limit_of(&registry), Some(7));
    });
}

/// The options on the disk may be weaker than those in memory, and a restart would serve them.
/// Changes that are only in memory must not be acknowledged.
#[test]
fn a_quarantined_instance_is_served_again_once_its_previous_record_is_stored() {
    run(async {
        for is_removal in [false, true] {
            let store = FailingStore::leaving(StoredState::Unknown);
            let registry = with_demo(Arc::clone(&store) as Arc<dyn Store>).await;
            let id = demo_instance().instance_id;
            let strict = Arc::clone(&registry.update(&id, now(), limit(5)).await.unwrap().0);
            store.fails.store(true, Ordering::Relaxed);
            match is_removal {
                false => {
                    let refused = registry.update(&id, now(), limit(7)).await;
                    assert!(matches!(
                        refused,
                        Err(UpdateError::Store(_, PartialEffect::Possible))
                    ));
                }
                true => assert!(registry.delete(&id, |_| Ok::<(), ()>(())).await.is_err()),
            }
            registry.retry_failed_writes().await;
            assert_eq!(
                (
                    limit_of(&registry),
                    registry.snapshot().quarantine_reason(&id)
                ),
                (None, Some(QuarantineReason::StateUnknown))
            );
            let no_change = registry.update(&id, now(), limit(5)).await;
            assert!(
                matches!(no_change, Err(UpdateError::Unknown(_))),
                "the change is not acknowledged"
            );
            let registered = registry.register(demo_instance(), now()).await.unwrap();
            assert_eq!(
                registered,
                RegisterOutcome::Unreadable,
                "no document replaces it"
            );

            store.fails.store(false, Ordering::Relaxed);
            registry.retry_failed_writes().await;
            assert_eq!(
                store.put.lock().as_slice(),
                [1, 2, 2],
                "the previous record is written"
            );
            let snapshot = registry.snapshot();
            let again = snapshot.entry(&id).expect("the instance is served again");
            assert_eq!(
                (again.generation, again.launch_epoch),
                (strict.generation, strict.launch_epoch)
            );
            assert_eq!(
                (limit_of(&registry), snapshot.quarantine_reason(&id)),
                (Some(5), None)
            );
            registry.retry_failed_writes().await;
            assert_eq!(store.put.lock().len(), 3, "written once");
        }
    });
}

/// Its creation was never acknowledged, so nothing of it may remain.
#[test]
fn a_new_instance_whose_stored_state_is_unknown_is_removed_again() {
    run(async {
        let store = FailingStore::leaving(StoredState::Unknown);
        let (registry, _) = Registry::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        store.fails.store(true, Ordering::Relaxed);
        assert!(registry.register(demo_instance(), now()).await.is_err());
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::Unreadable
        );
        store.fails.store(false, Ordering::Relaxed);
        registry.retry_failed_writes().await;
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::New
        );
    });
}

#[test]
fn concurrent_changes_are_all_kept() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let registry = Arc::clone(&registry);
                tokio::spawn(async move {
                    let add = |instance: &mut Instance| {
                        instance.ami_launch_index += 1;
                        Ok::<_, ()>(())
                    };
                    registry
                        .update(&demo_instance().instance_id, now(), add)
                        .await
                        .unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let snapshot = registry.snapshot();
        let entry = snapshot.entry(&demo_instance().instance_id).unwrap();
        assert_eq!(
            (entry.instance.ami_launch_index, entry.generation),
            (50, 51)
        );
    });
}

/// The caller goes away in the middle: memory and disk must stay the same.
#[test]
fn a_change_is_finished_when_its_caller_goes_away() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let mut publications = registry.publications();
        publications.borrow_and_update();
        let id = demo_instance().instance_id;
        let mut change = Box::pin(registry.update(&id, now(), limit(9)));
        assert!(poll_once(change.as_mut()).await.is_none());
        drop(change);
        publications.changed().await.unwrap();
        assert_eq!(limit_of(&registry), Some(9));
    });
}

/// Polls a future once.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[test]
fn a_change_without_effect_keeps_the_generation() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let (entry, ()) = registry
            .update(&demo_instance().instance_id, now(), limit(2))
            .await
            .unwrap();
        assert_eq!(entry.generation, 1);
    });
}

#[test]
fn options_are_applied_when_the_newest_generation_is_confirmed() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let id = demo_instance().instance_id;
        let first = Arc::clone(registry.snapshot().entry(&id).unwrap());
        assert_eq!(first.options_state(), OptionsState::Pending);
        let (second, ()) = registry.update(&id, now(), limit(9)).await.unwrap();
        registry.confirm(&first);
        assert_eq!(second.options_state(), OptionsState::Pending);
        registry.confirm(&second);
        registry.confirm(&first);
        assert_eq!(second.options_state(), OptionsState::Applied);
    });
}

#[test]
fn an_edited_document_is_noticed_and_a_changed_instance_is_not_an_edited_document() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        registry
            .update(&demo_instance().instance_id, now(), limit(9))
            .await
            .unwrap();
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::Known
        );
        let mut edited = demo_instance();
        edited.instance_type = "m7i.large".into();
        assert_eq!(
            registry.register(edited, now()).await.unwrap(),
            RegisterOutcome::Edited
        );
        assert_eq!(limit_of(&registry), Some(9));
    });
}

#[test]
fn an_attachment_that_two_instances_claim_serves_neither() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let origin = Origin {
            attachment: Attachment::Listener("demo".into()),
            family: Family::Ipv4,
            peer,
            holder: None,
        };
        assert!(registry.snapshot().at(&origin).is_some());
        let mut second = demo_instance();
        second.instance_id = InstanceId::parse("i-12345678").unwrap();
        registry.register(second, now()).await.unwrap();
        assert!(registry.snapshot().at(&origin).is_none());
        let snapshot = registry.snapshot();
        assert!(
            snapshot.claims().any(
                |(_, claim)| matches!(claim, Claimants::Conflict(several) if several.len() == 2)
            )
        );
    });
}

/// The guest behind the attachment may be the quarantined instance, so the other one is not served
/// there.
#[test]
fn an_attachment_of_a_quarantined_instance_serves_no_other_instance() {
    let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let origin = Origin {
        attachment: Attachment::Listener("demo".into()),
        family: Family::Ipv4,
        peer,
        holder: None,
    };
    let id = demo_instance().instance_id;
    let mut other = demo_instance();
    other.instance_id = InstanceId::parse("i-12345678").unwrap();
    let assert_conflict = |registry: &Registry, what: &str| {
        let snapshot = registry.snapshot();
        assert!(snapshot.at(&origin).is_none(), "{what}");
        let claim = snapshot.claim(&origin.attachment);
        let both = BTreeSet::from([id.clone(), other.instance_id.clone()]);
        assert_eq!(claim, Some(&Claimants::Conflict(both)), "{what}");
    };
    run(async {
        // A write that failed while the daemon runs.
        let store = FailingStore::leaving(StoredState::Unknown);
        let registry = with_demo(Arc::clone(&store) as Arc<dyn Store>).await;
        registry.register(other.clone(), now()).await.unwrap();
        store.fails.store(true, Ordering::Relaxed);
        assert!(registry.update(&id, now(), limit(7)).await.is_err());
        assert_conflict(&registry, "a failed write");

        // Records that are damaged at a start. If a record no longer contains its attachments, the
        // document does.
        type Damage = fn(&str) -> String;
        let damages: [(&str, Damage, bool); 5] = [
            (
                "another byte",
                |text| text.replace("\"required\"", "\"optional\""),
                true,
            ),
            (
                "cut off at its end",
                |text| text[..text.len() - 20].to_string(),
                true,
            ),
            ("not UTF-8 in front", |text| format!("\u{0}{text}"), true),
            ("zeros", |text| "\0".repeat(text.len()), false),
            ("empty", |_| String::new(), false),
        ];
        for (what, damage, names_attachments) in damages {
            let directory = tempfile::tempdir().unwrap();
            let open = || {
                Registry::open(Arc::new(file::FileStore::open(directory.path()).unwrap())).unwrap()
            };
            let (registry, _) = open();
            registry.register(demo_instance(), now()).await.unwrap();
            registry.register(other.clone(), now()).await.unwrap();
            drop(registry);
            let record = directory.path().join(format!("instances/{id}.json"));
            std::fs::write(&record, damage(&std::fs::read_to_string(&record).unwrap())).unwrap();
            let (registry, faults) = open();
            assert_eq!(faults.len(), 1, "{what}");
            if names_attachments {
                assert_conflict(&registry, what);
            }
            assert_eq!(
                registry.register(demo_instance(), now()).await.unwrap(),
                RegisterOutcome::Unreadable
            );
            assert_conflict(&registry, what);
            // A deleted instance has no attachments.
            registry.delete(&id, |_| Ok::<(), ()>(())).await.unwrap();
            assert!(registry.snapshot().at(&origin).is_some(), "{what}");
        }
    });
}

/// Two instances claim the attachment. It serves neither, even though one of them has no record yet.
#[test]
fn an_attachment_of_an_instance_that_could_not_be_stored_serves_no_other_instance() {
    let attachment = Attachment::Listener("demo".into());
    let mut other = demo_instance();
    other.instance_id = InstanceId::parse("i-12345678").unwrap();
    let reason_of = |registry: &Registry| registry.snapshot().quarantine_reason(&other.instance_id);
    for (left, reason) in [
        (StoredState::Previous, QuarantineReason::NotStored),
        (StoredState::Unknown, QuarantineReason::StateUnknown),
    ] {
        run(async {
            let store = FailingStore::leaving(left);
            let registry = with_demo(Arc::clone(&store) as Arc<dyn Store>).await;
            let is_served = || registry.snapshot().attached_to(&attachment).is_some();
            let fail = |fails| store.fails.store(fails, Ordering::Relaxed);
            assert!(is_served());

            // The document is registered repeatedly, until it is stored.
            fail(true);
            for _ in 0..2 {
                assert!(matches!(
                    registry.register(other.clone(), now()).await,
                    Err(_) | Ok(RegisterOutcome::Unreadable)
                ));
                registry.retry_failed_writes().await;
                assert_eq!((is_served(), reason_of(&registry)), (false, Some(reason)));
            }
            let absent = registry
                .delete(&other.instance_id, |_| Ok::<(), ()>(()))
                .await;
            assert_eq!(
                matches!(absent, Err(UpdateError::Unknown(_))),
                reason == QuarantineReason::NotStored
            );
            fail(false);
            registry.retry_failed_writes().await;
            assert_eq!(
                (is_served(), reason_of(&registry)),
                (false, Some(QuarantineReason::NotStored))
            );
            assert_eq!(
                registry.register(other.clone(), now()).await.unwrap(),
                RegisterOutcome::New
            );
            assert_eq!((is_served(), reason_of(&registry)), (false, None));
            registry
                .delete(&other.instance_id, |_| Ok::<(), ()>(()))
                .await
                .unwrap();
            assert!(is_served());

            // The document is edited, then withdrawn.
            let mut elsewhere = other.clone();
            elsewhere.imds.attachments = vec![Attachment::Listener("another".into()).into()];
            fail(true);
            registry
                .register(elsewhere.clone(), now())
                .await
                .unwrap_err();
            assert!(is_served());
            let _ = registry.register(other.clone(), now()).await;
            assert!(!is_served());
            let _ = registry.register(elsewhere, now()).await;
            assert_eq!(
                is_served(),
                reason == QuarantineReason::NotStored,
                "the record on the disk may be from either version"
            );
            let _ = registry.register(other.clone(), now()).await;
            registry.withdraw(&other.instance_id).await;
            fail(false);
            registry.retry_failed_writes().await;
            assert_eq!((is_served(), reason_of(&registry)), (true, None));
        });
    }
}

/// A new instance with this id.
fn fresh(id: &str) -> Instance {
    let mut instance = demo_instance();
    instance.instance_id = InstanceId::parse(id).unwrap();
    instance.imds.attachments.clear();
    instance
}

fn create(ids: &'static [&'static str]) -> impl FnOnce(&mut Transaction) -> Result<(), ()> + Send {
    |transaction| {
        ids.iter()
            .for_each(|id| transaction.create(fresh(id), "request".into()));
        Ok(())
    }
}

fn terminate(instance: &mut Instance) -> Result<(), ()> {
    instance.state = InstanceState::Terminated;
    Ok(())
}

#[test]
fn a_relaunch_changes_the_epoch_and_the_identity_document_and_a_change_keeps_both() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let id = demo_instance().instance_id;
        let first = Arc::clone(registry.snapshot().entry(&id).unwrap());
        let (changed, ()) = registry.update(&id, now(), limit(9)).await.unwrap();
        assert_eq!(changed.launch_epoch, first.launch_epoch);
        let later: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let relaunched = id.clone();
        let relaunch = move |transaction: &mut Transaction| {
            transaction.relaunch(&relaunched).unwrap().launch_time = later;
            Ok::<_, ()>(())
        };
        let (published, ()) = registry.change(later, relaunch).await.unwrap();
        assert_ne!(published[0].launch_epoch, first.launch_epoch);
        assert!(
            published[0]
                .identity_document
                .contains("2026-06-01T00:00:00Z")
        );
        // Also when nothing else changes.
        let relaunch =
            move |transaction: &mut Transaction| transaction.relaunch(&id).map(|_| ()).ok_or(());
        let (again, ()) = registry.change(later, relaunch).await.unwrap();
        assert_ne!(again[0].launch_epoch, published[0].launch_epoch);
    });
}

#[test]
fn a_refused_plan_changes_nothing() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let plan = |transaction: &mut Transaction| {
            transaction.create(fresh("i-11111111"), "request".into());
            transaction
                .instance(&demo_instance().instance_id)
                .unwrap()
                .ami_launch_index = 7;
            transaction.set_account(Account {
                metadata_defaults: enforced(),
                ..Account::default()
            });
            Err::<(), _>("no")
        };
        assert!(matches!(
            registry.change(now(), plan).await,
            Err(UpdateError::Refused("no"))
        ));
        assert_eq!(registry.snapshot().entries().count(), 1);
        assert_eq!(
            registry
                .snapshot()
                .entry(&demo_instance().instance_id)
                .unwrap()
                .generation,
            1
        );
        assert_eq!(registry.account().account(), Ok(Account::default()));
    });
}

fn enforced() -> MetadataDefaults {
    MetadataDefaults {
        http_tokens: Some(HttpTokens::Required),
        ..MetadataDefaults::default()
    }
}

/// The third of three cannot be stored. A repeated call would find two and treat them as all.
#[test]
fn instances_of_a_failed_launch_are_removed_again() {
    struct FailsAt(AtomicU64);
    impl StepwiseStore for FailsAt {
        fn load(&self) -> Result<Loaded, StoreError> {
            Ok(Loaded::default())
        }
        fn put(&self, _: &Record) -> Result<(), StoreError> {
            let failure = || StoreError {
                action: "write".into(),
                reason: io::Error::other("disk"),
                stored: StoredState::Previous,
            };
            if self.0.fetch_sub(1, Ordering::Relaxed) == 0 {
                Err(failure())
            } else {
                Ok(())
            }
        }
        fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
            Ok(())
        }
        fn put_account(&self, _: &Account) -> Result<(), StoreError> {
            Ok(())
        }
    }
    run(async {
        let (registry, _) = Registry::open(Arc::new(FailsAt(AtomicU64::new(2)))).unwrap();
        let failed = registry
            .change(now(), create(&["i-11111111", "i-22222222", "i-33333333"]))
            .await;
        assert!(matches!(
            failed,
            Err(UpdateError::Store(_, PartialEffect::None))
        ));
        assert_eq!(registry.snapshot().entries().count(), 0);
    });
}

#[test]
fn an_account_that_could_not_be_stored_is_unchanged_or_unreadable() {
    run(async {
        for (left, known, expected) in [
            (
                StoredState::Previous,
                Ok(Account::default()),
                PartialEffect::None,
            ),
            (
                StoredState::Unknown,
                Err(AccountUnreadable),
                PartialEffect::Possible,
            ),
        ] {
            let store = FailingStore::leaving(left);
            store.fails.store(true, Ordering::Relaxed);
            let (registry, _) = Registry::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
            let plan = |transaction: &mut Transaction| {
                transaction.set_account(Account {
                    metadata_defaults: enforced(),
                    ..Account::default()
                });
                Ok::<_, ()>(())
            };
            let Err(UpdateError::Store(_, changed)) = registry.change(now(), plan).await else {
                panic!("{left:?}")
            };
            assert_eq!(changed, expected);
            assert_eq!(registry.account().account(), known);
            registry.retry_failed_writes().await;
            assert_eq!(registry.account().account(), known);
            store.fails.store(false, Ordering::Relaxed);
            registry.retry_failed_writes().await;
            assert_eq!(
                registry.account().account(),
                Ok(Account::default()),
                "the previous record is restored"
            );
        }
    });
}

#[test]
fn a_terminated_instance_is_forgotten_after_an_hour_and_no_document_brings_it_back() {
    run(async {
        let after = |minutes| now() + SignedDuration::from_mins(minutes);
        let registry = with_demo(Arc::new(MemoryStore)).await;
        registry
            .change(now(), create(&["i-11111111"]))
            .await
            .unwrap();
        let (of_document, of_api) = (
            demo_instance().instance_id,
            InstanceId::parse("i-11111111").unwrap(),
        );
        for id in [&of_document, &of_api] {
            let (entry, ()) = registry.update(id, now(), terminate).await.unwrap();
            assert_eq!(entry.terminated, Some(now()));
        }
        // A later change does not restart the hour.
        registry.update(&of_api, after(50), limit(9)).await.unwrap();
        assert_eq!(
            registry.register(demo_instance(), after(1)).await.unwrap(),
            RegisterOutcome::Terminated
        );

        assert!(registry.forget_terminated(after(59)).await.is_empty());
        assert_eq!(registry.snapshot().entries().count(), 2);
        assert!(registry.forget_terminated(after(60)).await.is_empty());
        assert_eq!(registry.snapshot().entries().count(), 0);
        assert_eq!(
            registry.register(demo_instance(), after(61)).await.unwrap(),
            RegisterOutcome::Terminated
        );
    });
}

#[test]
fn the_record_of_a_terminated_instance_stays_if_it_came_from_a_document() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            Registry::open(Arc::new(file::FileStore::open(directory.path()).unwrap()))
                .unwrap()
                .0
        };
        let later = now() + SignedDuration::from_hours(2);
        let registry = open();
        registry.register(demo_instance(), now()).await.unwrap();
        registry
            .change(now(), create(&["i-11111111"]))
            .await
            .unwrap();
        for id in [
            demo_instance().instance_id,
            InstanceId::parse("i-11111111").unwrap(),
        ] {
            registry.update(&id, now(), terminate).await.unwrap();
        }
        assert!(registry.forget_terminated(later).await.is_empty());
        drop(registry);

        let registry = open();
        let left: Vec<_> = registry
            .snapshot()
            .entries()
            .map(|entry| entry.instance.instance_id.clone())
            .collect();
        assert_eq!(left, [demo_instance().instance_id]);
        assert_eq!(
            registry.register(demo_instance(), later).await.unwrap(),
            RegisterOutcome::Terminated
        );
        registry.forget_terminated(later).await;
        assert_eq!(
            registry.register(demo_instance(), later).await.unwrap(),
            RegisterOutcome::Terminated
        );
        assert_eq!(registry.snapshot().entries().count(), 0);
        // Its id stays taken.
        let taken = |transaction: &mut Transaction| {
            Ok::<_, ()>(transaction.is_taken(&demo_instance().instance_id))
        };
        assert!(registry.change(later, taken).await.unwrap().1);
    });
}

/// Replaces the demo instance as an operator's document does.
fn put(document: Instance) -> impl FnOnce(&mut Transaction) -> Result<(), ()> + Send {
    move |transaction| {
        let id = document.instance_id.clone();
        match transaction.instance(&id) {
            Some(instance) => *instance = document.clone(),
            None => {
                transaction.register(document);
                return Ok(());
            }
        }
        transaction.set_document(&id, &document);
        Ok(())
    }
}

#[test]
fn an_instance_comes_from_the_document_that_was_put_last() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let mut edited = demo_instance();
        edited.instance_type = "m7i.large".into();
        let (published, ()) = registry.change(now(), put(edited.clone())).await.unwrap();
        assert_eq!(
            (
                published[0].generation,
                published[0].instance.instance_type.as_str()
            ),
            (2, "m7i.large")
        );
        assert_eq!(
            registry.register(edited.clone(), now()).await.unwrap(),
            RegisterOutcome::Known
        );
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::Edited
        );
        // The same document again changes nothing.
        assert!(
            registry
                .change(now(), put(edited))
                .await
                .unwrap()
                .0
                .is_empty()
        );
        // A new instance comes from its document, and no call created it.
        let (published, ()) = registry
            .change(now(), put(fresh("i-11111111")))
            .await
            .unwrap();
        assert_eq!(published[0].launch_request, None);
        assert_eq!(
            registry.register(fresh("i-11111111"), now()).await.unwrap(),
            RegisterOutcome::Known
        );
    });
}

#[test]
fn deleting_an_instance_in_any_state_removes_its_record() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            Registry::open(Arc::new(file::FileStore::open(directory.path()).unwrap()))
                .unwrap()
                .0
        };
        let id = demo_instance().instance_id;
        let delete = |registry: &Arc<Registry>| {
            let (registry, id) = (Arc::clone(registry), id.clone());
            async move { registry.delete(&id, |_| Ok::<(), ()>(())).await }
        };
        let registry = open();
        assert!(matches!(
            delete(&registry).await,
            Err(UpdateError::Unknown(_))
        ));

        // A running instance.
        registry.register(demo_instance(), now()).await.unwrap();
        let refused = registry
            .delete(&id, |entry| {
                if entry.unwrap().generation == 1 {
                    Err("no")
                } else {
                    Ok(())
                }
            })
            .await;
        assert!(matches!(refused, Err(UpdateError::Refused("no"))));
        let first = registry.snapshot().entry(&id).unwrap().launch_epoch;
        delete(&registry).await.unwrap();
        assert!(
            registry
                .snapshot()
                .attached_to(&Attachment::Listener("demo".into()))
                .is_none()
        );
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::New
        );
        assert_ne!(
            registry.snapshot().entry(&id).unwrap().launch_epoch,
            first,
            "its old session tokens are invalid"
        );

        // A terminated instance that is no longer listed.
        registry.update(&id, now(), terminate).await.unwrap();
        registry
            .forget_terminated(now() + SignedDuration::from_hours(2))
            .await;
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::Terminated
        );
        delete(&registry).await.unwrap();
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::New
        );

        // An instance with an unreadable record.
        drop(registry);
        std::fs::write(directory.path().join(format!("instances/{id}.json")), "{").unwrap();
        let registry = open();
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::Unreadable
        );
        delete(&registry).await.unwrap();
        assert_eq!(
            registry.register(demo_instance(), now()).await.unwrap(),
            RegisterOutcome::New
        );
    });
}

#[test]
fn an_instance_whose_record_could_not_be_removed_stays() {
    run(async {
        let store = FailingStore::leaving(StoredState::Previous);
        let registry = with_demo(Arc::clone(&store) as Arc<dyn Store>).await;
        store.fails.store(true, Ordering::Relaxed);
        let failed = registry
            .delete(&demo_instance().instance_id, |_| Ok::<(), ()>(()))
            .await;
        assert!(matches!(failed, Err(UpdateError::Store(..))));
        assert_eq!(limit_of(&registry), Some(2));
    });
}

#[test]
fn a_connection_belongs_to_the_launch_that_held_its_attachment() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let holder = registry.snapshot().entries().next().unwrap().holder();
        let is_served = |holder: Option<Holder>| {
            let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
            let attachment = Attachment::Listener("demo".into());
            registry
                .snapshot()
                .at(&Origin {
                    attachment,
                    family: Family::Ipv4,
                    peer,
                    holder,
                })
                .is_some()
        };
        let another = InstanceId::parse("i-12345678").unwrap();
        for (case, held_by, served) in [
            ("no holder", None, true),
            ("the holder's", Some(holder.clone()), true),
            (
                "another instance's",
                Some(Holder {
                    instance: another,
                    ..holder.clone()
                }),
                false,
            ),
            (
                "an earlier launch's",
                Some(Holder {
                    launch_epoch: holder.launch_epoch.wrapping_sub(1),
                    ..holder
                }),
                false,
            ),
        ] {
            assert_eq!(is_served(held_by), served, "{case}");
        }
    });
}

/// The guest at the attachment may be the instance whose document has faults.
#[test]
fn an_attachment_of_a_faulty_document_serves_no_other_instance_until_it_is_withdrawn_or_registered()
{
    run(async {
        let attachment = Attachment::Listener("demo".into());
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let mut other = demo_instance();
        other.instance_id = InstanceId::parse("i-12345678").unwrap();
        let id = &other.instance_id;
        let is_served = || registry.snapshot().attached_to(&attachment).is_some();
        let reason = || registry.snapshot().quarantine_reason(id);
        let offer = || registry.register_faulty(id, vec![attachment.clone().into()]);

        assert_eq!(offer().await, FaultyOutcome::NotServed);
        assert_eq!(
            (is_served(), reason()),
            (false, Some(QuarantineReason::FaultyDocument))
        );
        assert!(
            registry
                .snapshot()
                .reserved_attachments(id)
                .eq([&attachment.clone().into()])
        );
        registry.withdraw(id).await;
        assert_eq!((is_served(), reason()), (true, None));

        // Once it has a record, its document does not matter.
        offer().await;
        let mut elsewhere = other.clone();
        elsewhere.imds.attachments = vec![Attachment::Listener("another".into()).into()];
        let registered = registry.register(elsewhere, now()).await.unwrap();
        assert_eq!(
            (registered, is_served(), reason()),
            (RegisterOutcome::New, true, None)
        );
        assert_eq!(offer().await, FaultyOutcome::Recorded);
        assert_eq!((is_served(), reason()), (true, None));
        registry.withdraw(id).await;
        assert!(registry.snapshot().entry(id).is_some());

        // A terminated instance is not served, and reserves nothing.
        let terminate = |instance: &mut Instance| {
            instance.state = InstanceState::Terminated;
            Ok::<(), ()>(())
        };
        registry.update(id, now(), terminate).await.unwrap();
        assert_eq!(offer().await, FaultyOutcome::NotServed);
        assert!(is_served());
    });
}

/// A new instance that takes an attachment gets the account's defaults like any other.
#[test]
fn an_instance_that_is_published_at_once_with_others_gets_the_options_of_a_launch() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let mut second = demo_instance();
        second.instance_id = InstanceId::parse("i-12345678").unwrap();
        let named = crate::instance::OptionsUpdate::default();
        second.metadata_options = crate::instance::MetadataOptions::from(named);
        second.named_options = crate::instance::NamedOptions(Some(named));
        let attachment = Attachment::Listener("demo".into());
        let (id, of) = (second.instance_id.clone(), attachment.clone());
        let before = *registry.publications().borrow();
        let plan = move |transaction: &mut Transaction| {
            let mut account = transaction.account().unwrap();
            account.metadata_defaults.http_put_response_hop_limit =
                Some(HopLimit::try_from(7).unwrap());
            transaction.set_account(account);
            transaction.register(second);
            for conflict in transaction.new_conflicts() {
                transaction.take(&conflict.holder, &of);
            }
            Ok::<_, ()>(())
        };
        let (published, ()) = registry.change(now(), plan).await.unwrap();
        assert_eq!(published.len(), 2);
        assert_eq!(*registry.publications().borrow() - before, 1);
        let snapshot = registry.snapshot();
        let holder = snapshot.attached_to(&attachment).unwrap();
        assert_eq!(holder.instance.instance_id, id);
        let limit = holder.instance.metadata_options.http_put_response_hop_limit;
        assert_eq!(limit, HopLimit::try_from(7).unwrap());
    });
}
