//! `VM_GET_PROPERTY`: faults that could not be served.

use super::address_space::State;
use super::node::XeNode;
use crate::error::Errno;
use crate::sim::user_memory::WriteAccess;
use crate::uapi::xe::{DRM_XE_VM_GET_PROPERTY_FAULTS, MAX_FAULTS_SAVED_PER_VM, VmFault, VmGetProperty};

impl XeNode {
    /// `VM_GET_PROPERTY` (`xe_vm_get_property_ioctl`).
    pub(super) fn vm_get_property(&self, arg: &mut VmGetProperty, access: WriteAccess) -> Result<(), Errno> {
        if arg.reserved != [0; 3] || arg.extensions != 0 || arg.pad != 0 {
            return Err(Errno::EINVAL);
        }
        let vm = self.vm(arg.vm_id).ok_or(Errno::ENOENT)?;
        if arg.property != DRM_XE_VM_GET_PROPERTY_FAULTS {
            return Err(Errno::EINVAL);
        }
        let state = vm.write()?;
        let element = size_of::<VmFault>();
        if arg.size == 0 {
            arg.size = (element * state.faults.len()) as u32;
            return Ok(());
        }
        let wanted = arg.size as usize;
        if wanted > element * state.faults.len() || wanted % element != 0 {
            return Err(Errno::EINVAL);
        }
        access.copy_to(arg.data, bytemuck::cast_slice(&state.faults[..wanted / element]))
    }
}

impl State {
    /// Remembers a fault, unless there are too many already (`xe_vm_add_fault_entry`).
    pub(super) fn record_fault(&mut self, fault: VmFault) {
        if self.faults.len() < MAX_FAULTS_SAVED_PER_VM {
            self.faults.push(fault);
        }
    }
}
