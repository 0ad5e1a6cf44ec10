//! Object ids of an open file.

use crate::sim::id_map::IdMap;

/// Objects by id. Ids start at 1, and the lowest free one is given out next, so an id is used again at once after its object
/// went (`XA_FLAGS_ALLOC1`, `idr_alloc` from 1).
#[derive(Debug)]
pub(super) struct Ids<T> {
    all: IdMap<u32, T>,
    /// Usually 1.
    first: u32,
}

impl<T> Ids<T> {
    pub(super) const fn new() -> Self {
        Self { all: IdMap::new(), first: 1 }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let taken =
            self.all.entries().iter().zip(self.first..).take_while(|&(&(id, _), number)| id == number);
        let id = self.first + taken.count() as u32;
        self.all.insert(id, value);
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        self.all.remove(id)
    }

    /// Removes without having looked whether there is anything, as `xa_erase` does: what that erases counts as free, 0 too.
    pub(super) fn erase(&mut self, id: u32) -> Option<T> {
        self.first = self.first.min(id);
        self.remove(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.all.values()
    }
}

impl<T: Clone> Ids<T> {
    pub(super) fn get(&self, id: u32) -> Option<T> {
        self.all.get(id).cloned()
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

    #[test]
    fn zero_is_free_once_it_was_erased() {
        let mut ids = Ids::new();
        assert_eq!((ids.insert('a'), ids.remove(0), ids.insert('b')), (1, None, 2));
        assert_eq!((ids.erase(9), ids.erase(1), ids.insert('c')), (None, Some('a'), 1));
        assert_eq!((ids.erase(0), ids.insert('d'), ids.insert('e')), (None, 0, 3));
        assert_eq!((ids.erase(0), ids.insert('f')), (Some('d'), 0));
    }
}
