//! Each place a page of system memory can be in.

use std::os::fd::{AsFd, OwnedFd};

use drm_pagemap::range::page_size;
use drm_pagemap::residency::{self, Composition, Depth, Place, Residency, Scanner};
use drm_pagemap::uapi::userfaultfd::*;
use drm_pagemap::{ErrorKind, PageRange};
use rustix::mm::{MapFlags, MprotectFlags, UserfaultfdFlags};

use crate::case::Case;
use crate::memory::Memory;

const MADV_GUARD_INSTALL: i32 = 102;
const HUGE: usize = 2 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let support = Scanner::new().unwrap().support();
    let scan = "no PAGEMAP_SCAN (kernel before 6.7)";
    let guards = Memory::private(1).advise(0..1, MADV_GUARD_INSTALL).is_ok();
    let thp = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let hugetlb = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    vec![
        Case::new("written, read and untouched pages", written_read_untouched).needs(support.zero(), scan),
        Case::new("slices round outward", slices),
        Case::new("guard regions", guard)
            .needs(guards, "no MADV_GUARD_INSTALL (kernel before 6.13)")
            .needs(support.guard(), "guard regions are not reported (kernel before 6.15)"),
        Case::new("huge pages", huge)
            .needs(support.huge(), scan)
            .needs(!thp.is_empty() && !thp.contains("[never]"), "transparent huge pages are off"),
        Case::new("hugetlb pages", hugetlb_pages)
            .needs(hugetlb.trim().parse().unwrap_or(0) > 0, "no hugetlb pages (vm.nr_hugepages is 0)"),
        Case::new("files", files).needs(support.zero(), scan),
        Case::new("shared memory", shared),
        Case::new("pages without access", without_access),
        Case::new("swapped out pages", swapped).needs(swaps.lines().count() > 1, "no swap area is in use"),
        Case::new("userfaultfd markers", markers)
            .needs(userfaultfd().is_some(), "no userfaultfd that tracks writes to absent pages"),
        Case::new("addresses where nothing is", nowhere),
        Case::new("addresses of the kernel", kernel_addresses),
        Case::new("every mapping of this process", everything),
        Case::new("random contents", random).needs(support.zero(), scan),
    ]
}

/// Each page's place as a letter.
pub(crate) fn letters(residency: &Residency) -> String {
    let letter = |place| match place {
        Place::System => 's',
        Place::Zero => 'z',
        Place::Device => 'D',
        Place::Swap => 'w',
        Place::Guard => 'g',
        Place::Marker => 'm',
        Place::Absent => '.',
        Place::Ambiguous => '?',
        _ => '!',
    };
    residency.pages().map(letter).collect()
}

/// What every depth says, which is the same for memory that is in no doubt.
pub(crate) fn look(range: PageRange) -> String {
    let mut scanner = Scanner::new().unwrap();
    let mut residency = Residency::new();
    let mut answers = [Depth::Cheap, Depth::Exact, Depth::Settled].map(|depth| {
        scanner.set_depth(depth);
        scanner.scan(range, &mut residency).unwrap();
        letters(&residency)
    });
    let exact = std::mem::take(&mut answers[1]);
    assert_eq!(answers[2], exact);
    assert!(answers[0] == exact || answers[0].contains('?'), "{} is not {exact}", answers[0]);
    exact
}

fn written_read_untouched() {
    let memory = Memory::private(8);
    memory.write(0..2);
    memory.read(3..5);
    for _ in 0..2 {
        assert_eq!(look(memory.range()), "ss.zz...", "looking changes nothing");
    }
    memory.advise(0..1, libc::MADV_DONTNEED).unwrap();
    memory.write(4..5);
    assert_eq!(look(memory.range()), ".s.zs...");
    assert_eq!(look(memory.part(1..5)), "s.zs");
    assert_eq!(look(memory.part(2..2)), "");
}

fn slices() {
    let page = page_size() as usize;
    let data = vec![7u8; 8 * page];
    let offset = page - data.as_ptr() as usize % page;
    let residency = residency::of(&data[offset + 10..offset + page + 10]).unwrap();
    assert_eq!(letters(&residency), "ss");
    assert_eq!(residency.composition(), Composition::System);
    assert!(residency::of::<u64>(&[]).unwrap().runs().is_empty());
}

fn guard() {
    let memory = Memory::private(4);
    memory.write(0..3);
    memory.advise(1..3, MADV_GUARD_INSTALL).unwrap();
    assert_eq!(look(memory.range()), "sgg.");
}

fn huge() {
    let size = page_size() as usize;
    let memory = Memory::private(3 * HUGE / size);
    let first = (memory.range().start() as usize).next_multiple_of(HUGE) - memory.range().start() as usize;
    let (first, pages) = (first / size, HUGE / size);
    memory.advise(first..first + pages, libc::MADV_HUGEPAGE).unwrap();
    memory.write(first..first + 1);
    let residency = residency::of_range(memory.part(first..first + pages)).unwrap();
    // The kernel may have had no huge page to give.
    if std::fs::read_to_string("/proc/self/smaps").unwrap().lines().all(|line| !is_huge_line(line)) {
        panic!("the kernel gave no huge page; is memory short?");
    }
    assert_eq!(residency.runs().len(), 1);
    assert!(residency.runs()[0].is_huge());
    assert_eq!(residency.runs()[0].place(), Place::System);
    assert_eq!(residency.summary().huge_bytes(Place::System), HUGE as u64);

    memory.advise(first + 1..first + 2, libc::MADV_DONTNEED).unwrap();
    let residency = residency::of_range(memory.part(first..first + pages)).unwrap();
    assert_eq!(residency.summary().huge_bytes(Place::System), 0, "the huge entry was split");
    assert_eq!(residency.place_at(memory.part(first + 1..first + 2).start()), Some(Place::Absent));
}

fn is_huge_line(line: &str) -> bool {
    line.starts_with("AnonHugePages:") && line.split_whitespace().nth(1) != Some("0")
}

fn hugetlb_pages() {
    let pages = HUGE / page_size() as usize;
    let flags = MapFlags::PRIVATE | MapFlags::HUGETLB;
    let memory = Memory::anonymous(pages, flags);
    memory.write(0..1);
    let residency = residency::of_range(memory.range()).unwrap();
    assert_eq!(residency.composition(), Composition::System);
    assert!(residency.runs()[0].is_huge());
}

fn temporary_file(pages: usize) -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(pages as u64 * page_size()).unwrap();
    file.into()
}

fn files() {
    let file = temporary_file(4);
    let memory = Memory::file(file.as_fd(), 4, MapFlags::PRIVATE);
    // No reading ahead into the page table.
    memory.advise(0..4, libc::MADV_RANDOM).unwrap();
    memory.write(1..2);
    assert_eq!(look(memory.part(1..2)), "s");
    memory.read(0..1);
    assert_eq!(look(memory.part(0..2)), "ss");
    let shared = Memory::file(file.as_fd(), 4, MapFlags::SHARED);
    shared.write(3..4);
    assert_eq!(look(shared.part(3..4)), "s");
}

fn shared() {
    let memory = Memory::anonymous(4, MapFlags::SHARED);
    memory.write(1..3);
    assert_eq!(look(memory.range()), ".ss.");
    memory.advise(1..2, libc::MADV_DONTNEED).unwrap();
    assert_eq!(look(memory.range()), "..s.", "still in the page cache, not in the page table");
}

fn without_access() {
    let memory = Memory::private(3);
    memory.write(0..2);
    memory.protect(0..3, MprotectFlags::empty());
    assert_eq!(look(memory.range()), "ss.");
}

fn swapped() {
    let memory = Memory::private(64);
    memory.write(0..64);
    // Not every page goes at once.
    for _ in 0..100 {
        memory.advise(0..32, libc::MADV_PAGEOUT).unwrap();
        let residency = residency::of_range(memory.range()).unwrap();
        let (swap, doubt) =
            (residency.summary().bytes(Place::Swap), residency.summary().bytes(Place::Ambiguous));
        assert_eq!(residency.summary().bytes(Place::Device), 0);
        assert_eq!(residency.summary().device_bytes(), 0..=0);
        assert_eq!(doubt, 0, "nothing in the mapping can be on a device, and the count proves it");
        assert_eq!(look(memory.part(32..64)), "s".repeat(32));
        if swap == 32 * page_size() {
            memory.read(0..32);
            assert_eq!(look(memory.range()), "s".repeat(64));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the kernel did not swap the pages out");
}

/// A userfaultfd that can write-protect absent pages.
fn userfaultfd() -> Option<OwnedFd> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
    // SAFETY: a new descriptor.
    let fd = unsafe { rustix::mm::userfaultfd(flags) }.ok()?;
    let mut api = UffdioApi { api: UFFD_API, features: UFFD_FEATURE_WP_UNPOPULATED, ..UffdioApi::default() };
    call::<{ UFFDIO_API }, _>(&fd, &mut api).then_some(fd)
}

fn call<const REQUEST: u32, T>(fd: &OwnedFd, arg: &mut T) -> bool {
    // SAFETY: each caller names the request that takes this argument.
    unsafe { rustix::ioctl::ioctl(fd, rustix::ioctl::Updater::<REQUEST, T>::new(arg)) }.is_ok()
}

fn markers() {
    let fd = userfaultfd().unwrap();
    let memory = Memory::private(4);
    memory.write(0..1);
    let range = UffdioRange { start: memory.range().start(), len: memory.range().len() };
    let mut register = UffdioRegister { range, mode: UFFDIO_REGISTER_MODE_WP, ..UffdioRegister::default() };
    assert!(call::<{ UFFDIO_REGISTER }, _>(&fd, &mut register));
    let part = UffdioRange { start: memory.part(1..3).start(), len: 2 * page_size() };
    let mut protect = UffdioWriteprotect { range: part, mode: UFFDIO_WRITEPROTECT_MODE_WP };
    assert!(call::<{ UFFDIO_WRITEPROTECT }, _>(&fd, &mut protect));
    assert_eq!(look(memory.range()), "smm.");
    assert_eq!(residency::of_range(memory.range()).unwrap().summary().device_bytes(), 0..=0);
}

fn kernel_addresses() {
    let range = PageRange::new(1 << 63, page_size()).unwrap();
    let error = residency::of_range(range).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMapped);
    assert_eq!(error.range(), Some(range));
    assert!(error.to_string().contains("user memory"), "{error}");
}

fn nowhere() {
    // The kernel maps nothing at address 0.
    assert_eq!(look(PageRange::new(0, page_size()).unwrap()), ".");
}

fn everything() {
    // The scanner's own buffers and the answer itself are among what is looked at.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut scanner = Scanner::new().unwrap();
    let mut residency = Residency::new();
    let mut own = 0;
    for line in maps.lines().filter(|line| !line.contains("[vsyscall]")) {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let range = PageRange::new(start, end - start).unwrap();
        scanner.scan(range, &mut residency).unwrap();
        assert_eq!(residency.summary().total(), range.len());
        if let Some(place) = residency.place_at(residency.runs().as_ptr() as u64) {
            assert_eq!(place, Place::System, "the list of runs was present while it was written");
            own += 1;
        }
    }
    assert!(own >= 1, "the list of runs lies in some mapping");
}

fn random() {
    let pages = 4096;
    let memory = Memory::private(pages);
    let mut truth = vec!['.'; pages];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..6000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let page = (state >> 33) as usize % pages;
        match state >> 61 {
            0 => {
                memory.advise(page..page + 1, libc::MADV_DONTNEED).unwrap();
                truth[page] = '.';
            }
            1 | 2 => {
                memory.read(page..page + 1);
                if truth[page] == '.' {
                    truth[page] = 'z';
                }
            }
            _ => {
                memory.write(page..page + 1);
                truth[page] = 's';
            }
        }
    }
    assert_eq!(look(memory.range()), truth.into_iter().collect::<String>());
}
