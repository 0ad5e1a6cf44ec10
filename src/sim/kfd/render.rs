//! The DRM render node of a simulated GPU: what gives it an address space, and through which memory objects are mapped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{MemfdFlags, fstat, memfd_create};

use crate::channel::VirtualNode;
use crate::error::Errno;
use crate::sim::kfd::Kfd;
use crate::sim::user_memory::WriteAccess;
use crate::uapi::IoctlArg;
use crate::uapi::abi::{request_nr, request_type};
use crate::uapi::drm;

/// One open render node. KFD may keep it after it is closed.
#[derive(Debug)]
pub(super) struct RenderFile {
    /// Stands for the open file where an ioctl takes a file number.
    descriptor: OwnedFd,
    identity: (u64, u64),
    compute: AtomicBool,
}

impl RenderFile {
    pub(super) fn new(minor: u32) -> Result<Self, Errno> {
        let descriptor = memfd_create(format!("simulated renderD{minor}"), MemfdFlags::CLOEXEC)?;
        let stat = fstat(&descriptor)?;
        Ok(Self { descriptor, identity: (stat.st_dev, stat.st_ino), compute: AtomicBool::new(false) })
    }

    pub(super) fn is(&self, identity: (u64, u64)) -> bool {
        self.identity == identity
    }

    /// Makes the file's address space that of a GPU's compute work. Works once.
    pub(super) fn become_compute(&self) -> bool {
        !self.compute.swap(true, Ordering::Relaxed)
    }
}

/// An open render node of a simulated amdgpu: as much of DRM as finding a GPU and sharing its address space need.
#[derive(Debug)]
pub struct RenderNode {
    kfd: Arc<Kfd>,
    gpu: usize,
    file: Arc<RenderFile>,
}

impl RenderNode {
    pub(super) fn new(kfd: Arc<Kfd>, gpu: usize, file: Arc<RenderFile>) -> Self {
        Self { kfd, gpu, file }
    }

    fn version(&self, arg: &mut [u8], access: WriteAccess) -> Result<(), Errno> {
        let mut version: drm::Version = read(arg)?;
        (version.version_major, version.version_minor, version.version_patchlevel) = (3, 64, 0);
        for (text, address, len) in [
            ("amdgpu", version.name, &mut version.name_len),
            ("0", version.date, &mut version.date_len),
            ("AMD GPU", version.desc, &mut version.desc_len),
        ] {
            let fits = (*len).min(text.len() as u64) as usize;
            if address != 0 && fits > 0 {
                self.kfd.shared().memory.write(access, address, &text.as_bytes()[..fits])?;
            }
            *len = text.len() as u64;
        }
        write(arg, version)
    }

    fn capability(arg: &mut [u8]) -> Result<(), Errno> {
        let mut cap: drm::GetCap = read(arg)?;
        cap.value = match cap.capability {
            drm::DRM_CAP_PRIME => drm::DRM_PRIME_CAP_IMPORT | drm::DRM_PRIME_CAP_EXPORT,
            drm::DRM_CAP_SYNCOBJ | drm::DRM_CAP_SYNCOBJ_TIMELINE => 1,
            _ => return Err(Errno::EINVAL),
        };
        write(arg, cap)
    }
}

// SAFETY: the process is written to only where `DRM_IOCTL_VERSION` says; objects are shared memory files.
unsafe impl VirtualNode for RenderNode {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        if request_type(request) != b'd' {
            return Err(Errno::ENOTTY);
        }
        match request_nr(request) {
            nr if nr == request_nr(drm::Version::REQUEST) => {
                // SAFETY: our own caller's promise, handed on.
                self.version(arg, unsafe { WriteAccess::of_caller() })
            }
            nr if nr == request_nr(drm::GetCap::REQUEST) => Self::capability(arg),
            _ => Err(Errno::EINVAL),
        }
    }

    fn map(&self, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        self.kfd.map_object(&self.file, offset, len)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.descriptor.as_fd())
    }

    fn name(&self) -> String {
        let minor = self.kfd.config().gpus.get(self.gpu).map_or(0, |gpu| gpu.render_minor);
        format!("simulated renderD{minor}")
    }
}

fn read<A: IoctlArg>(arg: &[u8]) -> Result<A, Errno> {
    let mut value = A::zeroed();
    let len = arg.len().min(size_of::<A>());
    bytemuck::bytes_of_mut(&mut value)[..len].copy_from_slice(&arg[..len]);
    Ok(value)
}

fn write<A: IoctlArg>(arg: &mut [u8], value: A) -> Result<(), Errno> {
    let len = arg.len().min(size_of::<A>());
    arg[..len].copy_from_slice(&bytemuck::bytes_of(&value)[..len]);
    Ok(())
}
