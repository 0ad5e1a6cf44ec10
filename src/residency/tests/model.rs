//! A kernel whose memory is known page by page, and which answers as the real one does.

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::residency::kernel::{Kernel, Listing, SwapSpace};
use crate::residency::place::Place;
use crate::uapi::pagemap_scan::*;

/// What a page of the model truly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Absent,
    System,
    Huge,
    File,
    Zero,
    Guard,
    /// Device-private, writable.
    Device,
    DeviceReadOnly,
    DeviceHuge,
    Coherent,
    /// In a swap slot only.
    Swapped,
    /// In a swap slot and still in the swap cache.
    SwapCached,
    /// A userfaultfd write-protect marker.
    Marker,
    /// On its way from one place in system memory to another.
    Migrating,
}

use Page as P;

pub(super) const DEVICE_WRITE: u64 = 28;
pub(super) const DEVICE_READ: u64 = 29;
const MIGRATION: u64 = 26;
const MARKER: u64 = 31;

impl Page {
    pub(super) fn is_swap(self) -> bool {
        matches!(self, P::Swapped | P::SwapCached)
    }

    pub(super) fn is_private_device(self) -> bool {
        matches!(self, P::Device | P::DeviceReadOnly | P::DeviceHuge)
    }

    fn is_candidate(self) -> bool {
        self.is_swap() || self.is_private_device() || matches!(self, P::Marker | P::Migrating)
    }

    fn categories(self, guard_known: bool) -> u64 {
        match self {
            P::Absent => 0,
            P::System | P::Coherent => PAGE_IS_PRESENT,
            P::Huge => PAGE_IS_PRESENT | PAGE_IS_HUGE,
            P::File => PAGE_IS_PRESENT | PAGE_IS_FILE,
            P::Zero => PAGE_IS_PRESENT | PAGE_IS_PFNZERO,
            P::Guard if guard_known => PAGE_IS_SWAPPED | PAGE_IS_GUARD,
            P::DeviceHuge => PAGE_IS_SWAPPED | PAGE_IS_HUGE,
            _ => PAGE_IS_SWAPPED,
        }
    }

    fn word(self, types: bool) -> u64 {
        let software = |kind: u64, offset: u64| 1 << 62 | if types { kind | offset << 5 } else { 0 };
        match self {
            P::Absent => 0,
            P::System | P::Huge | P::Zero | P::Coherent => (1 << 63) | (u64::from(types) * 0x5100),
            P::File => (1 << 63) | (1 << 61) | (u64::from(types) * 0x5200),
            P::Guard => software(MARKER, 4) | 1 << 58,
            P::Device | P::DeviceHuge => software(DEVICE_WRITE, 0xfcf_ffff),
            P::DeviceReadOnly => software(DEVICE_READ, 0xfcf_ffff),
            P::Swapped | P::SwapCached => software(0, 1),
            P::Marker => software(MARKER, 1) | 1 << 57,
            P::Migrating => software(MIGRATION, 0x51),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) first: u64,
    pub(super) pages: Vec<Page>,
    pub(super) shared: bool,
    pub(super) file: bool,
    pub(super) userfaultfd: bool,
    /// Slots of shared memory that `Swap:` counts besides those in the page table.
    pub(super) other_slots: u64,
    /// Scans pass over it (`VM_PFNMAP`): memory of a device.
    pub(super) special: bool,
    /// `mincore` may not tell about this file, and answers 1 for all of it.
    pub(super) mincore_denied: bool,
}

impl Mapping {
    pub(super) fn anonymous(first: u64, pages: &[Page]) -> Self {
        Self {
            first,
            pages: pages.to_vec(),
            shared: false,
            file: false,
            userfaultfd: false,
            other_slots: 0,
            special: false,
            mincore_denied: false,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.pages.len() as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Scan,
    Mapping,
    Entries,
    Mincore,
    Maps,
    Smaps,
    Nodes,
}

pub(super) type Script = Box<dyn FnMut(Call, &mut Vec<Mapping>)>;

pub(super) struct Model {
    pub(super) mappings: Vec<Mapping>,
    pub(super) swap: SwapSpace,
    /// `CAP_SYS_ADMIN`.
    pub(super) types: bool,
    pub(super) has_ioctl: bool,
    /// `PROCMAP_QUERY`.
    pub(super) has_query: bool,
    pub(super) guard_known: bool,
    /// After a whole walk, `walk_end` stays in the middle of what was reported, as when the kernel's own buffer was full there.
    pub(super) stale_walk_end: bool,
    /// Reports a page before and one behind what was asked for too, as no kernel should.
    pub(super) reports_neighbours: bool,
    /// Runs after each call and may change memory.
    pub(super) script: Option<Script>,
    pub(super) calls: Vec<Call>,
    /// Categories that scans asked for.
    pub(super) asked: Vec<u64>,
    /// Fails calls of a kind from now on.
    pub(super) fail: Option<(Call, Errno)>,
}

impl Model {
    /// A kernel of today with swap and without privilege.
    pub(super) fn new(mappings: Vec<Mapping>) -> Self {
        Self {
            mappings,
            swap: SwapSpace::Present,
            types: false,
            has_ioctl: true,
            has_query: true,
            guard_known: true,
            stale_walk_end: false,
            reports_neighbours: false,
            script: None,
            calls: Vec::new(),
            asked: Vec::new(),
            fail: None,
        }
    }

    pub(super) fn mapping(&self, page: u64) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| (mapping.first..mapping.end()).contains(&page))
    }

    pub(super) fn page(&self, page: u64) -> Page {
        self.mapping(page).map_or(P::Absent, |mapping| mapping.pages[(page - mapping.first) as usize])
    }

    /// The places that are right for a page. A truth may have several: what the kernel does not tell apart.
    pub(super) fn right(&self, page: u64) -> &'static [Place] {
        match self.page(page) {
            P::Absent => &[Place::Absent],
            P::System | P::Huge | P::File | P::Coherent => &[Place::System],
            P::Zero if self.has_ioctl => &[Place::Zero],
            P::Zero => &[Place::System],
            P::Guard if self.guard_known || !self.has_ioctl => &[Place::Guard],
            P::Guard => &[Place::Marker],
            P::Device | P::DeviceReadOnly | P::DeviceHuge => &[Place::Device],
            P::Swapped | P::SwapCached => &[Place::Swap],
            P::Marker => &[Place::Marker],
            P::Migrating => &[Place::System, Place::Ambiguous],
        }
    }

    pub(super) fn count(&self, call: Call) -> usize {
        self.calls.iter().filter(|&&made| made == call).count()
    }

    fn made(&mut self, call: Call) -> Result<(), Errno> {
        self.calls.push(call);
        if let Some(mut script) = self.script.take() {
            script(call, &mut self.mappings);
            self.script = Some(script);
        }
        match self.fail {
            Some((failing, errno)) if failing == call => Err(errno),
            _ => Ok(()),
        }
    }

    fn listing(&self, listing: Listing) -> String {
        let mut text = String::new();
        let page = page_size();
        for mapping in &self.mappings {
            let file = if mapping.file || mapping.shared { "fe:01 4711" } else { "00:00 0" };
            let path =
                if mapping.file { "/a file - with blanks: Swap: 1 kB".repeat(20) } else { String::new() };
            text += &format!(
                "{:x}-{:x} rw-{} 00000000 {file} {path}\n",
                mapping.first * page,
                mapping.end() * page,
                if mapping.shared { 's' } else { 'p' },
            );
            if listing == Listing::Smaps {
                let slots = mapping.pages.iter().filter(|page| page.is_swap()).count() as u64;
                let kib = (slots + mapping.other_slots) * page / 1024;
                let flag = if mapping.userfaultfd { "um uw " } else { "" };
                text += &format!(
                    "Size:  8 kB\nRss:  4 kB\nSwap:  {kib} kB\nSwapPss:  1 kB\nLocked:  0 kB\nVmFlags: rd wr {flag}mr \n"
                );
            }
        }
        text
    }
}

impl Kernel for Model {
    fn is_foreign(&self) -> bool {
        false
    }

    fn scan(&mut self, arg: &mut PmScanArg, regions: &mut [PageRegion]) -> Result<usize, Errno> {
        self.made(Call::Scan)?;
        assert_eq!((arg.size, arg.flags), (96, 0));
        assert_eq!(arg.category_mask, 0);
        self.asked.push(arg.category_anyof_mask);
        if !self.has_ioctl {
            return Err(Errno::ENOTTY);
        }
        if !self.guard_known && arg.return_mask & PAGE_IS_GUARD != 0 {
            return Err(Errno::EINVAL);
        }
        let size = page_size();
        let mut count = 0;
        let room = regions.len();
        let mut left = if arg.max_pages == 0 { u64::MAX } else { arg.max_pages };
        arg.walk_end = arg.end;
        let around = u64::from(self.reports_neighbours && arg.start < arg.end);
        for page in arg.start / size - around..arg.end / size + around {
            let Some(mapping) = self.mapping(page).filter(|mapping| !mapping.special) else { continue };
            let all = mapping.pages[(page - mapping.first) as usize].categories(self.guard_known);
            if (all ^ arg.category_inverted) & arg.category_anyof_mask == 0 {
                continue;
            }
            if left == 0 {
                arg.walk_end = page * size;
                break;
            }
            left -= 1;
            let categories = all & arg.return_mask;
            let (start, end) = (page * size, (page + 1) * size);
            match regions[..count].last_mut() {
                Some(last) if last.end == start && last.categories == categories => last.end = end,
                _ if count == room => {
                    arg.walk_end = start;
                    break;
                }
                _ => {
                    regions[count] = PageRegion { start, end, categories };
                    count += 1;
                }
            }
        }
        if self.stale_walk_end && count > 1 {
            arg.walk_end = regions[count / 2].start;
        }
        Ok(count)
    }

    fn mapped(&mut self, at: u64) -> Result<Option<PageRange>, Errno> {
        self.made(Call::Mapping)?;
        if !self.has_query {
            return Err(Errno::ENOTTY);
        }
        let size = page_size();
        let found = self.mappings.iter().find(|mapping| mapping.end() * size > at);
        Ok(found
            .map(|mapping| PageRange::new(mapping.first * size, mapping.pages.len() as u64 * size).unwrap()))
    }

    fn entries(&mut self, start: u64, words: &mut [u64]) -> Result<usize, Errno> {
        self.made(Call::Entries)?;
        for (word, page) in words.iter_mut().zip(start / page_size()..) {
            *word = self.page(page).word(self.types);
        }
        Ok(words.len())
    }

    fn mincore(&mut self, range: PageRange, resident: &mut [u8]) -> Result<(), Errno> {
        assert_ne!(self.swap, SwapSpace::NotBuilt, "such kernels answer wrongly");
        self.made(Call::Mincore)?;
        for (byte, page) in resident.iter_mut().zip(range.start() / page_size()..range.end() / page_size()) {
            let Some(mapping) = self.mapping(page) else { return Err(Errno::ENOMEM) };
            let answer = match self.page(page) {
                P::Marker | P::Absent | P::Guard => mapping.shared,
                P::Swapped => false,
                _ => true,
            };
            // The upper bits are reserved and mean nothing.
            *byte = u8::from(answer || mapping.mincore_denied) | 0xf0;
        }
        Ok(())
    }

    fn swap_space(&mut self) -> SwapSpace {
        self.swap
    }

    fn read(&mut self, listing: Listing, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.made(if listing == Listing::Maps { Call::Maps } else { Call::Smaps })?;
        let text = self.listing(listing);
        let rest = text.as_bytes().get(offset as usize..).unwrap_or(&[]);
        // Lines are cut wherever it happens to be.
        let read = rest.len().min(buffer.len()).min(700);
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn nodes(&mut self, pages: &[u64], nodes: &mut [i32]) -> Result<(), Errno> {
        self.made(Call::Nodes)?;
        for (&page, node) in pages.iter().zip(nodes) {
            *node = match self.page(page / page_size()) {
                P::System | P::Huge | P::File => 0,
                P::Zero => -Errno::EFAULT.raw(),
                _ => -Errno::ENOENT.raw(),
            };
        }
        Ok(())
    }

    fn has_guard_regions(&mut self) -> bool {
        true
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("mappings", &self.mappings)
            .field("swap", &self.swap)
            .field("types", &self.types)
            .field("has_ioctl", &self.has_ioctl)
            .field("guard_known", &self.guard_known)
            .finish_non_exhaustive()
    }
}

/// Whether any page of a mapping would make its candidates doubtful to the rules.
pub(super) fn is_doubtful(mapping: &Mapping) -> bool {
    mapping.userfaultfd
        || mapping.mincore_denied
        || mapping.other_slots > 0
        || mapping.pages.iter().any(|&page| matches!(page, P::SwapCached | P::Marker | P::Migrating))
        || (mapping.file && mapping.pages.iter().any(|page| page.is_swap()))
}

pub(super) fn candidates(mapping: &Mapping) -> bool {
    mapping.pages.iter().any(|page| page.is_candidate())
}
