//! What a Rust program would write instead of using the crate: the kernel's structs, `libc::ioctl`, and the checks that the
//! crate makes (whole pages, no wrap, not in a forked child, the kernel can do it, repeat when interrupted).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use drm_pagemap::uapi::{kfd, xe};

/// Memory of a device.
#[derive(Debug)]
pub(crate) struct Place {
    device: Arc<()>,
    region: u16,
    size: u64,
}

/// An open device and what is known of it.
#[derive(Debug)]
pub(crate) struct Raw {
    fd: OwnedFd,
    vm_id: u32,
    page_mask: u64,
    /// A page that a child finds zeroed.
    owner: &'static AtomicU64,
    can_prefetch: OnceLock<bool>,
    device: Arc<()>,
    gpus_are_acquired: OnceLock<bool>,
}

impl Raw {
    pub(crate) fn new(fd: OwnedFd, vm_id: u32) -> Self {
        let page = rustix::param::page_size();
        // SAFETY: a new mapping.
        let owner = unsafe {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let mapped = libc::mmap(std::ptr::null_mut(), page, protection, flags, -1, 0);
            assert_ne!(mapped, libc::MAP_FAILED);
            assert_eq!(libc::madvise(mapped, page, libc::MADV_WIPEONFORK), 0);
            &*mapped.cast::<AtomicU64>()
        };
        owner.store(1, Ordering::Relaxed);
        let (can_prefetch, gpus_are_acquired) = (OnceLock::from(true), OnceLock::from(true));
        let device = Arc::new(());
        Self { fd, vm_id, page_mask: page as u64 - 1, owner, can_prefetch, device, gpus_are_acquired }
    }

    /// A region of this device's memory.
    pub(crate) fn place(&self, region: u16) -> Place {
        Place { device: self.device.clone(), region, size: 1 << 30 }
    }

    /// [`prefetch`](Self::prefetch) that checks whose memory it is to go to, as a mirror does.
    #[inline(never)]
    pub(crate) fn prefetch_to(&self, start: u64, size: u64, to: &Place) -> io::Result<()> {
        if !Arc::ptr_eq(&to.device, &self.device) || to.size == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.prefetch_checked(start, size, to.region.into())
    }

    #[inline(never)]
    pub(crate) fn prefetch(&self, start: u64, size: u64, region: u32) -> io::Result<()> {
        self.prefetch_checked(start, size, region)
    }

    #[inline(always)]
    fn prefetch_checked(&self, start: u64, size: u64, region: u32) -> io::Result<()> {
        self.check(start, size)?;
        if size == 0 {
            return Ok(());
        }
        if self.can_prefetch.get() != Some(&true) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let op = xe::VmBindOp {
            addr: start,
            range: size,
            op: xe::DRM_XE_VM_BIND_OP_PREFETCH,
            prefetch_mem_region_instance: region,
            ..Default::default()
        };
        let binds = xe::VmBindOps::inline(op);
        let mut arg = xe::VmBind { vm_id: self.vm_id, num_binds: 1, binds, ..Default::default() };
        self.call(0x4088_6445, &mut arg)
    }

    #[inline(never)]
    pub(crate) fn advise(&self, start: u64, size: u64, devmem_fd: u32) -> io::Result<()> {
        self.check(start, size)?;
        if size == 0 {
            return Ok(());
        }
        let value = xe::MadvisePreferredLoc { devmem_fd, ..Default::default() };
        let mut arg = xe::Madvise {
            vm_id: self.vm_id,
            start,
            range: size,
            attribute: xe::DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC,
            value: value.into(),
            ..Default::default()
        };
        self.call(0x4040_644c, &mut arg)
    }

    #[inline(never)]
    pub(crate) fn query<'a>(
        &self,
        start: u64,
        size: u64,
        room: &'a mut [xe::MemRangeAttr],
    ) -> io::Result<&'a [xe::MemRangeAttr]> {
        self.check(start, size)?;
        let mut arg = xe::VmQueryMemRangeAttrs {
            vm_id: self.vm_id,
            num_mem_ranges: room.len() as u32,
            start,
            range: size,
            sizeof_mem_range_attr: 64,
            vector_of_mem_attr: room.as_mut_ptr() as u64,
            ..Default::default()
        };
        self.call(0xc040_644d, &mut arg)?;
        room.get(..arg.num_mem_ranges as usize).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    #[inline(never)]
    pub(crate) fn set(&self, start: u64, size: u64, attributes: [kfd::SvmAttribute; 2]) -> io::Result<()> {
        #[repr(C)]
        struct Arg(kfd::SvmHeader, [kfd::SvmAttribute; 2]);
        self.check(start, size)?;
        if size == 0 {
            return Ok(());
        }
        if self.gpus_are_acquired.get() != Some(&true) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let header = kfd::SvmHeader { start_addr: start, size, op: kfd::KFD_IOCTL_SVM_OP_SET_ATTR, nattr: 2 };
        self.call(0xc028_4b20, &mut Arg(header, attributes))
    }

    #[inline(never)]
    pub(crate) fn get(&self, start: u64, size: u64, gpu: u32) -> io::Result<[kfd::SvmAttribute; 6]> {
        #[repr(C)]
        struct Arg(kfd::SvmHeader, [kfd::SvmAttribute; 6]);
        self.check(start, size)?;
        let header = kfd::SvmHeader { start_addr: start, size, op: kfd::KFD_IOCTL_SVM_OP_GET_ATTR, nattr: 6 };
        let ask = |attr_type, value| kfd::SvmAttribute { attr_type, value };
        let asked = [ask(0, 0), ask(1, 0), ask(2, gpu), ask(5, 0), ask(7, 0), ask(6, 0)];
        let mut arg = Arg(header, asked);
        self.call(0xc048_4b20, &mut arg)?;
        Ok(arg.1)
    }

    fn check(&self, start: u64, size: u64) -> io::Result<()> {
        if self.owner.load(Ordering::Relaxed) != 1 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if (start | size) & self.page_mask != 0 || start.checked_add(size).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }

    fn call<A>(&self, request: libc::c_ulong, arg: &mut A) -> io::Result<()> {
        loop {
            // SAFETY: `A` is the struct of `request`.
            if unsafe { libc::ioctl(self.fd.as_raw_fd(), request, &raw mut *arg) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
                return Err(error);
            }
        }
    }
}
