//! KFD's event log: what shared virtual memory does, as it happens.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::channel::{ProcessGuard, Retry};
use crate::error::{Error, ErrorKind, Result};
use crate::kfd::failure::foreign;
use crate::kfd::{GpuId, Process, Version};
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

mod event;
#[cfg(test)]
mod fuzz;
mod parse;

pub use event::{
    EvictionTrigger, MigrateEnd, MigrateStart, MigrateTrigger, PageFaultEnd, PageFaultStart, QueueEviction,
    QueueRestore, SmiEvent, SmiMask, UnmapFromGpu, UnmapTrigger,
};

const CALL: &str = abi::SmiEvents::NAME;

impl Process {
    /// Opens the event log of one GPU. A process sees its own events without any privilege, and those of others for a log
    /// that was opened with `CAP_SYS_ADMIN`. Migrations between a GPU and system memory are in that GPU's log.
    ///
    /// # Errors
    ///
    /// | errno | kind | meaning |
    /// |---|---|---|
    /// | – | [`NotFound`](ErrorKind::NotFound) | the GPU is not one of the process |
    /// | – | [`Unsupported`](ErrorKind::Unsupported) | the mask asks for migrations or faults before KFD 1.10 |
    /// | `ENOMEM`, `EMFILE`, `ENFILE` | [`OutOfMemory`](ErrorKind::OutOfMemory) | memory, or too many open files |
    /// | `EBADF` | [`ForeignProcess`](ErrorKind::ForeignProcess) | in a forked child |
    #[doc(alias = "AMDKFD_IOC_SMI_EVENTS")]
    pub fn smi_events(&self, gpu: GpuId, mask: SmiMask) -> Result<SmiEvents> {
        self.inner().guard.check(CALL)?;
        self.gpu(CALL, gpu)?;
        if mask.intersects(SmiMask::SVM - SmiMask::VM_FAULT) {
            self.require(CALL, Version::SVM_EVENTS)?;
        }
        let mut arg = abi::SmiEvents { gpuid: gpu.raw(), anon_fd: 0 };
        // SAFETY: the argument holds no address.
        unsafe { self.channel().call(&mut arg, Retry::Always) }.map_err(foreign)?;
        // SAFETY: the call succeeded, so `anon_fd` is a descriptor that the kernel (or a simulated device) has just made for
        // us and that nothing else knows of.
        let fd = unsafe { OwnedFd::from_raw_fd(arg.anon_fd as i32) };
        let log = SmiEvents { fd, gpu, guard: self.inner().guard, pending: Pending::default() };
        // The kernel has no flag for it, so a fork and exec at this very moment can inherit the descriptor.
        fcntl_setfd(&log.fd, FdFlags::CLOEXEC).map_err(|errno| Error::from_errno("F_SETFD", errno.into()))?;
        log.set_mask(mask)?;
        Ok(log)
    }
}

/// The event log of one GPU: an iterator over what has happened, and a descriptor to poll for more.
///
/// The kernel keeps a few kilobytes (8 KiB, 1 KiB in 6.12) until they are read, and drops what comes beyond that without a
/// word; [`may_have_lost_events`](Self::may_have_lost_events) tells when that is possible.
///
/// ```no_run
/// use drm_pagemap::kfd::{Process, SmiEvent, SmiMask};
///
/// # fn f(process: &Process) -> drm_pagemap::Result<()> {
/// let gpu = process.gpus().next().unwrap();
/// let mut log = process.smi_events(gpu, SmiMask::MIGRATIONS)?;
/// // ... prefetch something ...
/// while let Some(event) = log.next_event()? {
///     if let SmiEvent::MigrateStart(start) = event {
///         println!("{} from {} to {}", start.range, start.from, start.to);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SmiEvents {
    fd: OwnedFd,
    gpu: GpuId,
    guard: ProcessGuard,
    pending: Pending,
}

impl SmiEvents {
    /// The GPU whose log it is.
    #[must_use]
    pub fn gpu(&self) -> GpuId {
        self.gpu
    }

    /// Replaces the set of events to report from now on. Events already logged stay.
    ///
    /// # Errors
    ///
    /// The errno of `write`.
    pub fn set_mask(&self, mask: SmiMask) -> Result<()> {
        const CALL: &str = "write of the SMI event mask";
        let bytes = mask.bits().to_ne_bytes();
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &bytes))
            .map_err(|errno| Error::from_errno(CALL, errno.into()))?;
        if written == bytes.len() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Other, CALL)
            .because(format!("the kernel took {written} bytes of {}", bytes.len())))
    }

    /// The next event that has happened, or `None` when there is none at the moment. Never waits.
    ///
    /// # Errors
    ///
    /// The errno of `read`; [`ForeignProcess`](ErrorKind::ForeignProcess) in a forked child, which would take events away
    /// from its parent.
    pub fn next_event(&mut self) -> Result<Option<SmiEvent>> {
        const CALL: &str = "read of SMI events";
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        self.guard.check(CALL)?;
        loop {
            let mut buffer = [0; Pending::LARGEST_LOG];
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) => return Ok(None),
                Ok(len) => self.pending.add(&buffer[..len]),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::from_errno(CALL, errno.into())),
            }
            if let Some(event) = self.pending.take() {
                return Ok(Some(event));
            }
        }
    }

    /// The next event; waits for one, for at most `timeout` where there is one. `None` when the time is over.
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event), and the errno of `poll`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<SmiEvent>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.next_event()? {
                return Ok(Some(event));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            // A time too long for a timespec is for ever.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::from_errno("poll of SMI events", errno.into())),
            }
        }
    }

    /// The events that have happened so far. Ends when there is none at the moment, or at the first error, and can be asked
    /// again later.
    pub fn drain(&mut self) -> impl Iterator<Item = Result<SmiEvent>> {
        std::iter::from_fn(|| self.next_event().transpose())
    }

    /// Whether events may have been dropped since this was last asked: the log was found so full that another line might not
    /// have fitted.
    pub fn may_have_lost_events(&mut self) -> bool {
        std::mem::take(&mut self.pending.may_have_lost)
    }
}

impl AsFd for SmiEvents {
    /// Readable when there are events. Reading from it takes them away from [`next_event`](SmiEvents::next_event).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for SmiEvents {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// Events read and not yet asked for, and the beginning of a line whose end has not been read.
#[derive(Debug, Default)]
struct Pending {
    events: VecDeque<SmiEvent>,
    partial: Vec<u8>,
    may_have_lost: bool,
    log_is_large: bool,
}

impl Pending {
    /// Bytes that the kernel keeps at most, and gives out in one read.
    const LARGEST_LOG: usize = 8192;
    /// What older kernels (6.12) keep.
    const SMALLER_LOG: usize = 1024;
    const LONGEST_LINE: usize = abi::KFD_SMI_EVENT_MSG_SIZE as usize;

    /// Takes in what one read gave.
    ///
    /// Lines end with a newline and may hold NUL bytes (see `QUEUE_RESTORE` of kernels before 6.18). A line that filled the
    /// kernel's buffer has no newline: it ends after the longest length a line can have.
    fn add(&mut self, bytes: &[u8]) {
        self.note_fullness(bytes.len());
        for &byte in bytes {
            if byte != b'\n' {
                self.partial.push(byte);
            }
            if byte == b'\n' || self.partial.len() == Self::LONGEST_LINE {
                self.finish_line();
            }
        }
    }

    fn finish_line(&mut self) {
        if !self.partial.is_empty() {
            self.events.push_back(parse::line(&self.partial));
            self.partial.clear();
        }
    }

    /// A line is dropped only when it does not fit, so a log with room for the longest line has lost nothing.
    fn note_fullness(&mut self, len: usize) {
        self.log_is_large |= len > Self::SMALLER_LOG;
        let log = if self.log_is_large { Self::LARGEST_LOG } else { Self::SMALLER_LOG };
        self.may_have_lost |= len <= log && len + Self::LONGEST_LINE > log;
    }

    fn take(&mut self) -> Option<SmiEvent> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG: &[u8] = b"9 1 -155 f267 0\na 2 -155 f267 \0\nb 3 -155 @10(2) f267 2\nnonsense\n";

    fn read_in_pieces(log: &[u8], cuts: &[usize]) -> Vec<SmiEvent> {
        let mut pending = Pending::default();
        let mut events = Vec::new();
        let mut rest = log;
        for &cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pending.add(piece);
            events.extend(std::iter::from_fn(|| pending.take()));
            rest = behind;
        }
        pending.add(rest);
        events.extend(std::iter::from_fn(|| pending.take()));
        events
    }

    #[test]
    fn a_nul_byte_hides_nothing_behind_it() {
        let events = read_in_pieces(LOG, &[]);
        assert_eq!(events.len(), 4);
        assert!(matches!(&events[1], SmiEvent::QueueRestore(restore) if !restore.rescheduled));
        assert!(matches!(&events[2], SmiEvent::UnmapFromGpu(_)));
        assert_eq!(events[3], SmiEvent::Raw("nonsense".into()));
    }

    #[test]
    fn a_line_that_filled_the_kernels_buffer_does_not_swallow_the_next() {
        let mut log = format!("3 1 {}", "x".repeat(92)).into_bytes();
        assert_eq!(log.len(), 96);
        log.extend_from_slice(b"4 1 y\n");
        let events = read_in_pieces(&log, &[]);
        assert!(matches!(&events[0], SmiEvent::GpuPreReset { cause, .. } if cause.len() == 92));
        assert_eq!(events[1], SmiEvent::GpuPostReset { sequence: 1, cause: "y".into() });
    }

    #[test]
    fn a_full_log_may_have_lost_events_and_an_emptier_one_has_not() {
        let lost = |lens: &[usize]| {
            let mut pending = Pending::default();
            lens.iter()
                .map(|&len| {
                    pending.note_fullness(len);
                    std::mem::take(&mut pending.may_have_lost)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(lost(&[928, 929, 1024]), [false, true, true]);
        assert_eq!(lost(&[1025, 1000, 8096, 8097, 8192]), [false, false, false, true, true]);
    }

    proptest! {
        #[test]
        fn the_cuts_between_reads_do_not_matter(cuts in proptest::collection::vec(0usize..30, 0..12)) {
            prop_assert_eq!(read_in_pieces(LOG, &cuts), read_in_pieces(LOG, &[]));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cuts in proptest::collection::vec(0usize..300, 0..12)) {
            let _ = read_in_pieces(&bytes, &cuts);
        }
    }
}
