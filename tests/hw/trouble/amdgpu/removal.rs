//! A GPU that loses its driver while memory is in VRAM. KFD brings everything back and sends `SIGBUS` to every process that uses the
//! GPU; removal then waits until they have ended. A process that does not handle the signal is killed by it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, signal};

use crate::harness::{Context, Need, Slot, Stop, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

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
    let mirror = gpu.mirror()?;
    let data = filled(4 << 20)?;
    assert!(mirror.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    // Not by this process, for which removal would wait.
    // SAFETY: the child writes to one file and ends; other threads of this process hold no lock that it takes, since none of them
    // allocates or prints meanwhile.
    if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.expect("fork") {
        slot.unbind();
        // SAFETY: ends the child at once, without running destructors of the test process.
        unsafe { nix::libc::_exit(0) }
    }
    let started = Instant::now();
    while SIGNALS.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < LIMIT, "the driver sends no signal");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_intact(&data);
    assert_eq!(device_bytes(data.range())?, 0);
    let result = mirror.prefetch(&data).to(gpu.vram()).run();
    println!("a prefetch without the driver: {result:?}");
    assert!(result.is_err() || result.is_ok_and(|outcome| outcome.moved() == 0), "nothing moves any more");
    assert_intact(&data);
    Ok(())
}
