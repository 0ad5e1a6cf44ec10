//! What a residency scan costs beside the ways there are to ask the kernel, for four kinds of memory, all in one run.
//!
//! `cargo bench --bench residency -- [MIB]`. Times are the fastest of many, in milliseconds per GiB; the lower
//! table has the ratios, which depend less on the machine and its load.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use drm_pagemap::PageRange;
use drm_pagemap::range::page_size;
use drm_pagemap::residency::{Depth, Residency, Scanner};
use drm_pagemap::uapi::pagemap_scan::*;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, ProtFlags};

const ROUNDS: usize = 25;
const GIB: f64 = (1u64 << 30) as f64;

/// A way to ask, and the state it keeps between questions.
type Way = (&'static str, Box<dyn FnMut(PageRange)>);

fn main() {
    let mib = std::env::args().skip(1).find_map(|word| word.parse::<u64>().ok()).unwrap_or(1024);
    let bytes = mib << 20;
    println!("{mib} MiB of each kind, fastest of {ROUNDS} rounds, ms per GiB\n");
    type Make = fn(u64) -> PageRange;
    let kinds: [(&str, Make); 4] = [
        ("absent", |bytes| memory(bytes, libc::MADV_NOHUGEPAGE, 0)),
        ("4K pages", |bytes| memory(bytes, libc::MADV_NOHUGEPAGE, 1)),
        ("huge pages", |bytes| memory(bytes, libc::MADV_HUGEPAGE, 1)),
        ("every other page", |bytes| memory(bytes, libc::MADV_NOHUGEPAGE, 2)),
    ];
    let ways = ways();
    let names: Vec<&str> = ways.iter().map(|way| way.0).collect();
    let mut table = Vec::new();
    let mut ways = ways;
    for (kind, make) in kinds {
        let range = make(bytes);
        let times = measure(&mut ways, range);
        table.push((kind, times));
        // SAFETY: the mapping was made for this measurement, and nobody refers to it.
        unsafe { rustix::mm::munmap(range.start() as *mut _, range.len() as usize) }.unwrap();
    }
    let per_gib = bytes as f64 / GIB;
    print_row("", &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    for (kind, times) in &table {
        print_row(kind, &times.iter().map(|time| format!("{:.3}", time / per_gib)).collect::<Vec<_>>());
    }
    println!("\nratio to \"scan, exact\"; the first two are what the library adds to the call\n");
    print_row("", &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    for (kind, times) in &table {
        print_row(kind, &times.iter().map(|time| format!("{:.2}", time / times[1])).collect::<Vec<_>>());
    }
}

fn print_row(title: &str, cells: &[String]) {
    print!("{title:<18}");
    cells.iter().for_each(|cell| print!("{cell:>14}"));
    println!();
}

/// The fastest round of each way, taken in turns so that all meet the same disturbances.
fn measure(ways: &mut [Way], range: PageRange) -> Vec<f64> {
    let mut fastest = vec![f64::INFINITY; ways.len()];
    for _ in 0..ROUNDS {
        for (way, fastest) in ways.iter_mut().zip(&mut fastest) {
            let start = Instant::now();
            (way.1)(range);
            *fastest = fastest.min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    fastest
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

fn ways() -> Vec<Way> {
    vec![
        ("bare ioctl", bare_ioctl()),
        ("scan, exact", scan(Depth::Exact)),
        ("scan, cheap", scan(Depth::Cheap)),
        ("device bytes", device_bytes()),
        ("pagemap", pagemap()),
        ("mincore", mincore()),
        ("smaps", smaps()),
    ]
}

fn scan(depth: Depth) -> Box<dyn FnMut(PageRange)> {
    let mut scanner = Scanner::new().unwrap().with_depth(depth);
    let mut residency = Residency::new();
    Box::new(move |range| {
        scanner.scan(range, &mut residency).unwrap();
        black_box(residency.runs().len());
    })
}

fn device_bytes() -> Box<dyn FnMut(PageRange)> {
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
fn bare_ioctl() -> Box<dyn FnMut(PageRange)> {
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
fn pagemap() -> Box<dyn FnMut(PageRange)> {
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

fn mincore() -> Box<dyn FnMut(PageRange)> {
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
fn smaps() -> Box<dyn FnMut(PageRange)> {
    let mut file = File::open("/proc/self/smaps").unwrap();
    let mut text = Vec::with_capacity(1 << 20);
    Box::new(move |_| {
        text.clear();
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        black_box(&text);
    })
}
