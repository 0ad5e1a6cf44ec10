//! The threads that run a driver's `copy_to_ram` and `devmem_release`.
//!
//! Not the engine's thread: what a driver does may touch memory that is on a device, and only the engine can bring that
//! back. For the same reason there is always one thread more than there are copies under way: a copy may itself wait for
//! another window.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::engine::Mask;
use super::engine::request::{Reply, Request};
use super::engine::slots::Line;
use crate::error::{Errno, Error, ErrorKind};

/// Threads that wait for work beyond this number end.
const SPARE: usize = 2;

/// What the threads do for an allocation, which the engine knows by its token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tasks {
    /// Copies the pages of a mask, which counts from page `base` of the allocation, to staging memory: token, address, pages,
    /// `base`, mask. The engine holds the token until it hands it out for release.
    pub(crate) copy_out: unsafe fn(u64, u64, u32, u32, &Mask) -> Result<(), Errno>,
    /// Drops the allocation. The engine hands a token out for release once, and forgets it.
    pub(crate) release: unsafe fn(u64),
}

#[derive(Debug, Default)]
pub(crate) struct CopyThreads {
    idle: AtomicUsize,
}

impl CopyThreads {
    /// Makes sure that somebody waits for work.
    pub(crate) fn ensure(self: &Arc<Self>, line: &Arc<Line>, tasks: Tasks) -> Result<(), Error> {
        if self.idle.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        // Counted before it runs, so that two callers do not start two, nor one that returns at once none.
        self.idle.fetch_add(1, Ordering::Relaxed);
        let (threads, line) = (self.clone(), line.clone());
        let spawned = std::thread::Builder::new()
            .name("drm-pagemap-copy".into())
            .spawn(move || threads.work(&line, tasks));
        if let Err(io) = spawned {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::OutOfMemory, "pthread_create").because(io.to_string()));
        }
        Ok(())
    }

    fn work(self: &Arc<Self>, line: &Arc<Line>, tasks: Tasks) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let mut claim = line.claim();
        loop {
            let reply = claim.call(Request::TakeJob { thread });
            self.idle.fetch_sub(1, Ordering::Relaxed);
            match reply {
                Reply::Job { node, token, staging, pages, base } => {
                    // Without a spare thread a copy that waits for another one waits for ever; with the thread it is
                    // merely slow. There is nobody to tell.
                    let _ = self.ensure(line, tasks);
                    let live = Mask::load(claim.payload());
                    // SAFETY: the engine holds the token until it hands it out in `Reply::Release`, which it does after
                    // `EndJob` for this window.
                    let result = unsafe { (tasks.copy_out)(token, staging, pages, base, &live) };
                    claim.call(Request::EndJob { node, result });
                }
                Reply::Release { token } => {
                    let _ = self.ensure(line, tasks);
                    // A driver that panics while it releases memory must not take the thread with it.
                    // SAFETY: the engine hands a token out for release once, and forgets it.
                    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { (tasks.release)(token) }));
                }
                _ => return,
            }
            if self.idle.fetch_add(1, Ordering::Relaxed) >= SPARE {
                self.idle.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// What a panicking driver's operation counts as.
pub(crate) const PANICKED: Errno = Errno::EIO;
