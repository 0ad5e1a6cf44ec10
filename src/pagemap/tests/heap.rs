//! The whole heap, and everything else there is, migrates while the engine works.

use super::*;
use crate::pagemap::{Atomicity, Backing, Windows};

/// All memory of the process that may migrate. Collected first: looking for it allocates.
fn candidates(space: &Space) -> Vec<PageRange> {
    let mut ranges = Vec::with_capacity(4096);
    let mut at = 0;
    while let Some(vma) = space.vma_at_or_after(at).unwrap() {
        at = vma.range.end();
        let anonymous = vma.backing == Backing::Anonymous && !vma.shared;
        if anonymous && vma.readable && vma.writable && !vma.executable {
            ranges.push(vma.range);
        }
    }
    ranges
}

/// Migrates all there is, again and again, while this thread and another use the heap.
fn churn(space: &Space, vram: &VramRegion, keep: impl Fn(PageRange) -> bool) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut moved = 0;
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            let mut map = std::collections::BTreeMap::new();
            for n in 0u64.. {
                map.insert(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50, vec![n; (n % 700) as usize]);
                if map.len() > 300 {
                    let (_, values) = map.pop_first().unwrap();
                    assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
                }
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        for round in 0..8 {
            for range in candidates(space).into_iter().filter(|&range| keep(range)) {
                let windows = if round % 2 == 0 { Windows::Natural } else { Windows::Blocks(64 << 10) };
                let options =
                    MigrateOptions::new().windows(windows).atomicity(Atomicity::BestEffort).retry(false);
                // Some of it belongs to the engine, and is refused.
                match space.migrate_to_devmem(vram, range, &options) {
                    Ok(migrated) => moved += migrated.moved,
                    Err(error) => assert!(error.kind() != ErrorKind::Other, "{error}"),
                }
            }
            // Use what the crate itself has on the heap.
            let _ =
                (vram.usage().unwrap(), space.placement(PageRange::new(0, 1 << 46).unwrap()).unwrap().len());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    eprintln!("{moved} bytes moved");
    assert!(moved > 1 << 20, "{moved} bytes moved");
}

#[test]
fn everything_may_migrate_with_kernel_touches() {
    if !alone!(everything_may_migrate_with_kernel_touches) {
        return;
    }
    let Some(space) = space_with(KernelTouch::IfPermitted) else { return };
    if !space.capabilities().kernel_touch {
        return skipped("stacks cannot, without kernel touches");
    }
    let vram = VramRegion::new(&space, 64 * MB2).unwrap();
    churn(&space, &vram, |_| true);
}

#[test]
fn the_heap_may_migrate() {
    if !alone!(the_heap_may_migrate) {
        return;
    }
    let Some((space, vram)) = simulated(64 * MB2) else { return };
    let on_heap = Box::new(7u8);
    let heap = std::ptr::from_ref(&*on_heap) as u64;
    let arena = std::thread::spawn(|| std::ptr::from_ref(&*Box::new([1u8; 100])) as u64).join().unwrap();
    churn(&space, &vram, |range| range.contains(heap) || range.contains(arena));
    assert_eq!(*on_heap, 7);
}
