//! A map of few entries: the objects of an open file by number, and what there is for each GPU.

/// A map in one vector, ascending by key. Numbers are mostly given out in ascending order, so that new entries go to the end.
///
/// What a simulated driver has many of, ranges above all, is in a B-tree.
#[derive(Clone, Debug)]
pub(in crate::sim) struct IdMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for IdMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> IdMap<K, V> {
    pub(in crate::sim) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(in crate::sim) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::sim) fn clear(&mut self) {
        self.0.clear();
    }

    /// Keys and values, ascending by key.
    pub(in crate::sim) fn entries(&self) -> &[(K, V)] {
        &self.0
    }

    /// As [`entries`](Self::entries), the values to change.
    pub(in crate::sim) fn entries_mut(&mut self) -> impl Iterator<Item = (K, &mut V)>
    where
        K: Copy,
    {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }

    pub(in crate::sim) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(in crate::sim) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(in crate::sim) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.0.retain(|(_, value)| keep(value));
    }
}

impl<K: Copy + Ord, V> IdMap<K, V> {
    /// Where the first key at or behind `key` is among the entries.
    pub(in crate::sim) fn position(&self, key: K) -> usize {
        self.0.partition_point(|entry| entry.0 < key)
    }

    fn find(&self, key: K) -> Option<usize> {
        let at = self.position(key);
        self.0.get(at).filter(|entry| entry.0 == key).map(|_| at)
    }

    pub(in crate::sim) fn contains_key(&self, key: K) -> bool {
        self.find(key).is_some()
    }

    pub(in crate::sim) fn get(&self, key: K) -> Option<&V> {
        self.find(key).map(|at| &self.0[at].1)
    }

    pub(in crate::sim) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.find(key).map(|at| &mut self.0[at].1)
    }

    /// Enters a value, in the place of one that the key had.
    pub(in crate::sim) fn insert(&mut self, key: K, value: V) {
        let at = self.position(key);
        match self.0.get_mut(at).filter(|entry| entry.0 == key) {
            Some(entry) => entry.1 = value,
            None => self.0.insert(at, (key, value)),
        }
    }

    pub(in crate::sim) fn remove(&mut self, key: K) -> Option<V> {
        self.find(key).map(|at| self.0.remove(at).1)
    }
}

impl<K: Copy + Ord, V: Default> IdMap<K, V> {
    /// The value of a key, which it gets now if it has none.
    pub(in crate::sim) fn entry(&mut self, key: K) -> &mut V {
        let at = self.position(key);
        if self.0.get(at).is_none_or(|entry| entry.0 != key) {
            self.0.insert(at, (key, V::default()));
        }
        &mut self.0[at].1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_tree(steps in proptest::collection::vec((0u8..5, 0u32..12, any::<u16>()), 0..60)) {
            let (mut map, mut model) = (IdMap::new(), BTreeMap::new());
            for (kind, key, value) in steps {
                match kind {
                    0 | 1 => {
                        map.insert(key, value);
                        model.insert(key, value);
                    }
                    2 => prop_assert_eq!(map.remove(key), model.remove(&key)),
                    3 => {
                        *map.entry(key) |= value;
                        *model.entry(key).or_default() |= value;
                    }
                    _ => {
                        map.retain(|&kept| kept != value);
                        model.retain(|_, &mut kept| kept != value);
                        if let Some(known) = map.get_mut(key) {
                            *known = value;
                            model.insert(key, value);
                        }
                    }
                }
                prop_assert_eq!(map.get(key), model.get(&key));
                prop_assert_eq!(map.contains_key(key), model.contains_key(&key));
                prop_assert_eq!(map.position(key), model.range(..key).count());
                prop_assert_eq!(map.is_empty(), model.is_empty());
                prop_assert!(map.entries().iter().copied().eq(model.iter().map(|(&key, &value)| (key, value))));
                prop_assert!(map.values().eq(model.values()));
            }
        }
    }
}
