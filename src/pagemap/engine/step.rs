//! What each request does next.

use super::Engine;
use super::node::State;
use super::request::{Failure, NodeId, Progress, RegionId, Reply, Request};

/// What became of one step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// More to do, at once.
    Again,
    /// More to do when something else has happened.
    Wait,
    Done(Reply),
}

/// Bytes to be counted when a window is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) node: NodeId,
    pub(super) bytes: u64,
    /// The region it makes room in.
    pub(super) evicts: Option<RegionId>,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) request: Request,
    /// Unique, never zero.
    pub(super) serial: u64,
    /// Monotonic nanoseconds.
    pub(super) since: u64,
    pub(super) begun: bool,
    pub(super) progress: Progress,
    pub(super) pending: Option<Pending>,
    /// Copy mode: the window this request waits for, and how often it had failed before.
    pub(super) awaited: Option<NodeId>,
    pub(super) baseline: u32,
    /// The window being evicted, and how often that was tried.
    pub(super) victim: Option<NodeId>,
    pub(super) tries: u32,
    /// Windows that could not be evicted.
    pub(super) stubborn: u64,
}

impl Work {
    pub(super) const fn new(request: Request, serial: u64, since: u64) -> Self {
        Self {
            request,
            serial,
            since,
            begun: false,
            progress: Progress { cursor: 0, moved: 0, already: 0, holes: 0, refused: 0 },
            pending: None,
            awaited: None,
            baseline: 0,
            victim: None,
            tries: 0,
            stubborn: 0,
        }
    }
}

impl Engine {
    /// Takes a request one step further. `true` if there is more to do at once.
    pub(super) fn step(&mut self, slot: usize) -> bool {
        let mut work = self.work[slot];
        let step = self.advance(slot, &mut work);
        self.work[slot] = work;
        match step {
            Step::Again => true,
            Step::Wait => false,
            Step::Done(reply) => {
                self.active &= !(1 << slot);
                self.slots.reply(slot, reply);
                true
            }
        }
    }

    fn advance(&mut self, slot: usize, work: &mut Work) -> Step {
        let done = |result: Result<Reply, Failure>| Step::Done(result.unwrap_or_else(Reply::Failed));
        match work.request {
            Request::Populate(p) => self.populate(work, &p),
            Request::ToRam { start, end, region } => self.bring_back(work, start, end, region),
            Request::Read { at, len } => self.access(slot, work, at, len, false),
            Request::Write { at, len } => self.access(slot, work, at, len, true),
            Request::Atomic { at, bytes, op, operand, expected } => {
                self.atomic(work, at, bytes, op, operand, expected)
            }
            Request::Evict { region, bytes } => self.evict(work, region, bytes),
            Request::Placement { start, end } => Step::Done(self.placement(slot, start, end)),
            Request::BeginCopy { populate, token } => self.begin_copy(work, slot, &populate, token),
            Request::EndCopy { node, result } => Step::Done(self.end_copy(node, result)),
            Request::TakeJob { thread } => self.take_job(slot, thread),
            Request::EndJob { node, result } => Step::Done(self.end_job(node, result)),
            Request::WindowAt { at } => {
                Step::Done(Reply::Window(self.table.at(at).map(|i| self.window_state(i))))
            }
            Request::WindowState { node } => {
                Step::Done(Reply::Window(self.table.find(node).map(|i| self.window_state(i))))
            }
            Request::WaitDetached { node, token } => {
                let used = self.table.find(node).is_some() || (token != 0 && self.holds(token));
                if used { Step::Wait } else { Step::Done(Reply::Unit) }
            }
            Request::EvictWindow { node } => match self.table.find(node) {
                None => Step::Done(Reply::Progress(work.progress)),
                Some(index) => match self.evict_window(work, index) {
                    Step::Done(Reply::Stopped(_, failure)) => Step::Done(Reply::Failed(failure)),
                    step => step,
                },
            },
            Request::AddRegion { bytes, reserved } => done(self.add_region(bytes, reserved)),
            Request::RegionInfo { region } => done(self.region_state(region)),
            Request::RemoveRegion { region } => self.remove_region(work, region),
            Request::DropRegion { region } => self.drop_region(work, region),
            Request::Inject { region, injection } => done(self.inject(region, injection)),
            Request::Watch { start, end } => done(self.watch(start, end)),
            Request::Unwatch { start, end } => Step::Done(self.unwatch(start, end)),
            Request::Notices { after } => Step::Done(self.notices_after(slot, after)),
            Request::Freeze => self.freeze(work),
            Request::Thaw => Step::Done(self.thaw()),
            Request::Shutdown => self.shut_down(work),
        }
    }

    fn window_state(&self, index: u32) -> super::request::WindowState {
        let node = &self.table[index];
        super::request::WindowState {
            node: node.id(index),
            region: node.region,
            start: node.start,
            bytes: self.bytes(node.pages),
            live_pages: node.device.count(),
            expires_ns: if node.state == State::CopyIn { 0 } else { node.expires },
        }
    }

    /// Everything goes back, the copy threads are sent home, and the thread ends.
    fn shut_down(&mut self, work: &mut Work) -> Step {
        let live = self.regions.iter().flatten().map(|region| region.id).next();
        if let Some(region) = live {
            return match self.drop_region(work, region) {
                Step::Done(_) => Step::Again,
                other => other,
            };
        }
        self.unwatch_all();
        if let Some(staging) = &mut self.staging {
            staging.unregister(&self.uffd);
        }
        if let Some(scratch) = &mut self.scratch {
            scratch.unregister(&self.uffd);
        }
        self.closing = true;
        if self.releases.is_empty() {
            return Step::Done(Reply::Unit);
        }
        Step::Wait
    }
}
