//! How threads ask the engine for something: a fixed table of slots in shared memory.
//!
//! A thread claims a slot, writes its request, rings the doorbell and sleeps on the slot's state word until the engine
//! has written the reply. Neither side holds a lock, and the engine reads and writes nothing but the table.

use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::thread::{Timespec, futex};

use super::arena::SharedMem;
use super::request::{Reply, Request};
use crate::error::Errno;

/// Requests under way at a time; more wait for a slot.
pub(crate) const SLOTS: usize = 64;
/// Bytes that travel with a request or its reply.
pub(crate) const BOUNCE: usize = 64 << 10;

/// How long a thread looks for its reply before it falls asleep: about what it takes to wake on an idle processor.
const AWAKE: Duration = Duration::from_micros(50);
const LOOKS_BETWEEN_TIMES: u32 = 16;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const SUBMITTED: u32 = 2;
const DONE: u32 = 3;

#[repr(C, align(128))]
struct Slot {
    state: AtomicU32,
    request: UnsafeCell<Request>,
    reply: UnsafeCell<Reply>,
}

#[repr(C, align(128))]
struct Table {
    /// One bit per slot that was submitted and not yet noticed.
    submitted: AtomicU64,
    /// 1 while the engine sleeps, or is about to.
    sleeping: AtomicU32,
    /// Counts released slots, for those who wait for one.
    released: AtomicU32,
    /// 1 when the engine has ended.
    closed: AtomicU32,
    /// What is written to the doorbell, here because a thread's stack may be away.
    ring: u64,
    slots: [Slot; SLOTS],
}

const BOUNCE_OFFSET: usize = size_of::<Table>().next_multiple_of(4096);

/// The way to the engine: the table's memory and the doorbell.
#[derive(Debug)]
pub(crate) struct Line {
    memory: SharedMem,
    doorbell: OwnedFd,
}

/// The table. A copy of an address: it does not keep the memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots(NonNull<Table>);

// SAFETY: the table is shared memory made for several threads; what is not atomic changes hands with the state words.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Line {
    /// A table of free slots. The engine polls `doorbell`.
    pub(crate) fn new(doorbell: OwnedFd) -> Result<Arc<Self>, Errno> {
        let memory = SharedMem::new(BOUNCE_OFFSET + SLOTS * BOUNCE)?;
        let table = memory.base().cast::<Table>();
        // SAFETY: the place lies in the new mapping, which is large enough and page-aligned.
        let ring = unsafe { &raw mut (*table.as_ptr()).ring };
        // SAFETY: the mapping is nobody else's yet. Zeroed memory is FREE slots; requests and replies are written before
        // they are read.
        unsafe { ring.write(1) };
        Ok(Arc::new(Self { memory, doorbell }))
    }

    /// The engine's view of the table.
    ///
    /// # Safety
    ///
    /// `self` must outlive every use of the result.
    pub(crate) unsafe fn slots(&self) -> Slots {
        Slots(self.memory.base().cast())
    }

    fn view(&self) -> Slots {
        Slots(self.memory.base().cast())
    }

    /// Claims a slot, waiting for one if need be.
    pub(crate) fn claim(self: &Arc<Self>) -> Claim {
        let slots = self.view();
        let table = slots.table();
        loop {
            let released = table.released.load(Ordering::Acquire);
            for (index, slot) in table.slots.iter().enumerate() {
                let claimed =
                    slot.state.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed);
                if claimed.is_ok() {
                    return Claim { line: self.clone(), index };
                }
            }
            // An interruption or a spurious wake-up only means another look.
            let _ = futex::wait(&table.released, futex::Flags::PRIVATE, released, None);
        }
    }
}

impl Slots {
    fn table(&self) -> &Table {
        // SAFETY: `Line::slots` made its caller promise that the memory is there; zeroed atomics and cells are valid.
        unsafe { self.0.as_ref() }
    }

    fn bounce(&self, slot: usize) -> *mut u8 {
        let base = self.0.as_ptr().cast::<u8>();
        // SAFETY: `slot < SLOTS` (from `claim`, or a bit of `submitted`), so the place lies within the mapping.
        unsafe { base.add(BOUNCE_OFFSET + slot * BOUNCE) }
    }

    /// The slots submitted since the last call, as bits.
    pub(super) fn take_submitted(&self) -> u64 {
        if self.table().submitted.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.table().submitted.swap(0, Ordering::Acquire)
    }

    /// Announces sleep. `false` when something was submitted meanwhile: then do not sleep.
    pub(super) fn fall_asleep(&self) -> bool {
        self.table().sleeping.store(1, Ordering::SeqCst);
        if self.table().submitted.load(Ordering::SeqCst) != 0 {
            self.wake_up();
            return false;
        }
        true
    }

    pub(super) fn wake_up(&self) {
        self.table().sleeping.store(0, Ordering::Relaxed);
    }

    pub(super) fn request(&self, slot: usize) -> Request {
        // SAFETY: the slot is SUBMITTED (its bit was taken), so the client wrote the request before and leaves it alone.
        unsafe { *self.table().slots[slot].request.get() }
    }

    /// Lets `look` have the bytes that travel with the request of a submitted slot.
    pub(super) fn payload<T>(&self, slot: usize, look: impl FnOnce(&mut [u8]) -> T) -> T {
        // SAFETY: within the mapping; between SUBMITTED and DONE the bytes are the engine's, which is one thread and looks
        // at one payload at a time.
        look(unsafe { std::slice::from_raw_parts_mut(self.bounce(slot), BOUNCE) })
    }

    pub(super) fn reply(&self, slot: usize, reply: Reply) {
        let slot = &self.table().slots[slot];
        // SAFETY: between SUBMITTED and DONE the reply is the engine's.
        unsafe { *slot.reply.get() = reply };
        slot.state.store(DONE, Ordering::Release);
        let _ = futex::wake(&slot.state, futex::Flags::PRIVATE, 1);
    }
}

impl Slots {
    /// The engine has ended: nobody is to wait for it any more.
    pub(super) fn close(&self) {
        let table = self.table();
        table.closed.store(1, Ordering::SeqCst);
        for slot in &table.slots {
            let _ = futex::wake(&slot.state, futex::Flags::PRIVATE, u32::MAX);
        }
    }
}

/// A claimed slot, released when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    line: Arc<Line>,
    index: usize,
}

impl Claim {
    fn slot(&self) -> &Slot {
        let table = self.line.memory.base().cast::<Table>();
        // SAFETY: the table lies in memory that `line` keeps; zeroed atomics and cells are valid.
        &unsafe { table.as_ref() }.slots[self.index]
    }

    /// The bytes that travel with the request.
    pub(crate) fn payload(&mut self) -> &mut [u8] {
        // SAFETY: within the mapping; the slot is CLAIMED or DONE, so the bytes are this thread's.
        unsafe { std::slice::from_raw_parts_mut(self.line.view().bounce(self.index), BOUNCE) }
    }

    /// Submits `request` and waits until the engine replies, asleep if that takes longer.
    pub(crate) fn call(&mut self, request: Request) -> Reply {
        self.submit(request);
        if let Some(reply) = self.watch_for_reply() {
            return reply;
        }
        loop {
            if let Some(reply) = self.reply() {
                return reply;
            }
            let _ = futex::wait(&self.slot().state, futex::Flags::PRIVATE, SUBMITTED, None);
        }
    }

    /// Like [`call`](Self::call), but gives up after `patience` without a reply. The slot is lost then.
    pub(crate) fn call_within(mut self, request: Request, patience: Duration) -> Option<Reply> {
        self.submit(request);
        let end = Instant::now() + patience;
        loop {
            if let Some(reply) = self.reply() {
                return Some(reply);
            }
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                std::mem::forget(self);
                return None;
            };
            let left = Timespec::try_from(left).ok();
            let _ = futex::wait(&self.slot().state, futex::Flags::PRIVATE, SUBMITTED, left.as_ref());
        }
    }

    fn submit(&mut self, request: Request) {
        let slot = self.slot();
        // SAFETY: the slot is CLAIMED, so the request is this thread's.
        unsafe { *slot.request.get() = request };
        slot.state.store(SUBMITTED, Ordering::SeqCst);
        let slots = self.line.view();
        let table = slots.table();
        table.submitted.fetch_or(1 << self.index, Ordering::SeqCst);
        if table.sleeping.swap(0, Ordering::SeqCst) == 1 {
            // Fails only when the counter is full, and then the engine has been told.
            let _ = rustix::io::write(self.line.doorbell.as_fd(), bytemuck::bytes_of(&table.ring));
        }
    }

    /// Looks for the reply for as long as falling asleep and waking up would take. Pointless where the engine needs this processor.
    fn watch_for_reply(&mut self) -> Option<Reply> {
        static PROCESSORS: OnceLock<usize> = OnceLock::new();
        let processors =
            PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get));
        if *processors == 1 {
            return None;
        }
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS_BETWEEN_TIMES {
                if let Some(reply) = self.reply() {
                    return Some(reply);
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= AWAKE {
                return None;
            }
        }
    }

    fn reply(&mut self) -> Option<Reply> {
        let slot = self.slot();
        if slot.state.load(Ordering::Acquire) == DONE {
            slot.state.store(CLAIMED, Ordering::Relaxed);
            // SAFETY: the state was DONE, so the engine wrote the reply before and is finished with the slot.
            return Some(unsafe { *slot.reply.get() });
        }
        let slots = self.line.view();
        if slots.table().closed.load(Ordering::SeqCst) == 1 && slot.state.load(Ordering::Acquire) != DONE {
            slot.state.store(CLAIMED, Ordering::Relaxed);
            return Some(Reply::Closed);
        }
        None
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.slot().state.store(FREE, Ordering::Release);
        let slots = self.line.view();
        let table = slots.table();
        table.released.fetch_add(1, Ordering::Release);
        let _ = futex::wake(&table.released, futex::Flags::PRIVATE, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    /// A hang guard.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn line() -> Arc<Line> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Line::new(eventfd(0, flags).expect("a counter can be made")).expect("memory can be made")
    }

    /// Which slots a client submits; waits for some.
    fn submitted(slots: Slots) -> u64 {
        let end = Instant::now() + PATIENCE;
        loop {
            match slots.take_submitted() {
                0 => assert!(Instant::now() < end, "a request comes"),
                bits => return bits,
            }
            std::thread::yield_now();
        }
    }

    /// Reads the doorbell's counter, which makes it 0.
    fn rung(line: &Line) -> Option<u64> {
        let mut count = [0; 8];
        rustix::io::read(&line.doorbell, &mut count).ok().map(|_| u64::from_ne_bytes(count))
    }

    #[test]
    fn a_request_and_its_bytes_reach_the_engine_and_the_reply_returns() {
        let line = line();
        let slots = line.view();
        let mut claim = line.claim();
        claim.payload()[..3].copy_from_slice(b"ask");
        let client = std::thread::spawn(move || {
            let reply = claim.call(Request::Unwatch { start: 7, end: 9 });
            (matches!(reply, Reply::Number(42)), claim.payload()[..3].to_vec())
        });
        let bits = submitted(slots);
        assert_eq!(bits.count_ones(), 1);
        let slot = bits.trailing_zeros() as usize;
        assert!(matches!(slots.request(slot), Request::Unwatch { start: 7, end: 9 }));
        slots.payload(slot, |bytes| {
            assert_eq!((bytes.len(), &bytes[..3]), (BOUNCE, &b"ask"[..]));
            bytes[..3].copy_from_slice(b"say");
        });
        slots.reply(slot, Reply::Number(42));
        assert_eq!(client.join().expect("it does not panic"), (true, b"say".to_vec()));
        assert_eq!(slots.take_submitted(), 0, "each request is noticed once");
    }

    #[test]
    fn the_end_of_the_engine_reaches_who_waits_and_who_comes_later() {
        let line = line();
        let slots = line.view();
        let claims = [line.claim(), line.claim()];
        let clients = claims.map(|claim| {
            std::thread::spawn(move || {
                let reply = claim.call_within(Request::Unwatch { start: 0, end: 0 }, PATIENCE);
                matches!(reply, Some(Reply::Closed))
            })
        });
        let mut bits = 0u64;
        while bits.count_ones() < 2 {
            bits |= submitted(slots);
        }
        slots.close();
        for client in clients {
            assert!(client.join().expect("it does not panic"), "it hears of the end");
        }
        let late = line.claim().call_within(Request::Unwatch { start: 0, end: 0 }, PATIENCE);
        assert!(matches!(late, Some(Reply::Closed)));
    }

    #[test]
    fn who_finds_no_free_slot_gets_the_first_that_is_released() {
        let line = line();
        let mut claims: Vec<Claim> = (0..SLOTS).map(|_| line.claim()).collect();
        let indices: std::collections::BTreeSet<usize> = claims.iter().map(|claim| claim.index).collect();
        assert_eq!(indices.len(), SLOTS, "no slot is given twice");
        let waiting = {
            let line = line.clone();
            std::thread::spawn(move || line.claim().index)
        };
        let freed = claims.swap_remove(40).index;
        assert_eq!(waiting.join().expect("it does not panic"), freed);
    }

    #[test]
    fn the_doorbell_rings_once_for_an_engine_that_sleeps_and_not_for_one_that_works() {
        let line = line();
        let slots = line.view();
        let (mut first, mut second) = (line.claim(), line.claim());
        assert!(slots.fall_asleep(), "nothing was submitted");
        first.submit(Request::Unwatch { start: 0, end: 0 });
        assert_eq!(rung(&line), Some(1));
        second.submit(Request::Unwatch { start: 0, end: 0 });
        assert_eq!(rung(&line), None, "it is awake already");
        assert!(!slots.fall_asleep(), "two requests are there");
        assert_eq!(slots.take_submitted().count_ones(), 2);
        assert!(slots.fall_asleep());
        slots.wake_up();
        first.submit(Request::Unwatch { start: 0, end: 0 });
        assert_eq!(rung(&line), None, "it did not sleep after all");
    }
}
