//! Intel GPUs by PCI device id: those known to serve page faults, which is what shared virtual memory needs.
//!
//! From `include/drm/intel/pciids.h` and the `has_usm` of each platform in `drivers/gpu/drm/xe/xe_pci.c`. An id that is not
//! here is *not known*, which is neither yes nor no: the driver has the last word.

/// A family of Intel GPUs that serve page faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct IntelFamily {
    pub(in crate::doctor) name: &'static str,
    /// xe binds to it only when told to (`force_probe`), as of kernel 7.3.
    pub(in crate::doctor) needs_force_probe: bool,
    ids: &'static [(u16, u16)],
}

const FAMILIES: &[IntelFamily] = &[
    IntelFamily {
        name: "Ponte Vecchio",
        needs_force_probe: true,
        ids: &[(0x0b69, 0x0b69), (0x0b6e, 0x0b6e), (0x0bd4, 0x0bdb), (0x0be0, 0x0be1), (0x0be5, 0x0be5)],
    },
    IntelFamily {
        name: "Lunar Lake",
        needs_force_probe: false,
        ids: &[(0x6420, 0x6420), (0x64a0, 0x64a0), (0x64b0, 0x64b0)],
    },
    IntelFamily {
        name: "Battlemage",
        needs_force_probe: false,
        ids: &[
            (0xe202, 0xe202),
            (0xe209, 0xe209),
            (0xe20b, 0xe20d),
            (0xe210, 0xe212),
            (0xe215, 0xe216),
            (0xe220, 0xe223),
        ],
    },
    IntelFamily {
        name: "Panther Lake",
        needs_force_probe: false,
        ids: &[(0xb080, 0xb087), (0xb08f, 0xb090), (0xb0a0, 0xb0a0), (0xb0b0, 0xb0b0)],
    },
    IntelFamily { name: "Wildcat Lake", needs_force_probe: false, ids: &[(0xfd80, 0xfd81)] },
];

/// The family of a PCI device id of vendor 8086, if it is one that is known to serve page faults.
pub(in crate::doctor) fn intel_family(device: u16) -> Option<&'static IntelFamily> {
    FAMILIES.iter().find(|family| family.ids.iter().any(|(first, last)| (*first..=*last).contains(&device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_ids_and_their_neighbours() {
        let name = |id| intel_family(id).map(|family| family.name);
        assert_eq!(name(0xe20b), Some("Battlemage"));
        assert_eq!(name(0x64a0), Some("Lunar Lake"));
        assert_eq!(name(0xb08f), Some("Panther Lake"));
        assert_eq!(name(0x0bd5), Some("Ponte Vecchio"));
        // DG2 and Meteor Lake serve no page faults.
        assert_eq!((name(0x56a0), name(0x7d55)), (None, None));
    }

    #[test]
    fn no_id_is_in_two_families() {
        let mut all: Vec<(u16, u16)> =
            FAMILIES.iter().flat_map(|family| family.ids.iter().copied()).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(all.iter().all(|(first, last)| first <= last));
    }
}
