//! How long the kernel's answers about a VM are.

use super::vm::Vm;
use crate::channel::Retry;
use crate::error::Result;
use crate::range::PageRange;
use crate::uapi::xe::{DRM_XE_VM_GET_PROPERTY_FAULTS, VmGetProperty, VmQueryMemRangeAttrs};

impl Vm {
    /// How many mappings overlap `range`, with the channel's error.
    pub(super) fn count_ranges(&self, range: PageRange) -> Result<u32> {
        let mut arg = self.query(range);
        // SAFETY: without room for answers the kernel writes the argument only.
        unsafe { self.device().channel().call(&mut arg, Retry::Always) }?;
        Ok(arg.num_mem_ranges)
    }

    /// The question about `range`, without room for an answer.
    pub(super) fn query(&self, range: PageRange) -> VmQueryMemRangeAttrs {
        VmQueryMemRangeAttrs {
            vm_id: self.id(),
            start: range.start(),
            range: range.len(),
            ..Default::default()
        }
    }

    /// Bytes of the fault list, with the channel's error.
    pub(super) fn faults_size(&self) -> Result<u32> {
        let mut arg = self.property();
        // SAFETY: with size 0 the kernel writes the argument only.
        unsafe { self.device().channel().call(&mut arg, Retry::Always) }?;
        Ok(arg.size)
    }

    /// The question for faults, without room for an answer.
    pub(super) fn property(&self) -> VmGetProperty {
        VmGetProperty { vm_id: self.id(), property: DRM_XE_VM_GET_PROPERTY_FAULTS, ..Default::default() }
    }
}
