//! What root does to the machine before the tests, when the environment says so.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Modules to load, each `PATH` or `PATH PARAMETERS`, separated by commas.
const MODULES: &str = "HMM_MODULES";
/// The swap area to make in place of any other: `zram:MIB`, which writes at once, or `loop:MIB`, which takes its time, so
/// that pages stay in the swap cache for a while, as they do with a disk.
const SWAP: &str = "HMM_SWAP";

pub(crate) fn prepare() -> io::Result<()> {
    for module in std::env::var(MODULES).unwrap_or_default().split(',').filter(|text| !text.is_empty()) {
        let (path, parameters) = module.split_once(' ').unwrap_or((module, ""));
        let parameters = std::ffi::CString::new(parameters)?;
        match rustix::system::finit_module(File::open(path)?, &parameters, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(io::Error::other(format!("{path}: {error}"))),
        }
    }
    for number in 0..4 {
        let node = crate::device::path(number);
        if rustix::process::getuid().is_root() && fs::exists(&node)? {
            fs::set_permissions(node, fs::Permissions::from_mode(0o666))?;
        }
    }
    match std::env::var(SWAP) {
        Ok(wanted) => {
            let (kind, mib) = wanted.split_once(':').ok_or_else(|| io::Error::other("KIND:MIB"))?;
            make_swap(kind, mib.parse().map_err(io::Error::other)?)
        }
        Err(_) => Ok(()),
    }
}

fn make_swap(kind: &str, mib: u64) -> io::Result<()> {
    for line in fs::read_to_string("/proc/swaps")?.lines().skip(1) {
        let path = std::ffi::CString::new(line.split_whitespace().next().unwrap_or_default())?;
        // SAFETY: the kernel reads the path.
        succeeded(unsafe { libc::swapoff(path.as_ptr()) })?;
    }
    let device = match kind {
        "zram" => {
            fs::write("/sys/block/zram0/disksize", (mib << 20).to_string())?;
            c"/dev/zram0"
        }
        "loop" => {
            const LOOP_SET_FD: libc::Ioctl = 0x4C00;
            let file = File::options().read(true).write(true).create_new(true).open("/tmp/swap")?;
            file.set_len(mib << 20)?;
            let node = File::options().read(true).write(true).open("/dev/loop0")?;
            // SAFETY: the request takes a descriptor, to which the kernel keeps a reference of its own.
            succeeded(unsafe { libc::ioctl(node.as_raw_fd(), LOOP_SET_FD, file.as_raw_fd()) })?;
            c"/dev/loop0"
        }
        _ => return Err(io::Error::other(format!("{SWAP} knows zram and loop, not {kind}"))),
    };
    let path = device.to_str().map_err(io::Error::other)?;
    File::options().write(true).open(path)?.write_all_at(&swap_header(mib << 20), 0)?;
    // SAFETY: the kernel reads the path.
    succeeded(unsafe { libc::swapon(device.as_ptr(), 0) })
}

/// `union swap_header` of the kernel: version and last page behind the boot block, the magic at the end of the page.
fn swap_header(bytes: u64) -> Vec<u8> {
    let page = drm_pagemap::range::page_size();
    let mut header = vec![0; page as usize];
    header[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    header[1028..1032].copy_from_slice(&((bytes / page) as u32 - 1).to_ne_bytes());
    let magic = page as usize - 10;
    header[magic..].copy_from_slice(b"SWAPSPACE2");
    header
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether pages can be swapped out.
pub(crate) fn has_swap() -> bool {
    rustix::system::sysinfo().totalswap > 0
}
