//! Reports to the registry which links of the host bindings are compared with, as links and
//! bindings change.

use std::collections::BTreeSet;

use crate::host::netlink::{Link, Links};
use crate::registry::{ChangeFeed, Changes, Registry, Snapshot};

/// The links that were last reported to the registry.
pub(super) struct ObservedLinks {
    /// The identity of this boot of the host.
    boot_id: String,
    feed: ChangeFeed,
    links: Links,
}

impl ObservedLinks {
    pub(super) fn new(registry: &Registry, boot_id: String) -> ObservedLinks {
        ObservedLinks {
            boot_id,
            feed: registry.change_feed(),
            links: Links::default(),
        }
    }

    /// Reports the links that changed, and those that new bindings name, to the registry.
    pub(super) fn observe(&mut self, registry: &Registry, links: &Links) {
        let changes = self.feed.take();
        let before = std::mem::replace(&mut self.links, links.clone());
        let identity_of = |name: &str| links.named(name).map(Link::identity);
        if changes.everything {
            return registry.observe_links(&self.boot_id, identity_of);
        }
        let mut names = BTreeSet::new();
        for index in links.changed_since(&before) {
            let both = [before.indexed(index), links.indexed(index)];
            names.extend(both.into_iter().flatten().map(|link| link.name.clone()));
        }
        if !changes.is_empty() {
            names.extend(bound_names(&changes, &registry.snapshot()));
        }
        if !names.is_empty() {
            let names = names.iter().map(String::as_str);
            registry.observe_links_named(&self.boot_id, names, identity_of);
        }
    }
}

/// Returns the names of the interfaces that the bindings of changed instances name, and those of
/// the attachments that files reserve.
fn bound_names(changes: &Changes, snapshot: &Snapshot) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for id in &changes.instances {
        let entry = snapshot.entry(id).into_iter();
        let attachments = entry.flat_map(|entry| &entry.instance.imds.attachments);
        let attachments = attachments.chain(snapshot.reserved_attachments(id));
        let bound = attachments.filter(|attachment| attachment.binding.is_some());
        names.extend(bound.filter_map(|of| of.bindable_interface().map(str::to_string)));
    }
    let reserved = snapshot.unowned().values().flatten();
    let bound = reserved.filter(|attachment| attachment.binding.is_some());
    names.extend(bound.filter_map(|of| of.bindable_interface().map(str::to_string)));
    names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Moment;
    use crate::config::demo_instance;
    use crate::instance::{Attachment, Binding, InstanceAttachment};
    use crate::registry::memory::MemoryStore;

    fn bound(name: &str, index: u32) -> InstanceAttachment {
        InstanceAttachment {
            binding: Some(Binding {
                if_index: Some(index),
                boot_id: Some("boot".into()),
                mac_address: None,
            }),
            ..InstanceAttachment::from(Attachment::Interface(name.into()))
        }
    }

    #[tokio::test]
    async fn links_that_changed_and_links_of_new_bindings_are_observed() {
        let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
        let mut links = Links::of([
            Link::example(1, "tap1", "tun"),
            Link::example(2, "tap2", "tun"),
        ]);
        let mut observed = ObservedLinks::new(&registry, "boot".to_string());
        observed.observe(&registry, &links);
        let claimed = |name: &str| {
            let attachment = Attachment::Interface(name.into());
            registry.snapshot().attached_to(&attachment).is_some()
        };
        assert!(!claimed("tap1"), "no instance is known");

        // A new binding, to a link that has existed for long.
        let now = Moment::now().wall;
        let mut instance = demo_instance();
        instance.imds.attachments = vec![bound("tap1", 1), bound("tap2", 2), bound("tap3", 3)];
        let id = instance.instance_id.clone();
        registry.register(instance, now).await.unwrap();
        observed.observe(&registry, &links);
        assert_eq!(["tap1", "tap2", "tap3"].map(claimed), [true, true, false]);

        // The links change: one appears, one is another one, one is gone.
        links.set(Link::example(3, "tap3", "tun"));
        links.delete(1);
        links.set(Link::example(4, "tap1", "tun"));
        links.delete(2);
        observed.observe(&registry, &links);
        assert_eq!(["tap1", "tap2", "tap3"].map(claimed), [false, false, true]);

        // A binding is removed and comes back.
        let set = |attachments: Vec<InstanceAttachment>| {
            registry.update(&id, now, move |instance| {
                instance.imds.attachments = attachments.clone();
                Ok::<(), ()>(())
            })
        };
        set(vec![]).await.unwrap();
        observed.observe(&registry, &links);
        links.set(Link::example(1, "tap2", "tun"));
        observed.observe(&registry, &links);
        set(vec![bound("tap1", 4), bound("tap2", 2), bound("tap3", 3)])
            .await
            .unwrap();
        observed.observe(&registry, &links);
        assert_eq!(["tap1", "tap2", "tap3"].map(claimed), [true, false, true]);
    }
}
