//! Memory objects: where they are, and what holds their bytes.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::error::Errno;
use crate::range::{PageRange, SIZE_2M};
use crate::sim::id_map::IdMap;
use crate::sim::kfd::Shared;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::user_memory::WriteAccess;
use crate::uapi::kfd as abi;

/// Bytes of the doorbells of a process on one GPU.
pub(super) const DOORBELL_SLICE: u64 = 8192;

/// Where an object's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Backing {
    /// Memory of its own, which the CPU can map.
    Own(Arc<OwnedFd>),
    /// Memory of the process, at this address.
    User(u64),
}

/// A memory object at a GPU address.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) pages: PageRange,
    pub(super) gpu: usize,
    pub(super) device: usize,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) backing: Backing,
    pub(super) mapped: Gpus,
}

impl Object {
    /// Reads bytes at a GPU address inside the object.
    pub(super) fn read(&self, kfd: &Shared, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let offset = address - self.pages.start();
        match &self.backing {
            Backing::User(start) => kfd.memory.read(start + offset, bytes),
            Backing::Own(fd) => {
                let wanted = bytes.len();
                let read: usize = rustix::io::pread(&**fd, bytes, offset)?;
                if read == wanted { Ok(()) } else { Err(Errno::EFAULT) }
            }
        }
    }

    /// Writes bytes at a GPU address inside the object.
    pub(super) fn write(
        &self,
        kfd: &Shared,
        access: WriteAccess,
        address: u64,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let offset = address - self.pages.start();
        match &self.backing {
            Backing::User(start) => kfd.memory.write(access, start + offset, bytes),
            Backing::Own(fd) => match rustix::io::pwrite(&**fd, bytes, offset)? {
                len if len == bytes.len() => Ok(()),
                _ => Err(Errno::EFAULT),
            },
        }
    }

    fn vram_bytes(&self) -> u64 {
        if self.flags & abi::KFD_IOC_ALLOC_MEM_FLAGS_VRAM == 0 {
            return 0;
        }
        self.pages.len().next_multiple_of(SIZE_2M)
    }
}

/// The memory objects of a process.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) all: IdMap<u64, Object>,
    pub(super) last: u64,
}

impl Objects {
    pub(super) fn any_mapped_within(&self, pages: PageRange) -> bool {
        self.all.values().any(|object| !object.mapped.is_empty() && object.pages.overlaps(pages))
    }

    pub(super) fn any_user_memory_within(&self, pages: PageRange) -> bool {
        self.all.values().any(|object| match object.backing {
            Backing::User(start) => {
                PageRange::rounded_out(start, object.pages.len()).is_ok_and(|user| user.overlaps(pages))
            }
            Backing::Own(_) => false,
        })
    }

    /// The object mapped at an address on a GPU.
    pub(super) fn at(&self, gpu: usize, address: u64) -> Option<&Object> {
        self.all.values().find(|object| object.mapped.has(gpu) && object.pages.contains(address))
    }

    pub(super) fn vram_used(&self, device: usize) -> u64 {
        self.all.values().filter(|object| object.device == device).map(Object::vram_bytes).sum()
    }

    pub(super) fn by_offset(&self, offset: u64, len: u64) -> Option<&Object> {
        self.all.values().find(|object| object.offset == offset && object.pages.len() >= len)
    }
}
