//! `/dev/kfd`: the dispatcher, with its rules about numbers, sizes and directions.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;

use crate::channel::{ProcessGuard, VirtualNode};
use crate::error::Errno;
use crate::sim::kfd::events::Events;
use crate::sim::kfd::objects::DOORBELL_SLICE;
use crate::sim::kfd::state::State;
use crate::sim::kfd::{Kfd, Shared, duplicate};
use crate::sim::user_memory::WriteAccess;
use crate::uapi::IoctlArg;
use crate::uapi::abi::{request_nr, request_reads_argument, request_size, request_writes_argument};
use crate::uapi::kfd as abi;

/// The state of a process, and whether it is a secondary one.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) state: Mutex<State>,
    secondary: bool,
}

impl Context {
    pub(super) fn new(state: State, secondary: bool) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), secondary })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open of a simulated `/dev/kfd`.
///
/// Simulated are the calls that shared virtual memory and copy queues need; the others that KFD has (debugging, CRIU, dma-bufs,
/// scratch memory, work groups, profiling) answer like numbers that nothing is assigned to, with `EINVAL`.
#[derive(Debug)]
pub struct KfdNode {
    kfd: Arc<Kfd>,
    context: Mutex<Arc<Context>>,
    opener: ProcessGuard,
}

impl KfdNode {
    pub(super) fn new(kfd: Arc<Kfd>, context: Arc<Context>, opener: ProcessGuard) -> Self {
        Self { kfd, context: Mutex::new(context), opener }
    }

    fn context(&self) -> Arc<Context> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Moves this file to a new, secondary context.
    fn create_process(&self) -> Result<(), Errno> {
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        if context.secondary {
            return Err(Errno::EINVAL);
        }
        *context = self.kfd.secondary_context();
        Ok(())
    }

    fn handle(&self, call: &Call, buffer: &mut [u8], access: WriteAccess) -> Result<(), Errno> {
        let context = self.context();
        let kfd = self.kfd.shared();
        if WAITS_FOR_DEFERRED_WORK.contains(&call.request) {
            context.lock().catch_up(kfd);
        }
        let secondary = context.secondary;
        match call.request {
            abi::AMDKFD_IOC_CREATE_PROCESS => self.create_process(),
            abi::AMDKFD_IOC_SVM => {
                let mut state = context.lock();
                let result = state.svm(kfd, buffer, secondary);
                if kfd.smi.is_heard() && !state.resident.is_empty() {
                    // Someone reads the log: touches of the CPU must be looked for.
                    kfd.wake_worker();
                }
                result
            }
            abi::AMDKFD_IOC_GET_VERSION => with(buffer, |arg: &mut abi::GetVersion| {
                (arg.major_version, arg.minor_version) = (1, kfd.config.kernel.minor);
                Ok(())
            }),
            abi::AMDKFD_IOC_SET_XNACK_MODE => with(buffer, |arg| context.lock().set_xnack(kfd, arg)),
            abi::AMDKFD_IOC_ACQUIRE_VM => with(buffer, |arg: &mut abi::AcquireVm| {
                let file = self.kfd.render_file(arg.drm_fd);
                context.lock().acquire_vm(kfd, *arg, file)
            }),
            abi::AMDKFD_IOC_GET_PROCESS_APERTURES_NEW => {
                with(buffer, |arg| apertures(kfd, &context.lock(), arg, access))
            }
            abi::AMDKFD_IOC_AVAILABLE_MEMORY => with(buffer, |arg| context.lock().available_memory(kfd, arg)),
            abi::AMDKFD_IOC_SMI_EVENTS => with(buffer, |arg: &mut abi::SmiEvents| {
                let mut state = context.lock();
                state.known(arg.gpuid)?;
                // What happened before is nothing for this log.
                state.catch_up(kfd);
                arg.anon_fd = kfd.smi.open(arg.gpuid)?;
                kfd.wake_worker();
                Ok(())
            }),
            abi::AMDKFD_IOC_ALLOC_MEMORY_OF_GPU => {
                with(buffer, |arg| context.lock().allocate(arg, secondary))
            }
            abi::AMDKFD_IOC_FREE_MEMORY_OF_GPU => {
                with(buffer, |arg: &mut abi::FreeMemoryOfGpu| context.lock().free(*arg))
            }
            abi::AMDKFD_IOC_MAP_MEMORY_TO_GPU => with(buffer, |arg| context.lock().map_object(kfd, arg)),
            abi::AMDKFD_IOC_UNMAP_MEMORY_FROM_GPU => {
                with(buffer, |arg| context.lock().unmap_object(kfd, arg))
            }
            abi::AMDKFD_IOC_CREATE_QUEUE => with(buffer, |arg| {
                context.lock().create_queue(arg, access)?;
                kfd.wake_worker();
                Ok(())
            }),
            abi::AMDKFD_IOC_DESTROY_QUEUE => {
                with(buffer, |arg: &mut abi::DestroyQueue| context.lock().destroy_queue(arg.queue_id))
            }
            abi::AMDKFD_IOC_CREATE_EVENT => with(buffer, |arg| events(&context).create(arg)),
            abi::AMDKFD_IOC_DESTROY_EVENT => {
                with(buffer, |arg: &mut abi::DestroyEvent| events(&context).destroy(arg.event_id))
            }
            abi::AMDKFD_IOC_SET_EVENT => {
                with(buffer, |arg: &mut abi::SetEvent| events(&context).set(arg.event_id, true))
            }
            abi::AMDKFD_IOC_RESET_EVENT => {
                with(buffer, |arg: &mut abi::ResetEvent| events(&context).set(arg.event_id, false))
            }
            abi::AMDKFD_IOC_WAIT_EVENTS => with(buffer, |arg| events(&context).wait(kfd, arg, access)),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Taken out of the state, so that waiting does not hold up other calls.
fn events(context: &Context) -> Arc<Events> {
    context.lock().events.clone()
}

// SAFETY: the process is written to only where arguments, and packets of queues made through them, say; descriptors in
// answers are new and given up; doorbells are a shared memory file.
unsafe impl VirtualNode for KfdNode {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        let nr = request_nr(request);
        let kernel = self.kfd.config().kernel;
        if nr < 1 || nr > last_number(kernel.minor) {
            return Err(if kernel.unknown_call_is_enotty { Errno::ENOTTY } else { Errno::EINVAL });
        }
        if !self.opener.is_owner() {
            return Err(Errno::EBADF);
        }
        let call = CALLS.iter().find(|call| request_nr(call.request) == nr).ok_or(Errno::EINVAL)?;
        let mut buffer = vec![0; arg.len().max(request_size(call.request))];
        if request_reads_argument(call.request) {
            buffer[..arg.len()].copy_from_slice(arg);
        }
        if call.request == abi::AMDKFD_IOC_SVM {
            check_attribute_count(self.kfd.shared(), &buffer, arg.len())?;
        }
        // SAFETY: our own caller's promise, handed on.
        let result = self.handle(call, &mut buffer, unsafe { WriteAccess::of_caller() });
        if request_writes_argument(call.request) {
            arg.copy_from_slice(&buffer[..arg.len()]);
        }
        result
    }

    fn map(&self, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        if !self.opener.is_owner() {
            return Err(Errno::EBADF);
        }
        if offset & abi::KFD_MMAP_TYPE_DOORBELL != abi::KFD_MMAP_TYPE_DOORBELL {
            return Err(Errno::EINVAL);
        }
        let gpu_id = (offset & !abi::KFD_MMAP_TYPE_DOORBELL) >> abi::KFD_MMAP_GPU_ID_SHIFT;
        let context = self.context();
        let mut state = context.lock();
        let gpu = state.known(u32::try_from(gpu_id).map_err(|_| Errno::EINVAL)?)?;
        if len != DOORBELL_SLICE {
            return Err(Errno::EINVAL);
        }
        let doorbells = state.doorbells(gpu)?;
        Ok((duplicate(&doorbells)?, 0))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn name(&self) -> String {
        "simulated kfd".into()
    }
}

/// A call that is simulated. Size and direction are the kernel's own, whatever the caller's request number says.
struct Call {
    request: u32,
}

const CALLS: &[Call] = &[
    Call { request: abi::GetVersion::REQUEST },
    Call { request: abi::GetProcessAperturesNew::REQUEST },
    Call { request: abi::AcquireVm::REQUEST },
    Call { request: abi::AllocMemoryOfGpu::REQUEST },
    Call { request: abi::FreeMemoryOfGpu::REQUEST },
    Call { request: abi::MapMemoryToGpu::REQUEST },
    Call { request: abi::UnmapMemoryFromGpu::REQUEST },
    Call { request: abi::SmiEvents::REQUEST },
    Call { request: abi::AMDKFD_IOC_SVM },
    Call { request: abi::SetXnackMode::REQUEST },
    Call { request: abi::GetAvailableMemory::REQUEST },
    Call { request: abi::CreateQueue::REQUEST },
    Call { request: abi::DestroyQueue::REQUEST },
    Call { request: abi::CreateEvent::REQUEST },
    Call { request: abi::DestroyEvent::REQUEST },
    Call { request: abi::SetEvent::REQUEST },
    Call { request: abi::ResetEvent::REQUEST },
    Call { request: abi::WaitEvents::REQUEST },
    Call { request: abi::AMDKFD_IOC_CREATE_PROCESS },
];

/// Calls before which the kernel finishes what `munmap` left to do.
const WAITS_FOR_DEFERRED_WORK: &[u32] =
    &[abi::AMDKFD_IOC_SVM, abi::AllocMemoryOfGpu::REQUEST, abi::SetXnackMode::REQUEST];

/// The last assigned number of an interface version.
const fn last_number(minor: u32) -> u8 {
    match minor {
        0..=6 => 0x21,
        7 | 8 => 0x22,
        9..=11 => 0x23,
        12 => 0x24,
        13..=18 => 0x26,
        19..=22 => 0x27,
        _ => 0x28,
    }
}

/// The attributes that the header announces must lie within what the request's size says.
fn check_attribute_count(kfd: &Shared, buffer: &[u8], size: usize) -> Result<(), Errno> {
    let header: abi::SvmHeader = bytemuck::pod_read_unaligned(&buffer[..size_of::<abi::SvmHeader>()]);
    let needed =
        size_of::<abi::SvmHeader>() as u64 + u64::from(header.nattr) * size_of::<abi::SvmAttribute>() as u64;
    if needed <= size as u64 {
        return Ok(());
    }
    if kfd.config.kernel.checks_attribute_count {
        return Err(Errno::EINVAL);
    }
    Err(kfd.would_oops(format!(
        "{} attributes in a request of {size} bytes: the kernel leaves its buffer",
        header.nattr
    )))
}

fn with<A: Pod>(buffer: &mut [u8], handle: impl FnOnce(&mut A) -> Result<(), Errno>) -> Result<(), Errno> {
    let bytes = &mut buffer[..size_of::<A>()];
    let mut arg = bytemuck::pod_read_unaligned(bytes);
    let result = handle(&mut arg);
    bytes.copy_from_slice(bytemuck::bytes_of(&arg));
    result
}

fn apertures(
    kfd: &Shared,
    state: &State,
    arg: &mut abi::GetProcessAperturesNew,
    access: WriteAccess,
) -> Result<(), Errno> {
    let entries = state.apertures();
    if arg.num_of_nodes == 0 {
        arg.num_of_nodes = entries.len() as u32;
        return Ok(());
    }
    // Topology nodes: the GPUs and one CPU.
    if kfd.config.kernel.checks_aperture_count && arg.num_of_nodes as usize > kfd.config.gpus.len() + 1 {
        return Err(Errno::EINVAL);
    }
    let filled = entries.len().min(arg.num_of_nodes as usize);
    arg.num_of_nodes = filled as u32;
    kfd.memory.write(access, arg.kfd_process_device_apertures_ptr, bytemuck::cast_slice(&entries[..filled]))
}
