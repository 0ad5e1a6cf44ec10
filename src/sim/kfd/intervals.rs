//! Sets of addresses with a flag: page tables of GPUs, and what is in VRAM.

use std::collections::BTreeMap;

use crate::range::PageRange;

/// Addresses, each with a flag.
#[derive(Clone, Debug, Default)]
pub(super) struct Intervals {
    /// First address to end and flag; never overlapping.
    entries: BTreeMap<u64, (u64, bool)>,
}

impl Intervals {
    /// Adds addresses, or changes their flag.
    pub(super) fn add(&mut self, pages: PageRange, flag: bool) {
        self.remove(pages);
        if !pages.is_empty() {
            self.entries.insert(pages.start(), (pages.end(), flag));
        }
    }

    pub(super) fn remove(&mut self, pages: PageRange) {
        let (start, end) = (pages.start(), pages.end());
        let first =
            self.entries.range(..start).next_back().filter(|(_, entry)| entry.0 > start).map(|(&at, _)| at);
        let touched: Vec<u64> =
            first.into_iter().chain(self.entries.range(start..end.max(start)).map(|(&at, _)| at)).collect();
        for at in touched {
            let Some((entry_end, flag)) = self.entries.remove(&at) else { continue };
            if at < start {
                self.entries.insert(at, (start, flag));
            }
            if entry_end > end {
                self.entries.insert(end, (entry_end, flag));
            }
        }
    }

    /// The addresses of a range that are in the set, as runs.
    pub(super) fn within(&self, pages: PageRange) -> Vec<PageRange> {
        let before = self.entries.range(..pages.start()).next_back();
        let runs = before.into_iter().chain(self.entries.range(pages.start()..pages.end()));
        let run = |(&start, &(end, _)): (&u64, &(u64, bool))| {
            PageRange::new(start, end - start).ok()?.intersection(pages)
        };
        runs.filter_map(run).collect()
    }

    /// How many bytes of a range are in the set.
    pub(super) fn bytes_within(&self, pages: PageRange) -> u64 {
        self.within(pages).iter().map(PageRange::len).sum()
    }

    /// Whether there is no address.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The flag of an address, if it is in the set.
    pub(super) fn at(&self, address: u64) -> Option<bool> {
        let (_, &(end, flag)) = self.entries.range(..=address).next_back()?;
        (address < end).then_some(flag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::range::page_size;

    proptest! {
        #[test]
        fn as_a_list_of_pages_would(steps in proptest::collection::vec((0u64..40, 0u64..40, 0u8..3), 0..40)) {
            let (mut table, mut model) = (Intervals::default(), [None; 40]);
            for (a, b, kind) in steps {
                let (start, end) = (a.min(b), a.max(b));
                let pages = PageRange::new(start * page_size(), (end - start) * page_size()).unwrap();
                let state = match kind { 0 => None, 1 => Some(false), _ => Some(true) };
                match state {
                    Some(flag) => table.add(pages, flag),
                    None => table.remove(pages),
                }
                model[start as usize..end as usize].fill(state);
            }
            for (page, state) in (0u64..).zip(model) {
                prop_assert_eq!(table.at(page * page_size()), state);
                prop_assert_eq!(table.at(page * page_size() + 4095), state);
            }
            let inside = table.within(PageRange::new(5 * page_size(), 20 * page_size()).unwrap());
            let count: u64 = inside.iter().map(PageRange::pages).sum();
            let bytes = table.bytes_within(PageRange::new(5 * page_size(), 20 * page_size()).unwrap());
            prop_assert_eq!(bytes, count * page_size());
            prop_assert_eq!(count as usize, model[5..25].iter().flatten().count());
            prop_assert_eq!(table.is_empty(), model.iter().flatten().count() == 0);
        }
    }
}
