//! What is mapped on one GPU: the page table that the driver fills.

use std::collections::BTreeMap;

use crate::range::PageRange;

/// Mapped addresses of one GPU, with whether it may write there.
#[derive(Clone, Debug, Default)]
pub(super) struct PageTable {
    /// First address to end and permission; never overlapping.
    entries: BTreeMap<u64, (u64, bool)>,
}

impl PageTable {
    pub(super) fn map(&mut self, pages: PageRange, writable: bool) {
        self.unmap(pages);
        if !pages.is_empty() {
            self.entries.insert(pages.start(), (pages.end(), writable));
        }
    }

    pub(super) fn unmap(&mut self, pages: PageRange) {
        let (start, end) = (pages.start(), pages.end());
        let first =
            self.entries.range(..start).next_back().filter(|(_, entry)| entry.0 > start).map(|(&at, _)| at);
        let touched: Vec<u64> =
            first.into_iter().chain(self.entries.range(start..end.max(start)).map(|(&at, _)| at)).collect();
        for at in touched {
            let Some((entry_end, writable)) = self.entries.remove(&at) else { continue };
            if at < start {
                self.entries.insert(at, (start, writable));
            }
            if entry_end > end {
                self.entries.insert(end, (entry_end, writable));
            }
        }
    }

    /// Whether the page of an address is mapped, and if so whether the GPU may write to it.
    pub(super) fn at(&self, address: u64) -> Option<bool> {
        let (_, &(end, writable)) = self.entries.range(..=address).next_back()?;
        (address < end).then_some(writable)
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
            let (mut table, mut model) = (PageTable::default(), [None; 40]);
            for (a, b, kind) in steps {
                let (start, end) = (a.min(b), a.max(b));
                let pages = PageRange::new(start * page_size(), (end - start) * page_size()).unwrap();
                let state = match kind { 0 => None, 1 => Some(false), _ => Some(true) };
                match state {
                    Some(writable) => table.map(pages, writable),
                    None => table.unmap(pages),
                }
                model[start as usize..end as usize].fill(state);
            }
            for (page, state) in (0u64..).zip(model) {
                prop_assert_eq!(table.at(page * page_size()), state);
                prop_assert_eq!(table.at(page * page_size() + 4095), state);
            }
        }
    }
}
