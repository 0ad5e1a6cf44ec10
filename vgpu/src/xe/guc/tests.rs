//! The firmware on a bench: channels, replies, flow control, disabling.

use super::Doing;
use super::testing::{Bench, COPY, DATA, VA};
use crate::counters::Counter;
use crate::engine::Progress;
use crate::inject::{Kind, Order};
use crate::profile::Profile;
use crate::xe::cs::testing as op;

#[test]
fn requests_are_answered_with_their_fence() {
    let mut bench = Bench::new();
    bench.send_typed(0x1234, 0, &[0x0509, 0, 0, 0]);
    let messages = bench.drain();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].fence, messages[0].hxg.as_slice()), (0x1234, &[0xf000_0001][..]));
    bench.send_typed(0x1235, 0, &[0x4502, 0]);
    assert_eq!(bench.drain()[0].hxg[0] >> 28, 0xe, "too short: refused");
    bench.send(&[0x7abc]);
    assert!(bench.drain().is_empty(), "a fast request wants no answer");
    assert_eq!(bench.core.lock().gucs[0].unknown_lines(), ["unit 0 action 0x7abc requests 1"]);
}

#[test]
fn full_channel_keeps_messages_in_order() {
    // Room for three events of three dwords.
    let mut bench = Bench::with(&Profile::default(), 10);
    for number in 1..=20 {
        bench.send(&[0x7000, number, 0]);
    }
    assert!(bench.core.board.counters.get(Counter::FirmwareBacklog) > 0);
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let events = bench.events();
        assert!(!events.is_empty(), "nothing came after {seen:?}");
        seen.extend(events.into_iter().map(|(code, data)| (code, data[0])));
        bench.deliver();
    }
    assert_eq!(seen, (1..=20).map(|n| (0x7001, n)).collect::<Vec<_>>());
    assert_eq!(bench.deliver(), Progress::Idle);
}

#[test]
fn full_channel_is_looked_at_again_without_a_doorbell() {
    let mut bench = Bench::with(&Profile::default(), 10);
    for number in 1..=4 {
        bench.send(&[0x7000, number, 0]);
    }
    assert!(matches!(bench.deliver(), Progress::After(_)));
    assert_eq!(bench.events().len(), 3);
    bench.deliver();
    assert_eq!(bench.events(), [(0x7001, vec![4])]);
}

#[test]
fn replies_are_lost_or_late_when_ordered() {
    let mut bench = Bench::new();
    let arm = |bench: &Bench, kind, value| {
        bench.core.board.injector.arm(Order { filter: 0x7001, value, ..Order::next(kind) });
    };
    arm(&bench, Kind::ReplyLose, 0);
    bench.send_typed(1, 0, &[0x0509, 0]);
    assert_eq!(bench.drain().len(), 1, "another code");
    bench.send(&[0x7000, 1, 0]);
    bench.send(&[0x7000, 2, 0]);
    assert_eq!(bench.events(), [(0x7001, vec![2])]);
    arm(&bench, Kind::ReplyDelay, 2000);
    bench.send(&[0x7000, 3, 0]);
    assert!(bench.events().is_empty());
    let Progress::After(time) = bench.deliver() else { panic!("nothing waits") };
    std::thread::sleep(time);
    bench.deliver();
    assert_eq!(bench.events(), [(0x7001, vec![3])]);
}

#[test]
fn lost_interrupt_loses_no_message() {
    let mut bench = Bench::new();
    bench.write(0x19_0008, 1 << 31);
    bench.core.board.injector.arm(Order::next(Kind::InterruptLose));
    bench.send(&[0x7000, 1, 0]);
    assert_eq!(bench.core.board.injector.fired(Some(Kind::InterruptLose)), 1);
    assert_eq!(bench.events(), [(0x7001, vec![1])]);
    assert_ne!(bench.read(0x19_0018) & 1 << 25, 0, "still pending in the registers");
}

#[test]
fn disabled_context_keeps_its_work_for_later() {
    let mut bench = Bench::new();
    let owner = bench.process(1);
    let lrca = bench.context(1, COPY, owner);
    bench.send(&[0x1001, 1, 0]);
    bench.run();
    assert_eq!(bench.events(), [(0x1002, vec![1, 0])]);
    bench.submit(1, lrca, &op::store(VA, 3));
    bench.run();
    assert_eq!(bench.load(0), 0);
    bench.send(&[0x1001, 1, 1]);
    bench.run();
    assert_eq!((bench.load(0), bench.events()), (3, vec![(0x1002, vec![1, 1])]));
}

#[test]
fn context_that_comes_back_sees_page_tables_that_changed_meanwhile() {
    let mut bench = Bench::new();
    let owner = bench.process(1);
    let lrca = bench.context(1, COPY, owner);
    bench.submit(1, lrca, &op::store(VA, 3));
    bench.run();
    bench.more(owner).map_vram(VA, 12, DATA + 0x1000);
    bench.submit(1, lrca, &op::store(VA, 4));
    bench.run();
    assert_eq!((bench.load(0), bench.load(0x1000)), (4, 0), "nobody invalidated");
    bench.send(&[0x1001, 1, 0]);
    bench.send(&[0x1001, 1, 1]);
    bench.submit(1, lrca, &op::store(VA, 5));
    bench.run();
    assert_eq!((bench.load(0), bench.load(0x1000)), (4, 5));
    // So does one that is new.
    bench.more(owner).map_vram(VA, 12, DATA + 0x2000);
    bench.drain();
    let other = bench.context(2, COPY, owner);
    bench.submit(2, other, &op::store(VA, 6));
    bench.run();
    assert_eq!((bench.load(0x1000), bench.load(0x2000)), (5, 6));
}

#[test]
fn context_that_is_disabled_at_once_has_had_its_turn() {
    let mut bench = Bench::new();
    let owner = bench.process(1);
    let lrca = bench.context(1, COPY, owner);
    bench.submit(1, lrca, &op::store(VA, 3));
    bench.send(&[0x1001, 1, 0]);
    assert!(bench.events().is_empty(), "its engine has not looked at it yet");
    bench.run();
    assert_eq!((bench.load(0), bench.events()), (3, vec![(0x1002, vec![1, 0])]));
}

#[test]
fn number_of_a_context_can_be_used_again() {
    let mut bench = Bench::new();
    let owner = bench.process(1);
    for round in 1..4 {
        let lrca = bench.context(1, COPY, owner);
        bench.submit(1, lrca, &op::store(VA, round));
        bench.run();
        assert_eq!(bench.load(0), round);
        bench.send(&[0x1001, 1, 0]);
        bench.send(&[0x4503, 1]);
        assert_eq!(bench.events(), [(0x1002, vec![1, 0]), (0x4600, vec![1])]);
    }
}

#[test]
fn everything_is_forgotten_at_a_reset() {
    let mut bench = Bench::new();
    let owner = bench.process(1);
    bench.context(1, COPY, owner);
    bench.write(0x941c, 1 << 3);
    assert!(bench.core.lock().gucs[0].context(1).is_none());
    // The doorbell does nothing while no firmware runs.
    bench.write(0x19_01f0, 0);
    bench.load_firmware();
    let lrca = bench.context(1, COPY, owner);
    bench.submit(1, lrca, &op::store(VA, 1));
    bench.run();
    assert_eq!((bench.load(0), bench.core.lock().gucs[0].context(1).unwrap().doing), (1, Doing::Nothing));
}
