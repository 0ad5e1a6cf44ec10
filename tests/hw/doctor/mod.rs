//! What the doctor says of a machine is so.

mod simulated;
mod snapshot;

use drm_pagemap::doctor::{self, DeviceReport, Report, Status, Verdict};
use drm_pagemap::kfd::Xnack;
use drm_pagemap::residency::{Place, Scanner};
use drm_pagemap::{Device, Driver, ErrorKind, Gpu};

use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "doctor/the_verdict_is_so", needs: &[], run: the_verdict_is_so },
    Test {
        name: "doctor/what_it_says_of_prefetches_is_so",
        needs: &[],
        run: what_it_says_of_prefetches_is_so,
    },
    Test {
        name: "doctor/what_it_says_of_xnack_is_so",
        needs: &[Need::Kfd],
        run: what_it_says_of_xnack_is_so,
    },
    Test {
        name: "doctor/what_it_says_of_the_process_is_so",
        needs: &[],
        run: what_it_says_of_the_process_is_so,
    },
    Test { name: "doctor/examining_changes_nothing", needs: &[Need::Vram], run: examining_changes_nothing },
    Test { name: "doctor/snapshot", needs: &[Need::RealDevice], run: snapshot::snapshot },
];

/// A device, and what the doctor says of the machine that has it.
struct Examined {
    gpu: Gpu,
    machine: Option<simulated::Machine>,
}

impl Examined {
    fn of(context: &Context) -> Result<Self, drm_pagemap::Error> {
        Ok(match simulated::like(context.gpu())? {
            Some((machine, gpu)) => Self { gpu, machine: Some(machine) },
            None => Self { gpu: context.gpu().clone(), machine: None },
        })
    }

    fn report(&self) -> Report {
        self.machine.as_ref().map_or_else(doctor::examine, |machine| doctor::examine_system(machine))
    }

    /// What it says of the device.
    fn device<'r>(&self, report: &'r Report) -> &'r DeviceReport {
        let node = self.machine.as_ref().map_or_else(|| self.gpu.device().node(), simulated::Machine::node);
        let found = report.devices.iter().find(|device| device.node.as_deref() == Some(node.as_str()));
        found.unwrap_or_else(|| panic!("{node} is in the report:\n{report:#}"))
    }
}

fn status(device: &DeviceReport, check: &str) -> Option<Status> {
    device.findings.iter().find(|finding| finding.check().id == check).map(doctor::Finding::status)
}

fn the_verdict_is_so(context: &Context) -> TestResult {
    let examined = Examined::of(context)?;
    let (gpu, report) = (&examined.gpu, examined.report());
    let device = examined.device(&report);
    assert_eq!(device.driver.as_deref(), Some(gpu.driver().name()));
    match device.verdict {
        Verdict::Yes | Verdict::Degraded => {
            assert_eq!(gpu.svm().mirroring(), Ok(()), "{report:#}");
            let mirror = gpu.mirror()?;
            let data = filled(2 << 20)?;
            let outcome = mirror.prefetch(&data).to_system().run()?;
            assert!(outcome.is_complete(), "{outcome}");
            assert_intact(&data);
        }
        Verdict::No => {
            let error = gpu.mirror().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}\n{report:#}");
        }
        verdict => panic!("the driver could be asked, and the verdict is {verdict}:\n{report:#}"),
    }
    Ok(())
}

fn what_it_says_of_prefetches_is_so(context: &Context) -> TestResult {
    let examined = Examined::of(context)?;
    let (gpu, report) = (&examined.gpu, examined.report());
    let device = examined.device(&report);
    let promised = match gpu.driver() {
        Driver::Xe => status(device, "device.prefetch") == Some(Status::Ok),
        _ => status(device, "device.vram") == Some(Status::Ok),
    };
    let mirror = gpu.mirror()?;
    let data = filled(4 << 20)?;
    let result = mirror.prefetch(&data).to(gpu.vram()).run();
    if promised {
        let outcome = result?;
        assert!(outcome.is_complete(), "{outcome}\n{report:#}");
        assert_eq!(device_bytes(data.range())?, 4 << 20);
    } else {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}\n{report:#}");
        assert_eq!(device_bytes(data.range())?, 0);
    }
    let advises = status(device, "device.advice");
    if gpu.driver() == Driver::Xe {
        let advised = mirror.advise(&data).prefer(gpu.vram()).apply().map(drop);
        assert_eq!(advises == Some(Status::Ok), advised.is_ok(), "{advised:?}\n{report:#}");
    }
    assert_intact(&data);
    Ok(())
}

fn what_it_says_of_xnack_is_so(context: &Context) -> TestResult {
    let examined = Examined::of(context)?;
    let Device::Kfd(kfd) = examined.gpu.device() else { skip!("for amdgpu only") };
    let on = kfd.process().xnack()? == Xnack::On;
    let report = examined.report();
    let device = examined.device(&report);
    let xnack = device.findings.iter().find(|finding| finding.check().id == "device.xnack");
    let xnack = xnack.unwrap_or_else(|| panic!("XNACK is looked at:\n{report:#}"));
    assert_eq!(xnack.status() == Status::Ok, on, "{xnack:?}");
    Ok(())
}

fn what_it_says_of_the_process_is_so(context: &Context) -> TestResult {
    let report = Examined::of(context)?.report();
    let of_machine = |check: &str| {
        let found = report.machine.iter().find(|finding| finding.check().id == check);
        found.map(doctor::Finding::status)
    };
    let scanner = Scanner::new();
    assert_eq!(of_machine("residency.pagemap") == Some(Status::Ok), scanner.is_ok(), "{report:#}");
    let scans = scanner.is_ok_and(|scanner| scanner.support().pagemap_scan());
    assert_eq!(of_machine("residency.scan") == Some(Status::Ok), scans, "{report:#}");
    let simulates = ["simulation.userfaultfd", "simulation.move"].map(of_machine);
    let simulates = simulates.iter().all(|status| matches!(status, Some(Status::Ok | Status::Degraded)));
    let simulated = Gpu::simulated();
    let mirror = simulated.mirror();
    let data = filled(2 << 20)?;
    let moved = mirror.and_then(|mirror| mirror.prefetch(&data).to(simulated.vram()).run());
    assert_eq!(
        simulates,
        moved.as_ref().is_ok_and(drm_pagemap::Outcome::is_complete),
        "{moved:?}\n{report:#}"
    );
    assert_intact(&data);
    Ok(())
}

fn examining_changes_nothing(context: &Context) -> TestResult {
    let examined = Examined::of(context)?;
    let gpu = &examined.gpu;
    let mirror = gpu.mirror()?;
    let data = filled(4 << 20)?;
    assert!(mirror.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    let files = || std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count();
    let before = files();
    let (first, second) = (examined.report(), examined.report());
    assert_eq!(files(), before, "descriptors");
    let verdicts = |report: &Report| report.devices.iter().map(|device| device.verdict).collect::<Vec<_>>();
    assert_eq!(verdicts(&first), verdicts(&second));
    let now = drm_pagemap::residency::of_range(data.range())?;
    assert_eq!(now.summary().bytes(Place::Device), 4 << 20, "it is still in VRAM: {now}");
    assert_intact(&data);
    Ok(())
}
