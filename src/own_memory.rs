//! Memory of this process reached by address, as a driver reaches it: with an error instead of a crash where nothing is mapped.

use crate::error::Errno;

/// Fills the front of `into` from the process's memory at `at`; how many bytes there were before the first that the kernel
/// cannot read.
///
/// # Errors
///
/// `EFAULT` when that is the very first.
pub(crate) fn read(at: u64, into: &mut [u8]) -> Result<u64, Errno> {
    if into.is_empty() {
        return Ok(0);
    }
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: at as usize as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: the kernel writes at most `into.len()` bytes to `local`, which is the exclusive borrow `into`; it checks `remote`
    // itself.
    let got = unsafe { libc::process_vm_readv(own_pid(), &local, 1, &remote, 1, 0) };
    u64::try_from(got).map_err(|_| last_errno())
}

/// Writes the front of `from` to the process's memory at `at`; how many bytes went before the first that the kernel cannot
/// write.
///
/// # Errors
///
/// `EFAULT` when that is the very first.
///
/// # Safety
///
/// The bytes there must be allowed to change to these.
pub(crate) unsafe fn write(at: u64, from: &[u8]) -> Result<u64, Errno> {
    if from.is_empty() {
        return Ok(0);
    }
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = libc::iovec { iov_base: at as usize as *mut libc::c_void, iov_len: from.len() };
    // SAFETY: the kernel reads `from.len()` bytes of `from`; it checks `remote` itself, and the caller answers for the bytes
    // there.
    let put = unsafe { libc::process_vm_writev(own_pid(), &local, 1, &remote, 1, 0) };
    u64::try_from(put).map_err(|_| last_errno())
}

fn own_pid() -> libc::pid_t {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::EFAULT, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_copied_and_foreign_addresses_are_efault() {
        let mut there = [1u8, 2, 3, 4];
        let mut here = [0; 4];
        assert_eq!(read(there.as_ptr() as u64, &mut here), Ok(4));
        assert_eq!(here, [1, 2, 3, 4]);
        // SAFETY: `there` is ours to write.
        assert_eq!(unsafe { write(there.as_mut_ptr() as u64, &[9, 8, 7, 6]) }, Ok(4));
        assert_eq!(std::hint::black_box(there), [9, 8, 7, 6]);
        assert_eq!(read(16, &mut here), Err(Errno::EFAULT));
        let constant = "read-only".as_ptr() as u64;
        // SAFETY: the kernel refuses to write read-only memory.
        assert_eq!(unsafe { write(constant, &[0]) }, Err(Errno::EFAULT));
    }
}
