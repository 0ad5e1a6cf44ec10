//! What a forked child may do with a prefetcher: nothing.

use drm_pagemap::{ErrorKind, Prefetcher, Result};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::Test;
use crate::machine::{HANG, MIB, Machine, assert_intact, filled};

pub(crate) const TESTS: &[Test] = &[("a_forked_child_is_refused", a_forked_child_is_refused)];

fn a_forked_child_is_refused(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).threads(2).chunk(MIB).build()?;
    let data = filled(8 * MIB)?;
    let mut pending = prefetcher.prefetch(&data).to(machine.gpu.vram()).submit()?;
    // SAFETY: the child calls what is under test, which takes no lock of the parent's threads, and ends without unwinding.
    match unsafe { fork() }.expect("a process can be made") {
        ForkResult::Child => {
            let foreign = |error: drm_pagemap::Error| error.kind() == ErrorKind::ForeignProcess;
            let mut refused = prefetcher.prefetch(&data).to_system().submit().is_err_and(foreign);
            refused &= prefetcher.wait_idle_timeout(HANG).is_err_and(foreign);
            refused &= prefetcher.waiting().is_err_and(foreign);
            refused &= pending.is_done();
            refused &= pending.wait_timeout(HANG).is_some_and(|result| result.is_err_and(foreign));
            refused &= pending.so_far().is_err_and(foreign);
            pending.cancel();
            drop(pending.cancel_on_drop());
            drop(prefetcher);
            // SAFETY: ends the child at once, without running destructors of the test process.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("it is our child");
            assert_eq!(status, WaitStatus::Exited(child, 0));
        }
    }
    let _ = pending.wait_timeout(HANG).expect("the parent's goes on")?;
    assert_intact(&data);
    Ok(())
}
