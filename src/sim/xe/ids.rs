//! Object ids of an open file.

use crate::sim::id_map::IdMap;

/// Objects by id. Ids start at 1, and the lowest free one is given out next, so an id is used again at once after its object
/// went (`XA_FLAGS_ALLOC1`, `idr_alloc` from 1).
#[derive(Debug)]
pub(super) struct Ids<T>(IdMap<u32, T>);

impl<T> Ids<T> {
    pub(super) const fn new() -> Self {
        Self(IdMap::new())
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let taken = self.0.entries().iter().zip(1u32..).take_while(|&(&(id, _), number)| id == number);
        let id = taken.count() as u32 + 1;
        self.0.insert(id, value);
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        self.0.remove(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values()
    }
}

impl<T: Clone> Ids<T> {
    pub(super) fn get(&self, id: u32) -> Option<T> {
        self.0.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_id_is_next() {
        let mut ids = Ids::new();
        assert_eq!([ids.insert('a'), ids.insert('b'), ids.insert('c')], [1, 2, 3]);
        assert_eq!(ids.remove(2), Some('b'));
        assert_eq!(ids.remove(1), Some('a'));
        assert_eq!([ids.insert('d'), ids.insert('e'), ids.insert('f')], [1, 2, 4]);
        assert_eq!((ids.get(4), ids.get(5), ids.remove(9)), (Some('f'), None, None));
    }
}
