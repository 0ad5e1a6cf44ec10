//! The allocator against a model, and what GPUs see of it.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use allocator_api2::alloc::{Allocator, Layout};
use proptest::prelude::*;

use super::{SvmAlloc, Usage, Vec};
use crate::buffer::Buffer;
use crate::range::{SIZE_2M, page_size};

/// An allocation as the model knows it.
#[derive(Debug)]
struct Known {
    start: NonNull<u8>,
    layout: Layout,
    seed: u8,
}

impl Known {
    fn byte(seed: u8, index: usize) -> u8 {
        seed ^ (index as u8) ^ ((index >> 8) as u8).wrapping_mul(31)
    }

    /// Writes a pattern from `from` on.
    fn fill(&self, from: usize) {
        for index in from..self.layout.size() {
            // SAFETY: the index is inside the allocation, which this test owns.
            unsafe { self.start.add(index).write(Self::byte(self.seed, index)) };
        }
    }

    fn check(&self, len: usize) {
        for index in 0..len {
            // SAFETY: the index is inside the allocation, which this test owns.
            let byte = unsafe { self.start.add(index).read() };
            assert_eq!(byte, Self::byte(self.seed, index), "byte {index} of {self:?}");
        }
    }

    fn is_zero(&self, from: usize) -> bool {
        // SAFETY: the index is inside the allocation, which this test owns.
        (from..self.layout.size()).all(|index| unsafe { self.start.add(index).read() } == 0)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { size: usize, align: u32, zeroed: bool },
    Free(usize),
    Resize { which: usize, size: usize, align: u32, zeroed: bool },
}

/// Mostly small, sometimes around the sizes where the kind of memory changes.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..700usize,
        3 => 700..20_000usize,
        1 => 500_000..530_000usize,
        1 => 1_040_000..1_060_000usize,
        1 => 2_090_000..2_110_000usize,
    ]
}

fn align() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..7u32, 2 => 7..14u32, 1 => 20..23u32]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (size(), align(), any::<bool>())
            .prop_map(|(size, align, zeroed)| Step::Allocate { size, align, zeroed }),
        2 => any::<usize>().prop_map(Step::Free),
        2 => (any::<usize>(), size(), align(), any::<bool>())
            .prop_map(|(which, size, align, zeroed)| Step::Resize { which, size, align, zeroed }),
    ]
}

/// Live allocations by number.
#[derive(Default)]
struct Model {
    live: BTreeMap<usize, Known>,
    last: usize,
}

impl Model {
    fn add(&mut self, memory: NonNull<[u8]>, layout: Layout) -> usize {
        assert!(memory.len() >= layout.size());
        assert_eq!(
            memory.cast::<u8>().as_ptr() as usize % layout.align(),
            0,
            "aligned to {}",
            layout.align()
        );
        let start = memory.cast::<u8>().as_ptr() as usize;
        for other in self.live.values().filter(|other| other.layout.size() > 0 && layout.size() > 0) {
            let (from, to) =
                (other.start.as_ptr() as usize, other.start.as_ptr() as usize + other.layout.size());
            assert!(start + memory.len() <= from || start >= to, "overlaps {other:?}");
        }
        self.last += 1;
        self.live.insert(self.last, Known { start: memory.cast(), layout, seed: self.last as u8 });
        self.last
    }

    fn pick(&self, which: usize) -> Option<usize> {
        let count = self.live.len();
        (count > 0).then(|| *self.live.keys().nth(which % count).expect("in range"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn agrees_with_a_model(steps in proptest::collection::vec(step(), 1..60)) {
        let alloc = SvmAlloc::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Allocate { size, align, zeroed } => {
                    let layout = Layout::from_size_align(size, 1 << align).unwrap();
                    let memory = if zeroed { alloc.allocate_zeroed(layout) } else { alloc.allocate(layout) };
                    let number = model.add(memory.unwrap(), layout);
                    let known = &model.live[&number];
                    assert!(!zeroed || known.is_zero(0));
                    known.fill(0);
                }
                Step::Free(which) => {
                    let Some(number) = model.pick(which) else { continue };
                    let known = model.live.remove(&number).unwrap();
                    known.check(known.layout.size());
                    // SAFETY: given out by this allocator with this layout, and forgotten here.
                    unsafe { alloc.deallocate(known.start, known.layout) };
                }
                Step::Resize { which, size, align, zeroed } => {
                    let Some(number) = model.pick(which) else { continue };
                    let known = model.live.remove(&number).unwrap();
                    let layout = Layout::from_size_align(size, 1 << align).unwrap();
                    let kept = known.layout.size().min(size);
                    let grows = size >= known.layout.size();
                    // SAFETY: given out by this allocator with this layout, and replaced by the answer.
                    let memory = unsafe {
                        match (grows, zeroed) {
                            (true, true) => alloc.grow_zeroed(known.start, known.layout, layout),
                            (true, false) => alloc.grow(known.start, known.layout, layout),
                            (false, _) => alloc.shrink(known.start, known.layout, layout),
                        }
                    };
                    let number = model.add(memory.unwrap(), layout);
                    let now = model.live.get_mut(&number).unwrap();
                    now.seed = known.seed;
                    now.check(kept);
                    assert!(!(grows && zeroed) || now.is_zero(kept));
                    now.fill(kept);
                }
            }
            let usage = alloc.usage();
            let asked: usize = model.live.values().map(|known| known.layout.size()).sum();
            let count = model.live.values().filter(|known| known.layout.size() > 0).count();
            prop_assert_eq!(usage.allocations, count as u64);
            prop_assert!(usage.used >= asked as u64 && usage.mapped >= usage.used);
        }
        for known in std::mem::take(&mut model.live).into_values() {
            known.check(known.layout.size());
            // SAFETY: given out by this allocator with this layout, and forgotten here.
            unsafe { alloc.deallocate(known.start, known.layout) };
        }
        let usage = alloc.usage();
        prop_assert_eq!((usage.used, usage.allocations), (0, 0));
        prop_assert!(usage.mapped % SIZE_2M == 0, "one block of each size at most is kept");
    }
}

#[test]
fn large_memory_starts_on_two_mebibytes_and_pages_are_not_shared() {
    let alloc = SvmAlloc::new();
    let large: Vec<u8, _> = Vec::with_capacity_in(3 << 20, alloc.clone());
    assert_eq!(large.as_ptr() as u64 % SIZE_2M, 0);
    let page = page_size() as usize;
    let (first, second) = (
        Vec::<u8, _>::with_capacity_in(page + 1, alloc.clone()),
        Vec::<u8, _>::with_capacity_in(page + 1, alloc.clone()),
    );
    assert!(first.as_ptr() as usize % page == 0 && second.as_ptr() as usize % page == 0);
    assert_eq!(first.as_ptr() as u64 / SIZE_2M, second.as_ptr() as u64 / SIZE_2M, "one block");
}

#[test]
fn empty_blocks_are_unmapped_but_one_of_each_size() {
    let alloc = SvmAlloc::new();
    let half = 1 << 20;
    let many: std::vec::Vec<_> =
        (0..10).map(|_| Vec::<u8, _>::with_capacity_in(half, alloc.clone())).collect();
    assert_eq!(alloc.usage(), Usage { mapped: 10 << 20, used: 10 << 20, allocations: 10 });
    drop(many);
    assert_eq!(alloc.usage(), Usage { mapped: 2 << 20, used: 0, allocations: 0 });
    let large: Vec<u8, _> = Vec::with_capacity_in(5 << 20, alloc.clone());
    assert_eq!(alloc.usage().mapped, 7 << 20);
    drop(large);
    assert_eq!(alloc.usage().mapped, 2 << 20);
}

#[test]
fn used_slots_are_zeroed_again_when_asked_for() {
    let alloc = SvmAlloc::new();
    let mut dirty: Vec<u8, _> = Vec::with_capacity_in(4096, alloc.clone());
    dirty.resize(4096, 0xff);
    let address = dirty.as_ptr();
    drop(dirty);
    let layout = Layout::from_size_align(4096, 1).unwrap();
    let memory = alloc.allocate_zeroed(layout).unwrap();
    assert_eq!(memory.cast::<u8>().as_ptr().cast_const(), address, "the same slot");
    // SAFETY: zeroed memory of that length, given out to this test.
    assert!(unsafe { memory.as_ref() }.iter().all(|&byte| byte == 0));
    // SAFETY: given out with this layout, and not used after.
    unsafe { alloc.deallocate(memory.cast(), layout) };
}

#[test]
fn impossible_sizes_are_errors() {
    let alloc = SvmAlloc::new();
    for size in [1 << 60, isize::MAX as usize - 4096] {
        assert!(alloc.allocate(Layout::from_size_align(size, 8).unwrap()).is_err());
    }
    assert_eq!(alloc.usage(), Usage::default());
}

#[test]
fn buffers_become_boxes_and_vectors_in_place() {
    let alloc = SvmAlloc::new();
    let buffer = Buffer::from_slice(&(0..1000u32).collect::<std::vec::Vec<_>>()).unwrap();
    let address = buffer.as_ptr();
    let boxed = buffer.into_boxed_slice_in(&alloc);
    assert_eq!((boxed.as_ptr(), boxed.len(), boxed[999]), (address, 1000, 999));
    assert_eq!(alloc.usage(), Usage { mapped: 4096, used: 4096, allocations: 1 });
    let mut vector = Vec::from(boxed);
    vector.reserve_exact(1);
    vector.push(1000);
    assert_eq!(vector.as_ptr(), address, "the page has room");
    vector.resize(600_000, 7);
    assert_eq!((vector[1000], vector[599_999]), (1000, 7));
    vector.shrink_to(10);
    assert_eq!(vector[999], 999);
    drop(vector);
    assert_eq!((alloc.usage().used, alloc.usage().allocations), (0, 0));

    let empty = Buffer::<u64>::zeroed(0).unwrap().into_vec_in(&alloc);
    assert!(empty.is_empty());
    assert_eq!(Buffer::<()>::zeroed(5).unwrap().into_boxed_slice_in(&alloc).len(), 5);
    drop(empty);
    assert_eq!(alloc.usage().allocations, 0);
}

#[test]
fn many_threads() {
    let alloc = SvmAlloc::new();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let alloc = alloc.clone();
            scope.spawn(move || {
                let mut kept = std::vec::Vec::new();
                for round in 0..400usize {
                    let mut data: Vec<u8, _> = Vec::new_in(alloc.clone());
                    data.resize(1 + round * 37 % 9000, thread);
                    kept.push(data);
                    if round % 3 == 0 {
                        let index = round * 7 % kept.len();
                        assert!(kept.swap_remove(index).iter().all(|&byte| byte == thread));
                    }
                }
                assert!(kept.iter().flatten().all(|&byte| byte == thread));
            });
        }
    });
    assert_eq!((alloc.usage().used, alloc.usage().allocations), (0, 0));
}

#[cfg(feature = "sim")]
mod advice {
    use std::sync::Arc;

    use super::*;
    use crate::device::{Device, KfdGpu};
    use crate::gpu::Gpu;
    use crate::kfd::{Agreed, Location as KfdLocation};
    use crate::range::PageRange;
    use crate::sim::Machine;
    use crate::sim::kfd::{Kfd, KfdConfig};

    fn preferred(gpu: &KfdGpu, range: PageRange) -> Agreed<KfdLocation> {
        gpu.process().get_attributes(range, &[gpu.id()]).unwrap().preferred
    }

    /// KFD tells what is preferred, and slots of a block stay mapped when they are freed.
    #[test]
    fn freed_memory_leaves_its_advice_behind() {
        let machine = Machine::new().with_kfd(Kfd::new(KfdConfig::new()).unwrap());
        let gpu = Gpu::discover_in(&machine).into_iter().next().unwrap();
        let Device::Kfd(device) = gpu.device() else { panic!("a KFD machine") };
        let mirror = Arc::new(gpu.mirror().unwrap());
        let (careful, careless) = (SvmAlloc::for_mirrors([mirror.clone()]), SvmAlloc::new());
        for (alloc, remains) in [(careful, false), (careless, true)] {
            let neighbour: Vec<u8, _> = Vec::with_capacity_in(64 << 10, alloc.clone());
            let mut data: Vec<u8, _> = Vec::with_capacity_in(64 << 10, alloc.clone());
            data.resize(64 << 10, 1);
            let slot = PageRange::covering(&data);
            let beside = PageRange::new(neighbour.as_ptr() as u64, 64 << 10).unwrap();
            mirror.advise_range(beside).prefer(gpu.vram()).apply().unwrap().keep();
            mirror.advise(&data).prefer(gpu.vram()).apply().unwrap().keep();
            let there = Agreed::Uniform(KfdLocation::Gpu(device.id()));
            assert_eq!(preferred(device, slot), there);
            drop(data);
            assert_eq!(preferred(device, slot) == there, remains);
            assert_eq!(preferred(device, beside), there, "the neighbour's advice stays");
        }
    }
}
