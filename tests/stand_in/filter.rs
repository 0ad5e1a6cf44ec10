//! Which system calls seccomp takes.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use libc::{sock_filter, sock_fprog};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
/// The low half of the second argument, on little-endian machines.
const REQUEST: u32 = 16 + 8;

const TAKE: u32 = libc::SECCOMP_RET_USER_NOTIF;
const PASS: u32 = libc::SECCOMP_RET_ALLOW;
const SUCCEED: u32 = libc::SECCOMP_RET_ERRNO;

/// What goes to the thread that answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    /// ioctls of DRM and KFD.
    Drivers,
    /// ioctls of DRM and KFD, and every opening of a file.
    DriversAndFiles,
    /// Every system call.
    Everything,
}

impl Filter {
    fn program(self) -> Vec<sock_filter> {
        let mut program = Vec::new();
        match self {
            Self::Everything => {}
            Self::Drivers => program.extend(by_type()),
            Self::DriversAndFiles => {
                program.push(load(NUMBER));
                program.extend(when(libc::SYS_openat as u32, TAKE));
                program.extend(by_type());
            }
        }
        program.push(decide(if program.is_empty() { TAKE } else { PASS }));
        program
    }

    /// Filters the calling thread, and those it starts, for good. Gives the descriptor that the calls are answered through;
    /// it stays open over `exec` in nobody.
    pub(crate) fn install(self) -> io::Result<OwnedFd> {
        let fd = install(&self.program(), libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// From here on the thread's calls of the given DRM or KFD requests, whatever their size, succeed at once and change nothing.
pub(crate) fn succeed_at_once(requests: &[u32]) -> io::Result<()> {
    let mut program =
        vec![load(NUMBER), compare(libc::SYS_ioctl as u32, 1, 0), decide(PASS), load(REQUEST), keep(0xffff)];
    for request in requests {
        program.extend(when(request & 0xffff, SUCCEED));
    }
    program.push(decide(PASS));
    // By `prctl`, which valgrind passes on.
    let filter = sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program during the call.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// ioctls of type `d` (DRM) and `K` (KFD).
fn by_type() -> Vec<sock_filter> {
    let mut program =
        vec![load(NUMBER), compare(libc::SYS_ioctl as u32, 1, 0), decide(PASS), load(REQUEST), keep(0xff00)];
    program.extend(when(u32::from(b'd') << 8, TAKE));
    program.extend(when(u32::from(b'K') << 8, TAKE));
    program
}

/// Loads a word of `struct seccomp_data`.
const fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Keeps these bits of the loaded word.
const fn keep(mask: u32) -> sock_filter {
    statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask)
}

const fn decide(decision: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, decision)
}

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Jumps over so many instructions when the loaded word is `value`, and over so many when it is not.
const fn compare(value: u32, same: u8, other: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: same, jf: other, k: value }
}

/// Decides when the loaded word is `value`.
const fn when(value: u32, decision: u32) -> [sock_filter; 2] {
    [compare(value, 0, 1), decide(decision)]
}

fn install(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    let filter = sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: a flag of the calling thread, no pointer.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel reads the program during the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd as i32) }
}
