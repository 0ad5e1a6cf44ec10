//! Pages of the engine's own for a moment's use: one to move something into, and one that shows whether a range is the engine's.

use super::Engine;
use super::pool::Pool;
use super::uffd::Uffd;
use crate::error::Errno;
use crate::range::SIZE_2M;

/// A block whose first page is marked, and behind it one to move pages into.
#[derive(Debug)]
pub(super) struct Scratch {
    pool: Pool,
    marked: bool,
}

/// What a range is to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// One mapping, registered with the engine's descriptor.
    Ours,
    /// Something else, or nothing.
    NotOurs,
    /// Mappings are changing: to be asked again when the reports are read.
    Changing,
}

impl Scratch {
    fn new(uffd: &Uffd) -> Result<Self, Errno> {
        let mut pool = Pool::new(2 * SIZE_2M)?;
        pool.register(uffd)?;
        Ok(Self { pool, marked: false })
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn unregister(&mut self, uffd: &Uffd) {
        self.pool.unregister(uffd);
    }

    /// The page that pages are moved into, within the pool.
    pub(super) const PAGE: u64 = SIZE_2M;

    fn address(&self) -> u64 {
        self.pool.address(Self::PAGE)
    }
}

impl Engine {
    fn scratch(&mut self) -> Result<&mut Scratch, Errno> {
        if self.scratch.is_none() {
            self.scratch = Some(Scratch::new(&self.uffd)?);
        }
        self.scratch.as_mut().ok_or(Errno::ENOMEM)
    }

    /// One page to move something into; made when first needed.
    pub(super) fn scratch_address(&mut self) -> Result<u64, Errno> {
        self.scratch().map(|scratch| scratch.address())
    }

    pub(super) fn empty_scratch(&mut self) {
        let page = self.page;
        if let Some(scratch) = &self.scratch {
            if scratch.pool.empty(&self.uffd, Scratch::PAGE, page).is_err() {
                self.scratch = None;
            }
        }
    }

    /// What a range of at most 2 MiB is, at this moment.
    ///
    /// Asks for a move that cannot happen: its source is a page marked with `UFFDIO_POISON`. The kernel looks at the
    /// destination first: `EINVAL` or `ENOENT` if it is not one mapping registered with this descriptor (older kernels would
    /// let this one *unregister* what belongs to another), `EEXIST` if a page is in the way, and only then finds that the source
    /// is nothing it can move, `EFAULT`.
    pub(super) fn standing(&mut self, at: u64, len: u64) -> Standing {
        let page = self.page;
        if self.scratch().is_err() {
            return Standing::NotOurs;
        }
        let Some(scratch) = &mut self.scratch else { return Standing::NotOurs };
        let mark = scratch.pool.address(0);
        if !scratch.marked {
            match self.uffd.poison(mark, page) {
                Ok(()) | Err((_, Errno::EEXIST)) => scratch.marked = true,
                Err((_, Errno::EAGAIN)) => return Standing::Changing,
                Err(_) => return Standing::NotOurs,
            }
        }
        match self.uffd.move_pages(at, mark, len) {
            Err((_, Errno::EFAULT | Errno::EEXIST)) => Standing::Ours,
            Err((_, Errno::EAGAIN)) => Standing::Changing,
            _ => Standing::NotOurs,
        }
    }

    /// As [`standing`](Self::standing), reading reports until there is an answer.
    pub(super) fn is_ours(&mut self, at: u64, len: u64) -> bool {
        let mut round = 0;
        loop {
            match self.standing(at, len) {
                Standing::Ours => return true,
                Standing::NotOurs => return false,
                Standing::Changing => self.let_mappings_settle(round),
            }
            round += 1;
        }
    }
}
