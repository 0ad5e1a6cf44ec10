//! Memory shared with another process, accessed only inside its bounds.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// A file mapped into this process and at the same time into QEMU or the guest.
///
/// Every access checks its bounds. The guest may change the contents at any moment, so nothing here hands out a
/// reference to plain bytes.
#[derive(Debug)]
pub struct Mapping {
    region: MmapRegion,
    writable: bool,
}

/// An access that leaves a [`Mapping`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBounds;

impl Mapping {
    /// Creates zeroed memory of `size` bytes in a new memfd; pages cost nothing until they are touched.
    pub fn new(name: &str, size: u64) -> io::Result<Mapping> {
        let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
        ftruncate(&file, size)?;
        Mapping::from_file(file, 0, size, true)
    }

    /// Maps `size` bytes of `file` from `offset`; a mapping that is not `writable` refuses stores.
    pub fn from_file(file: File, offset: u64, size: u64, writable: bool) -> io::Result<Mapping> {
        let size = usize::try_from(size).map_err(io::Error::other)?;
        // The access bits of mmap(2): PROT_READ is 1, PROT_WRITE 2, MAP_SHARED 1.
        let protection = if writable { 3 } else { 1 };
        let region = MmapRegion::build(Some(FileOffset::new(file, offset)), size, protection, 1)
            .map_err(io::Error::other)?;
        Ok(Mapping { region, writable })
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.region.size() as u64
    }

    /// The descriptor behind the mapping, to be passed to QEMU; valid as long as the mapping lives.
    pub fn raw_fd(&self) -> RawFd {
        self.region.file_offset().map_or(-1, |f| f.file().as_raw_fd())
    }

    fn slice(&self, offset: u64, len: usize) -> Result<vm_memory::VolatileSlice<'_>, OutOfBounds> {
        let offset = usize::try_from(offset).map_err(|_| OutOfBounds)?;
        self.region.get_slice(offset, len).map_err(|_| OutOfBounds)
    }

    fn slice_mut(&self, offset: u64, len: usize) -> Result<vm_memory::VolatileSlice<'_>, OutOfBounds> {
        if self.writable { self.slice(offset, len) } else { Err(OutOfBounds) }
    }

    /// Reads `into.len()` bytes.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.slice(offset, into.len())?.copy_to(into);
        Ok(())
    }

    /// Writes all of `from`.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), OutOfBounds> {
        self.slice_mut(offset, from.len())?.copy_from(from);
        Ok(())
    }

    /// Copies `len` bytes into another mapping, or within this one.
    pub fn copy_to(&self, offset: u64, to: &Mapping, to_offset: u64, len: u64) -> Result<(), OutOfBounds> {
        let len = usize::try_from(len).map_err(|_| OutOfBounds)?;
        self.slice(offset, len)?.copy_to_volatile_slice(to.slice_mut(to_offset, len)?);
        Ok(())
    }

    /// Reads a little-endian dword.
    pub fn load32(&self, offset: u64) -> Result<u32, OutOfBounds> {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a little-endian dword.
    pub fn store32(&self, offset: u64, value: u32) -> Result<(), OutOfBounds> {
        self.write(offset, &value.to_le_bytes())
    }

    /// Reads a little-endian qword in one access (page-table entries change under the walker).
    pub fn load64(&self, offset: u64) -> Result<u64, OutOfBounds> {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a little-endian qword.
    pub fn store64(&self, offset: u64, value: u64) -> Result<(), OutOfBounds> {
        self.write(offset, &value.to_le_bytes())
    }

    /// A dword for read-modify-write that is atomic with respect to the guest's processors.
    pub fn atomic32(&self, offset: u64) -> Result<&AtomicU32, OutOfBounds> {
        self.slice_mut(offset, 4)?;
        self.region.get_atomic_ref(offset as usize).map_err(|_| OutOfBounds)
    }

    /// A qword for read-modify-write that is atomic with respect to the guest's processors.
    pub fn atomic64(&self, offset: u64) -> Result<&AtomicU64, OutOfBounds> {
        self.slice_mut(offset, 8)?;
        self.region.get_atomic_ref(offset as usize).map_err(|_| OutOfBounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_stays_inside() {
        let m = Mapping::new("test", 8192).unwrap();
        assert_eq!(m.store64(8184, 0x1122_3344_5566_7788), Ok(()));
        assert_eq!(m.load32(8188), Ok(0x1122_3344));
        assert_eq!(m.load64(8185), Err(OutOfBounds));
        assert_eq!(m.load32(u64::MAX - 1), Err(OutOfBounds));
        assert_eq!(m.copy_to(0, &m, 8000, 200), Err(OutOfBounds));
        assert!(m.atomic32(2).is_err(), "misaligned");
    }

    #[test]
    fn read_only_mapping_refuses_stores() {
        let file = File::from(memfd_create("ro", MemfdFlags::CLOEXEC).unwrap());
        ftruncate(&file, 4096).unwrap();
        let m = Mapping::from_file(file, 0, 4096, false).unwrap();
        assert_eq!(m.load32(0), Ok(0));
        assert_eq!(m.store32(0, 1), Err(OutOfBounds));
        assert!(m.atomic32(0).is_err());
    }
}
