//! Handles as futures, and what they say when misused.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use super::gate::{HANG, Stage, filled};
use crate::error::ErrorKind;
use crate::prefetcher::{Pending, Prefetcher};

/// Counts how often it is woken, and wakes a thread.
struct Counting {
    woken: AtomicUsize,
    thread: Thread,
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new(Self { woken: AtomicUsize::new(0), thread: std::thread::current() })
    }

    fn woken(&self) -> usize {
        self.woken.load(Ordering::SeqCst)
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// The smallest executor there is: polls only when woken.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let counting = Counting::new();
    let waker = Waker::from(counting.clone());
    let mut polls = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        polls += 1;
        while counting.woken() < polls {
            std::thread::park_timeout(HANG);
        }
    }
}

fn poll(pending: &mut Pending, waker: &Waker) -> Poll<crate::Result<crate::Outcome>> {
    Pin::new(pending).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_future_on_any_executor() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone()).chunk(2 << 20).build().unwrap();
    let data = filled(6 << 20);
    let outcome = block_on(async {
        let there = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit()?.await?;
        let back = prefetcher.prefetch(&data).to_system().submit()?.await?;
        Ok::<_, crate::Error>(there.merge(back))
    });
    assert_eq!(outcome.unwrap().moved(), 12 << 20);
}

#[test]
fn the_last_waker_is_woken_once_and_only_when_done() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let data = filled(2 << 20);
    let mut pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
    let (first, second) = (Counting::new(), Counting::new());
    assert!(poll(&mut pending, &Waker::from(first.clone())).is_pending());
    assert!(poll(&mut pending, &Waker::from(second.clone())).is_pending());
    assert_eq!((first.woken(), second.woken()), (0, 0));
    assert_eq!(Arc::strong_count(&first), 1, "the waker that was replaced is let go of");
    stage.gate.open();
    assert!(prefetcher.wait_idle_timeout(HANG).unwrap());
    assert_eq!((first.woken(), second.woken()), (0, 1));
    let Poll::Ready(result) = poll(&mut pending, &Waker::from(first.clone())) else { panic!("it is done") };
    assert!(result.unwrap().is_complete());
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1), "no waker is kept");
    // Asked again, it says so instead of hanging or panicking.
    let Poll::Ready(result) = poll(&mut pending, Waker::noop()) else { panic!("it is done") };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn cancelling_wakes() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let data = filled(2 << 20);
    let mut pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
    let counting = Counting::new();
    assert!(poll(&mut pending, &Waker::from(counting.clone())).is_pending());
    pending.cancel();
    assert_eq!(counting.woken(), 1);
    let Poll::Ready(result) = poll(&mut pending, Waker::noop()) else { panic!("it is done") };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    stage.gate.open();
}

#[test]
fn letting_go_leaves_it_under_way_unless_said_otherwise() {
    let stage = Stage::new();
    let (prefetcher, plug) = stage.busy();
    let (kept, dropped) = (filled(2 << 20), filled(2 << 20));
    drop(prefetcher.prefetch(&kept).to(stage.gpu.vram()).submit().unwrap());
    // Another target, so that the two are not done together where they are neighbours.
    drop(prefetcher.prefetch(&dropped).to_system().submit().unwrap().cancel_on_drop());
    stage.gate.open();
    assert!(prefetcher.wait_idle_timeout(HANG).unwrap());
    assert_eq!(stage.ranges_after(0), [plug.range(), kept.range()]);
}

#[test]
fn waiting_ends_with_patience() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let data = filled(2 << 20);
    let mut pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
    assert!(pending.wait_timeout(Duration::from_millis(1)).is_none());
    assert!(!prefetcher.wait_idle_timeout(Duration::from_millis(1)).unwrap());
    stage.gate.open();
    assert!(pending.wait_timeout(Duration::MAX).expect("patience without end").unwrap().is_complete());
}

#[test]
fn an_empty_request_is_done_at_once() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let nothing: [u8; 0] = [];
    let pending = prefetcher.prefetch(&nothing).to(stage.gpu.vram()).submit().unwrap();
    assert!(pending.is_done());
    pending.cancel();
    assert!(pending.wait().unwrap().is_complete());
    stage.gate.open();
}

#[test]
fn nonsense_is_refused() {
    let stage = Stage::new();
    let data = filled(2 << 20);
    let builder = || Prefetcher::builder(stage.mirror.clone());
    for builder in
        [builder().threads(0), builder().queue_limit(0), builder().chunk(5000), builder().chunk(512)]
    {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let prefetcher = builder().build().unwrap();
    let error = prefetcher.prefetch(&data).submit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.hint().is_some());
    let error = prefetcher.prefetch(&data).to_system().chunk(3 << 20).submit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let other = crate::Gpu::simulated();
    let budget = Arc::new(crate::Budget::new(&other.vram_regions()[0]).unwrap());
    assert_eq!(builder().budget(budget).build().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let pending = prefetcher.prefetch(&data).to(other.vram()).submit().unwrap();
    assert_eq!(
        pending.wait().unwrap_err().kind(),
        ErrorKind::NoInterconnect,
        "memory of a GPU that no link leads to"
    );
}

#[test]
fn may_be_shared_and_sent() {
    fn shared<T: Send + Sync>() {}
    shared::<Prefetcher>();
    shared::<Pending>();
    shared::<crate::Budget>();
}
