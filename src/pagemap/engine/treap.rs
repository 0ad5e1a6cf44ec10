//! A binary tree that random priorities keep shallow. Its nodes lie in somebody's slab and point to each other by index, so
//! that it needs no memory but the slab's.

/// Index of no node.
pub(super) const NIL: u32 = u32::MAX;

/// What the tree keeps in a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) left: u32,
    pub(super) right: u32,
    priority: u32,
}

impl Link {
    pub(super) const NONE: Self = Self { left: NIL, right: NIL, priority: 0 };

    /// Of a node that is in no tree but in a list.
    pub(super) const fn to(next: u32) -> Self {
        Self { left: next, ..Self::NONE }
    }
}

/// The root, and where the priorities come from.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) index: u32,
    random: u64,
}

impl Root {
    pub(super) const fn new() -> Self {
        Self { index: NIL, random: 0x9e37_79b9_7f4a_7c15 }
    }

    fn priority(&mut self) -> u32 {
        // xorshift64: any sequence without pattern will do.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u32
    }
}

/// Nodes in a tree, each with a key of its own.
pub(super) trait Treap {
    type Key: Copy + Ord;

    fn root(&mut self) -> &mut Root;
    fn key(&self, index: u32) -> Self::Key;
    fn link(&self, index: u32) -> &Link;
    fn link_mut(&mut self, index: u32) -> &mut Link;

    /// Something changed below the node.
    fn renew(&mut self, _index: u32) {}

    /// Puts a node in.
    fn enter(&mut self, index: u32) {
        *self.link_mut(index) = Link { priority: self.root().priority(), ..Link::NONE };
        self.renew(index);
        let (at, root) = (self.key(index), self.root().index);
        let (low, high) = self.split(root, &|key| key < at);
        let low = self.merge(low, index);
        self.root().index = self.merge(low, high);
    }

    /// Takes a node out.
    fn leave(&mut self, index: u32) {
        let (at, root) = (self.key(index), self.root().index);
        let (low, rest) = self.split(root, &|key| key < at);
        let (found, high) = self.split(rest, &|key| key <= at);
        debug_assert_eq!(found, index);
        self.root().index = self.merge(low, high);
    }

    /// Nodes that are low, and the others. All that are low are below all others.
    fn split(&mut self, index: u32, is_low: &dyn Fn(Self::Key) -> bool) -> (u32, u32) {
        if index == NIL {
            return (NIL, NIL);
        }
        if is_low(self.key(index)) {
            let (low, high) = self.split(self.link(index).right, is_low);
            self.link_mut(index).right = low;
            self.renew(index);
            (index, high)
        } else {
            let (low, high) = self.split(self.link(index).left, is_low);
            self.link_mut(index).left = high;
            self.renew(index);
            (low, index)
        }
    }

    /// One tree of two, all of `low` below all of `high`.
    fn merge(&mut self, low: u32, high: u32) -> u32 {
        if low == NIL {
            return high;
        }
        if high == NIL {
            return low;
        }
        if self.link(low).priority > self.link(high).priority {
            let right = self.merge(self.link(low).right, high);
            self.link_mut(low).right = right;
            self.renew(low);
            low
        } else {
            let left = self.merge(low, self.link(high).left);
            self.link_mut(high).left = left;
            self.renew(high);
            high
        }
    }
}
