//! The texts that records have in common, each kept once.
//!
//! Thousands of instances have the same image, type, zone, subnet and tag keys. Without the pool
//! each record would keep its own copies of them.
//!
//! Only writers use the pool: a reader has the texts in its snapshot. The pool does not keep texts
//! alive for long: when it has twice as many as were alive when it last looked, it forgets those
//! that only it has.

use std::collections::HashSet;

use crate::instance::{Instance, SharedText};

/// The longest text that is kept once, in bytes. A key of OpenSSH fits, and so do the fields that
/// EC2 prints for every instance and imdsd does not read.
const MAX_LENGTH: usize = 1024;

/// How many texts there are before the pool looks for the first time whether they are alive.
const FIRST_SWEEP: usize = 1024;

/// The texts that records have in common.
#[derive(Debug)]
pub struct TextPool(parking_lot::Mutex<Pool>);

#[derive(Debug)]
struct Pool {
    texts: HashSet<SharedText>,
    /// How many texts there may be before those that are not alive are forgotten.
    limit: usize,
}

impl Default for TextPool {
    fn default() -> TextPool {
        TextPool(parking_lot::Mutex::new(Pool {
            texts: HashSet::new(),
            limit: FIRST_SWEEP,
        }))
    }
}

impl TextPool {
    /// Replaces the texts of an instance by those of the pool.
    pub fn share(&self, instance: &mut Instance) {
        instance.share_host_names();
        let mut pool = self.0.lock();
        instance.common_texts(&mut |text| {
            if text.len() <= MAX_LENGTH {
                pool.replace(text);
            }
        });
    }

    /// Forgets the texts that no record has any more.
    #[cfg(test)]
    pub(super) fn sweep(&self) {
        self.0.lock().sweep();
    }

    /// Returns how many texts the pool has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().texts.len()
    }
}

impl Pool {
    /// Replaces a text by the equal one of the pool, or takes it in.
    fn replace(&mut self, text: &mut SharedText) {
        if let Some(known) = self.texts.get(text) {
            if !SharedText::ptr_eq(known, text) {
                *text = SharedText::clone(known);
            }
            return;
        }
        // A text of the program takes no memory.
        if SharedText::is_static(text) {
            return;
        }
        if self.texts.len() >= self.limit {
            self.sweep();
        }
        self.texts.insert(SharedText::clone(text));
    }

    /// Forgets the texts that no record has any more.
    fn sweep(&mut self) {
        self.texts
            .retain(|text| SharedText::strong_count(text) != Some(1));
        self.limit = FIRST_SWEEP.max(2 * self.texts.len());
        self.texts.shrink_to(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;
    use crate::document;
    use crate::instance::{InstanceId, Tag};

    /// Reads an instance as a store does, so that no text is shared.
    fn read(number: usize) -> Instance {
        let mut instance =
            document::from_text(&document::to_value(&demo_instance()).to_string()).unwrap();
        instance.instance_id = InstanceId::parse(&format!("i-{number:08x}")).unwrap();
        instance
    }

    fn tag(value: &str) -> Tag {
        Tag {
            key: "key".into(),
            value: value.into(),
        }
    }

    #[test]
    fn equal_texts_of_two_instances_are_one() {
        let pool = TextPool::default();
        let [mut first, mut second] = [1, 2].map(read);
        assert!(!SharedText::ptr_eq(&first.image_id, &second.image_id));
        let before = [first.clone(), second.clone()];
        pool.share(&mut first);
        pool.share(&mut second);
        assert_eq!([first.clone(), second.clone()], before);
        let mut of_first = Vec::new();
        first.common_texts(&mut |text| of_first.push(text.clone()));
        assert!(of_first.len() > 20, "{of_first:?}");
        let mut of_first = of_first.iter();
        second.common_texts(&mut |text| {
            assert!(SharedText::ptr_eq(text, of_first.next().unwrap()), "{text}");
        });
        assert_eq!(of_first.next(), None);
    }

    #[test]
    fn host_names_in_several_places_of_an_instance_are_one() {
        let mut instance = read(1);
        let interface = &instance.network_interfaces[0];
        let name = instance.private_dns_name.clone().unwrap();
        assert_eq!(interface.private_dns_name, Some(name));
        TextPool::default().share(&mut instance);
        let interface = &instance.network_interfaces[0];
        let address = &interface.private_ip_addresses[0];
        let name = instance.private_dns_name.as_ref().unwrap();
        for of in [&interface.private_dns_name, &address.private_dns_name] {
            assert!(SharedText::ptr_eq(of.as_ref().unwrap(), name));
        }
    }

    #[test]
    fn a_long_text_and_user_data_are_not_taken_in() {
        let pool = TextPool::default();
        let [mut first, mut second] = [1, 2].map(read);
        for instance in [&mut first, &mut second] {
            instance.imds.user_data_text = Some("short".into());
            instance.tags = vec![
                tag(&"v".repeat(MAX_LENGTH)),
                tag(&"v".repeat(MAX_LENGTH + 1)),
            ];
            pool.share(instance);
        }
        let is_one = |of: fn(&Instance) -> &SharedText| SharedText::ptr_eq(of(&first), of(&second));
        assert!(is_one(|of| &of.tags[0].value));
        assert!(!is_one(|of| &of.tags[1].value));
        assert!(!is_one(|of| of.imds.user_data_text.as_ref().unwrap()));
    }

    #[test]
    fn the_pool_is_bounded_by_the_texts_that_are_alive() {
        let pool = TextPool::default();
        let mut alive: Vec<Instance> = (0..10).map(read).collect();
        for round in 0..10 * FIRST_SWEEP {
            // Half of the changes, and what they made, go away again.
            let mut changed = alive[round % 10].clone();
            changed.tags = vec![tag(&format!("value {round}"))];
            pool.share(&mut changed);
            alive[round % 10] = changed;
            assert!(pool.len() <= FIRST_SWEEP, "{}", pool.len());
        }
        let kept = alive.iter().map(|instance| &instance.tags[0].value);
        let kept = kept.filter(|value| pool.0.lock().texts.contains(*value));
        assert_eq!(kept.count(), 10);
        alive.clear();
        pool.sweep();
        assert_eq!(pool.len(), 0);
    }

    #[test]
    fn many_texts_that_are_alive_move_the_limit() {
        let pool = TextPool::default();
        let read = read(1);
        let alive: Vec<Instance> = (0..3 * FIRST_SWEEP)
            .map(|number| {
                let mut instance = read.clone();
                instance.tags = vec![tag(&number.to_string())];
                pool.share(&mut instance);
                instance
            })
            .collect();
        let limit = pool.0.lock().limit;
        assert!(
            pool.len() > 3 * FIRST_SWEEP && limit <= 4 * pool.len(),
            "{limit}"
        );
        drop((alive, read));
        pool.sweep();
        assert_eq!((pool.len(), pool.0.lock().limit), (0, FIRST_SWEEP));
    }
}
