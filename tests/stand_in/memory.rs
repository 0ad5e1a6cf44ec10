//! Memory of the thread that called, which may be in another process.

use std::io;
use std::path::PathBuf;

use bytemuck::{AnyBitPattern, NoUninit};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pid: i32,
}

impl Memory {
    /// Of the process that thread `pid` belongs to.
    pub(crate) const fn of(pid: u32) -> Self {
        Self { pid: pid as i32 }
    }

    /// What is behind a descriptor of the process.
    pub(crate) fn file(self, fd: u64) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/{}/fd/{fd}", self.pid))
    }

    pub(crate) fn read<T: AnyBitPattern + NoUninit>(self, address: u64) -> io::Result<T> {
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        self.read_bytes(address, bytes)?;
        Ok(value)
    }

    pub(crate) fn read_bytes(self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: bytes.len() };
        // SAFETY: the kernel writes at most `bytes.len()` bytes to `bytes`, and checks the other address.
        let got = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        complete(got, bytes.len())
    }

    pub(crate) fn write<T: NoUninit>(self, address: u64, value: &T) -> io::Result<()> {
        let bytes = bytemuck::bytes_of(value);
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: bytes.len() };
        // SAFETY: the kernel reads `bytes`, and writes where the calling thread asked to be answered.
        let put = unsafe { libc::process_vm_writev(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        complete(put, bytes.len())
    }

    /// A path, up to its terminator.
    pub(crate) fn path(self, address: u64) -> io::Result<String> {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            self.read_bytes(address + bytes.len() as u64, &mut byte)?;
            if byte[0] == 0 {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            bytes.push(byte[0]);
        }
    }
}

fn complete(done: isize, wanted: usize) -> io::Result<()> {
    match usize::try_from(done) {
        Ok(done) if done == wanted => Ok(()),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
