//! Buffer objects.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::config::KernelVersion;
use super::gpu::Pagemap;
use super::node::XeNode;
use super::sync::lock;
use crate::channel::Channel;
use crate::error::Errno;
use crate::range::{SIZE_4K, SIZE_64K};
use crate::sim::user_memory;
use crate::uapi::drm::GemClose;
use crate::uapi::xe::{
    DRM_XE_GEM_CPU_CACHING_WB, DRM_XE_GEM_CPU_CACHING_WC, DRM_XE_GEM_CREATE_FLAG_DEFER_BACKING,
    DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM, DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION,
    DRM_XE_GEM_CREATE_FLAG_SCANOUT, DRM_XE_MMAP_OFFSET_FLAG_PCI_BARRIER, GemCreate, GemMmapOffset,
    UserExtension,
};

/// Whether the content of an object is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Purge {
    #[default]
    WillNeed,
    DontNeed,
    Purged,
}

/// A buffer object. Its bytes are a file of memory, so that the CPU can map them.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) size: u64,
    /// Bits of the regions it may be in.
    pub(super) placement: u32,
    pub(super) cached: bool,
    /// The one VM it may be bound in; 0 for any.
    pub(super) vm_id: u32,
    pub(super) bytes: OwnedFd,
    pub(super) purge: Mutex<Purge>,
    pub(super) atomic: AtomicU32,
    /// The tile memory it is accounted to.
    vram: Mutex<Option<Arc<Pagemap>>>,
}

impl Object {
    pub(super) fn in_vram(&self) -> bool {
        lock(&self.vram).is_some()
    }
}

impl Object {
    /// Reads bytes of the object.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        match rustix::io::pread(&self.bytes, &mut *into, offset) {
            Ok(read) if read == into.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Writes bytes of the object.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        match rustix::io::pwrite(&self.bytes, bytes, offset) {
            Ok(written) if written == bytes.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Adds to four bytes of the object, atomically for everybody who maps them.
    pub(super) fn add(&self, offset: u64, value: u32) -> Result<(), Errno> {
        let page = offset & !(SIZE_4K - 1);
        if offset % 4 != 0 || page + SIZE_4K > self.size {
            return Err(Errno::EFAULT);
        }
        let mapped = Channel::from_fd(self.file()?)
            .map("object", page, SIZE_4K as usize)
            .map_err(|_| Errno::ENOMEM)?;
        // SAFETY: the offset lies within the page just mapped.
        let word = unsafe { mapped.as_ptr().add((offset - page) as usize) };
        // SAFETY: the four bytes lie within the page, are aligned (the page is, and the offset a multiple of 4), and whoever else
        // has them mapped shares them with a GPU.
        let word = unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) };
        word.fetch_add(value, Ordering::AcqRel);
        Ok(())
    }

    /// Throws the content away if it is not needed; answers whether it was. Whoever has it mapped gets `SIGBUS` on the next touch.
    pub(super) fn purge_if_not_needed(&self) -> bool {
        let mut purge = lock(&self.purge);
        if *purge != Purge::DontNeed || rustix::fs::ftruncate(&self.bytes, 0).is_err() {
            return false;
        }
        *purge = Purge::Purged;
        self.leave_vram();
        true
    }

    fn leave_vram(&self) {
        if let Some(pagemap) = lock(&self.vram).take() {
            pagemap.give_back(self.size);
        }
    }

    fn file(&self) -> Result<OwnedFd, Errno> {
        self.bytes.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.leave_vram();
    }
}

/// Where `mmap` offsets of objects begin (`DRM_FILE_PAGE_OFFSET_START`).
const MMAP_OFFSET_START: u64 = 1 << 32;
/// Offset of the page whose writes order earlier ones (`XE_PCI_BARRIER_MMAP_OFFSET`).
const PCI_BARRIER_OFFSET: u64 = 0x50 << 12;

impl XeNode {
    /// `GEM_CREATE` (`xe_gem_create_ioctl`).
    pub(super) fn gem_create(&self, arg: &mut GemCreate) -> Result<(), Errno> {
        let config = self.gpu.config();
        let facts = config.facts();
        let mask = config.region_mask();
        let mut flags = DRM_XE_GEM_CREATE_FLAG_DEFER_BACKING
            | DRM_XE_GEM_CREATE_FLAG_SCANOUT
            | DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM;
        if config.since(KernelVersion::V7_0) {
            flags |= DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION;
        }
        if arg.pad != [0; 3]
            || arg.reserved != [0; 2]
            || arg.placement == 0
            || arg.placement & !mask != 0
            || arg.flags & !flags != 0
            || arg.handle != 0
            || arg.size == 0
            || arg.size % SIZE_4K != 0
        {
            return Err(Errno::EINVAL);
        }
        if arg.flags & DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION != 0 && !facts.xe2_or_newer {
            return Err(Errno::EOPNOTSUPP);
        }
        let vram = arg.placement & !1 != 0;
        let caching = arg.cpu_caching;
        if (arg.flags & DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM != 0 && !vram)
            || !matches!(caching, DRM_XE_GEM_CPU_CACHING_WB | DRM_XE_GEM_CPU_CACHING_WC)
            || (vram && caching != DRM_XE_GEM_CPU_CACHING_WC)
            || (arg.flags & DRM_XE_GEM_CREATE_FLAG_SCANOUT != 0 && caching == DRM_XE_GEM_CPU_CACHING_WB)
        {
            return Err(Errno::EINVAL);
        }
        if arg.vm_id != 0 {
            self.vm(arg.vm_id).ok_or(Errno::ENOENT)?;
        }
        // Objects in VRAM with pages of 64 KiB grow to whole pages.
        let unit = if vram && facts.needs_64k { SIZE_64K } else { SIZE_4K };
        let size = arg.size.checked_next_multiple_of(unit).ok_or(Errno::EINVAL)?;
        if arg.extensions != 0 {
            // The only one is about protected content, which a simulated device has not.
            return user_memory::read::<UserExtension>(arg.extensions).and(Err(Errno::EINVAL));
        }
        let placed = self.place(arg.placement, size)?;
        let bytes = rustix::fs::memfd_create("sim-xe-object", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&bytes, size).map_err(|_| Errno::ENOMEM)?;
        let object = Object {
            size,
            placement: arg.placement,
            cached: caching == DRM_XE_GEM_CPU_CACHING_WB,
            vm_id: arg.vm_id,
            bytes,
            purge: Mutex::new(Purge::WillNeed),
            atomic: AtomicU32::new(0),
            vram: Mutex::new(placed.clone()),
        };
        let object = Arc::new(object);
        if let Some(pagemap) = placed {
            pagemap.remember(&object);
        }
        arg.handle = lock(&self.objects).insert(object);
        Ok(())
    }

    /// The first allowed region with room.
    fn place(&self, placement: u32, size: u64) -> Result<Option<Arc<Pagemap>>, Errno> {
        for pagemap in self.gpu.pagemaps() {
            if placement >> (pagemap.tile + 1) & 1 == 0 {
                continue;
            }
            if pagemap.take_for_object(size).is_ok() {
                return Ok(Some(pagemap.clone()));
            }
        }
        if placement & 1 != 0 { Ok(None) } else { Err(Errno::ENOSPC) }
    }

    /// `GEM_MMAP_OFFSET` (`xe_gem_mmap_offset_ioctl`).
    pub(super) fn gem_mmap_offset(&self, arg: &mut GemMmapOffset) -> Result<(), Errno> {
        if arg.extensions != 0
            || arg.reserved != [0; 2]
            || arg.flags & !DRM_XE_MMAP_OFFSET_FLAG_PCI_BARRIER != 0
        {
            return Err(Errno::EINVAL);
        }
        if arg.flags & DRM_XE_MMAP_OFFSET_FLAG_PCI_BARRIER != 0 {
            if !self.gpu.config().facts().discrete || arg.handle != 0 {
                return Err(Errno::EINVAL);
            }
            arg.offset = PCI_BARRIER_OFFSET;
            return Ok(());
        }
        self.object(arg.handle).ok_or(Errno::ENOENT)?;
        arg.offset = MMAP_OFFSET_START + (u64::from(arg.handle) << 40);
        Ok(())
    }

    /// `GEM_CLOSE` (`drm_gem_close_ioctl`).
    pub(super) fn gem_close(&self, arg: &mut GemClose) -> Result<(), Errno> {
        lock(&self.objects).remove(arg.handle).map(drop).ok_or(Errno::EINVAL)
    }

    /// What `mmap` of `len` bytes at `offset` maps.
    pub(super) fn map_object(&self, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        if offset == PCI_BARRIER_OFFSET && len == SIZE_4K {
            let page = rustix::fs::memfd_create("sim-xe-barrier", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&page, SIZE_4K)?;
            return Ok((page, 0));
        }
        let at = offset.checked_sub(MMAP_OFFSET_START).ok_or(Errno::EINVAL)?;
        let object = self.object((at >> 40) as u32).ok_or(Errno::EINVAL)?;
        let within = at & ((1 << 40) - 1);
        // The offset has to be exactly that of the object (`drm_vma_offset_exact_lookup`): only its beginning can be mapped.
        if within != 0 || len > object.size {
            return Err(Errno::EINVAL);
        }
        match *lock(&object.purge) {
            Purge::WillNeed => {}
            Purge::DontNeed => return Err(Errno::EBUSY),
            Purge::Purged => return Err(Errno::EINVAL),
        }
        Ok((object.file()?, within))
    }
}
