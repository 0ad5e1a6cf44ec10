//! The image of a context in memory (`xe_lrc.c`, `regs/xe_lrc_layout.h`).

use crate::mem::{self, Address, Space, VramOffset};
use crate::xe::memory::{ContextMemory, GgttAddr, MemoryStop, Owner, Va};

/// The register state follows the page of the hardware status.
const REGISTERS: u64 = 0x1000;

const RING_HEAD: u64 = 0x05;
const RING_TAIL: u64 = 0x07;
const RING_START: u64 = 0x09;
const RING_CTL: u64 = 0x0b;
const BB_PER_CTX_PTR: u64 = 0x13;
const TIMESTAMP: u64 = 0x23;
const TIMESTAMP_UDW: u64 = 0x25;
const ASID: u64 = 0x2f;
const PDP0_UDW: u64 = 0x31;
const PDP0_LDW: u64 = 0x33;

/// Where a context's image lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    lrca: GgttAddr,
}

/// What the hardware takes out of the image when it switches to the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Where the next instruction lies in the ring.
    pub head: u32,
    /// First byte of the ring.
    pub start: GgttAddr,
    /// Size of the ring in bytes.
    pub size: u32,
    /// A batch to run before anything else.
    pub per_context_batch: Option<GgttAddr>,
    /// Run time so far.
    pub timestamp: u64,
    /// Address space.
    pub owner: Owner,
}

impl Image {
    /// The image at this address.
    pub fn new(lrca: GgttAddr) -> Image {
        Image { lrca }
    }

    /// The page of the hardware status, which starts the image.
    pub fn status_page(&self) -> GgttAddr {
        self.lrca
    }

    fn at(&self, dword: u64) -> Va {
        Va::Ggtt(self.lrca.plus(REGISTERS + dword * 4))
    }

    /// Reads whose address space it runs in.
    pub fn owner<S: Space<Addr = GgttAddr>>(&self, memory: &S) -> Result<Owner, S::Error> {
        let get = |dword| mem::read32(memory, self.lrca.plus(REGISTERS + dword * 4));
        let root = u64::from(get(PDP0_LDW)?) | u64::from(get(PDP0_UDW)?) << 32;
        Ok(Owner { asid: get(ASID)? & 0xf_ffff, root: VramOffset(root & 0x000f_ffff_ffff_f000) })
    }

    /// Reads everything that matters.
    pub fn load(&self, memory: &ContextMemory<'_>) -> Result<Loaded, MemoryStop> {
        let get = |dword| mem::read32(memory, self.at(dword));
        let batch = get(BB_PER_CTX_PTR)?;
        Ok(Loaded {
            head: get(RING_HEAD)? & 0x1f_fffc,
            start: GgttAddr(u64::from(get(RING_START)? & !0xfff)),
            size: (get(RING_CTL)? & 0x1f_f000) + 0x1000,
            per_context_batch: (batch & 1 == 1).then_some(GgttAddr(u64::from(batch & !0xfff))),
            timestamp: u64::from(get(TIMESTAMP)?) | u64::from(get(TIMESTAMP_UDW)?) << 32,
            owner: Owner {
                asid: get(ASID)? & 0xf_ffff,
                root: VramOffset(
                    (u64::from(get(PDP0_LDW)?) | u64::from(get(PDP0_UDW)?) << 32) & 0x000f_ffff_ffff_f000,
                ),
            },
        })
    }

    /// Where the driver has put the end of the ring's contents.
    pub fn tail(&self, memory: &ContextMemory<'_>) -> Result<u32, MemoryStop> {
        Ok(mem::read32(memory, self.at(RING_TAIL))? & 0x1f_fff8)
    }

    /// Writes back what changed: the driver computes the free space from the head, run times from the timestamp.
    pub fn save(&self, memory: &ContextMemory<'_>, head: u32, timestamp: u64) -> Result<(), MemoryStop> {
        mem::write32(memory, self.at(RING_HEAD), head)?;
        mem::write32(memory, self.at(TIMESTAMP), timestamp as u32)?;
        mem::write32(memory, self.at(TIMESTAMP_UDW), (timestamp >> 32) as u32)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Makes images, as the driver does.

    use super::*;
    use crate::xe::memory::{GgttSpace, XeMemory};

    pub(crate) fn put(memory: &XeMemory, lrca: GgttAddr, dword: u64, value: u32) {
        mem::write32(&GgttSpace(memory), lrca.plus(REGISTERS + dword * 4), value).unwrap();
    }

    pub(crate) fn get(memory: &XeMemory, lrca: GgttAddr, dword: u64) -> u32 {
        mem::read32(&GgttSpace(memory), lrca.plus(REGISTERS + dword * 4)).unwrap()
    }

    pub(crate) fn make(memory: &XeMemory, lrca: GgttAddr, ring: GgttAddr, size: u32, owner: Owner) {
        put(memory, lrca, RING_HEAD, 0);
        put(memory, lrca, RING_TAIL, 0);
        put(memory, lrca, RING_START, ring.0 as u32);
        put(memory, lrca, RING_CTL, (size - 0x1000) | 1);
        put(memory, lrca, ASID, owner.asid);
        put(memory, lrca, PDP0_UDW, (owner.root.0 >> 32) as u32);
        put(memory, lrca, PDP0_LDW, owner.root.0 as u32);
    }

    pub(crate) const HEAD: u64 = RING_HEAD;
    pub(crate) const TAIL: u64 = RING_TAIL;
    pub(crate) const PER_CONTEXT_BATCH: u64 = BB_PER_CTX_PTR;
    pub(crate) const RUN_TIME: u64 = TIMESTAMP;
}
