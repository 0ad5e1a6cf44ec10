//! Per-process translation: five levels, pages of 4 KiB, 64 KiB, 2 MiB and 1 GiB (`xe_pt.c`, `regs/xe_gtt_defs.h`).

use crate::address_space;
use crate::mem::{Access, Vram, VramOffset};

address_space! {
    /// A virtual address of a process on the GPU.
    PpgttVa;
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const COMPACT_64K: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NULL: u64 = 1 << 9;
const ATOMIC: u64 = 1 << 10;
const IN_VRAM: u64 = 1 << 11;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What the last entry of a walk says about a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Address of the page: an offset into the device's memory, or a bus address.
    pub page: u64,
    /// Size of the page as a power of two.
    pub shift: u32,
    /// In the device's memory.
    pub vram: bool,
    /// Stores are allowed.
    pub writable: bool,
    /// Atomics are allowed.
    pub atomic: bool,
    /// Reads as zero, drops stores.
    pub null: bool,
}

/// Why an access faults; the number is the one of the fault descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// An entry is not present.
    NotPresent = 0,
    /// The page is read-only.
    ReadOnly = 1,
    /// The page does not allow atomics.
    NoAtomic = 2,
}

/// A fault of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkFault {
    /// Why.
    pub cause: Cause,
    /// The level that ended the walk: 0 the last one (4 KiB pages), 4 the root.
    pub level: u32,
}

impl Leaf {
    /// Whether the page allows the access.
    pub fn check(&self, access: Access) -> Result<(), WalkFault> {
        let level = u32::from(self.shift >= 21) + u32::from(self.shift >= 30);
        if access.writes() && !self.writable {
            return Err(WalkFault { cause: Cause::ReadOnly, level });
        }
        if access == Access::Atomic && !self.atomic && !self.null {
            return Err(WalkFault { cause: Cause::NoAtomic, level });
        }
        Ok(())
    }

    fn new(entry: u64, shift: u32) -> Leaf {
        Leaf {
            page: entry & ADDRESS & !((1 << shift) - 1),
            shift,
            vram: entry & IN_VRAM != 0,
            writable: entry & (WRITABLE | NULL) != 0,
            atomic: entry & ATOMIC != 0,
            null: entry & NULL != 0,
        }
    }
}

/// Shifts of the five levels, root first.
const SHIFTS: [u32; 5] = [48, 39, 30, 21, 12];

/// Walks from `root` to the page that holds `va`. Tables lie in the device's memory on a discrete part.
pub fn walk(vram: &Vram, root: VramOffset, va: PpgttVa) -> Result<Leaf, WalkFault> {
    let mut table = root;
    for (depth, shift) in SHIFTS.into_iter().enumerate() {
        let level = (SHIFTS.len() - 1 - depth) as u32;
        let missing = WalkFault { cause: Cause::NotPresent, level };
        let index = (va.0 >> shift) & 0x1ff;
        let entry = vram.load64(VramOffset(table.0.wrapping_add(index * 8))).ok_or(missing)?;
        let leaf_allowed = shift <= 30;
        if entry & PRESENT == 0 && !(leaf_allowed && entry & NULL != 0) {
            return Err(missing);
        }
        if shift == 12 || (leaf_allowed && entry & (LARGE | NULL) != 0) {
            return Ok(Leaf::new(entry, shift));
        }
        table = VramOffset(entry & ADDRESS);
        if shift == 21 && entry & COMPACT_64K != 0 {
            return walk_compact(vram, table, va);
        }
    }
    // The loop ends at shift 12, whose entry is always a leaf or a fault.
    Err(WalkFault { cause: Cause::NotPresent, level: 0 })
}

/// The last level in its compact form: 32 entries of 64 KiB.
fn walk_compact(vram: &Vram, table: VramOffset, va: PpgttVa) -> Result<Leaf, WalkFault> {
    let missing = WalkFault { cause: Cause::NotPresent, level: 0 };
    let index = (va.0 >> 16) & 0x1f;
    let entry = vram.load64(VramOffset(table.0.wrapping_add(index * 8))).ok_or(missing)?;
    if entry & (PRESENT | NULL) == 0 {
        return Err(missing);
    }
    Ok(Leaf::new(entry, 16))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Builds page tables, as the driver does.

    use super::*;

    /// The levels as the driver counts them; not the model's own list, which is to be judged by it.
    const LEVELS: [u32; 5] = [48, 39, 30, 21, 12];

    /// Page tables under construction, in the device's memory.
    pub(crate) struct Tables<'a> {
        pub(crate) vram: &'a Vram,
        pub(crate) root: VramOffset,
        pub(crate) next: u64,
    }

    impl<'a> Tables<'a> {
        pub(crate) fn new(vram: &'a Vram, at: u64) -> Tables<'a> {
            Tables { vram, root: VramOffset(at), next: at + 0x1000 }
        }

        /// Where the entry for `va` at `shift` lies; makes the tables above it.
        pub(crate) fn slot(&mut self, va: u64, shift: u32) -> u64 {
            let mut table = self.root.0;
            for s in LEVELS {
                let slot = table + ((va >> s) & 0x1ff) * 8;
                if s == shift {
                    return slot;
                }
                let entry = self.vram.mapping().load64(slot).unwrap();
                table = if entry & PRESENT != 0 {
                    entry & ADDRESS
                } else {
                    let new = self.next;
                    self.next += 0x1000;
                    self.vram.mapping().store64(slot, new | PRESENT | WRITABLE).unwrap();
                    new
                };
            }
            panic!("no level with shift {shift}")
        }

        fn put(&mut self, va: u64, shift: u32, entry: u64) {
            let slot = self.slot(va, shift);
            self.vram.mapping().store64(slot, entry).unwrap();
        }

        pub(crate) fn map_vram(&mut self, va: u64, shift: u32, page: u64) {
            let large = if shift > 12 { LARGE } else { 0 };
            self.put(va, shift, page | PRESENT | WRITABLE | ATOMIC | IN_VRAM | large);
        }

        pub(crate) fn map_system(&mut self, va: u64, page: u64, writable: bool) {
            self.put(va, 12, page | PRESENT | if writable { WRITABLE } else { 0 });
        }

        pub(crate) fn map_null(&mut self, va: u64, shift: u32) {
            self.put(va, shift, NULL | PRESENT);
        }

        pub(crate) fn map_compact(&mut self, va: u64, page: u64) {
            let table = self.next;
            self.next += 0x1000;
            self.put(va, 21, table | PRESENT | WRITABLE | COMPACT_64K);
            let slot = table + ((va >> 16) & 0x1f) * 8;
            self.vram.mapping().store64(slot, page | PRESENT | IN_VRAM).unwrap();
        }

        pub(crate) fn unmap(&mut self, va: u64) {
            self.put(va, 12, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Tables;
    use super::*;

    const VA: u64 = 0x0001_2345_6789_a000;

    fn level_that_fails(clear: u32) -> WalkFault {
        let vram = Vram::new(1 << 21).unwrap();
        let mut t = Tables::new(&vram, 0x1_0000);
        t.map_vram(VA, 12, 0x5000);
        assert_eq!(walk(&vram, t.root, PpgttVa(VA)).map(|l| l.page), Ok(0x5000));
        let slot = t.slot(VA, clear);
        vram.mapping().store64(slot, 0).unwrap();
        walk(&vram, t.root, PpgttVa(VA)).unwrap_err()
    }

    #[test]
    fn each_level_counts() {
        for (level, shift) in SHIFTS.into_iter().rev().enumerate() {
            let expected = WalkFault { cause: Cause::NotPresent, level: level as u32 };
            assert_eq!(level_that_fails(shift), expected);
        }
    }

    #[test]
    fn addresses_that_differ_at_one_level_are_different_pages() {
        let vram = Vram::new(1 << 21).unwrap();
        let mut t = Tables::new(&vram, 0x1_0000);
        t.map_vram(VA, 12, 0x5000);
        for (i, shift) in SHIFTS.into_iter().enumerate() {
            let other = VA ^ (1 << shift);
            assert!(walk(&vram, t.root, PpgttVa(other)).is_err());
            t.map_vram(other, 12, 0x6000 + i as u64 * 0x1000);
        }
        for (i, shift) in SHIFTS.into_iter().enumerate() {
            let leaf = walk(&vram, t.root, PpgttVa(VA ^ (1 << shift))).unwrap();
            assert_eq!(leaf.page, 0x6000 + i as u64 * 0x1000);
        }
        assert_eq!(walk(&vram, t.root, PpgttVa(VA)).unwrap().page, 0x5000);
    }

    #[test]
    fn page_sizes() {
        let vram = Vram::new(1 << 21).unwrap();
        let mut t = Tables::new(&vram, 0x1_0000);
        t.map_vram(1 << 30, 30, 3 << 30);
        t.map_vram(2 << 30, 21, 5 << 21);
        t.map_compact((2 << 30) + (1 << 21), 7 << 16);
        t.map_compact((2 << 30) + (2 << 21) + (31 << 16), 9 << 16);
        t.map_null(3 << 30, 21);
        let leaf = |va| walk(&vram, t.root, PpgttVa(va)).unwrap();
        let giant = leaf((1 << 30) + 0x1234_5678);
        assert_eq!((giant.page, giant.shift, giant.vram), (3 << 30, 30, true));
        assert_eq!(leaf((2 << 30) + 0x10_0000).shift, 21);
        assert_eq!((leaf((2 << 30) + (1 << 21)).page, leaf((2 << 30) + (1 << 21)).shift), (7 << 16, 16));
        assert!(walk(&vram, t.root, PpgttVa((2 << 30) + (1 << 21) + (1 << 16))).is_err());
        assert_eq!(leaf((2 << 30) + (2 << 21) + (31 << 16)).page, 9 << 16);
        assert!(walk(&vram, t.root, PpgttVa((2 << 30) + (2 << 21) + (15 << 16))).is_err());
        assert!(leaf(3 << 30).null);
    }

    #[test]
    fn permissions() {
        let vram = Vram::new(1 << 21).unwrap();
        let mut t = Tables::new(&vram, 0x1_0000);
        t.map_system(VA, 0x9000, false);
        let leaf = walk(&vram, t.root, PpgttVa(VA)).unwrap();
        assert_eq!(leaf.check(Access::Read), Ok(()));
        assert_eq!(leaf.check(Access::Write).unwrap_err().cause, Cause::ReadOnly);
        t.map_system(VA, 0x9000, true);
        let leaf = walk(&vram, t.root, PpgttVa(VA)).unwrap();
        assert_eq!(leaf.check(Access::Write), Ok(()));
        assert_eq!(leaf.check(Access::Atomic).unwrap_err().cause, Cause::NoAtomic);
    }

    #[test]
    fn tables_outside_the_memory_do_not_exist() {
        let vram = Vram::new(1 << 16).unwrap();
        assert!(walk(&vram, VramOffset(u64::MAX - 8), PpgttVa(VA)).is_err());
    }
}
