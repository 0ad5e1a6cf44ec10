//! The process that valgrind looks into: makes each call many times, in a function of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::hint::black_box;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drm_pagemap::Observe;
use drm_pagemap::channel::Channel;
use drm_pagemap::device::{Device, KfdSystem};
use drm_pagemap::kfd::{self, GpuId, SvmAttribute, Topology, TopologySource};
use drm_pagemap::uapi::IoctlArg;
use drm_pagemap::uapi::kfd::{AMDKFD_IOC_SVM, SvmAttribute as RawAttribute};
use drm_pagemap::uapi::xe::{Madvise, MemRangeAttr, VmBind};
use drm_pagemap::xe;
use drm_pagemap::{Gpu, Location, Mirror, PageRange};

use crate::peers::{C, HsaAttribute, Hsakmt};
use crate::raw::{Place, Raw};
use crate::stand_in::filter::succeed_at_once;
use crate::stand_in::{GPU_ID, topology};

/// How often each call is made.
pub(crate) const CALLS: u32 = 100;
/// Ranges in one batch.
pub(crate) const BATCHES: [usize; 6] = [1, 4, 16, 64, 256, 1024];
/// Other advice in force.
pub(crate) const CROWD: u64 = 10_000;
const START: u64 = 0x7f00_0000_0000;
const SIZE: u64 = 2 << 20;
const VRAM: u16 = 1;
/// `DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM`.
const SYSTEM: u32 = u32::MAX;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts.
#[derive(Debug)]
pub(crate) struct Counting;

// SAFETY: as the system's allocator, which does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

struct Setup {
    c: C,
    hsakmt: Option<Hsakmt>,
    fd: File,
    raw: Raw,
    place: Place,
    vm: xe::Vm,
    mirror: Mirror,
    /// With much other advice in force.
    crowded: Mirror,
    vram: Location,
    process: kfd::Process,
    kfd_mirror: Mirror,
    kfd_vram: Location,
    gpu: GpuId,
    room: std::cell::RefCell<Vec<MemRangeAttr>>,
    attributes: std::cell::RefCell<xe::RangeAttributeBuffer>,
    answer: std::cell::RefCell<kfd::RangeAttributes>,
    adjacent: Vec<PageRange>,
    apart: Vec<PageRange>,
    start: u64,
    size: u64,
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into()
}

impl Setup {
    fn new(c: &str) -> Self {
        let device = xe::Device::from_channel(Channel::from_fd(null())).expect("the stand-in answers as xe");
        let vm = xe::Vm::create(&device, xe::VmFlags::SVM).expect("VM");
        vm.mirror_all().expect("mirror");
        let gpu = Gpu::of_device(Device::Xe(device)).expect("GPU");
        let mirror = gpu.mirror().expect("mirror");

        let process = kfd::Process::open(Channel::from_fd(null())).expect("the stand-in answers as KFD");
        let id = GpuId::new(GPU_ID).expect("not 0");
        let nodes = Topology::read(&TopologySource::Tree(Arc::new(topology()))).expect("topology");
        let system = KfdSystem::new(process.clone(), nodes, vec![(id, Channel::from_fd(null()))]);
        let kfd_gpu = Gpu::of_device(Device::Kfd(system.gpus()[0].clone())).expect("GPU");
        let kfd_mirror = kfd_gpu.mirror().expect("mirror");

        let hsakmt = Hsakmt::load().map_err(|reason| println!("no-hsakmt {reason}")).ok();
        let range = |start| PageRange::new(start, SIZE).expect("aligned");
        let ranges =
            |step: u64| (0..*BATCHES.last().unwrap() as u64).map(|i| range(START + i * step)).collect();
        let crowded = gpu.mirror().expect("mirror");
        for index in 1..=CROWD {
            let other = range(START + 2 * SIZE * index);
            crowded.advise_range(other).prefer(Location::System).apply().expect("advice").keep();
        }
        let raw = Raw::new(null(), vm.id());
        Self {
            c: C::load(c).expect("compiled just now"),
            hsakmt,
            fd: null().into(),
            place: raw.place(VRAM),
            raw,
            vm,
            mirror,
            crowded,
            vram: gpu.vram(),
            process,
            kfd_mirror,
            kfd_vram: kfd_gpu.vram(),
            gpu: id,
            room: vec![MemRangeAttr::default(); 5].into(),
            attributes: Default::default(),
            answer: Default::default(),
            adjacent: ranges(SIZE),
            apart: ranges(2 * SIZE),
            start: START,
            size: SIZE,
        }
    }

    fn range(&self) -> PageRange {
        PageRange::new(self.start, self.size).expect("aligned")
    }

    fn hsa_attributes(&self) -> [HsaAttribute; 2] {
        // ACCESS and PREFETCH_LOC, by number of the topology's node.
        [HsaAttribute { kind: 2, value: 1 }, HsaAttribute { kind: 1, value: 1 }]
    }
}

/// Defines the functions and lists them. A name that begins with `hsakmt` needs the library.
macro_rules! measured {
    ($($name:ident($setup:ident) $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $name(setup: &Setup, calls: u32) {
                for _ in 0..calls {
                    let $setup = black_box(setup);
                    $body
                }
            }
        )*
        const MEASURED: &[(&str, fn(&Setup, u32))] = &[$((stringify!($name), $name)),*];
    };
}

measured! {
    measured_nothing(_setup) {}

    measured_prefetch_c(s) {
        // SAFETY: reads its arguments only.
        let result = unsafe { (s.c.xe_prefetch)(s.fd.as_raw_fd(), s.vm.id(), s.start, s.size, VRAM.into()) };
        assert_eq!(result, 0);
    }
    measured_prefetch_rust(s) { s.raw.prefetch(s.start, s.size, VRAM.into()).unwrap(); }
    measured_prefetch_to_rust(s) { s.raw.prefetch_to(s.start, s.size, &s.place).unwrap(); }
    measured_prefetch_vm(s) { s.vm.prefetch(s.range(), xe::PrefetchTarget::Region(VRAM)).unwrap(); }
    measured_prefetch_mirror(s) {
        let prefetch = s.mirror.prefetch_range(s.range()).to(&s.vram).observe(Observe::Nothing);
        // As with the raw calls, the answer is looked at for an error and not kept.
        let _ = prefetch.run().unwrap();
    }

    measured_advise_c(s) {
        // SAFETY: reads its arguments only.
        let result = unsafe { (s.c.xe_advise)(s.fd.as_raw_fd(), s.vm.id(), s.start, s.size, SYSTEM) };
        assert_eq!(result, 0);
    }
    measured_advise_rust(s) { s.raw.advise(s.start, s.size, SYSTEM).unwrap(); }
    measured_advise_vm(s) {
        let advice = xe::Advice::PreferredLocation(xe::PreferredLocation::System);
        s.vm.advise(s.range(), advice).unwrap();
    }
    measured_advise_mirror(s) {
        s.mirror.advise_range(s.range()).prefer(Location::System).apply().unwrap().reset().unwrap();
    }
    measured_advise_crowded(s) {
        s.crowded.advise_range(s.range()).prefer(Location::System).apply().unwrap().reset().unwrap();
    }

    measured_query_c(s) {
        let mut room = s.room.borrow_mut();
        let (elements, count) = (room.as_mut_ptr().cast(), room.len() as u32);
        // SAFETY: writes at most `count` elements.
        let result =
            unsafe { (s.c.xe_query)(s.fd.as_raw_fd(), s.vm.id(), s.start, s.size, elements, count) };
        assert_eq!(result, 1);
    }
    measured_query_rust(s) {
        let mut room = s.room.borrow_mut();
        assert_eq!(s.raw.query(s.start, s.size, &mut room).unwrap().len(), 1);
    }
    measured_query_vm(s) {
        let mut buffer = s.attributes.borrow_mut();
        assert_eq!(s.vm.range_attributes_into(s.range(), &mut buffer).unwrap().len(), 1);
    }

    measured_set_c(s) {
        // SAFETY: reads its arguments only.
        let result = unsafe { (s.c.kfd_set)(s.fd.as_raw_fd(), s.start, s.size, s.gpu.raw()) };
        assert_eq!(result, 0);
    }
    measured_set_rust(s) {
        let attribute = |attr_type| RawAttribute { attr_type, value: s.gpu.raw() };
        s.raw.set(s.start, s.size, [attribute(2), attribute(1)]).unwrap();
    }
    measured_set_process(s) {
        let attributes =
            [SvmAttribute::Access(s.gpu), SvmAttribute::Prefetch(kfd::Location::Gpu(s.gpu))];
        s.process.set_attributes(s.range(), &attributes).unwrap();
    }
    measured_set_mirror(s) {
        let prefetch = s.kfd_mirror.prefetch_range(s.range()).to(&s.kfd_vram).observe(Observe::Nothing);
        // As with the raw calls, the answer is looked at for an error and not kept.
        let _ = prefetch.run().unwrap();
    }
    hsakmt_measured_set(s) {
        let mut attributes = s.hsa_attributes();
        // SAFETY: reads the attributes.
        let result = unsafe { (s.hsakmt.unwrap().set)(s.start as *mut _, s.size, 2, attributes.as_mut_ptr()) };
        assert_eq!(result, 0);
    }

    measured_get_c(s) {
        let mut preferred = 0;
        // SAFETY: writes one word.
        let result = unsafe {
            (s.c.kfd_get)(s.fd.as_raw_fd(), s.start, s.size, s.gpu.raw(), &raw mut preferred)
        };
        assert_eq!(result, 0);
    }
    measured_get_rust(s) { black_box(s.raw.get(s.start, s.size, s.gpu.raw()).unwrap()); }
    measured_get_process(s) { black_box(s.process.get_attributes(s.range(), &[s.gpu]).unwrap()); }
    measured_get_into(s) {
        let answer = &mut *s.answer.borrow_mut();
        s.process.get_attributes_into(s.range(), &[s.gpu], black_box(answer)).unwrap();
    }
    hsakmt_measured_get(s) {
        let ask = |kind, value| HsaAttribute { kind, value };
        let mut attributes = [ask(0, 0), ask(1, 0), ask(2, 1), ask(5, 0), ask(7, 0), ask(6, 0)];
        // SAFETY: writes the attributes.
        let result = unsafe { (s.hsakmt.unwrap().get)(s.start as *mut _, s.size, 6, attributes.as_mut_ptr()) };
        assert_eq!(result, 0);
    }
}

/// One function for each size, so that valgrind tells them apart.
macro_rules! batches {
    ($($name:ident $field:ident $count:literal,)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $name(setup: &Setup, calls: u32) {
                for _ in 0..calls {
                    let setup = black_box(setup);
                    setup.vm.prefetch_each(&setup.$field[..$count], xe::PrefetchTarget::Region(VRAM)).unwrap();
                }
            }
        )*
        const BATCHED: &[(&str, fn(&Setup, u32))] = &[$((stringify!($name), $name)),*];
    };
}

batches! {
    measured_adjacent_1 adjacent 1,
    measured_adjacent_4 adjacent 4,
    measured_adjacent_16 adjacent 16,
    measured_adjacent_64 adjacent 64,
    measured_adjacent_256 adjacent 256,
    measured_adjacent_1024 adjacent 1024,
    measured_apart_1 apart 1,
    measured_apart_4 apart 4,
    measured_apart_16 apart 16,
    measured_apart_64 apart 64,
    measured_apart_256 apart 256,
    measured_apart_1024 apart 1024,
}

/// The functions, as valgrind sees them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    MEASURED.iter().chain(BATCHED).map(|(name, _)| *name)
}

/// Makes the calls, and prints how many allocations each made in all.
pub(crate) fn run(c: &str) {
    let setup = Setup::new(c);
    let each = MEASURED
        .iter()
        .chain(BATCHED)
        .filter(|(name, _)| setup.hsakmt.is_some() || !name.starts_with("hsakmt"));
    // What is done once only, by the dynamic linker or on first use, is not the price of a call.
    each.clone().for_each(|(_, call)| call(&setup, 1));
    succeed_at_once(&[VmBind::REQUEST, Madvise::REQUEST, AMDKFD_IOC_SVM]).expect("filter");
    for (name, call) in each {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        call(&setup, CALLS);
        println!("allocations {name} {}", ALLOCATIONS.load(Ordering::Relaxed) - before);
    }
}

/// Files for [`Driver::with_files`](crate::stand_in::Driver::with_files).
pub(crate) fn write_topology(root: &Path) -> std::io::Result<()> {
    for (path, text) in topology() {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}
