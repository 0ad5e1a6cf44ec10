//! Events of KFD: the event log of one GPU, and memory exceptions.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::event::*;
use super::matching;
use crate::device::KfdGpu;
use crate::error::{Errno, Result};
use crate::kfd::{
    EvictionTrigger, GpuId, Location, MemoryException, MemoryExceptions, MigrateTrigger, SmiEvent, SmiEvents,
    SmiMask, UnmapTrigger, Version,
};
use crate::mirror::{JournalReader, Memory, now};

/// Beginnings whose end has not been seen; older kernels (6.12) leave some without.
const OPEN: usize = 256;

/// Reads one GPU's log.
#[derive(Debug)]
pub(super) struct KfdSource {
    gpu: GpuId,
    log: SmiEvents,
    exceptions: MemoryExceptions,
    interpreter: Interpreter,
}

impl KfdSource {
    pub(super) fn new(gpu: &KfdGpu) -> Result<Self> {
        // Memory exceptions tell the address, which the log's line of the same event does not.
        let mut mask = SmiMask::GPU_PRE_RESET | SmiMask::GPU_POST_RESET;
        if gpu.process().version() >= Version::SVM_EVENTS {
            mask |= SmiMask::SVM - SmiMask::VM_FAULT;
        }
        Ok(Self {
            gpu: gpu.id(),
            exceptions: gpu.process().memory_exceptions()?,
            log: gpu.process().smi_events(gpu.id(), mask)?,
            interpreter: Interpreter::new(gpu.id()),
        })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.log.as_fd()
    }

    pub(super) fn gather(&mut self, journal: &JournalReader, into: &mut Vec<Event>) -> Result<()> {
        while let Some(event) = self.log.next_event()? {
            into.extend(self.interpreter.event(event, journal));
        }
        if self.log.may_have_lost_events() {
            into.push(read_now(What::Lost { from: Source::Log }));
        }
        if let Some(exception) = self.exceptions.wait(Some(Duration::ZERO))? {
            if exception.gpu.is_none_or(|gpu| gpu == self.gpu) {
                into.push(read_now(What::FaultFailed(failed(&exception))));
            }
        }
        Ok(())
    }
}

pub(super) fn read_now(what: What) -> Event {
    Event { at: now(), timed_by_driver: false, what }
}

fn failed(exception: &MemoryException) -> FailedFault {
    let reason = if exception.read_only {
        Some(FaultReason::NotWritable)
    } else if exception.no_execute {
        Some(FaultReason::NotExecutable)
    } else if exception.not_present {
        Some(FaultReason::NotMapped)
    } else {
        None
    };
    let access = match reason {
        Some(FaultReason::NotWritable) => Some(Access::Write),
        Some(FaultReason::NotExecutable) => Some(Access::Execute),
        _ => None,
    };
    let precision =
        (!exception.imprecise).then(|| u32::try_from(crate::range::page_size()).unwrap_or(u32::MAX));
    FailedFault { address: Some(exception.address), precision, access, reason }
}

/// Gives lines of the log their meaning.
#[derive(Debug)]
struct Interpreter {
    gpu: GpuId,
    /// By which number the kernel knows this process; `None` where only its own events are told. In a container the kernel's number
    /// is not the one that the process has of itself.
    own: Option<i32>,
    migrations: VecDeque<(Duration, Migration)>,
    faults: VecDeque<(Duration, u64)>,
}

impl Interpreter {
    fn new(gpu: GpuId) -> Self {
        let sees_others = rustix::thread::capabilities(None)
            .map_or(true, |sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
        let own = sees_others.then(|| i32::try_from(std::process::id()).unwrap_or(-1));
        Self { gpu, own, migrations: VecDeque::new(), faults: VecDeque::new() }
    }

    fn event(&mut self, event: SmiEvent, journal: &JournalReader) -> Option<Event> {
        let (at, what) = match event {
            SmiEvent::MigrateStart(start) => {
                let (from, to) = (self.memory(start.from), self.memory(start.to));
                let trigger = trigger(start.trigger);
                let request = matching::request(journal, start.at, start.range, to, trigger);
                self.accept(start.pid, request.is_some_and(|_| trigger == Trigger::Prefetch))?;
                let migration = Migration { range: start.range, from, to, trigger, request };
                remember(&mut self.migrations, (start.at, migration));
                (start.at, What::MigrationBegan(migration))
            }
            SmiEvent::MigrateEnd(end) => {
                let (from, to) = (self.memory(end.from), self.memory(end.to));
                let trigger = trigger(end.trigger);
                let same = |(_, began): &(Duration, Migration)| {
                    (began.range, began.from, began.to, began.trigger) == (end.range, from, to, trigger)
                };
                let began = self.migrations.iter().rposition(same).and_then(|at| self.migrations.remove(at));
                let request = match began {
                    Some((_, migration)) => migration.request,
                    None => matching::request(journal, end.at, end.range, to, trigger),
                };
                self.accept(end.pid, request.is_some_and(|_| trigger == Trigger::Prefetch))?;
                let migration = Migration { range: end.range, from, to, trigger, request };
                let took = began.map(|(at, _)| end.at.saturating_sub(at));
                let error = end.error.filter(|&error| error != 0).map(|error| Errno::from_raw(error.abs()));
                (end.at, What::MigrationEnded { migration, took, error })
            }
            SmiEvent::PageFaultStart(start) => {
                self.accept(start.pid, false)?;
                remember(&mut self.faults, (start.at, start.page));
                (start.at, What::FaultBegan { page: start.page, write: start.write })
            }
            SmiEvent::PageFaultEnd(end) => {
                self.accept(end.pid, false)?;
                let began = self.faults.iter().rposition(|&(_, page)| page == end.page);
                let began = began.and_then(|at| self.faults.remove(at));
                let took = began.map(|(at, _)| end.at.saturating_sub(at));
                (end.at, What::FaultEnded { page: end.page, migrated: end.migrated, took })
            }
            SmiEvent::QueueEviction(stopped) => {
                self.accept(stopped.pid, false)?;
                (stopped.at, What::QueuesStopped { reason: stop_reason(stopped.trigger) })
            }
            SmiEvent::QueueRestore(resumed) => {
                self.accept(resumed.pid, false)?;
                (resumed.at, What::QueuesResumed { postponed: resumed.rescheduled })
            }
            SmiEvent::UnmapFromGpu(unmapped) => {
                self.accept(unmapped.pid, false)?;
                (
                    unmapped.at,
                    What::Unmapped { range: unmapped.range, reason: unmap_reason(unmapped.trigger) },
                )
            }
            SmiEvent::GpuPostReset { cause, .. } => return Some(read_now(What::Reset { cause })),
            SmiEvent::GpuPreReset { .. } | SmiEvent::VmFault { .. } => return None,
            other => return Some(read_now(What::Other(format!("{other:?}")))),
        };
        Some(Event { at, timed_by_driver: true, what })
    }

    /// `None` for an event of another process. One that matches a request of ours is ours, and tells by which number the kernel knows
    /// this process.
    fn accept(&mut self, pid: i32, matches_request: bool) -> Option<()> {
        match &mut self.own {
            None => Some(()),
            Some(own) if *own == pid => Some(()),
            Some(own) if matches_request => {
                *own = pid;
                Some(())
            }
            Some(_) => None,
        }
    }

    fn memory(&self, location: Location) -> Memory {
        match location {
            Location::System => Memory::System,
            Location::Gpu(gpu) if gpu == self.gpu => Memory::Vram,
            Location::Gpu(other) => Memory::OtherVram(other.raw()),
        }
    }
}

fn remember<T>(open: &mut VecDeque<T>, began: T) {
    if open.len() == OPEN {
        open.pop_front();
    }
    open.push_back(began);
}

fn trigger(trigger: MigrateTrigger) -> Trigger {
    match trigger {
        MigrateTrigger::Prefetch => Trigger::Prefetch,
        MigrateTrigger::PageFaultGpu => Trigger::GpuFault,
        MigrateTrigger::PageFaultCpu => Trigger::CpuTouch,
        MigrateTrigger::TtmEviction => Trigger::Eviction,
        MigrateTrigger::Other(raw) => Trigger::Other(raw),
    }
}

fn stop_reason(trigger: EvictionTrigger) -> StopReason {
    match trigger {
        EvictionTrigger::Svm => StopReason::Svm,
        EvictionTrigger::Userptr => StopReason::UserMemory,
        EvictionTrigger::Ttm => StopReason::Eviction,
        EvictionTrigger::Suspend => StopReason::Suspend,
        EvictionTrigger::CriuCheckpoint | EvictionTrigger::CriuRestore => StopReason::Checkpoint,
        EvictionTrigger::Other(raw) => StopReason::Other(raw),
    }
}

fn unmap_reason(trigger: UnmapTrigger) -> UnmapReason {
    match trigger {
        UnmapTrigger::MmuNotify => UnmapReason::Changed,
        UnmapTrigger::MmuNotifyMigrate => UnmapReason::Migration,
        UnmapTrigger::UnmapFromCpu => UnmapReason::Unmapped,
        UnmapTrigger::Other(raw) => UnmapReason::Other(raw),
    }
}
