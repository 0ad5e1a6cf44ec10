//! What the engine is compared with, without the engine.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use drm_pagemap::PageRange;
use drm_pagemap::uapi::IoctlArg;
use drm_pagemap::uapi::userfaultfd::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{Advice, MapFlags, ProtFlags, UserfaultfdFlags};

const MB2: usize = 2 << 20;

/// A private anonymous mapping, aligned to 2 MiB.
#[derive(Debug)]
pub(crate) struct Mapping {
    raw: *mut u8,
    base: *mut u8,
    len: usize,
}

impl Mapping {
    pub(crate) fn empty(len: usize) -> Self {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping.
        let raw =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len + MB2, prot, MapFlags::PRIVATE) };
        let raw = raw.expect("mmap").cast::<u8>();
        let base = raw.wrapping_add(raw.align_offset(MB2));
        Self { raw, base, len }
    }

    /// All pages written, as huge pages or not.
    pub(crate) fn filled(len: usize, huge: bool) -> Self {
        let mapping = Self::empty(len);
        let advice = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // SAFETY: the mapping just made; which pages it is made of changes no byte.
        let _ = unsafe { rustix::mm::madvise(mapping.base.cast(), len, advice) };
        // SAFETY: the mapping just made.
        unsafe { mapping.base.write_bytes(3, len) };
        mapping
    }

    pub(crate) fn range(&self) -> PageRange {
        PageRange::new(self.base as u64, self.len as u64).expect("aligned")
    }

    pub(crate) fn start(&self) -> u64 {
        self.base as u64
    }

    /// Drops all pages.
    pub(crate) fn discard(&self) {
        // SAFETY: the mapping is ours, and nobody relies on its contents.
        let _ = unsafe { rustix::mm::madvise(self.base.cast(), self.len, Advice::LinuxDontNeed) };
    }

    pub(crate) fn copy_from(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len);
        // SAFETY: within the mapping, which nothing else refers to.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base, bytes.len()) };
    }

    /// Reads one byte.
    pub(crate) fn touch_at(&self, offset: usize) {
        assert!(offset < self.len);
        // SAFETY: a byte of the mapping.
        let byte = unsafe { AtomicU8::from_ptr(self.base.add(offset)) };
        std::hint::black_box(byte.load(Ordering::Relaxed));
    }

    pub(crate) fn touch(&self) -> u8 {
        // SAFETY: a byte of the mapping.
        unsafe { AtomicU8::from_ptr(self.base) }.load(Ordering::Relaxed)
    }
}

// SAFETY: plain memory, reached by atomic loads from several threads.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours.
        let _ = unsafe { rustix::mm::munmap(self.raw.cast(), self.len + MB2) };
    }
}

/// One ioctl of the userfaultfd.
struct Call<'a, A>(&'a mut A);

// SAFETY: request number and layout belong together by `IoctlArg`'s contract.
unsafe impl<A: IoctlArg> Ioctl for Call<'_, A> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        A::REQUEST as Opcode
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

fn call<A: IoctlArg>(uffd: &OwnedFd, mut arg: A) -> rustix::io::Result<()> {
    // SAFETY: the ranges are those of the benchmark's own mappings.
    unsafe { rustix::ioctl::ioctl(uffd, Call(&mut arg)) }
}

/// A userfaultfd, a thread that moves 2 MiB to where a touch was reported, and nothing else.
#[derive(Debug)]
pub(crate) struct Bare {
    uffd: std::sync::Arc<OwnedFd>,
    stop: OwnedFd,
    pool: Mapping,
    start: u64,
    thread: Option<JoinHandle<()>>,
}

impl Bare {
    pub(crate) fn new(memory: &Mapping) -> rustix::io::Result<Self> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let flags = flags | UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
        // SAFETY: nothing is registered yet.
        let uffd = std::sync::Arc::new(unsafe { rustix::mm::userfaultfd(flags) }?);
        call(&uffd, UffdioApi { api: UFFD_API, features: UFFD_FEATURE_MOVE, ioctls: 0 })?;
        let pool = Mapping::empty(MB2);
        for start in [memory.start(), pool.start()] {
            let range = UffdioRange { start, len: MB2 as u64 };
            call(&uffd, UffdioRegister { range, mode: UFFDIO_REGISTER_MODE_MISSING, ioctls: 0 })?;
        }
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        let stopped = rustix::io::fcntl_dupfd_cloexec(&stop, 0)?;
        let (handler, from, to) = (uffd.clone(), pool.start(), memory.start());
        let thread = std::thread::spawn(move || {
            loop {
                let mut fds = [PollFd::new(&*handler, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                let _ = rustix::event::poll(&mut fds, None);
                if fds[1].revents().contains(PollFlags::IN) {
                    return;
                }
                let mut message = [0u8; size_of::<UffdMsg>()];
                if rustix::io::read(handler.as_fd(), &mut message).is_ok() {
                    let moved = UffdioMove { dst: to, src: from, len: MB2 as u64, mode: 0, moved: 0 };
                    call(&handler, moved).expect("move back");
                }
            }
        });
        Ok(Self { uffd, stop, pool, start: memory.start(), thread: Some(thread) })
    }

    pub(crate) fn move_away(&self) {
        let moved =
            UffdioMove { dst: self.pool.start(), src: self.start, len: MB2 as u64, mode: 0, moved: 0 };
        call(&self.uffd, moved).expect("move away");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A thread that answers.
#[derive(Debug)]
pub(crate) struct Echo {
    to: Sender<()>,
    from: Receiver<()>,
}

impl Echo {
    pub(crate) fn new() -> Self {
        let ((to, requests), (replies, from)) = (channel(), channel());
        std::thread::spawn(move || while requests.recv().is_ok_and(|()| replies.send(()).is_ok()) {});
        Self { to, from }
    }

    pub(crate) fn round_trip(&self) {
        self.to.send(()).expect("the thread lives");
        self.from.recv().expect("the thread lives");
    }
}
