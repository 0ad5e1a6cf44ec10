//! PM4 packets of the ninth generation (`soc15d.h`, `kfd_pm4_headers_ai.h`, `kfd_pm4_headers_aldebaran.h`).

use crate::amd::sdma::Test;
use crate::amd::stream::qword;

/// The first dword of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A filler of one dword.
    Filler,
    /// An operation.
    Operation {
        /// Code.
        code: u32,
        /// Dwords of the packet, the header included.
        length: u64,
    },
    /// Not a packet.
    Broken,
}

impl Header {
    /// Reads a header.
    pub fn new(dword: u32) -> Header {
        let (code, count) = ((dword >> 8) & 0xff, (dword >> 16) & 0x3fff);
        match dword >> 30 {
            2 => Header::Filler,
            3 if code == 0x10 && count == 0x3fff => Header::Filler,
            3 => Header::Operation { code, length: u64::from(count) + 2 },
            _ => Header::Broken,
        }
    }
}

/// A place that a packet reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A register, as a dword offset.
    Register(u32),
    /// Memory.
    Memory(u64),
    /// The packet itself.
    Immediate(u64),
    /// The clock.
    Clock,
}

/// What RELEASE_MEM writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Nothing.
    Nothing,
    /// A dword.
    Low(u32),
    /// A qword.
    Both(u64),
    /// The clock.
    Clock,
}

/// Queues that UNMAP_QUEUES means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those with these doorbells.
    Doorbells(Vec<u32>),
    /// Those of a process.
    Pasid(u32),
    /// All that the scheduler placed.
    All,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Nothing that the model would have to do: caches, state of shaders.
    Nop,
    /// Writes registers in a row.
    SetRegisters {
        /// First register, as a dword offset.
        first: u32,
        /// Values.
        values: Vec<u32>,
    },
    /// Writes dwords.
    WriteData {
        /// Where to.
        to: Place,
        /// All to the same place.
        same: bool,
        /// Values.
        values: Vec<u32>,
    },
    /// Waits.
    Wait {
        /// What is looked at.
        at: Place,
        /// What to wait for.
        test: Test,
        /// A register to be written before.
        write: Option<(u32, u32)>,
    },
    /// Executes an indirect buffer.
    Indirect {
        /// Address space, for rings of the driver.
        vmid: u32,
        /// Start.
        base: u64,
        /// Dwords.
        count: u64,
    },
    /// Copies one value.
    CopyData {
        /// From.
        from: Place,
        /// To.
        to: Place,
        /// 64 bits instead of 32.
        wide: bool,
    },
    /// Writes when everything before is done, then raises an interrupt.
    ReleaseMem {
        /// Where to.
        to: u64,
        /// What.
        value: Release,
        /// Whether an interrupt follows.
        interrupt: bool,
        /// Passed on to the driver.
        context: u32,
    },
    /// Fills or copies memory through the command processor.
    DmaData {
        /// Address, or a value to fill with.
        from: Place,
        /// Target.
        to: u64,
        /// Bytes.
        len: u64,
    },
    /// Skips dwords unless memory holds something else than zero.
    CondExec {
        /// Address.
        at: u64,
        /// Dwords to skip.
        count: u64,
    },
    /// Drops translations of a process.
    InvalidateTlbs {
        /// The process.
        pasid: u32,
        /// In both hubs, not only in that of graphics.
        all_hubs: bool,
    },
    /// Says what the scheduler may use.
    SetResources {
        /// VMIDs, as a mask.
        vmids: u16,
    },
    /// Starts a queue.
    MapQueues(MapQueues),
    /// Stops queues.
    UnmapQueues {
        /// Which.
        queues: Selection,
        /// Without saving where they were.
        reset: bool,
    },
    /// Writes a value once everything before is done.
    QueryStatus {
        /// Where to.
        to: u64,
        /// What.
        value: u64,
    },
    /// Replaces all processes and queues of the scheduler.
    RunList {
        /// Start of the list.
        base: u64,
        /// Dwords.
        count: u64,
    },
}

/// A queue to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapQueues {
    /// Engine: 0 compute, 2 and 3 the first SDMA engines; any SDMA engine when `extended`.
    pub engine: u32,
    /// How `engine` counts.
    pub extended: u32,
    /// Pipe and queue of the command processor, when the driver chose them: micro engine, pipe, queue.
    pub slot: (u32, u32, u32),
    /// Byte offset of the doorbell.
    pub doorbell: u32,
    /// Where the queue's descriptor lies.
    pub descriptor: u64,
    /// Where the write pointer lies.
    pub write_pointer: u64,
}

impl MapQueues {
    /// From the dwords behind the header.
    pub fn new(w: &[u32]) -> MapQueues {
        let control = w[0];
        MapQueues {
            engine: (control >> 26) & 7,
            extended: (control >> 2) & 3,
            slot: (((control >> 18) & 1) + 1, (control >> 16) & 3, (control >> 13) & 7),
            doorbell: w[1] & 0x0fff_fffc,
            descriptor: qword(w[2], w[3]),
            write_pointer: qword(w[4], w[5]),
        }
    }

    /// The SDMA engine, or `None` for a compute queue.
    pub fn sdma(&self) -> Option<u32> {
        match (self.extended, self.engine) {
            (1, engine) => Some(engine),
            (2, engine) => Some(engine + 8),
            (_, engine) if engine >= 2 => Some(engine - 2),
            _ => None,
        }
    }
}

/// Why no packet could be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// Operation code.
    pub code: u32,
}

/// Operations that change nothing the model knows of: cache control, shader state, synchronisation of stages that
/// run one after the other here anyway.
const IGNORED: [u32; 16] =
    [0x10, 0x11, 0x12, 0x28, 0x42, 0x43, 0x46, 0x4a, 0x4f, 0x58, 0x59, 0x84, 0x86, 0x8b, 0x90, 0x9b];

fn address(low: u32, high: u32) -> u64 {
    qword(low, high & 0xffff)
}

/// Decodes an operation from the dwords behind its header.
pub fn decode(code: u32, w: &[u32]) -> Result<Packet, Unknown> {
    let unknown = Err(Unknown { code });
    let least = match code {
        0x79 | 0x68 | 0x76 | 0x69 => 1,
        0x98 | 0xa0 => 1,
        0x22 | 0x3f | 0x33 | 0x37 | 0xa5 => 3,
        0xa3 => 2,
        0x40 => 5,
        0x3c | 0x49 | 0x50 | 0xa2 | 0xa4 => 6,
        _ => 0,
    };
    if w.len() < least {
        return unknown;
    }
    Ok(match code {
        0x68 => registers(0x2000, w),
        0x69 => registers(0xa000, w),
        0x76 => registers(0x2c00, w),
        0x79 => registers(0xc000, w),
        0x37 => {
            let at = address(w[1], w[2]);
            let to = match (w[0] >> 8) & 0xf {
                0 => Place::Register(at as u32 & 0x3_ffff),
                _ => Place::Memory(at & !3),
            };
            Packet::WriteData { to, same: (w[0] >> 16) & 1 == 1, values: w[3..].to_vec() }
        }
        0x3c => wait(w),
        0x3f | 0x33 => {
            let base = address(w[0], w[1]) & !3;
            Packet::Indirect { vmid: (w[2] >> 24) & 0xf, base, count: u64::from(w[2] & 0xf_ffff) }
        }
        0x40 => {
            let (source, target) = (address(w[1], w[2]), address(w[3], w[4]));
            let from = match w[0] & 0xf {
                0 => Place::Register(source as u32),
                5 => Place::Immediate(qword(w[1], w[2])),
                9 => Place::Clock,
                _ => Place::Memory(source),
            };
            let to = match (w[0] >> 8) & 0xf {
                0 => Place::Register(target as u32),
                _ => Place::Memory(target),
            };
            Packet::CopyData { from, to, wide: (w[0] >> 16) & 1 == 1 }
        }
        0x49 => {
            let value = match w[1] >> 29 {
                1 => Release::Low(w[4]),
                2 => Release::Both(qword(w[4], w[5])),
                3 => Release::Clock,
                _ => Release::Nothing,
            };
            let (interrupt, context) = ((w[1] >> 24) & 7 != 0, w.get(6).copied().unwrap_or(0) & 0x0fff_ffff);
            Packet::ReleaseMem { to: address(w[2], w[3]) & !3, value, interrupt, context }
        }
        0x50 => {
            let from = match (w[0] >> 29) & 3 {
                2 => Place::Immediate(u64::from(w[1])),
                _ => Place::Memory(address(w[1], w[2])),
            };
            Packet::DmaData { from, to: address(w[3], w[4]), len: u64::from(w[5] & 0x3ff_ffff) }
        }
        0x22 => Packet::CondExec {
            at: address(w[0], w[1]) & !3,
            count: u64::from(w.get(3).unwrap_or(&0) & 0x3fff),
        },
        0x98 => Packet::InvalidateTlbs { pasid: (w[0] >> 5) & 0xffff, all_hubs: (w[0] >> 4) & 1 == 1 },
        0xa0 => Packet::SetResources { vmids: w[0] as u16 },
        0xa2 => Packet::MapQueues(MapQueues::new(w)),
        0xa3 => {
            let queues = match (w[0] >> 4) & 3 {
                0 => {
                    let count = ((w[0] >> 29) as usize).clamp(1, w.len() - 1);
                    Selection::Doorbells(w[1..=count].iter().map(|d| d & 0x0fff_fffc).collect())
                }
                1 => Selection::Pasid(w[1] & 0xffff),
                _ => Selection::All,
            };
            Packet::UnmapQueues { queues, reset: w[0] & 3 == 1 }
        }
        0xa4 => Packet::QueryStatus { to: address(w[2], w[3]) & !3, value: qword(w[4], w[5]) },
        0xa5 => {
            let base = qword(w[0], w[1]) & !3;
            let count = if (w[2] >> 23) & 1 == 1 { u64::from(w[2] & 0xf_ffff) } else { 0 };
            Packet::RunList { base, count }
        }
        code if IGNORED.contains(&code) => Packet::Nop,
        _ => return unknown,
    })
}

fn registers(base: u32, w: &[u32]) -> Packet {
    Packet::SetRegisters { first: base + (w[0] & 0xffff), values: w[1..].to_vec() }
}

fn wait(w: &[u32]) -> Packet {
    let test = Test { function: w[0] & 7, reference: w[3], mask: w[4] };
    if w[0] & 0x10 != 0 {
        return Packet::Wait { at: Place::Memory(address(w[1], w[2]) & !3), test, write: None };
    }
    if (w[0] >> 6) & 3 == 1 {
        // Write a register, then wait until another one shows the bits of the mask.
        let test = Test { reference: w[4], ..test };
        return Packet::Wait { at: Place::Register(w[2]), test, write: Some((w[1], w[3])) };
    }
    Packet::Wait { at: Place::Register(w[1]), test, write: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        assert_eq!(Header::new(0xffff_1000), Header::Filler);
        assert_eq!(Header::new(0x8000_0000), Header::Filler);
        assert_eq!(Header::new(0xc003_3700), Header::Operation { code: 0x37, length: 5 });
        assert_eq!(Header::new(0), Header::Broken);
    }

    #[test]
    fn registers_and_memory() {
        assert_eq!(
            decode(0x79, &[0x40, 0xdead_beef]),
            Ok(Packet::SetRegisters { first: 0xc040, values: vec![0xdead_beef] })
        );
        assert_eq!(
            decode(0x37, &[5 << 8, 0x1002, 0, 1, 2]),
            Ok(Packet::WriteData { to: Place::Memory(0x1000), same: false, values: vec![1, 2] })
        );
        let test = Test { function: 3, reference: 0x8000, mask: 0x8000 };
        assert_eq!(
            decode(0x3c, &[3 | 1 << 6, 0x28a3, 0x28b5, 0x77, 0x8000, 0x20]),
            Ok(Packet::Wait { at: Place::Register(0x28b5), test, write: Some((0x28a3, 0x77)) })
        );
        assert_eq!(
            decode(0x40, &[9 | 5 << 8 | 1 << 16, 0, 0, 0x10, 1]),
            Ok(Packet::CopyData { from: Place::Clock, to: Place::Memory(0x1_0000_0010), wide: true })
        );
        let release = decode(0x49, &[0, 2 << 29 | 2 << 24, 0x10, 1, 7, 8, 0xf000_0003]).unwrap();
        let value = Release::Both(0x8_0000_0007);
        assert_eq!(release, Packet::ReleaseMem { to: 0x1_0000_0010, value, interrupt: true, context: 3 });
    }

    #[test]
    fn scheduling() {
        let map = MapQueues::new(&[1 << 29 | 1 << 26 | 1 << 2 | 1 << 4, 0x1008, 0x2000, 1, 0x3000, 0x7f]);
        assert_eq!(map.sdma(), Some(1));
        assert_eq!(
            (map.doorbell, map.descriptor, map.write_pointer),
            (0x1008, 0x1_0000_2000, 0x7f_0000_3000)
        );
        assert_eq!(MapQueues { extended: 0, engine: 3, ..map }.sdma(), Some(1));
        assert_eq!(MapQueues { extended: 0, engine: 0, ..map }.sdma(), None);
        let chosen = MapQueues::new(&[1 << 18 | 2 << 16 | 3 << 13, 0, 0, 0, 0, 0]);
        assert_eq!(chosen.slot, (2, 2, 3));
        assert_eq!(
            decode(0xa3, &[2 << 29, 0x10, 0x20, 0, 0]),
            Ok(Packet::UnmapQueues { queues: Selection::Doorbells(vec![0x10, 0x20]), reset: false })
        );
        assert_eq!(
            decode(0xa3, &[1 | 3 << 4, 0]),
            Ok(Packet::UnmapQueues { queues: Selection::All, reset: true })
        );
        assert_eq!(decode(0xa5, &[0x1003, 0, 1 << 23 | 40]), Ok(Packet::RunList { base: 0x1000, count: 40 }));
        assert_eq!(
            decode(0x98, &[1 << 4 | 0x8001 << 5]),
            Ok(Packet::InvalidateTlbs { pasid: 0x8001, all_hubs: true })
        );
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert_eq!(decode(0x15, &[0; 8]), Err(Unknown { code: 0x15 }), "dispatch");
        assert_eq!(decode(0xa2, &[0; 2]), Err(Unknown { code: 0xa2 }), "too short");
    }
}
