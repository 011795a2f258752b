//! A persistent map with several values for a key: a copy shares its contents with the original.

use rpds::RedBlackTreeSetSync;

/// Several values for each key, ordered by key and value. A copy costs nothing, and a change costs
/// O(log n): the copies keep what they had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Multimap<K: Ord, V: Ord> {
    /// The pairs. Without a value, a pair is only used for lookups: it precedes the others of its
    /// key.
    pairs: RedBlackTreeSetSync<(K, Option<V>)>,
}

impl<K: Ord + Clone, V: Ord> Multimap<K, V> {
    /// Adds a value to those of a key. Nothing changes if it has it already.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.pairs.insert_mut((key, Some(value)));
    }

    /// Removes a value from those of a key.
    pub(super) fn remove(&mut self, key: K, value: V) {
        self.pairs.remove_mut(&(key, Some(value)));
    }

    /// Returns the values of a key, in order.
    pub(super) fn of(&self, key: K) -> impl Iterator<Item = &V> {
        let pairs = self.pairs.range((key.clone(), None)..);
        pairs
            .take_while(move |(of, _)| *of == key)
            .filter_map(|(_, value)| value.as_ref())
    }

    /// Returns the keys that have values, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        let mut last = None;
        let keys = self.pairs.iter().map(|(key, _)| key);
        keys.filter(move |key| last.replace(*key) != Some(*key))
    }
}

impl<K: Ord, V: Ord> Default for Multimap<K, V> {
    fn default() -> Self {
        Multimap {
            pairs: RedBlackTreeSetSync::new_sync(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_the_original_loses() {
        let mut map: Multimap<u8, u8> = Multimap::default();
        for (key, value) in [(2, 0), (1, 7), (1, 3), (3, 3), (1, 3)] {
            map.insert(key, value);
        }
        let copy = map.clone();
        map.remove(1, 3);
        map.remove(2, 0);
        map.remove(2, 9);
        assert!(copy.of(1).eq(&[3, 7]) && copy.keys().eq(&[1, 2, 3]));
        assert!(map.of(1).eq(&[7]) && map.keys().eq(&[1, 3]));
        assert_eq!(
            (map.of(0).count(), map.of(2).count(), map.of(4).count()),
            (0, 0, 0)
        );
    }
}
