//! Addresses in arguments, as the driver follows them.

use bytemuck::{AnyBitPattern, NoUninit, Zeroable};

use crate::error::Errno;
use crate::pagemap::Space;
use crate::sim::user_memory;

/// Copies `into.len()` bytes from `address`; `EFAULT` where that is not readable.
pub(super) fn copy_from(address: u64, into: &mut [u8]) -> Result<(), Errno> {
    if into.is_empty() {
        return Ok(());
    }
    // Where the simulation may not see the kernel's own touches, a page in simulated VRAM looks unmapped to the kernel.
    match user_memory::copy_from_user(address, into) {
        Err(Errno::EFAULT) => {
            let space = Space::of_process().map_err(|_| Errno::EFAULT)?;
            space.device_read(address, into).map_err(|_| Errno::EFAULT)
        }
        other => other,
    }
}

/// Copies `bytes` to `address`; `EFAULT` where that is not writable.
pub(super) fn copy_to(address: u64, bytes: &[u8]) -> Result<(), Errno> {
    if bytes.is_empty() {
        return Ok(());
    }
    // SAFETY: the address came in an ioctl's argument. Nodes of the simulated device are reached through `Channel::call` alone, whose
    // callers answer for addresses that the driver writes to.
    match unsafe { user_memory::copy_to_user(address, bytes) } {
        Err(Errno::EFAULT) => {
            let space = Space::of_process().map_err(|_| Errno::EFAULT)?;
            // SAFETY: as above.
            unsafe { space.device_write(address, bytes) }.map_err(|_| Errno::EFAULT)
        }
        other => other,
    }
}

/// Reads one value.
pub(super) fn read<T: AnyBitPattern + NoUninit>(address: u64) -> Result<T, Errno> {
    let mut value = <T as Zeroable>::zeroed();
    copy_from(address, bytemuck::bytes_of_mut(&mut value))?;
    Ok(value)
}

/// Reads `count` values; `ENOMEM` when they do not fit in memory.
pub(super) fn read_array<T: AnyBitPattern + NoUninit>(address: u64, count: usize) -> Result<Vec<T>, Errno> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    values.resize(count, <T as Zeroable>::zeroed());
    copy_from(address, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

/// Writes one value.
pub(super) fn write<T: NoUninit>(address: u64, value: &T) -> Result<(), Errno> {
    copy_to(address, bytemuck::bytes_of(value))
}
