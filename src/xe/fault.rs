//! GPU page faults that could not be served (`VM_GET_PROPERTY`).

use super::errors::{Meaning, explain, means};
use super::operation::Operation;
use super::vm::Vm;
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    FAULT_ACCESS_TYPE_ATOMIC, FAULT_ACCESS_TYPE_READ, FAULT_ACCESS_TYPE_WRITE, FAULT_TYPE_ATOMIC_ACCESS,
    FAULT_TYPE_NOT_PRESENT, FAULT_TYPE_WRITE_ACCESS, VmFault as RawFault, VmGetProperty,
};

/// What the GPU was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultAccess {
    /// Reading.
    #[doc(alias = "FAULT_ACCESS_TYPE_READ")]
    Read,
    /// Writing.
    #[doc(alias = "FAULT_ACCESS_TYPE_WRITE")]
    Write,
    /// An atomic operation.
    #[doc(alias = "FAULT_ACCESS_TYPE_ATOMIC")]
    Atomic,
    /// Something newer than this crate.
    Other(u8),
}

/// What the page tables lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing is mapped at the address.
    #[doc(alias = "FAULT_TYPE_NOT_PRESENT")]
    NotPresent,
    /// The mapping does not allow writes.
    #[doc(alias = "FAULT_TYPE_WRITE_ACCESS")]
    WriteAccess,
    /// The mapping does not allow atomic operations.
    #[doc(alias = "FAULT_TYPE_ATOMIC_ACCESS")]
    AtomicAccess,
    /// The hardware refused without saying.
    Refused,
    /// Something newer than this crate.
    Other(u8),
}

/// One GPU page fault that the driver could not serve. The queue that made it was banned.
#[doc(alias = "xe_vm_fault")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VmFault {
    /// First byte of the page, as the process writes addresses (the driver reports them sign-extended).
    pub address: u64,
    /// Bytes that the address is exact to.
    pub precision: u32,
    /// What the GPU was doing.
    pub access: FaultAccess,
    /// What the page tables lacked.
    pub kind: FaultKind,
    /// Level of the page table, 0 for pages of 4 KiB; 15 when the hardware refused.
    pub level: u8,
}

impl VmFault {
    fn from_raw(raw: &RawFault, va_bits: u32) -> Self {
        Self {
            address: raw.address & ((1 << va_bits) - 1),
            precision: raw.address_precision,
            access: match raw.access_type {
                FAULT_ACCESS_TYPE_READ => FaultAccess::Read,
                FAULT_ACCESS_TYPE_WRITE => FaultAccess::Write,
                FAULT_ACCESS_TYPE_ATOMIC => FaultAccess::Atomic,
                other => FaultAccess::Other(other),
            },
            kind: match raw.fault_type {
                FAULT_TYPE_NOT_PRESENT => FaultKind::NotPresent,
                FAULT_TYPE_WRITE_ACCESS => FaultKind::WriteAccess,
                FAULT_TYPE_ATOMIC_ACCESS => FaultKind::AtomicAccess,
                15 => FaultKind::Refused,
                other => FaultKind::Other(other),
            },
            level: raw.fault_level,
        }
    }
}

const PROPERTY: &[Meaning] = &[
    means(Errno::EINVAL, ErrorKind::Unsupported, "this kernel does not tell faults", "Linux 7.1 or newer"),
    means(Errno::ENOENT, ErrorKind::NotFound, "the VM does not exist", "use a VM of the same open file"),
];

impl Vm {
    /// The GPU page faults of this VM that could not be served, oldest first (`VM_GET_PROPERTY`, since kernel 7.1).
    ///
    /// The driver keeps the first 50 and never forgets them, so a later answer begins with an earlier one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before 7.1; [`ErrorKind::NotFound`] (`ENOENT`); [`ErrorKind::OutOfMemory`];
    /// [`ErrorKind::DeviceLost`].
    #[doc(alias = "DRM_XE_VM_GET_PROPERTY_FAULTS")]
    pub fn faults(&self) -> Result<Vec<VmFault>> {
        self.check_process(VmGetProperty::NAME)?;
        let size = self.faults_size().map_err(|error| self.explain_faults(error))?;
        let count = size as usize / size_of::<RawFault>();
        if count == 0 {
            return Ok(Vec::new());
        }
        // Faults that come in between do no harm: asking for fewer than there are is allowed.
        let mut raw = vec![RawFault::default(); count];
        let mut arg = VmGetProperty {
            size: (count * size_of::<RawFault>()) as u32,
            data: raw.as_mut_ptr() as u64,
            ..self.property()
        };
        // SAFETY: the kernel writes exactly `size` bytes to `data`, which `raw` has, and `raw` lives until after the call.
        unsafe { self.device().channel().call(&mut arg, Retry::Always) }
            .map_err(|error| self.explain_faults(error))?;
        let va_bits = self.device().config().va_bits;
        Ok(raw.iter().map(|raw| VmFault::from_raw(raw, va_bits)).collect())
    }

    #[cold]
    fn explain_faults(&self, error: Error) -> Error {
        let error = explain(error, PROPERTY);
        // A kernel that has the call answers EINVAL only to arguments that are never passed here.
        let known = self.device().probe().supports(Operation::Faults);
        match known {
            Ok(true) if error.errno() == Some(Errno::EINVAL) => error.of_kind(ErrorKind::Other),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_sign() {
        let raw = RawFault { address: 0xffff_8000_1234_5000, address_precision: 4096, ..Default::default() };
        assert_eq!(VmFault::from_raw(&raw, 48).address, 0x8000_1234_5000);
        assert_eq!(VmFault::from_raw(&raw, 57).address, 0x1ff_8000_1234_5000);
    }

    #[test]
    fn every_code_has_a_name() {
        let fault = |access_type, fault_type| {
            VmFault::from_raw(&RawFault { access_type, fault_type, ..Default::default() }, 48)
        };
        assert_eq!((fault(0, 0).access, fault(0, 0).kind), (FaultAccess::Read, FaultKind::NotPresent));
        assert_eq!((fault(1, 1).access, fault(1, 1).kind), (FaultAccess::Write, FaultKind::WriteAccess));
        assert_eq!((fault(2, 2).access, fault(2, 2).kind), (FaultAccess::Atomic, FaultKind::AtomicAccess));
        assert_eq!((fault(9, 15).access, fault(9, 15).kind), (FaultAccess::Other(9), FaultKind::Refused));
    }
}
