//! How many pages of a range the driver believes to be in VRAM. It counts, and does not always count right.
//!
//! `vram_pages` of `struct svm_range`, as of Linux 7.3: migrations add and subtract what they moved; what the process discards or unmaps is
//! not subtracted. A split divides the count by the addresses at which pages were last mapped on a GPU
//! (`svm_range_split_pages`), which says nothing of pages that were never mapped or moved since.

use crate::range::PageRange;
use crate::sim::id_map::IdMap;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::intervals::Intervals;

/// The driver's count for one range, and what it divides it by.
#[derive(Clone, Debug, Default)]
pub(in crate::sim::kfd) struct InVram {
    pages: u64,
    /// For each GPU that the range was ever mapped on, the pages that were in VRAM when they were last mapped there.
    mapped: IdMap<usize, Intervals>,
}

impl InVram {
    /// Pages moved to VRAM.
    pub(super) fn add(&mut self, pages: u64) {
        self.pages = self.pages.wrapping_add(pages);
    }

    /// Pages moved back. More than were counted make a count that is never used up, as in the driver.
    pub(super) fn take(&mut self, pages: u64) {
        self.pages = self.pages.wrapping_sub(pages);
    }

    /// Everything has left.
    pub(super) fn clear(&mut self) {
        self.pages = 0;
    }

    /// Whether by the count nothing is there.
    pub(super) const fn is_none(&self) -> bool {
        self.pages == 0
    }

    /// Pages were mapped on GPUs; those `there` are in VRAM.
    pub(super) fn note_mapping(&mut self, gpus: Gpus, pages: PageRange, there: &[PageRange]) {
        for gpu in gpus.iter() {
            let mapped = self.mapped.entry(gpu);
            mapped.remove(pages);
            for &run in there {
                mapped.add(run, true);
            }
        }
    }

    /// Takes the share of `part` out of that of `whole`, which is in VRAM if `moved`.
    pub(super) fn split_off(&mut self, whole: PageRange, part: PageRange, moved: bool) -> Self {
        let mut new = Self::default();
        for (gpu, mapped) in self.mapped.entries_mut() {
            let mut share = Intervals::default();
            for run in mapped.within(part) {
                share.add(run, true);
            }
            mapped.remove(part);
            if moved {
                // Each GPU's count replaces that of the one before.
                new.pages = share.bytes_within(part) / crate::range::page_size();
            }
            new.mapped.insert(gpu, share);
        }
        if moved && self.mapped.is_empty() && self.pages == whole.pages() {
            new.pages = part.pages();
        }
        if moved {
            self.pages = self.pages.wrapping_sub(new.pages);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;

    fn pages(start: u64, end: u64) -> PageRange {
        PageRange::new(start * page_size(), (end - start) * page_size()).unwrap()
    }

    fn counted(count: u64) -> InVram {
        let mut in_vram = InVram::default();
        in_vram.add(count);
        in_vram
    }

    #[test]
    fn what_is_wholly_there_is_divided_exactly() {
        let mut old = counted(10);
        let new = old.split_off(pages(0, 10), pages(6, 10), true);
        assert_eq!((old.pages, new.pages), (6, 4));
    }

    #[test]
    fn what_was_never_mapped_keeps_the_count_in_the_old_range() {
        let mut old = counted(9);
        let new = old.split_off(pages(0, 10), pages(6, 10), true);
        assert_eq!((old.pages, new.pages), (9, 0));
    }

    #[test]
    fn what_was_mapped_is_divided_by_the_last_mapping_of_the_last_gpu() {
        let mut old = counted(10);
        old.note_mapping(Gpus::one(0), pages(0, 10), &[pages(0, 10)]);
        old.note_mapping(Gpus::one(1), pages(0, 10), &[pages(0, 8)]);
        old.take(10);
        old.add(5);
        let new = old.split_off(pages(0, 10), pages(6, 10), true);
        assert_eq!((old.pages, new.pages), (3, 2));
        assert_eq!(old.mapped.get(0).unwrap().bytes_within(pages(0, 10)), 6 * page_size());
        assert_eq!(new.mapped.get(0).unwrap().bytes_within(pages(0, 10)), 4 * page_size());
        old.note_mapping(Gpus::one(1), pages(0, 6), &[]);
        assert_eq!(old.mapped.get(1).unwrap().bytes_within(pages(0, 10)), 0);
    }

    #[test]
    fn what_is_in_system_memory_has_nothing_to_divide() {
        let mut old = counted(0);
        old.note_mapping(Gpus::one(0), pages(0, 10), &[pages(0, 10)]);
        let new = old.split_off(pages(0, 10), pages(0, 4), false);
        assert!(old.is_none() && new.is_none());
        assert_eq!(new.mapped.get(0).unwrap().bytes_within(pages(0, 10)), 4 * page_size());
    }
}
