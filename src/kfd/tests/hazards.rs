//! No sequence of safe calls makes an older kernel dereference NULL or leave a buffer: whatever a caller does, in whatever order.

use proptest::prelude::*;

use super::*;

const OTHER: u32 = 0x1111;
/// Belongs to no GPU.
const UNKNOWN: u32 = 7;

#[derive(Clone, Debug)]
enum Step {
    Open,
    Adopt(u32),
    Acquire { render: usize, gpu: u32 },
    IsAcquired(u32),
    Xnack(Xnack),
    Set { page: u64, pages: u64, attributes: Vec<SvmAttribute>, times: usize },
    Get { page: u64, pages: u64, gpus: Vec<u32> },
    Queue(u32),
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(GPU), 4 => Just(OTHER), 1 => Just(UNKNOWN)]
}

fn attribute() -> impl Strategy<Value = SvmAttribute> {
    let place = || prop_oneof![Just(Location::System), id().prop_map(|id| gpu(id).into())];
    let flags = || any::<u32>().prop_map(SvmFlags::from_bits_retain);
    prop_oneof![
        proptest::option::of(place()).prop_map(SvmAttribute::Preferred),
        place().prop_map(SvmAttribute::Prefetch),
        id().prop_map(|id| SvmAttribute::Access(gpu(id))),
        id().prop_map(|id| SvmAttribute::AccessInPlace(gpu(id))),
        id().prop_map(|id| SvmAttribute::NoAccess(gpu(id))),
        flags().prop_map(SvmAttribute::SetFlags),
        flags().prop_map(SvmAttribute::ClearFlags),
        Just(SvmAttribute::SetFlags(SvmFlags::GPU_ALWAYS_MAPPED)),
        any::<u8>().prop_map(|log2| SvmAttribute::Granularity(Granularity::from_pages_log2(log2))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let attributes = || proptest::collection::vec(attribute(), 0..5);
    // A list may be longer than any request.
    let times = prop_oneof![20 => Just(1usize), 1 => Just(600)];
    prop_oneof![
        1 => Just(Step::Open),
        1 => id().prop_map(Step::Adopt),
        4 => (0usize..2, id()).prop_map(|(render, gpu)| Step::Acquire { render, gpu }),
        1 => id().prop_map(Step::IsAcquired),
        2 => prop_oneof![Just(Xnack::On), Just(Xnack::Off)].prop_map(Step::Xnack),
        6 => (0u64..8, 0u64..9, attributes(), times)
            .prop_map(|(page, pages, attributes, times)| Step::Set { page, pages, attributes, times }),
        2 => (0u64..8, 0u64..9, proptest::collection::vec(id(), 0..3))
            .prop_map(|(page, pages, gpus)| Step::Get { page, pages, gpus }),
        1 => id().prop_map(Step::Queue),
    ]
}

fn kernel() -> impl Strategy<Value = Kernel> {
    prop_oneof![
        Just(Kernel::with_minor(5)),
        Just(Kernel::with_minor(11)),
        Just(Kernel::V6_12),
        Just(Kernel::V6_16),
        Just(Kernel::V6_18),
        Just(Kernel::V7_3),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn cannot_be_reached(
        kernel in kernel(),
        svm in any::<[bool; 2]>(),
        gpus in 0usize..3,
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        let mut config = KfdConfig { kernel, ..two_gpus() };
        config.gpus.iter_mut().zip(svm).for_each(|(gpu, svm)| gpu.svm = svm);
        config.gpus.truncate(gpus);
        let kfd = Kfd::new(config).unwrap();
        let Ok(channel) = kfd.open() else { return Ok(()) };
        let mut process = Process::open(channel).unwrap();
        let renders: Vec<_> = (0..gpus).map(|index| kfd.open_render_node(index).unwrap()).collect();
        let memory = memory(8);
        let mut queues = Vec::new();
        let part = |page: u64, pages: u64| {
            let pages = pages.min(8 - page);
            PageRange::new(memory.range().start() + page * page_size(), pages * page_size()).unwrap()
        };
        for step in steps {
            // Whether they succeed is not the question here.
            match step {
                Step::Open => process = Process::open(kfd.open().unwrap()).unwrap(),
                Step::Adopt(id) => {
                    if let Ok(adopted) = Process::adopt(kfd.open().unwrap(), &[gpu(id)]) {
                        process = adopted;
                    }
                }
                Step::Acquire { render, gpu: id } => {
                    if let Some(render) = renders.get(render) {
                        let _ = process.acquire_vm(render, gpu(id));
                    }
                }
                Step::IsAcquired(id) => drop(process.is_acquired(gpu(id))),
                Step::Xnack(mode) => drop(process.set_xnack(mode)),
                Step::Set { page, pages, attributes, times } => {
                    let _ = process.set_attributes(part(page, pages), &attributes.repeat(times));
                }
                Step::Get { page, pages, gpus } => {
                    let gpus: Vec<_> = gpus.into_iter().map(gpu).collect();
                    let _ = process.get_attributes(part(page, pages), &gpus);
                }
                Step::Queue(id) => queues.extend(process.create_sdma_queue(gpu(id), 0)),
            }
            prop_assert!(kfd.hazards().is_empty(), "{:?}", kfd.hazards());
        }
    }
}

/// The guard is what keeps them away: without it the very first call would have been fatal.
#[test]
fn are_there_behind_the_guard() {
    let machine = Machine::without_vm(KfdConfig { kernel: Kernel::V6_16, ..two_gpus() });
    let memory = memory(1);
    let set = || machine.process.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(OTHER))]);
    assert_eq!(set().unwrap_err().errno(), None, "the kernel was not asked");
    let attrs = [crate::uapi::kfd::SvmAttribute { attr_type: 2, value: OTHER }];
    let mut args = crate::uapi::kfd::SvmArgs::new(memory.range().start(), page_size(), 0, &attrs).unwrap();
    // SAFETY: the simulated kernel changes no byte of the range.
    let answer = unsafe {
        machine.process.channel().call_sized(
            "svm",
            args.request(),
            args.bytes_mut(),
            crate::channel::Retry::Never,
        )
    };
    assert_eq!(answer.unwrap_err().errno(), Some(crate::sim::kfd::WOULD_OOPS));
    assert_eq!(machine.kfd.hazards().len(), 1);
}
