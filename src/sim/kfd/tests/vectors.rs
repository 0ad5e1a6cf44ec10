//! What a real kernel answers, number by number.

use super::*;

#[test]
fn a_fresh_page_has_the_defaults() {
    let (bench, memory) = (Bench::new(), memory(1));
    let asked = [(PREFERRED, 0), (PREFETCH, 0), (SET_FLAGS, 0), (CLR_FLAGS, 0), (GRANULARITY, 0)];
    let answer = bench.get(memory.range(), &asked).unwrap();
    let values: Vec<u32> = answer.iter().map(|&(_, value)| value).collect();
    assert_eq!(values, [UNDEF, UNDEF, 3, 0xffff_fffc, 9]);
    assert_eq!(bench.access(memory.range(), GPU), NO_ACCESS);
    bench.call(&mut abi::SetXnackMode { xnack_enabled: 1 }).unwrap();
    assert_eq!(bench.access(memory.range(), GPU), ACCESS);
}

#[test]
fn ranges_that_no_call_takes() {
    let (bench, memory) = (Bench::new(), memory(4));
    let (start, page) = (memory.range().start(), page_size());
    for op in [abi::KFD_IOCTL_SVM_OP_SET_ATTR, abi::KFD_IOCTL_SVM_OP_GET_ATTR] {
        for (at, size, expected) in [
            (start + 1, page, Errno::EINVAL),
            (start, page + 1, Errno::EINVAL),
            (0, page, Errno::EINVAL),
            (start, 0, Errno::EINVAL),
            (page, page.wrapping_neg(), Errno::EOVERFLOW),
            (page, page, Errno::EFAULT),
            (1 << 46, 1 << 20, Errno::EFAULT),
        ] {
            assert_eq!(
                bench.svm(at, size, op, &[(GRANULARITY, 3)]).0,
                Err(expected),
                "{at:#x} {size:#x} {op}"
            );
        }
    }
    assert_eq!(bench.svm(start, page, 2, &[]).0, Err(Errno::EINVAL));
}

#[test]
fn a_range_beyond_the_last_address_is_answered_before_7() {
    let (page, op) = (page_size(), abi::KFD_IOCTL_SVM_OP_GET_ATTR);
    for (kernel, expected) in [(Kernel::V6_18, Ok(())), (Kernel::V7_3, Err(Errno::EOVERFLOW))] {
        let (bench, memory) = (Bench::with(KfdConfig { kernel, ..KfdConfig::new() }), memory(2));
        let start = memory.range().start();
        let answer = bench.svm(start, page.wrapping_neg(), op, &[(GRANULARITY, 0)]);
        assert_eq!(answer.0, expected, "{kernel:?}");
    }
    let bench = Bench::with(KfdConfig { kernel: Kernel::V6_18, ..KfdConfig::new() });
    let in_a_hole = bench.svm(page, page.wrapping_neg(), op, &[(GRANULARITY, 0)]);
    assert_eq!(in_a_hole.0, Err(Errno::EFAULT), "the first mapping is looked at");
}

#[test]
fn attributes_that_no_call_takes() {
    let (bench, memory) = (Bench::new(), memory(1));
    for attr in [
        (PREFETCH, UNDEF),
        (PREFETCH, 1),
        (PREFERRED, 1),
        (ACCESS, 0),
        (ACCESS, UNDEF),
        (IN_PLACE, 0),
        (NO_ACCESS, 0),
        (8, 0),
    ] {
        assert_eq!(bench.set(memory.range(), &[attr]), Err(Errno::EINVAL), "{attr:?}");
        assert_eq!(bench.set(memory.range(), &[(GRANULARITY, 3), attr]), Err(Errno::EINVAL), "{attr:?}");
    }
    assert_eq!(bench.get_one(memory.range(), GRANULARITY), 9, "a failed check changes nothing");
    for attr in [(IN_PLACE, GPU), (NO_ACCESS, GPU), (8, 0)] {
        assert_eq!(bench.get(memory.range(), &[attr]), Err(Errno::EINVAL), "{attr:?}");
    }
    bench.set(memory.range(), &[(PREFERRED, UNDEF), (PREFETCH, 0)]).unwrap();
}

#[test]
fn an_unknown_gpu_in_a_query_leaves_earlier_answers_behind() {
    let (bench, memory) = (Bench::new(), memory(1));
    let range = memory.range();
    let asked = [(GRANULARITY, 77), (ACCESS, 1), (SET_FLAGS, 77)];
    let (result, answer) = bench.svm(range.start(), range.len(), abi::KFD_IOCTL_SVM_OP_GET_ATTR, &asked);
    assert_eq!((result, answer), (Err(Errno::EINVAL), vec![(GRANULARITY, 9), (ACCESS, 1), (SET_FLAGS, 77)]));
}

#[test]
fn the_last_of_contradicting_attributes_wins() {
    let (bench, memory) = (Bench::new(), memory(4));
    bench.set(pages(&memory, 0, 1), &[(SET_FLAGS, 8), (CLR_FLAGS, 8)]).unwrap();
    assert_eq!(bench.get_one(pages(&memory, 0, 1), SET_FLAGS), 3);
    bench.set(pages(&memory, 1, 2), &[(CLR_FLAGS, 8), (SET_FLAGS, 8)]).unwrap();
    assert_eq!(bench.get_one(pages(&memory, 1, 2), SET_FLAGS), 0xb);
    bench.set(pages(&memory, 2, 3), &[(ACCESS, GPU), (NO_ACCESS, GPU)]).unwrap();
    assert_eq!(bench.access(pages(&memory, 2, 3), GPU), NO_ACCESS);
    bench.set(pages(&memory, 3, 4), &[(ACCESS, GPU), (IN_PLACE, GPU)]).unwrap();
    assert_eq!(bench.access(pages(&memory, 3, 4), GPU), IN_PLACE);
    assert_eq!(bench.access(pages(&memory, 2, 4), GPU), NO_ACCESS);
}

#[test]
fn a_query_over_ranges_that_differ() {
    let (bench, memory) = (Bench::new(), memory(4));
    bench.set(pages(&memory, 0, 1), &[(GRANULARITY, 5), (PREFERRED, GPU), (SET_FLAGS, 0x10)]).unwrap();
    bench.set(pages(&memory, 1, 2), &[(GRANULARITY, 9), (PREFERRED, 0), (SET_FLAGS, 0x20)]).unwrap();
    let both = pages(&memory, 0, 2);
    assert_eq!(bench.get_one(both, GRANULARITY), 5);
    assert_eq!(bench.get_one(both, PREFERRED), UNDEF);
    assert_eq!(bench.get_one(both, SET_FLAGS), 3);
    assert_eq!(bench.get_one(both, CLR_FLAGS), !0x33);
    assert_eq!(bench.get_one(pages(&memory, 0, 1), PREFERRED), GPU);
}

#[test]
fn one_registered_page_decides_for_all_that_are_not() {
    let (bench, memory) = (Bench::new(), memory(512));
    bench.set(pages(&memory, 100, 101), &[(GRANULARITY, 4)]).unwrap();
    assert_eq!(bench.get_one(memory.range(), GRANULARITY), 4);
    assert_eq!(bench.get_one(pages(&memory, 0, 100), GRANULARITY), 9);
}

#[test]
fn setting_the_middle_of_a_range_cuts_it_in_three() {
    let (bench, memory) = (Bench::new(), memory(9));
    bench.set(memory.range(), &[(ACCESS, GPU)]).unwrap();
    bench.set(pages(&memory, 3, 5), &[(PREFERRED, 0)]).unwrap();
    assert_eq!(bench.ranges(), [pages(&memory, 0, 3), pages(&memory, 3, 5), pages(&memory, 5, 9)]);
    assert_eq!(bench.get_one(memory.range(), PREFERRED), UNDEF);
    assert_eq!(bench.access(memory.range(), GPU), ACCESS);
}

#[test]
fn granularity_is_stored_up_to_63() {
    let (bench, memory) = (Bench::new(), memory(1));
    for (set, stored) in [(0, 0), (27, 27), (0x3f, 0x3f), (0x40, 0x3f), (0xff, 0x3f), (u32::MAX, 0x3f)] {
        bench.set(memory.range(), &[(GRANULARITY, set)]).unwrap();
        assert_eq!(bench.get_one(memory.range(), GRANULARITY), stored, "{set:#x}");
    }
}

#[test]
fn unknown_flags_are_stored() {
    let (bench, memory) = (Bench::new(), memory(1));
    bench.set(memory.range(), &[(SET_FLAGS, 0x8000_0100)]).unwrap();
    assert_eq!(bench.get_one(memory.range(), SET_FLAGS), 0x8000_0103);
}

#[test]
fn no_attribute_at_all_registers_and_asks_nothing() {
    let (bench, memory) = (Bench::new(), memory(2));
    bench.set(memory.range(), &[]).unwrap();
    assert_eq!(bench.ranges(), [memory.range()]);
    assert_eq!(bench.get(memory.range(), &[]).unwrap(), []);
}

#[test]
fn a_prefetch_is_reported_as_wished_for_and_repeated() {
    let (bench, memory) = (Bench::new(), memory(4));
    let in_vram = |range| bench.kfd.shared.memory.in_vram(range).iter().map(PageRange::pages).sum::<u64>();
    bench.set(pages(&memory, 0, 2), &[(PREFETCH, GPU)]).unwrap();
    assert_eq!(in_vram(memory.range()), 2);
    assert_eq!(bench.get_one(pages(&memory, 0, 2), PREFETCH), GPU);
    bench.set(pages(&memory, 2, 4), &[(PREFETCH, 0)]).unwrap();
    assert_eq!(bench.get_one(memory.range(), PREFETCH), UNDEF);
    bench.kfd.shared.memory.to_system(memory.range()).unwrap();
    bench.set(memory.range(), &[(PREFERRED, 0)]).unwrap();
    assert_eq!(in_vram(memory.range()), 2, "the remembered prefetch is repeated");
    bench.set(memory.range(), &[(PREFETCH, 0)]).unwrap();
    assert_eq!(in_vram(memory.range()), 0);
}

#[test]
fn large_ranges_are_made_in_chunks() {
    let mut config = KfdConfig::new();
    config.gpus[0].vram = 64 << 20;
    let (bench, memory) = (Bench::with(config), memory(2048));
    bench.set(memory.range(), &[]).unwrap();
    let ranges = bench.ranges();
    assert!(ranges.len() >= 4, "{ranges:?}");
    assert!(ranges.iter().all(|range| range.start() >> 21 == (range.end() - 1) >> 21), "{ranges:?}");
}
