//! Which advice is in force for which addresses, so that taking one back restores what it had overridden.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::range::PageRange;

use super::super::space::Space;
use super::{Kinds, Settings};

/// What no advice says.
static NOTHING: Settings = Settings::NOTHING;

/// The advice given through one mirror, oldest first.
#[derive(Debug, Default)]
pub(in crate::mirror) struct AdviceBook {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    last_id: u64,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    range: PageRange,
    settings: Settings,
}

impl AdviceBook {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives advice and enters it. The lock is held over the driver's calls, so that the book and the driver agree.
    #[inline]
    pub(in crate::mirror) fn give(&self, space: &Space, range: PageRange, settings: Settings) -> Result<u64> {
        let mut pages = self.lock();
        if !range.is_empty() {
            if let Err(error) = space.advise(range, &settings) {
                // Some kinds may have been taken before one failed; the first failure is the one to tell.
                let _ = pages.restore_parts(space, range, settings.kinds());
                return Err(error);
            }
        }
        pages.last_id += 1;
        let id = pages.last_id;
        pages.entries.push(Entry { id, range, settings });
        Ok(id)
    }

    /// Does `act` while the advice is in force, and puts what was in force before back. The lock is held all the while: nobody
    /// else's advice comes between.
    pub(in crate::mirror) fn during<T>(
        &self,
        space: &Space,
        range: PageRange,
        settings: &Settings,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let pages = self.lock();
        let done = space.advise(range, settings).and_then(|()| act());
        let restored = pages.restore(space, range, settings.kinds());
        done.and_then(|done| restored.map(|()| done))
    }

    /// Takes advice back: what was given before or since for the same addresses is in force again, otherwise the default.
    #[inline]
    pub(in crate::mirror) fn take_back(&self, space: &Space, id: u64) -> Result<()> {
        let mut pages = self.lock();
        let Some((range, was)) = pages.remove(id) else { return Ok(()) };
        pages.restore(space, range, was)
    }

    /// Takes back all advice for addresses inside `range`. Goes on after a failure, and answers with the first.
    pub(in crate::mirror) fn reset(&self, space: &Space, range: PageRange) -> Result<()> {
        let mut pages = self.lock();
        let inside = |entry: &Entry| range.contains_range(entry.range);
        let (gone, left): (Vec<Entry>, _) = std::mem::take(&mut pages.entries).into_iter().partition(inside);
        pages.entries = left;
        let mut result = Ok(());
        for entry in gone {
            result = result.and(pages.restore(space, entry.range, entry.settings.kinds()));
        }
        result
    }
}

impl Pages {
    /// Takes an entry out. Guards mostly go in the reverse order in which they came, so it is looked for from the end.
    #[inline]
    fn remove(&mut self, id: u64) -> Option<(PageRange, Kinds)> {
        let last = self.entries.last()?;
        if last.id == id {
            let was = (last.range, last.settings.kinds());
            self.entries.truncate(self.entries.len() - 1);
            return Some(was);
        }
        let index = self.entries.iter().rposition(|entry| entry.id == id)?;
        let entry = self.entries.remove(index);
        Some((entry.range, entry.settings.kinds()))
    }

    /// Applies, over each part of `range`, what the entries say about the kinds of advice that were set. Goes on after a
    /// failure, and answers with the first.
    #[inline]
    fn restore(&self, space: &Space, range: PageRange, was: Kinds) -> Result<()> {
        if self.entries.iter().any(|entry| entry.range.intersection(range).is_some()) {
            return self.restore_parts(space, range, was);
        }
        space.restore(range, was, &NOTHING)
    }

    #[inline(never)]
    fn restore_parts(&self, space: &Space, range: PageRange, was: Kinds) -> Result<()> {
        let mut result = Ok(());
        for part in self.parts(range) {
            let mut now = Settings::default();
            for entry in self.entries.iter().filter(|entry| entry.range.contains_range(part)) {
                now.override_with(&entry.settings);
            }
            result = result.and(space.restore(part, was, &now));
        }
        result
    }

    /// `range`, cut wherever an entry begins or ends.
    fn parts(&self, range: PageRange) -> Vec<PageRange> {
        let mut cuts: Vec<u64> = self
            .entries
            .iter()
            .flat_map(|entry| [entry.range.start(), entry.range.end()])
            .filter(|&at| range.start() < at && at < range.end())
            .collect();
        cuts.extend([range.start(), range.end()]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|ends| PageRange::from_aligned(ends[0], ends[1])).collect()
    }
}

impl Settings {
    fn override_with(&mut self, newer: &Self) {
        if newer.preferred.is_some() {
            self.preferred.clone_from(&newer.preferred);
        }
        if newer.atomics.is_some() {
            self.atomics = newer.atomics;
        }
        if newer.granularity.is_some() {
            self.granularity = newer.granularity;
        }
    }
}
