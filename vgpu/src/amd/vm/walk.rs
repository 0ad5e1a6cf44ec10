//! The walk through the page tables of a process.

use super::entry::{Entry, Target};
use crate::amd::address::GpuVa;
use crate::mem::Access;

/// Where page tables lie.
pub trait Tables {
    /// The entry at a place; `None` when there is no memory.
    fn load(&self, at: Target) -> Option<Entry>;
}

/// How deep the tables are: the fields of `VM_CONTEXTn_CNTL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Directory levels above the table that holds pages.
    pub depth: u32,
    /// Size of what an entry of the last level covers, as a power of two above 4 KiB.
    pub block: u32,
}

/// Why an access is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An entry on the way is not valid.
    NotValid,
    /// The page does not allow loads.
    NoRead,
    /// The page does not allow stores.
    NoWrite,
}

/// The page that a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Start of the page; `None` for a page that reads as zero.
    pub target: Option<Target>,
    /// Size as a power of two.
    pub shift: u32,
    /// Loads are allowed.
    pub readable: bool,
    /// Stores are allowed.
    pub writable: bool,
}

impl Leaf {
    /// The page of an entry.
    pub fn new(entry: Entry, shift: u32) -> Result<Leaf, Cause> {
        if entry.valid() {
            let target = Some(entry.target());
            Ok(Leaf { target, shift, readable: entry.readable(), writable: entry.writable() })
        } else if entry.partially_resident() {
            Ok(Leaf { target: None, shift, readable: true, writable: true })
        } else {
            Err(Cause::NotValid)
        }
    }

    /// Whether the page allows the access.
    pub fn check(&self, access: Access) -> Result<(), Cause> {
        match access {
            Access::Read | Access::Atomic if !self.readable => Err(Cause::NoRead),
            Access::Write | Access::Atomic if !self.writable => Err(Cause::NoWrite),
            _ => Ok(()),
        }
    }
}

/// Bits of an index into a table.
const LEVEL: u32 = 9;
const PAGE: u32 = 12;

/// Walks from the directory that `root` points to.
pub fn walk(tables: &impl Tables, root: Entry, shape: Shape, va: GpuVa) -> Result<Leaf, Cause> {
    let last = PAGE + shape.block.min(4 * LEVEL);
    let mut shift = last + LEVEL * shape.depth.min(4);
    let mut table = root;
    loop {
        if !table.valid() {
            return Err(Cause::NotValid);
        }
        // Only the root may be larger than a page; all tables start at a page.
        let bits = if shift < last { last - PAGE } else { LEVEL };
        let index = (va.0 >> shift) & ((1 << bits) - 1);
        let at = table.target().plus(index * 8);
        let entry = tables.load(at).ok_or(Cause::NotValid)?;
        let ends =
            if shift == last { !(entry.further() && last > PAGE) } else { shift < last || entry.leaf() };
        if ends {
            return Leaf::new(entry, shift);
        }
        if entry.partially_resident() && !entry.valid() {
            return Leaf::new(entry, shift);
        }
        table = entry;
        shift = if shift == last { PAGE } else { shift - LEVEL };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::*;
    use crate::amd::address::FrameAddr;

    #[derive(Default)]
    struct Memory(RefCell<HashMap<u64, u64>>);

    impl Memory {
        fn set(&self, table: u64, index: u64, entry: Entry) {
            self.0.borrow_mut().insert(table + index * 8, entry.0);
        }
    }

    impl Tables for Memory {
        fn load(&self, at: Target) -> Option<Entry> {
            let Target::Frame(at) = at else { return None };
            Some(Entry(self.0.borrow().get(&at.0).copied().unwrap_or(0)))
        }
    }

    const VEGA: Shape = Shape { depth: 3, block: 0 };
    const MI200: Shape = Shape { depth: 2, block: 9 };
    const ROOT: Entry = Entry(0x1001);
    const VA: GpuVa = GpuVa((5 << 39) | (6 << 30) | (7 << 21) | (8 << 12) | 0x123);

    fn directories(m: &Memory) {
        m.set(0x1000, 5, Entry::frame(0x2000, false));
        m.set(0x2000, 6, Entry::frame(0x3000, false));
    }

    #[test]
    fn four_levels() {
        let m = Memory::default();
        assert_eq!(walk(&m, ROOT, VEGA, VA), Err(Cause::NotValid));
        directories(&m);
        m.set(0x3000, 7, Entry::frame(0x4000, false));
        m.set(0x4000, 8, Entry::system(0x7777_7000, false));
        let leaf = walk(&m, ROOT, VEGA, VA).unwrap();
        assert_eq!((leaf.target, leaf.shift), (Some(Target::System(crate::mem::Dma(0x7777_7000))), 12));
        assert_eq!(leaf.check(Access::Read), Ok(()));
        assert_eq!(leaf.check(Access::Write), Err(Cause::NoWrite));
        assert_eq!(walk(&m, ROOT, VEGA, GpuVa(VA.0 + 0x1000)), Err(Cause::NotValid));
        assert_eq!(walk(&m, Entry(0x1000), VEGA, VA), Err(Cause::NotValid), "root not valid");
    }

    #[test]
    fn directory_entry_as_page() {
        let m = Memory::default();
        directories(&m);
        m.set(0x3000, 7, Entry::frame(0x40_0000, true).as_leaf());
        let leaf = walk(&m, ROOT, VEGA, VA).unwrap();
        assert_eq!((leaf.target, leaf.shift), (Some(Target::Frame(FrameAddr(0x40_0000))), 21));
        m.set(0x2000, 6, Entry::frame(0x8000_0000, true).as_leaf());
        assert_eq!(walk(&m, ROOT, VEGA, VA).unwrap().shift, 30);
    }

    #[test]
    fn translate_further() {
        let m = Memory::default();
        directories(&m);
        m.set(0x3000, 7, Entry::frame(0x60_0000, true));
        let leaf = walk(&m, ROOT, MI200, VA).unwrap();
        assert_eq!((leaf.target, leaf.shift), (Some(Target::Frame(FrameAddr(0x60_0000))), 21));
        m.set(0x3000, 7, Entry::frame(0x4000, true).with_further());
        m.set(0x4000, 8, Entry::frame(0x9000, true));
        let leaf = walk(&m, ROOT, MI200, VA).unwrap();
        assert_eq!((leaf.target, leaf.shift), (Some(Target::Frame(FrameAddr(0x9000))), 12));
    }

    #[test]
    fn null_page() {
        let m = Memory::default();
        directories(&m);
        m.set(0x3000, 7, Entry::null());
        let leaf = walk(&m, ROOT, VEGA, VA).unwrap();
        assert_eq!((leaf.target, leaf.shift), (None, 21));
        assert_eq!(leaf.check(Access::Write), Ok(()));
    }
}
