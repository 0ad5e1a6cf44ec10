//! The process's memory as the driver sees it: its mappings, and where their pages are.

use rustix::mm::Advice;

use super::cuts;
use crate::error::{Errno, Error};
use crate::pagemap::{Backing, RegionId, Space, Vma};
use crate::range::{PageRange, page_size};

/// What the driver asks of a CPU mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuVma {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// `VM_IO` or `VM_PFNMAP`: no pages of memory behind it.
    pub(super) special: bool,
    /// Private anonymous, not of hugetlbfs: what migrates.
    pub(super) anonymous: bool,
}

/// Where the pages of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// None on a device.
    System,
    /// All in one region.
    In(RegionId),
    /// Some here, some there.
    Mixed,
}

pub(super) fn errno_of(error: &Error) -> Errno {
    error.errno().unwrap_or(Errno::EFAULT)
}

/// The process's address space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu<'a>(pub(super) &'a Space);

impl Cpu<'_> {
    /// The mapping at `address`.
    pub(super) fn at(self, address: u64) -> Result<Option<CpuVma>, Errno> {
        Ok(self.at_or_after(address)?.filter(|vma| vma.start <= address))
    }

    /// The mapping at `address`, or the next one above it.
    pub(super) fn at_or_after(self, address: u64) -> Result<Option<CpuVma>, Errno> {
        let Some(vma) = self.ask(address)? else { return Ok(None) };
        let (mut start, mut end) = (vma.range.start(), vma.range.end());
        let anonymous = matches!(vma.backing, Backing::Anonymous | Backing::Stack) && !vma.shared;
        if anonymous {
            // Memory that the simulation has pages of, or watches, is cut out of its mapping. To the driver it is one still.
            while cuts::has(end) {
                let next = self.ask(end)?.filter(|next| next.range.start() == end && alike(&vma, next));
                let Some(next) = next else { break };
                end = next.range.end();
            }
            let block = start & !(crate::range::SIZE_2M - 1);
            while start > block && cuts::has(start) {
                let Some(before) = self.ask(start - page_size())? else { break };
                if before.range.end() != start || !alike(&vma, &before) {
                    break;
                }
                start = before.range.start();
            }
        }
        let special = match vma.backing {
            Backing::Special => true,
            Backing::File => is_device_mapping(vma.range.start()),
            _ => false,
        };
        Ok(Some(CpuVma { start, end, readable: vma.readable, writable: vma.writable, special, anonymous }))
    }

    fn ask(self, address: u64) -> Result<Option<Vma>, Errno> {
        self.0.vma_at_or_after(address).map_err(|error| errno_of(&error))
    }

    /// Whether something is mapped at every address of `[start, end)`.
    pub(super) fn covers(self, start: u64, end: u64) -> Result<bool, Errno> {
        let mut at = start;
        while at < end {
            match self.ask(at)?.filter(|vma| vma.range.start() <= at) {
                Some(vma) => at = vma.range.end(),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether all mappings of `[start, end)` have the marks of watched memory, which a new mapping has not.
    pub(super) fn is_watched(self, start: u64, end: u64) -> Result<bool, Errno> {
        let mut at = start;
        while at < end {
            let Some(vma) = self.ask(at)?.filter(|vma| vma.range.start() <= at) else { return Ok(false) };
            // Registered with userfaultfd: for write protection, or for missing pages.
            let flags = crate::pagemap::vm_flags(at).unwrap_or_default();
            if !flags.iter().any(|flag| flag == b"uw" || flag == b"um") {
                return Ok(false);
            }
            at = vma.range.end();
        }
        Ok(true)
    }

    pub(super) fn whereabouts(self, start: u64, end: u64) -> Result<Whereabouts, Errno> {
        let runs = self.0.placement(PageRange::from_aligned(start, end)).map_err(|error| errno_of(&error))?;
        Ok(match &runs[..] {
            [] => Whereabouts::System,
            [one] => one.region.map_or(Whereabouts::System, Whereabouts::In),
            _ => Whereabouts::Mixed,
        })
    }

    /// Whether the device pages of a range were moved there together.
    pub(super) fn is_one_allocation(self, start: u64, end: u64) -> Result<bool, Errno> {
        let window = self.0.window_at(start).map_err(|error| errno_of(&error))?;
        let all = PageRange::from_aligned(start, end);
        Ok(window.and_then(|window| window.range()).is_some_and(|window| window.contains_range(all)))
    }

    /// What of a range is on devices, and on which.
    pub(super) fn on_devices(self, start: u64, end: u64) -> Result<Vec<(PageRange, RegionId)>, Errno> {
        let runs = self.0.placement(PageRange::from_aligned(start, end)).map_err(|error| errno_of(&error))?;
        Ok(runs.into_iter().filter_map(|run| Some((run.range, run.region?))).collect())
    }

    /// Brings every page of a range back to system memory. What stays on a device after all stays there.
    pub(super) fn bring_back(self, start: u64, end: u64) {
        let _ = self.0.migrate_to_ram(PageRange::from_aligned(start, end));
    }

    /// Faults the pages of a range in that are not on a device, for writing or reading (`hmm_range_fault`).
    pub(super) fn fault_in(self, start: u64, end: u64, write: bool) -> Result<(), Errno> {
        let runs = self.0.placement(PageRange::from_aligned(start, end)).map_err(|error| errno_of(&error))?;
        runs.iter().filter(|run| run.region.is_none()).try_for_each(|run| populate(run.range, write))
    }

    /// Whether every page of a range is there already, in system memory or on a device (`drm_gpusvm_check_pages`).
    pub(super) fn all_present(self, start: u64, end: u64) -> bool {
        let Ok(runs) = self.0.placement(PageRange::from_aligned(start, end)) else { return false };
        runs.iter().all(|run| run.region.is_some() || present(run.range))
    }

    /// Whether nobody has touched any page of a range, and no device has one.
    pub(super) fn is_untouched(self, start: u64, end: u64) -> bool {
        let Ok(runs) = self.0.placement(PageRange::from_aligned(start, end)) else { return false };
        runs.iter().all(|run| run.region.is_none() && untouched(run.range))
    }
}

/// Whether no page of a range is there, in memory or swapped out.
fn untouched(range: PageRange) -> bool {
    page_entries(range).is_some_and(|entries| entries.iter().all(|entry| entry >> 62 == 0))
}

fn alike(a: &Vma, b: &Vma) -> bool {
    (a.readable, a.writable, a.executable, a.shared, a.backing)
        == (b.readable, b.writable, b.executable, b.shared, b.backing)
}

/// `VM_IO` or `VM_PFNMAP` of the mapping at `address`, as the kernel lists its flags.
fn is_device_mapping(address: u64) -> bool {
    let flags = crate::pagemap::vm_flags(address).unwrap_or_default();
    flags.iter().any(|flag| flag == b"io" || flag == b"pf")
}

fn populate(range: PageRange, write: bool) -> Result<(), Errno> {
    let advice = if write { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
    // SAFETY: the advice changes no byte and no mapping; the kernel checks the range and answers ENOMEM or EFAULT where nothing
    // can be faulted in.
    unsafe { rustix::mm::madvise(range.start() as *mut _, range.len() as usize, advice) }.map_err(|errno| {
        match Errno::from(errno) {
            // madvise says ENOMEM for a hole, where HMM says EFAULT.
            Errno::ENOMEM | Errno::EHWPOISON => Errno::EFAULT,
            // The mapping's protection is against it.
            Errno::EINVAL if write => Errno::EPERM,
            Errno::EINVAL => Errno::EFAULT,
            other => other,
        }
    })
}

/// What `/proc/self/pagemap` says of the pages of a range. Bit 63: the page is present; bit 62: it is swapped out.
fn page_entries(range: PageRange) -> Option<Vec<u64>> {
    use rustix::fs::{Mode, OFlags};
    let mut entries = vec![0u64; range.pages() as usize];
    let file =
        rustix::fs::open("/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let bytes = bytemuck::cast_slice_mut::<u64, u8>(&mut entries);
    let wanted = bytes.len();
    let read = rustix::io::pread(&file, bytes, range.start() / page_size() * 8).ok()?;
    (read == wanted).then_some(entries)
}

fn present(range: PageRange) -> bool {
    page_entries(range).is_some_and(|entries| entries.iter().all(|entry| entry >> 63 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    /// Far from where the kernel puts anything by itself, so that holes stay holes.
    const AT: u64 = 0x1300_0000_0000;

    /// Pages of the process, gone when dropped.
    struct Mapped(u64, usize);

    impl Mapped {
        fn new(first: u64, pages: u64, protection: ProtFlags) -> Self {
            let (start, bytes) = (AT + first * page_size(), (pages * page_size()) as usize);
            let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
            // SAFETY: the kernel refuses addresses where something is, so nothing existing is replaced.
            unsafe { mmap_anonymous(start as *mut _, bytes, protection, flags) }.expect("free addresses");
            Self(start, bytes)
        }
    }

    impl Drop for Mapped {
        fn drop(&mut self) {
            // SAFETY: a mapping made above, to which nothing refers.
            let _ = unsafe { munmap(self.0 as *mut _, self.1) };
        }
    }

    #[test]
    fn what_is_mapped_without_a_hole_is_covered() {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let _mapped = [Mapped::new(0, 2, both), Mapped::new(2, 1, ProtFlags::READ), Mapped::new(4, 1, both)];
        let space = Space::of_process().unwrap();
        let covers = |pages: std::ops::Range<i64>| {
            let at = |page: i64| AT.wrapping_add_signed(page * page_size() as i64);
            Cpu(&space).covers(at(pages.start), at(pages.end)).unwrap()
        };
        for whole in [0..1, 0..2, 1..2, 0..3, 1..3, 2..3, 4..5, 3..3] {
            assert!(covers(whole.clone()), "{whole:?}");
        }
        for holed in [0..4, 2..4, 3..4, 3..5, 0..5, 4..6, -1..1] {
            assert!(!covers(holed.clone()), "{holed:?}");
        }
    }
}
