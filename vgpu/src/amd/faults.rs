//! Page faults on their way to the driver.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::interrupt::{Interrupt, source};
use super::vm::{Cause, HubId, Owner, PageFault};

/// A device without a retry CAM reports a fault that persists again and again.
const REPEAT: Duration = Duration::from_millis(20);
/// A CAM entry that the driver forgot is used anew after this time.
const FORGOTTEN: Duration = Duration::from_secs(1);
/// Entries of the CAM.
const ENTRIES: u32 = 64;

/// Flags of the second data word (`amdgpu_gmc.h`, `AMDGPU_GMC9_FAULT_SOURCE_DATA_*`).
const RETRY: u32 = 0x80;
const WRITE: u32 = 0x20;

/// Retry faults that were reported.
#[derive(Debug, Default)]
pub struct Faults {
    reported: HashMap<(Owner, u64), (Instant, u32)>,
    next: u32,
}

impl Faults {
    /// Whether a retry fault is to be reported now, and under which number. `cam`: not again before the driver has
    /// acknowledged it.
    pub fn admit(&mut self, fault: &PageFault, cam: bool, now: Instant) -> Option<u32> {
        let age = if cam { FORGOTTEN } else { REPEAT };
        self.reported.retain(|_, (when, _)| now.saturating_duration_since(*when) < age);
        let key = (fault.owner, fault.va.get() >> 12);
        if self.reported.contains_key(&key) {
            return None;
        }
        let number = self.next;
        self.next = (self.next + 1) % ENTRIES;
        self.reported.insert(key, (now, number));
        Some(number)
    }

    /// The driver has dealt with a fault.
    pub fn acknowledge(&mut self, number: u32) {
        self.reported.retain(|_, (_, n)| *n != number % ENTRIES);
    }
}

/// The interrupt that reports a fault; with a CAM number the access will be repeated.
pub fn interrupt(fault: &PageFault, pasid: u32, retry: Option<u32>) -> Interrupt {
    let page = fault.va.get() >> 12;
    let mm = fault.owner.hub == HubId::Mm;
    let mut flags = (page >> 32) as u32 & 0xf;
    if retry.is_some() {
        flags |= RETRY;
    }
    if fault.access.writes() {
        flags |= WRITE;
    }
    Interrupt {
        source: if mm { source::MM_FAULT } else { source::GC_FAULT },
        ring: protection(fault.cause),
        vmid: fault.owner.vmid(),
        mm,
        pasid,
        data: [page as u32, flags, retry.unwrap_or(0)],
    }
}

/// Which protection failed, as the ring field says it (`kfd_int_process_v9.c`).
fn protection(cause: Cause) -> u32 {
    match cause {
        Cause::NotValid => 1 << 3,
        Cause::NoRead => 1 << 4,
        Cause::NoWrite => 1 << 5,
    }
}

/// `VM_L2_PROTECTION_FAULT_STATUS`: more faults, permission that failed, client 0, direction, VMID.
pub fn status(fault: &PageFault) -> u32 {
    let permission = protection(fault.cause) >> 3;
    1 | permission << 4 | u32::from(fault.access.writes()) << 18 | fault.owner.vmid() << 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::address::Va;
    use crate::mem::Access;

    fn fault(address: u64) -> PageFault {
        PageFault {
            owner: Owner { hub: HubId::Mm, slot: 9 },
            va: Va::new(false, address),
            access: Access::Write,
            cause: Cause::NotValid,
        }
    }

    #[test]
    fn data_of_a_fault() {
        let i = interrupt(&fault(0x7f12_3456_7890), 0x8001, Some(3));
        assert_eq!((i.source, i.ring, i.vmid), ((0x12, 0), 8, 9));
        assert_eq!(i.data, [0x7_f123_4567u64 as u32, 0xa7, 3]);
        assert_eq!(interrupt(&fault(0x1000), 1, None).data, [1, 0x20, 0]);
        assert_eq!(status(&fault(0)), 1 | 1 << 4 | 1 << 18 | 9 << 20);
    }

    #[test]
    fn a_cam_reports_once_until_acknowledged() {
        let mut faults = Faults::default();
        let now = Instant::now();
        let number = faults.admit(&fault(0x1000), true, now).unwrap();
        assert_eq!(faults.admit(&fault(0x1008), true, now + REPEAT), None, "same page");
        assert!(faults.admit(&fault(0x2000), true, now).is_some());
        faults.acknowledge(number);
        assert!(faults.admit(&fault(0x1000), true, now).is_some());
        assert!(faults.admit(&fault(0x1000), true, now + FORGOTTEN).is_some());
    }

    #[test]
    fn without_a_cam_it_repeats() {
        let mut faults = Faults::default();
        let now = Instant::now();
        assert!(faults.admit(&fault(0x1000), false, now).is_some());
        assert_eq!(faults.admit(&fault(0x1000), false, now), None);
        assert!(faults.admit(&fault(0x1000), false, now + REPEAT).is_some());
    }
}
