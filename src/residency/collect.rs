//! The first look: runs from `PAGEMAP_SCAN`, or from the words of `/proc/self/pagemap` on kernels before 6.7.

use super::kernel::Kernel;
use super::place::Class;
use super::run::{Run, push_joined};
use super::support::Support;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::{PageRange, page_size};
use crate::uapi::pagemap_scan::{
    PAGE_IS_FILE, PAGE_IS_GUARD, PAGE_IS_HUGE, PAGE_IS_PFNZERO, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PageRegion,
    PmScanArg,
};

const CALL: &str = "PAGEMAP_SCAN";
const READ: &str = "pread(/proc/self/pagemap)";

/// Regions asked for at once: few at first, doubled whenever they were not enough.
const FEWEST_REGIONS: usize = 128;
const MOST_REGIONS: usize = 4096;
/// Words read at once on kernels without the ioctl.
const WORDS: usize = 4096;

/// Which entries to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All that there are.
    All,
    /// Those that are neither present nor absent. Four times as fast over small pages that are present.
    Candidates,
}

impl Wanted {
    const fn categories(self) -> u64 {
        match self {
            Self::All => PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            Self::Candidates => PAGE_IS_SWAPPED,
        }
    }
}

/// Gathers runs, and owns the buffers that takes.
pub(super) struct Collector {
    pub(super) support: Support,
    /// Whether present pages that are not anonymous are to be told apart.
    pub(super) files: bool,
    regions: Vec<PageRegion>,
    words: Vec<u64>,
}

/// An array whose every page has been written to, so that it is present from the start.
pub(super) fn touched<T: Copy>(value: T, count: usize) -> Vec<T> {
    let mut array = Vec::with_capacity(count);
    // Not `vec![0; n]`, which asks for zeroed pages and leaves them untouched.
    array.extend(std::iter::repeat_n(value, count));
    array
}

impl Collector {
    pub(super) fn new(kernel: &mut impl Kernel) -> Result<Self> {
        let support = probe(kernel)?;
        let (regions, words) = if support.pagemap_scan { (FEWEST_REGIONS, 0) } else { (0, WORDS) };
        Ok(Self {
            support,
            files: false,
            regions: touched(PageRegion::default(), regions),
            words: touched(0, words),
        })
    }

    /// Appends runs that tile `range`. Of [`Wanted::Candidates`] everything that is present appears as absent.
    pub(super) fn collect(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        wanted: Wanted,
        out: &mut Vec<Run>,
    ) -> Result<()> {
        let mut at = range.start();
        let mut append = |run: Run| {
            if run.start() > at {
                push_joined(out, Run::new(at, run.start(), Class::Absent, false));
            }
            at = run.end();
            push_joined(out, run);
        };
        self.each(kernel, range, wanted, &mut append)?;
        if at < range.end() {
            push_joined(out, Run::new(at, range.end(), Class::Absent, false));
        }
        Ok(())
    }

    /// Calls `found` for each run of candidates in `range`, in ascending order; some runs may touch each other.
    pub(super) fn candidates(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        found: &mut impl FnMut(PageRange),
    ) -> Result<()> {
        self.each(kernel, range, Wanted::Candidates, &mut |run: Run| {
            if run.class() == Class::Candidate {
                found(run.range());
            }
        })
    }

    fn each(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        wanted: Wanted,
        found: &mut impl FnMut(Run),
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        if self.support.pagemap_scan {
            self.each_region(kernel, range, wanted, found)
        } else {
            self.each_word(kernel, range, wanted, found)
        }
    }

    fn each_region(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        wanted: Wanted,
        found: &mut impl FnMut(Run),
    ) -> Result<()> {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            start: range.start(),
            end: range.end(),
            category_anyof_mask: wanted.categories(),
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO | PAGE_IS_HUGE,
            ..PmScanArg::default()
        };
        if self.support.guard {
            arg.return_mask |= PAGE_IS_GUARD;
        }
        if self.files {
            arg.return_mask |= PAGE_IS_FILE;
        }
        // What was reported so far. `walk_end` alone does not tell: where the kernel's own buffer of 512 regions ran full on the
        // way, it stays at that place although the scan went on (seen on 6.18), and going on there would report
        // pages twice.
        let mut reached = range.start();
        loop {
            arg.start = reached;
            arg.walk_end = 0;
            let count =
                kernel.scan(&mut arg, &mut self.regions).map_err(|errno| refused(CALL, errno, range))?;
            for region in self.regions.get(..count).unwrap_or(&self.regions) {
                // In order and within the range; a wrong answer must not become a wrong run.
                let (start, end) = (region.start.max(reached), region.end.min(range.end()));
                if start < end {
                    let huge = region.categories & PAGE_IS_HUGE != 0;
                    found(Run::new(start, end, class(region.categories), huge));
                    reached = end;
                }
            }
            reached = reached.max(arg.walk_end);
            if reached >= range.end() {
                return Ok(());
            }
            if reached == arg.start {
                return Err(Error::new(ErrorKind::Other, CALL)
                    .over(range)
                    .because("the kernel made no progress"));
            }
            if count == self.regions.len() && count < MOST_REGIONS {
                self.regions = touched(PageRegion::default(), 2 * count);
            }
        }
    }

    fn each_word(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        wanted: Wanted,
        found: &mut impl FnMut(Run),
    ) -> Result<()> {
        let page = page_size();
        let mut at = range.start();
        while at < range.end() {
            let asked = ((range.end() - at) / page).min(self.words.len() as u64) as usize;
            let read =
                kernel.entries(at, &mut self.words[..asked]).map_err(|errno| refused(READ, errno, range))?;
            if read == 0 {
                return Err(refused(READ, Errno::EFAULT, range));
            }
            for same in self.words[..read.min(asked)].chunk_by(|a, b| word(*a) == word(*b)) {
                let end = at + same.len() as u64 * page;
                let of_interest =
                    |class: &Class| wanted == Wanted::All || matches!(class, Class::Candidate | Class::Guard);
                if let Some(class) = word(same[0]).filter(of_interest) {
                    let class = if self.files || class != Class::File { class } else { Class::System };
                    found(Run::new(at, end, class, false));
                }
                at = end;
            }
        }
        Ok(())
    }
}

fn class(categories: u64) -> Class {
    if categories & PAGE_IS_PRESENT != 0 {
        if categories & PAGE_IS_PFNZERO != 0 {
            Class::Zero
        } else if categories & PAGE_IS_FILE != 0 {
            Class::File
        } else {
            Class::System
        }
    } else if categories & PAGE_IS_GUARD != 0 {
        Class::Guard
    } else {
        Class::Candidate
    }
}

/// A word of `/proc/self/pagemap`: bit 63 present, 62 a software entry, 61 file or shared memory, 58 guard.
fn word(word: u64) -> Option<Class> {
    let bit = |bit: u32| word >> bit & 1 == 1;
    match (bit(63), bit(62)) {
        (true, _) if bit(61) => Some(Class::File),
        (true, _) => Some(Class::System),
        (false, true) if bit(58) => Some(Class::Guard),
        (false, true) => Some(Class::Candidate),
        (false, false) => None,
    }
}

/// Asks about nothing, with each set of categories from the richest down.
fn probe(kernel: &mut impl Kernel) -> Result<Support> {
    for guard in [true, false] {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED | if guard { PAGE_IS_GUARD } else { 0 },
            ..PmScanArg::default()
        };
        match kernel.scan(&mut arg, &mut [PageRegion::default()]) {
            Ok(_) => return Ok(Support { pagemap_scan: true, guard }),
            // The ioctl is older than the category.
            Err(Errno::EINVAL) if guard => {}
            Err(Errno::ENOTTY) => return Ok(Support { pagemap_scan: false, guard: false }),
            Err(errno) => return Err(Error::from_errno(CALL, errno)),
        }
    }
    unreachable!("each answer to the second question returns")
}

#[cold]
fn refused(call: &'static str, errno: Errno, range: PageRange) -> Error {
    let error = Error::from_errno(call, errno).over(range);
    match errno {
        Errno::EFAULT => error.because("the range reaches beyond the addresses of user memory"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_page_map() {
        let of = |bits: &[u32]| word(bits.iter().fold(0, |word, bit| word | 1 << bit));
        assert!(matches!(of(&[63]), Some(Class::System)));
        assert!(matches!(of(&[63, 61]), Some(Class::File)));
        assert!(matches!(of(&[62, 58]), Some(Class::Guard)));
        assert!(matches!(of(&[62]), Some(Class::Candidate)));
        assert!(of(&[]).is_none() && of(&[61]).is_none());
    }
}
