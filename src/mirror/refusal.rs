//! Why pages stayed where they were, as far as userspace can see.

use crate::outcome::{Cause, Refusal};
use crate::range::PageRange;
use crate::residency::{Place, Residency};
use crate::vma::{Vma, VmaKind, VmaMap};

use super::space::Target;

/// Splits `missing` at mapping boundaries and reports each part with its cause, in ascending order.
pub(super) fn classify(
    missing: PageRange,
    vmas: &VmaMap,
    after: &Residency,
    target: Target,
    vram_full: bool,
    mut report: impl FnMut(Refusal),
) {
    let mut at = missing.start();
    for vma in vmas.within(missing) {
        let Some(part) = vma.range().intersection(missing) else { continue };
        if at < part.start() {
            report(Refusal { range: PageRange::from_aligned(at, part.start()), cause: Cause::NotMapped });
        }
        match of_mapping(vma, target) {
            Some(cause) => report(Refusal { range: part, cause }),
            None => by_place(part, after, vram_full, &mut report),
        }
        at = part.end();
    }
    if at < missing.end() {
        report(Refusal { range: PageRange::from_aligned(at, missing.end()), cause: Cause::NotMapped });
    }
}

/// The cause that follows from the kind of mapping alone, or `None` where the memory is of a kind that moves.
fn of_mapping(vma: &Vma, target: Target) -> Option<Cause> {
    if !target.is_vram() {
        return None;
    }
    match vma.kind() {
        VmaKind::HugeTlb => Some(Cause::HugeTlb),
        VmaKind::Special => Some(Cause::Special),
        VmaKind::SharedMemory => Some(Cause::Shared),
        VmaKind::PrivateFile | VmaKind::SharedFile => Some(Cause::FileBacked),
        VmaKind::Anonymous if !vma.is_writable() => Some(Cause::NotWritable),
        VmaKind::Anonymous => None,
    }
}

/// Movable memory that did not move: by where its pages are.
fn by_place(part: PageRange, after: &Residency, vram_full: bool, report: &mut impl FnMut(Refusal)) {
    for run in after.runs() {
        let Some(range) = run.range().intersection(part) else { continue };
        let cause = match run.place() {
            Place::Swap => Cause::Swapped,
            _ if vram_full => Cause::NoVram,
            Place::System | Place::Zero | Place::Device => Cause::PinnedOrBusy,
            _ => Cause::Unknown,
        };
        report(Refusal { range, cause });
    }
}
