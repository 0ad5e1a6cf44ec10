//! Memory that cannot move stays where it is, intact, and the outcome says why; what surrounds it moves.

use std::io::Write;
use std::time::Duration;

use drm_pagemap::range::{SIZE_2M, page_size};
use drm_pagemap::{Cause, Outcome, PageRange};
use nix::sys::mman::{MapFlags, ProtFlags};

use crate::causes::assert_tells;
use crate::harness::{Context, Need, Stop, Test, TestResult};
use crate::mapping::Mapping;
use crate::placement::{assert_intact, device_bytes, fill, word_at};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "memory_kinds/shared_anonymous", needs: &[Need::Vram], run: shared_anonymous },
    Test { name: "memory_kinds/shared_file", needs: &[Need::Vram], run: shared_file },
    Test { name: "memory_kinds/private_file", needs: &[Need::Vram], run: private_file },
    Test { name: "memory_kinds/read_only", needs: &[Need::Vram], run: read_only },
    Test { name: "memory_kinds/nothing_mapped", needs: &[Need::Vram], run: nothing_mapped },
    Test { name: "memory_kinds/hugetlb", needs: &[Need::Vram], run: hugetlb },
    Test { name: "memory_kinds/mixture", needs: &[Need::Vram], run: mixture },
    Test {
        name: "memory_kinds/copy_on_write_after_fork",
        needs: &[Need::Vram],
        run: copy_on_write_after_fork,
    },
];

const LEN: usize = 4 << 20;

fn prefetch(context: &Context, range: PageRange) -> Result<Outcome, Stop> {
    Ok(context.gpu().mirror()?.prefetch_range(range).to(context.gpu().vram()).run()?)
}

/// Again while the kernel leaves pages behind that it cannot take at the moment, as those in a batch of another processor.
fn prefetch_patiently(context: &Context, range: PageRange) -> Result<Outcome, Stop> {
    const ATTEMPTS: u32 = 10;
    let mut outcome = prefetch(context, range)?;
    for _ in 1..ATTEMPTS {
        if !outcome.retry_useful() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        outcome = prefetch(context, range)?;
    }
    Ok(outcome)
}

/// Everything refused, for one cause.
fn assert_refused(outcome: &Outcome, range: PageRange, cause: Cause) {
    assert_eq!(outcome.moved(), 0, "{outcome}");
    assert_tells(outcome, cause);
    assert_eq!(outcome.not_moved(), range.len(), "{outcome}");
}

fn shared_anonymous(context: &Context) -> TestResult {
    let mut memory = Mapping::anonymous(LEN, MapFlags::MAP_SHARED).expect("shared memory");
    fill(memory.words());
    let outcome = prefetch(context, memory.range())?;
    assert_refused(&outcome, memory.range(), Cause::Shared);
    assert!(!outcome.retry_useful());
    assert_intact(memory.words());
    Ok(())
}

fn file() -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let words: Vec<u64> = (0..LEN / 8).map(word_at).collect();
    file.write_all(bytemuck::cast_slice(&words)).expect("room for the file");
    file
}

fn shared_file(context: &Context) -> TestResult {
    let mut memory = Mapping::of_file(&file(), LEN, MapFlags::MAP_SHARED).expect("a mapped file");
    assert_intact(memory.words());
    let outcome = prefetch(context, memory.range())?;
    assert_eq!(outcome.moved(), 0, "{outcome}");
    assert!(
        outcome.refusals().iter().all(|r| matches!(r.cause, Cause::FileBacked | Cause::Shared)),
        "{outcome}"
    );
    assert_intact(memory.words());
    Ok(())
}

fn private_file(context: &Context) -> TestResult {
    let mut memory = Mapping::of_file(&file(), LEN, MapFlags::MAP_PRIVATE).expect("a mapped file");
    assert_intact(memory.words());
    let outcome = prefetch(context, memory.range())?;
    // Pages that a driver made anonymous by writing may move on amdgpu; whatever stays is the file's.
    assert!(outcome.refusals().iter().all(|r| r.cause == Cause::FileBacked), "{outcome}");
    assert_intact(memory.words());
    Ok(())
}

fn read_only(context: &Context) -> TestResult {
    let mut memory = Mapping::anonymous(LEN, MapFlags::MAP_PRIVATE).expect("memory");
    fill(memory.words());
    memory.protect(0..LEN, ProtFlags::PROT_READ);
    let outcome = prefetch_patiently(context, memory.range())?;
    // The real amdgpu moves read-only anonymous memory as well; a simulated one cannot (`UFFDIO_MOVE`).
    if context.gpu().driver() == drm_pagemap::Driver::Xe || context.gpu().is_simulated() {
        assert_refused(&outcome, memory.range(), Cause::NotWritable);
    } else {
        assert!(outcome.is_complete(), "{outcome}");
    }
    memory.protect(0..LEN, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    assert_intact(memory.words());
    Ok(())
}

fn nothing_mapped(context: &Context) -> TestResult {
    let mut memory = Mapping::anonymous(LEN, MapFlags::MAP_PRIVATE).expect("memory");
    let range = memory.range();
    memory.punch(0..LEN);
    let outcome = prefetch(context, range)?;
    assert_refused(&outcome, range, Cause::NotMapped);
    Ok(())
}

fn hugetlb(context: &Context) -> TestResult {
    let Ok(mut memory) = Mapping::anonymous(SIZE_2M as usize, MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB)
    else {
        skip!("no huge pages are reserved (vm.nr_hugepages)");
    };
    fill(memory.words());
    let outcome = prefetch(context, memory.range())?;
    assert_refused(&outcome, memory.range(), Cause::HugeTlb);
    assert_intact(memory.words());
    Ok(())
}

fn mixture(context: &Context) -> TestResult {
    // Movable memory, a read-only stretch, movable memory, a hole, movable memory.
    let (page, unit) = (page_size() as usize, SIZE_2M as usize);
    // Small pages: xe before 7.0 leaves the rest of a huge page behind when a part of it cannot move.
    let mut memory =
        Mapping::anonymous(5 * unit, MapFlags::MAP_PRIVATE).expect("memory").without_huge_pages();
    fill(memory.words());
    let range = memory.range();
    memory.protect(unit..unit + 4 * page, ProtFlags::PROT_NONE);
    memory.punch(3 * unit..3 * unit + 8 * page);
    let outcome = prefetch(context, range)?;
    context.picture("movable memory, a stretch without access, a hole", range)?;
    let refused: u64 = outcome.refusals().iter().map(|r| r.range.len()).sum();
    assert_eq!(refused, 12 * page as u64, "{outcome}");
    assert_eq!(outcome.moved(), range.len() - refused, "{outcome}");
    let hole = outcome.refusals().iter().find(|r| r.cause == Cause::NotMapped).expect("the hole is named");
    assert_eq!(hole.range, PageRange::new(range.start() + 3 * unit as u64, 8 * page as u64)?);
    assert_eq!(device_bytes(range)?, range.len() - refused);
    memory.protect(unit..unit + 4 * page, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    let words = memory.range().len() as usize / 8;
    for index in (0..words).filter(|index| !(3 * unit / 8..(3 * unit + 8 * page) / 8).contains(index)) {
        // SAFETY: the word lies in the parts of the mapping that were not unmapped.
        let word = unsafe { (range.start() as *const u64).add(index).read_volatile() };
        assert_eq!(word, word_at(index), "word {index}");
    }
    // Make the mapping whole again, so that dropping it unmaps nothing that somebody else mapped meanwhile.
    drop(memory);
    Ok(())
}

fn copy_on_write_after_fork(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = crate::placement::filled(LEN)?;
    // SAFETY: the child only exits.
    let child = match unsafe { nix::unistd::fork() }.expect("fork") {
        // SAFETY: ends the child at once, without running destructors of the test process.
        nix::unistd::ForkResult::Child => unsafe { nix::libc::_exit(0) },
        nix::unistd::ForkResult::Parent { child } => child,
    };
    nix::sys::wait::waitpid(child, None).expect("the child ends");
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "pages that were shared with a child move too: {outcome}");
    assert_intact(&data);
    Ok(())
}
