//! One open file of a simulated device: the dispatchers of DRM and xe.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use bytemuck::Pod;

use super::address_space::AddressSpace;
use super::gpu::{Inode, OPEN_FILES, XeGpu};
use super::ids::Ids;
use super::object::Object;
use super::queue::Queue;
use super::sync::{Syncobj, lock};
use crate::channel::VirtualNode;
use crate::error::{Errno, Error, Result};
use crate::sim::user_memory::{self, WriteAccess};
use crate::uapi::IoctlArg;
use crate::uapi::abi::{request_nr, request_reads_argument, request_type, request_writes_argument};
use crate::uapi::drm::{GetCap, SetClientName, Version};
use crate::uapi::{drm, xe};

/// Number of the driver's first ioctl (`DRM_COMMAND_BASE`), and of the first one behind its space (`DRM_COMMAND_END`).
const DRIVER: std::ops::Range<u8> = 0x40..0xa0;

/// An open file.
#[derive(Debug)]
pub(super) struct XeNode {
    pub(super) gpu: Arc<XeGpu>,
    number: u64,
    /// Stands for the open file where an ioctl takes a file number.
    file: OwnedFd,
    inode: Inode,
    pub(super) vms: Mutex<Ids<Arc<AddressSpace>>>,
    pub(super) queues: Mutex<Ids<Arc<Queue>>>,
    pub(super) objects: Mutex<Ids<Arc<Object>>>,
    pub(super) syncobjs: Mutex<Ids<Arc<Syncobj>>>,
}

impl XeNode {
    pub(super) fn open(gpu: Arc<XeGpu>, number: u64) -> Result<Self> {
        let failed = |errno: rustix::io::Errno| {
            Error::from_errno("memfd_create", errno.into()).because("no descriptor for the simulated device")
        };
        let file = rustix::fs::memfd_create("sim-xe", rustix::fs::MemfdFlags::CLOEXEC).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        let inode = (stat.st_dev as u64, stat.st_ino as u64);
        lock(&OPEN_FILES).push((inode, Arc::downgrade(&gpu)));
        Ok(Self {
            gpu,
            number,
            file,
            inode,
            vms: Mutex::new(Ids::new()),
            queues: Mutex::new(Ids::new()),
            objects: Mutex::new(Ids::new()),
            syncobjs: Mutex::new(Ids::new()),
        })
    }

    pub(super) fn vm(&self, id: u32) -> Option<Arc<AddressSpace>> {
        lock(&self.vms).get(id)
    }

    pub(super) fn queue(&self, id: u32) -> Option<Arc<Queue>> {
        lock(&self.queues).get(id)
    }

    pub(super) fn object(&self, handle: u32) -> Option<Arc<Object>> {
        lock(&self.objects).get(handle)
    }

    pub(super) fn syncobj(&self, handle: u32) -> Option<Arc<Syncobj>> {
        lock(&self.syncobjs).get(handle)
    }

    /// The device behind a file number of this process, if it is an open file of a simulated xe device.
    pub(super) fn device_of(fd: i32) -> Option<Arc<XeGpu>> {
        // SAFETY: fstat of a number checks it; the borrowed descriptor is not kept.
        let stat = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(fd) }).ok()?;
        let inode = (stat.st_dev as u64, stat.st_ino as u64);
        lock(&OPEN_FILES).iter().find(|(known, _)| *known == inode).and_then(|(_, gpu)| gpu.upgrade())
    }

    /// Runs the handler of `request` on a copy of the argument that is as long as the kernel's struct: shorter arguments are
    /// extended with zeroes, what is beyond is ignored, and changes come back even from a handler that failed (`drm_ioctl`).
    fn with<A: IoctlArg + Pod>(
        request: u32,
        arg: &mut [u8],
        handler: impl FnOnce(&mut A) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut own = A::zeroed();
        if request_reads_argument(request) && request_reads_argument(A::REQUEST) {
            copy_start(bytemuck::bytes_of_mut(&mut own), arg);
        }
        let answer = handler(&mut own);
        if request_writes_argument(request) && request_writes_argument(A::REQUEST) {
            // The kernel's buffer is as long as the longer of the two, zeroed behind what was copied in.
            copy_start(arg, bytemuck::bytes_of(&own));
        }
        answer
    }

    fn driver_ioctl(&self, request: u32, arg: &mut [u8], access: WriteAccess) -> Result<(), Errno> {
        let nr = request_nr(request);
        if nr - DRIVER.start >= self.gpu.config().kernel.ioctls() {
            return Err(Errno::EINVAL);
        }
        const fn nr_of<A: IoctlArg>() -> u8 {
            request_nr(A::REQUEST)
        }
        macro_rules! dispatch {
            ($($arg:ident => $handler:ident($($access:ident)?),)*) => {
                $(if nr == const { nr_of::<xe::$arg>() } {
                    return Self::with::<xe::$arg>(request, arg, |arg| self.$handler(arg $(, $access)?));
                })*
            };
        }
        dispatch! {
            DeviceQuery => device_query(access),
            GemCreate => gem_create(),
            GemMmapOffset => gem_mmap_offset(),
            VmCreate => vm_create(),
            VmDestroy => vm_destroy(),
            VmBind => vm_bind(access),
            ExecQueueCreate => exec_queue_create(),
            ExecQueueDestroy => exec_queue_destroy(),
            ExecQueueGetProperty => exec_queue_get_property(),
            Exec => exec(access),
            WaitUserFence => wait_user_fence(),
            Madvise => madvise(access),
            VmQueryMemRangeAttrs => query_attributes(access),
            ExecQueueSetProperty => exec_queue_set_property(),
            VmGetProperty => vm_get_property(access),
        }
        // OBSERVATION: performance streams, which need privileges that a simulated process has not.
        Err(Errno::EACCES)
    }

    fn core_ioctl(&self, request: u32, arg: &mut [u8], access: WriteAccess) -> Result<(), Errno> {
        const fn nr_of<A: IoctlArg>() -> u8 {
            request_nr(A::REQUEST)
        }
        let nr = request_nr(request);
        macro_rules! dispatch {
            ($($arg:ident => $handler:ident($($access:ident)?),)*) => {
                $(if nr == const { nr_of::<drm::$arg>() } {
                    return Self::with::<drm::$arg>(request, arg, |arg| self.$handler(arg $(, $access)?));
                })*
            };
        }
        dispatch! {
            Version => version(access),
            GetCap => get_cap(),
            GemClose => gem_close(),
            SetClientName => set_client_name(),
            SyncobjCreate => syncobj_create(),
            SyncobjDestroy => syncobj_destroy(),
            SyncobjHandleToFd => syncobj_to_fd(),
            SyncobjFdToHandle => syncobj_from_fd(),
            SyncobjWait => syncobj_wait(),
            SyncobjTimelineWait => syncobj_timeline_wait(),
            SyncobjReset => syncobj_reset(),
            SyncobjSignal => syncobj_signal(),
            SyncobjTimelineSignal => syncobj_timeline_signal(),
            SyncobjQuery => syncobj_query(access),
        }
        Err(Errno::EINVAL)
    }

    /// `DRM_IOCTL_VERSION` (`drm_version`): strings are cut to the room there is, lengths are told whole.
    fn version(&self, arg: &mut Version, access: WriteAccess) -> Result<(), Errno> {
        // The numbers are the same on every kernel.
        (arg.version_major, arg.version_minor, arg.version_patchlevel) = (1, 1, 0);
        let copy = |len: &mut u64, to: u64, text: &str| -> Result<(), Errno> {
            let room = usize::try_from(*len).unwrap_or(usize::MAX).min(text.len());
            *len = text.len() as u64;
            if room != 0 && to != 0 { access.copy_to(to, &text.as_bytes()[..room]) } else { Ok(()) }
        };
        copy(&mut arg.name_len, arg.name, "xe")?;
        copy(&mut arg.date_len, arg.date, "0")?;
        copy(&mut arg.desc_len, arg.desc, "Intel Xe2 Graphics, simulated")
    }

    fn get_cap(&self, arg: &mut GetCap) -> Result<(), Errno> {
        arg.value = match arg.capability {
            drm::DRM_CAP_SYNCOBJ | drm::DRM_CAP_SYNCOBJ_TIMELINE => 1,
            drm::DRM_CAP_PRIME => 0,
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }

    /// `DRM_IOCTL_SET_CLIENT_NAME` (`drm_set_client_name`): printable ASCII without spaces, at most 64 bytes.
    fn set_client_name(&self, arg: &mut SetClientName) -> Result<(), Errno> {
        if arg.name_len > 64 {
            return Err(Errno::EINVAL);
        }
        let name: Vec<u8> = user_memory::read_array(arg.name, arg.name_len as usize)?;
        if name.iter().all(u8::is_ascii_graphic) { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

/// Copies as much as both have.
fn copy_start(to: &mut [u8], from: &[u8]) {
    let shared = to.len().min(from.len());
    to[..shared].copy_from_slice(&from[..shared]);
}

// SAFETY: the process is written to only where arguments, and commands submitted through them, say; descriptors in
// answers are new and given up; what is mapped are shared memory files as long as their objects.
unsafe impl VirtualNode for XeNode {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: our own caller's promise, handed on.
        let access = unsafe { WriteAccess::of_caller() };
        if self.gpu.is_wedged() {
            return Err(Errno::ECANCELED);
        }
        if self.gpu.is_unplugged() {
            return Err(Errno::ENODEV);
        }
        if request_type(request) != b'd' {
            return Err(Errno::ENOTTY);
        }
        if DRIVER.contains(&request_nr(request)) {
            self.driver_ioctl(request, arg, access)
        } else {
            self.core_ioctl(request, arg, access)
        }
    }

    fn map(&self, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        if self.gpu.is_unplugged() {
            return Err(Errno::ENODEV);
        }
        self.map_object(offset, len)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn name(&self) -> String {
        format!("simulated xe {} (open {})", self.gpu.id(), self.number)
    }
}

impl Drop for XeNode {
    fn drop(&mut self) {
        lock(&OPEN_FILES).retain(|(inode, _)| *inode != self.inode);
        // Queues first: their work uses VMs.
        for queue in lock(&self.queues).values() {
            queue.stop();
        }
        for vm in lock(&self.vms).values() {
            vm.close();
        }
    }
}
