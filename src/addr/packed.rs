//! The 64-bit form of a device address.
//!
//! A mapping is page-aligned, so 12 low bits of every address are free, and they are exactly enough:
//!
//! ```text
//!  63                                   12 11      6 5     2 1  0
//! +---------------------------------------+---------+-------+----+
//! |        addr[63:12]  (52 bits)         | order+1 | proto | dir|
//! +---------------------------------------+---------+-------+----+
//! ```
//!
//! The order is stored plus one, so a real mapping is never zero: zeroed tables mean "no mapping", and a mapping at bus
//! address 0 can be told from a hole, unlike in the kernel's arrays. Order field 63 never occurs, which leaves the
//! all-ones word for "mapping failed". Natural alignment is not assumed (the tighter trailing-ones form needs it),
//! because the kernel itself emits orders at addresses that are not aligned to them (`drm_gpusvm_hmm_pfn_to_order`).

use std::fmt;
use std::num::NonZeroU64;

use super::device::{DeviceAddr, InterconnectProtocol};

const ADDR_MASK: u64 = !0xfff;
const ORDER_SHIFT: u32 = 6;
const ORDER_MASK: u64 = 0x3f;
const PROTO_SHIFT: u32 = 2;
const PROTO_MASK: u64 = 0xf;
const MAX_ORDER: u32 = 51;
const ERROR_WORD: u64 = u64::MAX;

/// A [`DeviceAddr`] in one non-zero 64-bit word, without loss: page-aligned address, order 0 to 51, protocol 0 to 15.
///
/// `Option<PackedDeviceAddr>` is eight bytes, with `None` as zero. What does not fit is refused by [`TryFrom`], never
/// truncated.
///
/// ```
/// use drm_pagemap::addr::{DeviceAddr, Direction, InterconnectProtocol, PackedDeviceAddr};
///
/// let wide = DeviceAddr::encode(0x4000_0000, InterconnectProtocol::DRIVER, 9, Direction::ToDevice)?;
/// let packed = PackedDeviceAddr::try_from(wide)?;
/// assert_eq!(packed.unpack(), Ok(wide));
/// assert_eq!(size_of::<Option<PackedDeviceAddr>>(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct PackedDeviceAddr(NonZeroU64);

const _: () = assert!(size_of::<Option<PackedDeviceAddr>>() == 8);

/// Why a [`DeviceAddr`] has no packed form, or a word is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// The address is not a multiple of 4 KiB.
    Unaligned(u64),
    /// The order is above 51.
    Order(u32),
    /// The protocol is above 15.
    Protocol(InterconnectProtocol),
    /// The word, or the address, stands for a failed mapping.
    MappingError,
    /// The word is not one that packing produces.
    NotPacked(u64),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unaligned(addr) => write!(f, "address {addr:#x} is not a multiple of 4 KiB"),
            Self::Order(order) => write!(f, "order {order} is above {MAX_ORDER}"),
            Self::Protocol(proto) => write!(f, "protocol {proto:?} is above {PROTO_MASK}"),
            Self::MappingError => f.write_str("the mapping failed"),
            Self::NotPacked(word) => write!(f, "{word:#x} is not a packed device address"),
        }
    }
}

impl std::error::Error for PackError {}

impl PackedDeviceAddr {
    /// The word that stands for a failed mapping.
    pub const MAPPING_ERROR: Self = Self(NonZeroU64::MAX);

    /// The word itself, for an `AtomicU64` slot.
    #[must_use]
    pub const fn word(self) -> NonZeroU64 {
        self.0
    }

    /// From a word read back from a slot.
    ///
    /// # Errors
    ///
    /// [`PackError::NotPacked`] for a word that neither packing nor the error sentinel produces.
    pub const fn from_word(word: NonZeroU64) -> Result<Self, PackError> {
        let order_field = (word.get() >> ORDER_SHIFT) & ORDER_MASK;
        if word.get() == ERROR_WORD || (order_field >= 1 && order_field <= MAX_ORDER as u64 + 1) {
            Ok(Self(word))
        } else {
            Err(PackError::NotPacked(word.get()))
        }
    }

    /// Whether this is the error sentinel.
    #[must_use]
    pub const fn is_mapping_error(self) -> bool {
        self.0.get() == ERROR_WORD
    }

    /// The 16-byte form.
    ///
    /// # Errors
    ///
    /// [`PackError::MappingError`] for the sentinel, which has no fields.
    pub const fn unpack(self) -> Result<DeviceAddr, PackError> {
        let word = self.0.get();
        if word == ERROR_WORD {
            return Err(PackError::MappingError);
        }
        Ok(DeviceAddr::encode_truncating(
            word & ADDR_MASK,
            (word >> PROTO_SHIFT) & PROTO_MASK,
            ((word >> ORDER_SHIFT) & ORDER_MASK) as u32 - 1,
            (word & 3) as u32,
        ))
    }

    const fn pack(wide: DeviceAddr) -> Result<Self, PackError> {
        let (addr, order, proto) = (wide.addr(), wide.order(), wide.protocol());
        if wide.is_mapping_error() {
            return Err(PackError::MappingError);
        }
        if addr & !ADDR_MASK != 0 {
            return Err(PackError::Unaligned(addr));
        }
        if order > MAX_ORDER {
            return Err(PackError::Order(order));
        }
        if proto.raw() > PROTO_MASK {
            return Err(PackError::Protocol(proto));
        }
        let word = addr
            | ((order as u64 + 1) << ORDER_SHIFT)
            | (proto.raw() << PROTO_SHIFT)
            | wide.direction() as u64;
        match NonZeroU64::new(word) {
            Some(word) => Ok(Self(word)),
            None => Err(PackError::NotPacked(word)),
        }
    }
}

impl TryFrom<DeviceAddr> for PackedDeviceAddr {
    type Error = PackError;

    fn try_from(wide: DeviceAddr) -> Result<Self, PackError> {
        Self::pack(wide)
    }
}

impl TryFrom<PackedDeviceAddr> for DeviceAddr {
    type Error = PackError;

    fn try_from(packed: PackedDeviceAddr) -> Result<Self, PackError> {
        packed.unpack()
    }
}

impl fmt::Debug for PackedDeviceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unpack() {
            Ok(wide) => write!(f, "Packed{wide:?}"),
            Err(_) => f.write_str("PackedDeviceAddr(mapping error)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wide(addr: u64, proto: u64, order: u32, dir: u64) -> DeviceAddr {
        DeviceAddr::encode_truncating(addr, proto, order, dir as u32)
    }

    #[test]
    fn every_order_protocol_and_direction_round_trips_at_the_edges() {
        for addr in [0, 0x1000, 0x12_3456_7000, 1 << 46, 1 << 56, ADDR_MASK] {
            for order in 0..=MAX_ORDER {
                for proto in 0..=PROTO_MASK {
                    for dir in 0..4 {
                        let original = wide(addr, proto, order, dir);
                        let packed = PackedDeviceAddr::try_from(original).unwrap();
                        assert_ne!(packed.word().get(), ERROR_WORD);
                        assert_eq!(PackedDeviceAddr::from_word(packed.word()), Ok(packed));
                        assert_eq!(packed.unpack(), Ok(original));
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let pack = |w| PackedDeviceAddr::try_from(w);
        assert_eq!(pack(wide(0x800, 0, 0, 0)), Err(PackError::Unaligned(0x800)));
        assert_eq!(pack(wide(0, 0, 52, 0)), Err(PackError::Order(52)));
        let proto = InterconnectProtocol::try_from(16).unwrap();
        assert_eq!(pack(wide(0, 16, 0, 0)), Err(PackError::Protocol(proto)));
        assert_eq!(pack(DeviceAddr::MAPPING_ERROR), Err(PackError::MappingError));
        assert_eq!(PackedDeviceAddr::MAPPING_ERROR.unpack(), Err(PackError::MappingError));
    }

    #[test]
    fn words_that_packing_never_makes_are_refused() {
        for order_field in (0..64u64).filter(|f| !(1..=52).contains(f)) {
            let word = NonZeroU64::new(0x1000 | (order_field << ORDER_SHIFT)).unwrap();
            assert_eq!(PackedDeviceAddr::from_word(word), Err(PackError::NotPacked(word.get())));
        }
        assert!(PackedDeviceAddr::from_word(NonZeroU64::MAX).unwrap().is_mapping_error());
    }

    proptest! {
        #[test]
        fn packing_is_injective(
            a in (any::<u64>(), 0u64..16, 0u32..52, 0u64..4),
            b in (any::<u64>(), 0u64..16, 0u32..52, 0u64..4),
        ) {
            let make = |(addr, proto, order, dir): (u64, u64, u32, u64)| wide(addr & ADDR_MASK, proto, order, dir);
            let (a, b) = (make(a), make(b));
            let pack = |w| PackedDeviceAddr::try_from(w).unwrap();
            prop_assert_eq!(pack(a) == pack(b), a == b);
            prop_assert_eq!(pack(a).unpack(), Ok(a));
        }
    }
}
