//! What a test needs of the device and the machine.

use drm_pagemap::range::SIZE_2M;
use drm_pagemap::xe::Operation;
use drm_pagemap::{Device, Driver, Gpu};

use super::driver_counters::DriverCounters;
use super::mailbox::Mailbox;
use super::own_guest;

/// System memory left alone by tests that overcommit VRAM: page tables, the kernel's copies on the way.
const SLACK: u64 = 512 << 20;

/// How much data overcommits the VRAM of a device: half as much again.
pub(crate) fn overcommitted(gpu: &Gpu) -> u64 {
    let size = gpu.vram_regions()[0].size();
    (size + size / 2).next_multiple_of(SIZE_2M)
}

/// Whether evicting memory from VRAM is safe while its process migrates more of it. Kernels before 7.3 evict in a worker that takes
/// the process's mmap lock for reading. The process that waits for it holds that lock for reading too; if anyone waits to write
/// in between, khugepaged for example, none of the three goes on, ever. `KFD_IOC_VERSION` does not tell: 7.2 has that of 7.3.
fn evicts_on_the_spot(gpu: &Gpu) -> bool {
    gpu.driver() != Driver::Kfd || gpu.is_simulated() || kernel() >= (7, 3)
}

/// Whether memory is unmapped from a GPU that loses access to it. Kernels before 7.3 leave it mapped ("TODO: unmap ranges from
/// GPU that lost access" in `svm_range_set_attr`), and go on doing so when the memory itself is unmapped: the GPU
/// still reaches the pages, whoever has them then.
pub(crate) fn unmaps_what_loses_access(gpu: &Gpu) -> bool {
    gpu.is_simulated() || kernel() >= (7, 3)
}

/// Version of the running kernel: major, minor.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel says its release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A page in VRAM that a CPU thread faults on is locked while its fault waits for the driver. `svm_range_evict_svm_bo` tries three
/// times to move it, and reports success all the same; its memory becomes another range's, whose `zone_device_page_init`
/// clears the lock and the mark of who waits for it. Seen on 7.3.4; no amdgpu is known that does otherwise.
const GIVES_AWAY: &str = "amdgpu gives VRAM away with a page in it that a CPU thread touches during the eviction; \
                          the thread gets SIGBUS or waits for ever (svm_range_evict_svm_bo, \"Migration failed during eviction\")";

/// What the kernel believes to be available without swapping.
pub(crate) fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A need; a case whose device lacks one is ignored with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The driver is xe.
    Xe,
    /// The driver is amdgpu with KFD.
    Kfd,
    /// The device is one of this process, whose faults a test can arrange.
    Simulated,
    /// The device is none of this process, so that several processes can use it.
    RealDevice,
    /// A prefetch can move pages into memory of the device.
    Vram,
    /// System memory for half as much again as there is VRAM, so that VRAM can be overcommitted.
    Overcommit,
    /// Threads may touch what the driver evicts from VRAM meanwhile.
    TouchedEviction,
    /// The driver takes advice about preferred locations.
    Advice,
    /// System calls can read and write memory that is in VRAM.
    KernelTouch,
    /// A second device.
    TwoGpus,
    /// A guest of the lab whose driver may be spoilt.
    OwnGuest,
    /// Trouble on purpose: a virtual device whose mailbox this process may use, or a simulated one.
    Injection,
    /// The driver counts what it moves, where this process may read it (debugfs).
    DriverCounters,
}

impl Need {
    /// Why the device does not have it, or `None` when it does.
    pub(crate) fn lacking(self, gpus: &[Gpu]) -> Option<String> {
        let gpu = gpus.first()?;
        match self {
            Self::Xe => (gpu.driver() != Driver::Xe).then(|| "for xe only".to_owned()),
            Self::Kfd => (gpu.driver() != Driver::Kfd).then(|| "for amdgpu only".to_owned()),
            Self::Simulated => (!gpu.is_simulated()).then(|| "needs a simulated device".to_owned()),
            Self::RealDevice => gpu.is_simulated().then(|| {
                "needs a device that several processes share; a simulated one lives in one".to_owned()
            }),
            Self::Vram => gpu.svm().migration().err().map(ToString::to_string),
            Self::Overcommit if !evicts_on_the_spot(gpu) => Some(
                "this kernel's amdgpu can deadlock when one process overcommits VRAM (before Linux 7.3)"
                    .to_owned(),
            ),
            Self::Overcommit => {
                let needed = overcommitted(gpu) + SLACK;
                let available = available_memory();
                (available < needed).then(|| {
                    format!(
                        "needs {needed} bytes of free system memory to overcommit VRAM; {available} are free"
                    )
                })
            }
            Self::TouchedEviction => {
                (gpu.driver() == Driver::Kfd && !gpu.is_simulated()).then(|| GIVES_AWAY.to_owned())
            }
            Self::Advice => match gpu.device() {
                Device::Xe(xe) => match xe.probe().supports(Operation::Advise) {
                    Ok(true) => None,
                    Ok(false) => Some("this kernel's xe takes no advice (Linux 6.18)".to_owned()),
                    Err(error) => Some(error.to_string()),
                },
                _ => None,
            },
            Self::KernelTouch => (!gpu.kernel_can_touch_vram())
                .then(|| "system calls cannot reach simulated VRAM without CAP_SYS_PTRACE".to_owned()),
            Self::Injection if gpu.is_simulated() => None,
            Self::Injection => Mailbox::of(gpu).err(),
            Self::DriverCounters => DriverCounters::of(gpu).err(),
            Self::OwnGuest => own_guest::lacking(),
            Self::TwoGpus => (gpus.len() < 2).then(|| "needs a second device".to_owned()),
        }
    }
}
