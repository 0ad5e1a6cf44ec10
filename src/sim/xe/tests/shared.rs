//! Several VMs, devices and threads on the same memory.

use std::time::Duration;

use proptest::prelude::*;

use super::migrate::{check, filled, in_vram};
use super::*;
use crate::xe::{
    Advice, AtomicMode, Batch, BatchBuffer, Bind, EngineClass, ExecQueue, PatIndex, PreferredLocation,
    PrefetchTarget, QueueOptions, Syncs, Timeout, UserFence,
};

fn read_word(vm: &Vm, from: u64) -> u32 {
    let engines = vm.device().engines().unwrap();
    let copy = *engines.iter().find(|engine| engine.class == EngineClass::Copy).unwrap();
    let queue = ExecQueue::create(vm, &[copy], QueueOptions::new()).unwrap();
    let mut fence = UserFence::new().unwrap();
    // In the fence's page, which never migrates.
    let to = fence.address() + 64;
    let batch = BatchBuffer::new(Batch::new().copy_u32(to, from)).unwrap();
    // SAFETY: the command writes to the fence's page alone, which outlives the wait.
    unsafe { queue.submit(batch.address(), Syncs::new().fence(&mut fence)) }.unwrap();
    fence.wait(vm.device(), Timeout::Within(Duration::from_secs(60)), Some(&queue)).unwrap();
    // SAFETY: a word of the fence's page, which the GPU is done with.
    unsafe { (to as *const u32).read_volatile() }
}

#[test]
fn a_linked_device_reads_in_place_and_another_brings_pages_back() {
    let owner = Bench::with(XeConfig::new(Platform::Battlemage).linked(72));
    let linked = Bench::with(XeConfig::new(Platform::Battlemage).linked(72));
    let stranger = Bench::new(Platform::Battlemage);
    let buffer = filled(M2);
    let expected = u32::from_le_bytes(buffer[700..704].try_into().unwrap());
    let stay = Advice::PreferredLocation(PreferredLocation::Region { device: &owner.device, instance: 1 });
    let leave = Advice::PreferredLocation(PreferredLocation::System);
    for (bench, advice, stays) in [(&linked, stay, M2), (&linked, leave, 0), (&stranger, leave, 0)] {
        owner.mirrored().prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
        let vm = bench.mirrored();
        vm.advise(buffer.range(), advice).unwrap();
        assert_eq!(read_word(&vm, buffer.range().start() + 700), expected);
        assert_eq!(in_vram(buffer.range()), stays);
    }
    // By default a device takes what it reads.
    owner.mirrored().prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    read_word(&stranger.mirrored(), buffer.range().start());
    assert_eq!(stranger.device.memory_regions().unwrap()[1].used, M2);
    assert_eq!(owner.device.memory_regions().unwrap()[1].used, 0);
    check(&buffer);
}

#[test]
fn threads_allocate_prefetch_advise_and_free_at_once() {
    let bench = Bench::with(XeConfig::new(Platform::Battlemage).vram(16 << 20));
    let vm = bench.mirrored();
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let vm = &vm;
            scope.spawn(move || {
                for round in 0..10 {
                    let buffer = filled(M2 * (1 + lane % 2));
                    let range = buffer.range();
                    if round % 3 == 0 {
                        vm.advise(range, Advice::Atomic(AtomicMode::Global)).unwrap();
                    }
                    vm.prefetch(range, PrefetchTarget::Region(1)).unwrap();
                    if round % 2 == 0 {
                        vm.prefetch(range, PrefetchTarget::System).unwrap();
                    }
                    check(&buffer);
                }
            });
        }
    });
    vm.unmap(pages(0, 1)).unwrap();
    assert_eq!(bench.device.memory_regions().unwrap()[1].used, 0);
}

/// What a page means: not bound; bound to nothing; mirrored, with an atomic mode and a PAT index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    atomic: AtomicMode,
    pat: u16,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Mirror,
    Null,
    Unmap,
    Atomic(bool),
    Pat(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Mirror),
        1 => Just(Op::Null),
        2 => Just(Op::Unmap),
        2 => any::<bool>().prop_map(Op::Atomic),
        1 => any::<bool>().prop_map(Op::Pat),
    ]
}

const PAGES: u64 = 40;

/// Mirroring fills the hole of one page behind its end, if a default mirror follows (`xe_vm_find_cpu_addr_mirror_vma_range`
/// looks one byte too far).
fn bridge(model: &mut [Option<Page>], kinds: &[u8], end: u64) {
    let at = end as usize;
    let default = Page { atomic: AtomicMode::Undefined, pat: 2 };
    let follows = kinds.get(at + 1) == Some(&1) && model.get(at + 1) == Some(&Some(default));
    if model.get(at) == Some(&None) && follows {
        model[at] = Some(default);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn binds_and_advice_agree_with_a_page_map(ops in prop::collection::vec((op(), 0..PAGES, 1u64..12), 1..40)) {
        let bench = Bench::new(Platform::Battlemage);
        let vm = bench.vm();
        let fresh = Page { atomic: AtomicMode::Undefined, pat: 2 };
        let mut model: Vec<Option<Page>> = vec![None; PAGES as usize];
        // 0 nothing, 1 mirror, 2 null.
        let mut kinds = vec![0u8; PAGES as usize];
        for (op, start, len) in ops {
            let end = (start + len).min(PAGES);
            let range = pages(start * PAGE, end - start);
            let span = start as usize..end as usize;
            match op {
                Op::Mirror => {
                    vm.mirror(range).unwrap();
                    model[span.clone()].fill(Some(fresh));
                    kinds[span].fill(1);
                    bridge(&mut model, &kinds, end);
                    if model.get(end as usize) == Some(&Some(fresh)) && kinds[end as usize] == 0 {
                        kinds[end as usize] = 1;
                    }
                }
                Op::Null => {
                    vm.bind(&[Bind::map_null(range)], Syncs::new()).unwrap();
                    model[span.clone()].fill(Some(Page { atomic: AtomicMode::Undefined, pat: 0 }));
                    kinds[span].fill(2);
                }
                Op::Unmap => {
                    vm.unmap(range).unwrap();
                    model[span.clone()].fill(None);
                    kinds[span].fill(0);
                }
                Op::Atomic(global) => {
                    let atomic = if global { AtomicMode::Global } else { AtomicMode::Undefined };
                    vm.advise(range, Advice::Atomic(atomic)).unwrap();
                    model[span].iter_mut().flatten().for_each(|page| page.atomic = atomic);
                }
                Op::Pat(other) => {
                    let pat = if other { 3 } else { 2 };
                    vm.advise(range, Advice::Pat(PatIndex(pat))).unwrap();
                    model[span].iter_mut().flatten().for_each(|page| page.pat = pat);
                }
            }
            let mut seen: Vec<Option<Page>> = vec![None; PAGES as usize];
            for entry in vm.range_attributes(pages(0, PAGES)).unwrap() {
                for page in entry.range.start() / PAGE..entry.range.end() / PAGE {
                    prop_assert_eq!(seen[page as usize], None, "mappings overlap");
                    seen[page as usize] = Some(Page { atomic: entry.atomic, pat: entry.pat.0 });
                }
            }
            prop_assert_eq!(&seen, &model, "after {:?} of [{}, {})", op, start, end);
        }
    }
}
