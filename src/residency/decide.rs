//! The rules that turn what the kernel says about an entry into a place: pure functions, no system call.
//!
//! The facts behind them, all from the kernel's source and checked against the snapshot of `lib/test_hmm.c`:
//!
//! * `mincore` (`mm/mincore.c`, `mincore_swap`) answers 1 for every software entry of anonymous memory that is not a swap slot,
//!   which is how a device-private page looks, and 1 for a swap slot whose page is still in the swap cache; it answers 0 for
//!   other swap slots and for markers.
//! * `Swap:` in `smaps` (`fs/proc/task_mmu.c`, `smaps_pte_entry`) counts swap slots only, cached or not.
//! * Hence, per mapping: uncached candidates = slots - cached slots + markers. Where the slots are as many as the uncached
//!   candidates and there are no markers, no slot is cached, and every cached candidate is a device page.

use std::ops::RangeInclusive;

use super::place::Class;

/// What a mapping is, as far as the rules ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Private and anonymous: what moves to devices.
    Anonymous,
    /// Private, of a file or of shared memory: pages written through it are anonymous and move. `mincore` may answer 1
    /// for all of it (`can_do_mincore`), and `Swap:` may count shared memory's slots as well.
    PrivateFile,
    /// Shared or hugetlb: never moves to a device.
    Fixed,
}

/// Whether a mapping can hold swap slots, and how many it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    /// The kernel is built without swap. Some such kernels mistake device pages in `mincore`, so it was not asked
    /// (from commit 1f2052755c15 to 0c25b8734367), and every candidate counts as cached here.
    Impossible,
    /// There are none among the candidates: no swap device, or the entry types were read.
    None,
    /// So many pages in the whole mapping.
    Counted(u64),
}

/// What is known of one mapping. Counts are pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) kind: Kind,
    /// Whether there may be markers among the candidates: registered with userfaultfd, or a kernel that has guard
    /// regions but does not report them.
    pub(super) markers: bool,
    pub(super) slots: Slots,
    /// Candidates in the whole mapping for which `mincore` answered 1.
    pub(super) cached: u64,
    /// Candidates in the whole mapping for which `mincore` answered 0.
    pub(super) uncached: u64,
}

/// What the candidates of a mapping are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Those for which `mincore` answers 1.
    pub(super) cached: Class,
    /// Those for which `mincore` answers 0.
    pub(super) uncached: Class,
    /// Device pages in the whole mapping, least and most.
    pub(super) device: (u64, u64),
}

impl Verdict {
    const fn of(cached: Class, uncached: Class, device: (u64, u64)) -> Self {
        Self { cached, uncached, device }
    }
}

/// What the candidates of a mapping are, given what is known of it.
pub(super) fn decide(evidence: &Evidence) -> Verdict {
    let Evidence { kind, markers, slots, cached, uncached } = *evidence;
    if kind == Kind::Fixed {
        return Verdict::of(Class::Marker, Class::Marker, (0, 0));
    }
    // `mincore` is no evidence where it answers from the page cache, or 1 for everything.
    let cached_may_be_marker = markers && (kind == Kind::PrivateFile || slots == Slots::Impossible);
    let without_slots = match slots {
        Slots::Impossible | Slots::None => true,
        Slots::Counted(pages) => pages == 0,
    };
    if without_slots {
        return if cached_may_be_marker {
            Verdict::of(Class::Ambiguous, Class::Marker, (0, cached))
        } else {
            Verdict::of(Class::Device, Class::Marker, (cached, cached))
        };
    }
    let Slots::Counted(slots) = slots else { unreachable!("without slots was answered above") };
    let exact_slots = kind == Kind::Anonymous;
    // A count that falls short of the uncached candidates shows markers, or a mapping that changed between the looks.
    let markers = markers || (exact_slots && slots < uncached);
    let other = if markers { Class::Ambiguous } else { Class::Swap };
    if cached == 0 {
        return Verdict::of(Class::Device, other, (0, 0));
    }
    if !exact_slots {
        let least = if markers { 0 } else { cached - cached.min(slots) };
        return Verdict::of(Class::Ambiguous, other, (least, cached));
    }
    // Cached slots are at least this many, and exactly this many when there are no markers.
    let cached_slots = slots.saturating_sub(uncached);
    if cached_slots >= cached {
        // Every cached candidate is a slot, so the uncached ones are slots too.
        return Verdict::of(Class::Swap, Class::Swap, (0, 0));
    }
    match (markers, cached_slots) {
        (false, 0) => Verdict::of(Class::Device, Class::Swap, (cached, cached)),
        (false, _) => {
            Verdict::of(Class::Ambiguous, Class::Swap, (cached - cached_slots, cached - cached_slots))
        }
        (true, _) => {
            Verdict::of(Class::Ambiguous, other, (cached - cached.min(slots), cached - cached_slots))
        }
    }
}

/// How many of the `inside` cached candidates of a range are in VRAM, when `device` of the mapping's are and `outside`
/// more cached candidates lie in the mapping but not in the range.
pub(super) fn share(device: (u64, u64), inside: u64, outside: u64) -> (u64, u64) {
    (device.0.saturating_sub(outside), device.1.min(inside))
}

/// The swap type field of a word of `/proc/self/pagemap` (bits 0-4), or `None` where the kernel hides it: without
/// `CAP_SYS_ADMIN` at the time of opening all low bits are 0, which no true entry has (slot 0 is the swap header).
pub(super) fn entry_type(word: u64) -> Option<u32> {
    const LOW: u64 = (1 << 55) - 1;
    (word & LOW != 0).then_some((word & 0x1f) as u32)
}

/// Swap types that are swap files on every kernel. The kernel takes its special types from the top of the 32 (at most 10 so
/// far) and hands out the others from 0 upward; the border moves between releases and is not guessed here.
const SWAP_FILE_TYPES: RangeInclusive<u32> = 0..=15;

/// What a candidate is, from its visible entry type and the types that are known to mean device-private.
/// `None`: not a swap slot, and no types are known; the rules for a mapping without slots apply.
pub(super) fn class_of_type(kind: u32, device_types: u32) -> Option<Class> {
    if device_types >> kind & 1 == 1 {
        return Some(Class::DeviceByType);
    }
    if SWAP_FILE_TYPES.contains(&kind) {
        return Some(Class::Swap);
    }
    (device_types != 0).then_some(Class::Transient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(slots: u64, cached: u64, uncached: u64) -> Evidence {
        Evidence { kind: Kind::Anonymous, markers: false, slots: Slots::Counted(slots), cached, uncached }
    }

    fn verdict(cached: Class, uncached: Class, least: u64, most: u64) -> Verdict {
        Verdict::of(cached, uncached, (least, most))
    }

    use Class::{Ambiguous, Device, Marker, Swap};

    #[test]
    fn without_swap_mincore_alone_decides() {
        let none = Evidence { slots: Slots::None, ..evidence(0, 7, 2) };
        assert_eq!(decide(&none), verdict(Device, Marker, 7, 7));
        assert_eq!(decide(&Evidence { markers: true, ..none }), verdict(Device, Marker, 7, 7));
    }

    #[test]
    fn a_kernel_without_swap_is_not_asked_and_markers_make_it_doubtful() {
        let none = Evidence { slots: Slots::Impossible, ..evidence(0, 7, 0) };
        assert_eq!(decide(&none), verdict(Device, Marker, 7, 7));
        assert_eq!(decide(&Evidence { markers: true, ..none }), verdict(Ambiguous, Marker, 0, 7));
    }

    #[test]
    fn the_measured_rounds_of_the_classifier() {
        // No swap in use: 184 device pages.
        assert_eq!(decide(&evidence(0, 184, 0)), verdict(Device, Marker, 184, 184));
        // 67 pages swapped out, all still in the swap cache: the count is exact, the page is not.
        assert_eq!(decide(&evidence(67, 215, 0)), verdict(Ambiguous, Swap, 148, 148));
        // After reclaim: 325 slots, none cached.
        assert_eq!(decide(&evidence(325, 25, 325)), verdict(Device, Swap, 25, 25));
        // Seven slots still cached.
        assert_eq!(decide(&evidence(327, 29, 320)), verdict(Ambiguous, Swap, 22, 22));
    }

    #[test]
    fn all_cached_candidates_may_be_proved_to_be_swap() {
        assert_eq!(decide(&evidence(10, 4, 6)), verdict(Swap, Swap, 0, 0));
        assert_eq!(decide(&Evidence { markers: true, ..evidence(10, 4, 6) }), verdict(Swap, Swap, 0, 0));
    }

    #[test]
    fn markers_take_the_proof_away() {
        // Four uncached, four slots, but the four uncached may be markers and the slots cached.
        let doubtful = Evidence { markers: true, ..evidence(4, 10, 4) };
        assert_eq!(decide(&doubtful), verdict(Ambiguous, Ambiguous, 6, 10));
        // More uncached candidates than slots prove markers that nobody announced.
        assert_eq!(decide(&evidence(4, 10, 6)), verdict(Ambiguous, Ambiguous, 6, 10));
    }

    #[test]
    fn shared_and_hugetlb_memory_never_moves() {
        for slots in [Slots::Impossible, Slots::None, Slots::Counted(3)] {
            let fixed = Evidence { kind: Kind::Fixed, slots, ..evidence(0, 3, 3) };
            assert_eq!(decide(&fixed), verdict(Marker, Marker, 0, 0));
        }
    }

    #[test]
    fn private_file_mappings_trust_mincore_less() {
        let file = Evidence { kind: Kind::PrivateFile, ..evidence(0, 4, 0) };
        assert_eq!(decide(&file), verdict(Device, Marker, 4, 4));
        assert_eq!(decide(&Evidence { markers: true, ..file }), verdict(Ambiguous, Marker, 0, 4));
        // Two slots counted: the file may be one that mincore does not answer for, or the slots shared memory's.
        let slots = Evidence { slots: Slots::Counted(2), uncached: 2, ..file };
        assert_eq!(decide(&slots), verdict(Ambiguous, Swap, 2, 4));
        assert_eq!(decide(&Evidence { markers: true, ..slots }), verdict(Ambiguous, Ambiguous, 0, 4));
    }

    #[test]
    fn the_share_of_a_range_in_a_mapping() {
        assert_eq!(share((22, 22), 29, 0), (22, 22));
        assert_eq!(share((22, 22), 10, 19), (3, 10));
        assert_eq!(share((5, 5), 3, 29), (0, 3));
    }

    #[test]
    fn types_are_visible_only_with_the_privilege() {
        // Words of a measured run, as root and as another user.
        assert_eq!(entry_type(0x4080_0001_f9ff_fffc), Some(28));
        assert_eq!(entry_type(0x4080_0000_0000_0020), Some(0));
        assert_eq!(entry_type(0x4480_0000_0000_009f), Some(31));
        assert_eq!(entry_type(0x4080_0000_0000_0000), None);
    }

    #[test]
    fn types_mean_device_only_when_calibrated() {
        let (write, read) = (28, 29);
        assert_eq!(class_of_type(write, 1 << write), Some(Class::DeviceByType));
        assert_eq!(class_of_type(read, 1 << write), Some(Class::Transient));
        assert_eq!(class_of_type(read, 1 << write | 1 << read), Some(Class::DeviceByType));
        assert_eq!(class_of_type(write, 0), None);
        assert_eq!(class_of_type(3, 0), Some(Swap));
        assert_eq!(class_of_type(3, 1 << write), Some(Swap));
    }
}
