//! Memory of the calling process as a driver reaches it: with an error instead of a crash where nothing is mapped.

use crate::error::Errno;

/// Fills `to` from the process's memory at `from`.
///
/// # Errors
///
/// `EFAULT` when a part is not readable.
pub(crate) fn copy_from_user(from: u64, to: &mut [u8]) -> Result<(), Errno> {
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let remote = libc::iovec { iov_base: from as usize as *mut libc::c_void, iov_len: to.len() };
    // SAFETY: the kernel writes to `local`, which is the exclusive borrow `to`; it checks `remote` itself and answers
    // EFAULT, or fewer bytes, where it is not readable.
    let copied = unsafe { libc::process_vm_readv(own_pid(), &local, 1, &remote, 1, 0) };
    finished(copied, to.len())
}

/// Writes `from` to the process's memory at `to`.
///
/// # Errors
///
/// `EFAULT` when a part is not writable.
///
/// # Safety
///
/// A driver writes where the caller of an ioctl tells it to; that caller answers for the memory there.
pub(crate) unsafe fn copy_to_user(to: u64, from: &[u8]) -> Result<(), Errno> {
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = libc::iovec { iov_base: to as usize as *mut libc::c_void, iov_len: from.len() };
    // SAFETY: the kernel reads from `local`; it checks `remote` itself and answers EFAULT, or fewer bytes, where it is not
    // writable. That what is there may be overwritten is the caller's promise.
    let copied = unsafe { libc::process_vm_writev(own_pid(), &local, 1, &remote, 1, 0) };
    finished(copied, from.len())
}

fn own_pid() -> libc::pid_t {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn finished(copied: isize, wanted: usize) -> Result<(), Errno> {
    if usize::try_from(copied) == Ok(wanted) {
        return Ok(());
    }
    if copied < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        return Err(errno.map_or(Errno::EFAULT, Errno::from_raw));
    }
    Err(Errno::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_copied_and_foreign_addresses_are_efault() {
        let mut there = [1u8, 2, 3, 4];
        let mut here = [0; 4];
        copy_from_user(there.as_ptr() as u64, &mut here).unwrap();
        assert_eq!(here, [1, 2, 3, 4]);
        // SAFETY: `there` is ours to write.
        unsafe { copy_to_user(there.as_mut_ptr() as u64, &[9, 8, 7, 6]) }.unwrap();
        assert_eq!(std::hint::black_box(there), [9, 8, 7, 6]);
        assert_eq!(copy_from_user(16, &mut here), Err(Errno::EFAULT));
        let constant = "read-only".as_ptr() as u64;
        // SAFETY: the kernel refuses to write read-only memory.
        assert_eq!(unsafe { copy_to_user(constant, &[0]) }, Err(Errno::EFAULT));
    }
}
