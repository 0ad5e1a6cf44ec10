//! Addresses in an ioctl's argument, as the driver follows them.

use bytemuck::{AnyBitPattern, NoUninit, Zeroable};

use crate::error::Errno;
use crate::own_memory;
use crate::pagemap::Space;

/// The right to write to the process's memory where the caller of an ioctl says. Whoever serves the ioctl has it, and whoever
/// runs the commands that were submitted through it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteAccess(());

impl WriteAccess {
    /// Given by the caller of an ioctl.
    ///
    /// # Safety
    ///
    /// The caller answers for every address in the argument, and in what it submits, that the driver or the device may write to:
    /// the contract of [`VirtualNode::ioctl`](crate::channel::VirtualNode::ioctl).
    pub(crate) const unsafe fn of_caller() -> Self {
        Self(())
    }

    /// Copies `bytes` to `address`; `EFAULT` where that is not writable.
    pub(crate) fn copy_to(self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        // SAFETY: `of_caller` was promised that what is at the address may be written.
        match unsafe { own_memory::write(address, bytes) } {
            Ok(written) if written == bytes.len() as u64 => Ok(()),
            // Where the simulation may not see the kernel's own touches, a page in simulated VRAM looks unmapped to the kernel.
            Ok(_) | Err(Errno::EFAULT) => {
                // SAFETY: as above.
                unsafe { space()?.device_write(address, bytes) }.map_err(|_| Errno::EFAULT)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Writes one value.
    pub(crate) fn write<T: NoUninit>(self, address: u64, value: &T) -> Result<(), Errno> {
        self.copy_to(address, bytemuck::bytes_of(value))
    }
}

/// Copies `into.len()` bytes from `address`; `EFAULT` where that is not readable.
pub(crate) fn copy_from(address: u64, into: &mut [u8]) -> Result<(), Errno> {
    match own_memory::read(address, into) {
        Ok(read) if read == into.len() as u64 => Ok(()),
        // As in `copy_to`.
        Ok(_) | Err(Errno::EFAULT) => space()?.device_read(address, into).map_err(|_| Errno::EFAULT),
        Err(errno) => Err(errno),
    }
}

/// Reads one value.
pub(crate) fn read<T: AnyBitPattern + NoUninit>(address: u64) -> Result<T, Errno> {
    let mut value = <T as Zeroable>::zeroed();
    copy_from(address, bytemuck::bytes_of_mut(&mut value))?;
    Ok(value)
}

/// Reads `count` values; `ENOMEM` when they do not fit in memory.
pub(crate) fn read_array<T: AnyBitPattern + NoUninit>(address: u64, count: usize) -> Result<Vec<T>, Errno> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    values.resize(count, <T as Zeroable>::zeroed());
    copy_from(address, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

fn space() -> Result<Space, Errno> {
    Space::of_process().map_err(|_| Errno::EFAULT)
}
