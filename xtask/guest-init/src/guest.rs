//! What the guest needs before a program can run, and its end.

use guest_init::{MODULE_DIR, Module, RENDER_GROUP};
use rustix::fs::{Gid, Mode, Uid};
use rustix::mount::MountFlags;
use rustix::system::RebootCommand;
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Source, target, type, options; in the order they must be mounted.
const MOUNTS: &[(&str, &str, &str, Option<&std::ffi::CStr>)] = &[
    ("proc", "/proc", "proc", None),
    ("sysfs", "/sys", "sysfs", None),
    ("devtmpfs", "/dev", "devtmpfs", None),
    ("debugfs", "/sys/kernel/debug", "debugfs", None),
    ("tmpfs", "/tmp", "tmpfs", Some(c"mode=1777")),
    ("tmpfs", "/run", "tmpfs", Some(c"mode=0755")),
    ("tmpfs", "/dev/shm", "tmpfs", Some(c"mode=1777")),
];

pub(crate) fn mount_all() -> Result<(), String> {
    for (source, target, kind, options) in MOUNTS {
        let failed = |error: rustix::io::Errno| format!("cannot mount {kind} on {target}: {error}");
        fs::create_dir_all(target).map_err(|error| format!("cannot make {target}: {error}"))?;
        rustix::mount::mount(*source, *target, *kind, MountFlags::empty(), *options).map_err(failed)?;
    }
    Ok(())
}

/// Milliseconds since the kernel started.
pub(crate) fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

pub(crate) fn load_module(module: &Module) -> Result<(), String> {
    let path = Path::new(MODULE_DIR).join(&module.file);
    let failed = |error: std::io::Error| format!("cannot load module {}: {error}", path.display());
    let parameters = CString::new(module.parameters.as_str())
        .map_err(|_| format!("the parameters of module {} hold a NUL", module.file))?;
    let file = fs::File::open(&path).map_err(failed)?;
    match rustix::system::finit_module(&file, &parameters, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

/// The device nodes of GPUs: `/dev/dri/*` and `/dev/kfd`.
fn gpu_nodes() -> Vec<PathBuf> {
    let dri = fs::read_dir("/dev/dri").into_iter().flatten().flatten().map(|entry| entry.path());
    dri.chain([PathBuf::from("/dev/kfd")].into_iter().filter(|path| path.exists())).collect()
}

fn render_nodes() -> usize {
    let is_render =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"render"));
    gpu_nodes().into_iter().filter(is_render).count()
}

/// Drivers may go on probing after their module is loaded.
pub(crate) fn wait_for_render_nodes(wanted: usize, wait_ms: u64) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    while render_nodes() < wanted {
        if Instant::now() > deadline {
            return Err(format!(
                "{} of {wanted} render nodes after {} s: the driver did not bind every GPU (see the kernel log)",
                render_nodes(),
                wait_ms / 1000
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What udev does on an installed system: mode 0660, group render.
pub(crate) fn open_nodes_to_the_render_group() {
    for node in gpu_nodes().into_iter().filter(|path| !path.is_dir()) {
        let group = Some(Gid::from_raw(RENDER_GROUP));
        let done = rustix::fs::chown(&node, Some(Uid::ROOT), group)
            .and_then(|()| rustix::fs::chmod(&node, Mode::from_raw_mode(0o660)));
        if let Err(error) = done {
            eprintln!("guest-init: cannot hand {} to the render group: {error}", node.display());
        }
    }
}

/// amdgpu takes down a compute process in a worker, some time after it has ended, and complains when the machine goes first.
fn wait_for_gone_processes() {
    let deadline = Instant::now() + Duration::from_secs(10);
    let known = || std::fs::read_dir("/sys/class/kfd/kfd/proc").map_or(0, Iterator::count);
    while known() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the machine; returns never, for the first process must not end.
pub(crate) fn power_off() -> ! {
    rustix::fs::sync();
    wait_for_gone_processes();
    if let Err(error) = rustix::system::reboot(RebootCommand::PowerOff) {
        eprintln!("guest-init: cannot power off: {error}");
    }
    loop {
        std::thread::park();
    }
}
