//! Where pages are before and after a prefetch, and that no byte changes on the way.

use drm_pagemap::range::{SIZE_2M, SIZE_64K, page_size};
use drm_pagemap::residency::{self, Place};
use drm_pagemap::{Buffer, Error, ErrorKind, Location, Mirror, Observe, PageRange};

use crate::harness::{Context, Need, Test, TestResult};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "placement/mirror_can_be_made_and_dropped",
        needs: &[],
        run: mirror_can_be_made_and_dropped,
    },
    Test {
        name: "placement/prefetch_moves_and_says_so",
        needs: &[Need::Vram],
        run: prefetch_moves_and_says_so,
    },
    Test {
        name: "placement/second_prefetch_finds_it_there",
        needs: &[Need::Vram],
        run: second_prefetch_finds_it_there,
    },
    Test { name: "placement/back_to_system", needs: &[Need::Vram], run: back_to_system },
    Test { name: "placement/cpu_read_brings_it_back", needs: &[Need::Vram], run: cpu_read_brings_it_back },
    Test {
        name: "placement/cpu_write_lands_and_survives",
        needs: &[Need::Vram],
        run: cpu_write_lands_and_survives,
    },
    Test {
        name: "placement/untouched_memory_reads_zero",
        needs: &[Need::Vram],
        run: untouched_memory_reads_zero,
    },
    Test { name: "placement/odd_sizes_and_offsets", needs: &[Need::Vram], run: odd_sizes_and_offsets },
    Test { name: "placement/plain_vec", needs: &[Need::Vram], run: plain_vec },
    Test { name: "placement/empty_range_does_nothing", needs: &[], run: empty_range_does_nothing },
    Test { name: "placement/a_target_must_be_named", needs: &[], run: a_target_must_be_named },
    Test { name: "placement/unobserved_still_moves", needs: &[Need::Vram], run: unobserved_still_moves },
    Test {
        name: "placement/system_calls_reach_vram",
        needs: &[Need::Vram, Need::KernelTouch],
        run: system_calls_reach_vram,
    },
    Test {
        name: "placement/memory_of_another_gpu_is_refused",
        needs: &[Need::Kfd, Need::TwoGpus],
        run: memory_of_another_gpu_is_refused,
    },
];

/// A buffer in which every word tells its own index.
pub(crate) fn filled(bytes: usize) -> Result<Buffer<u64>, Error> {
    let mut data = Buffer::zeroed(bytes / 8)?;
    fill(&mut data);
    Ok(data)
}

pub(crate) fn fill(data: &mut [u64]) {
    for (index, word) in data.iter_mut().enumerate() {
        *word = word_at(index);
    }
}

pub(crate) fn word_at(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xabcd
}

/// Checks every word, which brings everything back.
pub(crate) fn assert_intact(data: &[u64]) {
    let wrong = data.iter().enumerate().find(|&(index, word)| *word != word_at(index));
    assert_eq!(wrong, None, "first wrong word (index, value)");
}

/// Bytes of the range that are in VRAM.
pub(crate) fn device_bytes(range: PageRange) -> Result<u64, Error> {
    Ok(residency::of_range(range)?.summary().bytes(Place::Device))
}

fn to_vram(context: &Context, mirror: &Mirror, data: &[u64]) -> Result<(), Error> {
    let outcome = mirror.prefetch(data).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    Ok(())
}

fn mirror_can_be_made_and_dropped(context: &Context) -> TestResult {
    for _ in 0..3 {
        drop(context.gpu().mirror()?);
    }
    let (first, second) = (context.gpu().mirror()?, context.gpu().mirror()?);
    drop(first);
    drop(second);
    Ok(())
}

fn prefetch_moves_and_says_so(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(8 << 20)?;
    assert_eq!(device_bytes(data.range())?, 0);
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!((outcome.moved(), outcome.already_there(), outcome.not_moved()), (8 << 20, 0, 0), "{outcome}");
    assert!(outcome.is_complete() && outcome.is_observed());
    assert_eq!(device_bytes(data.range())?, 8 << 20);
    context.picture("after the prefetch", data.range())?;
    assert_intact(&data);
    Ok(())
}

fn second_prefetch_finds_it_there(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(4 << 20)?;
    to_vram(context, &mirror, &data)?;
    let again = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!((again.moved(), again.already_there()), (0, 4 << 20), "{again}");
    assert_intact(&data);
    Ok(())
}

fn back_to_system(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(4 << 20)?;
    to_vram(context, &mirror, &data)?;
    let back = mirror.prefetch(&data).to_system().run()?;
    assert_eq!((back.moved(), back.not_moved()), (4 << 20, 0), "{back}");
    assert_eq!(device_bytes(data.range())?, 0);
    let again = mirror.prefetch(&data).to(Location::System).run()?;
    assert_eq!((again.moved(), again.already_there()), (0, 4 << 20), "{again}");
    assert_intact(&data);
    Ok(())
}

fn cpu_read_brings_it_back(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(4 << 20)?;
    to_vram(context, &mirror, &data)?;
    let middle = data.len() / 4;
    assert_eq!(std::hint::black_box(&data)[middle], word_at(middle));
    context.picture("after the CPU read one word", data.range())?;
    let now = residency::of_range(data.range())?;
    let touched = &data[middle] as *const u64 as u64;
    assert_ne!(now.place_at(touched), Some(Place::Device), "the touched page is back");
    let in_vram = now.summary().bytes(Place::Device);
    assert!(in_vram >= 2 << 20, "the other 2 MiB block stays: {now}");
    assert_intact(&data);
    assert_eq!(device_bytes(data.range())?, 0);
    Ok(())
}

fn cpu_write_lands_and_survives(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut data = filled(4 << 20)?;
    for round in 0..3u64 {
        to_vram(context, &mirror, &data)?;
        let stride = 4096 / 8;
        for index in (0..data.len()).step_by(stride) {
            data[index] ^= round + 1;
        }
        to_vram(context, &mirror, &data)?;
        for index in (0..data.len()).step_by(stride) {
            data[index] ^= round + 1;
        }
    }
    assert_intact(&data);
    Ok(())
}

fn untouched_memory_reads_zero(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut data = Buffer::<u64>::zeroed((4 << 20) / 8)?;
    data[0] = 7;
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "pages that never were come into being in VRAM: {outcome}");
    assert_eq!(data[0], 7);
    assert!(data[1..].iter().all(|&word| word == 0));
    Ok(())
}

fn odd_sizes_and_offsets(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut data = filled(6 << 20)?;
    let range = data.range();
    let page = page_size();
    for (offset, len) in [
        (0, page),
        (page, page),
        (SIZE_64K, SIZE_64K),
        (SIZE_64K - page, 2 * page),
        (SIZE_2M - page, 2 * page),
        (SIZE_2M + 3 * page, SIZE_2M + 5 * page),
    ] {
        let part = PageRange::new(range.start() + offset, len)?;
        let outcome = mirror.prefetch_range(part).to(context.gpu().vram()).run()?;
        assert!(outcome.is_complete(), "{offset:#x}+{len:#x}: {outcome}");
        assert!(device_bytes(part)? == len, "{offset:#x}+{len:#x}");
        assert_intact(&data);
    }
    fill(&mut data);
    assert_intact(&data);
    Ok(())
}

fn plain_vec(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut data = vec![0u64; (5 << 20) / 8 + 3];
    fill(&mut data);
    // Its first and last page may hold other things of the allocator: only the pages that are its own.
    let own = PageRange::inside(&data);
    let outcome = mirror.prefetch_range(own).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    assert_intact(&data);
    if !context.gpu().kernel_can_touch_vram() {
        return Ok(());
    }
    // A small one shares its page with other things; they stay intact as well.
    let small: Vec<u64> = (0..16).map(word_at).collect();
    let neighbour: Vec<u64> = (0..16).map(word_at).collect();
    let _ = mirror.prefetch(&small).to(context.gpu().vram()).run()?;
    assert_intact(&neighbour);
    assert_intact(&small);
    Ok(())
}

fn empty_range_does_nothing(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let nothing: [u8; 0] = [];
    let outcome = mirror.prefetch(&nothing).to_system().run()?;
    assert_eq!((outcome.requested(), outcome.is_complete()), (0, true));
    Ok(())
}

fn a_target_must_be_named(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let error = mirror.prefetch(&[0u8]).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.hint().is_some());
    Ok(())
}

fn unobserved_still_moves(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(2 << 20)?;
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).observe(Observe::Nothing).run()?;
    assert!(!outcome.is_observed() && !outcome.is_complete());
    assert_eq!(outcome.requested(), 2 << 20);
    assert_eq!(device_bytes(data.range())?, 2 << 20);
    let exact = mirror.prefetch(&data).to(context.gpu().vram()).observe(Observe::Exactly).run()?;
    assert_eq!(exact.already_there(), 2 << 20);
    assert_intact(&data);
    Ok(())
}

fn system_calls_reach_vram(context: &Context) -> TestResult {
    use std::io::{Read, Write};
    let mirror = context.gpu().mirror()?;
    let data = filled(2 << 20)?;
    to_vram(context, &mirror, &data)?;
    let (mut reader, mut writer) = std::os::unix::net::UnixStream::pair().expect("sockets can be had");
    let bytes: &[u8] = bytemuck::cast_slice(&data[..512]);
    writer.write_all(bytes).expect("the kernel reads memory that is in VRAM");
    drop(writer);
    let mut copy = Vec::new();
    reader.read_to_end(&mut copy).expect("a socket can be read");
    assert_eq!(copy, bytes);
    Ok(())
}

fn memory_of_another_gpu_is_refused(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(2 << 20)?;
    let error = mirror.prefetch(&data).to(context.peer().vram()).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().is_some(), "{error}");
    assert_intact(&data);
    Ok(())
}
