//! `VM_QUERY_MEM_RANGE_ATTRS`.

use super::node::XeNode;
use super::vmas::Vma;
use crate::error::Errno;
use crate::sim::user_memory::WriteAccess;
use crate::uapi::xe::{
    MemRangeAtomic, MemRangeAttr, MemRangePat, MemRangePreferredLoc, VmQueryMemRangeAttrs,
};

const ELEMENT: u64 = size_of::<MemRangeAttr>() as u64;

impl XeNode {
    /// `VM_QUERY_MEM_RANGE_ATTRS` (`xe_vm_query_vmas_attrs_ioctl`).
    pub(super) fn query_attributes(
        &self,
        arg: &mut VmQueryMemRangeAttrs,
        access: WriteAccess,
    ) -> Result<(), Errno> {
        let counting = arg.num_mem_ranges == 0;
        let refused = if counting {
            arg.vector_of_mem_attr != 0 || arg.sizeof_mem_range_attr != 0
        } else {
            arg.vector_of_mem_attr == 0 || arg.sizeof_mem_range_attr != ELEMENT
        };
        if refused {
            return Err(Errno::EINVAL);
        }
        let vm = self.vm(arg.vm_id).ok_or(Errno::EINVAL)?;
        // The driver's worker has done this by now, as a rule.
        vm.collect_garbage()?;
        let state = vm.write()?;
        let found = state.vmas.overlapping(arg.start, arg.start.saturating_add(arg.range));
        if counting {
            arg.num_mem_ranges = found.count() as u32;
            arg.sizeof_mem_range_attr = ELEMENT;
            return Ok(());
        }
        let entries: Vec<MemRangeAttr> = found.map(describe).collect();
        if entries.len() > arg.num_mem_ranges as usize {
            return Err(Errno::ENOSPC);
        }
        access.copy_to(arg.vector_of_mem_attr, bytemuck::cast_slice(&entries))?;
        arg.num_mem_ranges = entries.len() as u32;
        Ok(())
    }
}

fn describe(vma: &Vma) -> MemRangeAttr {
    MemRangeAttr {
        start: vma.start,
        end: vma.end,
        preferred_mem_loc: MemRangePreferredLoc {
            devmem_fd: vma.attributes.fd as u32,
            migration_policy: vma.attributes.policy.into(),
        },
        atomic: MemRangeAtomic { val: vma.attributes.atomic, reserved: 0 },
        pat_index: MemRangePat { val: vma.attributes.pat.into(), reserved: 0 },
        ..Default::default()
    }
}
