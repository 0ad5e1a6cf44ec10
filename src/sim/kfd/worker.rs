//! What the driver and the copy engines do by themselves, on a thread of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::sim::kfd::Kfd;

/// How long mappings stay stale, and queues stopped, before they are restored.
pub(super) const RESTORE_DELAY: Duration = Duration::from_millis(1);
/// How often doorbells are looked at.
const DOORBELL_PERIOD: Duration = Duration::from_micros(50);
/// How often pages are looked for that the CPU took back.
const RESIDENCY_PERIOD: Duration = Duration::from_millis(2);

/// What there is to look after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Duties {
    pub(super) queues: bool,
    pub(super) restore: bool,
    pub(super) residency: bool,
}

impl Duties {
    fn period(self) -> Option<Duration> {
        match self {
            Self { queues: true, .. } => Some(DOORBELL_PERIOD),
            Self { restore: true, .. } => Some(RESTORE_DELAY),
            Self { residency: true, .. } => Some(RESIDENCY_PERIOD),
            _ => None,
        }
    }
}

/// Wakes the thread, and starts it when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Worker {
    started: Mutex<bool>,
    wanted: Mutex<bool>,
    wake: Condvar,
}

impl Worker {
    /// There may be new duties.
    pub(super) fn wake(self: &Arc<Self>, kfd: &Weak<Kfd>) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            let (worker, kfd) = (self.clone(), kfd.clone());
            let thread = std::thread::Builder::new().name("simulated kfd".into());
            *started = thread.spawn(move || run(&worker, &kfd)).is_ok();
        }
        drop(started);
        self.notify();
    }

    /// The thread looks again at once; without a machine it ends.
    pub(super) fn notify(&self) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    fn sleep(&self, period: Option<Duration>) {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = match period {
            _ if *wanted => wanted,
            Some(period) => self.wake.wait_timeout(wanted, period).unwrap_or_else(PoisonError::into_inner).0,
            None => self.wake.wait(wanted).unwrap_or_else(PoisonError::into_inner),
        };
        *wanted = false;
    }
}

fn run(worker: &Worker, kfd: &Weak<Kfd>) {
    loop {
        let Some(kfd) = kfd.upgrade() else { return };
        let duties = kfd.work();
        drop(kfd);
        worker.sleep(duties.period());
    }
}
