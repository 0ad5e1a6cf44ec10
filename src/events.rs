//! What happens to the memory of a mirror, as it happens: one stream for both drivers.
//!
//! An [`Events`] reads every source that the driver and this process's rights offer, and gives one type, [`Event`]. A migration
//! that was set off by a request made through the mirror carries that request ([`Migration::request`]); one without was the GPU's,
//! the CPU's, an eviction, or another part of the process.
//!
//! ```
//! use std::sync::Arc;
//! use drm_pagemap::events::{Events, What};
//! use drm_pagemap::{Buffer, Gpu};
//!
//! let gpu = Gpu::simulated();
//! let mirror = Arc::new(gpu.mirror()?);
//! let mut events = Events::of(mirror.clone())?;
//! let data = Buffer::<u64>::zeroed(1 << 18)?;
//! let outcome = mirror.prefetch(&data).to(gpu.vram()).run()?;
//! # let _ = outcome;
//! while let Some(event) = events.next_event()? {
//!     println!("{event}");
//!     if let What::MigrationEnded { migration, .. } = &event.what {
//!         println!("  ours: {}", migration.request.is_some());
//!     }
//! }
//! # Ok::<(), drm_pagemap::Error>(())
//! ```
//!
//! # What each driver tells, and what it cannot
//!
//! | | KFD | xe |
//! |---|---|---|
//! | own requests and their results ([`What::Request`]) | yes | yes |
//! | migrations, with what set them off | yes, since KFD 1.10 (kernel 6.1) | no: only totals |
//! | which pages of a migration moved | no: the range that was to move | no |
//! | GPU faults that were served | with XNACK, since KFD 1.10 | no: only totals |
//! | GPU faults that failed | the last one since it was asked for | the first 50 of the VM, since kernel 7.1 |
//! | evictions, CPU touches | as migrations | no: only in the totals, and by looking ([`residency`](crate::residency)) |
//! | queues stopped and resumed, unmappings | yes, since KFD 1.10 | no |
//! | resets | yes | no: calls answer [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) |
//! | totals ([`What::Counted`]) | of this process, in `/sys/class/kfd` | of the whole device, in debugfs: root only |
//! | a descriptor that is readable when there is something ([`Events::descriptor`]) | for all but requests, failed faults and totals | none |
//! | events dropped | when more than 8 KiB (1 KiB in 6.12) wait to be read: [`What::Lost`] | – |
//!
//! [`Events::sources`] says which of these there are here.
//!
//! # Serialized form
//!
//! With the feature `serde`, an [`Event`] is `{"at": {"secs", "nanos"}, "timed_by_driver", "what": {"<kind>": {…}}}`. Variants are in
//! snake case, a range is `{"start", "end"}` in bytes, an errno its number.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::mirror::{JournalReader, Mirror};

mod counters;
mod display;
mod event;
mod kfd;
mod matching;
mod xe;

pub use crate::mirror::{Memory, Request, RequestKind, RequestResult};
pub use event::{
    Access, Counters, Event, FailedFault, FaultReason, Migration, Source, StopReason, Trigger, UnmapReason,
    What,
};

use counters::CounterFiles;
use kfd::{KfdSource, read_now};
use xe::XeSource;

/// How often sources without a descriptor are looked at by [`Events::wait`].
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Reads what happens to the memory of a mirror. See the [module](self).
///
/// Each reader sees every event from its making on. While there is a reader, requests through the mirror are remembered, which costs
/// each of them two readings of a clock and a lock, and no system call.
#[derive(Debug)]
pub struct Events {
    mirror: Arc<Mirror>,
    journal: JournalReader,
    driver: Driver,
    counters: Option<(CounterFiles, Counters)>,
    requests: Vec<Request>,
    gathered: Vec<Event>,
    ready: VecDeque<Event>,
}

#[derive(Debug)]
enum Driver {
    Xe(Option<XeSource>),
    Kfd(KfdSource),
}

impl Events {
    /// A reader of events from now on.
    ///
    /// On KFD it opens the event log of the mirror's GPU (`AMDKFD_IOC_SMI_EVENTS`) and makes an event for memory exceptions
    /// (`AMDKFD_IOC_CREATE_EVENT`); on xe it reads the VM's list of failed faults (`DRM_IOCTL_XE_VM_GET_PROPERTY`). Sources that this
    /// kernel does not have, or this process may not read, are left out: see [`sources`](Self::sources).
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory): memory, or too many open files.
    /// * [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess): the mirror was inherited over `fork`.
    /// * [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost).
    pub fn of(mirror: Arc<Mirror>) -> Result<Self> {
        let journal = mirror.journal()?;
        let driver = match mirror.device() {
            Device::Xe(_) => Driver::Xe(mirror.vm().map(XeSource::new).transpose()?.flatten()),
            Device::Kfd(gpu) => Driver::Kfd(KfdSource::new(gpu)?),
        };
        let counters = CounterFiles::of(mirror.device());
        let counters = counters.and_then(|files| files.read().map(|counters| (files, counters)));
        let (requests, gathered, ready) = Default::default();
        Ok(Self { mirror, journal, driver, counters, requests, gathered, ready })
    }

    /// The mirror.
    #[must_use]
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Where events come from here.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let mut sources = vec![Source::Requests];
        match &self.driver {
            Driver::Xe(faults) => sources.extend(faults.as_ref().map(|_| Source::FailedFaults)),
            Driver::Kfd(_) => sources.extend([Source::Log, Source::MemoryExceptions]),
        }
        sources.extend(self.counters.as_ref().map(|_| Source::Counters));
        sources
    }

    /// The driver's log, for an event loop: readable when it holds something, until that was read with
    /// [`next_event`](Self::next_event). `None` on xe, which has none. Requests, failed faults and counters do not make it readable.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.driver {
            Driver::Xe(_) => None,
            Driver::Kfd(log) => Some(log.descriptor()),
        }
    }

    /// The next event that has happened, or `None` when there is none at the moment. Never waits.
    ///
    /// Events that are read together are in the order of their time. A request comes after the migrations it set off.
    ///
    /// # Errors
    ///
    /// Those of the driver's calls; [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess) in a forked child.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        self.journal.check("Events::next_event")?;
        if self.ready.is_empty() {
            self.gather()?;
        }
        Ok(self.ready.pop_front())
    }

    /// The next event; waits for one, for at most `timeout` where there is one. `None` when the time is over.
    ///
    /// Sleeps until the driver's log has something; what has no descriptor is looked at every 20 milliseconds.
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event), and the errno of `poll`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.next_event()? {
                return Ok(Some(event));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let pause = left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            match self.descriptor() {
                None => std::thread::sleep(pause),
                Some(log) => {
                    let pause = Timespec::try_from(pause).ok();
                    match poll(&mut [PollFd::from_borrowed_fd(log, PollFlags::IN)], pause.as_ref()) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(errno) => return Err(Error::from_errno("poll of events", errno.into())),
                    }
                }
            }
        }
    }

    /// The events that have happened so far. Ends when there is none at the moment, or at the first error, and can be asked again
    /// later.
    pub fn drain(&mut self) -> impl Iterator<Item = Result<Event>> {
        std::iter::from_fn(|| self.next_event().transpose())
    }

    /// What the driver has counted so far, where its counters can be read ([`Source::Counters`]).
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        self.counters.as_ref().and_then(|(files, _)| files.read())
    }

    fn gather(&mut self) -> Result<()> {
        // First, so that what a request that has ended set off is in the driver's log by the time that is read.
        let lost = self.journal.take_ended(&mut self.requests);
        let read = self.gather_from_driver();
        // Requests taken are told even if the driver fails.
        self.gathered.extend(self.requests.drain(..).map(|request| Event {
            at: request.ended.unwrap_or(request.began),
            timed_by_driver: false,
            what: What::Request(request),
        }));
        if lost {
            self.gathered.push(read_now(What::Lost { from: Source::Requests }));
        }
        self.gathered.sort_by_key(|event| event.at);
        self.ready.extend(self.gathered.drain(..));
        if self.ready.is_empty() { read } else { Ok(()) }
    }

    fn gather_from_driver(&mut self) -> Result<()> {
        if let Some((files, before)) = &mut self.counters {
            if let Some(now) = files.read() {
                let grown = now.since(before);
                *before = now;
                if !grown.is_zero() {
                    self.gathered.push(read_now(What::Counted(grown)));
                }
            }
        }
        match &mut self.driver {
            Driver::Kfd(log) => log.gather(&self.journal, &mut self.gathered),
            Driver::Xe(Some(faults)) => {
                let vm = self.mirror.vm().expect("a mirror on xe has a VM");
                faults.gather(vm, &mut self.gathered)
            }
            Driver::Xe(None) => Ok(()),
        }
    }
}
