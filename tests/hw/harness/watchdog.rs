//! Ends the process when a test hangs, so that a broken driver cannot hang the machine's test run.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Far above what any test takes, also on an emulated processor.
const LIMIT: Duration = Duration::from_secs(300);

/// Alive while a test runs.
pub(crate) struct Watchdog {
    _done: Sender<()>,
}

impl Watchdog {
    pub(crate) fn start(name: &str) -> Self {
        let (done, hung) = channel::<()>();
        let name = name.to_owned();
        std::thread::spawn(move || {
            if hung.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} has not ended after {} s; giving up on the whole run", LIMIT.as_secs());
                std::process::abort();
            }
        });
        Self { _done: done }
    }
}
