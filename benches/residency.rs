//! What a residency scan costs beside the ways there are to ask the kernel, for four kinds of memory, all in one run.
//!
//! `cargo bench --bench residency -- [MIB]`. Times are processor time of the asking thread, in microseconds for all of the memory. Each round asks in every way,
//! one after another, so that all meet the same disturbances; a ratio is the median over the rounds.

#[path = "report/mod.rs"]
mod report;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use drm_pagemap::PageRange;
use drm_pagemap::range::page_size;
use drm_pagemap::residency::{Depth, Residency, Scanner};
use drm_pagemap::uapi::pagemap_scan::*;
use report::Row;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, ProtFlags};

const ROUNDS: usize = 15;

/// A way to ask, and the state it keeps between questions.
type Way = Box<dyn FnMut(PageRange)>;

const WAYS: [&str; 7] = [
    "scan",
    "device bytes",
    "bare PAGEMAP_SCAN",
    "reading pagemap",
    "mincore",
    "reading smaps",
    "cheap scan",
];
const SCAN: usize = 0;
const DEVICE_BYTES: usize = 1;
const BARE: usize = 2;
const PAGEMAP: usize = 3;
const MINCORE: usize = 4;
const SMAPS: usize = 5;

#[global_allocator]
static COUNTING: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: as the system's allocator, which does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn main() {
    let mib = std::env::args().skip(1).find_map(|word| word.parse::<u64>().ok()).unwrap_or(256);
    let bytes = mib << 20;
    println!("{mib} MiB of each kind, {ROUNDS} rounds\n");
    type Make = fn(u64) -> PageRange;
    let kinds: [(&str, Make); 4] = [
        ("absent", |bytes| memory(bytes, libc::MADV_NOHUGEPAGE, 0)),
        ("4K pages", |bytes| memory(bytes, libc::MADV_NOHUGEPAGE, 1)),
        ("huge pages", |bytes| memory(bytes, libc::MADV_HUGEPAGE, 1)),
        ("every other page", |bytes| memory(bytes, libc::MADV_NOHUGEPAGE, 2)),
    ];
    let mut ways = ways();
    for (kind, make) in kinds {
        let range = make(bytes);
        let (times, allocations) = measure(&mut ways, range);
        report(kind, &times, allocations);
        // SAFETY: the mapping was made for this measurement, and nobody refers to it.
        unsafe { rustix::mm::munmap(range.start() as *mut _, range.len() as usize) }.unwrap();
    }
}

fn report(kind: &str, times: &[Vec<f64>], allocations: u64) {
    let row = |ours: usize, theirs: usize| {
        let pairs: Vec<(f64, f64)> = times[ours].iter().copied().zip(times[theirs].iter().copied()).collect();
        (format!("{} of {kind}", WAYS[ours]), pairs)
    };
    let note = format!("a repeated scan allocates {allocations} times");
    for (ours, theirs) in
        [(SCAN, BARE), (SCAN, PAGEMAP), (SCAN, MINCORE), (SCAN, SMAPS), (DEVICE_BYTES, PAGEMAP)]
    {
        let (what, pairs) = row(ours, theirs);
        let row = Row::timed('c', &what, &pairs, WAYS[theirs]);
        let row = match (ours, theirs, kind) {
            (SCAN, BARE, _) => row.at_most(1.05).note(&note),
            (_, PAGEMAP, "4K pages") => row.at_most(0.125),
            (_, PAGEMAP, "huge pages") => row.at_most(0.05),
            _ => row,
        };
        row.print();
    }
    // What no reader of the page tables that asks for present pages can beat.
    let (_, floor) = row(BARE, PAGEMAP);
    Row::timed('c', &format!("floor: bare PAGEMAP_SCAN of {kind}"), &floor, WAYS[PAGEMAP]).print();
}

/// The time of each round of each way, in seconds, and the allocations of one scan after the first rounds.
fn measure(ways: &mut [Way], range: PageRange) -> (Vec<Vec<f64>>, u64) {
    let mut times = vec![Vec::with_capacity(ROUNDS); ways.len()];
    let mut allocations = 0;
    for round in 0..ROUNDS + 2 {
        for (index, (way, times)) in ways.iter_mut().zip(&mut times).enumerate() {
            let (before, start) = (ALLOCATIONS.load(Ordering::Relaxed), processor_seconds());
            way(range);
            let took = processor_seconds() - start;
            let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
            // The first two fill buffers and caches.
            if round >= 2 {
                times.push(took);
                if index == SCAN {
                    allocations += allocated;
                }
            }
        }
    }
    (times, allocations)
}

/// Processor time of this thread, the kernel's part included: what other programs take does not count.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Aligned memory of which every `step`-th page is written to; none if that is 0.
fn memory(bytes: u64, advice: i32, step: usize) -> PageRange {
    const HUGE: u64 = 2 << 20;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let len = (bytes + HUGE) as usize;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
    }
    .unwrap() as u64;
    let start = base.next_multiple_of(HUGE);
    for (cut, len) in [(base, start - base), (start + bytes, base + HUGE - start)] {
        if len > 0 {
            // SAFETY: the ends of the mapping that are not used.
            unsafe { rustix::mm::munmap(cut as *mut _, len as usize) }.unwrap();
        }
    }
    // SAFETY: the new mapping, to which nobody refers.
    assert_eq!(unsafe { libc::madvise(start as *mut _, bytes as usize, advice) }, 0);
    for page in (0..bytes / page_size()).step_by(step.max(1)).filter(|_| step > 0) {
        // SAFETY: within the new mapping.
        unsafe { ((start + page * page_size()) as *mut u8).write_volatile(1) };
    }
    PageRange::new(start, bytes).unwrap()
}

/// In the order of [`WAYS`].
fn ways() -> Vec<Way> {
    vec![scan(Depth::Exact), device_bytes(), bare_ioctl(), pagemap(), mincore(), smaps(), scan(Depth::Cheap)]
}

fn scan(depth: Depth) -> Way {
    let mut scanner = Scanner::new().unwrap().with_depth(depth);
    let mut residency = Residency::new();
    Box::new(move |range| {
        scanner.scan(range, &mut residency).unwrap();
        black_box(residency.runs().len());
    })
}

fn device_bytes() -> Way {
    let mut scanner = Scanner::new().unwrap();
    Box::new(move |range| {
        black_box(scanner.device_bytes(range).unwrap());
    })
}

struct Call<'a>(&'a mut PmScanArg);

// SAFETY: the request takes this struct; its result is a count.
unsafe impl Ioctl for Call<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        PAGEMAP_SCAN
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<usize> {
        Ok(out as usize)
    }
}

/// The ioctl as a C program would call it, with the answers thrown away.
fn bare_ioctl() -> Way {
    let file = File::open("/proc/self/pagemap").unwrap();
    let mut regions = vec![PageRegion { start: 1, ..PageRegion::default() }; 4096];
    let guard = Scanner::new().unwrap().support().guard();
    Box::new(move |range| {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            start: range.start(),
            end: range.end(),
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO | PAGE_IS_HUGE,
            ..PmScanArg::default()
        };
        if guard {
            arg.return_mask |= PAGE_IS_GUARD;
        }
        while arg.start < range.end() {
            // SAFETY: the kernel writes at most `vec_len` regions to `vec`, which are the closure's own.
            let count = unsafe { rustix::ioctl::ioctl(&file, Call(&mut arg)) }.unwrap();
            let last = regions[..count].last().map_or(0, |region| region.end);
            arg.start = arg.walk_end.max(last);
        }
        black_box(&regions);
    })
}

/// Every word of `/proc/self/pagemap`, looked at.
fn pagemap() -> Way {
    let file = File::open("/proc/self/pagemap").unwrap();
    let mut words = vec![1u64; (2 << 20) / 8];
    Box::new(move |range| {
        let mut present = 0;
        let mut page = range.start() / page_size();
        let end = range.end() / page_size();
        while page < end {
            let count = (end - page).min(words.len() as u64) as usize;
            file.read_exact_at(bytemuck::cast_slice_mut(&mut words[..count]), page * 8).unwrap();
            present += words[..count].iter().filter(|&&word| word >> 63 == 1).count();
            page += count as u64;
        }
        black_box(present);
    })
}

fn mincore() -> Way {
    let mut bytes = Vec::new();
    Box::new(move |range| {
        bytes.resize(range.pages() as usize, 1u8);
        // SAFETY: the kernel writes one byte for each page.
        let result =
            unsafe { libc::mincore(range.start() as *mut _, range.len() as usize, bytes.as_mut_ptr()) };
        assert_eq!(result, 0);
        black_box(&bytes);
    })
}

/// The whole file: there is no way to ask about one mapping.
fn smaps() -> Way {
    let mut file = File::open("/proc/self/smaps").unwrap();
    let mut text = Vec::with_capacity(1 << 20);
    Box::new(move |_| {
        text.clear();
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        black_box(&text);
    })
}
