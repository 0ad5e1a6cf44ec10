//! Gives advice and takes it back, so that the driver always holds what the guards of a mirror say together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::range::PageRange;

use super::layers::{LayerId, Layers};
use super::{Advisee, Settings};

/// The advice in force that was given through one mirror. Its lock is held over the driver's calls, so that both agree.
#[derive(Debug, Default)]
pub(in crate::mirror) struct AdviceBook {
    layers: Mutex<Layers>,
}

impl AdviceBook {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives advice and enters it; `None` for no pages, about which there is nothing to enter.
    #[inline]
    pub(in crate::mirror) fn give(
        &self,
        advisee: &impl Advisee,
        range: PageRange,
        settings: Settings,
    ) -> Result<Option<LayerId>> {
        if range.is_empty() {
            return Ok(None);
        }
        let mut layers = self.lock();
        if let Err(error) = advisee.advise(range, &settings) {
            // Some kinds may have been taken before one failed; the first failure is the one to tell.
            let _ = layers.uncover(range, settings.kinds(), LayerId::NEWEST, advisee);
            return Err(error);
        }
        Ok(Some(layers.insert(range, settings)))
    }

    /// Does `act` while the advice is in force, and puts what was in force before back. The lock is held all the while: nobody
    /// else's advice comes between.
    pub(in crate::mirror) fn during<T>(
        &self,
        advisee: &impl Advisee,
        range: PageRange,
        settings: &Settings,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let layers = self.lock();
        let done = advisee.advise(range, settings).and_then(|()| act());
        let restored = layers.uncover(range, settings.kinds(), LayerId::NEWEST, advisee);
        done.and_then(|done| restored.map(|()| done))
    }

    /// Takes advice back: what was given before or since for the same addresses is in force again, otherwise the default.
    #[inline]
    pub(in crate::mirror) fn take_back(
        &self,
        advisee: &impl Advisee,
        range: PageRange,
        id: LayerId,
    ) -> Result<()> {
        let mut layers = self.lock();
        match layers.remove(range, id) {
            Some(kinds) => layers.uncover(range, kinds, id, advisee),
            None => Ok(()),
        }
    }

    /// Leaves advice in force that no guard will take back.
    pub(in crate::mirror) fn keep(&self, range: PageRange, id: LayerId) {
        self.lock().keep(range, id);
    }

    /// Takes back all advice for addresses inside `range`. Goes on after a failure, and answers with the first.
    pub(in crate::mirror) fn reset(&self, advisee: &impl Advisee, range: PageRange) -> Result<()> {
        let mut layers = self.lock();
        let mut result = Ok(());
        for (id, range, kinds) in layers.remove_inside(range) {
            result = result.and(layers.uncover(range, kinds, id, advisee));
        }
        result
    }
}

#[cfg(test)]
mod tests;
