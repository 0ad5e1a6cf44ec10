//! Starting the engine's thread.

use std::thread::JoinHandle;

use super::arena::ArenaVec;
use super::request::Request;
use super::statics::Statics;
use super::step::Work;
use super::table::Table;
use super::watch::Watches;
use super::{Engine, Start};
use crate::error::Errno;

const STACK: usize = 1 << 20;

/// Starts the thread.
pub(crate) fn spawn(start: Start) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("drm-pagemap".into()).stack_size(STACK).spawn(move || {
        block_signals();
        let stack = own_stack();
        // What the thread was started with lies on the heap, which may migrate from now on: nothing of it is used
        // but what `start` moved onto this stack.
        let mut engine = Engine {
            shift: start.page.trailing_zeros(),
            table: Table::new(start.page.trailing_zeros()),
            uffd: start.uffd,
            slots: start.slots,
            doorbell: start.doorbell,
            pagemap: start.pagemap,
            page: start.page,
            stack,
            statics: Statics::of_loaded_modules(start.page),
            regions: [const { None }; super::MAX_REGIONS],
            next_region: 0,
            faults: ArenaVec::new(),
            parked: ArenaVec::new(),
            leaving: ArenaVec::new(),
            watches: Watches::new(),
            notices: ArenaVec::new(),
            notices_seen: 0,
            unmapped_windows: 0,
            deferring: false,
            deferred: ArenaVec::new(),
            relocations: ArenaVec::new(),
            staging: None,
            jobs: ArenaVec::new(),
            releases: ArenaVec::new(),
            scratch: None,
            work: [Work::new(Request::Thaw, 0, 0); super::SLOTS],
            active: 0,
            requests: 0,
            frozen: 0,
            hidden: ArenaVec::new(),
            touched: false,
            loose_discard: None,
            stirred: false,
            deadline: u64::MAX,
            closing: false,
        };
        engine.run();
    })
}

/// A signal handler on this thread could touch anything.
fn block_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` writes a whole set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was just written; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
}

/// Where this thread's stack lies, thread-local storage included.
fn own_stack() -> (u64, u64) {
    stack_of_this_thread().unwrap_or_else(|_| {
        let here = std::ptr::from_ref(&()) as u64;
        (here.saturating_sub(STACK as u64), here.saturating_add(STACK as u64))
    })
}

/// The stack of the calling thread, as `[low, high)`.
pub(crate) fn stack_of_this_thread() -> Result<(u64, u64), Errno> {
    let mut attr = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: without preconditions.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: the attributes of the calling thread are written into `attr`.
    let result = unsafe { libc::pthread_getattr_np(this, attr.as_mut_ptr()) };
    if result != 0 {
        return Err(Errno::from_raw(result));
    }
    let (mut low, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: `attr` was initialised by the call above.
    let result = unsafe { libc::pthread_attr_getstack(attr.as_ptr(), &mut low, &mut len) };
    // SAFETY: as above, and not used again.
    unsafe { libc::pthread_attr_destroy(attr.as_mut_ptr()) };
    if result != 0 {
        return Err(Errno::from_raw(result));
    }
    Ok((low as u64, low as u64 + len as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_that_of_the_thread_that_asks() {
        let around = |(low, high): (u64, u64)| {
            let here = 0u8;
            (low..high).contains(&(std::ptr::from_ref(&here) as u64))
        };
        let (own, thread) = (own_stack(), std::thread::spawn(move || (own_stack(), around(own_stack()))));
        let (other, within) = thread.join().expect("it does not panic");
        assert!(within && around(own) && !around(other));
    }
}
