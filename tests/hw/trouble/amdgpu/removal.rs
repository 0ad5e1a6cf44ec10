//! A GPU that loses its driver while memory is in VRAM. KFD sends `SIGBUS` to every process that uses the GPU, and waits until they
//! have ended. A process that does not handle the signal is killed by it. One that does must not touch what is in VRAM any more:
//! amdgpu 7.3.4 has stopped its copy queue by then, pushes a job to it all the same, and corrupts a reference count
//! ("Trying to push to a killed entity", `refcount_t: addition on 0`), after which the process hangs for good.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, signal};

use crate::harness::{Context, Need, Slot, Stop, Test, TestResult};
use crate::placement::{assert_intact, filled};

pub(super) const TESTS: &[Test] = &[Test {
    name: "trouble/amdgpu/driver_unbound_with_data_in_vram",
    needs: &[Need::Kfd, Need::Vram, Need::Injection, Need::OwnGuest],
    run: driver_unbound_with_data_in_vram,
}];

const LIMIT: Duration = Duration::from_secs(120);

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: nix::libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

fn driver_unbound_with_data_in_vram(context: &Context) -> TestResult {
    // SAFETY: the handler only counts.
    unsafe { signal(Signal::SIGBUS, SigHandler::Handler(count)) }.expect("signals can be handled");
    let gpu = context.gpu();
    let slot = Slot::of(gpu).map_err(Stop::Fail)?;
    let (mut order, mut wait) = UnixStream::pair().expect("sockets can be had");
    // By a process that KFD does not know: for one that it knows, removal would wait.
    // SAFETY: the child reads a byte, writes to one file and ends; it takes no lock that another thread may hold, since tests run
    // one at a time.
    if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.expect("fork") {
        drop(order);
        if wait.read_exact(&mut [0]).is_ok() {
            slot.unbind();
        }
        // SAFETY: ends the child at once, without running destructors of the test process.
        unsafe { nix::libc::_exit(0) }
    }
    drop(wait);
    let mirror = gpu.mirror()?;
    let (data, at_home) = (filled(4 << 20)?, filled(4 << 20)?);
    assert!(mirror.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    order.write_all(&[1]).expect("the child listens");
    let started = Instant::now();
    while SIGNALS.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < LIMIT, "the driver sends no signal");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_intact(&at_home);
    // The driver is gone when this process has ended; the next test finds it bound again.
    Ok(())
}
