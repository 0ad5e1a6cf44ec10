//! `fork`: everything is in system memory while it happens.
//!
//! A child that inherited holes where the parent's pages are in device memory would read zeroes. Handlers for
//! `pthread_atfork`, installed once per process, have every space bring everything back first, and migrate nothing in until
//! the fork is over.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::engine::request::Request;
use super::engine::slots::Claim;
use super::inner::Inner;
use crate::error::{Errno, Error, Result};

/// All spaces of this process.
struct Registry {
    spaces: Vec<Weak<Inner>>,
    shared: Weak<Inner>,
}

/// Held while a fork is under way, so that the child finds it free.
static REGISTRY: Mutex<Registry> = Mutex::new(Registry { spaces: Vec::new(), shared: Weak::new() });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a thread that forks holds from before until after. The slots stay claimed: they are needed to go on, and all others
/// may be taken by threads that wait for just that.
struct Forking {
    frozen: Vec<(Arc<Inner>, Claim)>,
    registry: MutexGuard<'static, Registry>,
}

thread_local! {
    static FORKING: RefCell<Option<Forking>> = const { RefCell::new(None) };
}

/// Installs the handlers, once.
pub(crate) fn install() -> Result<()> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handlers are functions of this crate, and touch nothing but its own data.
    match INSTALLED.get_or_init(|| unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) })
    {
        0 => Ok(()),
        &errno => Err(Error::from_errno("pthread_atfork", Errno::from_raw(errno))),
    }
}

/// From now on, forks wait for this space.
pub(crate) fn watch_over(space: &Arc<Inner>) {
    let mut registry = registry();
    registry.spaces.retain(|space| space.strong_count() > 0);
    registry.spaces.push(Arc::downgrade(space));
}

/// The space that all share, made by `open` if there is none.
pub(crate) fn shared_space(open: impl Fn() -> Result<Arc<Inner>>) -> Result<Arc<Inner>> {
    if let Some(inner) = registry().shared.upgrade().filter(|inner| inner.is_owner()) {
        return Ok(inner);
    }
    // Made without the lock, which making takes itself. If another thread was faster, ours goes.
    let ours = open()?;
    let mut registry = registry();
    match registry.shared.upgrade().filter(|inner| inner.is_owner()) {
        Some(theirs) => {
            drop(registry);
            Ok(theirs)
        }
        None => {
            registry.shared = Arc::downgrade(&ours);
            Ok(ours)
        }
    }
}

extern "C" fn prepare() {
    let registry = registry();
    let spaces = registry.spaces.iter().filter_map(Weak::upgrade).filter(|space| space.is_owner());
    let mut frozen = Vec::new();
    for space in spaces {
        let Ok(mut claim) = space.claim("fork") else { continue };
        claim.call(Request::Freeze);
        frozen.push((space, claim));
    }
    let forking = Forking { frozen, registry };
    // A thread that forks while its thread-local data is being torn down goes on unprotected.
    let _ = FORKING.try_with(|slot| slot.replace(Some(forking)));
}

extern "C" fn parent() {
    let forking = FORKING.try_with(RefCell::take).ok().flatten();
    let Some(Forking { mut frozen, registry }) = forking else { return };
    for (_, claim) in &mut frozen {
        claim.call(Request::Thaw);
    }
    // The lock goes first: dropping the last handle of a space takes its time.
    drop(registry);
}

extern "C" fn child() {
    let forking = FORKING.try_with(RefCell::take).ok().flatten();
    let Some(Forking { frozen, .. }) = forking else { return };
    // The slots are the parent's, and their memory is not here.
    std::mem::forget(frozen);
}
