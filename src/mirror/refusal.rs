//! Why pages stayed where they were, as far as userspace can see.

use crate::outcome::{Cause, Refusal};
use crate::range::PageRange;
use crate::residency::{Place, Residency};
use crate::vma::{Vma, VmaKind, VmaMap};

use super::obstacles::Obstacles;
use super::space::Target;

/// Splits `missing` at mapping boundaries and reports each part with its cause, in ascending order.
pub(super) fn classify(
    missing: PageRange,
    vmas: &VmaMap,
    after: &Residency,
    target: Target,
    obstacles: Obstacles,
    mut report: impl FnMut(Refusal),
) {
    let mut at = missing.start();
    for vma in vmas.within(missing) {
        let Some(part) = vma.range().intersection(missing) else { continue };
        if at < part.start() {
            report(Refusal { range: PageRange::from_aligned(at, part.start()), cause: Cause::NotMapped });
        }
        match of_mapping(vma, target, obstacles.needs_writable) {
            Some(cause) => report(Refusal { range: part, cause }),
            None => by_block(part, vma, after, obstacles, &mut report),
        }
        at = part.end();
    }
    if at < missing.end() {
        report(Refusal { range: PageRange::from_aligned(at, missing.end()), cause: Cause::NotMapped });
    }
}

/// The cause that follows from the kind of mapping alone, or `None` where the memory is of a kind that moves.
fn of_mapping(vma: &Vma, target: Target, needs_writable: bool) -> Option<Cause> {
    if !target.is_vram() {
        return None;
    }
    match vma.kind() {
        VmaKind::HugeTlb => Some(Cause::HugeTlb),
        VmaKind::Special => Some(Cause::Special),
        VmaKind::SharedMemory => Some(Cause::Shared),
        VmaKind::PrivateFile | VmaKind::SharedFile => Some(Cause::FileBacked),
        VmaKind::Anonymous => {
            let suits = vma.is_readable() && (vma.is_writable() || !needs_writable);
            (!suits).then_some(Cause::NotWritable)
        }
    }
}

/// Movable memory, of which the ends of the mapping may be too short for a block of the driver.
fn by_block(
    part: PageRange,
    vma: &Vma,
    after: &Residency,
    obstacles: Obstacles,
    report: &mut impl FnMut(Refusal),
) {
    let block = obstacles.smallest_block;
    let (start, end) = (vma.range().start().next_multiple_of(block), vma.range().end() / block * block);
    let whole = (start < end).then(|| PageRange::from_aligned(start, end));
    let Some(inside) = whole.and_then(|whole| whole.intersection(part)).filter(|inside| !inside.is_empty())
    else {
        report(Refusal { range: part, cause: Cause::BelowBlockSize });
        return;
    };
    let (before, behind) = part.without(inside);
    if !before.is_empty() {
        report(Refusal { range: before, cause: Cause::BelowBlockSize });
    }
    by_place(inside, after, obstacles, report);
    if !behind.is_empty() {
        report(Refusal { range: behind, cause: Cause::BelowBlockSize });
    }
}

/// Movable memory that did not move: by where its pages are.
fn by_place(part: PageRange, after: &Residency, obstacles: Obstacles, report: &mut impl FnMut(Refusal)) {
    for run in after.runs() {
        let Some(range) = run.range().intersection(part) else { continue };
        let cause = match run.place() {
            Place::Swap => Cause::Swapped,
            _ if obstacles.unlinked_gpu => Cause::NoInterconnect,
            _ if obstacles.vram_full => Cause::NoVram,
            // Pages that never were have nothing that could be pinned; they lose races all the same.
            Place::System | Place::Zero | Place::Device | Place::Absent | Place::Ambiguous => {
                Cause::PinnedOrBusy
            }
            _ => Cause::Unknown,
        };
        report(Refusal { range, cause });
    }
}

#[cfg(test)]
mod tests {
    use rustix::mm::MprotectFlags;

    use super::*;
    use crate::Buffer;

    #[test]
    fn where_memory_need_not_be_writable_it_must_be_readable() {
        let buffer = Buffer::<u64>::zeroed(512).unwrap();
        let range = buffer.range();
        let protect = |flags| {
            // SAFETY: the test's own memory, which nothing touches meanwhile.
            unsafe { rustix::mm::mprotect(range.start() as *mut _, range.len() as usize, flags) }.unwrap();
        };
        let cause = |needs_writable| {
            let mut map = VmaMap::new();
            map.read(range).unwrap();
            of_mapping(map.within(range).next().unwrap(), Target::PEER, needs_writable)
        };
        protect(MprotectFlags::READ);
        assert_eq!((cause(true), cause(false)), (Some(Cause::NotWritable), None));
        protect(MprotectFlags::empty());
        assert_eq!(cause(false), Some(Cause::NotWritable));
        protect(MprotectFlags::READ | MprotectFlags::WRITE);
        assert_eq!((cause(true), cause(false)), (None, None));
    }
}
