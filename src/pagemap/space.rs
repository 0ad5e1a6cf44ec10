//! The address space of this process, shared by all its simulated devices.

use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::capabilities::{Capabilities, KernelTouch};
use super::copy_threads::CopyThreads;
use super::engine::request::{Failure, Reply, Request};
use super::engine::slots::Line;
use super::engine::uffd::{Faults, OpenFailure, REQUIRED, Uffd};
use super::engine::{self, Start};
use super::failure::{closed, error};
use super::inner::Inner;
use super::vma::{Maps, Vma};
use super::{capabilities, fork, vma};
use crate::channel::ProcessGuard;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::page_size;
use crate::uapi::userfaultfd::{UFFD_FEATURE_EVENT_FORK, UFFD_FEATURE_PAGEFAULT_FLAG_WP};

/// The address space of this process as migration sees it: one userfaultfd, one engine thread, any number of VRAM regions.
///
/// A handle; clones are the same space. When the last one goes, and the last [`VramRegion`](super::VramRegion) with it,
/// all data is moved back to system memory and the thread ends.
///
/// The counterpart of a `struct mm_struct` in the kernel's interface. After a `fork` the child's copies of the handle answer
/// [`ErrorKind::ForeignProcess`].
#[doc(alias = "mm_struct")]
#[derive(Clone, Debug)]
pub struct Space {
    inner: Arc<Inner>,
}

impl Space {
    /// The space that everybody in this process shares, made when first asked for, with [`KernelTouch::Never`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn of_process() -> Result<Self> {
        fork::shared_space(|| Self::open(KernelTouch::Never).map(|space| space.inner)).map(Self::from_inner)
    }

    /// A space of its own. A range belongs to one space at a time; another one is refused it with `EBUSY`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] where the kernel has no userfaultfd (`ENOSYS`: `CONFIG_USERFAULTFD`), no
    /// `UFFDIO_MOVE` (before 6.8) or no `PROCMAP_QUERY` and no `/proc`; [`ErrorKind::PermissionDenied`] where a seccomp filter
    /// forbids it (containers), or [`KernelTouch::Required`] is not permitted. There is no fallback: what cannot be
    /// simulated faithfully is not simulated.
    #[doc(alias = "userfaultfd")]
    pub fn open(kernel_touch: KernelTouch) -> Result<Self> {
        Self::open_with(kernel_touch, vma::open_proc("/proc/self/pagemap").ok())
    }

    /// With what tells which pages exist, where the process may look.
    pub(crate) fn open_with(kernel_touch: KernelTouch, pagemap: Option<OwnedFd>) -> Result<Self> {
        let guard = ProcessGuard::current()?;
        let (uffd, faults) = open_uffd(kernel_touch)?;
        let capabilities = Capabilities {
            kernel_touch: faults == Faults::UserAndKernel,
            fork_events: uffd.features() & UFFD_FEATURE_EVENT_FORK != 0,
            watch: uffd.offers(UFFD_FEATURE_PAGEFAULT_FLAG_WP),
        };
        let maps = Maps::open()?;
        use rustix::event::EventfdFlags as Flags;
        let doorbell = rustix::event::eventfd(0, Flags::CLOEXEC | Flags::NONBLOCK)
            .map_err(|errno| Error::from_errno("eventfd", errno.into()))?;
        let bell = rustix::io::fcntl_dupfd_cloexec(&doorbell, 0)
            .map_err(|errno| Error::from_errno("fcntl", errno.into()))?;
        let line = Line::new(doorbell).map_err(|errno| Error::from_errno("mmap", errno))?;
        // SAFETY: `Inner` keeps the line until the engine's thread has ended, or leaks it.
        let slots = unsafe { line.slots() };
        fork::install()?;
        let start = Start { uffd, slots, doorbell: bell, pagemap, page: page_size() };
        let thread = engine::thread::spawn(start)
            .map_err(|io| Error::new(ErrorKind::OutOfMemory, "pthread_create").because(io.to_string()))?;
        let inner = Arc::new(Inner {
            guard,
            capabilities,
            line: Some(line),
            maps: Some(maps),
            thread: Mutex::new(Some(thread)),
            copies: Arc::new(CopyThreads::default()),
        });
        fork::watch_over(&inner);
        Ok(Self { inner })
    }

    /// What this space can do on this kernel, with these permissions.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.inner.capabilities
    }

    /// The mapping that covers `at`, or else the next one above it.
    ///
    /// # Errors
    ///
    /// The errno of `PROCMAP_QUERY` or of reading `/proc/self/maps`.
    #[doc(alias = "PROCMAP_QUERY")]
    pub fn vma_at_or_after(&self, at: u64) -> Result<Option<Vma>> {
        match &self.inner.maps {
            Some(maps) => maps.at_or_after(at),
            None => Ok(None),
        }
    }

    /// Whether the two are the same space.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The stack of the calling thread, if it must not migrate: the kernel writes there (signals, restartable sequences), and
    /// where its touches are not reported that is fatal.
    pub(crate) fn guarded_stack(&self) -> (u64, u64) {
        thread_local! {
            static STACK: OnceCell<(u64, u64)> = const { OnceCell::new() };
        }
        if self.inner.capabilities.kernel_touch {
            return (0, 0);
        }
        STACK.with(|stack| *stack.get_or_init(|| engine::thread::stack_of_this_thread().unwrap_or((0, 0))))
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn copies(&self) -> &Arc<CopyThreads> {
        &self.inner.copies
    }

    /// Asks the engine.
    pub(crate) fn ask(&self, call: &'static str, request: Request) -> Result<Reply> {
        self.exchange(call, request, |_| ()).map(|(reply, ())| reply)
    }

    /// Asks the engine, and looks at the payload of the reply.
    pub(crate) fn exchange<T>(
        &self,
        call: &'static str,
        request: Request,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<(Reply, T)> {
        let mut claim = self.inner.claim(call)?;
        let reply = claim.call(request);
        let seen = look(claim.payload());
        Ok((reply, seen))
    }

    /// Asks the engine, with a payload.
    pub(crate) fn send(&self, call: &'static str, request: Request, payload: &[u8]) -> Result<Reply> {
        let mut claim = self.inner.claim(call)?;
        claim.payload()[..payload.len()].copy_from_slice(payload);
        Ok(claim.call(request))
    }
}

/// `Reply::Unit`, or the failure in words.
pub(crate) fn unit(call: &'static str, reply: Reply) -> Result<()> {
    match reply {
        Reply::Failed(failure) | Reply::Stopped(_, failure) => Err(error(call, failure)),
        Reply::Closed => Err(closed(call)),
        _ => Ok(()),
    }
}

/// The reply that `pick` recognises, or the failure in words.
pub(crate) fn expect<T>(
    call: &'static str,
    reply: Reply,
    pick: impl FnOnce(Reply) -> Option<T>,
) -> Result<T> {
    unit(call, reply)?;
    pick(reply).ok_or_else(|| closed(call))
}

#[cold]
pub(crate) fn failed(call: &'static str, failure: Failure) -> Error {
    error(call, failure)
}

fn open_uffd(kernel_touch: KernelTouch) -> Result<(Uffd, Faults)> {
    let open = |faults, optional| {
        // SAFETY: the engine's thread is the owner, and keeps every byte of what it registers: pages leave for a pool or for
        // staging memory and come back from there, the threads that touch them meanwhile wait, and what is lost is
        // poisoned. It returns everything before it closes the descriptor.
        unsafe { Uffd::open(faults, optional) }
    };
    let full = || open(Faults::UserAndKernel, UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    let user = || open(Faults::User, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    match kernel_touch {
        KernelTouch::Never => user().map(|uffd| (uffd, Faults::User)),
        KernelTouch::Required => full().map(|uffd| (uffd, Faults::UserAndKernel)),
        KernelTouch::IfPermitted => match full() {
            Err(OpenFailure::Syscall(Errno::EPERM | Errno::EACCES)) => {
                user().map(|uffd| (uffd, Faults::User))
            }
            other => other.map(|uffd| (uffd, Faults::UserAndKernel)),
        },
    }
    .map_err(|failure| unavailable(failure, kernel_touch))
}

#[cold]
fn unavailable(failure: OpenFailure, kernel_touch: KernelTouch) -> Error {
    match failure {
        OpenFailure::Syscall(errno @ Errno::ENOSYS) => Error::from_errno("userfaultfd", errno)
            .because("the kernel was built without userfaultfd, or a seccomp filter hides it")
            .hint_is(
                "a kernel with CONFIG_USERFAULTFD; in a container, a seccomp profile that allows userfaultfd",
            ),
        OpenFailure::Syscall(errno @ (Errno::EPERM | Errno::EACCES)) => {
            let error = Error::from_errno("userfaultfd", errno);
            if kernel_touch == KernelTouch::Required {
                error.because("reporting the kernel's own touches takes a privilege").hint_is(
                    "CAP_SYS_PTRACE, access to /dev/userfaultfd, or vm.unprivileged_userfaultfd=1; or KernelTouch::IfPermitted",
                )
            } else {
                error
                    .because(
                        "forbidden, though user-mode faults need no privilege: a seccomp filter, most likely",
                    )
                    .hint_is("in a container, a seccomp profile that allows userfaultfd")
            }
        }
        OpenFailure::Syscall(errno @ Errno::EINVAL) => Error::from_errno("userfaultfd", errno)
            .of_kind(ErrorKind::Unsupported)
            .because("the kernel does not know UFFD_USER_MODE_ONLY (since 5.11)"),
        OpenFailure::Syscall(errno) => Error::from_errno("userfaultfd", errno),
        OpenFailure::Handshake(errno) => Error::from_errno("UFFDIO_API", errno),
        OpenFailure::Lacks(features) => Error::new(ErrorKind::Unsupported, "UFFDIO_API")
            .because(format!(
                "the kernel lacks userfaultfd features {features:#x} of {REQUIRED:#x}{}",
                capabilities::missing_move(features)
            ))
            .hint_is("Linux 6.8 or newer"),
    }
}
