//! All windows: a slab, and a search tree by address in it.

use std::ops::{Index, IndexMut};

use super::arena::ArenaVec;
use super::node::{Node, State};
use super::request::NodeId;
use super::treap::{Link, NIL, Root, Treap};
use crate::error::Errno;

#[derive(Debug)]
pub(super) struct Table {
    slab: ArenaVec<Node>,
    free: u32,
    tree: Root,
    #[cfg(test)]
    len: u32,
    serial: u64,
    shift: u32,
}

impl Index<u32> for Table {
    type Output = Node;

    fn index(&self, index: u32) -> &Node {
        &self.slab[index as usize]
    }
}

impl IndexMut<u32> for Table {
    fn index_mut(&mut self, index: u32) -> &mut Node {
        &mut self.slab[index as usize]
    }
}

impl Treap for Table {
    type Key = u64;

    fn root(&mut self) -> &mut Root {
        &mut self.tree
    }

    fn key(&self, index: u32) -> u64 {
        self[index].start
    }

    fn link(&self, index: u32) -> &Link {
        &self[index].link
    }

    fn link_mut(&mut self, index: u32) -> &mut Link {
        &mut self[index].link
    }
}

impl Table {
    /// For pages of `1 << shift` bytes.
    pub(super) fn new(shift: u32) -> Self {
        Self {
            slab: ArenaVec::new(),
            free: NIL,
            tree: Root::new(),
            #[cfg(test)]
            len: 0,
            serial: 0,
            shift,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Takes a node off the free list and gives it a serial; it is not in the tree yet.
    pub(super) fn allocate(&mut self, node: Node) -> Result<u32, Errno> {
        let index = match self.free {
            NIL => {
                let index = u32::try_from(self.slab.len()).ok().filter(|&i| i != NIL).ok_or(Errno::ENOMEM)?;
                self.slab.push(Node::FREE)?;
                index
            }
            index => {
                self.free = self[index].link.left;
                index
            }
        };
        self.serial += 1;
        let serial = self.serial;
        self[index] = Node { serial, ..node };
        Ok(index)
    }

    /// Gives a node that is not in the tree back.
    pub(super) fn release(&mut self, index: u32) {
        let free = self.free;
        self[index] = Node { link: Link::to(free), ..Node::FREE };
        self.free = index;
    }

    /// The index of a node that still exists.
    pub(super) fn find(&self, id: NodeId) -> Option<u32> {
        let node = self.slab.get(id.index as usize)?;
        (node.state != State::Free && node.serial == id.serial).then_some(id.index)
    }

    /// All nodes, in no order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.slab.iter().filter(|node| node.state != State::Free)
    }

    pub(super) fn end(&self, index: u32) -> u64 {
        self[index].start + (u64::from(self[index].pages) << self.shift)
    }

    /// Puts a node into the tree. No other may overlap it.
    pub(super) fn insert(&mut self, index: u32) {
        self.enter(index);
        #[cfg(test)]
        {
            self.len += 1;
        }
    }

    /// Takes a node out of the tree.
    pub(super) fn remove(&mut self, index: u32) {
        self.leave(index);
        #[cfg(test)]
        {
            self.len -= 1;
        }
    }

    /// The node whose window holds `at`.
    pub(super) fn at(&self, at: u64) -> Option<u32> {
        self.ending_after(at).filter(|&index| self[index].start <= at)
    }

    /// The lowest node that ends behind `at`: it holds `at`, or is the next one.
    pub(super) fn ending_after(&self, at: u64) -> Option<u32> {
        let mut best = None;
        let mut index = self.tree.index;
        while index != NIL {
            if self.end(index) > at {
                best = Some(index);
                index = self[index].link.left;
            } else {
                index = self[index].link.right;
            }
        }
        best
    }

    /// The lowest node that shares a byte with `[start, end)`.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> Option<u32> {
        self.ending_after(start).filter(|&index| self[index].start < end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn node(page: u64, pages: u32) -> Node {
        Node { start: page << 12, pages, state: State::Resident, ..Node::FREE }
    }

    proptest! {
        #[test]
        fn agrees_with_a_btree(ops in prop::collection::vec((any::<bool>(), 0u64..64, 1u32..6, 0u64..80), 1..80)) {
            let mut table = Table::new(12);
            let mut model: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
            for (insert, page, pages, probe) in ops {
                let (start, end) = (page, page + u64::from(pages));
                let hit = model.iter().find(|&(&s, &(e, _))| s < end && start < e).map(|(&s, &(_, i))| (s, i));
                prop_assert_eq!(table.overlapping(start << 12, end << 12), hit.map(|(_, i)| i));
                match hit {
                    None if insert => {
                        let index = table.allocate(node(page, pages)).unwrap();
                        table.insert(index);
                        model.insert(start, (end, index));
                    }
                    Some((s, index)) if !insert => {
                        let id = table[index].id(index);
                        prop_assert_eq!(table.find(id), Some(index));
                        table.remove(index);
                        table.release(index);
                        prop_assert_eq!(table.find(id), None);
                        model.remove(&s);
                    }
                    _ => {}
                }
                let at = model.iter().find(|&(&s, &(e, _))| s <= probe && probe < e).map(|(_, &(_, i))| i);
                prop_assert_eq!(table.at(probe << 12), at);
                let after = model.iter().find(|&(_, &(e, _))| e > probe).map(|(_, &(_, i))| i);
                prop_assert_eq!(table.ending_after(probe << 12), after);
                prop_assert_eq!(table.len() as usize, model.len());
            }
        }
    }

    #[test]
    fn a_number_that_is_used_again_is_another_node() {
        let mut table = Table::new(12);
        let index = table.allocate(node(1, 1)).unwrap();
        table.insert(index);
        let old = table[index].id(index);
        table.remove(index);
        table.release(index);
        let again = table.allocate(node(5, 2)).unwrap();
        table.insert(again);
        assert_eq!(again, index);
        let new = table[again].id(again);
        assert_eq!((table.find(old), table.find(new)), (None, Some(again)));
    }

    #[test]
    fn stays_shallow_when_filled_in_order() {
        let mut table = Table::new(12);
        for page in 0..20_000 {
            let index = table.allocate(node(page, 1)).unwrap();
            table.insert(index);
        }
        fn depth(table: &Table, index: u32) -> u32 {
            if index == NIL {
                0
            } else {
                1 + depth(table, table[index].link.left).max(depth(table, table[index].link.right))
            }
        }
        assert!(depth(&table, table.tree.index) < 80, "{}", depth(&table, table.tree.index));
    }
}
