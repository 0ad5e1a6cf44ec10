//! What a simulated device is made of.

use crate::xe::{IpVersion, PatTable};

/// The kernel whose driver is simulated: which ioctls, flags and behaviours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KernelVersion {
    /// 6.16: mirrors, prefetch to system memory; a prefetch to VRAM is accepted and does not migrate.
    V6_16,
    /// 6.17: as 6.16, but a prefetch to VRAM of this device crashes the kernel, which is simulated as a panic.
    V6_17,
    /// 6.18: `MADVISE`, `VM_QUERY_MEM_RANGE_ATTRS`, advised prefetch, automatic reset, prefetch to VRAM.
    V6_18,
    /// 6.19: at most 1024 syncs in a call.
    V6_19,
    /// 7.0: regions of devices as preferred location, merging of mirrors, `EXEC_QUEUE_SET_PROPERTY`.
    V7_0,
    /// 7.1: `VM_GET_PROPERTY`, purgeable objects, `NO_VM_OVERCOMMIT`, decompression.
    V7_1,
    /// 7.2.
    V7_2,
    /// 7.3: integrated devices demand a coherent PAT index for mirrors.
    V7_3,
}

impl KernelVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 8] =
        [Self::V6_16, Self::V6_17, Self::V6_18, Self::V6_19, Self::V7_0, Self::V7_1, Self::V7_2, Self::V7_3];

    /// The newest one.
    pub const LATEST: Self = Self::V7_3;

    /// How many ioctls the driver has, from 0x40 on.
    pub(super) const fn ioctls(self) -> u8 {
        match self {
            Self::V6_16 | Self::V6_17 => 12,
            Self::V6_18 | Self::V6_19 => 14,
            Self::V7_0 => 15,
            _ => 16,
        }
    }
}

/// A family of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// Battlemage: Xe2 with its own memory. What the lab emulates too.
    Battlemage,
    /// Lunar Lake: Xe2, integrated.
    LunarLake,
    /// Panther Lake: Xe3, integrated.
    PantherLake,
    /// Ponte Vecchio: own memory with pages of 64 KiB, 57-bit addresses, no GPU atomics on system memory.
    PonteVecchio,
    /// Crescent Island: Xe3p with its own memory, 57-bit addresses.
    CrescentIsland,
    /// Alchemist: own memory, and no page faults, so no SVM.
    Alchemist,
}

/// Facts of a platform (`xe_pci.c`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) device_id: u16,
    pub(super) revision: u8,
    pub(super) graphics: IpVersion,
    pub(super) media: IpVersion,
    pub(super) faults: bool,
    pub(super) discrete: bool,
    pub(super) va_bits: u32,
    pub(super) needs_64k: bool,
    pub(super) may_combine_scratch_and_faults: bool,
    pub(super) device_atomics_on_system: bool,
    pub(super) xe2_or_newer: bool,
}

impl Platform {
    pub(super) const fn facts(self) -> Facts {
        const fn ip(major: u16, minor: u16) -> IpVersion {
            IpVersion { major, minor, revision: 0 }
        }
        let xe2 = Facts {
            device_id: 0xe20b,
            revision: 0,
            graphics: ip(20, 1),
            media: ip(13, 1),
            faults: true,
            discrete: true,
            va_bits: 48,
            needs_64k: false,
            may_combine_scratch_and_faults: true,
            device_atomics_on_system: true,
            xe2_or_newer: true,
        };
        match self {
            Self::Battlemage => xe2,
            Self::LunarLake => {
                Facts { device_id: 0x64a0, graphics: ip(20, 4), media: ip(20, 0), discrete: false, ..xe2 }
            }
            Self::PantherLake => {
                Facts { device_id: 0xb080, graphics: ip(30, 0), media: ip(30, 0), discrete: false, ..xe2 }
            }
            Self::PonteVecchio => Facts {
                device_id: 0x0bd5,
                graphics: ip(12, 60),
                media: ip(12, 60),
                va_bits: 57,
                needs_64k: true,
                may_combine_scratch_and_faults: false,
                device_atomics_on_system: false,
                xe2_or_newer: false,
                ..xe2
            },
            Self::CrescentIsland => Facts {
                device_id: 0x674c,
                graphics: ip(35, 11),
                media: ip(35, 3),
                va_bits: 57,
                may_combine_scratch_and_faults: false,
                ..xe2
            },
            Self::Alchemist => Facts {
                device_id: 0x56a0,
                graphics: ip(12, 55),
                media: ip(12, 55),
                faults: false,
                needs_64k: true,
                may_combine_scratch_and_faults: false,
                xe2_or_newer: false,
                ..xe2
            },
        }
    }
}

/// How a simulated xe device is made.
///
/// ```
/// use drm_pagemap::sim::xe::{KernelVersion, Platform, XeConfig};
///
/// let config = XeConfig::new(Platform::Battlemage).vram(64 << 20).kernel(KernelVersion::V6_18);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct XeConfig {
    pub(super) platform: Platform,
    pub(super) kernel: KernelVersion,
    pub(super) tiles: Vec<u64>,
    pub(super) link: Option<u32>,
    pub(super) notifier_bytes: u64,
    pub(super) migrates: bool,
    pub(super) compresses: bool,
}

impl XeConfig {
    /// A device of `platform` under the newest kernel: one tile, 256 MiB of VRAM if it has any, no link to other devices.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            kernel: KernelVersion::LATEST,
            tiles: vec![256 << 20],
            link: None,
            notifier_bytes: 512 << 20,
            migrates: true,
            compresses: true,
        }
    }

    /// Another kernel.
    #[must_use]
    pub fn kernel(mut self, kernel: KernelVersion) -> Self {
        self.kernel = kernel;
        self
    }

    /// One tile with `bytes` of VRAM. Without effect on integrated platforms.
    #[must_use]
    pub fn vram(mut self, bytes: u64) -> Self {
        self.tiles = vec![bytes];
        self
    }

    /// Several tiles, each with its own VRAM.
    #[must_use]
    pub fn tiles(mut self, bytes: &[u64]) -> Self {
        self.tiles = bytes.to_vec();
        self
    }

    /// A fast link to every other device with the same number.
    #[must_use]
    pub fn linked(mut self, group: u32) -> Self {
        self.link = Some(group);
        self
    }

    /// Size of the blocks that the driver watches for changes, and that no migration crosses: the module parameter
    /// `svm_notifier_size`. 512 MiB unless set; a power of two.
    #[must_use]
    pub fn notifier_size(mut self, bytes: u64) -> Self {
        self.notifier_bytes = bytes;
        self
    }

    /// A kernel built without `CONFIG_DRM_XE_PAGEMAP`: the device looks the same and nothing migrates.
    #[must_use]
    pub fn without_migration(mut self) -> Self {
        self.migrates = false;
        self
    }

    /// Firmware that left the device's memory compression (flat CCS) off.
    #[must_use]
    pub fn without_compression(mut self) -> Self {
        self.compresses = false;
        self
    }

    pub(super) fn facts(&self) -> Facts {
        self.platform.facts()
    }

    /// Bytes of VRAM of each tile; none on integrated platforms.
    pub(super) fn vram_tiles(&self) -> &[u64] {
        if self.facts().discrete { &self.tiles } else { &[] }
    }

    pub(super) fn tile_count(&self) -> u32 {
        if self.facts().discrete { self.tiles.len() as u32 } else { 1 }
    }

    /// Bits of the regions there are: system memory and each tile's VRAM.
    pub(super) fn region_mask(&self) -> u32 {
        (1 << (self.vram_tiles().len() + 1)) - 1
    }

    pub(super) fn pat(&self) -> PatTable {
        // Alchemist's table has 4 entries, all of which the tests' indices 0 and 2 fall into; no SVM rides on it.
        PatTable::of(self.facts().graphics).unwrap_or(PatTable::PVC)
    }

    pub(super) fn since(&self, kernel: KernelVersion) -> bool {
        self.kernel >= kernel
    }
}
