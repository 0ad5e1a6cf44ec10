//! What every DRM driver answers.

use crate::channel::{Channel, Retry};
use crate::error::Result;
use crate::uapi::drm::Version;

/// The name of the driver behind a DRM node, as `xe` or `amdgpu` (`DRM_IOCTL_VERSION`).
///
/// # Errors
///
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the file is no DRM node;
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) when the device is unplugged.
pub fn driver_name(channel: &Channel) -> Result<String> {
    // Longer than any driver's name in the kernel; the kernel writes no more than fits and reports the full length.
    let mut name = [0u8; 64];
    let mut version =
        Version { name_len: name.len() as u64, name: name.as_mut_ptr() as u64, ..Version::default() };
    // SAFETY: the kernel writes at most `name_len` bytes to `name`, which lives until the call returns.
    unsafe { channel.call(&mut version, Retry::Always)? };
    let len = name.len().min(version.name_len as usize);
    Ok(String::from_utf8_lossy(&name[..len]).into_owned())
}

/// Whether a device still takes calls (`DRM_IOCTL_VERSION`, asking for nothing): one system call, no allocation.
///
/// # Errors
///
/// `ENODEV` when the device is unplugged, `ECANCELED` when its driver declared it wedged.
pub fn check_alive(channel: &Channel) -> Result<()> {
    // SAFETY: the kernel writes to no buffer, for all lengths are 0.
    unsafe { channel.call(&mut Version::default(), Retry::Always) }
}
