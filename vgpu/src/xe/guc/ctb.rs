//! A command transport buffer: a ring of dwords with a descriptor (`abi/guc_communication_ctb_abi.h`).

use crate::mem::{self, Address};
use crate::xe::memory::{GgttAddr, GgttError, GgttSpace};

/// Bits of the descriptor's status.
const STATUS_OVERFLOW: u32 = 1 << 0;
const STATUS_MISMATCH: u32 = 1 << 2;

/// One ring; head, tail and size count dwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ctb {
    /// The dwords.
    pub buffer: GgttAddr,
    /// Head, tail, status.
    pub descriptor: GgttAddr,
    /// Number of dwords.
    pub size: u32,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Number that a reply repeats.
    pub fence: u32,
    /// Contents: a header dword and data.
    pub hxg: Vec<u32>,
}

/// Why a ring cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CtbError {
    /// Its memory is not mapped.
    Memory(GgttError),
    /// The descriptor contradicts itself or the message in the ring.
    Corrupt(String),
}

impl From<GgttError> for CtbError {
    fn from(e: GgttError) -> Self {
        CtbError::Memory(e)
    }
}

impl Ctb {
    fn pointers(&self, space: &GgttSpace<'_>) -> Result<(u32, u32), CtbError> {
        let head = mem::read32(space, self.descriptor)?;
        let tail = mem::read32(space, self.descriptor.plus(4))?;
        if head >= self.size || tail >= self.size {
            self.set_status(space, STATUS_OVERFLOW);
            return Err(CtbError::Corrupt(format!("head {head} or tail {tail} outside {}", self.size)));
        }
        Ok((head, tail))
    }

    fn set_status(&self, space: &GgttSpace<'_>, bits: u32) {
        let at = self.descriptor.plus(8);
        if let Ok(old) = mem::read32(space, at) {
            let _ = mem::write32(space, at, old | bits);
        }
    }

    fn dword(&self, space: &GgttSpace<'_>, index: u32) -> Result<u32, CtbError> {
        Ok(mem::read32(space, self.buffer.plus(u64::from(index % self.size) * 4))?)
    }

    /// Takes the next message; `None` when there is none.
    ///
    /// A zero header is a filler of one dword: the driver pads with zeros before it wraps.
    pub fn receive(&self, space: &GgttSpace<'_>) -> Result<Option<Message>, CtbError> {
        loop {
            let (head, tail) = self.pointers(space)?;
            if head == tail {
                return Ok(None);
            }
            let available = (tail + self.size - head) % self.size;
            let header = self.dword(space, head)?;
            let len = header & 0xff;
            if len >= available {
                self.set_status(space, STATUS_MISMATCH);
                return Err(CtbError::Corrupt(format!("message of {len} dwords, {available} in the ring")));
            }
            let hxg = (1..=len).map(|i| self.dword(space, head + i)).collect::<Result<Vec<_>, _>>()?;
            mem::write32(space, self.descriptor, (head + 1 + len) % self.size)?;
            if !hxg.is_empty() {
                return Ok(Some(Message { fence: header >> 16, hxg }));
            }
        }
    }

    /// Appends a message; `false` when there is no room. One dword always stays free, so that a full ring and an
    /// empty one differ.
    pub fn send(&self, space: &GgttSpace<'_>, message: &Message) -> Result<bool, CtbError> {
        let (head, tail) = self.pointers(space)?;
        let free = (head + self.size - tail - 1) % self.size;
        let len = message.hxg.len() as u32;
        if len + 1 > free {
            return Ok(false);
        }
        let header = message.fence << 16 | len;
        for (i, dword) in std::iter::once(header).chain(message.hxg.iter().copied()).enumerate() {
            let index = (tail + i as u32) % self.size;
            mem::write32(space, self.buffer.plus(u64::from(index) * 4), dword)?;
        }
        // The contents must be there before the tail says so.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        mem::write32(space, self.descriptor.plus(4), (tail + len + 1) % self.size)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::VramOffset;
    use crate::xe::memory::testing::memory;
    use crate::xe::memory::{GgttPage, XeMemory};

    const RING: Ctb = Ctb { buffer: GgttAddr(0x1000), descriptor: GgttAddr(0x2000), size: 16 };

    fn setup() -> XeMemory {
        let m = memory();
        m.ggtt.set(GgttAddr(0x1000), GgttPage::Vram(VramOffset(0x1000)));
        m.ggtt.set(GgttAddr(0x2000), GgttPage::Vram(VramOffset(0x2000)));
        m
    }

    fn message(fence: u32, len: u32) -> Message {
        Message { fence, hxg: (0..len).map(|i| fence * 100 + i).collect() }
    }

    fn pointers(m: &XeMemory) -> (u32, u32, u32) {
        let load = |at: u64| m.vram.mapping().load32(0x2000 + at).unwrap();
        (load(0), load(4), load(8))
    }

    #[test]
    fn messages_wrap_around_the_end() {
        let m = setup();
        let space = GgttSpace(&m);
        // 16 dwords, messages of 5: the wrap falls on every position.
        for fence in 1..50 {
            assert_eq!(RING.send(&space, &message(fence, 4)), Ok(true));
            assert_eq!(RING.receive(&space), Ok(Some(message(fence, 4))), "message {fence}");
            assert_eq!(RING.receive(&space), Ok(None));
        }
        assert_eq!(pointers(&m).2, 0);
    }

    #[test]
    fn full_ring_refuses_and_recovers() {
        let m = setup();
        let space = GgttSpace(&m);
        for fence in 1..=3 {
            assert_eq!(RING.send(&space, &message(fence, 4)), Ok(true));
        }
        let before = pointers(&m);
        assert_eq!(RING.send(&space, &message(4, 0)), Ok(false), "the last dword stays free");
        assert_eq!(pointers(&m), before);
        assert_eq!(RING.receive(&space), Ok(Some(message(1, 4))));
        assert_eq!(RING.send(&space, &message(4, 4)), Ok(true));
        for fence in 2..=4 {
            assert_eq!(RING.receive(&space), Ok(Some(message(fence, 4))));
        }
    }

    #[test]
    fn padding_before_a_wrap_is_skipped() {
        let m = setup();
        let space = GgttSpace(&m);
        // The driver's tail stood at 13, three dwords were left: it zeroed them and started over.
        let v = m.vram.mapping();
        for i in 13..16 {
            v.store32(0x1000 + i * 4, 0).unwrap();
        }
        v.store32(0x1000, 7 << 16 | 1).unwrap();
        v.store32(0x1004, 0xabcd).unwrap();
        v.store32(0x2000, 13).unwrap();
        v.store32(0x2004, 2).unwrap();
        assert_eq!(RING.receive(&space), Ok(Some(Message { fence: 7, hxg: vec![0xabcd] })));
        assert_eq!(RING.receive(&space), Ok(None));
    }

    #[test]
    fn nonsense_is_reported_in_the_descriptor() {
        let m = setup();
        let space = GgttSpace(&m);
        let v = m.vram.mapping();
        v.store32(0x2004, 3).unwrap();
        v.store32(0x1000, 9).unwrap();
        assert!(matches!(RING.receive(&space), Err(CtbError::Corrupt(_))));
        assert_eq!(pointers(&m).2, STATUS_MISMATCH);
        v.store32(0x2004, 16).unwrap();
        assert!(matches!(RING.receive(&space), Err(CtbError::Corrupt(_))));
        assert_eq!(pointers(&m).2, STATUS_MISMATCH | STATUS_OVERFLOW);
    }
}
