//! Memory attributes: the page attribute table (PAT) of each part.
//!
//! An index into the table says how the GPU caches a mapping. The driver refuses reserved indices, non-coherent ones for
//! user pointers, and on integrated devices non-coherent ones for mirrors (`xe_vm.c`, `vm_bind_ioctl_check_args`).
//! The tables are facts of the hardware, written down in the driver's `xe_pat.c`.

use super::query::{Gt, GtKind, IpVersion};

/// An index into a device's page attribute table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatIndex(pub u16);

impl PatIndex {
    /// 2: cached, coherent with the CPU in both directions, on every part since Xe2. What mirrors use unless told otherwise.
    ///
    /// The header's advice to leave the index zero for mirrors fails with `EINVAL` on integrated devices since 7.3.
    pub const COHERENT: Self = Self(2);
}

/// How a PAT index keeps GPU and CPU caches in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coherency {
    /// Not at all.
    None,
    /// The GPU sees what the CPU wrote.
    OneWay,
    /// Both see what the other wrote.
    TwoWay,
}

/// The PAT of one family of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatTable {
    name: &'static str,
    entries: u16,
    one_way: u32,
    two_way: u32,
    reserved: u32,
    compressed: u32,
}

const fn bits(indices: &[u32]) -> u32 {
    let mut mask = 0;
    let mut at = 0;
    while at < indices.len() {
        mask |= 1 << indices[at];
        at += 1;
    }
    mask
}

impl PatTable {
    /// Battlemage (graphics 20.01).
    pub const BMG: Self = Self {
        name: "BMG",
        entries: 28,
        one_way: bits(&[1, 4, 5, 22, 26]),
        two_way: bits(&[2, 7, 23, 27]),
        reserved: bits(&[16, 17, 18, 19]),
        compressed: bits(&[9, 10, 11, 12, 14, 15, 21, 25]),
    };
    /// Lunar Lake and graphics 20.02 (20.02, 20.04): Battlemage's with four more.
    pub const LNL: Self = Self {
        name: "LNL",
        entries: 32,
        one_way: Self::BMG.one_way | bits(&[30]),
        two_way: Self::BMG.two_way | bits(&[31]),
        reserved: Self::BMG.reserved,
        compressed: Self::BMG.compressed | bits(&[29]),
    };
    /// Panther Lake, Wildcat Lake (graphics 30.xx): Lunar Lake's with index 16.
    pub const XE3: Self = Self {
        name: "Xe3",
        one_way: Self::LNL.one_way | bits(&[16]),
        reserved: bits(&[17, 18, 19]),
        compressed: Self::LNL.compressed | bits(&[16]),
        ..Self::LNL
    };
    /// Nova Lake (graphics 35.xx except 35.11): Xe3's with indices 18 and 19.
    pub const XE3P_LPG: Self = Self {
        name: "Xe3p LPG",
        one_way: Self::XE3.one_way | bits(&[19]),
        reserved: bits(&[17]),
        ..Self::XE3
    };
    /// Crescent Island (graphics 35.11).
    pub const XE3P_XPC: Self = Self {
        name: "Xe3p XPC",
        entries: 32,
        one_way: bits(&[1, 4, 6, 9, 24, 27, 30]),
        two_way: bits(&[2, 7, 10, 25, 28, 31]),
        reserved: bits(&[11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]),
        compressed: 0,
    };
    /// Ponte Vecchio (graphics 12.60).
    pub const PVC: Self =
        Self { name: "PVC", entries: 8, one_way: bits(&[3, 5, 7]), two_way: 0, reserved: 0, compressed: 0 };

    /// The table of a graphics version, `None` for hardware this crate does not know.
    #[must_use]
    pub const fn of(graphics: IpVersion) -> Option<Self> {
        match (graphics.major, graphics.minor) {
            (12, 60) => Some(Self::PVC),
            (20, 1) => Some(Self::BMG),
            (20, 2 | 4) => Some(Self::LNL),
            (30, _) => Some(Self::XE3),
            (35, 11) => Some(Self::XE3P_XPC),
            (35, _) => Some(Self::XE3P_LPG),
            _ => None,
        }
    }

    pub(super) fn of_device(gts: &[Gt]) -> Option<Self> {
        gts.iter().find(|gt| gt.kind == GtKind::Main).and_then(|gt| Self::of(gt.ip_version))
    }

    /// The family's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How many indices there are.
    #[must_use]
    pub const fn entries(&self) -> u16 {
        self.entries
    }

    /// How `index` keeps caches in step; `None` when it is reserved or beyond the table, which the driver refuses.
    #[must_use]
    pub const fn coherency(&self, index: PatIndex) -> Option<Coherency> {
        if !self.has(index) {
            None
        } else if self.two_way >> index.0 & 1 != 0 {
            Some(Coherency::TwoWay)
        } else if self.one_way >> index.0 & 1 != 0 {
            Some(Coherency::OneWay)
        } else {
            Some(Coherency::None)
        }
    }

    /// Whether memory under `index` may be compressed.
    #[must_use]
    pub const fn is_compressed(&self, index: PatIndex) -> bool {
        self.has(index) && self.compressed >> index.0 & 1 != 0
    }

    /// A cached, coherent index: for mirrors and user pointers.
    #[must_use]
    pub const fn coherent(&self) -> PatIndex {
        // PVC has no two-way coherency; 3 is its write-back.
        if self.two_way == 0 { PatIndex(3) } else { PatIndex::COHERENT }
    }

    const fn has(&self, index: PatIndex) -> bool {
        index.0 < self.entries && self.reserved >> index.0 & 1 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The driver's tables as strings, one letter an index: n non-coherent, 1 one-way, 2 two-way, - reserved.
    const COHERENCY: [(PatTable, &str); 6] = [
        (PatTable::BMG, "n12n11n2nnnnnnnn----nn12nn12"),
        (PatTable::LNL, "n12n11n2nnnnnnnn----nn12nn12nn12"),
        (PatTable::XE3, "n12n11n2nnnnnnnn1---nn12nn12nn12"),
        (PatTable::XE3P_LPG, "n12n11n2nnnnnnnn1-n1nn12nn12nn12"),
        (PatTable::XE3P_XPC, "n12n1n12n12------------n12n12n12"),
        (PatTable::PVC, "nnn1n1n1"),
    ];

    #[test]
    fn coherency_of_every_index_of_every_part() {
        for (table, letters) in COHERENCY {
            assert_eq!(usize::from(table.entries()), letters.len(), "{}", table.name());
            for (index, letter) in letters.chars().enumerate() {
                let expected = match letter {
                    'n' => Some(Coherency::None),
                    '1' => Some(Coherency::OneWay),
                    '2' => Some(Coherency::TwoWay),
                    _ => None,
                };
                assert_eq!(table.coherency(PatIndex(index as u16)), expected, "{} {index}", table.name());
            }
            assert_eq!(table.coherency(PatIndex(table.entries())), None);
            assert_eq!(table.coherency(PatIndex(u16::MAX)), None);
        }
    }

    #[test]
    fn compressed_indices() {
        let compressed = |table: &PatTable| -> Vec<u16> {
            (0..40).filter(|&index| table.is_compressed(PatIndex(index))).collect()
        };
        let bmg = [9, 10, 11, 12, 14, 15, 21, 25];
        assert_eq!(compressed(&PatTable::BMG), bmg);
        assert_eq!(compressed(&PatTable::LNL), [&bmg[..], &[29]].concat());
        assert_eq!(compressed(&PatTable::XE3), [9, 10, 11, 12, 14, 15, 16, 21, 25, 29]);
        assert_eq!(compressed(&PatTable::XE3P_LPG), compressed(&PatTable::XE3));
        assert_eq!(compressed(&PatTable::XE3P_XPC), [0u16; 0]);
        assert_eq!(compressed(&PatTable::PVC), [0u16; 0]);
    }

    #[test]
    fn the_coherent_index_is_coherent_on_every_part() {
        for (table, _) in COHERENCY {
            assert!(
                matches!(table.coherency(table.coherent()), Some(Coherency::OneWay | Coherency::TwoWay)),
                "{}",
                table.name()
            );
            // What unmap and prefetch pass: valid everywhere.
            assert!(table.coherency(PatIndex(0)).is_some());
        }
    }

    #[test]
    fn tables_are_found_by_graphics_version() {
        let of =
            |major, minor| PatTable::of(IpVersion { major, minor, revision: 0 }).map(|table| table.name());
        assert_eq!(of(20, 1), Some("BMG"));
        assert_eq!(of(20, 2), Some("LNL"));
        assert_eq!(of(20, 4), Some("LNL"));
        assert_eq!(of(30, 0), Some("Xe3"));
        assert_eq!(of(30, 3), Some("Xe3"));
        assert_eq!(of(35, 10), Some("Xe3p LPG"));
        assert_eq!(of(35, 11), Some("Xe3p XPC"));
        assert_eq!(of(12, 60), Some("PVC"));
        assert_eq!(of(12, 70), None);
        assert_eq!(of(21, 0), None);
    }
}
