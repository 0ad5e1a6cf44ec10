//! What GPU commands find in memory of each kind, as IGT's `xe_exec_system_allocator` has them.
//!
//! | there | here |
//! |---|---|
//! | `*-mmap-file`, `*-mmap-shared` | `stores_to_memory_that_cannot_move` |
//! | `*-mmap-huge` | `stores_to_huge_pages` |
//! | `*-mmap-mlock` | `stores_to_locked_memory` |
//! | `partial-munmap`, `partial-remap` and `*-free-*` | `a_half_and_the_middle_unmapped` |
//! | `multigpu-pagefault-*` | `page_faults_to_a_peer` |

use drm_pagemap::range::{SIZE_2M, page_size};
use drm_pagemap::xe::Operation;
use drm_pagemap::{Device, ErrorKind, PageRange};
use nix::sys::mman::{MapFlags, MmapAdvise};

use crate::gpu_store::store_u32;
use crate::harness::{Context, Need, Stop, Test, TestResult};
use crate::mapping::Mapping;
use crate::placement::{assert_intact, device_bytes, fill, filled, word_at};

const NEEDS: &[Need] = &[Need::Xe, Need::Vram];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "xe/stores_to_memory_that_cannot_move", needs: NEEDS, run: cannot_move },
    Test { name: "xe/stores_to_huge_pages", needs: NEEDS, run: huge_pages },
    Test { name: "xe/stores_to_locked_memory", needs: NEEDS, run: locked },
    Test { name: "xe/a_half_and_the_middle_unmapped", needs: NEEDS, run: partial },
    Test { name: "xe/page_faults_to_a_peer", needs: &[Need::Xe, Need::Vram, Need::TwoGpus], run: to_a_peer },
];

const LEN: usize = 2 * SIZE_2M as usize;

/// Where the GPU stores: at the beginning, around the edge of a block, and at the end.
fn places() -> [usize; 4] {
    let block = SIZE_2M as usize;
    [0, block - 8, block + page_size() as usize, LEN - 8]
}

/// The GPU stores before and after a prefetch to VRAM; every other word stays what it was.
fn stores_arrive(context: &Context, memory: &mut Mapping) -> TestResult {
    fill(memory.words());
    let mirror = context.gpu().mirror()?;
    let Some(vm) = mirror.vm() else { skip!("for xe only") };
    let range = memory.range();
    let mut expected: Vec<u64> = (0..LEN / 8).map(word_at).collect();
    let mut store = |at: usize, value: u32| -> TestResult {
        store_u32(vm, range.start() + at as u64, value)?;
        expected[at / 8] = expected[at / 8] & !0xffff_ffff | u64::from(value);
        Ok(())
    };
    store(places()[0], 1)?;
    store(places()[1], 2)?;
    let outcome = mirror.prefetch_range(range).to(context.gpu().vram()).run()?;
    assert_eq!(outcome.requested(), range.len(), "{outcome}");
    store(places()[2], 3)?;
    store(places()[3], 4)?;
    assert!(memory.words().iter().zip(&expected).all(|(is, expected)| is == expected));
    Ok(())
}

fn cannot_move(context: &Context) -> TestResult {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(LEN as u64).expect("room for the file");
    let kinds = [
        Mapping::anonymous(LEN, MapFlags::MAP_SHARED),
        Mapping::of_file(&file, LEN, MapFlags::MAP_SHARED),
        Mapping::of_file(&file, LEN, MapFlags::MAP_PRIVATE),
    ];
    for memory in kinds {
        let mut memory = memory.expect("memory");
        stores_arrive(context, &mut memory)?;
        assert_eq!(device_bytes(memory.range())?, 0);
    }
    Ok(())
}

/// An advised mapping, of which the kernel makes huge pages if it has any to give.
fn huge_pages(context: &Context) -> TestResult {
    let mut memory = Mapping::anonymous(LEN, MapFlags::MAP_PRIVATE).expect("memory");
    let start = std::ptr::NonNull::from(memory.bytes()).cast();
    // SAFETY: the advice changes no byte of the mapping, which is the test's own.
    unsafe { nix::sys::mman::madvise(start, LEN, MmapAdvise::MADV_HUGEPAGE) }
        .map_err(|errno| Stop::Fail(format!("MADV_HUGEPAGE: {errno}")))?;
    stores_arrive(context, &mut memory)
}

/// Locking keeps memory out of swap, not out of VRAM: the driver looks past it, and data is whole wherever it is.
fn locked(context: &Context) -> TestResult {
    let mut memory = Mapping::anonymous(LEN, MapFlags::MAP_PRIVATE).expect("memory");
    let start = std::ptr::NonNull::from(memory.bytes()).cast();
    // SAFETY: the mapping is the test's own; locking changes no byte of it.
    if let Err(errno) = unsafe { nix::sys::mman::mlock(start, LEN) } {
        skip!("this process may not lock {LEN} bytes: {errno}");
    }
    stores_arrive(context, &mut memory)
}

/// Parts of memory in VRAM are unmapped and mapped anew: what is left is intact, what is new is empty, and the GPU reaches both.
fn partial(context: &Context) -> TestResult {
    let page = page_size() as usize;
    let block = SIZE_2M as usize;
    for hole in [block..LEN, 0..block, page..3 * page, block - page..block + page] {
        let mut memory = Mapping::anonymous(LEN, MapFlags::MAP_PRIVATE).expect("memory");
        fill(memory.words());
        let range = memory.range();
        let mirror = context.gpu().mirror()?;
        let Some(vm) = mirror.vm() else { skip!("for xe only") };
        let _ = mirror.prefetch_range(range).to(context.gpu().vram()).run()?;
        memory.punch(hole.clone());
        let left = [0..hole.start, hole.end..LEN].into_iter().find(|part| !part.is_empty());
        let left = left.expect("a part is left");
        store_u32(vm, range.start() + left.start as u64, 7)?;
        memory.renew(hole.clone());
        store_u32(vm, range.start() + hole.start as u64 + 8, 9)?;
        for (index, &word) in memory.words().iter().enumerate() {
            let at = index * 8;
            let expected = match at {
                _ if at == left.start => word_at(index) & !0xffff_ffff | 7,
                _ if at == hole.start + 8 => 9,
                _ if hole.contains(&at) => 0,
                _ => word_at(index),
            };
            assert_eq!(word, expected, "word {index}, hole {hole:?}");
        }
    }
    Ok(())
}

/// Advice that names another GPU's memory decides where a GPU page fault brings the pages.
fn to_a_peer(context: &Context) -> TestResult {
    let (Device::Xe(own), Device::Xe(peer)) = (context.gpu().device(), context.peer().device()) else {
        skip!("the other GPU is not of xe")
    };
    if !own.probe().supports(Operation::PreferredRegion)? {
        skip!("this kernel does not take another GPU's memory as preferred location");
    }
    // Linux 7.3.4 warns when memory goes whose advice names a region of a device, and the advice is reset with it.
    context.expect_log("xe_vm_alloc_vma");
    let used = |device: &drm_pagemap::xe::Device| -> Result<u64, Stop> {
        let regions = device.memory_regions()?;
        Ok(regions.iter().filter(|region| region.instance != 0).map(|region| region.used).sum())
    };
    let mirror = context.gpu().mirror()?;
    let Some(vm) = mirror.vm() else { skip!("for xe only") };
    let mut data = filled(LEN)?;
    let range = PageRange::covering(&data[..]);
    let (own_before, peer_before) = (used(own)?, used(peer)?);
    match mirror.advise(&data).prefer(context.peer().vram()).apply() {
        Ok(advice) => {
            store_u32(vm, range.start(), 5)?;
            assert!(device_bytes(range)? > 0, "the fault brought pages into VRAM");
            assert!(used(peer)? > peer_before, "into the other GPU's");
            assert!(used(own)? <= own_before + SIZE_2M, "not into this one's, but for page tables");
            advice.reset()?;
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NoInterconnect, "{error}");
            store_u32(vm, range.start(), 5)?;
            assert!(used(own)? >= own_before, "refused advice changes nothing");
        }
    }
    assert_eq!(data[0] as u32, 5);
    data[0] = word_at(0);
    assert_intact(&data);
    Ok(())
}
