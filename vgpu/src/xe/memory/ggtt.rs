//! The global translation table: 4 GiB of addresses that firmware and rings use.

use std::sync::Arc;

use super::XeMemory;
use crate::mem::{Access, Dma, Mapping, Space, Span, VramOffset};
use crate::{address_space, engine::Permit};

address_space! {
    /// An address of the global table.
    GgttAddr;
}

const PRESENT: u64 = 1 << 0;
const VRAM: u64 = 1 << 1;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PAGE: u64 = 0x1000;

/// The table itself: one qword per page, in the second half of BAR 0.
#[derive(Debug, Clone)]
pub struct Ggtt {
    mapping: Arc<Mapping>,
    offset: u64,
}

/// Why an access stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgttError(pub String);

impl Ggtt {
    /// The table at `offset` of a mapping.
    pub fn new(mapping: Arc<Mapping>, offset: u64) -> Ggtt {
        Ggtt { mapping, offset }
    }

    fn entry(&self, at: GgttAddr) -> u64 {
        let index = (at.0 & 0xffff_ffff) >> 12;
        // Cannot leave the table: 2^20 entries of 8 bytes are its size.
        self.mapping.load64(self.offset + index * 8).unwrap_or(0)
    }

    /// Points the page at `at` to `page`; what the driver does through the BAR.
    #[cfg(test)]
    pub(crate) fn set(&self, at: GgttAddr, page: GgttPage) {
        let entry = match page {
            GgttPage::Vram(offset) => offset.0 | VRAM | PRESENT,
            GgttPage::System(address) => address.0 | PRESENT,
        };
        let _ = self.mapping.store64(self.offset + ((at.0 & 0xffff_ffff) >> 12) * 8, entry);
    }
}

/// What an entry of the table points to.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GgttPage {
    Vram(VramOffset),
    System(Dma),
}

/// The global table as an address space, accessed while the device's state is locked.
#[derive(Debug, Clone, Copy)]
pub struct GgttSpace<'a>(pub &'a XeMemory);

impl Space for GgttSpace<'_> {
    type Addr = GgttAddr;
    type Error = GgttError;

    fn translate(&self, at: GgttAddr, _access: Access) -> Result<Span, GgttError> {
        let entry = self.0.ggtt.entry(at);
        if entry & PRESENT == 0 {
            return Err(GgttError(format!("{at:?} is not mapped (entry {entry:#x})")));
        }
        let inside = at.0 & (PAGE - 1);
        let page = (entry & ADDRESS) + inside;
        let span = if entry & VRAM != 0 {
            self.0.vram.resolve(VramOffset(page))
        } else {
            self.0.board.resolve(Dma(page))
        };
        let span = span.ok_or_else(|| GgttError(format!("{at:?} points nowhere (entry {entry:#x})")))?;
        Ok(span.cut(PAGE - inside))
    }

    fn enter(&self) -> Result<Permit<'_>, GgttError> {
        Ok(Permit::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;
    use crate::xe::memory::testing::memory;

    #[test]
    fn pages_of_both_kinds() {
        let m = memory();
        m.ggtt.set(GgttAddr(0x1000), GgttPage::Vram(VramOffset(0x5000)));
        m.ggtt.set(GgttAddr(0x2000), GgttPage::System(Dma(0x3000)));
        let space = GgttSpace(&m);
        mem::write(&space, GgttAddr(0x1ffc), &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        assert_eq!(m.vram.mapping().load32(0x5ffc), Ok(0x0403_0201));
        assert_eq!(mem::read64(&space, GgttAddr(0x1ffc)), Ok(0x0807_0605_0403_0201));
        assert!(mem::read32(&space, GgttAddr(0x3000)).is_err());
        m.ggtt.set(GgttAddr(0x3000), GgttPage::Vram(VramOffset(1 << 40)));
        assert!(mem::read32(&space, GgttAddr(0x3000)).unwrap_err().0.contains("nowhere"));
    }
}
