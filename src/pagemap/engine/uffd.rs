//! The userfaultfd of the engine.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

use crate::error::Errno;
use crate::uapi::IoctlArg;
use crate::uapi::userfaultfd::*;

/// Features without which there is no engine.
pub(crate) const REQUIRED: u64 = UFFD_FEATURE_MOVE
    | UFFD_FEATURE_POISON
    | UFFD_FEATURE_THREAD_ID
    | UFFD_FEATURE_EVENT_UNMAP
    | UFFD_FEATURE_EVENT_REMAP
    | UFFD_FEATURE_EVENT_REMOVE;

/// Whose faults the descriptor reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Those of user code; the kernel's own accesses fail with `EFAULT`. Needs no privilege.
    User,
    /// Those of the kernel on behalf of the process too.
    UserAndKernel,
}

/// Why there is no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenFailure {
    /// `userfaultfd(2)` itself.
    Syscall(Errno),
    /// The handshake.
    Handshake(Errno),
    /// The kernel lacks these features.
    Lacks(u64),
}

/// One ioctl with its argument.
struct Call<'a, A>(&'a mut A);

// SAFETY: `IoctlArg` promises that request number and layout belong together, so the kernel reads and writes exactly the
// argument; the result is 0 or an error.
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

/// A descriptor after the handshake.
#[derive(Debug)]
pub(crate) struct Uffd {
    fd: OwnedFd,
    /// Features in force.
    features: u64,
    /// What the kernel offers.
    offered: u64,
}

/// How much was done before the call stopped, in bytes, and why it stopped.
pub(crate) type Partial = Result<(), (u64, Errno)>;

impl Uffd {
    /// Opens a descriptor that reports `faults`, with the features in [`REQUIRED`] and those of `optional` that can be had.
    ///
    /// # Safety
    ///
    /// The methods of the result change which pages are mapped where, anywhere in this process. The owner must keep every
    /// byte of every range it registers readable, with its last value, to whoever touches it: what is moved away is moved
    /// back, or the range's threads are kept waiting.
    pub(crate) unsafe fn open(faults: Faults, optional: u64) -> Result<Self, OpenFailure> {
        // A descriptor shakes hands once, and fails if asked for too much: the first one only asks what there is.
        let offered = handshake(create(faults)?, 0)?.1;
        if offered & REQUIRED != REQUIRED {
            return Err(OpenFailure::Lacks(REQUIRED & !offered));
        }
        let features = REQUIRED | (optional & offered);
        let (fd, _) = match handshake(create(faults)?, features) {
            // EVENT_FORK is offered to all and allowed to some.
            Err(OpenFailure::Handshake(Errno::EPERM)) => {
                let fewer = features & !UFFD_FEATURE_EVENT_FORK;
                let (fd, offered) = handshake(create(faults)?, fewer)?;
                return Ok(Self { fd, features: fewer, offered });
            }
            other => other?,
        };
        Ok(Self { fd, features, offered })
    }

    /// Takes over the descriptor that a fork event carries.
    ///
    /// # Safety
    ///
    /// `raw` must be the descriptor that the kernel put into a fork event just read, and not have been taken over before.
    pub(crate) unsafe fn of_child(raw: u32, parent: &Self) -> Self {
        // SAFETY: the kernel opened the descriptor for the reader of the event, who owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw as i32) };
        Self { fd, features: parent.features, offered: parent.offered }
    }

    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    pub(crate) fn offers(&self, features: u64) -> bool {
        self.offered & features == features
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn call<A: IoctlArg>(&self, arg: &mut A) -> Result<(), Errno> {
        call(self.fd.as_fd(), arg)
    }

    /// A call that puts something somewhere. `ENOENT` from it means that nothing is mapped there.
    ///
    /// The kernel looks whether mappings are changing, then for the mapping, then again whether mappings are changing
    /// (`userfaultfd_move`, `uffd_move_lock`, `move_pages`; the same in `mfill_atomic`). So a mapping that moves away between
    /// the first two looks is `ENOENT`, though its report, unread yet, will say where it is. Asked again the kernel answers
    /// `EAGAIN` then: the first look sees the unread report.
    fn call_there<A: IoctlArg + Copy>(&self, arg: &mut A) -> Result<(), Errno> {
        let again = *arg;
        match self.call(arg) {
            Err(Errno::ENOENT) => {
                *arg = again;
                self.call(arg)
            }
            result => result,
        }
    }

    pub(crate) fn register(&self, start: u64, len: u64, mode: u64) -> Result<(), Errno> {
        self.call(&mut UffdioRegister { range: UffdioRange { start, len }, mode, ioctls: 0 })
    }

    pub(crate) fn unregister(&self, start: u64, len: u64) -> Result<(), Errno> {
        self.call(&mut UffdioUnregister(UffdioRange { start, len }))
    }

    pub(crate) fn wake(&self, start: u64, len: u64) {
        // Fails for empty or unaligned ranges only.
        let _ = self.call(&mut UffdioWake(UffdioRange { start, len }));
    }

    /// Whether something the process does to registered mappings has yet to be read, or its thread to go on.
    pub(crate) fn is_changing(&self) -> bool {
        // The kernel looks for that first (`mmap_changing`), and finds the empty range wrong afterwards.
        let mut arg = UffdioZeropage { range: UffdioRange { start: 0, len: 0 }, mode: 0, zeropage: 0 };
        self.call(&mut arg) == Err(Errno::EAGAIN)
    }

    /// Moves pages without waking anybody. Stops with `ENOENT` at a hole of the source, or where nothing is mapped.
    ///
    /// Never with `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`, because of a fault of Linux 6.18. `move_pages` (`mm/userfaultfd.c`)
    /// goes round again when a page changed under its hands (`-EAGAIN` inside: a discard or a compaction meets it), but since
    /// pages are moved in batches it does not forget that error when the next attempt succeeds. So it makes the same step
    /// once more: if the attempt had moved pages, that ends with `EEXIST`, and the pages are not counted; if the attempt had found a
    /// hole, and holes are allowed, it goes on for ever inside the kernel. Linux 7.3 forgets the error as it should.
    ///
    /// What is left to the caller: on `EEXIST`, or an error after part of the pages, more pages than said may have moved. They
    /// lie right behind those that are counted ([`claim_moved`](super::Engine::claim_moved)).
    pub(crate) fn move_pages(&self, dst: u64, src: u64, len: u64) -> Partial {
        let mut done = 0;
        while done < len {
            let mode = UFFDIO_MOVE_MODE_DONTWAKE;
            let mut arg = UffdioMove { dst: dst + done, src: src + done, len: len - done, mode, moved: 0 };
            match self.call_there(&mut arg) {
                Ok(()) => return Ok(()),
                // Part of it is done: the next call tells why it stopped there.
                Err(_) if arg.moved > 0 => done += arg.moved as u64,
                Err(errno) => return Err((done, errno)),
            }
        }
        Ok(())
    }

    /// Fills missing pages from `src` without waking anybody.
    pub(crate) fn copy(&self, dst: u64, src: u64, len: u64) -> Partial {
        let mut done = 0;
        while done < len {
            let mode = UFFDIO_COPY_MODE_DONTWAKE;
            let mut arg = UffdioCopy { dst: dst + done, src: src + done, len: len - done, mode, copy: 0 };
            match self.call_there(&mut arg) {
                Ok(()) => return Ok(()),
                Err(_) if arg.copy > 0 => done += arg.copy as u64,
                Err(errno) => return Err((done, errno)),
            }
        }
        Ok(())
    }

    /// Fills missing pages with zeroes without waking anybody.
    pub(crate) fn zero(&self, start: u64, len: u64) -> Partial {
        let mut done = 0;
        while done < len {
            let range = UffdioRange { start: start + done, len: len - done };
            let mut arg = UffdioZeropage { range, mode: UFFDIO_ZEROPAGE_MODE_DONTWAKE, zeropage: 0 };
            match self.call_there(&mut arg) {
                Ok(()) => return Ok(()),
                Err(_) if arg.zeropage > 0 => done += arg.zeropage as u64,
                Err(errno) => return Err((done, errno)),
            }
        }
        Ok(())
    }

    /// Makes touching the missing pages of the range raise `SIGBUS`.
    pub(crate) fn poison(&self, start: u64, len: u64) -> Partial {
        let mut done = 0;
        while done < len {
            let range = UffdioRange { start: start + done, len: len - done };
            let mut arg = UffdioPoison { range, mode: UFFDIO_POISON_MODE_DONTWAKE, updated: 0 };
            match self.call_there(&mut arg) {
                Ok(()) => return Ok(()),
                Err(_) if arg.updated > 0 => done += arg.updated as u64,
                Err(errno) => return Err((done, errno)),
            }
        }
        Ok(())
    }

    /// Takes the messages that are there, without waiting.
    pub(crate) fn read<'m>(&self, into: &'m mut [UffdMsg]) -> &'m [UffdMsg] {
        let bytes = rustix::io::read(&self.fd, bytemuck::cast_slice_mut::<_, u8>(into)).unwrap_or(0);
        &into[..bytes / size_of::<UffdMsg>()]
    }
}

fn call<A: IoctlArg>(fd: BorrowedFd<'_>, arg: &mut A) -> Result<(), Errno> {
    loop {
        // SAFETY: the argument is this ioctl's; what the ioctl does to the pages it names is what `Uffd::open` makes
        // its caller answer for.
        match unsafe { rustix::ioctl::ioctl(fd, Call(&mut *arg)) } {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(Errno::from),
        }
    }
}

fn handshake(fd: OwnedFd, features: u64) -> Result<(OwnedFd, u64), OpenFailure> {
    let mut api = UffdioApi { api: UFFD_API, features, ioctls: 0 };
    call(fd.as_fd(), &mut api).map_err(OpenFailure::Handshake)?;
    Ok((fd, api.features))
}

fn create(faults: Faults) -> Result<OwnedFd, OpenFailure> {
    use rustix::mm::UserfaultfdFlags as Flags;
    let flags = Flags::CLOEXEC | Flags::NONBLOCK;
    let flags = match faults {
        Faults::User => flags | Flags::from_bits_retain(UFFD_USER_MODE_ONLY),
        Faults::UserAndKernel => flags,
    };
    // SAFETY: a new descriptor does nothing to memory until a range is registered.
    match unsafe { rustix::mm::userfaultfd(flags) } {
        Ok(fd) => Ok(fd),
        // Permission may come from the device file instead.
        Err(errno) if faults == Faults::UserAndKernel => from_device(flags.bits()).ok_or(errno),
        Err(errno) => Err(errno),
    }
    .map_err(|errno| OpenFailure::Syscall(errno.into()))
}

fn from_device(flags: u32) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let device = rustix::fs::open("/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // SAFETY: the request takes flags by value and returns a new descriptor or -1; no memory is involved.
    let raw = unsafe { libc::ioctl(device.as_raw_fd(), libc::Ioctl::from(USERFAULTFD_IOC_NEW), flags) };
    // SAFETY: a non-negative result is a descriptor that nobody else knows.
    (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;
    use rustix::mm::{MapFlags, ProtFlags};

    /// Anonymous pages of the test's own.
    struct Pages(u64, u64);

    impl Pages {
        fn new(pages: u64) -> Self {
            let (len, prot) = (pages * page_size(), ProtFlags::READ | ProtFlags::WRITE);
            // SAFETY: a new mapping at addresses that the kernel chooses.
            let at = unsafe {
                rustix::mm::mmap_anonymous(std::ptr::null_mut(), len as usize, prot, MapFlags::PRIVATE)
            };
            Self(at.expect("memory can be mapped") as u64, len)
        }

        fn byte(&self, page: u64) -> *mut u8 {
            assert!(page * page_size() < self.1);
            (self.0 + page * page_size()) as *mut u8
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: the mapping made above, which nobody refers to any more.
            let _ = unsafe { rustix::mm::munmap(self.0 as *mut _, self.1 as usize) };
        }
    }

    /// `None`, said by the tests of the engine, where this machine has no userfaultfd.
    fn open(optional: u64) -> Option<Uffd> {
        // SAFETY: what the tests register is their own and absent, and only the test touches it, once it is filled.
        unsafe { Uffd::open(Faults::User, optional) }.ok()
    }

    #[test]
    fn the_features_in_force_are_those_asked_for() {
        let Some(uffd) = open(0) else { return };
        assert_eq!(uffd.features(), REQUIRED);
        let Some(uffd) = open(UFFD_FEATURE_PAGEFAULT_FLAG_WP) else { return };
        let offered = uffd.offers(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
        assert_eq!(uffd.features(), REQUIRED | if offered { UFFD_FEATURE_PAGEFAULT_FLAG_WP } else { 0 });
    }

    #[test]
    fn a_copy_that_meets_a_page_tells_how_far_it_came() {
        // Dropped after the descriptor: unmapping what is registered waits until somebody reads of it.
        let (to, from) = (Pages::new(8), Pages::new(8));
        let Some(uffd) = open(0) else { return };
        for page in 0..8 {
            // SAFETY: a page of the source, which is not registered.
            unsafe { from.byte(page).write(page as u8 + 1) };
        }
        uffd.register(to.0, to.1, UFFDIO_REGISTER_MODE_MISSING).expect("absent memory can be registered");
        assert_eq!(uffd.copy(to.0 + 5 * page_size(), from.0, page_size()), Ok(()));
        assert_eq!(uffd.copy(to.0, from.0, to.1), Err((5 * page_size(), Errno::EEXIST)));
        assert_eq!(uffd.copy(to.0 + 6 * page_size(), from.0 + 6 * page_size(), 2 * page_size()), Ok(()));
        // SAFETY: every page was filled above.
        let seen: Vec<u8> = (0..8).map(|page| unsafe { to.byte(page).read() }).collect();
        assert_eq!(seen, [1, 2, 3, 4, 5, 1, 7, 8]);
    }

    #[test]
    fn who_may_use_the_device_file_needs_no_system_call() {
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/userfaultfd");
        let fd = from_device(rustix::mm::UserfaultfdFlags::CLOEXEC.bits());
        assert_eq!(fd.is_some(), device.is_ok());
        if let Some(fd) = fd {
            assert!(handshake(fd, REQUIRED).is_ok());
        }
    }
}
