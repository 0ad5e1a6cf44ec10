//! Where a translation ends: a piece of contiguous memory.

use std::sync::Arc;

use super::Mapping;

/// What kind of memory a [`Span`] lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Guest memory.
    System,
    /// The device's own memory.
    Vram,
    /// The memory of another device, reached through its BAR.
    Peer,
}

/// A contiguous piece of memory that an address translates to.
#[derive(Debug, Clone)]
pub enum Span {
    /// Reads as zero, drops stores (a page marked as null).
    Null {
        /// Bytes from the translated address to the end of the page.
        len: u64,
    },
    /// Real memory.
    Memory {
        /// What kind of memory.
        place: Place,
        /// The memory; holding it keeps it mapped.
        mapping: Arc<Mapping>,
        /// Offset of the translated address inside the mapping.
        offset: u64,
        /// Bytes from the translated address to the end of the page.
        len: u64,
    },
}

impl Span {
    /// Bytes that this span covers.
    pub fn len(&self) -> u64 {
        match self {
            Span::Null { len } | Span::Memory { len, .. } => *len,
        }
    }

    /// Whether the span covers nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kind of memory; `None` for a null page.
    pub fn place(&self) -> Option<Place> {
        match self {
            Span::Null { .. } => None,
            Span::Memory { place, .. } => Some(*place),
        }
    }

    /// The span cut to at most `len` bytes.
    pub fn cut(self, len: u64) -> Span {
        match self {
            Span::Null { len: own } => Span::Null { len: own.min(len) },
            Span::Memory { place, mapping, offset, len: own } => {
                Span::Memory { place, mapping, offset, len: own.min(len) }
            }
        }
    }
}
