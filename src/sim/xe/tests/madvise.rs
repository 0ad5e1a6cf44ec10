use super::*;
use crate::uapi::xe::*;
use crate::xe::{Advice, AtomicMode, PatIndex, PreferredLocation, ReportedLocation};

const SYSTEM: Advice<'static> = Advice::PreferredLocation(PreferredLocation::System);

fn base(vm: &Vm) -> Madvise {
    Madvise {
        vm_id: vm.id(),
        start: 16 * PAGE,
        range: PAGE,
        attribute: DRM_XE_MEM_RANGE_ATTR_ATOMIC,
        ..Default::default()
    }
}

#[test]
fn each_check_of_an_argument() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let good = base(&vm);
    let ask = |arg: Madvise| raw(bench.device.channel(), &mut arg.clone());
    assert_eq!(ask(good), Ok(()));
    assert_eq!(ask(Madvise { extensions: 1, ..good }), Ok(()), "not looked at");
    let loc = MadvisePreferredLoc::default();
    let place = |loc: MadvisePreferredLoc| Madvise {
        attribute: DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC,
        value: loc.into(),
        ..good
    };
    let atomic = |value: MadviseAtomic| Madvise { value: value.into(), ..good };
    let pat =
        |value: MadvisePat| Madvise { attribute: DRM_XE_MEM_RANGE_ATTR_PAT, value: value.into(), ..good };
    let purge = |value: MadvisePurgeable| Madvise {
        attribute: DRM_XE_VMA_ATTR_PURGEABLE_STATE,
        value: value.into(),
        ..good
    };
    assert_eq!(ask(place(loc)), Ok(()));
    assert_eq!(ask(purge(MadvisePurgeable::default())), Ok(()));
    for bad in [
        Madvise { vm_id: 9, ..good },
        Madvise { start: 1, ..good },
        Madvise { range: 1, ..good },
        Madvise { range: 0, ..good },
        Madvise { attribute: 4, ..good },
        Madvise { reserved: [1, 0], ..good },
        Madvise { range: 1 << 49, ..good },
        place(MadvisePreferredLoc { devmem_fd: -2i32 as u32, ..loc }),
        place(MadvisePreferredLoc { region_instance: 1, ..loc }),
        place(MadvisePreferredLoc { devmem_fd: u32::MAX, region_instance: 1, ..loc }),
        place(MadvisePreferredLoc { migration_policy: 2, ..loc }),
        place(MadvisePreferredLoc { reserved: 1, ..loc }),
        atomic(MadviseAtomic { val: 4, ..Default::default() }),
        atomic(MadviseAtomic { pad: 1, ..Default::default() }),
        atomic(MadviseAtomic { reserved: 1, ..Default::default() }),
        pat(MadvisePat { val: 28, ..Default::default() }),
        pat(MadvisePat { val: 17, ..Default::default() }),
        pat(MadvisePat { val: 1 << 16, ..Default::default() }),
        pat(MadvisePat { val: 2, pad: 1, ..Default::default() }),
        purge(MadvisePurgeable { val: 2, ..Default::default() }),
        purge(MadvisePurgeable { pad: 1, ..Default::default() }),
    ] {
        assert_eq!(ask(bad), Err(Errno::EINVAL), "{bad:?}");
    }
    let one = 1u32;
    assert_eq!(ask(purge(MadvisePurgeable { retained_ptr: 8, ..Default::default() })), Err(Errno::EFAULT));
    let set = MadvisePurgeable { retained_ptr: &raw const one as u64, ..Default::default() };
    assert_eq!(ask(purge(set)), Err(Errno::EINVAL));
    assert_eq!(
        ask(place(MadvisePreferredLoc { devmem_fd: 100_000, region_instance: 1, ..loc })),
        Err(Errno::ENOENT)
    );
    let null = std::fs::File::open("/dev/null").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&null) as u32;
    let stranger = MadvisePreferredLoc { devmem_fd: number, region_instance: 1, ..loc };
    assert_eq!(ask(place(stranger)), Err(Errno::ENOENT));
}

#[test]
fn advice_splits_mappings_and_is_listed() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    vm.mirror(pages(0, 64)).unwrap();
    vm.advise(pages(16 * PAGE, 16), SYSTEM).unwrap();
    vm.advise(pages(24 * PAGE, 16), Advice::Atomic(AtomicMode::Global)).unwrap();
    vm.advise(pages(0, 8), Advice::Pat(PatIndex(3))).unwrap();
    let listed = vm.range_attributes(pages(0, 64)).unwrap();
    let seen: Vec<_> = listed
        .iter()
        .map(|entry| {
            let pages = (entry.range.start() / PAGE, entry.range.end() / PAGE);
            (pages, entry.preferred_location, entry.atomic, entry.pat.0)
        })
        .collect();
    use AtomicMode::{Global, Undefined};
    use ReportedLocation::{FaultingDevice, System};
    assert_eq!(
        seen,
        [
            ((0, 8), FaultingDevice, Undefined, 3),
            ((8, 16), FaultingDevice, Undefined, 2),
            ((16, 24), System, Undefined, 2),
            ((24, 32), System, Global, 2),
            ((32, 40), FaultingDevice, Global, 2),
            ((40, 64), FaultingDevice, Undefined, 2),
        ]
    );
}

#[test]
fn advice_where_nothing_is_bound_is_lost_without_an_error() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    vm.advise(pages(0, 4), SYSTEM).unwrap();
    assert_eq!(vm.range_attributes(pages(0, 4)).unwrap(), []);
    vm.advise(pages(0, 0), SYSTEM).unwrap();
}

#[test]
fn canonical_addresses_are_taken_and_others_wrap() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let high = Madvise { start: 0xffff_8000_0000_0000, ..base(&vm) };
    let set = |arg: Madvise| {
        let value = MadviseAtomic { val: DRM_XE_ATOMIC_CPU, ..Default::default() }.into();
        raw(bench.device.channel(), &mut Madvise { value, ..arg })
    };
    set(high).unwrap();
    let listed = vm.range_attributes(PageRange::new(1 << 47, PAGE).unwrap()).unwrap();
    assert_eq!(listed[0].atomic, AtomicMode::Cpu);
}

#[test]
fn kernels_without_the_call_are_told_from_bad_arguments() {
    let old = Bench::at(KernelVersion::V6_17);
    let error =
        refused(old.mirrored().advise(pages(0, 1), SYSTEM), ErrorKind::Unsupported, Some(Errno::EINVAL));
    assert_eq!(error.hint(), Some("Linux 6.18 or newer"));
    let middle = Bench::at(KernelVersion::V6_19);
    let region = Advice::PreferredLocation(PreferredLocation::Region { device: &middle.device, instance: 1 });
    let error =
        refused(middle.mirrored().advise(pages(0, 1), region), ErrorKind::Unsupported, Some(Errno::EINVAL));
    assert!(error.reason().contains("region"), "{error}");
    let new = Bench::new(Platform::Battlemage);
    let vm = new.mirrored();
    let error = refused(
        vm.advise(pages(0, 1), Advice::Pat(PatIndex(18))),
        ErrorKind::InvalidArgument,
        Some(Errno::EINVAL),
    );
    assert!(error.reason().contains("PAT index 18"), "{error}");
}

#[test]
fn regions_of_devices() {
    let near = Bench::with(XeConfig::new(Platform::Battlemage).linked(1));
    let linked = Bench::with(XeConfig::new(Platform::Battlemage).linked(1));
    let far = Bench::new(Platform::Battlemage);
    let vm = near.mirrored();
    let at = pages(16 * PAGE, 1);
    let region = |device, instance| Advice::PreferredLocation(PreferredLocation::Region { device, instance });
    for device in [&near.device, &linked.device] {
        vm.advise(at, region(device, 1)).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&device.channel().descriptor().unwrap());
        let listed = vm.range_attributes(at).unwrap();
        assert_eq!(listed[0].preferred_location, ReportedLocation::Device { fd });
    }
    refused(vm.advise(at, region(&near.device, 2)), ErrorKind::NotFound, Some(Errno::ENOENT));
    refused(vm.advise(at, region(&linked.device, 0)), ErrorKind::NotFound, Some(Errno::ENOENT));
    refused(vm.advise(at, region(&far.device, 1)), ErrorKind::NoInterconnect, Some(Errno::ENOLINK));
    refused(vm.prefetch_to_peer(at, &far.device, 1), ErrorKind::NoInterconnect, Some(Errno::ENOLINK));
    let gone = Bench::with(XeConfig::new(Platform::Battlemage).linked(1));
    gone.gpu.unplug();
    refused(vm.advise(at, region(&gone.device, 1)), ErrorKind::DeviceLost, Some(Errno::ENODEV));
}

#[test]
fn integrated_devices_refuse_incoherent_pat_indices() {
    let bench = Bench::new(Platform::LunarLake);
    let vm = bench.mirrored();
    refused(
        vm.advise(pages(0, 1), Advice::Pat(PatIndex(0))),
        ErrorKind::InvalidArgument,
        Some(Errno::EINVAL),
    );
    vm.advise(pages(0, 1), Advice::Pat(PatIndex(1))).unwrap();
}
