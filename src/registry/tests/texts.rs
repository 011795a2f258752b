//! Texts that instances have in common: one allocation for all, as long as one of them has it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{now, run};
use crate::config::demo_instance;
use crate::document;
use crate::instance::{Instance, InstanceId, SharedText, Tag};
use crate::registry::file::FileStore;
use crate::registry::memory::MemoryStore;
use crate::registry::{Progress, Registry};

const INSTANCES: u32 = 4;

fn id(number: u32) -> InstanceId {
    InstanceId::parse(&format!("i-{number:08x}")).unwrap()
}

/// Returns instances that were read one by one, so that no text of them is shared.
fn read() -> Vec<Instance> {
    let text = document::to_value(&demo_instance()).to_string();
    let read = (1..=INSTANCES).map(|number| {
        let mut instance = document::from_text(&text).unwrap();
        instance.instance_id = id(number);
        instance.imds.attachments.clear();
        instance.tags = vec![tag("all".to_string())];
        instance
    });
    read.collect()
}

fn tag(value: String) -> Tag {
    Tag {
        key: "key".into(),
        value: value.into(),
    }
}

/// Asserts that the texts of all instances that others can have are the same allocations.
fn assert_shared(registry: &Registry, when: &str) {
    let snapshot = registry.snapshot();
    let all = snapshot.entries().map(|entry| {
        let mut texts = Vec::new();
        let mut instance = entry.instance.clone();
        instance.common_texts(&mut |text| texts.push(text.clone()));
        texts
    });
    let all: Vec<Vec<SharedText>> = all.collect();
    assert_eq!(all.len(), INSTANCES as usize);
    for texts in &all[1..] {
        assert_eq!(*texts, all[0], "{when}");
        for (one, other) in texts.iter().zip(&all[0]) {
            assert!(SharedText::ptr_eq(one, other), "{when}: '{one}'");
        }
    }
}

#[test]
fn instances_share_equal_texts_after_registering_a_change_and_a_start() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let store = FileStore::open(directory.path()).unwrap();
            Registry::open(Arc::new(store)).unwrap().0
        };
        let registry = open();
        for instance in read() {
            registry.register(instance, now()).await.unwrap();
        }
        assert_shared(&registry, "registered");
        for number in 1..=INSTANCES {
            // The caller of a change keeps what it asked for until the change is stored.
            let asked_for = tag("changed".to_string());
            let change = move |instance: &mut Instance| {
                instance.tags = vec![asked_for.clone()];
                Ok::<_, ()>(())
            };
            registry.update(&id(number), now(), change).await.unwrap();
        }
        assert_shared(&registry, "changed");
        let ids = (1..=INSTANCES).map(id);
        let change = |instance: &mut Instance| {
            instance.tags = vec![tag("all changed".to_string())];
            Ok::<_, ()>(())
        };
        let progress = watch::Sender::new(Progress::default());
        let outcome = registry.change_all(ids, now(), change, progress).await;
        assert!(outcome.is_ok());
        assert_shared(&registry, "changed together");
        drop(registry);
        let registry = open();
        assert_shared(&registry, "read from the disk");
        // A new instance shares with those that were read.
        registry.delete(&id(1), |_| Ok::<_, ()>(())).await.unwrap();
        let mut new = read().remove(0);
        new.tags = vec![tag("all changed".to_string())];
        registry.register(new, now()).await.unwrap();
        assert_shared(&registry, "registered after a start");
    });
}

#[test]
fn texts_that_no_instance_has_any_more_are_forgotten() {
    run(async {
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        for instance in read() {
            registry.register(instance, now()).await.unwrap();
        }
        let of_instances = registry.texts.len();
        // Many more texts than the pool keeps: each change replaces those of the one before.
        let mut most = 0;
        for round in 0..60 {
            let change = move |instance: &mut Instance| {
                let tags = (0..50).map(|index| tag(format!("{round} {index}")));
                instance.tags = tags.collect();
                Ok::<_, ()>(())
            };
            registry.update(&id(1), now(), change).await.unwrap();
            most = most.max(registry.texts.len());
        }
        assert!(most < 60 * 50 / 2, "{most} texts at most");
        for number in 1..=INSTANCES {
            let removed = registry.delete(&id(number), |_| Ok::<_, ()>(())).await;
            removed.unwrap();
        }
        registry.texts.sweep();
        assert_eq!((of_instances > 20, registry.texts.len()), (true, 0));
    });
}
