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

/// So many populated pages, and the rest of their mapping is asked for what is not plain. Of fewer, asking where the mapping ends costs
/// more than the answer saves.
const MANY_PAGES: u64 = 1024;
const PAGES_OF_A_HUGE_ENTRY: u64 = 512;

/// Which entries to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All that there are.
    All,
    /// Those that are neither present nor absent. Four times as fast over small pages that are present.
    Candidates,
}

/// What is reported of a range. The kernel takes four to five times as long for a page that it reports as for one that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    /// What is present, and candidates; the rest is absent or not mapped.
    Populated,
    /// Candidates only.
    Candidates,
    /// Everything but small pages that are present with contents of their own, the most frequent kind; the rest is that, or
    /// of a mapping that scans pass over, or not mapped.
    NotPlain,
}

impl Report {
    /// Categories to turn round, and those of which one must be there then.
    const fn filter(self) -> (u64, u64) {
        match self {
            Self::Populated => (0, PAGE_IS_PRESENT | PAGE_IS_SWAPPED),
            Self::Candidates => (0, PAGE_IS_SWAPPED),
            Self::NotPlain => (PAGE_IS_PRESENT, PAGE_IS_PRESENT | PAGE_IS_PFNZERO | PAGE_IS_HUGE),
        }
    }
}

/// Appends runs that tile a range, and puts one of a fixed class wherever none is given.
struct Tiling<'o> {
    out: &'o mut Vec<Run>,
    at: u64,
    filler: Class,
    /// The first page of the first filler, and the last of the last.
    filled: Option<(u64, u64)>,
}

impl<'o> Tiling<'o> {
    fn new(out: &'o mut Vec<Run>, at: u64, filler: Class) -> Self {
        Self { out, at, filler, filled: None }
    }

    fn push(&mut self, run: Run) {
        self.fill(run.start());
        self.at = run.end();
        push_joined(self.out, run);
    }

    fn fill(&mut self, end: u64) {
        if end > self.at {
            let first = self.filled.map_or(self.at, |(first, _)| first);
            self.filled = Some((first, end - page_size()));
            push_joined(self.out, Run::new(self.at, end, self.filler, false));
            self.at = end;
        }
    }
}

/// Gathers runs, and owns the buffers that takes.
pub(super) struct Collector {
    pub(super) support: Support,
    /// Whether present pages that are not anonymous are to be told apart.
    pub(super) files: bool,
    /// [`MANY_PAGES`], where no test says otherwise.
    pub(super) many_pages: u64,
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
            many_pages: MANY_PAGES,
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
        match wanted {
            Wanted::Candidates => self.tile(kernel, range, Report::Candidates, u64::MAX, out).map(drop),
            // What is a file is asked of each page.
            Wanted::All if self.files || !self.support.pagemap_scan => {
                self.tile(kernel, range, Report::Populated, u64::MAX, out).map(drop)
            }
            Wanted::All => self.by_mapping(kernel, range, out),
        }
    }

    /// As [`Report::Populated`], and faster: where that meets many pages, the rest of their mapping is asked for what is not plain.
    fn by_mapping(&mut self, kernel: &mut impl Kernel, range: PageRange, out: &mut Vec<Run>) -> Result<()> {
        let mut at = range.start();
        let mut limit = self.many_pages;
        loop {
            let rest = PageRange::from_aligned(at, range.end());
            at = self.tile(kernel, rest, Report::Populated, limit, out)?;
            if at >= range.end() {
                return Ok(());
            }
            // The limit counts pages, and a huge entry of many pages takes no longer than that of one.
            if out.last().is_some_and(Run::is_huge) {
                limit = limit.saturating_mul(PAGES_OF_A_HUGE_ENTRY);
                continue;
            }
            let rest = PageRange::from_aligned(at, range.end());
            let mapping = match kernel.mapped(at) {
                Ok(Some(mapping)) => mapping,
                // The kernel lacks the question, or `/proc` is closed to us: all is asked as before.
                _ => {
                    limit = u64::MAX;
                    continue;
                }
            };
            let large = mapping
                .intersection(rest)
                .filter(|part| part.start() == at && part.pages() >= self.many_pages);
            match large {
                Some(part) if self.not_plain(kernel, part, out)? => {
                    at = part.end();
                    limit = self.many_pages;
                }
                // Small mappings come in numbers: the farther this goes, the less often it is asked.
                _ => limit = limit.saturating_mul(2),
            }
        }
    }

    /// Appends runs that tile `part`, which was mapped as a whole a moment ago. `false`, with nothing appended, when what
    /// was not reported is not plain: scans pass over such mappings (`VM_PFNMAP`, memory of a device), or it has changed since.
    fn not_plain(&mut self, kernel: &mut impl Kernel, part: PageRange, out: &mut Vec<Run>) -> Result<bool> {
        let (length, last) = (out.len(), out.last().copied());
        let mut tiling = Tiling::new(out, part.start(), Class::System);
        self.each_region(kernel, part, Report::NotPlain, u64::MAX, &mut |run| tiling.push(run))?;
        tiling.fill(part.end());
        let Some((first, last_page)) = tiling.filled else { return Ok(true) };
        for page in [first, last_page] {
            if !self.is_plain(kernel, page)? {
                // The last run may have been joined with the first of these.
                out.truncate(length);
                if let (Some(kept), Some(last)) = (out.last_mut(), last) {
                    *kept = last;
                }
                return Ok(false);
            }
            if first == last_page {
                break;
            }
        }
        Ok(true)
    }

    fn is_plain(&mut self, kernel: &mut impl Kernel, page: u64) -> Result<bool> {
        let mut plain = false;
        let page = PageRange::from_aligned(page, page + page_size());
        self.each_region(kernel, page, Report::Populated, u64::MAX, &mut |run| {
            plain = run.class() == Class::System
        })?;
        Ok(plain)
    }

    /// Appends runs that tile `range`, or less of it once `limit` pages were found; gives the end.
    fn tile(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        report: Report,
        limit: u64,
        out: &mut Vec<Run>,
    ) -> Result<u64> {
        let mut tiling = Tiling::new(out, range.start(), Class::Absent);
        let end = self.each(kernel, range, report, limit, &mut |run| tiling.push(run))?;
        tiling.fill(end);
        Ok(end)
    }

    /// Calls `found` for each run of candidates in `range`, in ascending order; some runs may touch each other.
    pub(super) fn candidates(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        found: &mut impl FnMut(PageRange),
    ) -> Result<()> {
        self.each(kernel, range, Report::Candidates, u64::MAX, &mut |run: Run| {
            if run.class() == Class::Candidate {
                found(run.range());
            }
        })
        .map(drop)
    }

    /// Calls `found` for what is reported of `range`, or of less of it once `limit` pages were found; gives the end.
    fn each(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        report: Report,
        limit: u64,
        found: &mut impl FnMut(Run),
    ) -> Result<u64> {
        if range.is_empty() {
            Ok(range.end())
        } else if self.support.pagemap_scan {
            self.each_region(kernel, range, report, limit, found)
        } else {
            self.each_word(kernel, range, report, found).map(|()| range.end())
        }
    }

    fn each_region(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        report: Report,
        limit: u64,
        found: &mut impl FnMut(Run),
    ) -> Result<u64> {
        let (category_inverted, category_anyof_mask) = report.filter();
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            end: range.end(),
            category_inverted,
            category_anyof_mask,
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
        let mut left = limit;
        loop {
            arg.start = reached;
            arg.max_pages = left;
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
                    left = left.saturating_sub((end - start) / page_size());
                }
            }
            reached = reached.max(arg.walk_end);
            if reached >= range.end() || left == 0 {
                return Ok(reached.min(range.end()));
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
        report: Report,
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
                let of_interest = |class: &Class| {
                    report != Report::Candidates || matches!(class, Class::Candidate | Class::Guard)
                };
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
    } else if categories & PAGE_IS_SWAPPED != 0 {
        Class::Candidate
    } else {
        Class::Absent
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

/// Asks about no page, for the youngest category first: the kernel refuses categories that it does not know.
fn probe(kernel: &mut impl Kernel) -> Result<Support> {
    for guard in [true, false] {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            return_mask: if guard { PAGE_IS_GUARD } else { PAGE_IS_PRESENT },
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
