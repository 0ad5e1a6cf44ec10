//! What the process did to its mappings, for those who keep a list of ranges of their own.

use super::engine::event::{DISCARDED, MOVED, Notice, UNMAPPED};
use super::engine::request::{Reply, Request};
use super::space::{Space, unit};
use crate::error::{Error, ErrorKind, Result};
use crate::range::PageRange;

/// Something happened to a range of addresses that was [watched](Space::watch), or of which a device had pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// `munmap`, or something was mapped over it.
    Unmapped(PageRange),
    /// `MADV_DONTNEED`, `MADV_FREE`, `MADV_REMOVE`: mapped still, contents gone.
    Discarded(PageRange),
    /// `mremap`. Unless it left the old mapping in place, [`Unmapped`](Self::Unmapped) of the old addresses follows.
    Moved {
        /// Old addresses.
        from: PageRange,
        /// New start.
        to: u64,
    },
}

/// What wants to hear of changed mappings: the counterpart of an MMU notifier.
///
/// All methods do nothing by default.
#[doc(alias = "mmu_interval_notifier_ops")]
pub trait Notifier {
    /// [`Event::Unmapped`].
    fn unmapped(&mut self, range: PageRange) {
        let _ = range;
    }

    /// [`Event::Discarded`].
    fn discarded(&mut self, range: PageRange) {
        let _ = range;
    }

    /// [`Event::Moved`].
    fn moved(&mut self, from: PageRange, to: u64) {
        let _ = (from, to);
    }

    /// More happened than is kept (4096 events): anything may have.
    fn lost(&mut self) {}
}

/// A reader of events. Each reader sees every event once.
///
/// Events are fetched, not delivered: call [`deliver`](Self::deliver) at the start of each operation that relies on the list
/// of ranges. The thread that unmaps goes on only after the engine has taken note, so whatever was unmapped before
/// [`deliver`](Self::deliver) was called is told by it. The kernel's xe does the same: its notifier only marks ranges,
/// and the next operation collects them.
#[derive(Debug)]
pub struct Events {
    space: Space,
    seen: u64,
}

impl Space {
    /// A reader of the events from now on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn events(&self) -> Result<Events> {
        let mut events = Events { space: self.clone(), seen: u64::MAX };
        events.fetch(|_| ())?;
        Ok(events)
    }

    /// Has changes to a range told as events even while no device has a page of it, until the guard is dropped.
    ///
    /// Costs nothing while the memory is used: the kernel tells the engine when it is unmapped, discarded or moved. Ranges
    /// that are unmapped stop being watched; ranges that move are watched where they go.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without [`Capabilities::watch`](super::Capabilities::watch); `EBUSY` where another userfaultfd has
    /// the range; [`ErrorKind::MemoryKind`] for memory that userfaultfd does not take.
    #[doc(alias = "mmu_interval_notifier_insert")]
    pub fn watch(&self, range: PageRange) -> Result<Watch> {
        const CALL: &str = "Space::watch";
        if !self.capabilities().watch {
            return Err(Error::new(ErrorKind::Unsupported, CALL)
                .because("userfaultfd cannot write-protect on this architecture"));
        }
        if !range.is_empty() {
            unit(CALL, self.ask(CALL, Request::Watch { start: range.start(), end: range.end() })?)?;
        }
        Ok(Watch { space: self.clone(), range })
    }
}

/// A range whose changes are told as events. Ends when dropped.
#[derive(Debug)]
pub struct Watch {
    space: Space,
    range: PageRange,
}

impl Watch {
    /// The range as it was when the watch began.
    #[must_use]
    pub fn range(&self) -> PageRange {
        self.range
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.range.is_empty() {
            let request = Request::Unwatch { start: self.range.start(), end: self.range.end() };
            // Refused in a forked child, where there is nothing to end.
            let _ = self.space.ask("Watch::drop", request);
        }
    }
}

impl Events {
    /// The events since the last call, oldest first, and whether some were lost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn take(&mut self) -> Result<(Vec<Event>, bool)> {
        let mut events = Vec::new();
        let lost = self.fetch(|event| events.push(event))?;
        Ok((events, lost))
    }

    /// How many events there were in the space up to the last call.
    #[cfg(feature = "sim")]
    pub(crate) const fn position(&self) -> u64 {
        self.seen
    }

    /// Tells `notifier` the events since the last call, oldest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn deliver(&mut self, notifier: &mut dyn Notifier) -> Result<()> {
        let (events, lost) = self.take()?;
        if lost {
            notifier.lost();
        }
        for event in events {
            match event {
                Event::Unmapped(range) => notifier.unmapped(range),
                Event::Discarded(range) => notifier.discarded(range),
                Event::Moved { from, to } => notifier.moved(from, to),
            }
        }
        Ok(())
    }

    fn fetch(&mut self, mut each: impl FnMut(Event)) -> Result<bool> {
        let mut lost = false;
        loop {
            let request = Request::Notices { after: self.seen };
            let (reply, notices) = self.space.exchange("Events::take", request, |payload| {
                payload.chunks_exact(Notice::BYTES).map(Notice::load).collect::<Vec<_>>()
            })?;
            let Reply::Filled { count, next, lost: some } = reply else { return Ok(lost) };
            self.seen = next;
            lost |= some;
            notices.iter().take(count as usize).filter_map(event_of).for_each(&mut each);
            if count == 0 {
                return Ok(lost);
            }
        }
    }
}

fn event_of(notice: &Notice) -> Option<Event> {
    let range = PageRange::from_aligned(notice.start, notice.end);
    match notice.kind {
        UNMAPPED => Some(Event::Unmapped(range)),
        DISCARDED => Some(Event::Discarded(range)),
        MOVED => Some(Event::Moved { from: range, to: notice.to }),
        _ => None,
    }
}
