//! The threads that prefetch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::options::Stats;
use super::prepare::Preparer;
use super::queue::{Batch, Part, Queue, Terms, Ticket, runs};
use super::share::share;
use super::space::Lane;
use super::task::{CALL, Task, again, cancelled, lock};
use crate::budget::{Budget, no_room};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::mirror::Mirror;
use crate::outcome::{Observe, Outcome};
use crate::range::PageRange;

/// What the threads, the prefetcher and the handles share.
pub(super) struct Shared {
    pub(super) mirror: Arc<Mirror>,
    pub(super) budget: Option<Arc<Budget>>,
    limit: usize,
    schedule: Mutex<Schedule>,
    /// There may be work, or it is time to end.
    work: Condvar,
    /// There may be room in the queue, or nothing left to do.
    room: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct Schedule {
    queue: Queue<Arc<Task>>,
    /// Targets that requests have named, numbered in [`Terms`].
    targets: Vec<Location>,
    /// Batches that workers have in hand.
    in_hand: usize,
    closing: bool,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    coalesced: AtomicU64,
    chunks: AtomicU64,
    unprepared: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Why a request was not taken on.
pub(super) enum Full {
    Closing,
    Queue,
}

impl Shared {
    pub(super) fn new(mirror: Arc<Mirror>, budget: Option<Arc<Budget>>, limit: usize) -> Self {
        Self {
            mirror,
            budget,
            limit,
            schedule: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            counts: Counts::default(),
        }
    }

    /// The number of a target in [`Terms`].
    pub(super) fn target(&self, location: &Location) -> usize {
        let mut schedule = lock(&self.schedule);
        let known = schedule.targets.iter().position(|known| known == location);
        known.unwrap_or_else(|| {
            schedule.targets.push(location.clone());
            schedule.targets.len() - 1
        })
    }

    /// Takes a request on, waiting for room in the queue until `until`.
    pub(super) fn submit(
        &self,
        task: &Arc<Task>,
        terms: Terms,
        until: Option<Instant>,
    ) -> Result<Ticket, Full> {
        let mut schedule = lock(&self.schedule);
        loop {
            if schedule.closing {
                return Err(Full::Closing);
            }
            if schedule.queue.len() < self.limit {
                break;
            }
            let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
            let Some(left) = left.filter(|left| !left.is_zero()) else { return Err(Full::Queue) };
            schedule = self.room.wait_timeout(schedule, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let ticket = schedule.queue.push(task.clone(), task.range(), terms);
        drop(schedule);
        Counts::add(&self.counts.requests, 1);
        self.work.notify_one();
        Ok(ticket)
    }

    /// Takes a request out of the queue, as far as it was not begun.
    pub(super) fn withdraw(&self, ticket: Ticket) {
        lock(&self.schedule).queue.remove(ticket);
        self.room.notify_all();
    }

    /// Waits until nothing is left to do; `false` when it is not so by `until`.
    pub(super) fn wait_idle(&self, until: Option<Instant>) -> bool {
        let mut schedule = lock(&self.schedule);
        while schedule.queue.len() > 0 || schedule.in_hand > 0 {
            schedule = match until {
                None => self.room.wait(schedule).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
                    let Some(left) = left else { return false };
                    self.room.wait_timeout(schedule, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Ends the threads after what they have in hand, and cancels everything else.
    pub(super) fn close(&self) {
        let mut schedule = lock(&self.schedule);
        schedule.closing = true;
        let left = schedule.queue.take_all();
        drop(schedule);
        self.work.notify_all();
        self.room.notify_all();
        for task in left {
            task.stop(cancelled("the prefetcher was dropped"));
        }
    }

    /// Requests that wait, or have chunks that were not begun.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.schedule).queue.len()
    }

    pub(super) fn stats(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            requests: count(&self.counts.requests),
            coalesced: count(&self.counts.coalesced),
            chunks: count(&self.counts.chunks),
            unprepared: count(&self.counts.unprepared),
        }
    }

    /// The next batch, and its target; `None` when it is time to end.
    fn next(&self) -> Option<(Batch<Arc<Task>>, Location)> {
        let mut schedule = lock(&self.schedule);
        loop {
            if schedule.closing {
                return None;
            }
            if let Some(batch) = schedule.queue.take() {
                for part in &batch.parts {
                    part.task.take_in_hand(part.last);
                }
                schedule.in_hand += 1;
                let target = schedule.targets[batch.terms.target].clone();
                let more = schedule.queue.has_work();
                drop(schedule);
                self.room.notify_all();
                if more {
                    self.work.notify_one();
                }
                return Some((batch, target));
            }
            schedule = self.work.wait(schedule).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn batch_done(&self) {
        lock(&self.schedule).in_hand -= 1;
        self.room.notify_all();
    }
}

/// One thread's means.
pub(super) struct Worker {
    shared: Arc<Shared>,
    lane: Lane,
    preparer: Preparer,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, lane: Lane) -> Result<Self> {
        Ok(Self { shared, lane, preparer: Preparer::new()? })
    }

    /// The life of the thread.
    pub(super) fn run(mut self) {
        while let Some((batch, target)) = self.shared.next() {
            let Batch { terms, parts } = batch;
            let tasks: Vec<(Ticket, Arc<Task>)> =
                parts.iter().map(|part| (part.ticket, part.task.clone())).collect();
            let ended = catch_unwind(AssertUnwindSafe(|| self.work(terms, parts, &target)));
            for (ticket, task) in &tasks {
                if ended.is_err() {
                    task.stop(Error::new(ErrorKind::Other, CALL).because("the prefetching thread panicked"));
                }
                if task.is_stopped() {
                    self.shared.withdraw(*ticket);
                }
                task.put_down();
            }
            // Captured by requests, and so perhaps the prefetcher itself: let go of before the batch counts as done.
            drop(tasks);
            self.shared.batch_done();
        }
    }

    fn work(&mut self, terms: Terms, mut parts: Vec<Part<Arc<Task>>>, target: &Location) {
        parts.retain_mut(|part| !part.task.is_stopped() && self.admit(terms, part));
        Counts::add(&self.shared.counts.coalesced, parts.len().saturating_sub(1) as u64);
        // A request that was cancelled between two others leaves a hole.
        for run in runs(parts.iter().map(|part| part.range)) {
            let members: Vec<&Part<_>> = parts.iter().filter(|part| run.contains_range(part.range)).collect();
            self.prefetch(terms, run, &members, target);
        }
    }

    /// Asks the budget before the first chunk of a request. `false`: nothing is left to do.
    fn admit(&self, terms: Terms, part: &mut Part<Arc<Task>>) -> bool {
        let Some(budget) = self.shared.budget.as_ref().filter(|_| terms.budgeted && part.first) else {
            return true;
        };
        let task = &part.task;
        let whole = task.range();
        let end = match Budget::admit(budget.clone(), &self.shared.mirror, whole) {
            Ok(admission) => {
                let end = admission.allowed.end();
                let refused = admission.refused;
                let refused = (!refused.is_empty()).then(|| (refused, no_room(refused)));
                task.admitted(admission.claim, refused, part.range.end() >= end);
                end
            }
            Err(error) => {
                task.stop(error);
                whole.start()
            }
        };
        lock(&self.shared.schedule).queue.release(part.ticket, end);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        if end <= part.range.start() {
            return false;
        }
        part.range = PageRange::from_aligned(part.range.start(), part.range.end().min(end));
        true
    }

    /// Does one run of pages for the requests that share it.
    fn prefetch(&mut self, terms: Terms, run: PageRange, members: &[&Part<Arc<Task>>], target: &Location) {
        match self.prefetch_shared(terms, run, members, target) {
            Ok(()) => {}
            // One member's memory may be at fault; the others are not to suffer for it.
            Err(error) if members.len() > 1 && error.kind() != ErrorKind::DeviceLost => {
                for member in members {
                    self.prefetch(terms, member.range, &[member], target);
                }
            }
            Err(error) => members.iter().for_each(|member| member.task.failed(member.range, again(&error))),
        }
    }

    fn prefetch_shared(
        &mut self,
        terms: Terms,
        run: PageRange,
        members: &[&Part<Arc<Task>>],
        target: &Location,
    ) -> Result<()> {
        let unprepared = self.preparer.prepare(run, terms.prepare);
        Counts::add(&self.shared.counts.unprepared, unprepared);
        Counts::add(&self.shared.counts.chunks, 1);
        if let &[member] = members {
            let outcome = self.lane.prefetch(&self.shared.mirror, run, target, terms.observe)?;
            member.task.done(member.range, outcome);
            return Ok(());
        }
        let to_vram = !matches!(target, Location::System);
        let observed = terms.observe != Observe::Nothing;
        let before = if observed { self.preparer.look(run)?.clone() } else { Default::default() };
        let outcome = self.lane.prefetch(&self.shared.mirror, run, target, terms.observe)?;
        for member in members {
            let own: Outcome = share(&outcome, &before, member.range, to_vram);
            member.task.done(member.range, own);
        }
        Ok(())
    }
}
