//! The device's own memory.

use std::io;
use std::sync::Arc;

use super::{Mapping, Place, Span, VramOffset};

/// The memory of a device, whole and contiguous; also what its memory BAR shows.
#[derive(Debug, Clone)]
pub struct Vram {
    mapping: Arc<Mapping>,
}

impl Vram {
    /// Creates `size` bytes of zeroed memory; only touched pages cost host memory.
    pub fn new(size: u64) -> io::Result<Vram> {
        Ok(Vram { mapping: Arc::new(Mapping::new("vram", size)?) })
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.mapping.size()
    }

    /// The mapping behind it.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The memory at `at`, up to the end of the device's memory.
    pub fn resolve(&self, at: VramOffset) -> Option<Span> {
        let len = self.size().checked_sub(at.0).filter(|len| *len > 0)?;
        Some(Span::Memory { place: Place::Vram, mapping: self.mapping.clone(), offset: at.0, len })
    }

    /// Reads a qword, as a page-table walker does.
    pub fn load64(&self, at: VramOffset) -> Option<u64> {
        self.mapping.load64(at.0).ok()
    }
}
