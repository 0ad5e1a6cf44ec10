//! The kinds of places a page can be in.

use std::fmt;

/// Where a page is, as far as the page tables of this process tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// In system memory and mapped: the CPU reads it without a fault.
    System,
    /// The kernel's shared page of zeroes: read before it was ever written. Costs no memory.
    ///
    /// Kernels before 6.7 cannot tell it from [`System`](Self::System); see
    /// [`Support::zero`](super::Support::zero).
    Zero,
    /// In the memory of a device (VRAM). A CPU access brings it back.
    Device,
    /// On a swap device, or still in the swap cache on its way there.
    Swap,
    /// A guard region (`MADV_GUARD_INSTALL`): no memory, and an access is a SIGSEGV.
    Guard,
    /// A note in the page table that stands for no memory: a userfaultfd write-protect or poison marker, or in memory that
    /// never moves to a device (shared, hugetlb) any entry that is not present.
    Marker,
    /// No entry in the page table: never touched, discarded, or not mapped at all. A page of a file or of shared memory
    /// that this process has not touched is here too, though it may be in the page cache; so is memory of a
    /// driver's own mapping (`VM_PFNMAP`), which has no pages to speak of.
    Absent,
    /// Not [`System`](Self::System) and not [`Absent`](Self::Absent), but what is left cannot be told page by page:
    /// VRAM or swap cache, or a page that moved while it was looked at. [`Residency::ambiguities`] says how
    /// many of them are in VRAM, [`Scanner`] what makes them rare.
    ///
    /// [`Residency::ambiguities`]: super::Residency::ambiguities
    /// [`Scanner`]: super::Scanner
    Ambiguous,
}

impl Place {
    /// All places, in the order in which pictures list them.
    pub const ALL: [Self; 8] = [
        Self::Device,
        Self::System,
        Self::Zero,
        Self::Swap,
        Self::Ambiguous,
        Self::Marker,
        Self::Guard,
        Self::Absent,
    ];

    /// The lower-case name: `device`, `system`, `zero`, `swap`, `ambiguous`, `marker`, `guard`, `absent`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Zero => "zero",
            Self::Device => "device",
            Self::Swap => "swap",
            Self::Guard => "guard",
            Self::Marker => "marker",
            Self::Absent => "absent",
            Self::Ambiguous => "ambiguous",
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Device => 0,
            Self::System => 1,
            Self::Zero => 2,
            Self::Swap => 3,
            Self::Ambiguous => 4,
            Self::Marker => 5,
            Self::Guard => 6,
            Self::Absent => 7,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is known of a page while a scan is under way; every class ends as one [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Class {
    Absent,
    System,
    /// Present and not anonymous: never in coherent device memory. Told apart only for that question.
    File,
    Zero,
    Guard,
    /// A software entry: device page, swap slot, marker, or a migration in flight.
    Candidate,
    /// A candidate for which `mincore` answers 1: anything but a swap slot outside the swap cache or a marker.
    Cached,
    /// A candidate for which `mincore` answers 0: a swap slot outside the swap cache, or a marker.
    Uncached,
    /// Device-private: the entry is not present.
    Device,
    /// The calibrated entry type says device-private; needs no second look.
    DeviceByType,
    /// Device-coherent: present, but not on a NUMA node.
    Coherent,
    /// Held by an overlay, that is by a software device of this process.
    Overlaid,
    Swap,
    Marker,
    /// The entry type says neither swap nor device: a migration in flight, a poisoned page, an exclusive entry.
    Transient,
    Ambiguous,
}

impl Class {
    /// By number.
    pub(super) const ALL: [Self; 16] = [
        Self::Absent,
        Self::System,
        Self::File,
        Self::Zero,
        Self::Guard,
        Self::Candidate,
        Self::Cached,
        Self::Uncached,
        Self::Device,
        Self::DeviceByType,
        Self::Coherent,
        Self::Overlaid,
        Self::Swap,
        Self::Marker,
        Self::Transient,
        Self::Ambiguous,
    ];

    pub(super) const fn place(self) -> Place {
        match self {
            Self::Absent => Place::Absent,
            Self::System | Self::File => Place::System,
            Self::Zero => Place::Zero,
            Self::Guard => Place::Guard,
            Self::Device | Self::DeviceByType | Self::Coherent | Self::Overlaid => Place::Device,
            Self::Swap => Place::Swap,
            Self::Marker => Place::Marker,
            Self::Candidate | Self::Cached | Self::Uncached | Self::Transient | Self::Ambiguous => {
                Place::Ambiguous
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_listed_once_at_its_index() {
        for (index, place) in Place::ALL.into_iter().enumerate() {
            assert_eq!(place.index(), index);
            assert_eq!(Place::ALL.iter().filter(|p| p.name() == place.name()).count(), 1);
        }
    }

    #[test]
    fn every_class_is_listed_at_its_number() {
        for (number, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number);
        }
        assert_eq!(Class::Ambiguous as usize + 1, Class::ALL.len(), "the last is listed");
    }
}
