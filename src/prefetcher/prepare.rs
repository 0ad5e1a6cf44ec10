//! Making pages ready before they move.

use rustix::mm::Advice;

use super::options::Prepare;
use crate::error::{Errno, Result};
use crate::range::{PageRange, SIZE_2M};
use crate::residency::{Depth, Place, Residency, Scanner};
use crate::vma::VmaMap;

/// `MADV_COLLAPSE` of `asm-generic/mman-common.h`.
const MADV_COLLAPSE: i32 = 25;

/// Buffers of one worker.
#[derive(Debug)]
pub(super) struct Preparer {
    scanner: Scanner,
    residency: Residency,
    vmas: VmaMap,
}

impl Preparer {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            scanner: Scanner::new()?.with_depth(Depth::Cheap),
            residency: Residency::new(),
            vmas: VmaMap::new(),
        })
    }

    /// Where the pages are.
    pub(super) fn look(&mut self, range: PageRange) -> Result<&Residency> {
        self.scanner.scan(range, &mut self.residency)?;
        Ok(&self.residency)
    }

    /// Prepares the movable memory of `range`. Answers how many bytes could not be.
    pub(super) fn prepare(&mut self, range: PageRange, how: Prepare) -> u64 {
        if how == Prepare::Nothing {
            return 0;
        }
        if self.vmas.read(range).is_err() || self.scanner.scan(range, &mut self.residency).is_err() {
            return range.len();
        }
        let movable = self.vmas.within(range).filter(|vma| vma.is_movable());
        let mut failed = 0;
        for part in movable.filter_map(|vma| vma.range().intersection(range)) {
            failed += match how {
                Prepare::Nothing => 0,
                Prepare::Populate => self.populate(part),
                Prepare::HugePages => self.make_huge(part),
            };
        }
        failed
    }

    /// Makes the pages that were never touched. Others are left alone: to populate a page in VRAM would bring it back.
    fn populate(&self, part: PageRange) -> u64 {
        let untouched = self.residency.runs().iter().filter(|run| run.place() == Place::Absent);
        untouched
            .filter_map(|run| run.range().intersection(part))
            .map(|range| if populate(range).is_ok() { 0 } else { range.len() })
            .sum()
    }

    fn make_huge(&self, part: PageRange) -> u64 {
        let whole = part.align_inward(SIZE_2M);
        if whole.is_empty() {
            return 0;
        }
        if advise(whole, Advice::LinuxHugepage).is_err() {
            return whole.len();
        }
        whole
            .blocks(SIZE_2M)
            .map(|block| {
                let made = match state_of(&self.residency, block) {
                    Block::Untouched => populate(block),
                    Block::Small => collapse(block),
                    Block::Huge | Block::Elsewhere => Ok(()),
                };
                if made.is_ok() { 0 } else { block.len() }
            })
            .sum()
    }
}

/// What a block of 2 MiB consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Untouched,
    /// Small pages of system memory, perhaps with holes.
    Small,
    Huge,
    /// Some of it is in VRAM, swap, or nowhere that is known.
    Elsewhere,
}

fn state_of(residency: &Residency, block: PageRange) -> Block {
    let (mut untouched, mut small, mut huge) = (0, 0, 0);
    for run in residency.runs() {
        let Some(part) = run.range().intersection(block) else { continue };
        match run.place() {
            Place::Absent => untouched += part.len(),
            Place::System | Place::Zero if run.is_huge() => huge += part.len(),
            Place::System | Place::Zero => small += part.len(),
            _ => return Block::Elsewhere,
        }
    }
    match (untouched == block.len(), huge == block.len(), small) {
        (true, ..) => Block::Untouched,
        (_, true, _) => Block::Huge,
        (.., 1..) => Block::Small,
        _ => Block::Elsewhere,
    }
}

/// Faults pages in as if they were written. A range that was unmapped meanwhile is refused.
fn populate(range: PageRange) -> Result<(), Errno> {
    advise(range, Advice::LinuxPopulateWrite)
}

fn advise(range: PageRange, advice: Advice) -> Result<(), Errno> {
    // SAFETY: the advice is one of those above: the kernel makes pages, or notes that huge ones are wanted, and changes no byte
    // that is there. Whatever is mapped at the addresses by now, nothing of it is discarded.
    unsafe { rustix::mm::madvise(range.start() as *mut _, range.len() as usize, advice) }.map_err(Errno::from)
}

/// Puts the small pages of a block together into a huge one.
fn collapse(block: PageRange) -> Result<(), Errno> {
    // SAFETY: the kernel replaces pages by a huge page with the same bytes, under its own locks, whatever is mapped there by
    // now; it changes no byte.
    let answer = unsafe { libc::madvise(block.start() as *mut _, block.len() as usize, MADV_COLLAPSE) };
    if answer == 0 {
        return Ok(());
    }
    Err(Errno::from_raw(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;

    #[test]
    fn a_block_is_untouched_small_or_elsewhere() {
        let mut data = Buffer::<u8>::zeroed(3 * SIZE_2M as usize).unwrap();
        let whole = data.range().align_inward(SIZE_2M);
        let (first, second) = (whole.blocks(SIZE_2M).next().unwrap(), whole.blocks(SIZE_2M).nth(1).unwrap());
        advise(whole, Advice::LinuxNoHugepage).unwrap();
        let at = (second.start() - data.range().start()) as usize;
        data[at] = 1;
        let now = crate::residency::of_range(whole).unwrap();
        assert_eq!((state_of(&now, first), state_of(&now, second)), (Block::Untouched, Block::Small));
        assert_eq!(state_of(&Residency::new(), first), Block::Elsewhere, "nowhere that is known");
    }
}
