//! The event log: who listens, and what the lines look like.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};

use crate::error::Errno;
use crate::sim::kfd::config::Kernel;
use crate::uapi::kfd as abi;

/// Events that have nothing to do with what a process does.
const RESETS: u64 =
    1 << (abi::KFD_SMI_EVENT_GPU_PRE_RESET - 1) | 1 << (abi::KFD_SMI_EVENT_GPU_POST_RESET - 1);

/// One event, without what every line has: time, process and GPU.
#[derive(Clone, Debug)]
pub(super) enum Line {
    MigrateStart { first: u64, pages: u64, from: u32, to: u32, prefetch: u32, preferred: u32, trigger: u32 },
    MigrateEnd { first: u64, pages: u64, from: u32, to: u32, trigger: u32, error: i32 },
    FaultStart { page: u64, write: bool },
    FaultEnd { page: u64, migrated: bool },
    QueueEviction { trigger: u32 },
    QueueRestore { rescheduled: bool },
    Unmap { first: u64, pages: u64, trigger: u32 },
    ProcessStart,
    ProcessEnd,
    VmFault,
    PreReset { sequence: u32 },
    PostReset { sequence: u32 },
}

impl Line {
    fn id(&self) -> u32 {
        match self {
            Self::MigrateStart { .. } => abi::KFD_SMI_EVENT_MIGRATE_START,
            Self::MigrateEnd { .. } => abi::KFD_SMI_EVENT_MIGRATE_END,
            Self::FaultStart { .. } => abi::KFD_SMI_EVENT_PAGE_FAULT_START,
            Self::FaultEnd { .. } => abi::KFD_SMI_EVENT_PAGE_FAULT_END,
            Self::QueueEviction { .. } => abi::KFD_SMI_EVENT_QUEUE_EVICTION,
            Self::QueueRestore { .. } => abi::KFD_SMI_EVENT_QUEUE_RESTORE,
            Self::Unmap { .. } => abi::KFD_SMI_EVENT_UNMAP_FROM_GPU,
            Self::ProcessStart => abi::KFD_SMI_EVENT_PROCESS_START,
            Self::ProcessEnd => abi::KFD_SMI_EVENT_PROCESS_END,
            Self::VmFault => abi::KFD_SMI_EVENT_VMFAULT,
            Self::PreReset { .. } => abi::KFD_SMI_EVENT_GPU_PRE_RESET,
            Self::PostReset { .. } => abi::KFD_SMI_EVENT_GPU_POST_RESET,
        }
    }

    fn exists_in(&self, kernel: &Kernel) -> bool {
        match self {
            Self::ProcessStart | Self::ProcessEnd => kernel.process_events,
            Self::VmFault | Self::PreReset { .. } | Self::PostReset { .. } => true,
            _ => kernel.minor >= 10,
        }
    }

    fn text(&self, kernel: &Kernel, gpu: u32) -> String {
        let (id, pid) = (self.id(), std::process::id());
        let now = clock_gettime(ClockId::Boottime);
        let head = format!("{id:x} {} -{pid}", now.tv_sec * 1_000_000_000 + now.tv_nsec);
        match *self {
            Self::MigrateStart { first, pages, from, to, prefetch, preferred, trigger } => {
                format!(
                    "{head} @{first:x}({pages:x}) {from:x}->{to:x} {prefetch:x}:{preferred:x} {trigger}\n"
                )
            }
            Self::MigrateEnd { first, pages, from, to, trigger, error } if kernel.migrate_end_has_error => {
                format!("{head} @{first:x}({pages:x}) {from:x}->{to:x} {trigger} {error}\n")
            }
            Self::MigrateEnd { first, pages, from, to, trigger, .. } => {
                format!("{head} @{first:x}({pages:x}) {from:x}->{to:x} {trigger}\n")
            }
            Self::FaultStart { page, write } => {
                format!("{head} @{page:x}({gpu:x}) {}\n", if write { 'W' } else { 'R' })
            }
            Self::FaultEnd { page, migrated } => {
                format!("{head} @{page:x}({gpu:x}) {}\n", if migrated { 'M' } else { 'U' })
            }
            Self::QueueEviction { trigger } => format!("{head} {gpu:x} {trigger}\n"),
            Self::QueueRestore { rescheduled: true } => format!("{head} {gpu:x} R\n"),
            Self::QueueRestore { .. } if kernel.queue_restore_writes_nul => format!("{head} {gpu:x} \0\n"),
            Self::QueueRestore { .. } => format!("{head} {gpu:x} 0\n"),
            Self::Unmap { first, pages, trigger } => {
                format!("{head} @{first:x}({pages:x}) {gpu:x} {trigger}\n")
            }
            Self::ProcessStart | Self::ProcessEnd => format!("{id:x} {pid:x} {}\n", command_name()),
            Self::VmFault => format!("{id:x} {pid:x}:{}\n", command_name()),
            Self::PreReset { sequence } => format!("{id:x} {sequence:x} simulated\n"),
            Self::PostReset { sequence } => format!("{id:x} {sequence:x} \n"),
        }
    }
}

/// The process's name as the kernel has it: at most 15 bytes.
fn command_name() -> String {
    std::fs::read_to_string("/proc/self/comm").map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

/// One opened log. Our end of a socket pair takes the masks that the reader writes, and gives out lines; the copy of the
/// reader's end tells how much it has not read yet.
#[derive(Debug)]
struct Log {
    gpu: u32,
    mask: u64,
    ours: UnixStream,
    readers: UnixStream,
}

impl Log {
    /// The masks written since last time; the last one counts.
    fn update_mask(&mut self) {
        let mut bytes = [0; 8];
        while let Ok(8) = self.ours.read(&mut bytes) {
            self.mask = u64::from_ne_bytes(bytes);
        }
    }

    /// Whole lines only, and only where they fit; the reader is not told of those that do not.
    fn write(&mut self, line: &str, capacity: usize) {
        let unread = rustix::io::ioctl_fionread(&self.readers).unwrap_or(u64::MAX);
        if unread.saturating_add(line.len() as u64) <= capacity as u64 {
            // A reader that is gone misses nothing, and raises no SIGPIPE: its end stays open here.
            let _ = self.ours.write(line.as_bytes());
        }
    }
}

/// Every opened log.
#[derive(Debug, Default)]
pub(super) struct Smi {
    logs: Mutex<Vec<Log>>,
}

impl Smi {
    /// Opens a log; the number of the reader's descriptor, which is not close-on-exec and never blocks.
    pub(super) fn open(&self, gpu: u32) -> Result<u32, Errno> {
        let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EMFILE, Errno::from_raw);
        let (ours, readers) = UnixStream::pair().map_err(errno)?;
        ours.set_nonblocking(true).map_err(errno)?;
        readers.set_nonblocking(true).map_err(errno)?;
        let given_out = readers.as_fd().try_clone_to_owned().map_err(errno)?;
        rustix::io::fcntl_setfd(&given_out, rustix::io::FdFlags::empty())?;
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(Log { gpu, mask: 0, ours, readers });
        Ok(given_out.into_raw_fd() as u32)
    }

    /// Whether anyone asked for events of shared virtual memory, or has yet to say what for.
    pub(super) fn is_heard(&self) -> bool {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.iter_mut().any(|log| {
            log.update_mask();
            log.mask == 0 || log.mask & !RESETS != 0
        })
    }

    /// Logs an event of a GPU for everyone who asked for it.
    pub(super) fn log(&self, kernel: &Kernel, gpu: u32, line: &Line) {
        if !line.exists_in(kernel) {
            return;
        }
        let mut text = None;
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        for log in logs.iter_mut().filter(|log| log.gpu == gpu) {
            log.update_mask();
            if log.mask >> (line.id() - 1) & 1 != 0 {
                log.write(text.get_or_insert_with(|| line.text(kernel, gpu)), kernel.smi_log_bytes);
            }
        }
    }
}
