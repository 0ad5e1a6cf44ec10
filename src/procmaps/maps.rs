//! The list of the running kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::Updater;

use super::entry::Entry;
use super::lines::Lines;
use crate::error::Errno;
use crate::range::PageRange;
use crate::uapi::procmap_query::*;

const MAPS: &str = "/proc/self/maps";

/// Room for the name of a mapping: the longest of a memfd fits.
pub(crate) type Name = [u8; 288];

/// A name that does not fit.
const ENAMETOOLONG: Errno = Errno::from_raw(36);
/// What stands for a name that does not fit: it is a path.
const PATH: &[u8] = b"/";

pub(crate) fn open(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(Errno::from)
}

/// Bytes of a listing at an offset; 0 at its end.
pub(crate) fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset)).map_err(Errno::from)
}

/// `/proc/self/maps`, open. It stays the list of the process that opened it, also in a forked child.
#[derive(Debug)]
pub(crate) struct Maps {
    file: OwnedFd,
    /// Whether `PROCMAP_QUERY` is there (since 6.11); otherwise the list is read as text.
    query: AtomicBool,
}

impl Maps {
    pub(crate) fn open() -> Result<Self, Errno> {
        Ok(Self { file: open(MAPS)?, query: AtomicBool::new(true) })
    }

    /// Hands the mapping that covers `at`, or else the next one above it, to `take`. `buffer` makes the room for lines of
    /// text on kernels that must be asked so.
    pub(crate) fn at_or_after<B: AsRef<[u8]> + AsMut<[u8]>, T>(
        &self,
        at: u64,
        buffer: impl FnOnce() -> Result<B, Errno>,
        take: impl FnOnce(&Entry<'_>) -> T,
    ) -> Result<Option<T>, Errno> {
        let mut name = [0; size_of::<Name>()];
        match self.ask(at, &mut name) {
            Err(Errno::ENOTTY) => {}
            answer => return answer.map(|found| found.as_ref().map(take)),
        }
        let mut lines = Lines::new(buffer()?);
        while let Some(line) = lines.next(|offset, buffer| self.read(offset, buffer))? {
            if let Some(found) = Entry::parse(line).filter(|entry| entry.range.end() > at) {
                return Ok(Some(take(&found)));
            }
        }
        Ok(None)
    }

    /// The same by `PROCMAP_QUERY` only, which costs nothing per mapping that is not asked for. `ENOTTY` where the kernel
    /// lacks it. Without room for a name none is asked for.
    pub(crate) fn ask<'n>(&self, at: u64, name: &'n mut [u8]) -> Result<Option<Entry<'n>>, Errno> {
        if !self.query.load(Ordering::Relaxed) {
            return Err(Errno::ENOTTY);
        }
        let mut arg = ProcmapQueryArg {
            size: size_of::<ProcmapQueryArg>() as u64,
            query_flags: PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
            query_addr: at,
            ..ProcmapQueryArg::default()
        };
        for _ in 0..64 {
            arg.vma_name_size = name.len() as u32;
            // Either both or none.
            arg.vma_name_addr = if name.is_empty() { 0 } else { name.as_mut_ptr() as u64 };
            match query(self.file.as_fd(), &mut arg) {
                Ok(()) => {
                    // The size counts the zero at the end, and is 0 without a name.
                    let length = (arg.vma_name_size as usize).saturating_sub(1).min(name.len());
                    return Ok(Some(Entry::of_query(&arg, &name[..length])));
                }
                Err(ENAMETOOLONG) => {
                    (arg.vma_name_size, arg.vma_name_addr) = (0, 0);
                    match query(self.file.as_fd(), &mut arg) {
                        Ok(()) => return Ok(Some(Entry::of_query(&arg, PATH))),
                        Err(Errno::EFAULT) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                // The buffer is on its way through the memory of a simulated device: touching it brings it back.
                Err(Errno::EFAULT) => name.fill(0),
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ENOTTY | Errno::EINVAL) => {
                    self.query.store(false, Ordering::Relaxed);
                    return Err(Errno::ENOTTY);
                }
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EFAULT)
    }

    /// Where the mapping is that covers `at`, or else the next one above it; by `PROCMAP_QUERY` only, `ENOTTY` where the kernel lacks it.
    pub(crate) fn range_at_or_after(&self, at: u64) -> Result<Option<PageRange>, Errno> {
        self.ask(at, &mut []).map(|found| found.map(|entry| entry.range))
    }

    /// Bytes of the text at an offset; 0 at its end.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        read_at(self.file.as_fd(), buffer, offset)
    }
}

fn query(file: BorrowedFd<'_>, arg: &mut ProcmapQueryArg) -> Result<(), Errno> {
    // SAFETY: the number and the layout belong together (checked where the struct is defined).
    let call = unsafe { Updater::<{ PROCMAP_QUERY as rustix::ioctl::Opcode }, _>::new(arg) };
    // SAFETY: the kernel writes the struct and at most `vma_name_size` bytes at `vma_name_addr`, which names a buffer of that
    // size in the caller, or nothing.
    unsafe { rustix::ioctl::ioctl(file, call) }.map_err(Errno::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Facts = (PageRange, bool, bool, bool, bool, bool, Vec<u8>);

    fn facts(entry: &Entry<'_>) -> Facts {
        let name = if entry.name.len() > 200 { PATH } else { entry.name };
        (
            entry.range,
            entry.readable,
            entry.writable,
            entry.executable,
            entry.shared,
            entry.file,
            name.to_vec(),
        )
    }

    fn at(maps: &Maps, address: u64) -> Option<Facts> {
        maps.at_or_after(address, || Ok(vec![0; 4096]), facts).unwrap()
    }

    #[test]
    fn the_query_and_the_text_agree() {
        let maps = Maps::open().unwrap();
        let text = Maps { file: open(MAPS).unwrap(), query: AtomicBool::new(false) };
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(folder.path().join("n".repeat(250)))
            .unwrap();
        file.set_len(crate::range::page_size()).unwrap();
        use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
        let length = crate::range::page_size() as usize;
        // SAFETY: a new mapping at an address of the kernel's choice, of a file nobody else has.
        let long = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &file, 0).unwrap()
        };
        let on_stack = std::ptr::from_ref(&text) as u64;
        let code = Maps::open as *const () as u64;
        let constant = std::ptr::from_ref("constant").cast::<u8>() as u64;
        for address in [on_stack, code, constant, long as u64, 0] {
            let (asked, read) = (at(&maps, address).unwrap(), at(&text, address).unwrap());
            assert_eq!(asked, read);
            assert!(address == 0 || read.0.contains(address));
        }
        assert_eq!((at(&text, u64::MAX - 1), at(&maps, u64::MAX - 1)), (None, None));
        // SAFETY: the mapping made above, which nothing refers to.
        unsafe { munmap(long, length).unwrap() };
    }
}
