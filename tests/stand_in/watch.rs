//! Receiving the calls that a filter takes, and answering them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use drm_pagemap::Errno;
use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};
use rustix::event::{PollFd, PollFlags, poll};

use super::answers::Driver;
use super::filter::Filter;
use super::memory::Memory;

const NOTIF_RECV: libc::c_ulong = 0xC050_2100;
const NOTIF_SEND: libc::c_ulong = 0xC018_2101;
const NOTIF_ADDFD: libc::c_ulong = 0x4018_2103;
const ADDFD_SEND: u32 = 1 << 1;

/// One system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
    pub(crate) memory: Memory,
}

impl Call {
    /// The request, when it is an ioctl of DRM or KFD.
    pub(crate) fn request(&self) -> Option<u32> {
        let request = self.arguments[1] as u32;
        let ours = matches!((request >> 8) as u8, b'd' | b'K');
        (self.number == libc::SYS_ioctl && ours).then_some(request)
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The kernel does it.
    Kernel,
    /// Done, or refused.
    Done(Result<(), Errno>),
    /// The caller gets this file.
    File(OwnedFd),
    /// The caller gets this file, and its number in memory at this address.
    FileAt(OwnedFd, u64),
}

/// Answers calls until no filtered thread is left.
pub(crate) fn answer_calls(
    listener: BorrowedFd<'_>,
    mut answer: impl FnMut(&Call) -> Answer,
) -> io::Result<()> {
    loop {
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !fds[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
        // SAFETY: plain numbers, for which zero is a value; the kernel demands it.
        let mut notice: seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one notice.
        if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notice) } != 0 {
            // The caller was killed, or interrupted before we looked.
            continue;
        }
        let call = Call {
            number: notice.data.nr.into(),
            arguments: notice.data.args,
            memory: Memory::of(notice.pid),
        };
        reply(listener, notice.id, &call, answer(&call));
    }
}

/// A caller that is gone by now needs no answer, so failures are of no interest.
fn reply(listener: BorrowedFd<'_>, id: u64, call: &Call, answer: Answer) {
    let mut response = seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match answer {
        Answer::Kernel => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Answer::Done(Ok(())) => {}
        Answer::Done(Err(errno)) => response.error = -errno.raw(),
        Answer::File(file) => {
            give(listener, id, &file, ADDFD_SEND);
            return;
        }
        Answer::FileAt(file, address) => {
            let number = give(listener, id, &file, 0);
            if number < 0 || call.memory.write(address, &number).is_err() {
                response.error = -libc::EFAULT;
            }
        }
    }
    // SAFETY: the kernel reads one struct.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const response) };
}

/// Opens a file in the calling process too; gives its number there.
fn give(listener: BorrowedFd<'_>, id: u64, file: &OwnedFd, flags: u32) -> i32 {
    let srcfd = file.as_raw_fd() as u32;
    let add = seccomp_notif_addfd { id, flags, srcfd, newfd: 0, newfd_flags: libc::O_CLOEXEC as u32 };
    // SAFETY: the kernel reads one struct.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD, &raw const add) }
}

/// Lets a watched thread record its own calls.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    on: AtomicBool,
    calls: std::sync::Mutex<Vec<(i64, Option<u32>)>>,
}

impl Recorder {
    /// Runs `act` and gives every system call it made, with the request of driver ioctls.
    pub(crate) fn record<T>(&self, act: impl FnOnce() -> T) -> (T, Vec<(i64, Option<u32>)>) {
        self.on.store(true, Ordering::SeqCst);
        let result = act();
        self.on.store(false, Ordering::SeqCst);
        (result, std::mem::take(&mut self.calls.lock().unwrap()))
    }
}

/// Runs `act` in a thread of its own under a filter, with `driver` behind every ioctl of DRM and KFD. Processes that it starts
/// are filtered and answered like the thread itself.
///
/// # Errors
///
/// When this kernel or sandbox does not let seccomp notify.
pub(crate) fn in_filtered_thread<T: Send>(
    filter: Filter,
    mut driver: Driver,
    act: impl FnOnce(&Recorder) -> T + Send,
) -> io::Result<T> {
    const NOT_YET: i32 = -1;
    const FAILED: i32 = -2;
    let (recorder, number) = (Recorder::default(), AtomicI32::new(NOT_YET));
    std::thread::scope(|scope| {
        // Once it is filtered, the thread can say so through memory only: a system call may wait for an answer.
        let thread = scope.spawn(|| match filter.install() {
            Ok(listener) => {
                number.store(listener.into_raw_fd(), Ordering::SeqCst);
                Ok(act(&recorder))
            }
            Err(error) => {
                number.store(FAILED, Ordering::SeqCst);
                Err(error)
            }
        });
        while number.load(Ordering::SeqCst) == NOT_YET {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let listener @ 0.. = number.load(Ordering::SeqCst) {
            // SAFETY: the descriptor that the thread was given and let go of.
            let listener = unsafe { OwnedFd::from_raw_fd(listener) };
            answer_calls(listener.as_fd(), |call| {
                if recorder.on.load(Ordering::SeqCst) {
                    recorder.calls.lock().unwrap().push((call.number, call.request()));
                }
                driver.answer(call)
            })?;
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
