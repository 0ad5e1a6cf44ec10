//! Devices that fail, vanish or lack things: a clear answer, and intact data.

use std::sync::Arc;

use drm_pagemap::sim::Machine;
use drm_pagemap::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use drm_pagemap::sim::xe::{KernelVersion, Platform, XeConfig, XeGpu};
use drm_pagemap::{Cause, ErrorKind, Gpu};

use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "faults/xe_unplugged", needs: &[Need::Xe, Need::Simulated], run: xe_unplugged },
    Test { name: "faults/xe_wedged", needs: &[Need::Xe, Need::Simulated], run: xe_wedged },
    Test { name: "faults/xe_integrated", needs: &[Need::Xe, Need::Simulated], run: xe_integrated },
    Test { name: "faults/xe_kernels", needs: &[Need::Xe, Need::Simulated], run: xe_kernels },
    Test { name: "faults/kfd_vram_full", needs: &[Need::Kfd, Need::Simulated], run: kfd_vram_full },
    Test {
        name: "faults/kfd_races_and_signals",
        needs: &[Need::Kfd, Need::Simulated],
        run: kfd_races_and_signals,
    },
    Test { name: "faults/kfd_reset", needs: &[Need::Kfd, Need::Simulated], run: kfd_reset },
    Test { name: "faults/kfd_without_svm", needs: &[Need::Kfd, Need::Simulated], run: kfd_without_svm },
];

fn xe(config: XeConfig) -> (Arc<XeGpu>, Gpu) {
    let device = XeGpu::new(config).expect("a simulated device");
    let found = Gpu::discover_in(&Machine::new().with_xe(device.clone()));
    let gpu = found.into_iter().next().expect("the device is found");
    (device, gpu)
}

fn battlemage() -> XeConfig {
    XeConfig::new(Platform::Battlemage).vram(64 << 20)
}

fn xe_unplugged(_: &Context) -> TestResult {
    let (device, gpu) = xe(battlemage());
    let mirror = gpu.mirror()?;
    let data = filled(4 << 20)?;
    assert!(mirror.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    device.unplug();
    let error = mirror.prefetch(&data).to(gpu.vram()).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert_intact(&data);
    assert_eq!(device_bytes(data.range())?, 0);
    Ok(())
}

fn xe_wedged(_: &Context) -> TestResult {
    let (device, gpu) = xe(battlemage());
    let mirror = gpu.mirror()?;
    let data = filled(2 << 20)?;
    assert!(mirror.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    device.wedge();
    let error = mirror.prefetch(&data).to(gpu.vram()).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert_intact(&data);
    Ok(())
}

fn xe_integrated(_: &Context) -> TestResult {
    let (_device, gpu) = xe(XeConfig::new(Platform::LunarLake));
    let missing = gpu.svm().migration().expect_err("nothing to migrate to").to_string();
    assert!(missing.contains("integrated"), "{missing}");
    let mirror = gpu.mirror()?;
    let data = filled(2 << 20)?;
    let error = mirror.prefetch(&data).to(gpu.vram()).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "never quietly turned into something else");
    assert!(mirror.prefetch(&data).to_system().run()?.is_complete());
    assert_intact(&data);
    Ok(())
}

fn xe_kernels(_: &Context) -> TestResult {
    for kernel in KernelVersion::ALL {
        let (_device, gpu) = xe(battlemage().kernel(kernel));
        let mirror = gpu.mirror()?;
        let data = filled(2 << 20)?;
        let outcome = mirror.prefetch(&data).to(gpu.vram()).run();
        if kernel < KernelVersion::V6_18 {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported, "{kernel:?}");
            assert!(gpu.svm().migration().is_err(), "{kernel:?}");
        } else {
            assert!(outcome?.is_complete(), "{kernel:?}");
            assert!(gpu.svm().migration().is_ok(), "{kernel:?}");
        }
        assert_intact(&data);
    }
    Ok(())
}

fn kfd(config: KfdConfig) -> (Arc<Kfd>, Vec<Gpu>) {
    let kfd = Kfd::new(config).expect("a simulated KFD");
    let gpus = Gpu::discover_in(&Machine::new().with_kfd(kfd.clone())).into_iter().collect();
    (kfd, gpus)
}

fn one_mi200() -> KfdConfig {
    KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, 64 << 20)])
}

fn kfd_vram_full(_: &Context) -> TestResult {
    let (kfd, gpus) = kfd(one_mi200());
    let mirror = gpus[0].mirror()?;
    let data = filled(4 << 20)?;
    kfd.faults().fill_vram(true);
    let outcome = mirror.prefetch(&data).to(gpus[0].vram()).run()?;
    assert_eq!(
        (outcome.moved(), outcome.not_moved()),
        (0, 4 << 20),
        "the driver's success is not ours: {outcome}"
    );
    assert!(outcome.refusals().iter().all(|r| r.cause == Cause::NoVram), "{outcome}");
    assert!(outcome.retry_useful());
    kfd.faults().fill_vram(false);
    let outcome = mirror.prefetch(&data).to(gpus[0].vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    assert_intact(&data);
    Ok(())
}

fn kfd_races_and_signals(_: &Context) -> TestResult {
    let (kfd, gpus) = kfd(one_mi200());
    let mirror = gpus[0].mirror()?;
    let data = filled(4 << 20)?;
    kfd.faults().mapping_races(5);
    kfd.faults().mapping_interrupted(3);
    let outcome = mirror.prefetch(&data).to(gpus[0].vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    kfd.faults().mapping_races(u32::MAX);
    let fresh = filled(4 << 20)?;
    let error = mirror.prefetch(&fresh).to_system().run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    kfd.faults().mapping_races(0);
    assert_intact(&data);
    assert_intact(&fresh);
    Ok(())
}

fn kfd_reset(_: &Context) -> TestResult {
    let (kfd, gpus) = kfd(one_mi200());
    let gpu = &gpus[0];
    let mirror = gpu.mirror()?;
    let (there, data) = (filled(2 << 20)?, filled(2 << 20)?);
    assert!(mirror.prefetch(&there).to(gpu.vram()).run()?.is_complete());
    kfd.reset(0);
    for _ in 0..2 {
        let error = mirror.prefetch(&data).to(gpu.vram()).run().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert_eq!(device_bytes(data.range())?, 0, "nothing went where it might be lost");
        assert_eq!(mirror.prefetch(&there).to_system().run().unwrap_err().kind(), ErrorKind::DeviceLost);
    }
    // This driver still copies, as the new mirror finds out.
    let again = gpu.mirror()?;
    assert!(again.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    assert_intact(&data);
    assert_intact(&there);
    Ok(())
}

fn kfd_without_svm(_: &Context) -> TestResult {
    let mut config = one_mi200();
    config.kernel.svm = false;
    let found = Gpu::discover_in(&Machine::new().with_kfd(Kfd::new(config).expect("a simulated KFD")));
    assert!(found.gpus().is_empty());
    let why = found.passed_over()[0].to_string();
    assert!(why.contains("CONFIG_HSA_AMD_SVM"), "{why}");
    Ok(())
}
