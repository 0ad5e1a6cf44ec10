//! What this kernel and device can do, asked of the kernel itself.
//!
//! A missing xe ioctl and a bad argument both answer `EINVAL`, and the driver's version is 1.1.0 on every kernel. So each
//! question is an operation with arguments that are known to be good, on a VM made for the purpose and destroyed at once.

use std::sync::OnceLock;

use super::bind::Bind;
use super::device::Device;
use super::madvise::{Advice, AtomicMode, PreferredLocation};
use super::mirror::ResolvedMirror;
use super::pat::PatIndex;
use super::vm::{Vm, VmFlags};
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::{PageRange, page_size};
use crate::uapi::xe::{
    DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR, DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, DRM_XE_VM_BIND_OP_PREFETCH,
    VmBindOp,
};

/// An ability that kernels or devices may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// VMs that serve GPU page faults ([`VmFlags::SVM`]).
    FaultMode,
    /// Mirrors of the CPU's addresses. Since kernel 6.15.
    Mirror,
    /// Prefetch of mirrored addresses to system memory. Since kernel 6.16.
    Prefetch,
    /// Prefetch of mirrored addresses to VRAM. Since kernel 6.18: 6.16 does not migrate, and 6.17 crashes.
    PrefetchToVram,
    /// Prefetch to where the advice prefers. Since kernel 6.18.
    PrefetchAdvised,
    /// [`Vm::advise`]. Since kernel 6.18.
    Advise,
    /// [`Vm::range_attributes`]. Since kernel 6.18.
    RangeAttributes,
    /// Advice that ends with the memory it was given for. Since kernel 6.18.
    Autoreset,
    /// Preferred locations other than "the faulting device" and "system memory". Since kernel 7.0.
    PreferredRegion,
    /// Mirroring addresses again while the GPU uses them. Since kernel 7.0.
    RemirrorInUse,
    /// [`VmFlags::NO_VM_OVERCOMMIT`]. Since kernel 7.1.
    NoVmOvercommit,
    /// [`Vm::faults`]. Since kernel 7.1.
    Faults,
    /// [`Vm::set_purgeable`]. Since kernel 7.1.
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
    const fn absence(self) -> (&'static str, &'static str) {
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
    #[cfg(test)]
    pub(super) fn all_supported() -> Self {
        Self([const { OnceLock::new() }; Operation::COUNT].map(|_: OnceLock<bool>| OnceLock::from(true)))
    }
}

/// Asks what a device and its kernel can do; made by [`Device::probe`].
///
/// Each question is asked of the kernel once and answered from memory afterwards: one atomic load.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    device: &'a Device,
    answers: &'a Answers,
}

impl<'a> Probe<'a> {
    pub(super) const fn new(device: &'a Device, answers: &'a Answers) -> Self {
        Self { device, answers }
    }

    /// Whether `operation` works here.
    ///
    /// # Errors
    ///
    /// Only when the question could not be asked (device lost, out of memory); it is asked again next time.
    #[inline]
    pub fn supports(&self, operation: Operation) -> Result<bool> {
        match self.answers.0[operation as usize].get() {
            Some(&known) => Ok(known),
            None => self.find_out(operation),
        }
    }

    #[cold]
    fn find_out(&self, operation: Operation) -> Result<bool> {
        let asked = self.ask(operation)?;
        Ok(*self.answers.0[operation as usize].get_or_init(|| asked))
    }

    /// Success when `operation` works here.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] with the reason and the cure when it does not; otherwise as [`supports`](Self::supports).
    #[inline]
    pub fn require(&self, operation: Operation) -> Result<()> {
        match self.answers.0[operation as usize].get() {
            Some(true) => Ok(()),
            _ => self.require_unknown(operation),
        }
    }

    /// Whether `operation` is known to work here, without asking.
    #[inline]
    pub(super) fn is_known_to_support(&self, operation: Operation) -> bool {
        self.answers.0[operation as usize].get() == Some(&true)
    }

    #[cold]
    fn require_unknown(&self, operation: Operation) -> Result<()> {
        if self.supports(operation)? {
            return Ok(());
        }
        let (reason, hint) = operation.absence();
        Err(Error::new(ErrorKind::Unsupported, "Probe::require").because(reason).hint_is(hint))
    }

    fn ask(&self, operation: Operation) -> Result<bool> {
        let config = self.device.config();
        match operation {
            Operation::FaultMode => self.can_create(VmFlags::SVM),
            Operation::Mirror => Ok(config.has_cpu_addr_mirror),
            Operation::Purgeable => Ok(config.has_purging_support),
            Operation::NoVmOvercommit => {
                if !self.supports(Operation::FaultMode)? {
                    return Ok(false);
                }
                self.can_create(VmFlags::SVM | VmFlags::NO_VM_OVERCOMMIT)
            }
            Operation::Prefetch => self.with_mirrored_page(0, |page| {
                if !page.prefetch()? {
                    return Ok(false);
                }
                // Blocks that the prefetch made refuse to be unmapped; a kernel that ignored it lets the mirror go.
                Ok(page.unmap().is_err_and(|error| error.errno() == Some(Errno::EBUSY)))
            }),
            // The only kernel known to crash at it, 6.17, has no MADVISE, and neither has 6.16, which does not migrate.
            Operation::PrefetchToVram => Ok(config.has_vram
                && self.supports(Operation::Advise)?
                && self.supports(Operation::Prefetch)?),
            Operation::PrefetchAdvised => {
                Ok(self.supports(Operation::Advise)? && self.supports(Operation::Prefetch)?)
            }
            Operation::Advise => {
                self.with_vm(|vm| known(vm.advise_raw(first_page(), &Advice::Atomic(AtomicMode::Undefined))))
            }
            Operation::RangeAttributes => {
                self.with_vm(|vm| known(vm.count_ranges(first_page()).map(|_count| ())))
            }
            Operation::Faults => self.with_vm(|vm| known(vm.faults_size().map(|_size| ()))),
            Operation::Autoreset => {
                self.with_mirrored_page(DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, |_| Ok(true))
            }
            Operation::RemirrorInUse => {
                if !self.supports(Operation::Prefetch)? {
                    return Ok(false);
                }
                self.with_mirrored_page(0, |page| {
                    page.prefetch()?;
                    match page.mirror(0) {
                        Err(error) if error.errno() == Some(Errno::EBUSY) => Ok(false),
                        other => other.map(|()| true),
                    }
                })
            }
            Operation::PreferredRegion => {
                if !self.supports(Operation::PrefetchToVram)? {
                    return Ok(false);
                }
                let regions = self.device.memory_regions()?;
                let Some(vram) = regions.iter().find(|region| region.instance != 0) else { return Ok(false) };
                let location = PreferredLocation::Region { device: self.device, instance: vram.instance };
                self.with_vm(|vm| known(vm.advise_raw(first_page(), &Advice::PreferredLocation(location))))
            }
        }
    }

    fn can_create(&self, flags: VmFlags) -> Result<bool> {
        known(Vm::create(self.device, flags).map(drop))
    }

    /// Asks `question` of a fresh VM; without fault mode nothing here works.
    fn with_vm(&self, question: impl FnOnce(&Vm) -> Result<bool>) -> Result<bool> {
        if !self.supports(Operation::FaultMode)? {
            return Ok(false);
        }
        question(&Vm::create(self.device, VmFlags::SVM)?)
    }

    /// Asks `question` about one page of private memory, mirrored with `flags` in a fresh VM. False when it cannot be mirrored so.
    fn with_mirrored_page(
        &self,
        flags: u32,
        question: impl FnOnce(&MirroredPage<'_>) -> Result<bool>,
    ) -> Result<bool> {
        if !self.supports(Operation::Mirror)? {
            return Ok(false);
        }
        self.with_vm(|vm| {
            let memory = crate::Buffer::<u8>::zeroed(page_size() as usize)?;
            let range = PageRange::covering(&memory[..]);
            let pat = self.device.pat_table()?.map_or(PatIndex::COHERENT, |table| table.coherent());
            let page = MirroredPage { vm, range, pat };
            let answer = match page.mirror(flags) {
                Ok(()) => question(&page),
                Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(false),
                Err(error) => Err(error),
            };
            drop(memory);
            answer
        })
    }
}

struct MirroredPage<'a> {
    vm: &'a Vm,
    range: PageRange,
    pat: PatIndex,
}

impl MirroredPage<'_> {
    fn mirror(&self, flags: u32) -> Result<()> {
        let mirror = ResolvedMirror { flags: DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR | flags, pat: self.pat };
        self.vm.bind_one(Bind::mirror(self.range, mirror).op(), Retry::Always)
    }

    /// To system memory: never to VRAM, at which 6.17 crashes.
    fn prefetch(&self) -> Result<bool> {
        let op = VmBindOp {
            addr: self.range.start(),
            range: self.range.len(),
            op: DRM_XE_VM_BIND_OP_PREFETCH,
            ..Default::default()
        };
        known(self.vm.bind_one(op, Retry::Always))
    }

    fn unmap(&self) -> Result<()> {
        self.vm.bind_one(Bind::unmap(self.range).op(), Retry::Always)
    }
}

/// `EINVAL` to known-good arguments: the kernel does not know the operation.
fn known(answer: Result<()>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Addresses where a fresh VM has nothing bound, so that advice and questions about them change nothing.
fn first_page() -> PageRange {
    PageRange::from_aligned(0, page_size())
}
