//! Entries of page tables (`amdgpu_vm.h`, `AMDGPU_PTE_*` and `AMDGPU_PDE_*`).

use crate::amd::address::FrameAddr;
use crate::mem::Dma;

const VALID: u64 = 1 << 0;
const SYSTEM: u64 = 1 << 1;
const READABLE: u64 = 1 << 5;
const WRITABLE: u64 = 1 << 6;
const PARTIALLY_RESIDENT: u64 = 1 << 51;
const LEAF: u64 = 1 << 54;
const FURTHER: u64 = 1 << 56;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// A page directory entry or a page table entry; also what a page table base register holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry(pub u64);

/// What an entry points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Guest memory, or the BAR of another device.
    System(Dma),
    /// Memory of the device or of its hive.
    Frame(FrameAddr),
}

impl Target {
    /// The target `bytes` further on.
    pub fn plus(self, bytes: u64) -> Target {
        match self {
            Target::System(at) => Target::System(Dma(at.0.wrapping_add(bytes))),
            Target::Frame(at) => Target::Frame(FrameAddr(at.0.wrapping_add(bytes))),
        }
    }
}

impl Entry {
    /// Whether the entry counts.
    pub fn valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// An invalid entry whose page reads as zero and drops stores.
    pub fn partially_resident(self) -> bool {
        self.0 & PARTIALLY_RESIDENT != 0
    }

    /// Loads are allowed.
    pub fn readable(self) -> bool {
        self.0 & READABLE != 0
    }

    /// Stores are allowed.
    pub fn writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// A directory entry that is a page itself.
    pub fn leaf(self) -> bool {
        self.0 & LEAF != 0
    }

    /// An entry of the last level that points to one more table.
    pub fn further(self) -> bool {
        self.0 & FURTHER != 0
    }

    /// Where it points. Pages larger than 4 KiB begin at any 4 KiB: the driver looks only at whether memory goes on without a
    /// gap when it makes one (`amdgpu_vm_pte_fragment`, `amdgpu_vm_update_range`).
    pub fn target(self) -> Target {
        let address = self.0 & ADDRESS;
        if self.0 & SYSTEM != 0 { Target::System(Dma(address)) } else { Target::Frame(FrameAddr(address)) }
    }
}

#[cfg(test)]
impl Entry {
    pub(crate) fn frame(address: u64, writable: bool) -> Entry {
        Entry(address | VALID | READABLE | if writable { WRITABLE } else { 0 })
    }

    pub(crate) fn system(address: u64, writable: bool) -> Entry {
        Entry(Entry::frame(address, writable).0 | SYSTEM)
    }

    pub(crate) fn as_leaf(self) -> Entry {
        Entry(self.0 | LEAF)
    }

    pub(crate) fn with_further(self) -> Entry {
        Entry(self.0 | FURTHER)
    }

    pub(crate) fn null() -> Entry {
        Entry(PARTIALLY_RESIDENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        // A page in VRAM as the driver writes it: fragment and memory type bits do not matter.
        let e = Entry(0x0000_0001_2345_6000 | 1 << 57 | 9 << 7 | 0x71);
        assert!(e.valid() && e.readable() && e.writable() && !e.leaf() && !e.further());
        assert_eq!(e.target(), Target::Frame(FrameAddr(0x1_2345_6000)));
        assert_eq!(Entry(0x7777_7003).target(), Target::System(Dma(0x7777_7000)));
        assert!(Entry::null().partially_resident() && !Entry::null().valid());
    }
}
