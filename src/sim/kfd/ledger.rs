//! The process's memory with a ledger of what would be in VRAM: nothing moves.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::sim::kfd::memory::{Kind, Memory, Piece};
use crate::sim::user_memory::copy_from_user;
use crate::vma::{VmaKind, VmaMap};

/// Which pages would be in the VRAM of which device.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pages: Mutex<BTreeMap<u64, usize>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory for Ledger {
    fn pieces(&self, range: PageRange) -> Result<Vec<Piece>, Errno> {
        pieces(range)
    }

    fn populate(&self, range: PageRange, _write: bool) -> Result<(), Errno> {
        let mut byte = [0];
        for page in (range.start()..range.end()).step_by(page_size() as usize) {
            copy_from_user(page, &mut byte)?;
        }
        Ok(())
    }

    fn to_vram(&self, device: usize, range: PageRange) -> Result<u64, Errno> {
        let anonymous = pieces(range)?.iter().all(|piece| piece.kind == Kind::Anonymous);
        if !anonymous {
            return Ok(0);
        }
        self.lock()
            .extend((range.start()..range.end()).step_by(page_size() as usize).map(|page| (page, device)));
        Ok(range.len())
    }

    fn to_system(&self, range: PageRange) -> Result<u64, Errno> {
        let mut pages = self.lock();
        let back: Vec<u64> = pages.range(range.start()..range.end()).map(|(&page, _)| page).collect();
        for page in &back {
            pages.remove(page);
        }
        Ok(back.len() as u64 * page_size())
    }

    fn in_vram(&self, range: PageRange) -> u64 {
        self.lock().range(range.start()..range.end()).count() as u64 * page_size()
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        copy_from_user(address, bytes)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        // SAFETY: the process gave the GPU access to this memory.
        unsafe { crate::sim::user_memory::copy_to_user(address, bytes) }
    }
}

/// The mapped pieces of a range of this process.
pub(super) fn pieces(range: PageRange) -> Result<Vec<Piece>, Errno> {
    let mut map = VmaMap::new();
    map.read(range).map_err(|error| error.errno().unwrap_or(Errno::ENOMEM))?;
    let piece = |vma: &crate::vma::Vma| {
        let kind = match vma.kind() {
            VmaKind::Anonymous => Kind::Anonymous,
            VmaKind::PrivateFile => Kind::PrivateFile,
            VmaKind::HugeTlb => Kind::HugeTlb,
            VmaKind::Special => Kind::Special,
            _ => Kind::Shared,
        };
        let range = vma.range().intersection(range)?;
        Some(Piece { range, kind, readable: vma.is_readable(), writable: vma.is_writable() })
    };
    Ok(map.within(range).filter_map(piece).collect())
}
