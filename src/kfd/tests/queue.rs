use std::time::Duration;

use super::*;
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

/// Long enough for any machine; only a test that fails waits this long.
const HANG: Duration = Duration::from_secs(60);

fn gfx() -> GfxVersion {
    GfxVersion { major: 9, minor: 0, stepping: 10 }
}

/// Submits and waits.
fn run(queue: &mut SdmaQueue, packets: &SdmaPackets) -> Result<()> {
    // SAFETY: the tests' packets touch memory that the test owns and does not use meanwhile, or memory that the GPU is denied.
    unsafe { queue.submit(packets) }?;
    queue.wait(HANG)
}

fn access(machine: &Machine, buffer: &Buffer<u8>) {
    machine.process.set_attributes(buffer.range(), &[SvmAttribute::Access(gpu(GPU))]).unwrap();
}

#[test]
fn a_copy_engine_writes_copies_fills_and_fences() {
    let machine = Machine::new();
    let buffer = memory(8);
    access(&machine, &buffer);
    let mut queue = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
    let start = buffer.range().start();
    let page = page_size();
    let mut packets = SdmaPackets::new(gfx());
    packets.write(start, &[0x0403_0201, 0x0807_0605]).unwrap();
    packets.copy(start, start + 2 * page - 3, 8);
    packets.fill(start + 4 * page, 0xabab_abab, 2 * page).unwrap();
    packets.fence(start + 7 * page, 7).unwrap();
    run(&mut queue, &packets).unwrap();
    let at = |offset: u64, len: usize| &buffer[offset as usize..offset as usize + len];
    assert_eq!(at(0, 9), [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    assert_eq!(at(2 * page - 4, 10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
    assert!(at(4 * page, 2 * page as usize).iter().all(|&byte| byte == 0xab));
    assert_eq!(
        (at(4 * page - 1, 1), at(6 * page, 1), at(7 * page, 4)),
        (&[0][..], &[0][..], &[7, 0, 0, 0][..])
    );
}

#[test]
fn each_queue_has_a_doorbell_of_its_own() {
    let machine = Machine::new();
    let buffer = memory(1);
    access(&machine, &buffer);
    let mut queues = [(); 3].map(|()| machine.process.create_sdma_queue(gpu(GPU), 0).unwrap());
    for round in 1..4u32 {
        for (index, queue) in queues.iter_mut().enumerate().rev() {
            let (offset, value) = (8 * index, 10 * round + index as u32);
            let mut packets = SdmaPackets::new(gfx());
            packets.fence(buffer.range().start() + offset as u64, value).unwrap();
            run(queue, &packets).unwrap();
            assert_eq!(buffer[offset..offset + 4], value.to_le_bytes());
        }
    }
}

#[test]
fn doorbells_are_mapped_from_the_first_on_wherever_the_queues_own_is() {
    for doorbell in [0, 8, 0x788] {
        let (recorder, process, machine) = recorded(KfdConfig::new());
        process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
        *recorder.doorbell.lock().unwrap() = doorbell;
        let error = process.create_sdma_queue(gpu(GPU), 0).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV));
        let all = abi::KFD_MMAP_TYPE_DOORBELL | u64::from(GPU) << abi::KFD_MMAP_GPU_ID_SHIFT;
        assert_eq!(*recorder.mapped.lock().unwrap(), [(all, 8192)], "{doorbell:#x}");
        let destroyed = |(request, _): &(u32, Vec<u8>)| *request == abi::DestroyQueue::REQUEST;
        assert!(recorder.take().iter().any(destroyed), "nothing half-done stays behind");
    }
}

#[test]
fn an_event_for_violations_goes_with_its_object() {
    let (recorder, process, _machine) = recorded(KfdConfig::new());
    let violations = process.memory_exceptions().unwrap();
    let destroyed = |sent: Vec<(u32, Vec<u8>)>| {
        let of_events = sent.into_iter().filter(|(request, _)| *request == abi::DestroyEvent::REQUEST);
        of_events.map(|(_, arg)| u32::from_ne_bytes(arg[..4].try_into().unwrap())).collect::<Vec<_>>()
    };
    let created: Vec<(u32, Vec<u8>)> = recorder.take();
    assert!(created.iter().any(|(request, _)| *request == abi::CreateEvent::REQUEST));
    assert_eq!(destroyed(created), [0u32; 0]);
    drop(violations);
    let ids = destroyed(recorder.take());
    assert_eq!(ids.len(), 1);
    // Gone: its number is not known any more.
    let mut again = abi::DestroyEvent { event_id: ids[0], pad: 0 };
    // SAFETY: the argument holds no address.
    let error = unsafe { process.channel().call(&mut again, crate::channel::Retry::Always) }.unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
}

#[test]
fn rings_wrap_between_packets() {
    let machine = Machine::new();
    let buffer = memory(1);
    access(&machine, &buffer);
    let mut queue = machine.process.create_sdma_queue(gpu(GPU), 4096).unwrap();
    let mut packets = SdmaPackets::new(gfx());
    packets.write(buffer.range().start(), &[1; 100]).unwrap();
    for round in 0..50u32 {
        let mut packets = packets.clone();
        packets.fence(buffer.range().start() + 1000, round).unwrap();
        run(&mut queue, &packets).unwrap();
        assert_eq!(buffer[1000..1004], round.to_le_bytes());
    }
    let mut too_large = SdmaPackets::new(gfx());
    too_large.write(buffer.range().start(), &[1; 1024]).unwrap();
    let error = run(&mut queue, &too_large).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_gpu_without_access_commits_a_violation() {
    let machine = Machine::new();
    let violations = machine.process.memory_exceptions().unwrap();
    let mut log = machine.process.smi_events(gpu(GPU), SmiMask::VM_FAULT).unwrap();
    assert_eq!(violations.wait(Some(Duration::ZERO)).unwrap(), None);
    let (denied, read_only) = (memory(1), memory(1));
    machine
        .process
        .set_attributes(
            read_only.range(),
            &[SvmAttribute::SetFlags(SvmFlags::GPU_READ_ONLY), SvmAttribute::Access(gpu(GPU))],
        )
        .unwrap();
    for (buffer, not_present) in [(&denied, true), (&read_only, false)] {
        let mut queue = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
        let mut packets = SdmaPackets::new(gfx());
        packets.fence(buffer.range().start() + 8, 1).unwrap();
        // SAFETY: the GPU is denied this memory.
        unsafe { queue.submit(&packets) }.unwrap();
        let violation = violations.wait(Some(HANG)).unwrap().unwrap();
        assert_eq!((violation.gpu, violation.address), (Some(gpu(GPU)), buffer.range().start()));
        assert_eq!((violation.not_present, violation.read_only), (not_present, !not_present));
        assert_eq!(queue.wait(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(buffer[8], 0);
        assert!(
            matches!(log.next_event().unwrap(), Some(SmiEvent::VmFault { pid, .. }) if pid == std::process::id() as i32)
        );
    }
}

#[test]
fn with_xnack_a_gpu_reaches_memory_that_nobody_registered() {
    let machine = Machine::new();
    machine.process.set_xnack(Xnack::On).unwrap();
    let mut log = machine.process.smi_events(gpu(GPU), SmiMask::SVM).unwrap();
    let buffer = memory(4);
    let mut queue = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
    let mut packets = SdmaPackets::new(gfx());
    packets.fence(buffer.range().start() + page_size(), 9).unwrap();
    run(&mut queue, &packets).unwrap();
    assert_eq!(buffer[page_size() as usize], 9);
    let events: Vec<_> = log.drain().map(Result::unwrap).collect();
    let [
        SmiEvent::PageFaultStart(fault),
        SmiEvent::MigrateStart(start),
        SmiEvent::MigrateEnd(_),
        SmiEvent::PageFaultEnd(end),
        ..,
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((fault.page, fault.write), (buffer.range().start() + page_size(), true));
    assert_eq!((start.trigger, start.to), (MigrateTrigger::PageFaultGpu, Location::Gpu(gpu(GPU))));
    assert!(start.range.contains(fault.page) && end.migrated);
    assert_eq!(machine.process.set_xnack(Xnack::Off).unwrap_err().kind(), ErrorKind::Busy);
    drop(queue);
    machine.process.set_xnack(Xnack::Off).unwrap();
}

#[test]
fn memory_objects_are_freed_and_their_addresses_are_no_svm() {
    let machine = Machine::new();
    let free = machine.process.available_memory(gpu(GPU)).unwrap();
    let object = machine.process.allocate(gpu(GPU), 5 << 20, MemoryKind::Vram).unwrap();
    assert_eq!(object.len(), 5 << 20);
    assert_eq!(free - machine.process.available_memory(gpu(GPU)).unwrap(), 6 << 20, "rounded to 2 MiB");
    let over =
        machine.process.set_attributes(object.gpu_range(), &[SvmAttribute::Access(gpu(GPU))]).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::AddressInUse);
    drop(object);
    assert_eq!(machine.process.available_memory(gpu(GPU)).unwrap(), free);
    let error = machine.process.allocate(gpu(GPU), 2 << 30, MemoryKind::Vram).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::OutOfVram, Some(Errno::ENOMEM)));
    assert_eq!(
        machine.process.allocate(gpu(GPU), 0, MemoryKind::System).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        machine.process.allocate(gpu(7), 1, MemoryKind::System).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn the_engine_reaches_memory_objects() {
    let machine = Machine::new();
    let object = machine.process.allocate(gpu(GPU), 1, MemoryKind::System).unwrap();
    let mut queue = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
    let mut packets = SdmaPackets::new(gfx());
    packets.write(object.gpu_range().start() + 16, &[0x1234_5678]).unwrap();
    run(&mut queue, &packets).unwrap();
    // SAFETY: the mapping is a page long.
    let place = unsafe { object.as_ptr().add(16) };
    // SAFETY: four bytes inside the mapping, aligned to 4, and the engine is done with them.
    let value = unsafe { place.cast::<u32>().read_volatile() };
    assert_eq!(value, 0x1234_5678);
}

#[test]
fn engines_run_out() {
    let machine = Machine::with(KfdConfig::with_gpus(vec![GpuConfig::vega10(GPU, 1 << 30)]));
    let queues: Vec<_> = (0..4).map(|_| machine.process.create_sdma_queue(gpu(GPU), 0).unwrap()).collect();
    let error = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Busy, Some(Errno::ENOMEM)));
    drop(queues);
    machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
}

#[test]
fn an_address_space_that_others_acquired_maps_no_objects() {
    let machine = Machine::new();
    let adopted = Process::adopt(machine.kfd.open().unwrap(), &[gpu(GPU)]).unwrap();
    assert_eq!(adopted.create_sdma_queue(gpu(GPU), 0).unwrap_err().kind(), ErrorKind::Unsupported);
    let machine = Machine::without_vm(KfdConfig::new());
    assert_eq!(machine.process.create_sdma_queue(gpu(GPU), 0).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Pages of a buffer that are in VRAM, as anyone can see.
fn away(buffer: &Buffer<u8>) -> u64 {
    use crate::residency::{Place, of_range};
    of_range(buffer.range()).unwrap().summary().bytes(Place::Device) / page_size()
}

#[test]
fn the_engine_works_in_vram_and_the_cpu_sees_it() {
    let machine = Machine::new();
    let mut buffer = memory(16);
    buffer.fill(1);
    let place = SvmAttribute::Prefetch(Location::Gpu(gpu(GPU)));
    machine.process.set_attributes(buffer.range(), &[SvmAttribute::Access(gpu(GPU)), place]).unwrap();
    assert_eq!(away(&buffer), 16);
    let mut queue = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
    let start = buffer.range().start();
    let mut packets = SdmaPackets::new(gfx());
    packets.fill(start, 0x0505_0505, 8 * page_size()).unwrap();
    packets.copy(start, start + 12 * page_size(), page_size());
    run(&mut queue, &packets).unwrap();
    assert_eq!(away(&buffer), 16, "nothing came back for that");
    let page = page_size() as usize;
    let expected = |at: usize| if at < 8 || at == 12 { 5 } else { 1 };
    assert!(buffer.iter().enumerate().all(|(at, &byte)| byte == expected(at / page)));
    assert_eq!(away(&buffer), 0);
    // The mappings are restored in system memory, and the queue goes on.
    packets = SdmaPackets::new(gfx());
    packets.fence(start, 9).unwrap();
    run(&mut queue, &packets).unwrap();
    assert_eq!(buffer[0], 9);
}

#[test]
fn a_faulting_gpu_gets_the_block_around_the_page() {
    let machine = Machine::new();
    machine.process.set_xnack(Xnack::On).unwrap();
    let mut buffer = memory(64);
    buffer.fill(3);
    let granularity = SvmAttribute::Granularity(Granularity::from_pages_log2(3));
    machine.process.set_attributes(buffer.range(), &[granularity]).unwrap();
    let mut queue = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
    let mut packets = SdmaPackets::new(gfx());
    packets.fence(buffer.range().start() + 20 * page_size(), 1).unwrap();
    run(&mut queue, &packets).unwrap();
    assert_eq!(away(&buffer), 8);
    assert_eq!(buffer[20 * page_size() as usize], 1);
    assert_eq!(away(&buffer), 0);
    // The page left the GPU, so it faults again.
    packets.fence(buffer.range().start() + 20 * page_size() + 4, 2).unwrap();
    run(&mut queue, &packets).unwrap();
    assert_eq!(away(&buffer), 8);
    assert_eq!(buffer[20 * page_size() as usize + 4], 2);
}

#[test]
fn where_a_fault_puts_memory() {
    let machine = Machine::with(two_gpus());
    machine.process.set_xnack(Xnack::On).unwrap();
    let (first, second) = (gpu(GPU), gpu(0x1111));
    let violations = machine.process.memory_exceptions().unwrap();
    for (attributes, expected) in [
        (vec![], Some(4)),
        (vec![SvmAttribute::AccessInPlace(first)], Some(0)),
        (vec![SvmAttribute::Preferred(Some(Location::System))], Some(0)),
        (vec![SvmAttribute::NoAccess(first), SvmAttribute::Preferred(Some(first.into()))], Some(4)),
        (vec![SvmAttribute::Preferred(Some(second.into()))], Some(4)),
        (vec![SvmAttribute::NoAccess(first)], None),
    ] {
        let mut buffer = memory(4);
        buffer.fill(1);
        if !attributes.is_empty() {
            machine.process.set_attributes(buffer.range(), &attributes).unwrap();
        }
        let mut queue = machine.process.create_sdma_queue(first, 0).unwrap();
        let mut packets = SdmaPackets::new(gfx());
        packets.fence(buffer.range().start(), 2).unwrap();
        // SAFETY: the buffer is the test's own and not used meanwhile.
        unsafe { queue.submit(&packets) }.unwrap();
        match expected {
            Some(pages) => {
                queue.wait(HANG).unwrap();
                assert_eq!(away(&buffer), pages, "{attributes:?}");
                assert_eq!(buffer[0], 2);
            }
            None => {
                let violation = violations.wait(Some(HANG)).unwrap().unwrap();
                assert_eq!(violation.address, buffer.range().start());
            }
        }
    }
}

#[test]
fn with_xnack_a_write_to_read_only_memory_and_a_hole_are_violations() {
    let machine = Machine::new();
    machine.process.set_xnack(Xnack::On).unwrap();
    let violations = machine.process.memory_exceptions().unwrap();
    let read_only = "constant".as_ptr() as u64 & !(page_size() - 1);
    for address in [read_only, 1 << 46] {
        let mut queue = machine.process.create_sdma_queue(gpu(GPU), 0).unwrap();
        let mut packets = SdmaPackets::new(gfx());
        packets.fence(address, 2).unwrap();
        // SAFETY: nothing can be written there.
        unsafe { queue.submit(&packets) }.unwrap();
        assert_eq!(violations.wait(Some(HANG)).unwrap().unwrap().address, address);
    }
}
