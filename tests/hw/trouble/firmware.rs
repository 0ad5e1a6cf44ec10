//! Firmware whose replies come late or not at all.

use super::bench::{Bench, simulated_slowness};
use crate::harness::mailbox::{INVALIDATION_DONE, Trouble};
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "trouble/firmware_replies_late",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: firmware_replies_late,
    },
    Test {
        name: "trouble/invalidation_reply_is_lost",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: invalidation_reply_is_lost,
    },
];

const LEN: usize = 4 << 20;
/// Later than the driver expects, earlier than it gives up (a quarter of a second for an invalidation).
const LATE_US: u32 = 50_000;

fn firmware_replies_late(context: &Context) -> TestResult {
    let bench = Bench::new(context)?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    assert!(bench.to_vram(&mirror, &data)?.is_complete());
    let before = bench.struck(Trouble::ReplyDelay);
    bench.order(Trouble::ReplyDelay, INVALIDATION_DONE, LATE_US, simulated_slowness())?;
    // Pages that the GPU has mapped leave VRAM only after the firmware's word.
    let back = mirror.prefetch(&data).to_system().run()?;
    bench.assert_struck(Trouble::ReplyDelay, before);
    assert!(back.is_complete(), "{back}");
    assert_eq!(device_bytes(data.range())?, 0);
    assert_intact(&data);
    Ok(())
}

fn invalidation_reply_is_lost(context: &Context) -> TestResult {
    context.expect_log("TLB invalidation");
    let bench = Bench::new(context)?;
    let mailbox = bench.mailbox("firmware whose replies can be lost")?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    assert!(bench.to_vram(&mirror, &data)?.is_complete());
    let before = bench.struck(Trouble::ReplyLose);
    mailbox.arm(Trouble::ReplyLose, 1, 1, INVALIDATION_DONE, 0);
    for _ in 0..10 {
        // The driver gives the invalidation up after a while and goes on.
        let back = mirror.prefetch(&data).to_system().run()?;
        assert!(back.is_complete(), "{back}");
        assert_intact(&data);
        // What the kernel had taken from the GPU's page tables by itself (khugepaged) needs no invalidation any more.
        if bench.struck(Trouble::ReplyLose) > before {
            break;
        }
        assert!(bench.to_vram(&mirror, &data)?.is_complete());
    }
    bench.assert_struck(Trouble::ReplyLose, before);
    let again = bench.to_vram(&mirror, &data)?;
    assert!(again.is_complete(), "the next migration is none the worse: {again}");
    assert_intact(&data);
    Ok(())
}
