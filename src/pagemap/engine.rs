//! The engine's thread: the only one that moves pages, and the only one that knows where they are.
//!
//! Everything happens in this one thread, one piece at a time: it reads what the kernel reports (touches, unmapped
//! memory), takes requests from the [slots], and moves pages. There are no locks, so nobody can hold one while a touch
//! waits; and it touches no memory that can migrate, so it never waits for itself. What it needs lies in [arena]
//! mappings, in [pool] mappings, on its stack and in static data, and requests to migrate any of these are refused.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::Errno;
use crate::uapi::userfaultfd::UffdMsg;

mod access;
pub(crate) mod arena;
mod blocks;
mod copy;
pub(crate) mod event;
mod fault;
mod fork;
mod intervals;
mod leave;
mod lru;
mod mask;
mod node;
mod placement;
mod pool;
mod populate;
mod presence;
mod region;
mod registration;
pub(crate) mod request;
mod scratch;
pub(crate) mod slots;
mod statics;
mod step;
mod table;
pub(crate) mod thread;
mod treap;
pub(crate) mod uffd;
mod watch;

pub(crate) use mask::Mask;

use arena::ArenaVec;
use copy::Staging;
use event::Notice;
use region::Region;
use request::{NodeId, Progress, Request};
use slots::{SLOTS, Slots};
use step::Work;
use table::Table;
use uffd::Uffd;

/// VRAM regions a space can have at a time.
pub(crate) const MAX_REGIONS: usize = 32;

/// A touch that waits.
#[derive(Clone, Copy, Debug)]
struct Fault {
    at: u64,
    thread: u32,
}

/// Why a piece of work stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Mappings are changing: the kernel refuses to move pages until its reports are read.
    Events,
    Failed(Errno),
}

/// What the thread is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) uffd: Uffd,
    pub(crate) slots: Slots,
    pub(crate) doorbell: OwnedFd,
    /// `/proc/self/pagemap`, if it may be opened.
    pub(crate) pagemap: Option<OwnedFd>,
    pub(crate) page: u64,
}

#[derive(Debug)]
struct Engine {
    uffd: Uffd,
    slots: Slots,
    doorbell: OwnedFd,
    pagemap: Option<OwnedFd>,
    page: u64,
    shift: u32,
    /// The stack of this thread.
    stack: (u64, u64),
    statics: statics::Statics,
    table: Table,
    regions: [Option<Region>; MAX_REGIONS],
    next_region: u32,
    /// Touches read and not yet dealt with.
    faults: ArenaVec<Fault>,
    /// Windows with a thread waiting for the end of a timeslice.
    parked: ArenaVec<NodeId>,
    /// Windows that are to go back, or to be finished.
    leaving: ArenaVec<NodeId>,
    watches: watch::Watches,
    notices: ArenaVec<Notice>,
    notices_seen: u64,
    /// Windows so far of which nothing is mapped any more.
    unmapped_windows: u64,
    /// Reports are kept for later.
    deferring: bool,
    deferred: ArenaVec<UffdMsg>,
    /// Copy mode: parts of windows under way that `mremap` moved.
    relocations: ArenaVec<event::Relocation>,
    staging: Option<Staging>,
    /// Copy mode: windows waiting for a copy thread, and allocations to be dropped.
    jobs: ArenaVec<NodeId>,
    releases: ArenaVec<u64>,
    /// Where pages go that nobody wants.
    scratch: Option<scratch::Scratch>,
    work: [Work; SLOTS],
    /// Slots with work.
    active: u64,
    requests: u64,
    frozen: u32,
    /// Threads inside a fork, for which windows were hidden from the child.
    hidden: ArenaVec<(u64, u64)>,
    /// A touch is being served.
    touched: bool,
    /// What was discarded lately where no window was: from, to, and when that was announced.
    loose_discard: Option<(u64, u64, u64)>,
    /// Something happened that another request may wait for.
    stirred: bool,
    /// When to look again at the latest.
    deadline: u64,
    closing: bool,
}

impl Engine {
    fn run(&mut self) {
        loop {
            self.drain();
            let mut busy = self.serve_faults();
            self.finish_leaving();
            busy |= self.wake_parked();
            let fresh = self.slots.take_submitted();
            for slot in bits(fresh) {
                self.requests += 1;
                self.work[slot] = Work::new(self.slots.request(slot), self.requests, now());
            }
            self.active |= fresh;
            self.deadline = u64::MAX;
            self.stirred = false;
            for slot in bits(self.active) {
                busy |= self.step(slot);
            }
            if self.closing && self.active == 0 {
                self.slots.close();
                return;
            }
            if !busy && !self.stirred && self.leaving.is_empty() && self.faults.is_empty() {
                self.sleep();
            }
        }
    }

    /// Until the kernel reports something, a request arrives, or a time comes.
    fn sleep(&mut self) {
        let next =
            self.parked.iter().filter_map(|&id| self.table.find(id)).map(|index| self.table[index].expires);
        let deadline = next.fold(self.deadline, u64::min);
        if !self.slots.fall_asleep() {
            return;
        }
        // A deadline that is none is centuries away.
        let timeout = Timespec::try_from(Duration::from_nanos(deadline.saturating_sub(now()))).ok();
        let bell_rang = {
            let mut fds = [
                PollFd::from_borrowed_fd(self.uffd.as_fd(), PollFlags::IN),
                PollFd::new(&self.doorbell, PollFlags::IN),
            ];
            // An interruption is as good as a wake-up.
            let _ = rustix::event::poll(&mut fds, timeout.as_ref());
            fds[1].revents().contains(PollFlags::IN)
        };
        self.slots.wake_up();
        if bell_rang {
            let mut count = [0u8; 8];
            let _ = rustix::io::read(self.doorbell.as_fd(), &mut count);
        }
    }

    /// Reads what the kernel has to report. Changed mappings are dealt with at once, touches are queued.
    fn drain(&mut self) {
        let mut messages = [UffdMsg::default(); 32];
        loop {
            let got = self.uffd.read(&mut messages).len();
            for message in &messages[..got] {
                self.note(message);
            }
            if got < messages.len() {
                return;
            }
        }
    }

    /// Reads reports and lets the threads that caused them go on, until pages can be moved again.
    fn let_mappings_settle(&mut self, round: u32) {
        self.drain();
        if round < 64 {
            rustix::thread::sched_yield();
        } else {
            sleep_for(20_000);
        }
    }

    fn end_of(&self, index: u32) -> u64 {
        self.table.end(index)
    }

    fn bytes(&self, pages: u32) -> u64 {
        u64::from(pages) << self.shift
    }

    /// Which pages of the window lie in `[start, end)`.
    fn pages_in(&self, index: u32, start: u64, end: u64) -> std::ops::Range<u32> {
        let node = &self.table[index];
        let low = start.saturating_sub(node.start) >> self.shift;
        let high = end.saturating_sub(node.start) >> self.shift;
        low.min(u64::from(node.pages)) as u32..high.min(u64::from(node.pages)) as u32
    }

    /// Whether a thread of the engine's own would have to touch the range.
    fn is_own(&self, start: u64, end: u64) -> bool {
        let pools = self.regions.iter().flatten().filter_map(|region| region.pool.as_ref());
        let scratch = self.scratch.as_ref().map(scratch::Scratch::pool).into_iter();
        let staging = self.staging.iter().flat_map(Staging::pools);
        let mut ranges = pools.chain(scratch).chain(staging).map(pool::Pool::mapped).chain([self.stack]);
        ranges.any(|(low, high)| start < high && low < end) || self.statics.overlap(start, end)
    }
}

/// The set bits of a word.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn sleep_for(ns: u64) {
    if let Ok(time) = Timespec::try_from(Duration::from_nanos(ns)) {
        let _ = rustix::thread::nanosleep(&time);
    }
}

const _: () = {
    const fn plain<T: Copy>() {}
    plain::<Request>();
    plain::<Progress>();
};
