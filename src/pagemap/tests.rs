//! The engine against this process's own memory.

mod basics;
mod memory;

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
            let test = std::thread::current().name().unwrap_or("?").to_owned();
            eprintln!("SKIPPED {test}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
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
