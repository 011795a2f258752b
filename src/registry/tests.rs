//! The registry over stores that fail, callers that go away, and instances that claim the same way in.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use super::memory::MemoryStore;
use super::store::Loaded;
use super::*;
use crate::config::demo_instance;
use crate::instance::{Attachment, Family, HopLimit, Origin};

/// A store that fails when it is told to.
struct Failing {
    fails: AtomicBool,
    left: Left,
}

impl Store for Failing {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn put(&self, _: &Record, _: Option<&Record>) -> Result<(), StoreError> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(StoreError { doing: "write".into(), reason: io::Error::other("disk"), left: self.left }),
            false => Ok(()),
        }
    }
}

fn now() -> Timestamp {
    "2026-05-16T16:25:07Z".parse().unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn limit(value: i64) -> impl FnOnce(&mut Instance) -> Result<(), ()> {
    move |instance| {
        instance.metadata_options.http_put_response_hop_limit = HopLimit::try_from(value).unwrap();
        Ok(())
    }
}

fn limit_of(registry: &Registry) -> Option<u8> {
    let snapshot = registry.snapshot();
    let entry = snapshot.entry(&demo_instance().instance_id)?;
    Some(entry.instance.metadata_options.http_put_response_hop_limit.get())
}

async fn with_demo(store: Arc<dyn Store>) -> Arc<Registry> {
    let (registry, _) = Registry::open(store).unwrap();
    assert_eq!(registry.register(demo_instance(), now()).await.unwrap(), Registered::New);
    registry
}

#[test]
fn a_change_that_could_not_be_stored_changes_nothing() {
    run(async {
        let store = Arc::new(Failing { fails: AtomicBool::new(false), left: Left::Old });
        let registry = with_demo(Arc::clone(&store) as Arc<dyn Store>).await;
        store.fails.store(true, Ordering::Relaxed);
        let refused = registry.update(&demo_instance().instance_id, now(), limit(7)).await;
        assert!(matches!(refused, Err(UpdateError::Store(_))));
        assert_eq!(limit_of(&registry), Some(2));
        store.fails.store(false, Ordering::Relaxed);
        registry.update(&demo_instance().instance_id, now(), limit(7)).await.unwrap();
        assert_eq!(limit_of(&registry), Some(7));
    });
}

/// The disk may hold options that are weaker than those in memory, and a restart would serve them.
#[test]
fn an_instance_is_served_no_longer_when_nobody_knows_what_is_stored() {
    run(async {
        let store = Arc::new(Failing { fails: AtomicBool::new(false), left: Left::Unknown });
        let registry = with_demo(Arc::clone(&store) as Arc<dyn Store>).await;
        store.fails.store(true, Ordering::Relaxed);
        assert!(registry.update(&demo_instance().instance_id, now(), limit(7)).await.is_err());
        assert_eq!(limit_of(&registry), None);
        let registered = registry.register(demo_instance(), now()).await.unwrap();
        assert_eq!(registered, Registered::Unreadable, "and no document takes its place");
    });
}

#[test]
fn concurrent_changes_do_not_lose_one_another() {
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
                    registry.update(&demo_instance().instance_id, now(), add).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let snapshot = registry.snapshot();
        let entry = snapshot.entry(&demo_instance().instance_id).unwrap();
        assert_eq!((entry.instance.ami_launch_index, entry.generation), (50, 51));
    });
}

/// A caller that goes away in the middle: memory and disk must not part.
#[test]
fn a_change_that_was_begun_is_finished() {
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
fn a_change_that_leaves_everything_as_it_was_is_none() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let (entry, ()) = registry.update(&demo_instance().instance_id, now(), limit(2)).await.unwrap();
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
fn an_edited_document_is_noticed_and_a_changed_instance_is_not_taken_for_one() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        registry.update(&demo_instance().instance_id, now(), limit(9)).await.unwrap();
        assert_eq!(registry.register(demo_instance(), now()).await.unwrap(), Registered::Known);
        let mut edited = demo_instance();
        edited.instance_type = "m7i.large".into();
        assert_eq!(registry.register(edited, now()).await.unwrap(), Registered::Edited);
        assert_eq!(limit_of(&registry), Some(9));
    });
}

#[test]
fn a_way_in_that_two_claim_belongs_to_neither() {
    run(async {
        let registry = with_demo(Arc::new(MemoryStore)).await;
        let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let origin = Origin { attachment: Attachment::Listener("demo".into()), family: Family::Ipv4, peer };
        assert!(registry.snapshot().at(&origin).is_some());
        let mut second = demo_instance();
        second.instance_id = InstanceId::parse("i-12345678").unwrap();
        registry.register(second, now()).await.unwrap();
        assert!(registry.snapshot().at(&origin).is_none());
        let snapshot = registry.snapshot();
        assert!(snapshot.claims().any(|(_, claim)| matches!(claim, Claim::Disputed(several) if several.len() == 2)));
    });
}
