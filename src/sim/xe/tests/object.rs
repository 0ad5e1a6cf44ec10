//! Buffer objects.

use super::*;
use crate::uapi::drm::GemClose;
use crate::uapi::xe::{
    DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION, DRM_XE_GEM_CREATE_FLAG_SCANOUT, GemCreate, GemMmapOffset,
};
use crate::xe::{Advice, AtomicMode, Bind, Bo, BoOptions, CpuCaching, Purgeable, RegionMask, Syncs};

const VRAM: RegionMask = RegionMask::from_bits(2);

#[test]
fn each_check_of_creation() {
    let bench = Bench::new(Platform::Battlemage);
    let good = GemCreate { size: PAGE, placement: 1, cpu_caching: 1, ..Default::default() };
    let ask = |arg: GemCreate| raw(bench.device.channel(), &mut arg.clone());
    assert_eq!(ask(good), Ok(()));
    for (arg, errno) in [
        (GemCreate { pad: [1, 0, 0], ..good }, Errno::EINVAL),
        (GemCreate { reserved: [0, 1], ..good }, Errno::EINVAL),
        (GemCreate { placement: 0, ..good }, Errno::EINVAL),
        (GemCreate { placement: 4, ..good }, Errno::EINVAL),
        (GemCreate { flags: 16, ..good }, Errno::EINVAL),
        (GemCreate { handle: 1, ..good }, Errno::EINVAL),
        (GemCreate { size: 0, ..good }, Errno::EINVAL),
        (GemCreate { size: 100, ..good }, Errno::EINVAL),
        (GemCreate { flags: 4, ..good }, Errno::EINVAL),
        (GemCreate { cpu_caching: 0, ..good }, Errno::EINVAL),
        (GemCreate { cpu_caching: 3, ..good }, Errno::EINVAL),
        (GemCreate { placement: 2, ..good }, Errno::EINVAL),
        (GemCreate { flags: DRM_XE_GEM_CREATE_FLAG_SCANOUT, ..good }, Errno::EINVAL),
        (GemCreate { vm_id: 9, ..good }, Errno::ENOENT),
        (GemCreate { placement: 2, cpu_caching: 2, size: 1 << 40, ..good }, Errno::ENOSPC),
    ] {
        assert_eq!(ask(arg), Err(errno), "{arg:?}");
    }
    let before_xe2 = Bench::new(Platform::PonteVecchio);
    let mut hint = GemCreate { flags: DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION, ..good };
    assert_eq!(raw(before_xe2.device.channel(), &mut hint), Err(Errno::EOPNOTSUPP));
    refused(
        Bo::create(&before_xe2.device, PAGE, BoOptions::new().uncompressed()),
        ErrorKind::Unsupported,
        Some(Errno::EOPNOTSUPP),
    );
    let offset = |arg: GemMmapOffset| raw(bench.device.channel(), &mut arg.clone());
    assert_eq!(offset(GemMmapOffset { handle: 1, ..Default::default() }), Ok(()));
    assert_eq!(offset(GemMmapOffset { handle: 9, ..Default::default() }), Err(Errno::ENOENT));
    assert_eq!(offset(GemMmapOffset { handle: 1, extensions: 1, ..Default::default() }), Err(Errno::EINVAL));
    assert_eq!(offset(GemMmapOffset { flags: 2, ..Default::default() }), Err(Errno::EINVAL));
    assert_eq!(offset(GemMmapOffset { flags: 1, ..Default::default() }), Ok(()));
    assert_eq!(raw(bench.device.channel(), &mut GemClose { handle: 9, pad: 0 }), Err(Errno::EINVAL));
}

#[test]
fn wrappers_say_what_is_wrong() {
    let bench = Bench::new(Platform::Battlemage);
    let cached_vram = BoOptions::new().placed_in(VRAM).cached(CpuCaching::WriteBack);
    refused(Bo::create(&bench.device, PAGE, cached_vram), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    let high = BoOptions::new().placed_in(RegionMask::default().with(40));
    refused(Bo::create(&bench.device, PAGE, high), ErrorKind::InvalidArgument, None);
    refused(
        Bo::create(&bench.device, 1 << 40, BoOptions::new().placed_in(VRAM)),
        ErrorKind::OutOfVram,
        Some(Errno::ENOSPC),
    );
}

#[test]
fn objects_are_private_to_their_vm() {
    let bench = Bench::new(Platform::Battlemage);
    let (own, other) = (bench.vm(), bench.vm());
    let object = Bo::create(&bench.device, PAGE, BoOptions::new().private_to(&own)).unwrap();
    own.bind(&[Bind::map(&object, 0, pages(0, 1))], Syncs::new()).unwrap();
    refused(
        other.bind(&[Bind::map(&object, 0, pages(0, 1))], Syncs::new()),
        ErrorKind::InvalidArgument,
        Some(Errno::EINVAL),
    );
}

#[test]
fn vram_of_64k_pages_wants_64k_bindings() {
    let bench = Bench::new(Platform::PonteVecchio);
    let vm = bench.vm();
    let object = Bo::create(&bench.device, PAGE, BoOptions::new().placed_in(VRAM)).unwrap();
    let bind = |range| vm.bind(&[Bind::map(&object, 0, range)], Syncs::new());
    refused(bind(pages(0, 1)), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    bind(pages(0, 16)).unwrap();
}

#[test]
fn what_is_not_needed_is_thrown_away_when_memory_runs_short() {
    let bench = Bench::with(XeConfig::new(Platform::Battlemage).vram(8 << 20));
    let vm = bench.vm();
    let vram = BoOptions::new().placed_in(VRAM);
    let object = Bo::create(&bench.device, 4 << 20, vram).unwrap();
    let range = PageRange::new(0, 4 << 20).unwrap();
    vm.bind(&[Bind::map(&object, 0, range)], Syncs::new()).unwrap();
    assert!(vm.set_purgeable(range, Purgeable::DontNeed).unwrap());
    refused(object.map(), ErrorKind::Busy, Some(Errno::EBUSY));
    refused(
        vm.bind(&[Bind::map(&object, 0, PageRange::new(8 << 20, 4 << 20).unwrap())], Syncs::new()),
        ErrorKind::AddressInUse,
        Some(Errno::EBUSY),
    );
    assert!(vm.set_purgeable(range, Purgeable::WillNeed).unwrap());
    object.map().unwrap();
    assert!(vm.set_purgeable(range, Purgeable::DontNeed).unwrap());
    let _other = Bo::create(&bench.device, 6 << 20, vram).unwrap();
    assert!(!vm.set_purgeable(range, Purgeable::WillNeed).unwrap());
    refused(object.map(), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    // A mapping that cannot be purged counts as kept, and so does nothing at all.
    vm.bind(&[Bind::map_null(pages(1 << 30, 1))], Syncs::new()).unwrap();
    assert!(vm.set_purgeable(pages(1 << 30, 1), Purgeable::DontNeed).unwrap());
    assert!(vm.set_purgeable(pages(1 << 31, 1), Purgeable::DontNeed).unwrap());
    let old = Bench::at(KernelVersion::V7_0);
    refused(old.vm().set_purgeable(range, Purgeable::DontNeed), ErrorKind::Unsupported, None);
}

#[test]
fn atomic_modes_that_a_placement_forbids() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let (system, vram) = (BoOptions::new(), BoOptions::new().placed_in(VRAM));
    let either = BoOptions::new().placed_in(RegionMask::SYSTEM.with(1));
    for (options, possible) in [
        (system, [AtomicMode::Cpu, AtomicMode::Device].as_slice()),
        (vram, &[AtomicMode::Device]),
        (either, &[AtomicMode::Cpu, AtomicMode::Device, AtomicMode::Global]),
    ] {
        let object = Bo::create(&bench.device, PAGE, options).unwrap();
        vm.bind(&[Bind::map(&object, 0, pages(0, 1))], Syncs::new()).unwrap();
        for mode in [AtomicMode::Cpu, AtomicMode::Device, AtomicMode::Global] {
            let advised = vm.advise(pages(0, 1), Advice::Atomic(mode));
            assert_eq!(advised.is_ok(), possible.contains(&mode), "{options:?} {mode:?}");
            if let Err(error) = advised {
                assert_eq!((error.kind(), error.errno()), (ErrorKind::InvalidArgument, Some(Errno::EINVAL)));
            }
        }
    }
    // Objects are not split: the advice holds for the whole mapping.
    let object = Bo::create(&bench.device, 4 * PAGE, system).unwrap();
    vm.bind(&[Bind::map(&object, 0, pages(0, 4))], Syncs::new()).unwrap();
    vm.advise(pages(PAGE, 1), Advice::Atomic(AtomicMode::Cpu)).unwrap();
    let listed = vm.range_attributes(pages(0, 4)).unwrap();
    assert_eq!((listed.len(), listed[0].atomic, listed[0].range), (1, AtomicMode::Cpu, pages(0, 4)));
}
