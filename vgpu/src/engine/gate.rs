//! Keeps engines away from memory while something waits for them to have left it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Guards the memory accesses of a device's engines.
///
/// An engine takes a [`Permit`] for each bounded piece of an access, from translation to the last byte. Whoever
/// must be sure that no engine still uses an old translation (a TLB invalidation) or still runs (a reset) calls
/// [`Gate::drain`], which returns when all permits given out before are back.
///
/// An engine must not take any lock of the device model while it holds a permit.
#[derive(Debug, Default)]
pub struct Gate {
    lock: RwLock<()>,
}

/// The right to access memory until dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    _guard: Option<RwLockReadGuard<'a, ()>>,
}

impl Permit<'_> {
    /// A permit of an access that needs no gate, because it happens while the device's state is locked.
    pub const NONE: Permit<'static> = Permit { _guard: None };
}

impl Gate {
    /// Takes a permit, unless the run was cancelled.
    pub fn enter(&self, run: &RunToken) -> Result<Permit<'_>, Cancelled> {
        let guard = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        // Looked at behind the lock: after `cancel` and `drain`, no access of the run can begin.
        if run.wish() == Wish::Cancel {
            return Err(Cancelled);
        }
        Ok(Permit { _guard: Some(guard) })
    }

    /// Waits until every permit that exists now has been returned.
    pub fn drain(&self) {
        self.exclusive(|| ());
    }

    /// Does something while nobody holds a permit: what it changes is either seen by an access or not begun yet.
    pub fn exclusive<T>(&self, change: impl FnOnce() -> T) -> T {
        let _guard = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        change()
    }
}

/// The run was cancelled; nothing of it may reach memory any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// What the scheduler wants of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Carry on.
    Run,
    /// Stop at the next instruction boundary where that is allowed, and keep the state.
    Preempt,
    /// Stop now, without touching memory again.
    Cancel,
}

/// Shared between the scheduler and the engine that executes a run.
#[derive(Debug, Clone, Default)]
pub struct RunToken {
    wish: Arc<AtomicU8>,
}

impl RunToken {
    /// A token of a run that nobody wants to stop.
    pub fn new() -> RunToken {
        RunToken::default()
    }

    /// What the scheduler wants now.
    pub fn wish(&self) -> Wish {
        match self.wish.load(Ordering::SeqCst) {
            0 => Wish::Run,
            1 => Wish::Preempt,
            _ => Wish::Cancel,
        }
    }

    /// Asks the run to stop in an orderly way.
    pub fn preempt(&self) {
        self.wish.fetch_max(1, Ordering::SeqCst);
    }

    /// Orders the run to stop; follow with [`Gate::drain`].
    pub fn cancel(&self) {
        self.wish.fetch_max(2, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn cancelled_run_gets_no_permit() {
        let gate = Gate::default();
        let run = RunToken::new();
        drop(gate.enter(&run).unwrap());
        run.preempt();
        drop(gate.enter(&run).expect("a preempted run may finish its instruction"));
        run.cancel();
        assert_eq!(gate.enter(&run).err(), Some(Cancelled));
    }

    #[test]
    fn drain_waits_for_permits() {
        let gate = Arc::new(Gate::default());
        let run = RunToken::new();
        let permit = gate.enter(&run).unwrap();
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn({
            let gate = gate.clone();
            move || {
                sender.send("waiting").unwrap();
                gate.drain();
                sender.send("drained").unwrap();
            }
        });
        assert_eq!(receiver.recv(), Ok("waiting"));
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "drained too early");
        drop(permit);
        assert_eq!(receiver.recv(), Ok("drained"));
        other.join().unwrap();
    }
}
