//! `VM_BIND`.

use std::sync::Arc;

use super::address_space::{AddressSpace, State};
use super::check;
use super::config::KernelVersion;
use super::node::XeNode;
use super::object::{Object, Purge};
use super::prefetch::Plan;
use super::sync::{self, Completion, Fence, For, Parsed, lock};
use super::vmas::{Attributes, Backing, Tables, Vma};
use crate::error::Errno;
use crate::range::SIZE_64K;
use crate::sim::user_memory::{self, WriteAccess};
use crate::uapi::xe::*;

/// What one ioctl has done so far.
#[derive(Debug, Default)]
struct Outcome {
    /// Some page tables were to be written.
    page_tables: bool,
    /// A mirror was mapped, after which the driver no longer refuses to unmap what the GPU uses.
    may_unmap_used: bool,
    /// Mappings that will carry the ioctl's user fence.
    fenced: Vec<(u64, u64)>,
    prefetches: Vec<Plan>,
}

impl XeNode {
    /// `VM_BIND` (`xe_vm_bind_ioctl`).
    pub(super) fn vm_bind(&self, arg: &mut VmBind, access: WriteAccess) -> Result<(), Errno> {
        let vm = self.vm(arg.vm_id).ok_or(Errno::EINVAL)?;
        let config = self.gpu.config();
        if arg.pad != 0 || arg.pad2 != 0 || arg.reserved != [0; 2] || arg.extensions != 0 {
            return Err(Errno::EINVAL);
        }
        if config.since(KernelVersion::V6_19) && arg.num_syncs > DRM_XE_MAX_SYNCS {
            return Err(Errno::EINVAL);
        }
        let ops = Self::operations(arg)?;
        for op in &ops {
            check::operation(&vm, op)?;
        }
        let queue = if arg.exec_queue_id != 0 {
            let queue = self.queue(arg.exec_queue_id).ok_or(Errno::ENOENT)?;
            if !queue.is_for_binds() || !queue.is_of(&vm) {
                return Err(Errno::EINVAL);
            }
            queue.serial
        } else {
            vm.serial
        };
        vm.collect_garbage()?;
        let mut state = vm.write()?;
        if state.dead {
            return Err(Errno::ENOENT);
        }
        let end = vm.end();
        if ops.iter().any(|op| op.range > end || op.addr > end - op.range) {
            return Err(Errno::EINVAL);
        }
        let objects: Vec<Option<Arc<Object>>> =
            ops.iter().map(|op| self.bound_object(arg.vm_id, op)).collect::<Result<_, _>>()?;
        let syncs = self.bind_syncs(&vm, arg, access)?;
        let mut outcome = Outcome::default();
        let before = ops.iter().any(|op| op.op != DRM_XE_VM_BIND_OP_PREFETCH).then(|| state.vmas.clone());
        let applied = ops
            .iter()
            .zip(objects)
            .try_for_each(|(op, object)| apply(&vm, &mut state, op, object, &mut outcome))
            .and_then(|()| {
                let mut nothing_more = false;
                let plans = std::mem::take(&mut outcome.prefetches);
                for plan in &plans {
                    // A prefetch that could not have its pages ends the page-table work of everything in the call.
                    match vm.prefetch(&mut state, plan) {
                        Ok(wrote) => outcome.page_tables |= wrote,
                        Err(Errno::ENODATA) => {
                            nothing_more = true;
                            break;
                        }
                        Err(errno) => return Err(errno),
                    }
                }
                outcome.page_tables &= !nothing_more;
                if nothing_more { Ok(()) } else { plans.iter().try_for_each(AddressSpace::check_objects) }
            });
        if let Err(errno) = applied {
            if let Some(before) = before {
                state.vmas = before;
            }
            return Err(errno);
        }
        self.finish(queue, &mut state, syncs, &outcome)
    }

    fn operations(arg: &VmBind) -> Result<Vec<VmBindOp>, Errno> {
        match arg.num_binds {
            0 => Ok(Vec::new()),
            1 => Ok(vec![arg.binds.as_inline()]),
            many => {
                // What one kernel allocation holds (`kvmalloc` of at most INT_MAX bytes).
                if u64::from(many) * size_of::<VmBindOp>() as u64 > i32::MAX as u64 {
                    return Err(Errno::ENOBUFS);
                }
                user_memory::read_array(arg.binds.as_vector(), many as usize).map_err(|errno| match errno {
                    Errno::ENOMEM => Errno::ENOBUFS,
                    other => other,
                })
            }
        }
    }

    /// Looks an operation's object up and checks it (`xe_vm_bind_ioctl_validate_bo`).
    fn bound_object(&self, vm_id: u32, op: &VmBindOp) -> Result<Option<Arc<Object>>, Errno> {
        if op.obj == 0 {
            return Ok(None);
        }
        let object = self.object(op.obj).ok_or(Errno::ENOENT)?;
        if op.op == DRM_XE_VM_BIND_OP_UNMAP_ALL {
            return Ok(Some(object));
        }
        if op.range > object.size || op.obj_offset > object.size - op.range {
            return Err(Errno::EINVAL);
        }
        let in_64k = |value: u64| value % SIZE_64K == 0;
        if self.gpu.config().facts().needs_64k
            && object.in_vram()
            && !(in_64k(op.obj_offset) && in_64k(op.addr) && in_64k(op.range))
        {
            return Err(Errno::EINVAL);
        }
        // Cached CPU mappings need the GPU to be coherent.
        let coherency = self.gpu.config().pat().coherency(crate::xe::PatIndex(op.pat_index));
        if object.cached && coherency == Some(crate::xe::Coherency::None) {
            return Err(Errno::EINVAL);
        }
        if object.vm_id != 0 && object.vm_id != vm_id {
            return Err(Errno::EINVAL);
        }
        Ok(Some(object))
    }

    fn bind_syncs(&self, vm: &AddressSpace, arg: &VmBind, access: WriteAccess) -> Result<Parsed, Errno> {
        let purpose = For {
            long_running: vm.is_long_running(),
            user_fence_allowed: arg.num_binds != 0,
            cpu_address: true,
            access,
        };
        sync::parse(arg.syncs, arg.num_syncs, purpose, |handle| self.syncobj(handle))
    }

    /// Hands the completion to the signaller. Without page-table work there is nothing that an in-fence could delay, and the
    /// driver notices only now, when the change is made (`vm_bind_ioctl_signal_fences`).
    fn finish(&self, queue: u64, state: &mut State, syncs: Parsed, outcome: &Outcome) -> Result<(), Errno> {
        if !outcome.page_tables && syncs.any_wait {
            return Err(Errno::EOPNOTSUPP);
        }
        let fence = Arc::new(Fence::default());
        if syncs.word.is_some() && outcome.page_tables {
            for &(start, end) in &outcome.fenced {
                state.vmas.update(start, end, |vma| vma.fence = Some(fence.clone()));
            }
        }
        for (syncobj, point) in syncs.signals {
            match point {
                0 => syncobj.replace(Some(fence.clone())),
                point => syncobj.add_point(point, fence.clone()),
            }
        }
        self.gpu.signaller.submit(queue, syncs.waits, Completion { word: syncs.word, fence });
        Ok(())
    }
}

/// A mapping whose fence is not signalled may not go (`check_ufence`).
fn check_fence(parts: &[Vma]) -> Result<(), Errno> {
    let waiting = |vma: &Vma| vma.fence.as_ref().is_some_and(|fence| !fence.is_signalled());
    if parts.iter().any(waiting) { Err(Errno::EBUSY) } else { Ok(()) }
}

/// Takes `[start, end)` out of the address space, unless the GPU uses mirrored pages in it.
fn unmap(
    vm: &AddressSpace,
    state: &mut State,
    start: u64,
    end: u64,
    outcome: &mut Outcome,
) -> Result<(), Errno> {
    // Mirrors that go whole may be in use once the call has mapped one; of one that is cut, the part that goes never.
    let refused = |state: &State| {
        state.vmas.overlapping(start, end).any(|vma| {
            let cut = vma.start < start || end < vma.end;
            vma.is_mirror()
                && (cut || !outcome.may_unmap_used)
                && state.ranges.any_in(vma.start.max(start), vma.end.min(end))
        })
    };
    let mut busy = refused(state);
    if busy && vm.forget_replaced(state, start, end)? {
        busy = refused(state);
    }
    if busy {
        return Err(Errno::EBUSY);
    }
    let parts = state.vmas.carve(start, end);
    check_fence(&parts)?;
    // What is left of a user pointer is a new one.
    for part in &parts {
        if !matches!(part.backing, Backing::Userptr { .. }) {
            continue;
        }
        let before = part.start.checked_sub(1).and_then(|at| state.vmas.at(at));
        let remnants = before.filter(|vma| vma.is_same_as(part)).into_iter();
        let behind = state.vmas.at(part.end).filter(|vma| vma.is_same_as(part));
        for vma in remnants.chain(behind) {
            if let Backing::Userptr { address } = vma.backing {
                let write = vma.flags & DRM_XE_VM_BIND_FLAG_READONLY == 0;
                vm.pin(address, vma.end - vma.start, write)?;
            }
        }
    }
    for part in &parts {
        let Backing::Object { object, .. } = &part.backing else { continue };
        // With those gone who needed it, what is left decides; without any mapping it stays what it was.
        let mut purge = lock(&object.purge);
        if *purge == Purge::WillNeed && state.vmas.nobody_needs(object) {
            *purge = Purge::DontNeed;
        }
    }
    outcome.page_tables |= parts.iter().any(|vma| !vma.is_mirror());
    Ok(())
}

fn apply(
    vm: &AddressSpace,
    state: &mut State,
    op: &VmBindOp,
    object: Option<Arc<Object>>,
    outcome: &mut Outcome,
) -> Result<(), Errno> {
    let (start, end) = (op.addr, op.addr + op.range);
    match op.op {
        DRM_XE_VM_BIND_OP_MAP if op.flags & DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR != 0 => {
            map_mirror(vm, state, op, outcome)
        }
        DRM_XE_VM_BIND_OP_MAP | DRM_XE_VM_BIND_OP_MAP_USERPTR => {
            unmap(vm, state, start, end, outcome)?;
            let backing = match object {
                Some(object) => {
                    match *lock(&object.purge) {
                        Purge::WillNeed => {}
                        Purge::DontNeed => return Err(Errno::EBUSY),
                        Purge::Purged => return Err(Errno::EINVAL),
                    }
                    Backing::Object { object, offset: op.obj_offset }
                }
                None if op.op == DRM_XE_VM_BIND_OP_MAP_USERPTR => Backing::Userptr { address: op.obj_offset },
                None => Backing::Null,
            };
            if let Backing::Userptr { address } = backing {
                vm.pin(address, op.range, op.flags & DRM_XE_VM_BIND_FLAG_READONLY == 0)?;
            }
            // In a faulting VM page tables are written by the first fault, unless asked for now.
            let now = !vm.is_faulting() || op.flags & DRM_XE_VM_BIND_FLAG_IMMEDIATE != 0;
            let mut vma = Vma {
                start,
                end,
                backing,
                flags: op.flags,
                default_pat: op.pat_index,
                attributes: Attributes::new(op.pat_index),
                fence: None,
                tables: Tables::default(),
                last_fault: false,
            };
            if now {
                vm.write_tables(&mut vma, u32::MAX);
            }
            state.vmas.insert(vma);
            outcome.page_tables |= now;
            outcome.fenced.push((start, end));
            Ok(())
        }
        DRM_XE_VM_BIND_OP_UNMAP => unmap(vm, state, start, end, outcome),
        DRM_XE_VM_BIND_OP_UNMAP_ALL => {
            let Some(object) = object else { return Err(Errno::EINVAL) };
            let parts = state.vmas.remove_object(&object);
            outcome.page_tables |= !parts.is_empty();
            check_fence(&parts)
        }
        _ => {
            let plan = vm.plan_prefetch(state, op)?;
            outcome.fenced.push((start, end));
            outcome.prefetches.push(plan);
            Ok(())
        }
    }
}

fn map_mirror(
    vm: &AddressSpace,
    state: &mut State,
    op: &VmBindOp,
    outcome: &mut Outcome,
) -> Result<(), Errno> {
    let (mut start, mut end) = (op.addr, op.addr + op.range);
    if vm.gpu.config().since(KernelVersion::V7_0) {
        (start, end) = state.grow_mirror(start, end);
        outcome.may_unmap_used = true;
    }
    unmap(vm, state, start, end, outcome)?;
    state.vmas.insert(Vma {
        start,
        end,
        backing: Backing::Mirror,
        flags: op.flags,
        default_pat: op.pat_index,
        attributes: Attributes::new(op.pat_index),
        fence: None,
        tables: Tables::default(),
        last_fault: false,
    });
    Ok(())
}
