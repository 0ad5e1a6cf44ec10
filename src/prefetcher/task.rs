//! One request, from submission to its result.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::options::{OnProgress, Progress};
use crate::budget::{Budget, Claim};
use crate::error::{Error, ErrorKind, Result};
use crate::outcome::Outcome;
use crate::range::PageRange;

pub(super) const CALL: &str = "Prefetcher";

/// What a request and its handle share.
pub(super) struct Task {
    range: PageRange,
    state: Mutex<State>,
    finished: Condvar,
    on_progress: Mutex<Option<OnProgress>>,
}

struct State {
    /// Outcomes of the chunks so far, by address.
    parts: Vec<(PageRange, Outcome)>,
    /// Chunks that a worker has in hand.
    in_hand: u32,
    /// No further chunk will be taken.
    all_taken: bool,
    /// Why the request ends before its time.
    end: Option<Error>,
    claim: Option<Arc<Claim<Arc<Budget>>>>,
    /// A thread is about to make the result.
    finishing: bool,
    phase: Phase,
    waker: Option<Waker>,
}

enum Phase {
    Open,
    Finished(Result<Outcome>),
    /// The result was handed out.
    Taken,
}

impl Task {
    pub(super) fn new(range: PageRange, on_progress: Option<OnProgress>) -> Arc<Self> {
        Arc::new(Self {
            range,
            state: Mutex::new(State {
                parts: Vec::new(),
                in_hand: 0,
                all_taken: false,
                end: None,
                claim: None,
                finishing: false,
                phase: Phase::Open,
                waker: None,
            }),
            finished: Condvar::new(),
            on_progress: Mutex::new(on_progress),
        })
    }

    pub(super) fn range(&self) -> PageRange {
        self.range
    }

    /// A worker takes a chunk.
    pub(super) fn take_in_hand(&self, last: bool) {
        let mut state = self.state();
        state.in_hand += 1;
        state.all_taken |= last;
    }

    /// The budget allows only part of the request; the chunk in hand is the last if it reaches the end of that.
    pub(super) fn admitted(
        &self,
        claim: Claim<Arc<Budget>>,
        refused: Option<(PageRange, Outcome)>,
        last: bool,
    ) {
        let mut state = self.state();
        state.claim = Some(Arc::new(claim));
        state.parts.extend(refused);
        state.all_taken |= last;
    }

    /// Whether nothing more is to be done for it.
    pub(super) fn is_stopped(&self) -> bool {
        let state = self.state();
        state.end.is_some() || !matches!(state.phase, Phase::Open)
    }

    /// A chunk is done: notes the outcome and tells of the progress.
    pub(super) fn done(&self, range: PageRange, outcome: Outcome) {
        self.state().parts.push((range, outcome));
        if let Some(error) = self.tell_progress() {
            self.stop(error);
        }
    }

    /// A chunk failed, and the driver does not tell how far it came.
    pub(super) fn failed(&self, range: PageRange, error: Error) {
        let claim = self.state().claim.clone();
        if let Some(claim) = claim {
            claim.placed(range, &Outcome::unobserved(range.len()));
        }
        self.stop(error);
    }

    /// Tells of the progress. One thread at a time, so that what is told only grows.
    fn tell_progress(&self) -> Option<Error> {
        let mut on_progress = lock(&self.on_progress);
        let tell = on_progress.as_mut()?;
        let progress = self.progress();
        // A panic of the caller's function must not end the worker, nor pass unnoticed.
        match catch_unwind(AssertUnwindSafe(|| tell(progress))) {
            Ok(ControlFlow::Continue(())) => None,
            Ok(ControlFlow::Break(())) => Some(cancelled("the progress function stopped it")),
            Err(_) => {
                *on_progress = None;
                Some(Error::new(ErrorKind::Other, CALL).because("the progress function panicked"))
            }
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let state = self.state();
        let done = state.parts.iter().map(|(range, _)| range.len()).sum();
        let moved = state.parts.iter().map(|(_, outcome)| outcome.moved()).sum();
        Progress { done, total: self.range.len(), moved }
    }

    /// What came of the chunks so far.
    pub(super) fn so_far(&self) -> Outcome {
        merged(&mut self.state().parts.clone())
    }

    /// A worker is done with a chunk, whatever came of it.
    pub(super) fn put_down(&self) {
        let mut state = self.state();
        state.in_hand -= 1;
        self.finish_if_due(state);
    }

    /// Ends the request: no further chunk is begun. The first reason counts.
    pub(super) fn stop(&self, error: Error) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Open) {
            return;
        }
        state.all_taken = true;
        state.end.get_or_insert(error);
        self.finish_if_due(state);
    }

    fn finish_if_due(&self, mut state: MutexGuard<'_, State>) {
        let due = state.all_taken && state.in_hand == 0 && !state.finishing;
        if !due || !matches!(state.phase, Phase::Open) {
            return;
        }
        state.finishing = true;
        let claim = state.claim.take();
        // The parts stay: `so_far` tells what was done before a failure.
        let mut parts = state.parts.clone();
        drop(state);
        // The budget may be busy sending older work back: nobody who polls is to wait for that.
        if let Some(claim) = claim {
            for (range, outcome) in parts.iter().filter(|(range, outcome)| outcome.not_moved() < range.len())
            {
                claim.placed(*range, outcome);
            }
        }
        // What the function captured is let go of before anybody hears of the end.
        let on_progress = lock(&self.on_progress).take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(on_progress)));
        let outcome = merged(&mut parts);
        let mut state = self.state();
        state.phase = Phase::Finished(state.end.take().map_or(Ok(outcome), Err));
        let waker = state.waker.take();
        drop(state);
        self.finished.notify_all();
        if let Some(waker) = waker {
            // An executor's panic is its own.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// Takes the result, or leaves `waker` to be woken when there is one.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Result<Outcome>> {
        // Cloned before the lock is taken and let go of after: a waker is the executor's code.
        let mut waker = Some(waker.clone());
        let mut state = self.state();
        if let Some(result) = state.take_result() {
            return Poll::Ready(result);
        }
        std::mem::swap(&mut state.waker, &mut waker);
        drop(state);
        Poll::Pending
    }

    /// Waits for the result; `None` when `patience` has run out.
    pub(super) fn wait(&self, patience: Option<Duration>) -> Option<Result<Outcome>> {
        // A patience beyond what the clock can count is as good as none.
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut state = self.state();
        loop {
            if let Some(result) = state.take_result() {
                return Some(result);
            }
            state = match until {
                None => self.finished.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
                    self.finished.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        !matches!(self.state().phase, Phase::Open)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn take_result(&mut self) -> Option<Result<Outcome>> {
        match std::mem::replace(&mut self.phase, Phase::Taken) {
            Phase::Open => {
                self.phase = Phase::Open;
                None
            }
            Phase::Finished(result) => Some(result),
            Phase::Taken => {
                Some(Err(Error::new(ErrorKind::InvalidArgument, "Pending")
                    .because("the result was handed out before")))
            }
        }
    }
}

/// The outcomes of chunks together, in ascending order of addresses.
fn merged(parts: &mut Vec<(PageRange, Outcome)>) -> Outcome {
    parts.sort_unstable_by_key(|(range, _)| *range);
    let outcomes = parts.drain(..).map(|(_, outcome)| outcome);
    outcomes.reduce(Outcome::merge).unwrap_or_else(Outcome::nothing)
}

pub(super) fn cancelled(why: &'static str) -> Error {
    Error::new(ErrorKind::Cancelled, CALL).because(why)
}

/// The same error once more: several requests can fail by one call.
pub(super) fn again(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.call()).because(error.reason().to_owned());
    if let Some(errno) = error.errno() {
        copy = copy.errno_is(errno);
    }
    if let Some(range) = error.range() {
        copy = copy.over(range);
    }
    match error.hint() {
        Some(hint) => copy.hint_is(hint.to_owned()),
        None => copy,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No invariant is broken halfway in what these locks guard.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
