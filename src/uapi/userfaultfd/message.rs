//! What a userfaultfd reports.

abi! {
    header "linux/userfaultfd.h";

    /// One event, as read from the descriptor. C packs the struct, so everything here is bytes; the methods read them.
    struct UffdMsg("uffd_msg", 32) {
        /// `UFFD_EVENT_*`; decides what [`arg`](Self::arg) holds. [`UffdMsg::decode`] reads both.
        event: u8 => 0;
        /// Zero.
        reserved1: u8 => 1;
        /// Zero.
        reserved2: [u8; 2] => 2;
        /// Zero.
        reserved3: [u8; 4] => 4;
        /// Up to three words that depend on the event.
        arg: [u8; 24] => 8;
    }

    constants {
        /// A page fault: [`UffdEvent::Pagefault`].
        UFFD_EVENT_PAGEFAULT: u8 = 0x12;
        /// The process forked: [`UffdEvent::Fork`].
        UFFD_EVENT_FORK: u8 = 0x13;
        /// Memory moved: [`UffdEvent::Remap`].
        UFFD_EVENT_REMAP: u8 = 0x14;
        /// Pages dropped: [`UffdEvent::Remove`].
        UFFD_EVENT_REMOVE: u8 = 0x15;
        /// Memory unmapped: [`UffdEvent::Unmap`].
        UFFD_EVENT_UNMAP: u8 = 0x16;

        /// The fault was a write.
        UFFD_PAGEFAULT_FLAG_WRITE: u64 = 1 << 0;
        /// The page is write-protected.
        UFFD_PAGEFAULT_FLAG_WP: u64 = 1 << 1;
        /// The page cache has the page.
        UFFD_PAGEFAULT_FLAG_MINOR: u64 = 1 << 2;
        /// The page is protected against reading and writing. Since 7.3.
        UFFD_PAGEFAULT_FLAG_RWP: u64 = 1 << 3;
    }
}

/// A [`UffdMsg`], read.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdEvent {
    /// A thread touched a page and waits.
    Pagefault {
        /// `UFFD_PAGEFAULT_FLAG_*`.
        flags: u64,
        /// The address, rounded down to a page unless exact addresses were asked for.
        address: u64,
        /// The thread, if [thread ids](super::UFFD_FEATURE_THREAD_ID) were asked for; otherwise 0.
        ptid: u32,
    },
    /// The process forked.
    Fork {
        /// Descriptor through which the child's faults are reported; the reader owns it.
        ufd: u32,
    },
    /// `mremap` moved memory.
    Remap {
        /// Old address.
        from: u64,
        /// New address.
        to: u64,
        /// Bytes.
        len: u64,
    },
    /// Pages were dropped; the mapping is still there.
    Remove {
        /// First address.
        start: u64,
        /// First address behind.
        end: u64,
    },
    /// Memory was unmapped.
    Unmap {
        /// First address.
        start: u64,
        /// First address behind.
        end: u64,
    },
    /// Something newer kernels report.
    Other {
        /// The event's number.
        event: u8,
    },
}

impl UffdMsg {
    /// Reads the event and its words.
    #[must_use]
    pub fn decode(&self) -> UffdEvent {
        match self.event {
            UFFD_EVENT_PAGEFAULT => {
                UffdEvent::Pagefault { flags: self.word(0), address: self.word(1), ptid: self.half(16) }
            }
            UFFD_EVENT_FORK => UffdEvent::Fork { ufd: self.half(0) },
            UFFD_EVENT_REMAP => UffdEvent::Remap { from: self.word(0), to: self.word(1), len: self.word(2) },
            UFFD_EVENT_REMOVE => UffdEvent::Remove { start: self.word(0), end: self.word(1) },
            UFFD_EVENT_UNMAP => UffdEvent::Unmap { start: self.word(0), end: self.word(1) },
            event => UffdEvent::Other { event },
        }
    }

    fn word(&self, index: usize) -> u64 {
        bytemuck::pod_read_unaligned(&self.arg[index * 8..index * 8 + 8])
    }

    fn half(&self, offset: usize) -> u32 {
        bytemuck::pod_read_unaligned(&self.arg[offset..offset + 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel writes it: event, then words from byte 8.
    fn message(event: u8, words: &[u64]) -> UffdMsg {
        let mut bytes = [0u8; 32];
        bytes[0] = event;
        for (slot, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        bytemuck::cast(bytes)
    }

    #[test]
    fn page_faults() {
        let mut msg = message(UFFD_EVENT_PAGEFAULT, &[UFFD_PAGEFAULT_FLAG_WRITE, 0x7f12_3456_7000]);
        msg.arg[16..20].copy_from_slice(&4711u32.to_ne_bytes());
        let expected = UffdEvent::Pagefault { flags: 1, address: 0x7f12_3456_7000, ptid: 4711 };
        assert_eq!(msg.decode(), expected);
    }

    #[test]
    fn other_events() {
        let words = [0x1000, 0x2000, 0x3000];
        let mut fork = message(UFFD_EVENT_FORK, &[]);
        fork.arg[..4].copy_from_slice(&9u32.to_ne_bytes());
        assert_eq!(fork.decode(), UffdEvent::Fork { ufd: 9 });
        let remap = UffdEvent::Remap { from: 0x1000, to: 0x2000, len: 0x3000 };
        assert_eq!(message(UFFD_EVENT_REMAP, &words).decode(), remap);
        let remove = UffdEvent::Remove { start: 0x1000, end: 0x2000 };
        assert_eq!(message(UFFD_EVENT_REMOVE, &words).decode(), remove);
        let unmap = UffdEvent::Unmap { start: 0x1000, end: 0x2000 };
        assert_eq!(message(UFFD_EVENT_UNMAP, &words).decode(), unmap);
        assert_eq!(message(0x40, &words).decode(), UffdEvent::Other { event: 0x40 });
    }

    #[test]
    fn messages_can_be_read_from_any_address() {
        let mut bytes = [0u8; 40];
        bytes[3] = UFFD_EVENT_REMOVE;
        bytes[3 + 8] = 0x10;
        let msg: &UffdMsg = bytemuck::from_bytes(&bytes[3..35]);
        assert!(matches!(msg.decode(), UffdEvent::Remove { end: 0, .. }));
    }
}
