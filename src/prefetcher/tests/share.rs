//! Sharing an outcome between the requests that caused it.

use super::gate::{Stage, filled, part};
use crate::outcome::{Cause, Observe, Outcome};
use crate::prefetcher::share::share;
use crate::range::{PageRange, page_size};
use crate::residency;

#[test]
fn each_gets_what_concerns_it() {
    let stage = Stage::new();
    let data = filled(8 << 20);
    let mib = 1 << 20;
    // The second 2 MiB are there already; of the third, a part is given to nobody's mapping.
    let there = part(&data, 2 * mib, 2 * mib);
    assert!(stage.mirror.prefetch_range(there).to(stage.gpu.vram()).run().unwrap().is_complete());
    let before = residency::of_range(data.range()).unwrap();
    let hole = part(&data, 5 * mib, page_size());
    // SAFETY: nothing refers to the page; it stays inside the buffer's own mapping and only forbids access.
    unsafe {
        rustix::mm::mprotect(hole.start() as *mut _, page_size() as usize, rustix::mm::MprotectFlags::READ)
    }
    .unwrap();
    let outcome = stage.mirror.prefetch(&data).to(stage.gpu.vram()).run().unwrap();
    assert_eq!((outcome.not_moved(), outcome.already_there()), (page_size(), 2 * mib), "{outcome}");

    let of = |range: PageRange| share(&outcome, &before, range, true);
    let first = of(part(&data, 0, 3 * mib));
    assert_eq!((first.moved(), first.already_there(), first.not_moved()), (2 * mib, mib, 0));
    let second = of(part(&data, 3 * mib, 3 * mib));
    assert_eq!(second.moved(), 2 * mib - page_size());
    assert_eq!(second.already_there(), mib);
    assert_eq!(second.refusals().len(), 1);
    assert_eq!((second.refusals()[0].range, second.refusals()[0].cause), (hole, Cause::NotWritable));
    assert_eq!(of(data.range()), outcome, "the whole is the whole");
    assert_eq!(share(&Outcome::unobserved(8 << 20), &before, hole, true), Outcome::unobserved(page_size()));

    // And back again, where "there" means the opposite.
    let before = residency::of_range(data.range()).unwrap();
    let back = stage.mirror.prefetch(&data).to_system().observe(Observe::Cheaply).run().unwrap();
    let hole_back = share(&back, &before, hole, false);
    assert_eq!((hole_back.moved(), hole_back.already_there()), (0, page_size()));
    assert_eq!(share(&back, &before, data.range(), false), back);
}
