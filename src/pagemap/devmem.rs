//! An allocation of device memory whose contents a driver copies.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::copy_threads::{PANICKED, Tasks};
use super::dev::Dev;
use super::devmem_ops::{DevMemOps, Pfn};
use super::dpagemap::Pagemap;
use super::engine::Mask;
use super::engine::request::{Collect, Cut, NodeId, Populate, Reply, Request};
use super::failure::closed;
use super::inner::Inner;
use super::options::Migrated;
use super::space::{Space, failed};
use super::window::Window;
use crate::addr::{DeviceAddr, Direction, InterconnectProtocol};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::{PageRange, SIZE_2M, page_size};

/// An allocation of device memory, on its way to being used in an address space.
///
/// Made by a driver's [`populate_mm`](super::PagemapOps::populate_mm), consumed by [`Space::migrate_devmem`] whether that
/// succeeds or not (the kernel's rule since 7.x). From then on it lives exactly as long as a page of it is in use somewhere,
/// and is dropped then, in a thread of the space. [`observe`](Self::observe) gives a handle that outlives it.
#[doc(alias = "drm_pagemap_devmem")]
#[doc(alias = "drm_pagemap_devmem_init")]
#[derive(Debug)]
pub struct DevMem {
    owned: Box<Owned>,
}

/// What the engine holds, as a number, while pages are in use.
#[derive(Debug)]
pub(crate) struct Owned {
    dev: Dev,
    mm: Weak<Inner>,
    ops: Box<dyn DevMemOps>,
    dpagemap: Arc<Pagemap>,
    size: u64,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    placed: OnceLock<(NodeId, u64)>,
    released: AtomicBool,
}

impl DevMem {
    /// An allocation of `size` bytes of `dpagemap`'s memory for use in `mm`.
    #[must_use]
    pub fn new(dev: Dev, mm: &Space, ops: Box<dyn DevMemOps>, dpagemap: Arc<Pagemap>, size: u64) -> Self {
        let state = Arc::default();
        Self { owned: Box::new(Owned { dev, mm: Arc::downgrade(mm.inner()), ops, dpagemap, size, state }) }
    }

    /// The device.
    #[must_use]
    pub fn dev(&self) -> Dev {
        self.owned.dev
    }

    /// The address space, unless it has ended. An allocation does not keep it alive (the kernel: `mmget_not_zero`).
    #[must_use]
    pub fn mm(&self) -> Option<Space> {
        self.owned.mm.upgrade().map(Space::from_inner)
    }

    /// The driver's operations.
    #[must_use]
    pub fn ops(&self) -> &dyn DevMemOps {
        &*self.owned.ops
    }

    /// The pagemap.
    #[must_use]
    pub fn dpagemap(&self) -> &Arc<Pagemap> {
        &self.owned.dpagemap
    }

    /// Bytes of the allocation, which is also what one CPU touch brings back.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.owned.size
    }

    /// A handle to what becomes of the allocation.
    #[must_use]
    pub fn observe(&self) -> DevMemState {
        DevMemState { state: self.owned.state.clone(), mm: self.owned.mm.clone() }
    }
}

/// What became of a [`DevMem`].
#[derive(Clone, Debug)]
pub struct DevMemState {
    state: Arc<State>,
    mm: Weak<Inner>,
}

impl DevMemState {
    /// Whether no page of the allocation is in use any more: the counterpart of `completion_done(&devmem->detached)`.
    /// `false` before the allocation was consumed by [`Space::migrate_devmem`].
    #[doc(alias = "detached")]
    #[must_use]
    pub fn is_detached(&self) -> bool {
        if self.state.released.load(Ordering::Acquire) {
            return true;
        }
        match (self.state.placed.get(), self.mm.upgrade()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(_), Some(inner)) => self.window(&Space::from_inner(inner)).is_none(),
        }
    }

    /// Waits until no page of the allocation is in use any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if the allocation has not been migrated to, and so would never detach.
    pub fn wait_detached(&self) -> Result<()> {
        const CALL: &str = "DevMemState::wait_detached";
        let Some(&(node, token)) = self.state.placed.get() else {
            if self.state.released.load(Ordering::Acquire) {
                return Ok(());
            }
            return Err(Error::new(ErrorKind::InvalidArgument, CALL)
                .because("nothing was migrated to the allocation yet"));
        };
        match self.mm.upgrade() {
            None => Ok(()),
            Some(inner) => {
                let space = Space::from_inner(inner);
                super::space::unit(CALL, space.ask(CALL, Request::WaitDetached { node, token })?)
            }
        }
    }

    /// Moves the allocation's pages back to system memory, whatever their timeslice. Three tries; success is that the
    /// allocation is detached.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] with `EBUSY` when pages are still in use after three tries.
    #[doc(alias = "drm_pagemap_evict_to_ram")]
    pub fn evict_to_ram(&self) -> Result<()> {
        match (self.state.placed.get(), self.mm.upgrade()) {
            (Some(&(node, _)), Some(inner)) => Window::new(Space::from_inner(inner), node).evict(),
            _ => Ok(()),
        }
    }

    /// Pages in use: the references that keep the allocation.
    #[must_use]
    pub fn live_pages(&self) -> u64 {
        let space = self.mm.upgrade().map(Space::from_inner);
        space.and_then(|space| self.window(&space)).map_or(0, |window| window.live_pages())
    }

    /// How long the timeslice still lasts; zero if it is over or there is none.
    #[doc(alias = "timeslice_expiration")]
    #[must_use]
    pub fn timeslice_left(&self) -> Duration {
        let space = self.mm.upgrade().map(Space::from_inner);
        space.and_then(|space| self.window(&space)).map_or(Duration::ZERO, |window| window.timeslice_left())
    }

    fn window(&self, space: &Space) -> Option<Window> {
        let &(node, _) = self.state.placed.get()?;
        let window = Window::new(space.clone(), node);
        window.exists().then_some(window)
    }
}

impl Owned {
    /// # Safety
    ///
    /// `token` must come from [`into_token`](Self::into_token) and not have been taken back for as long as the result is used.
    pub(crate) unsafe fn borrow<'a>(token: u64) -> &'a Self {
        // SAFETY: the caller vouches for the token, which is the address of a boxed `Self`.
        unsafe { &*(token as *const Self) }
    }

    /// # Safety
    ///
    /// `token` must come from [`into_token`](Self::into_token), and be taken back once.
    pub(crate) unsafe fn take(token: u64) -> Box<Self> {
        // SAFETY: the caller vouches for the token, which `Box::into_raw` made.
        unsafe { Box::from_raw(token as *mut Self) }
    }

    fn into_token(self: Box<Self>) -> u64 {
        Box::into_raw(self) as u64
    }

    /// Copies pages `base..base + pages` of the allocation, those that are `live`, to staging memory.
    pub(crate) fn copy_out(&self, staging: u64, pages: u32, base: u32, live: &Mask) -> Result<(), Errno> {
        let copy = || {
            let pfns = self.pfns(base + pages)?;
            let src: Vec<_> = (0..pages).map(|n| live.get(n).then(|| pfns[(base + n) as usize])).collect();
            let dst = addresses(staging, pages, live, Direction::FromDevice);
            self.ops.copy_to_ram(&src, &dst)
        };
        catch_unwind(AssertUnwindSafe(copy)).unwrap_or(Err(PANICKED))
    }

    fn copy_in(&self, staging: u64, pages: u32, present: &Mask) -> Result<(), Errno> {
        let pfns = self.pfns(pages)?;
        let dst: Vec<_> = pfns.into_iter().map(Some).collect();
        let src = addresses(staging, pages, present, Direction::ToDevice);
        self.ops.copy_to_devmem(&dst, &src)
    }

    fn pfns(&self, pages: u32) -> Result<Vec<Pfn>, Errno> {
        let mut pfns = vec![Pfn(0); pages as usize];
        self.ops.populate_devmem_pfn(&mut pfns)?;
        Ok(pfns)
    }
}

const TASKS: Tasks = Tasks {
    copy_out: |token, staging, pages, base, live| {
        // SAFETY: the tasks' contract: the token has not been taken back.
        let owned = unsafe { Owned::borrow(token) };
        owned.copy_out(staging, pages, base, live)
    },
    release: |token| {
        // SAFETY: the tasks' contract: the token is taken back here, once.
        drop(unsafe { Owned::take(token) });
    },
};

impl Drop for Owned {
    fn drop(&mut self) {
        // As the kernel does: `complete_all(&detached)`, then `devmem_release`, which is the drop of `ops` that follows.
        self.state.released.store(true, Ordering::Release);
    }
}

fn addresses(staging: u64, pages: u32, which: &Mask, dir: Direction) -> Vec<Option<DeviceAddr>> {
    let page = page_size();
    (0..pages)
        .map(|n| {
            let address = staging + u64::from(n) * page;
            let encoded = DeviceAddr::encode(address, InterconnectProtocol::SYSTEM, 0, dir).ok();
            encoded.filter(|_| which.get(n))
        })
        .collect()
}

impl Space {
    /// Migrates a range to an allocation of a driver's own, calling the driver's operations: `drm_pagemap_migrate_to_devmem`.
    ///
    /// All or nothing; at most 2 MiB, at most the size of the allocation. On error nothing has changed and the allocation is
    /// dropped. If the whole range is in memory of the same pagemap already, nothing is done and the allocation is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`migrate_to_devmem`](Self::migrate_to_devmem); `EBUSY` when part of the range is on a device already; the
    /// errno of `populate_devmem_pfn` or `copy_to_devmem`, verbatim, when the driver fails.
    ///
    /// # Panics
    ///
    /// When `copy_to_devmem` panics: the pages go back first.
    #[doc(alias = "drm_pagemap_migrate_to_devmem")]
    pub fn migrate_devmem(&self, devmem: DevMem, range: PageRange, timeslice: Duration) -> Result<Migrated> {
        const CALL: &str = "Space::migrate_devmem";
        devmem.owned.dpagemap.check_space(self, CALL)?;
        if range.is_empty() {
            return Ok(Migrated::default());
        }
        if range.len() > devmem.size().min(SIZE_2M) {
            return Err(Error::from_errno(CALL, Errno::EINVAL)
                .over(range)
                .because("the range is larger than the allocation, or than 2 MiB"));
        }
        self.check_kind(CALL, range, range)?;
        if let Some(line) = self.inner().line() {
            self.copies().ensure(line, TASKS)?;
        }
        let populate = Populate {
            region: devmem.owned.dpagemap.region(),
            start: range.start(),
            end: range.end(),
            cut: Cut::Blocks(SIZE_2M),
            collect: Collect::Window,
            timeslice_ns: u64::try_from(timeslice.as_nanos()).unwrap_or(u64::MAX),
            stack: self.guarded_stack(),
        };
        let state = devmem.owned.state.clone();
        let token = devmem.owned.into_token();
        // SAFETY: the token was just made, and the engine does not use it before `EndCopy`.
        let take_back = || unsafe { Owned::take(token) };
        let mut claim = match self.inner().claim(CALL) {
            Ok(claim) => claim,
            Err(error) => {
                drop(take_back());
                return Err(error);
            }
        };
        let (node, staging) = match claim.call(Request::BeginCopy { populate, token }) {
            Reply::Staged { node, staging } => (node, staging),
            reply => {
                drop(take_back());
                return match reply {
                    Reply::Progress(progress) => {
                        let mut migrated = Migrated::default();
                        migrated.add(&progress);
                        Ok(migrated)
                    }
                    Reply::Failed(failure) | Reply::Stopped(_, failure) => Err(failed(CALL, failure)),
                    _ => Err(closed(CALL)),
                };
            }
        };
        let present = Mask::load(claim.payload());
        let pages = range.pages() as u32;
        // SAFETY: the engine gives the token up for release only after `EndCopy`, which is below.
        let owned = unsafe { Owned::borrow(token) };
        let copied = catch_unwind(AssertUnwindSafe(|| owned.copy_in(staging, pages, &present)));
        let result = match &copied {
            Ok(result) => *result,
            Err(_) => Err(PANICKED),
        };
        if result.is_ok() {
            let _ = state.placed.set((node, token));
        }
        let reply = claim.call(Request::EndCopy { node: node.index, result });
        if let Err(errno) = result {
            drop(take_back());
            if let Err(panic) = copied {
                resume_unwind(panic);
            }
            return Err(Error::from_errno(CALL, errno)
                .over(range)
                .because("the driver could not copy the pages"));
        }
        let mut migrated = Migrated::default();
        if let Reply::Progress(progress) = reply {
            migrated.add(&progress);
        }
        Ok(migrated)
    }
}
