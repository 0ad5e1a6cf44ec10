//! Pages really move: where they are, what comes back, and what the log says of it.

use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::range::SIZE_2M;
use crate::residency::{self, Place};

const OTHER: u32 = 0x1111;

fn config(change: impl Fn(&mut KfdConfig)) -> KfdConfig {
    let second = GpuConfig { device: 1, render_minor: 129, ..GpuConfig::mi200(OTHER, 1 << 30) };
    let mut config = KfdConfig::with_gpus(vec![GpuConfig::mi200(GPU, 1 << 30), second]);
    change(&mut config);
    config
}

fn in_hive() -> KfdConfig {
    config(|config| config.gpus.iter_mut().for_each(|gpu| gpu.hive_id = 7))
}

fn filled(pages: u64) -> Buffer<u8> {
    let mut buffer = memory(pages);
    for (index, byte) in buffer.iter_mut().enumerate() {
        *byte = (index / 7) as u8;
    }
    buffer
}

fn is_intact(buffer: &Buffer<u8>) -> bool {
    buffer.iter().enumerate().all(|(index, &byte)| byte == (index / 7) as u8)
}

/// The log of a GPU, every event, as lines without time and process.
pub(super) struct Log(std::fs::File);

impl Log {
    pub(super) fn of(bench: &Bench, gpu: u32) -> Self {
        let mut arg = abi::SmiEvents { gpuid: gpu, anon_fd: 0 };
        bench.call(&mut arg).unwrap();
        // SAFETY: the descriptor was made for us just now.
        let file = unsafe { std::fs::File::from_raw_fd(arg.anon_fd as i32) };
        std::io::Write::write_all(&mut &file, &0x1fffu64.to_ne_bytes()).unwrap();
        Self(file)
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut bytes = vec![0; 8192];
        match std::io::Read::read(&mut &self.0, &mut bytes) {
            Ok(len) => bytes.truncate(len),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Vec::new(),
            Err(error) => panic!("{error}"),
        }
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let rest = words.iter().skip(3).copied();
                std::iter::once(words[0]).chain(rest).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// Waits for a line that starts like this.
    fn wait_for(&self, start: &str) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..10_000 {
            all.extend(self.lines());
            if all.iter().any(|line| line.starts_with(start)) {
                return all;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("no {start:?} in {all:?}");
    }
}

pub(super) fn at(range: PageRange) -> String {
    format!("@{:x}({:x})", range.start() / page_size(), range.pages())
}

impl Bench {
    pub(super) fn in_vram(&self, range: PageRange) -> u64 {
        self.kfd.shared.memory.in_vram(range).iter().map(PageRange::pages).sum()
    }

    fn xnack(&self, on: bool) {
        self.call(&mut abi::SetXnackMode { xnack_enabled: on.into() }).unwrap();
    }
}

#[test]
fn a_prefetch_takes_pages_away_and_a_touch_brings_a_block_back() {
    let (bench, buffer) = (Bench::new(), filled(64));
    bench.xnack(true);
    let log = Log::of(&bench, GPU);
    bench.set(buffer.range(), &[(GRANULARITY, 3), (PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 64);
    let gone = |range| residency::of_range(range).unwrap().summary().bytes(Place::Device) / page_size();
    assert_eq!(gone(buffer.range()), 64, "as anyone can see");
    let range = at(buffer.range());
    assert_eq!(log.lines(), [format!("5 {range} 0->4a3f 4a3f:ffffffff 0"), format!("6 {range} 0->4a3f 0 0")]);

    assert_eq!(buffer[20 * page_size() as usize], (20 * page_size() / 7) as u8);
    assert_eq!(gone(buffer.range()), 56);
    bench.get(buffer.range(), &[]).unwrap();
    let block = at(pages(&buffer, 16, 24));
    let expected = [
        format!("5 {block} 4a3f->0 4a3f:ffffffff 2"),
        format!("b {block} 4a3f 1"),
        format!("6 {block} 4a3f->0 2 0"),
    ];
    assert_eq!(log.lines(), expected);
    assert!(is_intact(&buffer));
    bench.get(buffer.range(), &[]).unwrap();
    assert_eq!(bench.kfd.primary.lock().ranges.iter().next().unwrap().actual, 0);
    assert_eq!(bench.get_one(buffer.range(), PREFETCH), GPU, "the wish is remembered");
}

#[test]
fn touches_are_logged_without_another_call() {
    let (bench, buffer) = (Bench::new(), filled(4));
    bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
    let log = Log::of(&bench, GPU);
    // Something must look at the log once for its mask to be seen, as in any program that migrates after opening it.
    bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
    assert!(is_intact(&buffer));
    log.wait_for(&format!("6 {} 4a3f->0 2", at(buffer.range())));
}

#[test]
fn absent_pages_become_zeroed_vram() {
    let (bench, buffer) = (Bench::new(), memory(16));
    bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 16);
    assert!(buffer.iter().all(|&byte| byte == 0));
}

#[test]
fn without_xnack_a_migration_stops_queues_until_mappings_are_restored() {
    let (bench, buffer) = (Bench::new(), filled(8));
    let log = Log::of(&bench, GPU);
    bench.set(buffer.range(), &[(ACCESS, GPU)]).unwrap();
    assert_eq!(log.lines(), [""; 0], "mapping tells nobody");
    bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
    let lines = log.wait_for("a ");
    let range = at(buffer.range());
    let expected = [
        format!("5 {range} 0->4a3f 4a3f:ffffffff 0"),
        "9 4a3f 0".into(),
        format!("6 {range} 0->4a3f 0 0"),
        "a 4a3f 0".into(),
    ];
    assert_eq!(lines, expected);
    assert_eq!(bench.in_vram(buffer.range()), 8, "restored where the pages are");
    assert!(is_intact(&buffer));
    bench.get(buffer.range(), &[]).unwrap();
    let lines = log.wait_for("a ");
    assert_eq!(lines[1], "9 4a3f 0");
}

#[test]
fn granting_access_without_xnack_populates_and_with_xnack_does_not() {
    let bench = Bench::new();
    let present = |buffer: &Buffer<u8>| {
        residency::of_range(buffer.range()).unwrap().summary().bytes(Place::System) / page_size()
    };
    let buffer = memory(16);
    bench.set(buffer.range(), &[(PREFERRED, GPU), (GRANULARITY, 2)]).unwrap();
    assert_eq!(present(&buffer), 0);
    bench.set(buffer.range(), &[(ACCESS, GPU)]).unwrap();
    assert_eq!(present(&buffer), 16);
    bench.xnack(true);
    let buffer = memory(16);
    bench.set(buffer.range(), &[(ACCESS, GPU), (SET_FLAGS, 0)]).unwrap();
    assert_eq!(present(&buffer), 0);
    bench.set(buffer.range(), &[(SET_FLAGS, abi::KFD_IOCTL_SVM_FLAG_GPU_ALWAYS_MAPPED)]).unwrap();
    assert_eq!(present(&buffer), 16, "always mapped is as without");
    let buffer = memory(16);
    bench.set(buffer.range(), &[(IN_PLACE, GPU), (SET_FLAGS, 0)]).unwrap();
    assert_eq!(present(&buffer), 16, "in place is mapped at once");
}

#[test]
fn two_gpus_without_a_hive_keep_what_both_use_in_system_memory() {
    let buffer = filled(8);
    for (config, expected) in [(config(|_| ()), 0), (in_hive(), 8)] {
        let bench = Bench::with(config);
        bench.set(buffer.range(), &[(ACCESS, GPU), (ACCESS, OTHER), (PREFETCH, GPU)]).unwrap();
        assert_eq!(bench.in_vram(buffer.range()), expected);
        assert_eq!(bench.get_one(buffer.range(), PREFETCH), GPU);
        bench.set(buffer.range(), &[(PREFETCH, 0)]).unwrap();
        assert_eq!(bench.in_vram(buffer.range()), 0);
    }
    assert!(is_intact(&buffer));
    let bench = Bench::with(config(|_| ()));
    bench.xnack(true);
    bench.set(buffer.range(), &[(ACCESS, GPU), (ACCESS, OTHER), (PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 8, "with XNACK only access in place counts");
    bench.set(buffer.range(), &[(IN_PLACE, OTHER), (PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 0);
}

#[test]
fn from_one_gpu_to_another_goes_through_system_memory() {
    let (bench, buffer) = (Bench::with(config(|_| ())), filled(8));
    let (first, second) = (Log::of(&bench, GPU), Log::of(&bench, OTHER));
    bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
    first.lines();
    bench.set(buffer.range(), &[(PREFETCH, OTHER)]).unwrap();
    let range = at(buffer.range());
    assert_eq!(
        first.lines(),
        [format!("5 {range} 4a3f->0 1111:ffffffff 0"), format!("6 {range} 4a3f->0 0 0")]
    );
    assert_eq!(
        second.lines(),
        [format!("5 {range} 0->1111 1111:ffffffff 0"), format!("6 {range} 0->1111 0 0")]
    );
    assert_eq!(bench.in_vram(buffer.range()), 8);
    assert!(is_intact(&buffer));
}

#[test]
fn an_apu_that_prefers_system_memory_moves_nothing_and_says_nothing() {
    let apu = config(|config| config.gpus[0].prefers_system_memory = true);
    let older = config(|config| {
        config.gpus[0].apu = true;
        config.kernel = Kernel::V6_18;
    });
    let newer = config(|config| config.gpus[0].apu = true);
    let buffer = filled(4);
    for (config, moved) in [(apu, 0), (older, 0), (newer, 4)] {
        let bench = Bench::with(config);
        bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
        assert_eq!(bench.in_vram(buffer.range()), moved);
        assert_eq!(bench.get_one(buffer.range(), PREFETCH), GPU);
    }
}

#[test]
fn full_vram_evicts_what_was_there_longest() {
    let bench = Bench::with(config(|config| config.gpus[0].vram = 64 << 20));
    let log = Log::of(&bench, GPU);
    let mib = (1 << 20) / page_size();
    let buffers: Vec<_> = (0..4).map(|_| filled(24 * mib)).collect();
    for buffer in &buffers {
        bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
    }
    assert_eq!(bench.in_vram(buffers[0].range()), 0);
    assert_eq!(bench.in_vram(buffers[3].range()), 24 * mib);
    let lines = log.lines();
    assert!(
        lines.iter().any(|line| line.starts_with("5 ") && line.ends_with("4a3f->0 4a3f:ffffffff 3")),
        "{lines:?}"
    );
    for buffer in &buffers {
        assert_eq!(bench.get_one(buffer.range(), PREFETCH), GPU);
        assert!(is_intact(buffer));
    }
}

#[test]
fn what_was_asked_for_again_is_not_evicted_first() {
    let bench = Bench::with(config(|config| config.gpus[0].vram = 64 << 20));
    let mib = (1 << 20) / page_size();
    let buffers: Vec<_> = (0..3).map(|_| filled(24 * mib)).collect();
    let prefetch = |index: usize| bench.set(buffers[index].range(), &[(PREFETCH, GPU)]).unwrap();
    [0, 1, 0, 2].into_iter().for_each(prefetch);
    let there = |index: usize| bench.in_vram(buffers[index].range());
    // Ranges are of 2 MiB here, and no more leave than must.
    assert_eq!([0, 1, 2].map(there), [24 * mib, 16 * mib, 24 * mib]);
}

#[test]
fn a_range_larger_than_vram_stays_and_nobody_is_told() {
    let bench = Bench::with(config(|config| {
        config.gpus[0].vram = 64 << 20;
        config.gpus[0].reserved = 63 << 20;
    }));
    let buffer = filled(1024);
    bench.set(buffer.range(), &[(PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 0);
}

#[test]
fn no_access_unmaps_and_skips_a_prefetch_of_the_same_call() {
    for (kernel, unmaps) in [(Kernel::V7_3, true), (Kernel::V6_18, false)] {
        let (bench, buffer) = (Bench::with(config(|config| config.kernel = kernel)), filled(4));
        let log = Log::of(&bench, GPU);
        bench.set(buffer.range(), &[(ACCESS, GPU)]).unwrap();
        bench.set(buffer.range(), &[(NO_ACCESS, GPU), (PREFETCH, GPU)]).unwrap();
        assert_eq!(bench.access(buffer.range(), GPU), NO_ACCESS);
        let unmapped = format!("b {} 4a3f 2", at(buffer.range()));
        assert_eq!(log.lines().contains(&unmapped), unmaps);
        assert_eq!(bench.in_vram(buffer.range()) == 0, unmaps);
    }
}

/// Private anonymous memory that the test unmaps itself.
pub(super) struct Raw(pub(super) PageRange);

impl Raw {
    /// Far from where the kernel puts anything by itself, so that holes stay holes: a worker's stack would fit into one.
    pub(super) fn new(pages: u64) -> Self {
        static FREE: AtomicU64 = AtomicU64::new(0x1100_0000_0000);
        let room = (pages * page_size()).next_multiple_of(SIZE_2M) + SIZE_2M;
        let at = FREE.fetch_add(room, Ordering::Relaxed);
        let flags = rustix::mm::MapFlags::PRIVATE | rustix::mm::MapFlags::FIXED_NOREPLACE;
        // SAFETY: nothing that is mapped is replaced.
        let start = unsafe { map(at as *mut _, pages * page_size(), flags) };
        Self(PageRange::new(start, pages * page_size()).unwrap())
    }

    pub(super) fn part(&self, start: u64, end: u64) -> PageRange {
        PageRange::new(self.0.start() + start * page_size(), (end - start) * page_size()).unwrap()
    }

    pub(super) fn unmap(&self, start: u64, end: u64) {
        let part = self.part(start, end);
        // SAFETY: the mapping is the test's own and nothing refers to it.
        unsafe { rustix::mm::munmap(part.start() as *mut _, part.len() as usize) }.unwrap();
    }

    pub(super) fn map_again(&self, start: u64, end: u64) {
        let part = self.part(start, end);
        let flags = rustix::mm::MapFlags::PRIVATE | rustix::mm::MapFlags::FIXED;
        // SAFETY: the addresses were unmapped by the test, or are its own.
        unsafe { map(part.start() as *mut _, part.len(), flags) };
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.unmap(0, self.0.pages());
    }
}

/// # Safety
///
/// With `FIXED`, the addresses must be the caller's.
unsafe fn map(at: *mut std::ffi::c_void, len: u64, flags: rustix::mm::MapFlags) -> u64 {
    use rustix::mm::ProtFlags;
    // SAFETY: as promised.
    let start =
        unsafe { rustix::mm::mmap_anonymous(at, len as usize, ProtFlags::READ | ProtFlags::WRITE, flags) };
    start.unwrap() as u64
}

#[test]
fn unmapping_takes_attributes_away_and_cuts_ranges() {
    let (bench, raw) = (Bench::new(), Raw::new(9));
    bench.set(raw.0, &[(GRANULARITY, 4), (ACCESS, GPU)]).unwrap();
    let log = Log::of(&bench, GPU);
    raw.unmap(3, 5);
    assert_eq!(bench.get(raw.0, &[]), Err(Errno::EFAULT));
    assert_eq!(bench.ranges(), [raw.part(0, 3), raw.part(5, 9)]);
    assert_eq!(log.lines(), [format!("b {} 4a3f 2", at(raw.part(3, 5)))]);
    raw.map_again(3, 5);
    assert_eq!(bench.get_one(raw.part(3, 5), GRANULARITY), 9);
    assert_eq!(bench.access(raw.part(3, 5), GPU), NO_ACCESS);
    assert_eq!(bench.get_one(raw.part(0, 3), GRANULARITY), 4);
    assert_eq!(bench.access(raw.0, GPU), ACCESS, "what is not registered does not count");
}

#[test]
fn mapping_over_a_range_in_vram_gives_defaults_and_zeroes() {
    let (bench, raw) = (Bench::new(), Raw::new(8));
    // SAFETY: the memory is the test's own.
    unsafe { std::ptr::write_bytes(raw.0.start() as *mut u8, 7, raw.0.len() as usize) };
    bench.set(raw.0, &[(PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(raw.0), 8);
    raw.map_again(0, 8);
    assert_eq!(bench.get_one(raw.0, PREFETCH), UNDEF);
    assert_eq!(bench.in_vram(raw.0), 0);
    // SAFETY: as above.
    assert_eq!(unsafe { (raw.0.start() as *const u8).read_volatile() }, 0);
    assert_eq!(bench.kfd.primary.lock().vram.used(0), 0, "its VRAM is free again");
}

#[test]
fn unmapped_memory_no_longer_counts_against_the_limit() {
    let (bench, raw) =
        (Bench::with(config(|config| config.system_memory_limit = Some(8 * page_size()))), Raw::new(8));
    bench.set(raw.0, &[]).unwrap();
    let other = memory(4);
    assert_eq!(bench.set(other.range(), &[]), Err(Errno::ENOMEM));
    raw.unmap(0, 4);
    bench.set(other.range(), &[]).unwrap();
}

#[test]
fn discarded_memory_keeps_its_attributes() {
    let (bench, buffer) = (Bench::new(), filled(8));
    bench.xnack(true);
    bench.set(buffer.range(), &[(IN_PLACE, GPU), (GRANULARITY, 2), (SET_FLAGS, 0)]).unwrap();
    let log = Log::of(&bench, GPU);
    let part = pages(&buffer, 2, 4);
    // SAFETY: discards the test's own bytes, to which no reference exists at this moment.
    unsafe {
        rustix::mm::madvise(part.start() as *mut _, part.len() as usize, rustix::mm::Advice::LinuxDontNeed)
    }
    .unwrap();
    assert_eq!(bench.get_one(buffer.range(), GRANULARITY), 2);
    assert_eq!(log.wait_for("b "), [format!("b {} 4a3f 0", at(part))]);
    assert_eq!(buffer[2 * page_size() as usize], 0);
}

fn is_intact_but(buffer: &Buffer<u8>, zeroes: std::ops::Range<usize>) -> bool {
    let fresh = filled(buffer.len() as u64 / page_size());
    let page = page_size() as usize;
    buffer.chunks(page).zip(fresh.chunks(page)).enumerate().all(|(index, (found, filled))| {
        if zeroes.contains(&index) { found.iter().all(|&byte| byte == 0) } else { found == filled }
    })
}

#[test]
fn pages_discarded_between_others_come_back_without_them() {
    let (bench, buffer) = (Bench::new(), filled(16));
    bench.set(buffer.range(), &[(ACCESS, GPU), (PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 16);
    let part = pages(&buffer, 4, 6);
    // SAFETY: discards the test's own bytes, to which no reference exists at this moment.
    unsafe {
        rustix::mm::madvise(part.start() as *mut _, part.len() as usize, rustix::mm::Advice::LinuxDontNeed)
    }
    .unwrap();
    // The restore maps what the GPU may use, which makes the two present; of what lies around them nothing moves.
    let there = || residency::of_range(part).unwrap().summary().bytes(Place::System) == part.len();
    for _ in 0..10_000 {
        bench.get(buffer.range(), &[]).unwrap();
        if there() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(there());
    // Answered when the restore is through.
    bench.get(buffer.range(), &[]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 14);
    assert!(is_intact_but(&buffer, 4..6));
}

#[test]
fn files_are_registered_and_stay_where_they_are() {
    let bench = Bench::new();
    let file = rustix::fs::memfd_create("shared", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, 4 * page_size()).unwrap();
    let mapping = Channel::from_fd(file).map("shared", 0, 4 * page_size() as usize).unwrap();
    let range = PageRange::new(mapping.as_ptr().as_ptr() as u64, 4 * page_size()).unwrap();
    bench.set(range, &[(ACCESS, GPU), (PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.in_vram(range), 0);
    assert_eq!((bench.get_one(range, PREFETCH), bench.access(range, GPU)), (GPU, ACCESS));
}

#[test]
fn an_unplugged_gpu_gives_everything_back() {
    let (bench, buffer) = (Bench::with(config(|_| ())), filled(8));
    bench.set(buffer.range(), &[(PREFETCH, GPU), (ACCESS, GPU)]).unwrap();
    bench.kfd.unplug(0);
    bench.kfd.unplug(0);
    assert_eq!(bench.in_vram(buffer.range()), 0);
    assert!(is_intact(&buffer));
    assert_eq!(bench.set(buffer.range(), &[(PREFETCH, GPU)]), Err(Errno::ENODEV));
    assert_eq!(
        bench.call(&mut abi::GetAvailableMemory { gpu_id: GPU, ..Default::default() }),
        Err(Errno::ENODEV)
    );
    bench.set(buffer.range(), &[(PREFETCH, OTHER)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 8);
    let topology = crate::kfd::Topology::read(&bench.kfd.topology()).unwrap();
    assert_eq!(topology.gpus().count(), 1);
    assert!(topology.generation() > 2);
}

#[test]
fn a_log_tells_of_processes_that_come_and_go() {
    let bench = Bench::without_vm(KfdConfig::new());
    let log = Log::of(&bench, GPU);
    bench.acquire(&bench._render[0], GPU).unwrap();
    let words = |text: &str| text.split(' ').next().unwrap().to_owned();
    assert_eq!(log.lines().iter().map(|line| words(line)).collect::<Vec<_>>(), ["c"]);
    drop(bench);
    // The driver's own thread may be the last to let go of the machine.
    assert_eq!(log.wait_for("d").iter().map(|line| words(line)).collect::<Vec<_>>(), ["d"]);
}
