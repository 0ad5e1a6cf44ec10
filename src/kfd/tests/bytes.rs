//! Byte for byte what AMD's own library sends where it does the same.

use super::*;

/// A request number and the dwords of its argument.
fn words(call: &(u32, Vec<u8>)) -> (u32, Vec<u32>) {
    (call.0, call.1.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect())
}

/// The dwords of an SVM call behind start and size, which are checked.
fn svm(call: &(u32, Vec<u8>), range: PageRange) -> (u32, Vec<u32>) {
    let (request, words) = words(call);
    let long = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
    assert_eq!((long(0), long(2)), (range.start(), range.len()));
    (request, words[4..].to_vec())
}

#[test]
fn opening_a_process() {
    let (recorder, process, machine) = recorded(KfdConfig::new());
    let calls = recorder.take();
    assert_eq!(words(&calls[0]), (0x8008_4b01, vec![0, 0]));
    assert_eq!(words(&calls[1]), (0xc018_4b20, vec![0, 0, 0, 0, 1, 0]), "asks nothing of no memory");
    assert_eq!(words(&calls[2]), (0xc010_4b14, vec![0, 0, 0, 0]));
    let (request, apertures) = words(&calls[3]);
    assert_eq!((request, &apertures[2..]), (0xc010_4b14, &[1, 0][..]));
    assert_eq!(calls.len(), 4);
    process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    use std::os::fd::AsRawFd;
    let fd = machine.renders[0].descriptor().unwrap().as_raw_fd() as u32;
    assert_eq!(words(&recorder.take()[0]), (0x4008_4b15, vec![fd, GPU]));
}

#[test]
fn xnack_modes() {
    let (recorder, process, _machine) = recorded(KfdConfig::new());
    recorder.take();
    process.xnack().unwrap();
    process.set_xnack(Xnack::On).unwrap();
    process.set_xnack(Xnack::Off).unwrap();
    let calls: Vec<_> = recorder.take().iter().map(words).collect();
    assert_eq!(calls, [(0xc004_4b21, vec![u32::MAX]), (0xc004_4b21, vec![1]), (0xc004_4b21, vec![0])]);
}

#[test]
fn attributes_in_the_callers_order() {
    let (recorder, process, machine) = recorded(KfdConfig::new());
    process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    recorder.take();
    let memory = memory(2);
    let range = memory.range();
    let at = Location::Gpu(gpu(GPU));
    let granularity = SvmAttribute::Granularity(Granularity::from_pages_log2(9));
    let wave_state = SvmFlags::HOST_ACCESS | SvmFlags::GPU_EXEC | SvmFlags::GPU_ALWAYS_MAPPED;
    for (attributes, expected) in [
        (
            vec![
                SvmAttribute::Preferred(Some(at)),
                SvmAttribute::Prefetch(at),
                SvmAttribute::Access(gpu(GPU)),
                SvmAttribute::SetFlags(SvmFlags::HOST_ACCESS | SvmFlags::GPU_READ_MOSTLY),
                SvmAttribute::ClearFlags(SvmFlags::COHERENT),
                granularity,
            ],
            (0xc048_4b20, vec![0, 6, 0, GPU, 1, GPU, 2, GPU, 5, 0x21, 6, 2, 7, 9]),
        ),
        (
            vec![
                SvmAttribute::ClearFlags(SvmFlags::COHERENT),
                SvmAttribute::ClearFlags(SvmFlags::EXT_COHERENT),
            ],
            (0xc028_4b20, vec![0, 2, 6, 2, 6, 0x80]),
        ),
        (vec![SvmAttribute::AccessInPlace(gpu(GPU))], (0xc020_4b20, vec![0, 1, 3, GPU])),
        (
            vec![
                SvmAttribute::Access(gpu(GPU)),
                SvmAttribute::Preferred(Some(at)),
                granularity,
                SvmAttribute::SetFlags(SvmFlags::GPU_READ_MOSTLY),
            ],
            (0xc038_4b20, vec![0, 4, 2, GPU, 0, GPU, 7, 9, 5, 0x20]),
        ),
        (vec![SvmAttribute::Prefetch(at)], (0xc020_4b20, vec![0, 1, 1, GPU])),
        (
            vec![SvmAttribute::Prefetch(Location::System), SvmAttribute::Preferred(None)],
            (0xc028_4b20, vec![0, 2, 1, 0, 0, u32::MAX]),
        ),
        (vec![SvmAttribute::NoAccess(gpu(GPU))], (0xc020_4b20, vec![0, 1, 4, GPU])),
        // ROCr's area for the state of waves that leave the GPU: every flag but those wanted is cleared.
        (
            vec![
                SvmAttribute::Prefetch(at),
                SvmAttribute::Preferred(Some(Location::System)),
                SvmAttribute::ClearFlags(!wave_state),
                SvmAttribute::SetFlags(wave_state),
                SvmAttribute::Access(gpu(GPU)),
                SvmAttribute::Granularity(Granularity::from_pages_log2(0xff)),
            ],
            (0xc048_4b20, vec![0, 6, 1, GPU, 0, 0, 6, 0xffff_ffae, 5, 0x51, 2, GPU, 7, 0xff]),
        ),
        // Buffers of its queues.
        (
            vec![SvmAttribute::Preferred(Some(at)), SvmAttribute::Access(gpu(GPU))],
            (0xc028_4b20, vec![0, 2, 0, GPU, 2, GPU]),
        ),
    ] {
        process.set_attributes(range, &attributes).unwrap();
        let calls = recorder.take();
        assert_eq!(calls.len(), 1, "one ioctl for {attributes:?}");
        assert_eq!(svm(&calls[0], range), expected);
    }
}

#[test]
fn a_query() {
    let (recorder, process, _machine) = recorded(KfdConfig::new());
    recorder.take();
    let memory = memory(2);
    process.get_attributes(memory.range(), &[gpu(GPU)]).unwrap();
    let sent = recorder.take();
    assert_eq!(
        svm(&sent[0], memory.range()),
        (0xc048_4b20, vec![1, 6, 0, 0, 1, 0, 2, GPU, 5, 0, 7, 0, 6, 0])
    );
    let old = KfdConfig { kernel: Kernel::with_minor(5), ..KfdConfig::new() };
    let (recorder, process, _machine) = recorded(old);
    recorder.take();
    let answer = process.get_attributes(memory.range(), &[gpu(GPU)]).unwrap();
    let sent = recorder.take();
    assert_eq!(svm(&sent[0], memory.range()), (0xc040_4b20, vec![1, 5, 0, 0, 1, 0, 2, GPU, 5, 0, 7, 0]));
    assert_eq!(answer.flags_on_any, None);
}

#[test]
fn many_attributes_make_one_larger_request() {
    let (recorder, process, machine) = recorded(KfdConfig::new());
    process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    recorder.take();
    let memory = memory(1);
    for count in [16, 17, 2044] {
        let attributes = vec![SvmAttribute::Granularity(Granularity::PAGE); count];
        process.set_attributes(memory.range(), &attributes).unwrap();
        let sent = recorder.take();
        assert_eq!(sent[0].0 >> 16 & 0x3fff, 24 + 8 * count as u32);
        assert_eq!(sent[0].1.len(), 24 + 8 * count);
    }
    let error = process
        .set_attributes(memory.range(), &[SvmAttribute::Granularity(Granularity::PAGE); 2045])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(recorder.take().is_empty());
}

#[test]
fn memory_objects_and_queues() {
    let (recorder, process, machine) = recorded(KfdConfig::new());
    process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    recorder.take();
    // Mapping for the CPU goes to the render node, and the recorder maps no doorbells: what was sent until then is what matters.
    let _ = process.create_sdma_queue(gpu(GPU), 4096);
    let calls = recorder.take();
    let of = |request: u32| calls.iter().map(words).filter(|(sent, _)| *sent == request).collect::<Vec<_>>();
    let objects = of(0xc028_4b16);
    assert_eq!(objects.len(), 2, "a ring, and a page for the pointers");
    // va, size, handle, offset, gpu, flags: system memory, writable, executable, no substitute, coherent, uncached.
    assert_eq!(
        (&objects[0].1[2..8], &objects[0].1[8..]),
        (&[4096, 0, 0, 0, 0, 0][..], &[GPU, 0xd600_0002][..])
    );
    let mapped = of(0xc018_4b18);
    assert_eq!(mapped.len(), 2);
    assert_eq!(mapped[0].1[4..], [1, 0], "one GPU, none done");
    let queues = of(0xc060_4b02);
    assert_eq!(queues.len(), 1);
    let queue = &queues[0].1;
    assert_eq!(
        (queue.len(), queue[0], queue[8]),
        (24, objects[0].1[0], 4096),
        "96 bytes; the ring's address and size"
    );
    assert_eq!(queue[9..13], [GPU, 1, 100, 7], "SDMA, the whole of it, usual priority");
    let sent: Vec<u32> = calls.iter().map(|call| call.0).collect();
    let order = [0xc028_4b16, 0xc018_4b18, 0xc028_4b16, 0xc018_4b18, 0xc060_4b02];
    assert_eq!(sent[..5], order);
}
