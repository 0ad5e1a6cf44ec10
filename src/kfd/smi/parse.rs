//! One line of the event log, from bytes to a type.

use std::time::Duration;

use super::event::*;
use crate::kfd::{GpuId, Location};
use crate::range::{PageRange, page_size};
use crate::uapi::kfd as abi;

/// Reads a line without its newline. What does not have a form that some kernel is known to write becomes
/// [`SmiEvent::Raw`].
pub(super) fn line(bytes: &[u8]) -> SmiEvent {
    parse(bytes).unwrap_or_else(|| SmiEvent::Raw(String::from_utf8_lossy(bytes).into_owned()))
}

fn parse(bytes: &[u8]) -> Option<SmiEvent> {
    let mut rest = Rest(bytes);
    let id = u32::try_from(rest.hex()?).ok()?;
    rest.literal(b" ")?;
    let event = match id {
        abi::KFD_SMI_EVENT_MIGRATE_START => SmiEvent::MigrateStart(migrate_start(&mut rest)?),
        abi::KFD_SMI_EVENT_MIGRATE_END => SmiEvent::MigrateEnd(migrate_end(&mut rest)?),
        abi::KFD_SMI_EVENT_PAGE_FAULT_START => {
            let (at, pid, page, gpu, how) = page_fault(&mut rest)?;
            SmiEvent::PageFaultStart(PageFaultStart { at, pid, page, gpu, write: one_of(how, b'W', b'R')? })
        }
        abi::KFD_SMI_EVENT_PAGE_FAULT_END => {
            let (at, pid, page, gpu, how) = page_fault(&mut rest)?;
            SmiEvent::PageFaultEnd(PageFaultEnd { at, pid, page, gpu, migrated: one_of(how, b'M', b'U')? })
        }
        abi::KFD_SMI_EVENT_QUEUE_EVICTION => {
            let (at, pid) = rest.when_and_who()?;
            let gpu = rest.literal(b" ")?.gpu()?;
            let trigger = EvictionTrigger::from_raw(rest.literal(b" ")?.decimal()?);
            SmiEvent::QueueEviction(QueueEviction { at, pid, gpu, trigger })
        }
        abi::KFD_SMI_EVENT_QUEUE_RESTORE => {
            let (at, pid) = rest.when_and_who()?;
            let gpu = rest.literal(b" ")?.gpu()?;
            let how = rest.literal(b" ")?.byte()?;
            // Kernels before 6.18 write the number 0 where they mean the digit.
            let how = if how == 0 { b'0' } else { how };
            SmiEvent::QueueRestore(QueueRestore { at, pid, gpu, rescheduled: one_of(how, b'R', b'0')? })
        }
        abi::KFD_SMI_EVENT_UNMAP_FROM_GPU => {
            let (at, pid) = rest.when_and_who()?;
            let range = rest.literal(b" ")?.range()?;
            let gpu = rest.literal(b" ")?.gpu()?;
            let trigger = UnmapTrigger::from_raw(rest.literal(b" ")?.decimal()?);
            SmiEvent::UnmapFromGpu(UnmapFromGpu { at, pid, range, gpu, trigger })
        }
        abi::KFD_SMI_EVENT_PROCESS_START => {
            let (pid, name) = rest.process(b" ")?;
            SmiEvent::ProcessStart { pid, name }
        }
        abi::KFD_SMI_EVENT_PROCESS_END => {
            let (pid, name) = rest.process(b" ")?;
            SmiEvent::ProcessEnd { pid, name }
        }
        abi::KFD_SMI_EVENT_VMFAULT => {
            let (pid, name) = rest.process(b":")?;
            SmiEvent::VmFault { pid, name }
        }
        abi::KFD_SMI_EVENT_THERMAL_THROTTLE => {
            let status = rest.hex()?;
            SmiEvent::ThermalThrottle { status, count: rest.literal(b":")?.hex()? }
        }
        abi::KFD_SMI_EVENT_GPU_PRE_RESET => {
            let (sequence, cause) = rest.reset()?;
            SmiEvent::GpuPreReset { sequence, cause }
        }
        abi::KFD_SMI_EVENT_GPU_POST_RESET => {
            let (sequence, cause) = rest.reset()?;
            SmiEvent::GpuPostReset { sequence, cause }
        }
        _ => return None,
    };
    rest.0.is_empty().then_some(event)
}

fn migrate_start(rest: &mut Rest<'_>) -> Option<MigrateStart> {
    let (at, pid) = rest.when_and_who()?;
    let range = rest.literal(b" ")?.range()?;
    let from = rest.literal(b" ")?.location()??;
    let to = rest.literal(b"->")?.location()??;
    let prefetch = rest.literal(b" ")?.location()?;
    let preferred = rest.literal(b":")?.location()?;
    let trigger = MigrateTrigger::from_raw(rest.literal(b" ")?.decimal()?);
    Some(MigrateStart { at, pid, range, from, to, prefetch, preferred, trigger })
}

fn migrate_end(rest: &mut Rest<'_>) -> Option<MigrateEnd> {
    let (at, pid) = rest.when_and_who()?;
    let range = rest.literal(b" ")?.range()?;
    let from = rest.literal(b" ")?.location()??;
    let to = rest.literal(b"->")?.location()??;
    let trigger = MigrateTrigger::from_raw(rest.literal(b" ")?.decimal()?);
    let error = match rest.literal(b" ") {
        Some(rest) => Some(rest.decimal()?),
        None => None,
    };
    Some(MigrateEnd { at, pid, range, from, to, trigger, error })
}

fn page_fault(rest: &mut Rest<'_>) -> Option<(Duration, i32, u64, GpuId, u8)> {
    let (at, pid) = rest.when_and_who()?;
    let page = rest.literal(b" @")?.hex()?.checked_mul(page_size())?;
    let gpu = rest.literal(b"(")?.gpu()?;
    let how = rest.literal(b") ")?.byte()?;
    Some((at, pid, page, gpu, how))
}

fn one_of(byte: u8, yes: u8, no: u8) -> Option<bool> {
    (byte == yes || byte == no).then_some(byte == yes)
}

/// What is left of a line.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn literal(&mut self, expected: &[u8]) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(self)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> Option<&str> {
        let len = self.0.iter().position(|&byte| !belongs(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        std::str::from_utf8(taken).ok()
    }

    fn hex(&mut self) -> Option<u64> {
        u64::from_str_radix(self.take_while(|byte| byte.is_ascii_hexdigit())?, 16).ok()
    }

    fn decimal<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.take_while(|byte| byte.is_ascii_digit() || byte == b'-')?.parse().ok()
    }

    fn when_and_who(&mut self) -> Option<(Duration, i32)> {
        let at = Duration::from_nanos(self.decimal()?);
        let pid = self.literal(b" -")?.decimal()?;
        Some((at, pid))
    }

    fn range(&mut self) -> Option<PageRange> {
        let start = self.literal(b"@")?.hex()?.checked_mul(page_size())?;
        let len = self.literal(b"(")?.hex()?.checked_mul(page_size())?;
        self.literal(b")")?;
        PageRange::new(start, len).ok()
    }

    /// Outer `None`: unreadable. Inner `None`: the kernel says that there is no location.
    fn location(&mut self) -> Option<Option<Location>> {
        Some(Location::from_raw(u32::try_from(self.hex()?).ok()?))
    }

    fn gpu(&mut self) -> Option<GpuId> {
        GpuId::new(u32::try_from(self.hex()?).ok()?)
    }

    fn process(&mut self, separator: &[u8]) -> Option<(i32, String)> {
        let pid = i32::try_from(self.hex()?).ok()?;
        Some((pid, self.literal(separator)?.text()))
    }

    fn reset(&mut self) -> Option<(u32, String)> {
        let sequence = u32::try_from(self.hex()?).ok()?;
        // The cause is cut where the line was full, at worst right behind the number.
        let cause = self.literal(b" ").map(|rest| rest.text()).unwrap_or_default();
        Some((sequence, cause))
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.0)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gpu(raw: u32) -> GpuId {
        GpuId::new(raw).unwrap()
    }

    fn pages(start: u64, len: u64) -> PageRange {
        PageRange::new(start * page_size(), len * page_size()).unwrap()
    }

    #[test]
    fn a_migration_of_a_real_log() {
        let event = line(b"5 28714996104 -155 @7fec26c00(800) 0->f267 f267:ffffffff 0");
        assert_eq!(
            event,
            SmiEvent::MigrateStart(MigrateStart {
                at: Duration::from_nanos(28_714_996_104),
                pid: 155,
                range: pages(0x7_fec2_6c00, 0x800),
                from: Location::System,
                to: Location::Gpu(gpu(0xf267)),
                prefetch: Some(Location::Gpu(gpu(0xf267))),
                preferred: None,
                trigger: MigrateTrigger::Prefetch,
            })
        );
    }

    #[test]
    fn the_end_of_a_migration_with_and_without_an_error_field() {
        let error_of = |text: &[u8]| match line(text) {
            SmiEvent::MigrateEnd(end) => end.error,
            other => panic!("{other:?}"),
        };
        assert_eq!(error_of(b"6 28750976097 -155 @7fec26c00(800) 0->f267 0 0"), Some(0));
        assert_eq!(error_of(b"6 28750976097 -155 @7fec26c00(800) 0->f267 3 -12"), Some(-12));
        assert_eq!(error_of(b"6 28750976097 -155 @7fec26c00(800) f267->0 2"), None);
    }

    #[test]
    fn faults_of_a_gpu() {
        let SmiEvent::PageFaultStart(start) = line(b"7 27463135515 -160 @7f6ab4e00(f267) R") else {
            panic!()
        };
        assert_eq!((start.page, start.gpu, start.write), (0x7_f6ab_4e00 * page_size(), gpu(0xf267), false));
        let SmiEvent::PageFaultEnd(end) = line(b"8 27519120720 -160 @7f6ab4e00(f267) M") else { panic!() };
        assert!(end.migrated && end.pid == 160);
        assert!(matches!(line(b"8 1 -1 @1(f267) X"), SmiEvent::Raw(_)));
    }

    #[test]
    fn queues_and_mappings() {
        assert_eq!(
            line(b"9 28715871554 -155 f267 0"),
            SmiEvent::QueueEviction(QueueEviction {
                at: Duration::from_nanos(28_715_871_554),
                pid: 155,
                gpu: gpu(0xf267),
                trigger: EvictionTrigger::Svm,
            })
        );
        let rescheduled = |text: &[u8]| match line(text) {
            SmiEvent::QueueRestore(restore) => restore.rescheduled,
            other => panic!("{other:?}"),
        };
        assert!(!rescheduled(b"a 1 -155 f267 0"));
        assert!(rescheduled(b"a 1 -155 f267 R"));
        assert!(!rescheduled(b"a 1 -155 f267 \0"));
        let SmiEvent::UnmapFromGpu(unmap) = line(b"b 1 -155 @10(2) f267 7") else { panic!() };
        assert_eq!((unmap.range, unmap.trigger), (pages(0x10, 2), UnmapTrigger::Other(7)));
    }

    #[test]
    fn processes_and_the_device() {
        assert_eq!(line(b"c 9b some name"), SmiEvent::ProcessStart { pid: 0x9b, name: "some name".into() });
        assert_eq!(line(b"d 9b x"), SmiEvent::ProcessEnd { pid: 0x9b, name: "x".into() });
        assert_eq!(line(b"1 9b:a:b"), SmiEvent::VmFault { pid: 0x9b, name: "a:b".into() });
        assert_eq!(line(b"2 ff:10"), SmiEvent::ThermalThrottle { status: 255, count: 16 });
        assert_eq!(line(b"3 1 ring hang"), SmiEvent::GpuPreReset { sequence: 1, cause: "ring hang".into() });
        assert_eq!(line(b"4 1"), SmiEvent::GpuPostReset { sequence: 1, cause: String::new() });
    }

    #[test]
    fn what_no_kernel_writes_is_kept_as_it_is() {
        for text in [
            "",
            "5",
            "e 1 2 3",
            "40 x",
            "5 1 -1 @1(1) 0->1 0:0 0 trailing",
            "9 1 -1 0 0",
            "hello",
            "b 1 -1 @ffffffffffffffff(1) 1 0",
            "5 1 -1 @fffffffffffff(2) 0->1 0:0 0",
            "9 1 - 1 0",
        ] {
            assert_eq!(line(text.as_bytes()), SmiEvent::Raw(text.into()), "{text:?}");
        }
        assert!(matches!(line(&[0xff, b' ', 0]), SmiEvent::Raw(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = line(&bytes);
        }

        #[test]
        fn no_almost_right_line_panics(
            id in 0u32..20, text in "[0-9a-f]{0,20} -[0-9-]{0,12} @[0-9a-f]{0,18}\\([0-9a-f]{0,18}\\) [0-9a-f]{0,9}->[0-9a-f]{0,9} [0-9a-f:RWMU]{0,9} [0-9-]{0,12}",
        ) {
            let _ = line(format!("{id:x} {text}").as_bytes());
        }

        #[test]
        fn migrations_survive_the_kernels_format(
            ns in any::<u32>(), pid in 1i32.., start in 0u64..1 << 36, len in 1u64..1 << 20,
            from in prop::option::of(1u32..0xffff), to in prop::option::of(1u32..0xffff), prefetch in any::<u32>(),
            preferred in any::<u32>(), trigger in any::<u8>(),
        ) {
            let raw = |location: Option<u32>| location.unwrap_or(0);
            let text = format!("5 {ns} -{pid} @{start:x}({len:x}) {:x}->{:x} {prefetch:x}:{preferred:x} {trigger}", raw(from), raw(to));
            prop_assert_eq!(line(text.as_bytes()), SmiEvent::MigrateStart(MigrateStart {
                at: Duration::from_nanos(ns.into()), pid, range: pages(start, len),
                from: Location::from_raw(raw(from)).unwrap(), to: Location::from_raw(raw(to)).unwrap(),
                prefetch: Location::from_raw(prefetch), preferred: Location::from_raw(preferred),
                trigger: MigrateTrigger::from_raw(trigger.into()),
            }));
        }
    }
}
