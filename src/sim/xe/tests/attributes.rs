use super::*;
use crate::uapi::xe::{MemRangeAttr, VmQueryMemRangeAttrs};
use crate::xe::{Advice, AtomicMode, RangeAttributeBuffer};

#[test]
fn the_protocol_has_two_calls() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    vm.advise(pages(16 * PAGE, 4), Advice::Atomic(AtomicMode::Cpu)).unwrap();
    let good = VmQueryMemRangeAttrs { vm_id: vm.id(), start: 0, range: 1 << 20, ..Default::default() };
    let mut entries = [MemRangeAttr::default(); 4];
    let to = entries.as_mut_ptr() as u64;
    let ask = |mut arg: VmQueryMemRangeAttrs| {
        raw(bench.device.channel(), &mut arg).map(|()| (arg.num_mem_ranges, arg.sizeof_mem_range_attr))
    };
    assert_eq!(ask(good), Ok((3, 64)));
    let data =
        VmQueryMemRangeAttrs { num_mem_ranges: 4, sizeof_mem_range_attr: 64, vector_of_mem_attr: to, ..good };
    assert_eq!(ask(data), Ok((3, 64)));
    for (arg, errno) in [
        (VmQueryMemRangeAttrs { vm_id: 9, ..good }, Errno::EINVAL),
        (VmQueryMemRangeAttrs { sizeof_mem_range_attr: 64, ..good }, Errno::EINVAL),
        (VmQueryMemRangeAttrs { vector_of_mem_attr: to, ..good }, Errno::EINVAL),
        (VmQueryMemRangeAttrs { sizeof_mem_range_attr: 63, ..data }, Errno::EINVAL),
        (VmQueryMemRangeAttrs { vector_of_mem_attr: 0, ..data }, Errno::EINVAL),
        (VmQueryMemRangeAttrs { num_mem_ranges: 2, ..data }, Errno::ENOSPC),
        (VmQueryMemRangeAttrs { vector_of_mem_attr: 8, ..data }, Errno::EFAULT),
    ] {
        assert_eq!(ask(arg), Err(errno), "{arg:?}");
    }
    // Not looked at, and an empty range strictly inside a mapping names it.
    assert_eq!(ask(VmQueryMemRangeAttrs { extensions: 1, reserved: [1, 1], ..good }), Ok((3, 64)));
    assert_eq!(ask(VmQueryMemRangeAttrs { start: PAGE, range: 0, ..good }), Ok((1, 64)));
    assert_eq!(ask(VmQueryMemRangeAttrs { start: 16 * PAGE, range: 0, ..good }), Ok((0, 64)));
}

#[test]
fn entries_are_not_clipped() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let listed = vm.range_attributes(pages(1 << 30, 1)).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].range, bench.device.config().whole_va());
    assert_eq!(vm.range_attributes(pages(1 << 30, 0)).unwrap(), []);
}

#[test]
fn a_buffer_grows_and_is_used_again() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let mut buffer = RangeAttributeBuffer::with_capacity(1);
    let whole = bench.device.config().whole_va();
    assert_eq!(vm.range_attributes_into(whole, &mut buffer).unwrap().len(), 1);
    for at in 0..20 {
        vm.advise(pages((2 * at + 1) * PAGE, 1), Advice::Atomic(AtomicMode::Device)).unwrap();
    }
    assert_eq!(vm.range_attributes_into(whole, &mut buffer).unwrap().len(), 41);
    assert_eq!(vm.range_attributes_into(pages(PAGE, 1), &mut buffer).unwrap().len(), 1);
}

#[test]
fn kernels_without_the_call_are_told_from_bad_arguments() {
    let old = Bench::at(KernelVersion::V6_17);
    refused(old.mirrored().range_attributes(pages(0, 1)), ErrorKind::Unsupported, Some(Errno::EINVAL));
    let new = Bench::new(Platform::Battlemage);
    // SAFETY: there is no such VM.
    let stranger = unsafe { Vm::adopt(&new.device, 9) }.unwrap();
    refused(stranger.range_attributes(pages(0, 1)), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
}
