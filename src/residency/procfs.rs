//! The real kernel: `/proc/self` and three system calls. All unsafe code of this module is here.

use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::process::Pid;

use super::kernel::{Kernel, Listing, SwapSpace};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::procmaps::{Maps, open, read_at};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::pagemap_scan::{PageRegion, PmScanArg};

const PAGEMAP: &str = "/proc/self/pagemap";

/// Open files of this process. The page map stays that of the process that opened it, also in a forked child.
#[derive(Debug)]
pub(super) struct Proc {
    owner: Pid,
    pagemap: OwnedFd,
    maps: Option<Maps>,
    smaps: Option<OwnedFd>,
    swaps: Option<Option<OwnedFd>>,
}

impl Proc {
    pub(super) fn open() -> Result<Self> {
        let pagemap = open(PAGEMAP).map_err(|errno| {
            let error = Error::new(ErrorKind::Unsupported, "open(/proc/self/pagemap)").errno_is(errno);
            match errno {
                Errno::EACCES | Errno::EPERM => error
                    .because("this process may not read its own page map: it is not dumpable (setuid, changed credentials, PR_SET_DUMPABLE), or sandboxed")
                    .hint_is("prctl(PR_SET_DUMPABLE, 1) where that is acceptable"),
                Errno::ENOENT => error
                    .because("there is no page map: /proc is not mounted, or the kernel lacks CONFIG_PROC_PAGE_MONITOR")
                    .hint_is("mount proc on /proc"),
                _ => Error::from_errno("open(/proc/self/pagemap)", errno),
            }
        })?;
        Ok(Self { owner: rustix::process::getpid(), pagemap, maps: None, smaps: None, swaps: None })
    }
}

impl Proc {
    fn maps(&mut self) -> Result<&Maps, Errno> {
        match &mut self.maps {
            Some(maps) => Ok(maps),
            none => Ok(none.insert(Maps::open()?)),
        }
    }
}

impl Kernel for Proc {
    fn is_foreign(&self) -> bool {
        rustix::process::getpid() != self.owner
    }

    fn scan(&mut self, arg: &mut PmScanArg, regions: &mut [PageRegion]) -> Result<usize, Errno> {
        arg.vec = regions.as_mut_ptr() as u64;
        arg.vec_len = regions.len() as u64;
        let call = Scan { arg, _regions: regions };
        // SAFETY: the kernel reads and writes `arg`, and writes at most `vec_len` regions to `vec`, both of which are
        // borrowed for as long as the call runs. It only looks at the range, which need not be mapped: no flag
        // that write-protects pages is ever set.
        unsafe { rustix::ioctl::ioctl(&self.pagemap, call) }.map_err(Errno::from)
    }

    fn mapped(&mut self, at: u64) -> Result<Option<PageRange>, Errno> {
        self.maps()?.range_at_or_after(at)
    }

    fn entries(&mut self, start: u64, words: &mut [u64]) -> Result<usize, Errno> {
        let offset = start / crate::range::page_size() * 8;
        read_at(self.pagemap.as_fd(), bytemuck::cast_slice_mut(words), offset).map(|bytes| bytes / 8)
    }

    fn mincore(&mut self, range: PageRange, resident: &mut [u8]) -> Result<(), Errno> {
        assert!(resident.len() as u64 >= range.pages(), "one byte for each page");
        let start = range.start() as *mut c_void;
        for _ in 0..8 {
            // SAFETY: the kernel writes one byte for each page of the range to `resident`, which is long enough
            // (asserted), and looks at the range without touching it; the range need not be mapped.
            let result = unsafe { libc::mincore(start, range.len() as usize, resident.as_mut_ptr()) };
            match last_errno(i64::from(result)) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }

    fn swap_space(&mut self) -> SwapSpace {
        if rustix::system::sysinfo().totalswap > 0 {
            return SwapSpace::Present;
        }
        // The total is 0 as soon as `swapoff` begins, while slots are in use until it ends; the list keeps the area.
        let swaps = self.swaps.get_or_insert_with(|| open("/proc/swaps").ok());
        let Some(swaps) = swaps else { return SwapSpace::NotBuilt };
        let mut text = [0; 1024];
        match read_at(swaps.as_fd(), &mut text, 0) {
            Ok(read) => match text[..read].iter().filter(|&&byte| byte == b'\n').count() {
                0 | 1 => SwapSpace::Empty,
                _ => SwapSpace::Present,
            },
            Err(_) => SwapSpace::Present,
        }
    }

    fn read(&mut self, listing: Listing, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match listing {
            Listing::Maps => self.maps()?.read(offset, buffer),
            Listing::Smaps => {
                let smaps = match &mut self.smaps {
                    Some(smaps) => smaps,
                    none => none.insert(open(listing.path())?),
                };
                read_at(smaps.as_fd(), buffer, offset)
            }
        }
    }

    fn nodes(&mut self, pages: &[u64], nodes: &mut [i32]) -> Result<(), Errno> {
        assert!(nodes.len() >= pages.len(), "one node for each page");
        const OWN: libc::c_int = 0;
        const NO_DESTINATION: *const libc::c_int = std::ptr::null();
        // SAFETY: the kernel reads `pages.len()` addresses from `pages` and writes as many statuses to `nodes`, which is long
        // enough (asserted). Without a destination it moves nothing and does not touch the pages.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                OWN,
                pages.len(),
                pages.as_ptr(),
                NO_DESTINATION,
                nodes.as_mut_ptr(),
                0 as libc::c_int,
            )
        };
        last_errno(result)
    }

    fn has_guard_regions(&mut self) -> bool {
        const MADV_GUARD_INSTALL: libc::c_int = 102;
        // SAFETY: over an empty range the kernel only checks whether it knows the advice.
        let result = unsafe { libc::madvise(std::ptr::null_mut(), 0, MADV_GUARD_INSTALL) };
        result == 0
    }
}

fn last_errno(result: i64) -> Result<(), Errno> {
    if result >= 0 {
        return Ok(());
    }
    Err(Errno::from_raw(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

/// `PAGEMAP_SCAN` in the terms of rustix; the result is the number of regions.
struct Scan<'a> {
    arg: &'a mut PmScanArg,
    _regions: &'a mut [PageRegion],
}

// SAFETY: the request number is that of `PmScanArg` (`IoctlArg`), a pointer to which is what the call takes; the
// result of the call is a count and no pointer.
unsafe impl Ioctl for Scan<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        PmScanArg::REQUEST
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.arg).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        Ok(out as usize)
    }
}
