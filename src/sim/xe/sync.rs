//! Fences, sync objects, and the thread that signals them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Errno;
use crate::sim::id_map::IdMap;
use crate::sim::user_memory::{self, WriteAccess};

/// Locks a mutex whose data stay whole even if a holder panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that will have happened.
#[derive(Debug, Default)]
pub(super) struct Fence(AtomicBool);

impl Fence {
    pub(super) fn signalled() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(super) fn is_signalled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A sync object, binary and timeline in one as in the kernel.
#[derive(Debug, Default)]
pub(super) struct Syncobj {
    points: Mutex<Points>,
}

#[derive(Debug, Default)]
struct Points {
    binary: Option<Arc<Fence>>,
    timeline: IdMap<u64, Arc<Fence>>,
}

impl Syncobj {
    pub(super) fn replace(&self, fence: Option<Arc<Fence>>) {
        let mut points = lock(&self.points);
        points.timeline.clear();
        points.binary = fence;
    }

    pub(super) fn add_point(&self, point: u64, fence: Arc<Fence>) {
        lock(&self.points).timeline.insert(point, fence);
    }

    /// The fence of a binary sync object (point 0) or of a point; `None` when nothing was submitted for it yet.
    pub(super) fn fence(&self, point: u64) -> Option<Arc<Fence>> {
        let points = lock(&self.points);
        if point == 0 {
            return points.binary.clone().or_else(|| points.timeline.values().last().cloned());
        }
        // The first submitted point at or behind the one that is asked for stands for it.
        let at = points.timeline.position(point);
        points.timeline.entries().get(at).map(|(_, fence)| fence.clone())
    }

    /// The point that the timeline has reached: points signal in order.
    pub(super) fn reached(&self) -> u64 {
        let points = lock(&self.points);
        points
            .timeline
            .entries()
            .iter()
            .take_while(|(_, fence)| fence.is_signalled())
            .last()
            .map_or(0, |(point, _)| *point)
    }

    pub(super) fn last_submitted(&self) -> u64 {
        lock(&self.points).timeline.entries().last().map_or(0, |(point, _)| *point)
    }
}

/// What an operation signals when it is complete.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) word: Option<Word>,
    pub(super) fence: Arc<Fence>,
}

/// A user fence: what is written where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) address: u64,
    pub(super) value: u64,
    pub(super) access: WriteAccess,
}

/// An operation whose effects are there, and whose completion is told when what it waits for has happened and everything earlier
/// on its queue is complete.
#[derive(Debug)]
struct Job {
    queue: u64,
    after: Vec<Arc<Fence>>,
    completion: Completion,
}

#[derive(Debug, Default)]
struct Pending {
    jobs: VecDeque<Job>,
    stop: bool,
    /// Slows every completion down.
    delay: Duration,
}

/// The counterpart of the kernel's worker for user fences: writes words, signals fences, wakes whoever waits.
#[derive(Debug, Default)]
pub(super) struct Signaller {
    pending: Mutex<Pending>,
    changed: Condvar,
    /// Woken with every completion: waiters look at their word again.
    epoch: Mutex<u64>,
    woken: Condvar,
}

impl Signaller {
    /// Tells the completion of an operation on `queue`, once `after` has happened.
    pub(super) fn submit(&self, queue: u64, after: Vec<Arc<Fence>>, completion: Completion) {
        lock(&self.pending).jobs.push_back(Job { queue, after, completion });
        self.changed.notify_all();
    }

    /// Signals a fence from the CPU.
    pub(super) fn signal(&self, fence: &Fence) {
        fence.set();
        self.wake();
        // Jobs may have waited for it.
        drop(lock(&self.pending));
        self.changed.notify_all();
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        lock(&self.pending).delay = delay;
    }

    pub(super) fn delay(&self) -> Duration {
        lock(&self.pending).delay
    }

    /// Makes every waiter look again.
    pub(super) fn wake(&self) {
        *lock(&self.epoch) += 1;
        self.woken.notify_all();
    }

    pub(super) fn epoch(&self) -> u64 {
        *lock(&self.epoch)
    }

    /// Waits until something was signalled since `epoch`, at most `timeout`.
    pub(super) fn wait_since(&self, epoch: u64, timeout: Duration) {
        let guard = lock(&self.epoch);
        // A wakeup, a timeout and a poisoned lock all mean: look again.
        let _ = self.woken.wait_timeout_while(guard, timeout, |now| *now == epoch);
    }

    /// The worker's life.
    pub(super) fn run(&self) {
        let mut pending = lock(&self.pending);
        while !pending.stop {
            let ready = (0..pending.jobs.len()).find(|&at| {
                let job = &pending.jobs[at];
                let first = pending.jobs.iter().take(at).all(|earlier| earlier.queue != job.queue);
                first && job.after.iter().all(|fence| fence.is_signalled())
            });
            let Some(at) = ready else {
                pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let delay = pending.delay;
            // The job stays listed while it completes, so that later ones of its queue wait for it.
            let word = pending.jobs[at].completion.word;
            let fence = pending.jobs[at].completion.fence.clone();
            drop(pending);
            if !delay.is_zero() {
                std::thread::sleep(delay);
            }
            if let Some(Word { address, value, access }) = word {
                // A page that is gone: the kernel warns and goes on, too.
                let _ = access.write(address, &value);
            }
            fence.set();
            self.wake();
            pending = lock(&self.pending);
            pending.jobs.retain(|job| !Arc::ptr_eq(&job.completion.fence, &fence));
        }
    }

    pub(super) fn stop(&self) {
        lock(&self.pending).stop = true;
        self.changed.notify_all();
    }
}

/// What an ioctl's sync entries mean.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) waits: Vec<Arc<Fence>>,
    pub(super) signals: Vec<(Arc<Syncobj>, u64)>,
    pub(super) word: Option<Word>,
    pub(super) any_wait: bool,
}

/// What a sync entry is parsed for.
#[derive(Clone, Copy, Debug)]
pub(super) struct For {
    /// On a long-running VM.
    pub(super) long_running: bool,
    /// A bind with operations, or a submission; user fences are for these.
    pub(super) user_fence_allowed: bool,
    /// The word is a CPU address.
    pub(super) cpu_address: bool,
    /// For writing the word.
    pub(super) access: WriteAccess,
}

/// Reads and checks sync entries one by one (`xe_sync_entry_parse`).
pub(super) fn parse(
    address: u64,
    count: u32,
    purpose: For,
    find: impl Fn(u32) -> Option<Arc<Syncobj>>,
) -> Result<Parsed, Errno> {
    use crate::uapi::xe::{
        DRM_XE_SYNC_FLAG_SIGNAL, DRM_XE_SYNC_TYPE_SYNCOBJ, DRM_XE_SYNC_TYPE_TIMELINE_SYNCOBJ,
        DRM_XE_SYNC_TYPE_USER_FENCE, SyncEntry,
    };
    let mut parsed = Parsed::default();
    let mut fences = 0;
    for at in 0..u64::from(count) {
        let entry: SyncEntry = user_memory::read(address.wrapping_add(at * size_of::<SyncEntry>() as u64))?;
        if entry.flags & !DRM_XE_SYNC_FLAG_SIGNAL != 0 || entry.reserved != [0; 2] {
            return Err(Errno::EINVAL);
        }
        let signal = entry.flags & DRM_XE_SYNC_FLAG_SIGNAL != 0;
        match entry.sync_type {
            DRM_XE_SYNC_TYPE_SYNCOBJ | DRM_XE_SYNC_TYPE_TIMELINE_SYNCOBJ => {
                if signal && purpose.long_running {
                    return Err(Errno::EOPNOTSUPP);
                }
                if entry.addr >> 32 != 0 {
                    return Err(Errno::EINVAL);
                }
                let timeline = entry.sync_type == DRM_XE_SYNC_TYPE_TIMELINE_SYNCOBJ;
                if timeline && entry.timeline_value == 0 {
                    return Err(Errno::EINVAL);
                }
                let point = if timeline { entry.timeline_value } else { 0 };
                let syncobj = find(entry.handle()).ok_or(Errno::ENOENT)?;
                if signal {
                    parsed.signals.push((syncobj, point));
                } else {
                    parsed.waits.push(syncobj.fence(point).ok_or(Errno::EINVAL)?);
                    parsed.any_wait = true;
                }
            }
            DRM_XE_SYNC_TYPE_USER_FENCE => {
                if !purpose.user_fence_allowed || !signal {
                    return Err(Errno::EOPNOTSUPP);
                }
                if entry.addr & 7 != 0 {
                    return Err(Errno::EINVAL);
                }
                if purpose.cpu_address {
                    user_memory::read::<u64>(entry.addr)?;
                }
                parsed.word =
                    Some(Word { address: entry.addr, value: entry.timeline_value, access: purpose.access });
                fences += 1;
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    // A submission's fences are not counted, for they are addresses to the driver and no fences: the last one is written.
    if fences > 1 && purpose.cpu_address {
        return Err(Errno::EINVAL);
    }
    Ok(parsed)
}
