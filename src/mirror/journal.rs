//! What was asked through a mirror and when, for those who read its events.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::channel::ProcessGuard;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::outcome::{Bytes, Outcome};
use crate::range::PageRange;

/// Requests that are remembered.
const CAPACITY: usize = 1024;

/// Whose memory pages are in, as seen from one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Memory {
    /// The machine's ordinary memory.
    System,
    /// The GPU's own.
    Vram,
    /// Another GPU's, by the driver's number for that GPU.
    OtherVram(u32),
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system memory"),
            Self::Vram => f.write_str("VRAM"),
            Self::OtherVram(gpu) => write!(f, "VRAM of GPU {gpu:#06x}"),
        }
    }
}

/// What was asked of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RequestKind {
    /// To move pages: [`Mirror::prefetch`](super::Mirror::prefetch), a [`Prefetcher`](crate::Prefetcher), or a
    /// [`Budget`](crate::Budget) making room.
    Prefetch,
    /// To take advice, or to take it back. KFD repeats a range's last prefetch whenever one of its attributes changes.
    Advice,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RequestResult {
    /// The driver raised no error, and nobody looked where the pages are.
    Unobserved,
    /// As [`Outcome`] has it, in bytes.
    #[non_exhaustive]
    Observed {
        /// See [`Outcome::moved`].
        moved: u64,
        /// See [`Outcome::already_there`].
        already_there: u64,
        /// See [`Outcome::not_moved`].
        not_moved: u64,
    },
    /// With an error.
    #[non_exhaustive]
    Failed {
        /// Its kind.
        kind: ErrorKind,
        /// What the system call answered, if it was one.
        errno: Option<Errno>,
    },
}

impl RequestResult {
    pub(super) fn of_outcome(result: &Result<Outcome>) -> Self {
        match result {
            Ok(outcome) if outcome.is_observed() => Self::Observed {
                moved: outcome.moved(),
                already_there: outcome.already_there(),
                not_moved: outcome.not_moved(),
            },
            Ok(_) => Self::Unobserved,
            Err(error) => Self::of_error(error),
        }
    }

    pub(super) fn of_call<T>(result: &Result<T>) -> Self {
        result.as_ref().map_or_else(Self::of_error, |_| Self::Unobserved)
    }

    fn of_error(error: &Error) -> Self {
        Self::Failed { kind: error.kind(), errno: error.errno() }
    }
}

/// Something that was asked of the driver through a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Request {
    /// Counts the requests of the mirror from 1, in the order they began, while anybody reads events.
    pub number: u64,
    /// What was asked.
    pub kind: RequestKind,
    /// For which pages.
    pub range: PageRange,
    /// Where to; `None` for advice.
    pub to: Option<Memory>,
    /// When it began, as `CLOCK_BOOTTIME`.
    pub began: Duration,
    /// When it ended; `None` while the call is under way.
    pub ended: Option<Duration>,
    /// How it ended; `None` while the call is under way.
    pub result: Option<RequestResult>,
}

impl Request {
    /// Whether it was under way at that time.
    #[must_use]
    pub fn is_under_way_at(&self, at: Duration) -> bool {
        self.began <= at && self.ended.is_none_or(|ended| at <= ended)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.to) {
            (RequestKind::Prefetch, Some(to)) => write!(f, "request {}: prefetch to {to}", self.number)?,
            (RequestKind::Prefetch, None) => write!(f, "request {}: prefetch", self.number)?,
            (RequestKind::Advice, _) => write!(f, "request {}: advice", self.number)?,
        }
        write!(f, " of {} at {}", Bytes(self.range.len()), self.range)?;
        match self.result {
            None => f.write_str(", under way"),
            Some(RequestResult::Unobserved) => f.write_str(", done"),
            Some(RequestResult::Observed { moved, already_there, not_moved }) => {
                let (moved, there, left) = (Bytes(moved), Bytes(already_there), Bytes(not_moved));
                write!(f, ": {moved} moved, {there} already there, {left} not moved")
            }
            Some(RequestResult::Failed { kind, errno: None }) => write!(f, ": failed, {kind:?}"),
            Some(RequestResult::Failed { errno: Some(errno), .. }) => write!(f, ": failed, {errno}"),
        }
    }
}

/// The time as drivers stamp events with it; no system call on the architectures that GPUs of this kind are used with.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// The requests of a mirror. Empty, and free of cost, while nobody reads.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    readers: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    entries: VecDeque<Entry>,
    /// Number of the request that began last.
    began: u64,
    /// Requests that have ended.
    ended: u64,
    /// The highest [`Entry::ended_as`] that was given up for lack of room.
    given_up: u64,
}

#[derive(Debug)]
struct Entry {
    request: Request,
    /// Which of the ended ones it is; 0 while it is under way.
    ended_as: u64,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody reads.
    #[inline]
    pub(super) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Acquire) != 0
    }

    /// Makes a request, remembered if anybody reads.
    #[inline(always)]
    pub(super) fn note<T>(
        &self,
        kind: RequestKind,
        range: PageRange,
        to: Option<Memory>,
        request: impl FnOnce() -> Result<T>,
        result_of: impl FnOnce(&Result<T>) -> RequestResult,
    ) -> Result<T> {
        let number = if self.is_read() { Some(self.begin(kind, range, to)) } else { None };
        let result = request();
        if let Some(number) = number {
            self.end(number, result_of(&result));
        }
        result
    }

    #[cold]
    fn begin(&self, kind: RequestKind, range: PageRange, to: Option<Memory>) -> u64 {
        let mut book = self.lock();
        if book.entries.len() == CAPACITY {
            let oldest = book.entries.pop_front();
            book.given_up = book.given_up.max(oldest.map_or(0, |entry| entry.ended_as));
        }
        book.began += 1;
        let number = book.began;
        let request = Request { number, kind, range, to, began: now(), ended: None, result: None };
        book.entries.push_back(Entry { request, ended_as: 0 });
        number
    }

    #[cold]
    fn end(&self, number: u64, result: RequestResult) {
        let mut book = self.lock();
        book.ended += 1;
        let ended_as = book.ended;
        match book.entries.iter_mut().rev().find(|entry| entry.request.number == number) {
            Some(entry) => {
                entry.request.ended = Some(now());
                entry.request.result = Some(result);
                entry.ended_as = ended_as;
            }
            None => book.given_up = book.given_up.max(ended_as),
        }
    }
}

/// Reads a journal, which remembers requests for as long as there is a reader.
#[derive(Debug)]
pub(crate) struct JournalReader {
    journal: Arc<Journal>,
    owner: ProcessGuard,
    seen: u64,
}

impl JournalReader {
    pub(super) fn new(journal: Arc<Journal>, owner: ProcessGuard) -> Self {
        let seen = {
            let mut book = journal.lock();
            // Here and not when the first request comes: a prefetch allocates nothing.
            book.entries.reserve_exact(CAPACITY);
            book.ended
        };
        journal.readers.fetch_add(1, Ordering::Release);
        Self { journal, owner, seen }
    }

    /// Refuses a call made in a forked child.
    pub(crate) fn check(&self, call: &'static str) -> Result<()> {
        self.owner.check(call)
    }

    /// Adds the requests that have ended since the last call, in the order they ended, and says whether some were forgotten before
    /// they were read.
    pub(crate) fn take_ended(&mut self, into: &mut Vec<Request>) -> bool {
        let book = self.journal.lock();
        let first = into.len();
        let new = book.entries.iter().filter(|entry| entry.ended_as > self.seen);
        into.extend(new.map(|entry| entry.request));
        into[first..].sort_by_key(|request| request.ended);
        let lost = book.given_up > self.seen;
        self.seen = book.ended;
        lost
    }

    /// The request, of those that are remembered, for which `rank` is highest; the youngest of equals.
    pub(crate) fn best(&self, rank: impl Fn(&Request) -> Option<u32>) -> Option<Request> {
        let book = self.journal.lock();
        let ranked = book.entries.iter().filter_map(|entry| Some((rank(&entry.request)?, entry.request)));
        ranked.max_by_key(|&(rank, request)| (rank, request.number)).map(|(_, request)| request)
    }
}

impl Drop for JournalReader {
    fn drop(&mut self) {
        // In a forked child the lock may be held by a thread that does not exist there.
        if self.owner.is_owner() && self.journal.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.journal.lock().entries.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;

    fn pages(first: u64, count: u64) -> PageRange {
        PageRange::new(first * page_size(), count * page_size()).unwrap()
    }

    fn prefetch(journal: &Journal, range: PageRange) {
        let moved = || Ok(Outcome::observed(range.len(), 0, Vec::new()));
        let to = Some(Memory::Vram);
        let _ = journal.note(RequestKind::Prefetch, range, to, moved, RequestResult::of_outcome).unwrap();
    }

    #[test]
    fn a_request_says_what_was_asked_and_how_it_ended() {
        let mut request = Request {
            number: 3,
            kind: RequestKind::Prefetch,
            range: pages(1, 2),
            to: Some(Memory::Vram),
            began: Duration::from_secs(5),
            ended: None,
            result: None,
        };
        let (size, at) = (Bytes(2 * page_size()), pages(1, 2));
        assert_eq!(
            request.to_string(),
            format!("request 3: prefetch to {} of {size} at {at}, under way", Memory::Vram)
        );
        request.to = None;
        request.result = Some(RequestResult::Observed { moved: 1 << 20, already_there: 0, not_moved: 4096 });
        let expected = format!(
            "request 3: prefetch of {size} at {at}: {} moved, {} already there, {} not moved",
            Bytes(1 << 20),
            Bytes(0),
            Bytes(4096)
        );
        assert_eq!(request.to_string(), expected);
        request.kind = RequestKind::Advice;
        let mut ends = |result, expected: &str| {
            request.result = Some(result);
            assert_eq!(request.to_string(), format!("request 3: advice of {size} at {at}{expected}"));
        };
        ends(RequestResult::Unobserved, ", done");
        ends(RequestResult::Failed { kind: ErrorKind::Busy, errno: None }, ": failed, Busy");
        ends(
            RequestResult::Failed { kind: ErrorKind::Busy, errno: Some(Errno::EBUSY) },
            ": failed, EBUSY (16)",
        );
        // Both ends are part of the time.
        for (at, open, closed) in [(4, false, false), (5, true, true), (7, true, true), (8, true, false)] {
            request.ended = None;
            assert_eq!(request.is_under_way_at(Duration::from_secs(at)), open, "{at}");
            request.ended = Some(Duration::from_secs(7));
            assert_eq!(request.is_under_way_at(Duration::from_secs(at)), closed, "{at}");
        }
    }

    #[test]
    fn requests_are_remembered_only_while_somebody_reads() {
        let journal = Arc::new(Journal::default());
        prefetch(&journal, pages(0, 1));
        assert!(journal.lock().entries.is_empty());
        let owner = ProcessGuard::current().unwrap();
        let mut reader = JournalReader::new(journal.clone(), owner);
        prefetch(&journal, pages(1, 1));
        prefetch(&journal, pages(2, 2));
        let mut ended = Vec::new();
        assert!(!reader.take_ended(&mut ended));
        assert_eq!(ended.iter().map(|request| request.range).collect::<Vec<_>>(), [pages(1, 1), pages(2, 2)]);
        let moved = 2 * page_size();
        let result = RequestResult::Observed { moved, already_there: 0, not_moved: 0 };
        assert_eq!(ended[1].result, Some(result));
        assert!(ended[0].ended.unwrap() >= ended[0].began && ended[1].began >= ended[0].ended.unwrap());
        ended.clear();
        assert!(!reader.take_ended(&mut ended) && ended.is_empty(), "each is told once");
        drop(reader);
        assert!(journal.lock().entries.is_empty());
    }

    #[test]
    fn what_is_under_way_can_be_found_and_is_told_when_it_ends() {
        let journal = Arc::new(Journal::default());
        let mut reader = JournalReader::new(journal.clone(), ProcessGuard::current().unwrap());
        let mut ended = Vec::new();
        let inside = || {
            let found = reader.best(|request| request.is_under_way_at(now()).then_some(0)).unwrap();
            assert_eq!((found.range, found.result), (pages(7, 1), None));
            Err::<(), _>(Error::from_errno("call", Errno::ENOSPC))
        };
        let failed = journal.note(RequestKind::Advice, pages(7, 1), None, inside, RequestResult::of_call);
        assert!(failed.is_err());
        assert!(!reader.take_ended(&mut ended));
        assert!(matches!(ended[0].result, Some(RequestResult::Failed { errno: Some(Errno::ENOSPC), .. })));
        assert!(reader.best(|request| request.is_under_way_at(now()).then_some(0)).is_none());
    }

    #[test]
    fn a_full_journal_says_that_it_forgot() {
        let journal = Arc::new(Journal::default());
        let mut reader = JournalReader::new(journal.clone(), ProcessGuard::current().unwrap());
        let mut ended = Vec::new();
        for page in 0..CAPACITY as u64 {
            prefetch(&journal, pages(page, 1));
        }
        assert!(!reader.take_ended(&mut ended));
        assert_eq!(ended.len(), CAPACITY);
        for page in 0..CAPACITY as u64 + 3 {
            prefetch(&journal, pages(page, 1));
        }
        ended.clear();
        assert!(reader.take_ended(&mut ended));
        assert_eq!((ended.len(), ended[0].range), (CAPACITY, pages(3, 1)));
        ended.clear();
        prefetch(&journal, pages(0, 1));
        assert!(!reader.take_ended(&mut ended), "told once");
    }
}
