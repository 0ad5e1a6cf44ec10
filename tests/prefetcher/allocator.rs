//! Memory of the allocator on a GPU.

use drm_pagemap::alloc::{SvmAlloc, Vec};
use drm_pagemap::{Buffer, PageRange, Prefetcher, Result};

use crate::Test;
use crate::machine::{MIB, Machine, assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    ("allocator/allocating_and_freeing_touch_no_vram", allocating_and_freeing_touch_no_vram),
    ("allocator/a_vector_grows_while_it_is_prefetched", a_vector_grows_while_it_is_prefetched),
    ("allocator/a_buffer_in_vram_becomes_a_vector_there", a_buffer_in_vram_becomes_a_vector_there),
];

fn allocating_and_freeing_touch_no_vram(machine: &Machine) -> Result<()> {
    let alloc = SvmAlloc::for_mirrors([machine.mirror.clone()]);
    let make = |byte: u8| {
        let mut data: Vec<u8, _> = Vec::with_capacity_in(256 << 10, alloc.clone());
        data.resize(256 << 10, byte);
        data
    };
    let mut all: std::vec::Vec<_> = (0..8).map(make).collect();
    let block = PageRange::covering(&all[0]).align_outward(2 << 20).expect("no wrap");
    assert!(all.iter().all(|data| block.contains_range(PageRange::covering(data))), "one block");
    let outcome = machine.mirror.prefetch_range(block).to(machine.gpu.vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    all.remove(3);
    all.remove(5);
    let fresh: Vec<u8, _> = Vec::with_capacity_in(256 << 10, alloc.clone());
    assert!(block.contains_range(PageRange::new(fresh.as_ptr() as u64, 256 << 10)?), "a freed slot");
    assert_eq!(device_bytes(block)?, 2 * MIB, "nothing came back");
    for (data, byte) in all.iter().zip([0, 1, 2, 4, 5, 7]) {
        assert!(data.iter().all(|&at| at == byte));
    }
    Ok(())
}

fn a_vector_grows_while_it_is_prefetched(machine: &Machine) -> Result<()> {
    let alloc = SvmAlloc::for_mirrors([machine.mirror.clone()]);
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).chunk(MIB).build()?;
    let mut data: Vec<u32, _> = Vec::new_in(alloc.clone());
    let mut pending = std::vec::Vec::new();
    for round in 0..20u32 {
        data.extend((0..50_000).map(|index| round * 50_000 + index));
        // No borrow: the vector may move away from under the request.
        pending.push(prefetcher.prefetch(&data).to(machine.gpu.vram()).submit()?);
    }
    for pending in pending {
        let _ = pending.wait();
    }
    assert!(data.iter().enumerate().all(|(index, &value)| index as u32 == value));
    drop(data);
    assert_eq!(alloc.usage().used, 0);
    Ok(())
}

fn a_buffer_in_vram_becomes_a_vector_there(machine: &Machine) -> Result<()> {
    let buffer: Buffer<u64> = filled(4 * MIB)?;
    assert!(machine.mirror.prefetch(&buffer).to(machine.gpu.vram()).run()?.is_complete());
    let vector = buffer.into_vec_in(&SvmAlloc::new());
    assert_eq!(device_bytes(PageRange::covering(&vector))?, 4 * MIB);
    assert_intact(&vector);
    Ok(())
}
