//! The second look: what the candidates are.

use std::mem;

use super::collect::{Collector, touched};
use super::decide::{Evidence, Kind, Slots, class_of_type, decide, entry_type, share};
use super::kernel::{Kernel, Listing, SwapSpace};
use super::map::{Ambiguity, Residency};
use super::place::Class;
use super::run::{Run, push_joined};
use super::support::Support;
use super::vma::{Reader, Vma};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::{PageRange, page_size};

/// Pages looked at per `mincore` call and per read of entry types.
const PAGES_AT_ONCE: usize = 8192;
/// Pages per `move_pages` call.
const NODES_AT_ONCE: usize = 512;

/// Whether what was found still held when it was looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Yes,
    /// A page that looked like one in VRAM no longer did; it is ambiguous in the answer.
    PagesMoved,
    /// A mapping was gone; the answer is not complete.
    MappingsChanged,
}

/// How candidates are told apart in one scan.
#[derive(Clone, Copy, Debug)]
struct Method {
    swap: SwapSpace,
    /// Read the types of entries; they say what is a swap slot.
    types: bool,
}

impl Method {
    /// Some kernels without swap mistake device pages in `mincore`.
    fn asks_mincore(self) -> bool {
        self.swap != SwapSpace::NotBuilt
    }

    fn listing(self) -> Listing {
        match self.swap {
            SwapSpace::NotBuilt => Listing::Smaps,
            SwapSpace::Present if !self.types => Listing::Smaps,
            SwapSpace::Present | SwapSpace::Empty => Listing::Maps,
        }
    }

    fn slots(self, vma: &Vma) -> Slots {
        match self.swap {
            SwapSpace::NotBuilt => Slots::Impossible,
            SwapSpace::Present if !self.types => Slots::Counted(vma.swapped),
            SwapSpace::Present | SwapSpace::Empty => Slots::None,
        }
    }
}

/// Candidates by the answer of `mincore`, in pages.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    cached: u64,
    uncached: u64,
}

/// Tells candidates apart, and owns the buffers that takes.
pub(super) struct Resolver {
    /// One bit for each entry type learned to mean device-private.
    pub(super) device_types: u32,
    pub(super) spare: Vec<Run>,
    /// The kernel has guard regions that it does not report as such.
    hidden_guards: bool,
    looker: Looker,
    maps: Option<Reader>,
    smaps: Option<Reader>,
    addresses: Vec<u64>,
    nodes: Vec<i32>,
}

impl Resolver {
    pub(super) fn new(kernel: &mut impl Kernel, support: Support) -> Self {
        Self {
            device_types: 0,
            spare: Vec::new(),
            hidden_guards: support.pagemap_scan && !support.guard && kernel.has_guard_regions(),
            looker: Looker::default(),
            maps: None,
            smaps: None,
            addresses: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Replaces each candidate in `into` by what it is.
    pub(super) fn resolve(
        &mut self,
        kernel: &mut impl Kernel,
        collector: &mut Collector,
        range: PageRange,
        into: &mut Residency,
    ) -> Result<Settled> {
        self.looker.prepare();
        let first = into.runs.iter().find(|run| run.class() == Class::Candidate).map_or(0, Run::start);
        let method = self.method(kernel, first);
        self.maps.iter_mut().chain(&mut self.smaps).for_each(Reader::rewind);
        self.spare.clear();

        let mut index = 0;
        while index < into.runs.len() {
            let run = into.runs[index];
            if run.class() != Class::Candidate {
                push_joined(&mut self.spare, run);
                index += 1;
                continue;
            }
            let Some(vma) = self.vma(kernel, method, run.start())? else {
                return Ok(Settled::MappingsChanged);
            };
            // From here to the end of the mapping; a run that reaches beyond is cut there.
            let begin = self.spare.len();
            let mut inside = Count::default();
            while let Some(run) = into.runs.get(index).copied().filter(|run| run.start() < vma.range.end()) {
                let front = if run.end() > vma.range.end() {
                    into.runs[index] = run.since(vma.range.end());
                    run.until(vma.range.end())
                } else {
                    index += 1;
                    run
                };
                if front.class() != Class::Candidate {
                    push_joined(&mut self.spare, front);
                } else if !self.looker.split(
                    kernel,
                    method,
                    self.device_types,
                    front,
                    &mut self.spare,
                    &mut inside,
                )? {
                    return Ok(Settled::MappingsChanged);
                }
            }
            let Some(outside) = self.outside(kernel, collector, method, &vma, range)? else {
                return Ok(Settled::MappingsChanged);
            };
            self.judge(method, &vma, begin, inside, outside, &mut into.ambiguities);
        }
        mem::swap(&mut into.runs, &mut self.spare);
        self.look_again(kernel, collector, &mut into.runs)
    }

    /// Finds device-coherent pages among present anonymous ones.
    pub(super) fn find_coherent(
        &mut self,
        kernel: &mut impl Kernel,
        range: PageRange,
        runs: &mut Vec<Run>,
    ) -> Result<()> {
        if self.addresses.is_empty() {
            self.addresses = touched(0, NODES_AT_ONCE);
            self.nodes = touched(0, NODES_AT_ONCE);
        }
        let page = page_size();
        self.spare.clear();
        for &run in runs.iter() {
            if run.class() != Class::System {
                push_joined(&mut self.spare, run);
                continue;
            }
            // One page stands for all that one entry maps: a page table of 8-byte entries fills a page.
            let step = if run.is_huge() { page * (page / 8) } else { page };
            let mut at = run.start();
            while at < run.end() {
                let mut count = 0;
                let begin = at;
                while at < run.end() && count < NODES_AT_ONCE {
                    self.addresses[count] = at;
                    count += 1;
                    at = (at / step + 1) * step;
                }
                let end = at.min(run.end());
                kernel.nodes(&self.addresses[..count], &mut self.nodes[..count]).map_err(|errno| {
                    Error::from_errno("move_pages", errno)
                        .over(range)
                        .because("coherent device memory cannot be found without it")
                        .hint_is("Scanner::with_coherent(false) where no device has such memory")
                })?;
                for (index, &node) in self.nodes[..count].iter().enumerate() {
                    let start = self.addresses[index].max(begin);
                    let end = self.addresses[..count].get(index + 1).copied().unwrap_or(end);
                    let class = if node == -Errno::ENOENT.raw() { Class::Coherent } else { Class::System };
                    push_joined(&mut self.spare, Run::new(start, end, class, run.is_huge()));
                }
            }
        }
        mem::swap(runs, &mut self.spare);
        Ok(())
    }

    fn method(&mut self, kernel: &mut impl Kernel, candidate: u64) -> Method {
        let swap = kernel.swap_space();
        let wanted = swap == SwapSpace::Present || self.device_types != 0;
        let types = wanted && self.looker.types_visible(kernel, candidate);
        Method { swap, types }
    }

    fn vma(&mut self, kernel: &mut impl Kernel, method: Method, addr: u64) -> Result<Option<Vma>> {
        let mut read = |listing: Listing, reader: &mut Option<Reader>| {
            reader
                .get_or_insert_with(|| Reader::new(listing))
                .containing(kernel, addr)
                .map_err(|errno| Error::from_errno(listing.path(), errno))
        };
        if method.listing() == Listing::Smaps {
            return read(Listing::Smaps, &mut self.smaps);
        }
        match read(Listing::Maps, &mut self.maps)? {
            // Whether it is hugetlb or registered with userfaultfd only `smaps` tells.
            Some(vma) if vma.kind == Kind::PrivateFile => read(Listing::Smaps, &mut self.smaps),
            vma => Ok(vma),
        }
    }

    /// Counts the candidates of a mapping that lie outside of the range, where the rules need them.
    fn outside(
        &mut self,
        kernel: &mut impl Kernel,
        collector: &mut Collector,
        method: Method,
        vma: &Vma,
        range: PageRange,
    ) -> Result<Option<Count>> {
        let mut count = Count::default();
        let markers = vma.userfaultfd || self.hidden_guards;
        let needed = markers || matches!(method.slots(vma), Slots::Counted(1..));
        if !needed || vma.kind == Kind::Fixed {
            return Ok(Some(count));
        }
        let (below, above) = vma.range.without(range);
        for part in [below, above] {
            // Collected first, because looking at them needs the kernel as well.
            let begin = self.spare.len();
            let spare = &mut self.spare;
            collector.candidates(kernel, part, &mut |found| {
                spare.push(Run::new(found.start(), found.end(), Class::Candidate, false));
            })?;
            for index in begin..self.spare.len() {
                if !self.looker.count(kernel, method, self.spare[index].range(), &mut count)? {
                    return Ok(None);
                }
            }
            self.spare.truncate(begin);
        }
        Ok(Some(count))
    }

    /// Gives the candidates of one mapping, which begin at `begin` in the spare list, their verdict.
    fn judge(
        &mut self,
        method: Method,
        vma: &Vma,
        begin: usize,
        inside: Count,
        outside: Count,
        ambiguities: &mut Vec<Ambiguity>,
    ) {
        let verdict = decide(&Evidence {
            kind: vma.kind,
            markers: vma.userfaultfd || self.hidden_guards,
            slots: method.slots(vma),
            cached: inside.cached + outside.cached,
            uncached: inside.uncached + outside.uncached,
        });
        let mut ambiguous = 0;
        for run in &mut self.spare[begin..] {
            *run = match run.class() {
                Class::Cached => run.with(verdict.cached),
                Class::Uncached => run.with(verdict.uncached),
                _ => continue,
            };
            if run.class() == Class::Ambiguous {
                ambiguous += run.len();
            }
        }
        if ambiguous > 0 {
            let page = page_size();
            let share = share(verdict.device, inside.cached, outside.cached);
            ambiguities.push(Ambiguity {
                vma: vma.range,
                ambiguous,
                in_vma: (verdict.device.0 * page, verdict.device.1 * page),
                in_range: (share.0 * page, share.1 * page),
            });
        }
    }

    /// Looks once more at what seems to be in VRAM: a migration within system memory looks the same while it lasts.
    /// Pages that are no candidates any more become ambiguous.
    fn look_again(
        &mut self,
        kernel: &mut impl Kernel,
        collector: &mut Collector,
        runs: &mut Vec<Run>,
    ) -> Result<Settled> {
        let transient = runs.iter().any(|run| run.class() == Class::Transient);
        let is_device = |run: &&Run| run.class() == Class::Device;
        let (Some(first), Some(last)) = (runs.iter().find(is_device), runs.iter().rfind(is_device)) else {
            return Ok(if transient { Settled::PagesMoved } else { Settled::Yes });
        };
        let hull = PageRange::from_aligned(first.start(), last.end());

        self.spare.clear();
        let spare = &mut self.spare;
        let mut moved = false;
        let mut rest = runs.iter().copied();
        let mut current = rest.next();
        // Passes everything below `to` on, device pages as `class`.
        let mut pass = |to: u64, still: bool| {
            while let Some(run) = current.filter(|run| run.start() < to) {
                let (front, back) =
                    if run.end() > to { (run.until(to), Some(run.since(to))) } else { (run, None) };
                if front.class() == Class::Device && !still {
                    moved = true;
                    push_joined(spare, front.with(Class::Ambiguous));
                } else {
                    push_joined(spare, front);
                }
                current = back.or_else(|| rest.next());
            }
        };
        collector.candidates(kernel, hull, &mut |found| {
            pass(found.start(), false);
            pass(found.end(), true);
        })?;
        pass(u64::MAX, false);
        mem::swap(runs, &mut self.spare);
        Ok(if moved || transient { Settled::PagesMoved } else { Settled::Yes })
    }
}

/// Asks about single pages.
#[derive(Default)]
struct Looker {
    resident: Vec<u8>,
    words: Vec<u64>,
    visible: Option<bool>,
}

impl Looker {
    fn prepare(&mut self) {
        if self.resident.is_empty() {
            self.resident = touched(0, PAGES_AT_ONCE);
            self.words = touched(0, PAGES_AT_ONCE);
        }
    }

    /// Whether the kernel shows entry types to this process. What it showed once it shows always: the privilege is that
    /// of the time at which the file was opened.
    fn types_visible(&mut self, kernel: &mut impl Kernel, candidate: u64) -> bool {
        if let Some(visible) = self.visible {
            return visible;
        }
        let mut word = [0];
        let is_candidate = matches!(kernel.entries(candidate, &mut word), Ok(1)) && word[0] >> 62 == 1;
        if is_candidate {
            self.visible = Some(entry_type(word[0]).is_some());
        }
        self.visible == Some(true)
    }

    /// Splits a run of candidates by what can be seen of each page. `false` when it is no longer mapped.
    fn split(
        &mut self,
        kernel: &mut impl Kernel,
        method: Method,
        device_types: u32,
        run: Run,
        out: &mut Vec<Run>,
        count: &mut Count,
    ) -> Result<bool> {
        let page = page_size();
        let mut at = run.start();
        while at < run.end() {
            let chunk = chunk_at(at, run.end());
            if !self.ask(kernel, method, chunk)? {
                return Ok(false);
            }
            let pages = chunk.pages() as usize;
            let mut index = 0;
            while index < pages {
                let class = self.class_at(index, method, device_types);
                let same = (index..pages).take_while(|&other| {
                    other == index || self.class_at(other, method, device_types) == class
                });
                let end = index + same.count();
                match class {
                    Class::Cached => count.cached += (end - index) as u64,
                    Class::Uncached => count.uncached += (end - index) as u64,
                    _ => {}
                }
                let (start, end_at) = (at + index as u64 * page, at + end as u64 * page);
                push_joined(out, Run::new(start, end_at, class, run.is_huge()));
                index = end;
            }
            at = chunk.end();
        }
        Ok(true)
    }

    /// Counts candidates by the answer of `mincore`. `false` when they are no longer mapped.
    fn count(
        &mut self,
        kernel: &mut impl Kernel,
        method: Method,
        range: PageRange,
        count: &mut Count,
    ) -> Result<bool> {
        let method = Method { types: false, ..method };
        let mut at = range.start();
        while at < range.end() {
            let chunk = chunk_at(at, range.end());
            if !self.ask(kernel, method, chunk)? {
                return Ok(false);
            }
            let cached =
                self.resident[..chunk.pages() as usize].iter().filter(|&&byte| byte & 1 == 1).count();
            count.cached += cached as u64;
            count.uncached += chunk.pages() - cached as u64;
            at = chunk.end();
        }
        Ok(true)
    }

    fn ask(&mut self, kernel: &mut impl Kernel, method: Method, chunk: PageRange) -> Result<bool> {
        let pages = chunk.pages() as usize;
        if !method.asks_mincore() {
            self.resident[..pages].fill(1);
        } else {
            match kernel.mincore(chunk, &mut self.resident[..pages]) {
                Ok(()) => {}
                Err(Errno::ENOMEM) => return Ok(false),
                Err(errno) => return Err(Error::from_errno("mincore", errno).over(chunk)),
            }
        }
        if method.types {
            match kernel.entries(chunk.start(), &mut self.words[..pages]) {
                Ok(read) if read == pages => {}
                Ok(_) => {
                    return Err(Error::new(ErrorKind::Other, "pread(/proc/self/pagemap)")
                        .over(chunk)
                        .because("the kernel gave fewer words than there are pages"));
                }
                Err(errno) => return Err(Error::from_errno("pread(/proc/self/pagemap)", errno).over(chunk)),
            }
        }
        Ok(true)
    }

    fn class_at(&self, index: usize, method: Method, device_types: u32) -> Class {
        let by_mincore = if self.resident[index] & 1 == 1 { Class::Cached } else { Class::Uncached };
        if !method.types {
            return by_mincore;
        }
        let word = self.words[index];
        if word >> 62 != 1 {
            // Present or absent by now.
            return Class::Transient;
        }
        entry_type(word).and_then(|kind| class_of_type(kind, device_types)).unwrap_or(by_mincore)
    }
}

fn chunk_at(at: u64, end: u64) -> PageRange {
    PageRange::from_aligned(at, end.min(at.saturating_add(PAGES_AT_ONCE as u64 * page_size())))
}
