//! What a GPU fault is answered with, and what the log says of it.

use super::migration::{Log, Raw, at};
use super::*;

const OTHER: u32 = 0x1111;

impl Bench {
    fn fault(&self, gpu: usize, address: u64, write: bool) -> Result<(), Errno> {
        self.kfd.primary.lock().serve_gpu_fault(&self.kfd.shared, gpu, address, write)
    }

    /// Whether a GPU has a page, and may write to it.
    fn gpu_has(&self, gpu: usize, address: u64) -> Option<bool> {
        self.kfd.primary.lock().devices[gpu].pages.at(address)
    }
}

fn with_xnack(config: KfdConfig) -> Bench {
    let bench = Bench::with(config);
    bench.call(&mut abi::SetXnackMode { xnack_enabled: 1 }).unwrap();
    bench
}

fn two_gpus() -> KfdConfig {
    let second = GpuConfig { device: 1, render_minor: 129, ..GpuConfig::mi200(OTHER, 1 << 30) };
    KfdConfig::with_gpus(vec![GpuConfig::mi200(GPU, 1 << 30), second])
}

fn fault_lines(log: &Log) -> Vec<String> {
    log.lines().into_iter().filter(|line| line.starts_with("7 ") || line.starts_with("8 ")).collect()
}

#[test]
fn without_xnack_or_svm_a_fault_is_a_violation() {
    let buffer = memory(4);
    let start = buffer.range().start();
    assert_eq!(Bench::new().fault(0, start, false), Err(Errno::EFAULT));
    let mut config = two_gpus();
    config.gpus[1].svm = false;
    let bench = with_xnack(config);
    assert_eq!(bench.fault(1, start, false), Err(Errno::EFAULT));
    assert!(bench.ranges().is_empty(), "and no range is made for it");
    bench.fault(0, start, false).unwrap();
    assert_eq!(bench.ranges().len(), 1);
}

#[test]
fn a_fault_where_nothing_is_mapped_is_a_violation() {
    let (bench, raw) = (with_xnack(KfdConfig::new()), Raw::new(4));
    bench.fault(0, raw.0.start(), true).unwrap();
    raw.unmap(2, 3);
    let hole = raw.part(2, 3);
    assert_eq!(bench.fault(0, hole.start(), false), Err(Errno::EFAULT));
}

#[test]
fn a_gpu_may_no_more_than_the_cpu() {
    let (bench, raw) = (with_xnack(KfdConfig::new()), Raw::new(3));
    let protect = |start, end, flags| {
        let part = raw.part(start, end);
        // SAFETY: the mapping is the test's own and nothing refers to it.
        unsafe { rustix::mm::mprotect(part.start() as *mut _, part.len() as usize, flags) }.unwrap();
    };
    protect(1, 2, rustix::mm::MprotectFlags::READ);
    protect(2, 3, rustix::mm::MprotectFlags::empty());
    let page = |number| raw.part(number, number + 1).start();
    assert_eq!(bench.fault(0, page(1), true), Err(Errno::EPERM));
    bench.fault(0, page(1), false).unwrap();
    assert_eq!(bench.gpu_has(0, page(1)), Some(false), "for reading");
    assert_eq!(bench.fault(0, page(2), false), Err(Errno::EPERM));
    assert_eq!(bench.gpu_has(0, page(2)), None);
    bench.fault(0, page(0), true).unwrap();
    assert_eq!(bench.gpu_has(0, page(0)), Some(true));
}

#[test]
fn the_log_tells_a_migration_from_a_mapping() {
    let (bench, buffer) = (with_xnack(KfdConfig::new()), memory(8));
    let log = Log::of(&bench, GPU);
    let start = buffer.range().start();
    let page = format!("@{:x}(4a3f)", start / page_size());
    bench.set(buffer.range(), &[(PREFERRED, 0), (GRANULARITY, 2)]).unwrap();
    bench.fault(0, start, false).unwrap();
    assert_eq!(fault_lines(&log), [format!("7 {page} R"), format!("8 {page} U")]);
    assert_eq!(bench.in_vram(buffer.range()), 0);

    let moved = memory(8);
    let start = moved.range().start();
    let page = format!("@{:x}(4a3f)", start / page_size());
    bench.set(moved.range(), &[(GRANULARITY, 2)]).unwrap();
    bench.fault(0, start, true).unwrap();
    let lines = log.lines();
    let block = pages(&moved, 0, 4 - (start / page_size()) % 4);
    assert_eq!(lines[0], format!("7 {page} W"));
    assert_eq!(lines[1], format!("5 {} 0->4a3f ffffffff:ffffffff 1", at(block)));
    assert_eq!(lines.last().unwrap(), &format!("8 {page} M"));
    assert_eq!(bench.in_vram(moved.range()), block.pages(), "the block around the page, and no more");

    // It is in VRAM and wanted in system memory: that is a migration too.
    bench.set(moved.range(), &[(PREFERRED, 0)]).unwrap();
    bench.forget_validation();
    let last = pages(&moved, 7, 8).start();
    bench.fault(0, last, false).unwrap();
    assert!(fault_lines(&log).last().unwrap().ends_with(" M"));
}

#[test]
fn a_second_fault_that_was_under_way_is_ignored() {
    let (bench, buffer) = (with_xnack(KfdConfig::new()), memory(4));
    let start = buffer.range().start();
    bench.set(buffer.range(), &[(PREFERRED, 0)]).unwrap();
    bench.fault(0, start, true).unwrap();
    let log = Log::of(&bench, GPU);
    bench.validated_just_now();
    bench.fault(0, start, true).unwrap();
    assert_eq!(fault_lines(&log), [""; 0]);
    bench.forget_validation();
    bench.fault(0, start, true).unwrap();
    assert_eq!(fault_lines(&log).len(), 2, "later it is one of its own");
}

#[test]
fn a_page_that_is_mapped_for_reading_is_faulted_in_for_writing() {
    let (bench, buffer) = (with_xnack(KfdConfig::new()), memory(4));
    let start = buffer.range().start();
    bench.set(buffer.range(), &[(PREFERRED, 0), (SET_FLAGS, abi::KFD_IOCTL_SVM_FLAG_GPU_RO)]).unwrap();
    bench.fault(0, start, false).unwrap();
    assert_eq!(bench.gpu_has(0, start), Some(false));
    let log = Log::of(&bench, GPU);
    bench.validated_just_now();
    bench.fault(0, start, true).unwrap();
    assert_eq!(fault_lines(&log).len(), 2, "what has no mapping for it is no duplicate");
}

#[test]
fn who_may_fault_and_where_memory_goes_then() {
    for (attributes, gpu, expected) in [
        (&[(NO_ACCESS, GPU)][..], 0, Err(Errno::EACCES)),
        (&[(NO_ACCESS, GPU), (PREFERRED, GPU)], 0, Ok(4)),
        (&[(NO_ACCESS, GPU), (PREFERRED, 0)], 0, Ok(0)),
        (&[(IN_PLACE, GPU)], 0, Ok(0)),
        (&[(PREFERRED, OTHER)], 0, Ok(4)),
        (&[(PREFERRED, 0)], 1, Ok(0)),
    ] {
        let (bench, buffer) = (with_xnack(two_gpus()), memory(4));
        bench.set(buffer.range(), attributes).unwrap();
        let answer = bench.fault(gpu, buffer.range().start(), true);
        assert_eq!(answer.map(|()| bench.in_vram(buffer.range())), expected, "{attributes:?}");
    }
}

#[test]
fn memory_that_does_not_go_to_vram_is_mapped_where_it_is() {
    let mut config = two_gpus();
    config.gpus[0].vram = 64 << 20;
    config.gpus[0].reserved = 64 << 20;
    let (bench, buffer) = (with_xnack(config), memory(4));
    let start = buffer.range().start();
    bench.set(buffer.range(), &[]).unwrap();
    bench.fault(0, start, true).unwrap();
    assert_eq!((bench.in_vram(buffer.range()), bench.gpu_has(0, start)), (0, Some(true)));
    // From another GPU's VRAM, which this one cannot reach, it comes back at least.
    bench.set(buffer.range(), &[(PREFETCH, OTHER)]).unwrap();
    assert_eq!(bench.in_vram(buffer.range()), 4);
    bench.forget_validation();
    bench.fault(0, start, true).unwrap();
    assert_eq!((bench.in_vram(buffer.range()), bench.gpu_has(0, start)), (0, Some(true)));
}

impl Bench {
    /// As if the last fault had been long ago.
    fn forget_validation(&self) {
        self.kfd.primary.lock().ranges.iter_mut().for_each(|range| range.validated = None);
    }

    /// As if the last fault had been this moment, for as long as the test takes.
    fn validated_just_now(&self) {
        let soon = std::time::Instant::now() + std::time::Duration::from_secs(3600);
        self.kfd.primary.lock().ranges.iter_mut().for_each(|range| range.validated = Some(soon));
    }
}
