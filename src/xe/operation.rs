//! What kernels and devices may lack.

use std::sync::OnceLock;

/// An ability that kernels or devices may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// VMs that serve GPU page faults ([`VmFlags::SVM`](super::VmFlags::SVM)).
    FaultMode,
    /// Mirrors of the CPU's addresses. Since kernel 6.15.
    Mirror,
    /// Prefetch of mirrored addresses to system memory. Since kernel 6.16.
    Prefetch,
    /// Prefetch of mirrored addresses to VRAM. Since kernel 6.18: 6.16 does not migrate, and 6.17 crashes.
    PrefetchToVram,
    /// Prefetch to where the advice prefers. Since kernel 6.18.
    PrefetchAdvised,
    /// [`Vm::advise`](super::Vm::advise). Since kernel 6.18.
    Advise,
    /// [`Vm::range_attributes`](super::Vm::range_attributes). Since kernel 6.18.
    RangeAttributes,
    /// Advice that ends with the memory it was given for. Since kernel 6.18.
    Autoreset,
    /// Preferred locations other than "the faulting device" and "system memory". Since kernel 7.0.
    PreferredRegion,
    /// Mirroring addresses again while the GPU uses them. Since kernel 7.0.
    RemirrorInUse,
    /// [`VmFlags::NO_VM_OVERCOMMIT`](super::VmFlags::NO_VM_OVERCOMMIT). Since kernel 7.1.
    NoVmOvercommit,
    /// [`Vm::faults`](super::Vm::faults). Since kernel 7.1.
    Faults,
    /// [`Vm::set_purgeable`](super::Vm::set_purgeable). Since kernel 7.1.
    Purgeable,
}

impl Operation {
    const COUNT: usize = Self::Purgeable as usize + 1;

    /// Every operation.
    pub const ALL: [Self; Self::COUNT] = [
        Self::FaultMode,
        Self::Mirror,
        Self::Prefetch,
        Self::PrefetchToVram,
        Self::PrefetchAdvised,
        Self::Advise,
        Self::RangeAttributes,
        Self::Autoreset,
        Self::PreferredRegion,
        Self::RemirrorInUse,
        Self::NoVmOvercommit,
        Self::Faults,
        Self::Purgeable,
    ];

    /// What is missing where the operation is, and what cures it.
    pub(super) const fn absence(self) -> (&'static str, &'static str) {
        match self {
            Self::FaultMode => (
                "the device does not serve GPU page faults",
                "SVM needs PVC, Lunar Lake, Battlemage or newer",
            ),
            Self::Mirror => (
                "the driver does not mirror CPU addresses on this device",
                "Linux 6.15 or newer with CONFIG_DRM_XE_GPUSVM",
            ),
            Self::Prefetch => ("this kernel does not prefetch mirrored addresses", "Linux 6.16 or newer"),
            Self::PrefetchToVram => (
                "this kernel does not prefetch to VRAM, or the device has none",
                "Linux 6.18 or newer, and a device with memory of its own",
            ),
            Self::PrefetchAdvised => {
                ("this kernel does not prefetch to advised locations", "Linux 6.18 or newer")
            }
            Self::Advise => ("this kernel has no DRM_IOCTL_XE_MADVISE", "Linux 6.18 or newer"),
            Self::RangeAttributes => {
                ("this kernel has no DRM_IOCTL_XE_VM_QUERY_MEM_RANGE_ATTRS", "Linux 6.18 or newer")
            }
            Self::Autoreset => {
                ("this kernel does not reset advice when memory is unmapped", "Linux 6.18 or newer")
            }
            Self::PreferredRegion => (
                "this kernel prefers the faulting device or system memory only, or the device has no VRAM",
                "Linux 7.0 or newer, and devices with memory of their own",
            ),
            Self::RemirrorInUse => {
                ("this kernel does not mirror addresses again while the GPU uses them", "Linux 7.0 or newer")
            }
            Self::NoVmOvercommit => ("this kernel has no NO_VM_OVERCOMMIT", "Linux 7.1 or newer"),
            Self::Faults => ("this kernel has no DRM_IOCTL_XE_VM_GET_PROPERTY", "Linux 7.1 or newer"),
            Self::Purgeable => ("this kernel does not purge buffer objects", "Linux 7.1 or newer"),
        }
    }
}

/// Answers of the kernel so far.
#[derive(Debug, Default)]
pub(super) struct Answers([OnceLock<bool>; Operation::COUNT]);

impl Answers {
    pub(super) const fn of(&self, operation: Operation) -> &OnceLock<bool> {
        &self.0[operation as usize]
    }

    #[cfg(test)]
    pub(super) fn all_supported() -> Self {
        Self([const { OnceLock::new() }; Operation::COUNT].map(|_: OnceLock<bool>| OnceLock::from(true)))
    }
}
