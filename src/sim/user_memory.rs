//! Memory of the process as the kernel would reach it: copies that fail with `EFAULT` where nothing is mapped.
//!
//! A simulated driver gets addresses from its caller and must not believe them, so nothing here dereferences one. The system
//! calls used (`process_vm_readv` and `process_vm_writev` on the process itself) check every page.

use bytemuck::{AnyBitPattern, NoUninit};

use crate::error::Errno;

/// Copies `into.len()` bytes from `address`.
///
/// # Errors
///
/// [`Errno::EFAULT`] when not all of it is readable; some of `into` may be written then.
pub(crate) fn copy_from_user(address: u64, into: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < into.len() {
        let rest = &mut into[done..];
        // Faults the page in where it was taken away: the system call could not.
        rest[0] = 0;
        let local = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
        let remote = libc::iovec { iov_base: user(address, done)?, iov_len: rest.len() };
        // SAFETY: the kernel writes to `rest` only, which is exclusively borrowed and as long as stated; it reads `remote` with
        // checks of its own and never faults on our behalf.
        let copied = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        done += progress(copied)?;
    }
    Ok(())
}

/// Copies `bytes` to `address`.
///
/// The simulated counterpart of what a kernel does with an address that an ioctl gave it: whoever made that ioctl answered
/// for the memory being the driver's to write (the contract of [`Channel::call`](crate::channel::Channel::call)).
///
/// # Errors
///
/// [`Errno::EFAULT`] when not all of it is writable; the beginning may be written then.
pub(crate) fn copy_to_user(address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let local = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
        let remote = libc::iovec { iov_base: user(address, done)?, iov_len: rest.len() };
        // SAFETY: the kernel reads `rest` only; it writes to `remote` with checks of its own, and the maker of the ioctl
        // answered for that memory.
        let copied = unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) };
        done += progress(copied)?;
    }
    Ok(())
}

/// Reads one value from `address`.
///
/// # Errors
///
/// As [`copy_from_user`].
pub(crate) fn read<T: AnyBitPattern + NoUninit>(address: u64) -> Result<T, Errno> {
    let mut value = T::zeroed();
    copy_from_user(address, bytemuck::bytes_of_mut(&mut value))?;
    Ok(value)
}

/// Reads `count` values from `address` on.
///
/// # Errors
///
/// As [`copy_from_user`]; also when `count` values are more than an address space holds.
pub(crate) fn read_array<T: AnyBitPattern + NoUninit>(address: u64, count: usize) -> Result<Vec<T>, Errno> {
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Errno::EFAULT);
    }
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    values.resize(count, T::zeroed());
    copy_from_user(address, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

/// Writes one value to `address`.
///
/// # Errors
///
/// As [`copy_to_user`].
pub(crate) fn write<T: NoUninit>(address: u64, value: &T) -> Result<(), Errno> {
    copy_to_user(address, bytemuck::bytes_of(value))
}

fn user(address: u64, offset: usize) -> Result<*mut libc::c_void, Errno> {
    let at = address.checked_add(offset as u64).ok_or(Errno::EFAULT)?;
    Ok(at as *mut libc::c_void)
}

fn progress(copied: isize) -> Result<usize, Errno> {
    match usize::try_from(copied) {
        // A partial copy ends at the page that failed; going on from there tells the errno.
        Ok(copied) if copied > 0 => Ok(copied),
        Ok(_) => Err(Errno::EFAULT),
        Err(_) => Err(std::io::Error::last_os_error().raw_os_error().map_or(Errno::EFAULT, Errno::from_raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;

    #[test]
    fn values_go_both_ways() {
        let mut word = 0u64;
        write(&raw mut word as u64, &0x1122_3344_5566_7788u64).unwrap();
        // SAFETY: `word` is a live local; the write went through its raw address.
        assert_eq!(unsafe { (&raw const word).read_volatile() }, 0x1122_3344_5566_7788);
        assert_eq!(read::<u32>(&raw const word as u64).unwrap(), 0x5566_7788);
        let array = [1u16, 2, 3];
        assert_eq!(read_array::<u16>(array.as_ptr() as u64, 3).unwrap(), array);
    }

    #[test]
    fn bad_addresses_fail_instead_of_faulting() {
        for address in [0, 8, u64::MAX - 3, 1 << 63] {
            assert_eq!(read::<u64>(address), Err(Errno::EFAULT), "{address:#x}");
            assert_eq!(write(address, &1u64), Err(Errno::EFAULT), "{address:#x}");
        }
        assert_eq!(read_array::<u64>(8, usize::MAX), Err(Errno::EFAULT));
    }

    #[test]
    fn a_copy_that_runs_off_the_end_fails() {
        let page = crate::range::page_size() as usize;
        let mut memory = Buffer::<u8>::zeroed(2 * page).unwrap();
        memory[page - 1] = 7;
        let start = memory.as_ptr() as u64;
        // SAFETY: the second page belongs to `memory`, which is not used as a slice while the page is inaccessible.
        let protect = |flags| unsafe { rustix::mm::mprotect((start as usize + page) as *mut _, page, flags) };
        protect(rustix::mm::MprotectFlags::empty()).unwrap();
        let mut bytes = [0u8; 2];
        assert_eq!(copy_from_user(start + page as u64 - 1, &mut bytes), Err(Errno::EFAULT));
        assert_eq!(copy_to_user(start + page as u64 - 1, &[1, 2]), Err(Errno::EFAULT));
        protect(rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE).unwrap();
        copy_from_user(start + page as u64 - 1, &mut bytes).unwrap();
    }

    #[test]
    fn read_only_memory_is_not_written() {
        static WORD: u64 = 5;
        let address = &raw const WORD as u64;
        assert_eq!(read::<u64>(address), Ok(5));
        assert_eq!(write(address, &6u64), Err(Errno::EFAULT));
    }
}
