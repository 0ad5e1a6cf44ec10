//! The order in which the windows of a region were used: the oldest is the first to make room.

use super::Engine;
use super::treap::NIL;

impl Engine {
    pub(super) fn link_newest(&mut self, index: u32) {
        let id = self.table[index].region;
        let Some(region) = self.region_mut(id) else { return };
        region.windows += 1;
        let newest = std::mem::replace(&mut region.newest, index);
        if newest == NIL {
            region.oldest = index;
        } else {
            self.table[newest].newer = index;
        }
        self.table[index].older = newest;
        self.table[index].newer = NIL;
    }

    pub(super) fn unlink(&mut self, index: u32) {
        let node = self.table[index];
        if node.older != NIL {
            self.table[node.older].newer = node.newer;
        }
        if node.newer != NIL {
            self.table[node.newer].older = node.older;
        }
        if let Some(region) = self.region_mut(node.region) {
            region.windows -= 1;
            if region.oldest == index {
                region.oldest = node.newer;
            }
            if region.newest == index {
                region.newest = node.older;
            }
        }
    }

    /// The device, or somebody who asked for the window to be there, used it.
    pub(super) fn touch(&mut self, index: u32) {
        if self.table[index].newer != NIL {
            self.unlink(index);
            self.link_newest(index);
        }
    }
}
