//! The orders that are armed, and the places that ask whether one applies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Kind, Order};

#[derive(Debug)]
struct Armed {
    order: Order,
    seen: u32,
    fired: u32,
}

/// Armed orders of one device.
#[derive(Debug, Default)]
pub struct Injector {
    armed: Mutex<Vec<Armed>>,
    /// Number of armed orders, so that the usual case (none) costs one load.
    count: AtomicUsize,
    fired: Mutex<Vec<(Kind, u32)>>,
}

/// An order that applies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// What goes wrong.
    pub kind: Kind,
    /// Its parameter.
    pub value: u32,
}

impl Injector {
    /// Arms an order.
    pub fn arm(&self, order: Order) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.push(Armed { order, seen: 0, fired: 0 });
        self.count.store(armed.len(), Ordering::SeqCst);
    }

    /// Forgets the orders of a kind, or all.
    pub fn clear(&self, kind: Option<Kind>) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.retain(|a| kind.is_some_and(|k| a.order.kind != k));
        self.count.store(armed.len(), Ordering::SeqCst);
    }

    /// How many orders of a kind (or of all) still wait.
    pub fn waiting(&self, kind: Option<Kind>) -> u32 {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.iter().filter(|a| kind.is_none_or(|k| a.order.kind == k)).count() as u32
    }

    /// How often a kind (or any) has struck.
    pub fn fired(&self, kind: Option<Kind>) -> u32 {
        let fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        fired.iter().filter(|(k, _)| kind.is_none_or(|kind| *k == kind)).map(|(_, n)| n).sum()
    }

    /// Something happened that the given kinds could spoil: counts it for every armed order of these kinds whose
    /// filter is 0 or one of `classes`, and tells the first that strikes.
    pub fn strike(&self, kinds: &[Kind], classes: &[u32]) -> Option<Strike> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hit = None;
        for a in armed.iter_mut().filter(|a| kinds.contains(&a.order.kind)) {
            if a.order.filter != 0 && !classes.contains(&a.order.filter) {
                continue;
            }
            a.seen = a.seen.saturating_add(1);
            if hit.is_none() && a.seen >= a.order.nth {
                a.fired += 1;
                hit = Some(Strike { kind: a.order.kind, value: a.order.value });
            }
        }
        armed.retain(|a| a.order.times == u32::MAX || a.fired < a.order.times);
        self.count.store(armed.len(), Ordering::SeqCst);
        drop(armed);
        if let Some(strike) = hit {
            tracing::info!(target: "inject", kind = strike.kind.name(), value = strike.value, "struck");
            let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
            match fired.iter_mut().find(|(kind, _)| *kind == strike.kind) {
                Some((_, n)) => *n += 1,
                None => fired.push((strike.kind, 1)),
            }
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nth_times_and_filter() {
        let injector = Injector::default();
        assert_eq!(injector.strike(&[Kind::CopyHang], &[]), None);
        injector.arm(Order { kind: Kind::CopyHang, nth: 2, times: 2, filter: 1, value: 9 });
        let strike = |class| injector.strike(&[Kind::CopySkip, Kind::CopyHang], &[class]).map(|s| s.value);
        assert_eq!(strike(2), None, "other class does not count");
        assert_eq!(strike(1), None, "first");
        assert_eq!(strike(1), Some(9));
        assert_eq!(injector.strike(&[Kind::JobHang], &[1]), None, "other kind");
        assert_eq!(strike(1), Some(9));
        assert_eq!(strike(1), None, "used up");
        assert_eq!((injector.waiting(None), injector.fired(Some(Kind::CopyHang))), (0, 2));
    }

    #[test]
    fn for_ever_until_cleared() {
        let injector = Injector::default();
        injector.arm(Order { times: u32::MAX, ..Order::next(Kind::ReplyLose) });
        injector.arm(Order::next(Kind::JobHang));
        for _ in 0..5 {
            assert!(injector.strike(&[Kind::ReplyLose], &[]).is_some());
        }
        injector.clear(Some(Kind::ReplyLose));
        assert!(injector.strike(&[Kind::ReplyLose], &[]).is_none());
        assert_eq!(injector.waiting(None), 1);
        injector.clear(None);
        assert_eq!(injector.waiting(None), 0);
    }
}
