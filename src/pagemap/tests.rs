//! The engine against this process's own memory.

/// Runs the rest of a test in a process of its own: it forks (which concerns all memory of the process), dies, or migrates
/// what it did not make. `true` there, `false` in the test proper once that is done.
macro_rules! alone {
    ($test:ident) => {
        $crate::pagemap::tests::run_alone(concat!(module_path!(), "::", stringify!($test)), 0)
    };
    ($test:ident dies of $signal:expr) => {
        $crate::pagemap::tests::run_alone(concat!(module_path!(), "::", stringify!($test)), $signal)
    };
}
mod basics;
mod copies;
mod device;
mod fork;
mod heap;
mod holes;
mod mappings;
mod memory;
mod pressure;
mod races;
mod rules;
mod sequences;
mod stress;
mod windows;

use memory::Memory;

use super::{KernelTouch, MigrateOptions, Space, VramRegion};
use crate::error::{Error, ErrorKind};
use crate::range::{PageRange, page_size};

const MB2: u64 = 2 << 20;

/// A space of the test's own, or `None`, said loudly, where this machine has no userfaultfd.
fn space() -> Option<Space> {
    space_with(KernelTouch::Never)
}

fn space_with(kernel_touch: KernelTouch) -> Option<Space> {
    match Space::open(kernel_touch) {
        Ok(space) => Some(space),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            skipped(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Says so where the test harness does not swallow it.
fn skipped(why: &str) {
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

/// A space and one region of it.
fn simulated(bytes: u64) -> Option<(Space, VramRegion)> {
    let space = space()?;
    let vram = VramRegion::new(&space, bytes).unwrap();
    Some((space, vram))
}

fn device_bytes(space: &Space, range: PageRange) -> u64 {
    space.device_bytes(range, None).unwrap()
}

fn errno(error: &Error) -> i32 {
    error.errno().map_or(0, |errno| errno.raw())
}

fn run_alone(path: &str, signal: i32) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const MARK: &str = "DRM_PAGEMAP_TEST_ALONE";
    let (_, test) = path.split_once("::").unwrap();
    if std::env::var(MARK).is_ok_and(|name| name == test) {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--nocapture"]).env(MARK, test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if let Some(line) = text.lines().find(|line| line.starts_with("SKIPPED")) {
        skipped(line);
        return false;
    }
    eprintln!("{text}");
    if signal == 0 {
        assert!(output.status.success() && text.contains("1 passed"), "{}\n{text}", output.status);
    } else {
        assert_eq!(output.status.signal(), Some(signal), "{}\n{text}", output.status);
    }
    false
}
