//! Threads on which engines run, so that work of any length never holds up the message loop.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What an engine has left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing; sleep until woken.
    Idle,
    /// More; call again at once.
    More,
    /// Nothing before this time has passed, unless woken earlier (a poll, a retry, a delayed reply).
    After(Duration),
}

/// Work that a [`Worker`] drives: a hardware engine, or firmware with a queue of its own.
pub trait Engine: Send + 'static {
    /// Does a bounded piece of work; takes the locks it needs and returns without them.
    fn step(&mut self) -> Progress;
}

#[derive(Debug, Default)]
struct Signal {
    woken: bool,
    stopped: bool,
}

/// Wakes a [`Worker`]; cheap to clone and to call.
#[derive(Debug, Clone, Default)]
pub struct Waker {
    shared: Arc<(Mutex<Signal>, Condvar)>,
}

impl Waker {
    /// Makes the worker call [`Engine::step`] soon; a call while it runs is not lost.
    pub fn wake(&self) {
        self.set(|s| s.woken = true);
    }

    fn stop(&self) {
        self.set(|s| s.stopped = true);
    }

    fn set(&self, change: impl FnOnce(&mut Signal)) {
        let (mutex, condition) = &*self.shared;
        change(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner));
        condition.notify_one();
    }

    /// Waits for a wake-up or the time to pass; `false` when the worker shall end.
    fn wait(&self, progress: Progress) -> bool {
        let (mutex, condition) = &*self.shared;
        let mut signal = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = match progress {
            Progress::More => Some(Instant::now()),
            Progress::After(time) => Some(Instant::now() + time),
            Progress::Idle => None,
        };
        while !signal.woken && !signal.stopped {
            let Some(deadline) = deadline else {
                signal = condition.wait(signal).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                break;
            };
            signal = condition.wait_timeout(signal, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        signal.woken = false;
        !signal.stopped
    }
}

/// A thread that runs one [`Engine`]; dropping it ends the thread.
#[derive(Debug)]
pub struct Worker {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; `waker` may have been handed out and called before.
    pub fn spawn(name: &str, waker: Waker, mut engine: impl Engine) -> std::io::Result<Worker> {
        let signal = waker.clone();
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let _entered = span.enter();
            let mut progress = Progress::Idle;
            while signal.wait(progress) {
                progress = engine.step();
            }
        })?;
        Ok(Worker { waker, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.waker.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Script(mpsc::Sender<usize>, Vec<Progress>, usize);

    impl Engine for Script {
        fn step(&mut self) -> Progress {
            self.0.send(self.2).unwrap();
            self.2 += 1;
            self.1.get(self.2 - 1).copied().unwrap_or(Progress::Idle)
        }
    }

    #[test]
    fn worker_follows_progress_and_wakes() {
        let (sender, receiver) = mpsc::channel();
        let waker = Waker::default();
        waker.wake(); // before the thread exists: must not be lost
        let script = vec![Progress::More, Progress::After(Duration::from_millis(1)), Progress::Idle];
        let worker = Worker::spawn("test", waker.clone(), Script(sender, script, 0)).unwrap();
        for expected in 0..3 {
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(expected));
        }
        assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err(), "idle means asleep");
        waker.wake();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(3));
        drop(worker);
        assert!(receiver.recv().is_err(), "the thread ended");
    }
}
