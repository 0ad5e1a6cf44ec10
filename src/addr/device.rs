//! `struct drm_pagemap_addr`, bit for bit.

use std::fmt;

use bytemuck::{Pod, Zeroable};

const PROTO_BITS: u32 = 54;
const ORDER_BITS: u32 = 8;
const PROTO_MASK: u64 = (1 << PROTO_BITS) - 1;
const ORDER_MASK: u64 = (1 << ORDER_BITS) - 1;
const DIR_SHIFT: u32 = PROTO_BITS + ORDER_BITS;

/// How a device reaches the pages behind a [`DeviceAddr`], which is also who must undo the mapping.
///
/// The kernel's type is an enum with room for values private to a driver, so this is a 54-bit number with two names and
/// not a Rust enum. In the kernel's tree (7.3) xe uses `DRIVER` for its own VRAM and `DRIVER + 1` for a peer's VRAM.
///
/// ```
/// use drm_pagemap::addr::InterconnectProtocol as Protocol;
///
/// assert_eq!(Protocol::private(1), Some(Protocol::try_from(2)?));
/// # Ok::<(), drm_pagemap::addr::EncodeError>(())
/// ```
#[doc(alias = "drm_interconnect_protocol")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterconnectProtocol(u64);

impl InterconnectProtocol {
    /// System memory: the address is an ordinary DMA address, unmapped by the DMA API.
    #[doc(alias = "DRM_INTERCONNECT_SYSTEM")]
    pub const SYSTEM: Self = Self(0);
    /// The driver's own meaning; the driver's `device_unmap` undoes the mapping.
    #[doc(alias = "DRM_INTERCONNECT_DRIVER")]
    pub const DRIVER: Self = Self(1);

    /// The `n`th protocol private to a driver: `DRIVER + n`. `None` when it does not fit in 54 bits.
    #[must_use]
    pub const fn private(n: u64) -> Option<Self> {
        match Self::DRIVER.0.checked_add(n) {
            Some(raw) if raw <= PROTO_MASK => Some(Self(raw)),
            _ => None,
        }
    }

    /// The number as the kernel stores it.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Whether the mapping belongs to the DMA API and not to the driver.
    #[must_use]
    pub const fn is_system(self) -> bool {
        self.0 == 0
    }
}

impl TryFrom<u64> for InterconnectProtocol {
    type Error = EncodeError;

    fn try_from(raw: u64) -> Result<Self, EncodeError> {
        if raw > PROTO_MASK { Err(EncodeError::Protocol(raw)) } else { Ok(Self(raw)) }
    }
}

impl fmt::Debug for InterconnectProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("SYSTEM"),
            1 => f.write_str("DRIVER"),
            n => write!(f, "DRIVER+{}", n - 1),
        }
    }
}

/// The direction of a DMA mapping, with the kernel's numbers.
#[doc(alias = "dma_data_direction")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    #[doc(alias = "DMA_BIDIRECTIONAL")]
    Bidirectional = 0,
    /// The device reads.
    #[doc(alias = "DMA_TO_DEVICE")]
    ToDevice = 1,
    /// The device writes.
    #[doc(alias = "DMA_FROM_DEVICE")]
    FromDevice = 2,
    /// No transfer.
    #[doc(alias = "DMA_NONE")]
    None = 3,
}

impl Direction {
    /// From the low two bits of `bits`, which cover every value.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Bidirectional,
            1 => Self::ToDevice,
            2 => Self::FromDevice,
            _ => Self::None,
        }
    }
}

/// Why an address cannot be written down as a [`DeviceAddr`]: C would have dropped bits without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The protocol number needs more than 54 bits.
    Protocol(u64),
    /// The order needs more than 8 bits.
    Order(u32),
    /// The address is the value that stands for a failed mapping.
    MappingError,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(raw) => write!(f, "protocol {raw:#x} does not fit in 54 bits"),
            Self::Order(order) => write!(f, "order {order} does not fit in 8 bits"),
            Self::MappingError => f.write_str("the all-ones address means that mapping failed"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// One mapping of memory for a device: address, protocol, order and direction, in the kernel's 16 bytes.
///
/// The second word holds the protocol in bits 0..54, the order in 54..62 and the direction in 62..64, which is how gcc
/// and clang lay out the C bit-fields on every little-endian machine.
///
/// ```
/// use drm_pagemap::addr::{DeviceAddr, Direction, InterconnectProtocol};
///
/// let addr = DeviceAddr::encode(0x4000_0000, InterconnectProtocol::DRIVER, 9, Direction::ToDevice)?;
/// assert_eq!(bytemuck::bytes_of(&addr)[8..], [0x01, 0, 0, 0, 0, 0, 0x40, 0x42]);
/// assert_eq!(addr.len(4096), Some(2 << 20));
/// # Ok::<(), drm_pagemap::addr::EncodeError>(())
/// ```
#[doc(alias = "drm_pagemap_device_addr")]
#[doc(alias = "drm_pagemap_addr")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct DeviceAddr {
    addr: u64,
    meta: u64,
}

const _: () = assert!(size_of::<DeviceAddr>() == 16 && align_of::<DeviceAddr>() == 8);

// SAFETY: all-zero bytes are two zero integers, a valid value.
unsafe impl Zeroable for DeviceAddr {}
// SAFETY: `repr(C)` with two u64 fields: no padding (16 bytes, asserted above), any bit pattern is valid, `Copy`.
unsafe impl Pod for DeviceAddr {}

impl DeviceAddr {
    /// What a failed mapping looks like: the kernel signals it in-band, with an address of all ones.
    #[doc(alias = "DMA_MAPPING_ERROR")]
    pub const MAPPING_ERROR: Self = Self { addr: u64::MAX, meta: 0 };

    /// Writes down a mapping of `PAGE_SIZE << order` bytes at `addr`.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when a field does not fit, or `addr` is the value reserved for failure.
    #[doc(alias = "drm_pagemap_device_addr_encode")]
    #[doc(alias = "drm_pagemap_addr_encode")]
    pub const fn encode(
        addr: u64,
        proto: InterconnectProtocol,
        order: u32,
        dir: Direction,
    ) -> Result<Self, EncodeError> {
        if addr == u64::MAX {
            return Err(EncodeError::MappingError);
        }
        if order as u64 > ORDER_MASK {
            return Err(EncodeError::Order(order));
        }
        Ok(Self::encode_truncating(addr, proto.0, order, dir as u32))
    }

    /// What `drm_pagemap_addr_encode` does in C, including the bits that it drops without a word.
    #[must_use]
    pub const fn encode_truncating(addr: u64, proto: u64, order: u32, dir: u32) -> Self {
        let meta = (proto & PROTO_MASK)
            | ((order as u64 & ORDER_MASK) << PROTO_BITS)
            | ((dir as u64 & 3) << DIR_SHIFT);
        Self { addr, meta }
    }

    /// The DMA address, or the driver's own kind of address.
    #[must_use]
    pub const fn addr(self) -> u64 {
        self.addr
    }

    /// The interconnect protocol.
    #[must_use]
    pub const fn protocol(self) -> InterconnectProtocol {
        InterconnectProtocol(self.meta & PROTO_MASK)
    }

    /// The order: the mapping is `PAGE_SIZE << order` bytes long.
    #[must_use]
    pub const fn order(self) -> u32 {
        ((self.meta >> PROTO_BITS) & ORDER_MASK) as u32
    }

    /// The direction of transfer.
    #[must_use]
    pub const fn direction(self) -> Direction {
        Direction::from_bits(self.meta >> DIR_SHIFT)
    }

    /// Length in bytes for pages of `page_size`, or `None` when it exceeds 64 bits.
    #[must_use]
    pub const fn len(self, page_size: u64) -> Option<u64> {
        if self.order() > page_size.leading_zeros() { None } else { Some(page_size << self.order()) }
    }

    /// Whether this is [`DeviceAddr::MAPPING_ERROR`]: the kernel looks at the address alone.
    #[must_use]
    pub const fn is_mapping_error(self) -> bool {
        self.addr == u64::MAX
    }
}

impl fmt::Debug for DeviceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_mapping_error() {
            return f.write_str("DeviceAddr(mapping error)");
        }
        write!(
            f,
            "DeviceAddr({:#x}, {:?}, order {}, {:?})",
            self.addr,
            self.protocol(),
            self.order(),
            self.direction()
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// addr, proto, order, dir, second word: dumped from the C struct compiled by gcc 12 for x86-64.
    const DUMP: &[(u64, u64, u32, u32, u64)] = &[
        (0, 0, 0, 0, 0),
        (0x0123_4567_89ab_cdef, 0, 0, 0, 0),
        (0, 1, 0, 0, 0x0000_0000_0000_0001),
        (0, (1 << 54) - 1, 0, 0, 0x003f_ffff_ffff_ffff),
        (0, 0, 1, 0, 0x0040_0000_0000_0000),
        (0, 0, 255, 0, 0x3fc0_0000_0000_0000),
        (0, 0, 0, 1, 0x4000_0000_0000_0000),
        (0, 0, 0, 2, 0x8000_0000_0000_0000),
        (0, 0, 0, 3, 0xc000_0000_0000_0000),
        (0x12_3456_7000, 0, 0, 0, 0),
        (0x4000_0000, 1, 9, 1, 0x4240_0000_0000_0001),
        (0, 0, 256, 4, 0),
        (u64::MAX, 0, 0, 0, 0),
    ];

    #[test]
    fn bytes_equal_the_c_compilers() {
        for &(addr, proto, order, dir, meta) in DUMP {
            let encoded = DeviceAddr::encode_truncating(addr, proto, order, dir);
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&addr.to_le_bytes());
            bytes[8..].copy_from_slice(&meta.to_le_bytes());
            assert_eq!(bytemuck::bytes_of(&encoded), bytes, "{addr:#x} {proto:#x} {order} {dir}");
        }
    }

    #[test]
    fn what_c_would_truncate_is_refused() {
        let encode = |addr, order| {
            DeviceAddr::encode(addr, InterconnectProtocol::SYSTEM, order, Direction::Bidirectional)
        };
        assert_eq!(encode(0, 256), Err(EncodeError::Order(256)));
        assert_eq!(encode(u64::MAX, 0), Err(EncodeError::MappingError));
        assert_eq!(InterconnectProtocol::try_from(1 << 54), Err(EncodeError::Protocol(1 << 54)));
        assert_eq!(InterconnectProtocol::private((1 << 54) - 1), None);
        assert!(InterconnectProtocol::private((1 << 54) - 2).is_some());
        assert!(DeviceAddr::MAPPING_ERROR.is_mapping_error());
    }

    #[test]
    fn lengths_beyond_64_bits_are_none() {
        let len = |order| DeviceAddr::encode_truncating(0, 0, order, 0).len(4096);
        assert_eq!(len(51), Some(1 << 63));
        assert_eq!(len(52), None);
        assert_eq!(len(255), None);
    }

    proptest! {
        #[test]
        fn fields_survive(addr in 0..u64::MAX, proto in 0u64..1 << 54, order in 0u32..256, dir in 0u64..4) {
            let proto = InterconnectProtocol::try_from(proto).unwrap();
            let dir = Direction::from_bits(dir);
            let encoded = DeviceAddr::encode(addr, proto, order, dir).unwrap();
            prop_assert_eq!(
                (encoded.addr(), encoded.protocol(), encoded.order(), encoded.direction()),
                (addr, proto, order, dir)
            );
        }
    }
}
