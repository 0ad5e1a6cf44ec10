//! Memory as one running context sees it.

use super::{Cause, GgttAddr, GgttSpace, Leaf, Owner, PpgttVa, XeMemory, walk};
use crate::engine::{Cancelled, Permit, RunToken};
use crate::mem::{Access, Address, Dma, Space, Span, VramOffset};

/// Size of a process's address space.
const VIRTUAL: u64 = 1 << 48;

/// An address in an instruction: an instruction says which translation applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Va {
    /// Through the global table.
    Ggtt(GgttAddr),
    /// Through the context's own tables.
    Ppgtt(PpgttVa),
}

impl Va {
    /// An address of one of the two spaces. Virtual addresses have 48 bits, sign-extended or not; the driver fills its five levels
    /// of tables for the address without the extension (`xe_device_canonicalize_addr`, `va_bits` of `xe_pci.c`).
    pub fn new(global: bool, address: u64) -> Va {
        if global { Va::Ggtt(GgttAddr(address)) } else { Va::Ppgtt(PpgttVa(address & (VIRTUAL - 1))) }
    }
}

impl Address for Va {
    fn plus(self, bytes: u64) -> Va {
        match self {
            Va::Ggtt(a) => Va::Ggtt(a.plus(bytes)),
            Va::Ppgtt(a) => Va::Ppgtt(a.plus(bytes)),
        }
    }
}

/// A page fault, as it is reported to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The address.
    pub va: PpgttVa,
    /// What the access wanted.
    pub access: Access,
    /// What the tables said.
    pub cause: Cause,
    /// Level of the tables that ended the walk.
    pub level: u32,
}

/// Why an access of a context stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryStop {
    /// The driver may be able to help.
    Fault(PageFault),
    /// Nobody can: the address leads nowhere.
    Broken(String),
    /// The run was cancelled.
    Cancelled,
}

impl From<Cancelled> for MemoryStop {
    fn from(_: Cancelled) -> Self {
        MemoryStop::Cancelled
    }
}

/// Memory as one running context sees it.
#[derive(Debug, Clone, Copy)]
pub struct ContextMemory<'a> {
    /// The device's memory.
    pub memory: &'a XeMemory,
    /// Whose tables.
    pub owner: Owner,
    /// The run that accesses.
    pub token: &'a RunToken,
}

impl ContextMemory<'_> {
    fn leaf(&self, va: PpgttVa, access: Access) -> Result<Leaf, MemoryStop> {
        let kept = self.memory.tlb.get(self.owner, va).filter(|leaf| leaf.check(access).is_ok());
        if let Some(leaf) = kept {
            return Ok(leaf);
        }
        // A kept translation that forbids the access is walked again before it counts as a fault.
        let checked =
            walk(&self.memory.vram, self.owner.root, va).and_then(|leaf| leaf.check(access).map(|()| leaf));
        let leaf = checked
            .map_err(|f| MemoryStop::Fault(PageFault { va, access, cause: f.cause, level: f.level }))?;
        self.memory.tlb.keep(self.owner, va, leaf);
        Ok(leaf)
    }
}

impl Space for ContextMemory<'_> {
    type Addr = Va;
    type Error = MemoryStop;

    fn translate(&self, at: Va, access: Access) -> Result<Span, MemoryStop> {
        let va = match at {
            Va::Ggtt(at) => {
                return GgttSpace(self.memory).translate(at, access).map_err(|e| MemoryStop::Broken(e.0));
            }
            Va::Ppgtt(va) => va,
        };
        let leaf = self.leaf(va, access)?;
        let size = 1u64 << leaf.shift;
        let inside = va.0 & (size - 1);
        if leaf.null {
            return Ok(Span::Null { len: size - inside });
        }
        let page = leaf.page + inside;
        let span = if leaf.vram {
            self.memory.vram.resolve(VramOffset(page))
        } else {
            self.memory.board.resolve(Dma(page))
        };
        let span = span.ok_or_else(|| MemoryStop::Broken(format!("{va:?} points nowhere: {leaf:x?}")))?;
        Ok(span.cut(size - inside))
    }

    fn enter(&self) -> Result<Permit<'_>, MemoryStop> {
        Ok(self.memory.gate.enter(self.token)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;
    use crate::xe::memory::page_tables::Tables;
    use crate::xe::memory::testing::memory;

    const VA: u64 = 0x7f00_0000_0000;

    #[test]
    fn copies_between_spaces_and_faults_at_the_first_missing_page() {
        let m = memory();
        let mut t = Tables::new(&m.vram, 0x10_0000);
        t.map_system(VA, 0x4000, true);
        t.map_vram(VA + 0x1000, 12, 0x8000);
        let token = RunToken::new();
        let space = ContextMemory { memory: &m, owner: Owner { asid: 1, root: t.root }, token: &token };
        let at = |offset| Va::new(false, VA + offset);
        mem::write(&space, at(0), &[7; 0x1000]).unwrap();
        let mut traffic = mem::Traffic::default();
        mem::copy(&space, at(0), &space, at(0x1000), 0x1000, &mut traffic).unwrap();
        assert_eq!((traffic.to_vram, traffic.from_vram), (0x1000, 0));
        assert_eq!(m.vram.mapping().load32(0x8ffc), Ok(0x0707_0707));
        let stop = mem::copy(&space, at(0), &space, at(0x1800), 0x1000, &mut traffic).unwrap_err();
        let MemoryStop::Fault(fault) = stop else { panic!("{stop:?}") };
        assert_eq!((fault.va, fault.access, fault.level), (PpgttVa(VA + 0x2000), Access::Write, 0));
    }

    #[test]
    fn the_upper_half_is_the_same_with_and_without_its_sign() {
        const UPPER: u64 = 0x8000_0000_0000;
        const SIGN: u64 = 0xffff_0000_0000_0000;
        let m = memory();
        let mut t = Tables::new(&m.vram, 0x10_0000);
        t.map_vram(UPPER, 12, 0x8000);
        let token = RunToken::new();
        let space = ContextMemory { memory: &m, owner: Owner { asid: 1, root: t.root }, token: &token };
        mem::write32(&space, Va::new(false, SIGN | UPPER), 7).unwrap();
        assert_eq!(mem::read32(&space, Va::new(false, UPPER)), Ok(7));
        assert_eq!(m.vram.mapping().load32(0x8000), Ok(7));
    }

    #[test]
    fn translation_stays_until_invalidated() {
        let m = memory();
        let mut t = Tables::new(&m.vram, 0x10_0000);
        t.map_vram(VA, 12, 0x8000);
        let token = RunToken::new();
        let owner = Owner { asid: 5, root: t.root };
        let space = ContextMemory { memory: &m, owner, token: &token };
        let at = Va::new(false, VA);
        mem::write32(&space, at, 1).unwrap();
        t.unmap(VA);
        assert_eq!(mem::read32(&space, at), Ok(1), "stale, as in hardware");
        m.tlb.invalidate_range(5, PpgttVa(VA), 0x1000);
        assert!(matches!(mem::read32(&space, at), Err(MemoryStop::Fault(_))));
    }

    #[test]
    fn more_rights_need_no_invalidation() {
        let m = memory();
        let mut t = Tables::new(&m.vram, 0x10_0000);
        t.map_system(VA, 0x4000, false);
        let token = RunToken::new();
        let space = ContextMemory { memory: &m, owner: Owner { asid: 5, root: t.root }, token: &token };
        let at = Va::new(false, VA);
        assert_eq!(mem::read32(&space, at), Ok(0));
        assert!(matches!(mem::write32(&space, at, 1), Err(MemoryStop::Fault(_))));
        t.map_system(VA, 0x4000, true);
        assert_eq!(mem::write32(&space, at, 1), Ok(()));
    }
}
