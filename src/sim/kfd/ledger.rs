//! The process's memory with a ledger of what would be in VRAM: nothing moves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::sim::kfd::memory::{Change, Kind, Memory, Piece, Watch};
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

    fn to_vram(&self, device: usize, range: PageRange, _block: u64) -> Result<u64, Errno> {
        let anonymous = pieces(range)?.iter().all(|piece| piece.kind == Kind::Anonymous);
        if !anonymous {
            return Ok(0);
        }
        self.lock()
            .extend((range.start()..range.end()).step_by(page_size() as usize).map(|page| (page, device)));
        Ok(range.len())
    }

    fn to_system(&self, range: PageRange) -> Result<(), Errno> {
        let mut pages = self.lock();
        let back: Vec<u64> = pages.range(range.start()..range.end()).map(|(&page, _)| page).collect();
        for page in &back {
            pages.remove(page);
        }
        Ok(())
    }

    fn in_vram(&self, range: PageRange) -> Vec<PageRange> {
        let pages = self.lock();
        let page = |(&page, _): (&u64, &usize)| PageRange::new(page, page_size()).ok();
        pages.range(range.start()..range.end()).filter_map(page).collect()
    }

    fn touches(&self) -> u64 {
        0
    }

    fn changes(&self) -> Vec<Change> {
        Vec::new()
    }

    fn watch(&self, _range: PageRange) -> Option<Arc<Watch>> {
        None
    }

    fn is_heap_or_stack(&self, address: u64) -> bool {
        is_heap_or_stack(address)
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

/// Whether the kernel names the mapping at an address as the heap or the main stack.
pub(super) fn is_heap_or_stack(address: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter(|line| line.ends_with("[heap]") || line.ends_with("[stack]")).any(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse = |text| u64::from_str_radix(text, 16);
        range.is_some_and(|(start, end)| {
            parse(start).is_ok_and(|start| start <= address) && parse(end).is_ok_and(|end| address < end)
        })
    })
}
