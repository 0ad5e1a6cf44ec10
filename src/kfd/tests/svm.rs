use std::os::fd::AsFd;
use std::time::Duration;

use super::*;

#[test]
fn what_is_set_is_read_back() {
    let machine = Machine::with(two_gpus());
    let (process, memory) = (&machine.process, memory(4));
    let gpus = [gpu(GPU), gpu(0x1111)];
    let fresh = process.get_attributes(memory.range(), &gpus).unwrap();
    assert_eq!((fresh.preferred, fresh.prefetch), (Agreed::MixedOrUnset, Agreed::MixedOrUnset));
    assert_eq!(fresh.flags_on_all, SvmFlags::HOST_ACCESS | SvmFlags::COHERENT);
    assert_eq!(fresh.flags_on_any, Some(fresh.flags_on_all));
    assert_eq!(fresh.granularity, Granularity::from_pages_log2(9));
    assert_eq!(fresh.access_of(gpus[0]), Some(GpuAccess::NoneOrMixed));

    process
        .set_attributes(
            pages(&memory, 0, 2),
            &[
                SvmAttribute::Preferred(Some(Location::Gpu(gpus[1]))),
                SvmAttribute::Prefetch(Location::System),
                SvmAttribute::Access(gpus[0]),
                SvmAttribute::AccessInPlace(gpus[1]),
                SvmAttribute::SetFlags(SvmFlags::GPU_EXEC),
                SvmAttribute::Granularity(Granularity::PAGE),
            ],
        )
        .unwrap();
    let set = process.get_attributes(memory.range(), &gpus).unwrap();
    assert_eq!(set.preferred, Agreed::Uniform(Location::Gpu(gpus[1])));
    assert_eq!(set.prefetch, Agreed::Uniform(Location::System));
    assert_eq!(set.access, [(gpus[0], GpuAccess::Full), (gpus[1], GpuAccess::InPlace)]);
    assert!(set.flags_on_all.contains(SvmFlags::GPU_EXEC));
    assert_eq!(set.granularity, Granularity::PAGE);

    process.set_attributes(pages(&memory, 1, 3), &[SvmAttribute::Preferred(None)]).unwrap();
    let mixed = process.get_attributes(memory.range(), &gpus).unwrap();
    assert_eq!(
        (mixed.preferred, mixed.access_of(gpus[0])),
        (Agreed::MixedOrUnset, Some(GpuAccess::NoneOrMixed))
    );
    assert!(!mixed.flags_on_all.contains(SvmFlags::GPU_EXEC));
    assert!(mixed.flags_on_any.unwrap().contains(SvmFlags::GPU_EXEC));
}

#[test]
fn empty_ranges_and_lists() {
    let (recorder, process, machine) = recorded(KfdConfig::new());
    process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    recorder.take();
    let memory = memory(1);
    let empty = pages(&memory, 0, 0);
    process.set_attributes(empty, &[SvmAttribute::Access(gpu(GPU))]).unwrap();
    process.set_attributes(memory.range(), &[]).unwrap();
    assert_eq!(process.get_attributes(empty, &[]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let zero = PageRange::new(0, page_size()).unwrap();
    let error = process.set_attributes(zero, &[SvmAttribute::Access(gpu(GPU))]).unwrap_err();
    assert_eq!((error.kind(), error.range()), (ErrorKind::InvalidArgument, Some(zero)));
    assert!(recorder.take().is_empty(), "nothing of this reaches the kernel");
}

#[test]
fn races_and_signals_are_repeated_here() {
    let machine = Machine::new();
    let memory = memory(1);
    machine.kfd.faults().mapping_races(5);
    machine.kfd.faults().mapping_interrupted(5);
    machine.process.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(GPU))]).unwrap();
    machine.kfd.faults().mapping_races(u32::MAX);
    let error = machine
        .process
        .set_attributes(memory.range(), &[SvmAttribute::SetFlags(SvmFlags::GPU_EXEC)])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
}

#[test]
fn holes_and_unknown_gpus() {
    let machine = Machine::new();
    let hole = PageRange::new(1 << 46, page_size()).unwrap();
    let error = machine.process.set_attributes(hole, &[SvmAttribute::Access(gpu(GPU))]).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NotMapped, Some(Errno::EFAULT)));
    let memory = memory(1);
    let error = machine.process.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(7))]).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::InvalidArgument, Some(Errno::EINVAL)));
    let error = machine.process.get_attributes(memory.range(), &[gpu(7)]).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, Some(Errno::EINVAL)));
}

#[test]
fn xnack_is_switched_and_refused() {
    let machine = Machine::new();
    assert_eq!(machine.process.xnack().unwrap(), Xnack::Off);
    machine.process.set_xnack(Xnack::On).unwrap();
    assert_eq!(machine.process.xnack().unwrap(), Xnack::On);
    machine.kfd.faults().pretend_queue(true);
    assert_eq!(machine.process.set_xnack(Xnack::On).unwrap_err().kind(), ErrorKind::Busy);
    let rdna = Machine::with(KfdConfig::with_gpus(vec![GpuConfig::navi31(GPU, 1 << 30)]));
    assert_eq!(rdna.process.set_xnack(Xnack::On).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_prefetch_is_in_the_log() {
    let machine = Machine::new();
    let memory = memory(3);
    let mut log = machine.process.smi_events(gpu(GPU), SmiMask::MIGRATIONS).unwrap();
    assert_eq!(log.next_event().unwrap(), None);
    let flags = rustix::io::fcntl_getfd(log.as_fd()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    machine
        .process
        .set_attributes(memory.range(), &[SvmAttribute::Prefetch(Location::Gpu(gpu(GPU)))])
        .unwrap();
    let events: Vec<_> = log.drain().map(Result::unwrap).collect();
    let [SmiEvent::MigrateStart(start), SmiEvent::MigrateEnd(end)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((start.range, end.range), (memory.range(), memory.range()));
    assert_eq!((start.from, start.to), (Location::System, Location::Gpu(gpu(GPU))));
    assert_eq!((start.prefetch, start.preferred), (Some(Location::Gpu(gpu(GPU))), None));
    assert_eq!((start.trigger, end.error), (MigrateTrigger::Prefetch, Some(0)));
    assert_eq!(start.pid, std::process::id() as i32);
    assert!(start.at <= end.at && !log.may_have_lost_events());

    log.set_mask(SmiMask::empty()).unwrap();
    machine.process.set_attributes(memory.range(), &[SvmAttribute::Prefetch(Location::System)]).unwrap();
    assert_eq!(log.next_event().unwrap(), None);
    assert_eq!(log.wait(Some(Duration::ZERO)).unwrap(), None);
}

#[test]
fn waiting_for_an_event_of_another_thread() {
    let machine = Machine::new();
    let memory = memory(1);
    let mut log = machine.process.smi_events(gpu(GPU), SmiMask::MIGRATE_END).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let to = SvmAttribute::Prefetch(Location::Gpu(gpu(GPU)));
            machine.process.set_attributes(memory.range(), &[to]).unwrap();
        });
        let event = log.wait(Some(Duration::from_secs(60))).unwrap();
        assert!(matches!(event, Some(SmiEvent::MigrateEnd(_))), "{event:?}");
    });
}

#[test]
fn a_full_log_drops_whole_lines_and_is_recognised() {
    for (kernel, capacity) in [(Kernel::V6_18, 1024), (Kernel::V7_3, 8192)] {
        let machine = Machine::with(KfdConfig { kernel, ..KfdConfig::new() });
        let memory = memory(1);
        let mut log = machine.process.smi_events(gpu(GPU), SmiMask::MIGRATIONS).unwrap();
        for _ in 0..capacity / 40 {
            let to = SvmAttribute::Prefetch(Location::Gpu(gpu(GPU)));
            machine.process.set_attributes(memory.range(), &[to]).unwrap();
        }
        let events: Vec<_> = log.drain().map(Result::unwrap).collect();
        assert!(events.len() > 10 && events.len() < 2 * capacity / 40, "{}", events.len());
        assert!(!events.iter().any(|event| matches!(event, SmiEvent::Raw(_))), "{events:?}");
        assert!(log.may_have_lost_events() && !log.may_have_lost_events());
    }
}

#[test]
fn older_kernels_write_other_lines() {
    let machine = Machine::with(KfdConfig { kernel: Kernel::V6_16, ..KfdConfig::new() });
    let memory = memory(1);
    let mut log = machine.process.smi_events(gpu(GPU), SmiMask::MIGRATIONS).unwrap();
    machine
        .process
        .set_attributes(memory.range(), &[SvmAttribute::Prefetch(Location::Gpu(gpu(GPU)))])
        .unwrap();
    let last = log.drain().map(Result::unwrap).last();
    assert!(matches!(last, Some(SmiEvent::MigrateEnd(MigrateEnd { error: None, .. }))), "{last:?}");
}
