//! The address spaces of the device.

use crate::address_space;
use crate::mem::Address;

address_space! {
    /// An address of VMID 0: frame buffer aperture, GART aperture or AGP aperture.
    McAddr;
    /// A virtual address of a process.
    GpuVa;
    /// An address of device memory as page tables hold it; in a hive the memories of all nodes lie in a row.
    FrameAddr;
}

/// Bits of a virtual address that take part in a translation.
const VA_MASK: u64 = (1 << 48) - 1;

/// An address in a packet: who executes the packet decides which space it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Va {
    /// Of VMID 0.
    Mc(McAddr),
    /// Of a process.
    Process(GpuVa),
}

impl Va {
    /// The address as VMID 0 or as a process sees it; sign extension is dropped.
    pub fn new(kernel: bool, address: u64) -> Va {
        let address = address & VA_MASK;
        if kernel { Va::Mc(McAddr(address)) } else { Va::Process(GpuVa(address)) }
    }

    /// The number inside its space.
    pub fn get(self) -> u64 {
        match self {
            Va::Mc(a) => a.0,
            Va::Process(a) => a.0,
        }
    }
}

impl Address for Va {
    fn plus(self, bytes: u64) -> Va {
        match self {
            Va::Mc(a) => Va::Mc(a.plus(bytes)),
            Va::Process(a) => Va::Process(a.plus(bytes)),
        }
    }
}
