//! What this kernel and device can do, asked of the kernel itself.
//!
//! A missing xe ioctl and a bad argument both answer `EINVAL`, and the driver's version is 1.1.0 on every kernel. So each
//! question is an operation with arguments that are known to be good, on a VM made for the purpose and destroyed at once.

use super::advice::{Advice, AtomicMode, PreferredLocation};
use super::device::Device;
use super::operation::{Answers, Operation};
use super::pat::PatIndex;
use super::vm::{ResolvedMirror, Vm, VmFlags};
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::{PageRange, page_size};
use crate::uapi::xe::{
    DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR, DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, DRM_XE_VM_BIND_OP_PREFETCH,
    DRM_XE_VM_BIND_OP_UNMAP, VmBindOp,
};

/// Asks what a device and its kernel can do; made by [`Device::probe`].
///
/// Each question is asked of the kernel once and answered from memory afterwards: one atomic load.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    device: &'a Device,
    answers: &'a Answers,
}

impl Device {
    /// What this kernel and device can do. Questions are asked when first needed and answered from memory afterwards.
    #[must_use]
    pub fn probe(&self) -> Probe<'_> {
        Probe { device: self, answers: self.answers() }
    }
}

impl Probe<'_> {
    /// Whether `operation` works here.
    ///
    /// # Errors
    ///
    /// Only when the question could not be asked (device lost, out of memory); it is asked again next time.
    #[inline]
    pub fn supports(&self, operation: Operation) -> Result<bool> {
        match self.answers.of(operation).get() {
            Some(&known) => Ok(known),
            None => self.find_out(operation),
        }
    }

    /// Success when `operation` works here.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] with the reason and the cure when it does not; otherwise as [`supports`](Self::supports).
    pub fn require(&self, operation: Operation) -> Result<()> {
        if self.supports(operation)? {
            return Ok(());
        }
        let (reason, hint) = operation.absence();
        Err(Error::new(ErrorKind::Unsupported, "Probe::require").because(reason).hint_is(hint))
    }

    /// Whether `operation` is known to work here, without asking.
    #[inline]
    pub(super) fn is_known_to_support(&self, operation: Operation) -> bool {
        self.answers.of(operation).get() == Some(&true)
    }

    #[cold]
    fn find_out(&self, operation: Operation) -> Result<bool> {
        let asked = self.ask(operation)?;
        Ok(*self.answers.of(operation).get_or_init(|| asked))
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
        self.vm.bind_one(mirror.over(self.range), Retry::Always)
    }

    /// To system memory: never to VRAM, at which 6.17 crashes.
    fn prefetch(&self) -> Result<bool> {
        known(self.vm.bind_one(self.op(DRM_XE_VM_BIND_OP_PREFETCH), Retry::Always))
    }

    fn op(&self, op: u32) -> VmBindOp {
        VmBindOp { addr: self.range.start(), range: self.range.len(), op, ..Default::default() }
    }

    fn unmap(&self) -> Result<()> {
        self.vm.bind_one(self.op(DRM_XE_VM_BIND_OP_UNMAP), Retry::Always)
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
