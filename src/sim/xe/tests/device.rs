use super::*;
use crate::uapi::drm::Version;
use crate::uapi::xe::{
    DRM_XE_DEVICE_QUERY_CONFIG, DRM_XE_DEVICE_QUERY_EU_STALL, DRM_XE_DEVICE_QUERY_MEM_REGIONS, DeviceQuery,
};
use crate::xe::{EngineClass, GtKind, MemoryClass, Operation, RegionMask};

#[test]
fn a_discrete_device_describes_itself() {
    let bench = Bench::with(XeConfig::new(Platform::Battlemage).tiles(&[64 << 20, 32 << 20]));
    let config = bench.device.config();
    assert_eq!((config.device_id, config.va_bits, config.min_alignment), (0xe20b, 48, 4096));
    assert!(config.has_vram && config.has_cpu_addr_mirror && config.has_purging_support);
    assert_eq!(config.whole_va().end(), 1 << 48);
    let regions = bench.device.memory_regions().unwrap();
    let seen: Vec<_> = regions.iter().map(|region| (region.class, region.instance)).collect();
    assert_eq!(seen, [(MemoryClass::System, 0), (MemoryClass::Vram, 1), (MemoryClass::Vram, 2)]);
    assert_eq!((regions[1].total, regions[2].total), (64 << 20, 32 << 20));
    let gts = bench.device.gts().unwrap();
    assert_eq!(gts.len(), 4);
    assert_eq!(gts[0].kind, GtKind::Main);
    assert_eq!(gts[0].near_regions, RegionMask::default().with(1));
    assert_eq!(gts[2].near_regions, RegionMask::default().with(2));
    assert_eq!(gts[0].far_regions, RegionMask::SYSTEM.with(2));
    let engines = bench.device.engines().unwrap();
    assert!(engines.iter().any(|engine| engine.class == EngineClass::Copy));
    assert_eq!(bench.device.pat_table().unwrap().unwrap().name(), "BMG");
}

#[test]
fn an_integrated_device_has_no_vram() {
    let bench = Bench::new(Platform::LunarLake);
    assert!(!bench.device.config().has_vram);
    let regions = bench.device.memory_regions().unwrap();
    assert_eq!(regions.len(), 1);
    assert_eq!(bench.device.gts().unwrap()[0].near_regions, RegionMask::SYSTEM);
}

#[test]
fn queries_refuse_what_the_driver_refuses() {
    let bench = Bench::new(Platform::Battlemage);
    let channel = bench.device.channel();
    let good = DeviceQuery { query: DRM_XE_DEVICE_QUERY_CONFIG, ..Default::default() };
    let ask = |arg: DeviceQuery| raw(channel, &mut arg.clone());
    assert_eq!(ask(good), Ok(()));
    assert_eq!(ask(DeviceQuery { extensions: 8, ..good }), Err(Errno::EINVAL));
    assert_eq!(ask(DeviceQuery { reserved: [0, 1], ..good }), Err(Errno::EINVAL));
    assert_eq!(ask(DeviceQuery { query: DRM_XE_DEVICE_QUERY_EU_STALL + 1, ..good }), Err(Errno::EINVAL));
    assert_eq!(ask(DeviceQuery { size: 40, data: 8, ..good }), Err(Errno::EINVAL));
    assert_eq!(ask(DeviceQuery { size: 48, data: 8, ..good }), Err(Errno::EFAULT));
    let regions = DeviceQuery { query: DRM_XE_DEVICE_QUERY_MEM_REGIONS, ..good };
    assert_eq!(ask(DeviceQuery { size: 8 + 2 * 88, data: 8, ..regions }), Err(Errno::ENOSPC));
    let mut sized = regions;
    raw(channel, &mut sized).unwrap();
    assert_eq!(sized.size, 8 + 2 * 88);
}

#[test]
fn version_cuts_strings_and_tells_their_length() {
    let bench = Bench::new(Platform::Battlemage);
    let mut name = [0u8; 1];
    let mut arg = Version { name_len: 1, name: name.as_mut_ptr() as u64, ..Default::default() };
    raw(bench.device.channel(), &mut arg).unwrap();
    assert_eq!((arg.version_major, arg.version_minor, arg.name_len, name), (1, 1, 2, *b"x"));
}

#[test]
fn another_drivers_node_is_refused() {
    let error = refused(
        Device::from_channel(Channel::open("/dev/null".as_ref()).unwrap()),
        ErrorKind::Unsupported,
        Some(Errno::ENOTTY),
    );
    assert!(error.reason().contains("not a DRM device"), "{error}");
}

/// Which kernel brought what; the probe must find out without being told.
#[test]
fn the_probe_is_right_on_every_kernel() {
    use KernelVersion::*;
    let since = |operation| match operation {
        Operation::FaultMode | Operation::Mirror | Operation::Prefetch => V6_16,
        Operation::PrefetchToVram
        | Operation::PrefetchAdvised
        | Operation::Advise
        | Operation::RangeAttributes
        | Operation::Autoreset => V6_18,
        Operation::PreferredRegion | Operation::RemirrorInUse => V7_0,
        Operation::NoVmOvercommit | Operation::Faults | Operation::Purgeable => V7_1,
    };
    for kernel in KernelVersion::ALL {
        let bench = Bench::at(kernel);
        for operation in Operation::ALL {
            let supported = bench.device.probe().supports(operation).unwrap();
            assert_eq!(supported, kernel >= since(operation), "{operation:?} on {kernel:?}");
            let required = bench.device.probe().require(operation);
            assert_eq!(required.is_ok(), supported);
            if let Err(error) = required {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.hint().is_some());
            }
        }
    }
}

#[test]
fn the_probe_is_right_about_devices() {
    let integrated = Bench::new(Platform::PantherLake);
    for (operation, supported) in [
        (Operation::Mirror, true),
        (Operation::PrefetchAdvised, true),
        (Operation::PrefetchToVram, false),
        (Operation::PreferredRegion, false),
    ] {
        assert_eq!(integrated.device.probe().supports(operation).unwrap(), supported, "{operation:?}");
    }
    let without_faults = Bench::new(Platform::Alchemist);
    for operation in Operation::ALL {
        let supported = without_faults.device.probe().supports(operation).unwrap();
        assert_eq!(supported, operation == Operation::Purgeable, "{operation:?}");
    }
}
