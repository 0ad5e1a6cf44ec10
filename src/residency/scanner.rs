//! The public scanner, and the course of a scan.

use std::fmt;
use std::ops::RangeInclusive;

use super::calibration::Calibration;
use super::collect::{Collector, Wanted};
use super::kernel::Kernel;
use super::map::Residency;
use super::overlay;
use super::place::Class;
use super::procfs::Proc;
use super::resolve::{Resolver, Settled};
use super::run::join_by_place;
use super::support::Support;
use crate::error::{Error, ErrorKind, Result};
use crate::range::PageRange;

/// How closely a [`Scanner`] looks at entries that are neither present nor absent: device pages, swap slots, markers.
/// Where a range has none, every depth costs the same.
///
/// Costs are of a 2-CPU virtual machine with kernel 6.18; VRAM figures are derived from the ratio of device to system
/// pages in an emulated one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Depth {
    /// Not at all: they are [`Place::Ambiguous`](super::Place::Ambiguous), "swapped or in VRAM". A few calls of `PAGEMAP_SCAN`:
    /// 0.6 ms per GiB of 4 KiB pages (3 to 4 before kernel 6.11), under 0.1 ms per GiB of huge or absent pages.
    Cheap,
    /// Tells them apart by `mincore`, the entry types where they are visible (`CAP_SYS_ADMIN`), or the `Swap:` counts
    /// of `smaps`, and looks at pages found in VRAM a second time, because a page on its way from one place in system memory to
    /// another looks the same for that time. For 4 KiB pages in VRAM about 3 ms per GiB for `mincore` and up to 6 ms
    /// for the second look; for `smaps`, 13 ms per GiB of 4 KiB pages of *all* mappings below the end of the range, only
    /// where swap is in use and types are hidden.
    #[default]
    Exact,
    /// As [`Exact`](Self::Exact), repeated until two scans in a row agree. Where swapping goes on at the time of a scan, the
    /// counts that the rules compare are of different moments; this closes that gap. At least twice the cost.
    Settled,
}

/// Looks where pages are, again and again, without allocating.
///
/// Holds `/proc/self/pagemap` open (and `maps`, `smaps` and `/proc/swaps` once it needed them) and owns the buffers that a scan needs; a second scan of the same size into the same
/// [`Residency`] allocates nothing. No privilege is needed. Looking touches no page, and so brings none back from
/// VRAM: `PAGEMAP_SCAN`, `mincore`, `smaps` and `move_pages` without destination are all free of side effects.
///
/// The buffers may lie in the range that is scanned. They are touched before the first scan, so that they do not change
/// from absent to present under it; where the list of runs must grow, the allocator may map memory meanwhile.
///
/// After `fork`, a scanner of the parent works in the child: it notices, and opens the child's own page map.
///
/// # Examples
///
/// ```
/// use drm_pagemap::PageRange;
/// use drm_pagemap::residency::{Depth, Place, Residency, Scanner};
///
/// # fn main() -> drm_pagemap::Result<()> {
/// let data = vec![1u8; 1 << 20];
/// let mut scanner = Scanner::new()?.with_depth(Depth::Cheap);
/// let mut residency = Residency::new();
/// for _ in 0..3 {
///     scanner.scan(PageRange::inside(&data), &mut residency)?;
///     assert_eq!(residency.place_at(data.as_ptr() as u64 + 4096), Some(Place::System));
/// }
/// # Ok(())
/// # }
/// ```
pub struct Scanner {
    engine: Engine<Proc>,
}

impl Scanner {
    /// Opens this process's page map and finds out what the kernel offers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when the page map cannot be opened: the process is not dumpable (it changed its credentials,
    /// or called `prctl(PR_SET_DUMPABLE, 0)`), `/proc` is not mounted, or a sandbox forbids it. There is no other
    /// source that would not be a guess.
    pub fn new() -> Result<Self> {
        Ok(Self { engine: Engine::new(Proc::open()?)? })
    }

    /// Sets how closely entries are looked at that are neither present nor absent.
    #[must_use]
    pub fn with_depth(mut self, depth: Depth) -> Self {
        self.set_depth(depth);
        self
    }

    /// Sets how closely entries are looked at that are neither present nor absent.
    pub fn set_depth(&mut self, depth: Depth) {
        self.engine.depth = depth;
    }

    /// Uses learned entry types. They are decisive where this process may see types; elsewhere they change nothing.
    #[must_use]
    pub fn with_calibration(mut self, calibration: Calibration) -> Self {
        self.engine.resolver.device_types = calibration.types();
        self
    }

    /// Whether to ask for device-*coherent* pages (off by default): VRAM that the CPU reaches over a coherent link, so that
    /// the pages are present and look like system memory. They are found by `move_pages` without a destination, which
    /// knows no NUMA node for them, at about 60 ms per GiB of 4 KiB pages. Only worth it on machines that have such devices.
    #[must_use]
    pub fn with_coherent(mut self, coherent: bool) -> Self {
        self.engine.collector.files = coherent;
        self
    }

    /// What the running kernel tells.
    #[must_use]
    pub fn support(&self) -> Support {
        self.engine.collector.support
    }

    /// Looks where the pages of `range` are, and puts the answer `into`; what was there before is replaced.
    ///
    /// The range need not be mapped. An empty range gives an answer without runs.
    ///
    /// # Errors
    ///
    /// After an error `into` is empty.
    /// * [`ErrorKind::NotMapped`]: the range reaches beyond the user's part of the address space.
    /// * [`ErrorKind::TryAgain`]: mappings changed during each of several attempts, or with [`Depth::Settled`] no two
    ///   scans in a row agreed.
    /// * [`ErrorKind::Unsupported`]: coherent pages were asked for and the kernel lacks `move_pages`; or, in a forked child,
    ///   as for [`new`](Self::new).
    #[doc(alias = "PAGEMAP_SCAN")]
    pub fn scan(&mut self, range: PageRange, into: &mut Residency) -> Result<()> {
        if self.engine.kernel.is_foreign() {
            self.engine.kernel = Proc::open()?;
        }
        self.engine.scan(range, into)
    }

    /// How many bytes of `range` are in VRAM, from least to most: the same as [`Summary::device_bytes`] of a scan, without
    /// asking what the other pages are, which saves time where small pages in system memory and absent ones lie side by side.
    ///
    /// While an [`Overlay`](super::Overlay) is registered, or coherent pages are asked for, this is a whole scan.
    ///
    /// # Errors
    ///
    /// As [`scan`](Self::scan).
    ///
    /// [`Summary::device_bytes`]: super::Summary::device_bytes
    pub fn device_bytes(&mut self, range: PageRange) -> Result<RangeInclusive<u64>> {
        if self.engine.kernel.is_foreign() {
            self.engine.kernel = Proc::open()?;
        }
        self.engine.device_bytes(range)
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner")
            .field("depth", &self.engine.depth)
            .field("support", &self.support())
            .finish_non_exhaustive()
    }
}

/// A scanner on any kernel.
pub(super) struct Engine<K> {
    pub(super) kernel: K,
    pub(super) depth: Depth,
    pub(super) collector: Collector,
    pub(super) resolver: Resolver,
    /// The answer from which device bytes are counted.
    counted: Residency,
}

/// Scans in a row of which two must agree, and attempts while mappings change.
const ATTEMPTS: u32 = 8;
/// Looks at pages that seemed to be in VRAM and were not at the second look.
const SECOND_LOOKS: u32 = 3;

impl<K: Kernel> Engine<K> {
    pub(super) fn new(mut kernel: K) -> Result<Self> {
        let collector = Collector::new(&mut kernel)?;
        let resolver = Resolver::new(&mut kernel, collector.support);
        Ok(Self { kernel, depth: Depth::default(), collector, resolver, counted: Residency::new() })
    }

    pub(super) fn scan(&mut self, range: PageRange, into: &mut Residency) -> Result<()> {
        self.scan_for(range, Wanted::All, into)
    }

    pub(super) fn device_bytes(&mut self, range: PageRange) -> Result<RangeInclusive<u64>> {
        // Both find devices among pages that are no candidates.
        let wanted = if overlay::any() || self.collector.files { Wanted::All } else { Wanted::Candidates };
        let mut counted = std::mem::take(&mut self.counted);
        let result = self.scan_for(range, wanted, &mut counted).map(|()| counted.summary().device_bytes());
        self.counted = counted;
        result
    }

    fn scan_for(&mut self, range: PageRange, wanted: Wanted, into: &mut Residency) -> Result<()> {
        into.clear();
        let result = match self.depth {
            Depth::Cheap => self.look(range, wanted, into),
            Depth::Exact => self.exact(range, wanted, into),
            Depth::Settled => self.settled(range, wanted, into),
        };
        match result {
            Ok(()) => {
                into.range = Some(range);
                Ok(())
            }
            Err(error) => {
                into.clear();
                Err(error)
            }
        }
    }

    fn settled(&mut self, range: PageRange, wanted: Wanted, into: &mut Residency) -> Result<()> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            self.exact(range, wanted, into)?;
            let found = Some(into.fingerprint());
            if found == last {
                return Ok(());
            }
            last = found;
        }
        Err(Error::new(ErrorKind::TryAgain, "Scanner::scan")
            .over(range)
            .because("pages moved between any two scans in a row")
            .hint_is("Depth::Exact, whose answer may be stale as soon as it is given"))
    }

    fn exact(&mut self, range: PageRange, wanted: Wanted, into: &mut Residency) -> Result<()> {
        let mut looks = 0;
        for _ in 0..ATTEMPTS {
            self.look(range, wanted, into)?;
            if !into.has_class(Class::Candidate) {
                return Ok(());
            }
            let settled = self.resolver.resolve(&mut self.kernel, &mut self.collector, range, into)?;
            looks += 1;
            match settled {
                Settled::Yes => {}
                Settled::PagesMoved if looks >= SECOND_LOOKS => {}
                Settled::PagesMoved | Settled::MappingsChanged => continue,
            }
            join_by_place(&mut into.runs);
            return Ok(());
        }
        Err(Error::new(ErrorKind::TryAgain, "Scanner::scan")
            .over(range)
            .because("mappings of the range changed during every attempt"))
    }

    /// One look: everything but what candidates are.
    fn look(&mut self, range: PageRange, wanted: Wanted, into: &mut Residency) -> Result<()> {
        into.runs.clear();
        into.ambiguities.clear();
        self.collector.collect(&mut self.kernel, range, wanted, &mut into.runs)?;
        if self.collector.files {
            self.resolver.find_coherent(&mut self.kernel, range, &mut into.runs)?;
        }
        overlay::apply(range, &mut into.runs, &mut self.resolver.spare);
        if self.collector.files {
            join_by_place(&mut into.runs);
        }
        Ok(())
    }
}
