//! Bytes per place, and the range in one word.

use std::fmt;
use std::ops::RangeInclusive;

use super::place::Place;
use super::run::Run;

/// How many bytes of a scanned range are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    bytes: [u64; Place::ALL.len()],
    huge: [u64; Place::ALL.len()],
    device: (u64, u64),
}

impl Summary {
    /// Of runs, of whose ambiguous pages `ambiguous` says how many bytes are in VRAM, from least to most.
    pub(super) fn of(runs: &[Run], ambiguous: impl FnOnce() -> (u64, u64)) -> Self {
        let mut summary = Self::default();
        for run in runs {
            let index = run.place().index();
            summary.bytes[index] += run.len();
            if run.is_huge() {
                summary.huge[index] += run.len();
            }
        }
        let certain = summary.bytes(Place::Device);
        let (least, most) = match summary.bytes(Place::Ambiguous) {
            0 => (0, 0),
            _ => ambiguous(),
        };
        summary.device = (certain + least, certain + most);
        summary
    }

    /// Bytes in `place`, counting only pages known one by one.
    #[must_use]
    pub const fn bytes(&self, place: Place) -> u64 {
        self.bytes[place.index()]
    }

    /// Those of [`bytes`](Self::bytes) that are mapped by huge entries.
    #[must_use]
    pub const fn huge_bytes(&self, place: Place) -> u64 {
        self.huge[place.index()]
    }

    /// Bytes in VRAM, from least to most: the pages known one by one, and those of [`Place::Ambiguous`] pages that
    /// counting shows to be there. The two are equal when the number is exact, which is the rule.
    #[must_use]
    pub const fn device_bytes(&self) -> RangeInclusive<u64> {
        self.device.0..=self.device.1
    }

    /// Bytes that were looked at.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// The whole in one word.
    #[must_use]
    pub fn composition(&self) -> Composition {
        let total = self.total();
        let system = self.bytes(Place::System) + self.bytes(Place::Zero);
        let (device, ambiguous) = (self.bytes(Place::Device), self.bytes(Place::Ambiguous));
        let (least, most) = (self.device.0 - device, self.device.1 - device);
        if total == 0 {
            Composition::Empty
        } else if system + device + ambiguous < total || most < ambiguous {
            // A page that is ambiguous and not in VRAM is in swap.
            Composition::Unpopulated
        } else if least < ambiguous {
            Composition::Unknown
        } else if system == total {
            Composition::System
        } else if system == 0 {
            Composition::Device
        } else {
            Composition::Mixed
        }
    }
}

/// What a range is made of, in the terms of the kernel's `enum drm_gpusvm_scan_result` (`drm_gpusvm.h`).
///
/// The page tables do not say *which* device holds a page, so the kernel's `EQUAL`, `OTHER` and `MIXED_DEVICE` are all
/// [`Device`](Self::Device) here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "drm_gpusvm_scan_result")]
pub enum Composition {
    /// There is no page in the range.
    Empty,
    /// At least one page is not populated: absent, swapped out, a guard or a marker.
    #[doc(alias = "DRM_GPUSVM_SCAN_UNPOPULATED")]
    Unpopulated,
    /// Every page is in system memory (the shared zero page counts).
    #[doc(alias = "DRM_GPUSVM_SCAN_SYSTEM")]
    System,
    /// Every page is in the memory of a device.
    #[doc(alias = "DRM_GPUSVM_SCAN_EQUAL")]
    #[doc(alias = "DRM_GPUSVM_SCAN_OTHER")]
    #[doc(alias = "DRM_GPUSVM_SCAN_MIXED_DEVICE")]
    Device,
    /// Every page is populated, some in system memory and some in the memory of a device.
    #[doc(alias = "DRM_GPUSVM_SCAN_MIXED")]
    Mixed,
    /// No page is known to be unpopulated, but some may be in swap or in VRAM, and counting does not settle it.
    Unknown,
}

impl Composition {
    /// The word: `empty`, `unpopulated`, `system`, `device`, `mixed`, `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Unpopulated => "unpopulated",
            Self::System => "system",
            Self::Device => "device",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Composition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
