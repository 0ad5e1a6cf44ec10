//! What root does to the machine before the tests, when the environment says so.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Modules to load, each `PATH` or `PATH PARAMETERS`, separated by commas.
const MODULES: &str = "HMM_MODULES";
/// Size of the swap area to make, in MiB.
const SWAP: &str = "HMM_SWAP_MIB";

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
        Ok(size) => make_swap(size.parse().map_err(io::Error::other)?),
        Err(_) => Ok(()),
    }
}

/// Swaps to a loop device on a file. Unlike a compressed swap area in memory it takes its time, so that pages stay
/// in the swap cache for a while, as they do on a disk.
fn make_swap(mib: u64) -> io::Result<()> {
    let page = drm_pagemap::range::page_size();
    let pages = (mib << 20) / page;
    let file = File::create_new("/tmp/swap")?;
    file.set_len(pages * page)?;
    // `union swap_header` of the kernel: version and last page behind the boot block, the magic at the end of the page.
    let mut header = vec![0; page as usize];
    header[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    header[1028..1032].copy_from_slice(&(pages as u32 - 1).to_ne_bytes());
    let magic = page as usize - 10;
    header[magic..].copy_from_slice(b"SWAPSPACE2");
    file.write_all_at(&header, 0)?;

    const LOOP_SET_FD: libc::Ioctl = 0x4C00;
    let device = c"/dev/loop0";
    let node = File::options().read(true).write(true).open("/dev/loop0")?;
    let file = File::options().read(true).write(true).open("/tmp/swap")?;
    // SAFETY: the request takes a descriptor, which the kernel keeps a reference of its own to.
    if unsafe { libc::ioctl(node.as_raw_fd(), LOOP_SET_FD, file.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel reads the path.
    if unsafe { libc::swapon(device.as_ptr(), 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether pages can be swapped out.
pub(crate) fn has_swap() -> bool {
    rustix::system::sysinfo().totalswap > 0
}
