//! Configuration space: identity, BARs, capabilities, and which bits the guest may change.

use super::{Bar, Identity};

/// Size of conventional configuration space in bytes.
pub const CONFIG_SIZE: usize = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BARS: usize = 0x10;
const ROM: usize = 0x30;
const CAPABILITIES: usize = 0x34;

/// A capability to be put into the list.
#[derive(Debug, Clone)]
pub struct Capability {
    /// Where it starts.
    pub at: u8,
    /// Capability identifier.
    pub id: u8,
    /// Bytes behind identifier and next pointer.
    pub body: Vec<u8>,
    /// Bits of `body` that the guest may change; shorter means read-only from there on.
    pub writable: Vec<u8>,
}

impl Capability {
    /// Power management with D3hot and no soft reset.
    pub fn power_management(at: u8) -> Capability {
        Capability { at, id: 0x01, body: vec![0x03, 0x00, 0x08, 0, 0, 0], writable: vec![0, 0, 0x03] }
    }

    /// Advanced features: a reset of the function (FLR), asked for with bit 0 of its control register.
    pub fn function_reset(at: u8) -> Capability {
        Capability {
            at,
            id: Capability::ADVANCED_FEATURES,
            body: vec![6, 0x03, 0, 0],
            writable: vec![0, 0, 1],
        }
    }

    /// Identifier of the advanced features capability.
    pub const ADVANCED_FEATURES: u8 = 0x13;

    /// MSI with one vector and a 64-bit address.
    pub fn msi(at: u8) -> Capability {
        let mut writable = vec![0x71, 0x00];
        writable.extend([0xff; 10]);
        let mut body = vec![0x80, 0x00];
        body.extend([0; 10]);
        Capability { at, id: 0x05, body, writable }
    }
}

/// The configuration space of one function.
#[derive(Debug)]
pub struct ConfigSpace {
    bytes: [u8; CONFIG_SIZE],
    writable: [u8; CONFIG_SIZE],
    bars: Vec<Bar>,
    last_capability: usize,
}

impl ConfigSpace {
    /// A space without capabilities.
    pub fn new(identity: &Identity, bars: &[Bar], rom_size: u32) -> ConfigSpace {
        let mut c = ConfigSpace {
            bytes: [0; CONFIG_SIZE],
            writable: [0; CONFIG_SIZE],
            bars: bars.to_vec(),
            last_capability: CAPABILITIES,
        };
        c.preset(0x00, &identity.vendor.to_le_bytes());
        c.preset(0x02, &identity.device.to_le_bytes());
        c.preset(0x08, &[identity.revision]);
        c.preset(0x09, &identity.class.to_le_bytes()[..3]);
        c.preset(0x2c, &identity.subsystem_vendor.to_le_bytes());
        c.preset(0x2e, &identity.subsystem.to_le_bytes());
        // Memory decoding, bus mastering, parity and SERR reporting, INTx off; the interrupt line.
        c.allow(COMMAND, &[0x46, 0x05]);
        c.allow(0x3c, &[0xff]);
        for bar in bars {
            let at = BARS + 4 * usize::from(bar.index);
            c.preset(at, &[(u8::from(bar.wide) << 2) | (u8::from(bar.prefetchable) << 3)]);
            let mask = !(bar.size - 1);
            let bytes = if bar.wide { 8 } else { 4 };
            c.allow(at, &mask.to_le_bytes()[..bytes]);
        }
        if rom_size > 0 {
            c.allow(ROM, &(!(rom_size - 1) | 1).to_le_bytes());
        }
        c
    }

    /// Sets bytes as they are after reset.
    pub fn preset(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        self.writable[at..at + mask.len()].copy_from_slice(mask);
    }

    /// Appends a capability to the list.
    pub fn add(&mut self, capability: &Capability) {
        let at = usize::from(capability.at);
        self.preset(self.last_capability, &[capability.at]);
        self.preset(at, &[capability.id, 0]);
        self.preset(at + 2, &capability.body);
        self.allow(at + 2, &capability.writable);
        self.last_capability = at + 1;
        self.bytes[STATUS] |= 0x10;
    }

    /// Reads bytes; what lies behind the end reads as zero.
    pub fn read(&self, at: u64, into: &mut [u8]) {
        for (i, byte) in into.iter_mut().enumerate() {
            let index = usize::try_from(at).ok().and_then(|at| at.checked_add(i));
            *byte = index.and_then(|i| self.bytes.get(i)).copied().unwrap_or(0);
        }
    }

    /// Writes the bits that the guest may change.
    pub fn write(&mut self, at: u64, from: &[u8]) {
        let Ok(at) = usize::try_from(at) else { return };
        for (i, byte) in from.iter().enumerate() {
            let Some(index) = at.checked_add(i).filter(|i| *i < CONFIG_SIZE) else { return };
            let mask = self.writable[index];
            self.bytes[index] = (self.bytes[index] & !mask) | (byte & mask);
        }
    }

    /// Whether the guest asks for a reset of the function, given where its capabilities lie.
    pub fn reset_requested(&self, capabilities: &[Capability]) -> bool {
        let mut features = capabilities.iter().filter(|c| c.id == Capability::ADVANCED_FEATURES);
        features.any(|c| self.bytes[usize::from(c.at) + 4] & 1 == 1)
    }

    /// Whether the device may access memory on its own.
    pub fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & 4 != 0
    }

    /// A dword as stored.
    pub fn dword(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(bytes)
    }

    /// Where a BAR lies on the bus; `None` while memory decoding is off, the BAR has no address, or its size is
    /// being probed (all ones).
    pub fn bar_address(&self, index: u8) -> Option<u64> {
        let bar = self.bars.iter().find(|b| b.index == index)?;
        if self.bytes[COMMAND] & 2 == 0 {
            return None;
        }
        let at = BARS + 4 * usize::from(index);
        let low = u64::from(self.dword(at) & !0xf);
        let address = if bar.wide { low | (u64::from(self.dword(at + 4)) << 32) } else { low };
        let probe = if bar.wide { !(bar.size - 1) } else { !(bar.size - 1) & 0xffff_ffff };
        (address != 0 && address != probe).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        let identity = Identity {
            vendor: 0x8086,
            device: 0xe20b,
            subsystem_vendor: 0x8086,
            subsystem: 1,
            revision: 2,
            class: 0x03_8000,
        };
        let bars = [
            Bar { index: 0, size: 16 << 20, wide: true, prefetchable: false },
            Bar { index: 2, size: 1 << 30, wide: true, prefetchable: true },
            Bar { index: 5, size: 512 << 10, wide: false, prefetchable: false },
        ];
        let mut c = ConfigSpace::new(&identity, &bars, 4096);
        c.add(&Capability::power_management(0xd0));
        c.add(&Capability::msi(0xac));
        c
    }

    fn read32(c: &ConfigSpace, at: u64) -> u32 {
        let mut b = [0; 4];
        c.read(at, &mut b);
        u32::from_le_bytes(b)
    }

    #[test]
    fn capabilities_are_linked() {
        let c = space();
        assert_eq!(read32(&c, 0x00), 0xe20b_8086);
        assert_eq!(read32(&c, 0x08), 0x0380_0002);
        assert_eq!(read32(&c, 0x04) >> 16 & 0x10, 0x10);
        assert_eq!(read32(&c, 0x34) & 0xff, 0xd0);
        assert_eq!(read32(&c, 0xd0) & 0xffff, 0xac01);
        assert_eq!(read32(&c, 0xac), 0x0080_0005);
        assert_eq!(read32(&c, 1000), 0, "behind the end");
    }

    #[test]
    fn bars_answer_the_size_probe_and_report_their_address() {
        let mut c = space();
        c.write(0x04, &[6, 0]);
        assert!(c.bus_master());
        c.write(0x04, &[2, 0]);
        assert!(!c.bus_master());
        c.write(0x18, &[0xff; 4]);
        c.write(0x1c, &[0xff; 4]);
        assert_eq!(read32(&c, 0x18), 0xc000_000c);
        assert_eq!(read32(&c, 0x1c), 0xffff_ffff);
        assert_eq!(c.bar_address(2), None, "size probe is no address");
        c.write(0x18, &0x4000_0000u32.to_le_bytes());
        c.write(0x1c, &0x70u32.to_le_bytes());
        assert_eq!(c.bar_address(2), Some(0x70_4000_0000));
        c.write(0x04, &[0, 0]);
        assert_eq!(c.bar_address(2), None, "decoding off");
        c.write(0x24, &[0xff; 4]);
        assert_eq!(read32(&c, 0x24), 0xfff8_0000);
    }

    #[test]
    fn reset_is_asked_for() {
        let mut c = space();
        let features = Capability::function_reset(0x98);
        c.add(&features);
        c.write(0x9c, &[0xfe]);
        assert!(!c.reset_requested(std::slice::from_ref(&features)));
        c.write(0x9c, &[0x01]);
        assert!(c.reset_requested(&[Capability::msi(0xac), features]));
    }

    #[test]
    fn only_the_allowed_bits_change() {
        let mut c = space();
        c.write(0x00, &[0; 4]);
        assert_eq!(read32(&c, 0x00), 0xe20b_8086);
        c.write(0xd4, &[0xff, 0xff]);
        assert_eq!(read32(&c, 0xd4) & 0xffff, 0x000b, "D3hot; no soft reset stays");
        c.write(0xae, &[0xff, 0xff]);
        assert_eq!(read32(&c, 0xac) >> 16, 0x00f1);
        c.write(0xfe, &[1, 2, 3, 4]);
    }
}
