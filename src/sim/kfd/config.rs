//! What a simulated KFD is like: the kernel's generation, and the GPUs.

use crate::kfd::GfxVersion;

/// What differs between kernels. [`Kernel::with_minor`] gives the usual set for an interface version; single fields can then
/// be changed, for kernels with backports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Minor version of the interface; the major is 1.
    pub minor: u32,
    /// Built with `CONFIG_HSA_AMD_SVM`. Without, SVM and XNACK calls answer `EPERM`.
    pub svm: bool,
    /// `open` refuses a process that sees no GPU with `EINVAL` (7.x).
    pub open_needs_gpu: bool,
    /// Setting attributes before `ACQUIRE_VM` answers `EINVAL`; without the check the kernel dereferences NULL.
    pub checks_acquired: bool,
    /// An attribute count beyond the size of the request answers `EINVAL`; without the check the kernel leaves its buffer.
    pub checks_attribute_count: bool,
    /// A call that the kernel does not know answers `ENOTTY`; before 6.17 `EINVAL`.
    pub unknown_call_is_enotty: bool,
    /// An SVM operation that the kernel does not know answers `EINVAL`; before 6.17 it succeeds and does nothing.
    pub refuses_unknown_operation: bool,
    /// More apertures than there are topology nodes cannot be asked for (`EINVAL`, 7.x).
    pub checks_aperture_count: bool,
    /// A range that goes beyond the last address answers `EOVERFLOW` (7.x); without the check only its first mapping is looked at.
    pub checks_end_of_range: bool,
    /// `NO_ACCESS` removes existing mappings (7.x).
    pub no_access_unmaps: bool,
    /// No APU ever gets memory migrated into its VRAM; later only those whose VRAM is smaller than their share of system memory.
    pub apus_never_migrate: bool,
    /// `MIGRATE_END` events have an error field (7.x).
    pub migrate_end_has_error: bool,
    /// `QUEUE_RESTORE` events end in a NUL byte where a digit is meant (before 6.18).
    pub queue_restore_writes_nul: bool,
    /// `PROCESS_START` and `PROCESS_END` events exist (6.16).
    pub process_events: bool,
    /// Bytes of events that are kept for a reader.
    pub smi_log_bytes: usize,
}

impl Kernel {
    /// Debian's 6.12, had it been built with SVM.
    pub const V6_12: Self = Self {
        minor: 17,
        svm: true,
        open_needs_gpu: false,
        checks_acquired: true,
        checks_attribute_count: true,
        unknown_call_is_enotty: false,
        refuses_unknown_operation: false,
        checks_aperture_count: false,
        checks_end_of_range: false,
        no_access_unmaps: false,
        apus_never_migrate: true,
        migrate_end_has_error: false,
        queue_restore_writes_nul: true,
        process_events: false,
        smi_log_bytes: 1024,
    };
    /// 6.16: dereferences NULL when attributes are set before `ACQUIRE_VM`.
    pub const V6_16: Self = Self {
        minor: 18,
        checks_acquired: false,
        checks_attribute_count: false,
        process_events: true,
        ..Self::V6_12
    };
    /// 6.17.
    pub const V6_17: Self =
        Self { unknown_call_is_enotty: true, refuses_unknown_operation: true, ..Self::V6_16 };
    /// 6.18.
    pub const V6_18: Self = Self { queue_restore_writes_nul: false, ..Self::V6_17 };
    /// 7.3.
    pub const V7_3: Self = Self {
        minor: 23,
        open_needs_gpu: true,
        checks_acquired: true,
        checks_attribute_count: true,
        checks_aperture_count: true,
        checks_end_of_range: true,
        no_access_unmaps: true,
        apus_never_migrate: false,
        migrate_end_has_error: true,
        smi_log_bytes: 8192,
        ..Self::V6_18
    };

    /// The usual kernel with interface 1.`minor`.
    #[must_use]
    pub const fn with_minor(minor: u32) -> Self {
        let like = match minor {
            0..=16 => Self { checks_acquired: false, checks_attribute_count: false, ..Self::V6_12 },
            17 => Self::V6_12,
            18 => Self::V6_18,
            _ => Self::V7_3,
        };
        Self { minor, ..like }
    }
}

/// Version of the graphics core, by which the driver decides what a chip can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GcVersion(pub u8, pub u8, pub u8);

/// One simulated GPU, or one partition of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuConfig {
    /// The GPU's number in KFD calls.
    pub gpu_id: u32,
    /// Name in the topology.
    pub name: String,
    /// Version of the graphics core.
    pub gc: GcVersion,
    /// Generation of the instruction set.
    pub gfx: GfxVersion,
    /// PCI device.
    pub device_id: u16,
    /// The driver's parameter `noretry`: page faults are not retried unless the chip decides by process.
    pub noretry: bool,
    /// Whether SVM works for the GPU.
    pub svm: bool,
    /// Bytes of VRAM.
    pub vram: u64,
    /// Bytes of VRAM that the driver keeps.
    pub reserved: u64,
    /// XGMI hive, or 0.
    pub hive_id: u64,
    /// Which physical device it is: partitions of one have the same number, and share its VRAM.
    pub device: usize,
    /// An APU.
    pub apu: bool,
    /// An APU whose VRAM is smaller than its share of system memory: computes there.
    pub prefers_system_memory: bool,
    /// Minor number of the render node.
    pub render_minor: u32,
    /// Whether the device cgroup shows the GPU to this process.
    pub visible: bool,
    /// Whether the CPU reaches all of VRAM.
    pub large_bar: bool,
    /// SDMA engines for user queues, and queues of each.
    pub sdma: (u32, u32),
}

impl GpuConfig {
    /// An MI200 (gfx90a): per-process XNACK, five SDMA engines.
    #[must_use]
    pub fn mi200(gpu_id: u32, vram: u64) -> Self {
        Self {
            gpu_id,
            name: "aldebaran".into(),
            gc: GcVersion(9, 4, 2),
            gfx: GfxVersion { major: 9, minor: 0, stepping: 10 },
            device_id: 0x7408,
            noretry: true,
            svm: true,
            vram,
            reserved: 0,
            hive_id: 0,
            device: 0,
            apu: false,
            prefers_system_memory: false,
            render_minor: 128,
            visible: true,
            large_bar: true,
            sdma: (5, 8),
        }
    }

    /// A Vega10 (gfx900): XNACK only with `noretry=0`, two SDMA engines.
    #[must_use]
    pub fn vega10(gpu_id: u32, vram: u64) -> Self {
        Self {
            name: "vega10".into(),
            gc: GcVersion(9, 0, 1),
            gfx: GfxVersion { major: 9, minor: 0, stepping: 0 },
            device_id: 0x6860,
            sdma: (2, 2),
            ..Self::mi200(gpu_id, vram)
        }
    }

    /// A Navi31 (gfx1100): never XNACK.
    #[must_use]
    pub fn navi31(gpu_id: u32, vram: u64) -> Self {
        Self {
            name: "ip discovery".into(),
            gc: GcVersion(11, 0, 0),
            gfx: GfxVersion { major: 11, minor: 0, stepping: 0 },
            device_id: 0x744c,
            sdma: (2, 6),
            ..Self::mi200(gpu_id, vram)
        }
    }

    /// Whether KFD decides by process whether the chip retries page faults.
    pub(super) fn decides_xnack_by_process(&self) -> bool {
        matches!(self.gc, GcVersion(9, 4, 2..=4) | GcVersion(9, 5, 0))
    }

    /// Whether the chip can never retry page faults (RDNA 1 to 4).
    pub(super) fn never_retries(&self) -> bool {
        self.gc >= GcVersion(10, 1, 1) && self.gc < GcVersion(12, 1, 0)
    }
}

/// A simulated machine's KFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KfdConfig {
    /// The kernel's generation.
    pub kernel: Kernel,
    /// The GPUs, in topology order. At most 64.
    pub gpus: Vec<GpuConfig>,
    /// The driver's parameter `svm_default_granularity`, log2 of pages.
    pub default_granularity: u8,
    /// Bytes of system memory that registered ranges may have without XNACK; `None` is `no_system_mem_limit=1`.
    pub system_memory_limit: Option<u64>,
}

impl KfdConfig {
    /// One MI200 with a gigabyte of VRAM, under 7.3.
    #[must_use]
    pub fn new() -> Self {
        Self::with_gpus(vec![GpuConfig::mi200(0x4a3f, 1 << 30)])
    }

    /// These GPUs, under 7.3.
    #[must_use]
    pub fn with_gpus(gpus: Vec<GpuConfig>) -> Self {
        Self { kernel: Kernel::V7_3, gpus, default_granularity: 9, system_memory_limit: None }
    }

    /// The largest range the kernel makes in one piece: from the smallest VRAM, at most 1 GiB, at least 2 MiB.
    pub(super) fn largest_range(&self) -> u64 {
        let of = |gpu: &GpuConfig| {
            let share = (gpu.vram / 32).clamp(2 << 20, 1 << 30);
            1 << share.ilog2()
        };
        self.gpus.iter().filter(|gpu| gpu.svm).map(of).min().unwrap_or(1 << 30)
    }

    /// Whether every GPU can retry page faults when the process asks for it.
    pub(super) fn xnack_is_supported(&self) -> bool {
        self.visible().all(|gpu| gpu.decides_xnack_by_process() || (!gpu.never_retries() && !gpu.noretry))
    }

    /// The mode that a process starts with.
    pub(super) fn xnack_at_start(&self) -> bool {
        self.visible().all(|gpu| !gpu.noretry && !gpu.never_retries())
    }

    /// The GPUs that this process may use.
    pub(super) fn visible(&self) -> impl Iterator<Item = &GpuConfig> {
        self.gpus.iter().filter(|gpu| gpu.visible)
    }
}

impl Default for KfdConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_range_follows_the_smallest_vram() {
        let largest = |sizes: &[u64]| {
            let gpus = sizes.iter().map(|&gib| GpuConfig::mi200(1, gib)).collect();
            KfdConfig::with_gpus(gpus).largest_range()
        };
        for (vram, expected) in [
            (32 << 20, 2 << 20),
            (64 << 20, 2 << 20),
            (16 << 30, 512 << 20),
            (24 << 30, 512 << 20),
            (32 << 30, 1 << 30),
            (192 << 30, 1 << 30),
        ] {
            assert_eq!(largest(&[vram]), expected, "{vram:#x}");
        }
        assert_eq!(largest(&[32 << 30, 64 << 20]), 2 << 20);
    }

    #[test]
    fn xnack_of_chips() {
        let modes = |gpus: Vec<GpuConfig>| {
            let config = KfdConfig::with_gpus(gpus);
            (config.xnack_is_supported(), config.xnack_at_start())
        };
        let retry = |gpu: GpuConfig| GpuConfig { noretry: false, ..gpu };
        assert_eq!(modes(vec![]), (true, true));
        assert_eq!(modes(vec![GpuConfig::mi200(1, 1)]), (true, false));
        assert_eq!(modes(vec![GpuConfig::vega10(1, 1)]), (false, false));
        assert_eq!(modes(vec![retry(GpuConfig::vega10(1, 1))]), (true, true));
        assert_eq!(modes(vec![retry(GpuConfig::navi31(1, 1))]), (false, false));
        assert_eq!(modes(vec![GpuConfig::mi200(1, 1), GpuConfig::navi31(2, 1)]), (false, false));
    }

    #[test]
    fn kernels_by_minor_version() {
        assert_eq!(Kernel::with_minor(23), Kernel::V7_3);
        assert_eq!(Kernel::with_minor(17), Kernel::V6_12);
        assert!(!Kernel::with_minor(11).checks_acquired && Kernel::with_minor(11).smi_log_bytes == 1024);
        assert!(Kernel::with_minor(19).no_access_unmaps && !Kernel::with_minor(18).no_access_unmaps);
    }
}
