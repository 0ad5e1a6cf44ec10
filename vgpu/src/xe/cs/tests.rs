//! The command streamer on a bench: real rings, batches and page tables in memory.

use super::exec::AT_LEAST;
use super::testing::{self as op, END, image};
use crate::counters::Counter;
use crate::inject::{self, Kind, Order, direction};
use crate::mem::VramOffset;
use crate::xe::guc::testing::{Bench, COMPUTE, COPY, DATA, Patience, RING_SIZE, VA};
use crate::xe::guc::{Doing, Firmware, Lease, Next, Verdict};
use crate::xe::memory::{GgttAddr, Owner};

const ID: u32 = 7;
/// Offsets of a test's data in the process's memory.
const BATCH: u64 = 0x1_0000;
const INNER: u64 = 0x2_0000;
const OUT: u64 = 0x3_0000;
/// An address that nothing is mapped at.
const HOLE: u64 = VA + 0x1000_0000;

struct One {
    bench: Bench,
    lrca: GgttAddr,
    owner: Owner,
}

fn one(class: u32) -> One {
    let mut bench = Bench::new();
    let owner = bench.process(1);
    let lrca = bench.context(ID, class, owner);
    One { bench, lrca, owner }
}

impl One {
    /// Runs a batch of these instructions from the ring.
    fn batch(&mut self, instructions: &[Vec<u32>]) {
        let mut dwords = instructions.concat();
        dwords.push(END);
        let at = self.bench.batch(BATCH, &dwords);
        self.bench.submit(ID, self.lrca, &op::start(at));
        self.bench.run();
    }

    fn out(&self) -> u32 {
        self.bench.load(OUT)
    }

    fn doing(&self) -> Doing {
        self.bench.core.lock().gucs[0].context(ID).unwrap().doing
    }

    fn count(&self, counter: Counter) -> u64 {
        self.bench.core.board.counters.get(counter)
    }

    /// The number of the one fault that was reported.
    fn fault(&mut self) -> (u32, u64) {
        let events = self.bench.events();
        let [(0x6002, d)] = events.as_slice() else { panic!("{events:x?}") };
        let number = d[0] >> 28 | (d[1] & 0xfff) << 4;
        (number, u64::from(d[3]) << 32 | u64::from(d[2] & 0xffff_f000))
    }

    fn answer(&mut self, number: u32, failed: bool) {
        self.bench.send(&[0x6003, u32::from(failed) << 1, number << 16]);
        self.bench.run();
    }

    fn map_hole(&mut self) {
        self.bench.more(self.owner).map_vram(HOLE, 12, DATA + 0x20_0000);
    }

    fn hole(&self) -> u32 {
        self.bench.load(0x20_0000)
    }
}

#[test]
fn ring_and_batch_store_and_interrupt() {
    let mut t = one(COPY);
    t.bench.write(0x19_0008, 1 << 31);
    let at = t.bench.batch(BATCH, &[op::store(VA + OUT, 5), vec![END]].concat());
    t.bench.submit(ID, t.lrca, &[op::start(at), op::store(VA + OUT + 4, 6), vec![op::INTERRUPT]].concat());
    t.bench.run();
    assert_eq!((t.out(), t.bench.load(OUT + 4)), (5, 6));
    assert_eq!(image::get(&t.bench.core.memory, t.lrca, image::HEAD), 8 * 4);
    assert_ne!(t.bench.read(0x19_0018) & 1 << 15, 0, "interrupt of the first copy engine");
    assert_eq!(t.doing(), Doing::Nothing);
}

#[test]
fn instruction_across_the_end_of_the_ring() {
    let mut t = one(COPY);
    // 4 dwords per store and an odd start: over time one lies across the end.
    let mut submitted = 0;
    t.bench.submit(ID, t.lrca, &[0, 0]);
    while submitted < 2 * RING_SIZE {
        submitted += 16;
        t.bench.submit(ID, t.lrca, &op::store(VA + OUT, submitted));
        t.bench.run();
        assert_eq!(t.out(), submitted);
    }
    assert!(t.bench.events().is_empty(), "no error");
}

#[test]
fn resumes_behind_what_was_done() {
    let mut t = one(COPY);
    t.batch(&[
        op::increment(VA + OUT),
        op::store(HOLE, 0x1234),
        op::increment(VA + OUT),
        op::store(VA + OUT + 4, 9),
    ]);
    let (number, address) = t.fault();
    assert_eq!((address, t.out(), t.bench.load(OUT + 4)), (HOLE, 1, 0));
    t.map_hole();
    t.answer(number, false);
    assert_eq!((t.hole(), t.out(), t.bench.load(OUT + 4)), (0x1234, 2, 9));
    assert_eq!((t.count(Counter::FaultsRaised), t.count(Counter::FaultsResolved)), (1, 1));
    assert_eq!(t.count(Counter::Batches), 1, "the batch was not started again");
}

#[test]
fn nested_batch_returns_and_resumes() {
    let mut t = one(COMPUTE);
    t.bench.batch(
        INNER,
        &[op::increment(VA + OUT), op::store(HOLE, 1), op::increment(VA + OUT), vec![END]].concat(),
    );
    t.batch(&[op::call(VA + INNER), op::increment(VA + OUT + 4)]);
    let (number, _) = t.fault();
    assert_eq!((t.out(), t.bench.load(OUT + 4)), (1, 0));
    t.map_hole();
    t.answer(number, false);
    assert_eq!((t.out(), t.bench.load(OUT + 4)), (2, 1));
}

#[test]
fn chained_batch_does_not_return() {
    let mut t = one(COPY);
    t.bench.batch(INNER, &[op::increment(VA + OUT), vec![END]].concat());
    t.batch(&[op::start(VA + INNER), op::increment(VA + OUT + 4)]);
    assert_eq!((t.out(), t.bench.load(OUT + 4)), (1, 0));
    assert_eq!(t.doing(), Doing::Nothing);
}

#[test]
fn saved_head_repeats_an_unfinished_batch() {
    let mut t = one(COPY);
    t.bench.submit(ID, t.lrca, &[0, 0]);
    t.batch(&[op::store(HOLE, 1)]);
    assert_eq!(image::get(&t.bench.core.memory, t.lrca, image::HEAD), 8, "at the start of the batch");
}

#[test]
fn faults_are_told_apart_by_number() {
    let mut t = one(COPY);
    let lrca = t.bench.context(8, COPY, t.owner);
    t.batch(&[op::store(HOLE, 1), op::store(VA + OUT, 1)]);
    let (first, _) = t.fault();
    let at = t.bench.batch(INNER, &[op::store(HOLE, 2), op::store(VA + OUT + 4, 1), vec![END]].concat());
    t.bench.submit(8, lrca, &op::start(at));
    t.bench.run();
    let (second, _) = t.fault();
    assert_ne!(first, second);
    t.map_hole();
    t.answer(second, false);
    assert_eq!((t.out(), t.bench.load(OUT + 4)), (0, 1), "only the second goes on");
    t.answer(second, false);
    assert_eq!(t.out(), 0, "an answer counts once");
    t.answer(first, false);
    assert_eq!(t.out(), 1);
}

#[test]
fn refused_fault_ends_the_context() {
    let mut t = one(COPY);
    t.batch(&[op::store(HOLE, 1), op::store(VA + OUT, 1)]);
    let (number, _) = t.fault();
    t.answer(number, true);
    assert_eq!(t.bench.events(), [(0x6000, vec![ID, 1]), (0x1008, vec![ID])]);
    assert_eq!((t.doing(), t.out()), (Doing::Dead, 0));
    t.bench.send(&[0x1000, ID]);
    t.bench.run();
    assert_eq!(t.out(), 0, "it never runs again");
    t.bench.send(&[0x1001, ID, 0]);
    t.bench.send(&[0x4503, ID]);
    assert_eq!(t.bench.events(), [(0x1002, vec![ID, 0]), (0x4600, vec![ID])]);
}

#[test]
fn atomic_needs_the_permission_of_the_page() {
    let mut t = one(COPY);
    t.bench.more(t.owner).map_system(HOLE, 0x5000, true);
    t.batch(&[op::increment(HOLE)]);
    let events = t.bench.events();
    let [(0x6002, d)] = events.as_slice() else { panic!("{events:x?}") };
    assert_eq!(d[2] & 0xf, 2 | 2 << 2, "atomic access, atomic violation");
}

#[test]
fn stale_translation_until_invalidated() {
    let mut t = one(COPY);
    t.map_hole();
    t.batch(&[op::store(HOLE, 1)]);
    t.bench.more(t.owner).unmap(HOLE);
    t.batch(&[op::store(HOLE, 2)]);
    assert_eq!((t.hole(), t.bench.events().len()), (2, 0), "the old translation is still in use");
    // A range of another address space does not help, the right one does.
    for (asid, faults) in [(2, 0), (1, 1)] {
        t.bench.send(&[0x7000, 5, 1, asid, HOLE as u32, (HOLE >> 32) as u32, 0]);
        assert_eq!(t.bench.events(), [(0x7001, vec![5])]);
        t.batch(&[op::store(HOLE, 3)]);
        assert_eq!(t.bench.events().len(), faults, "address space {asid}");
    }
}

#[test]
fn skipped_invalidation_is_answered_all_the_same() {
    let mut t = one(COPY);
    t.map_hole();
    t.batch(&[op::store(HOLE, 1)]);
    t.bench.more(t.owner).unmap(HOLE);
    t.bench.core.board.injector.arm(Order { times: 2, ..Order::next(Kind::InvalidationSkip) });
    for request in [vec![0x7000, 5, 1, 1, HOLE as u32, (HOLE >> 32) as u32, 0], vec![0x7002, 6]] {
        t.bench.send(&request);
        assert_eq!(t.bench.events(), [(0x7001, vec![request[1]])]);
    }
    t.batch(&[op::store(HOLE, 2)]);
    assert_eq!((t.hole(), t.bench.events().len()), (2, 0), "the old translation is still in use");
}

/// Real engine threads, with the driver disabling, enabling and invalidating all the time: every instruction is
/// executed exactly once.
#[test]
fn interrupted_work_is_done_exactly_once() {
    const ROUNDS: u32 = 30;
    const LENGTH: u32 = 400;
    let batch_of = |id: u32| 0x10_0000 + 0x1_0000 * u64::from(id);
    let mut bench = Bench::new();
    let owner = bench.process(1);
    let contexts = [(1, COPY, OUT), (2, COMPUTE, OUT + 64), (3, COPY, OUT + 128)];
    let mut images = Vec::new();
    for (id, class, counter) in contexts {
        let lrca = bench.context(id, class, owner);
        let batch = [op::increment(VA + counter).repeat(LENGTH as usize), vec![END]].concat();
        bench.batch(batch_of(id), &batch);
        images.push(lrca);
    }
    let workers = bench.start();
    for round in 0..ROUNDS {
        for (i, (id, _, _)) in contexts.into_iter().enumerate() {
            bench.submit(id, images[i], &op::start(VA + batch_of(id)));
        }
        for (id, _, _) in contexts {
            bench.send(&[0x1001, id, 0]);
            bench.send(&[0x7000, round + 1, 1, 1, 0, 0, 0x1b]);
            let patience = Patience::new();
            while !bench.events().contains(&(0x1002, vec![id, 0])) {
                patience.check("the context to leave its engine");
                std::thread::yield_now();
            }
            bench.send(&[0x1001, id, 1]);
        }
    }
    for (_, _, counter) in contexts {
        let patience = Patience::new();
        while bench.load(counter) < ROUNDS * LENGTH {
            patience.check("every instruction to be executed");
            std::thread::yield_now();
        }
    }
    drop(workers);
    let done: Vec<u32> = contexts.iter().map(|(_, _, counter)| bench.load(*counter)).collect();
    assert_eq!(done, [ROUNDS * LENGTH; 3]);
}

#[test]
fn flush_in_the_stream_drops_translations() {
    let mut t = one(COPY);
    t.map_hole();
    t.batch(&[op::store(HOLE, 1)]);
    t.bench.more(t.owner).unmap(HOLE);
    t.batch(&[op::flush_translations(), op::store(HOLE, 2)]);
    assert_eq!((t.hole(), t.fault().1), (1, HOLE));
}

#[test]
fn semaphore_lets_others_run_and_goes_on_when_satisfied() {
    let mut t = one(COPY);
    let lrca = t.bench.context(8, COPY, t.owner);
    t.batch(&[op::wait_equal(VA + OUT, 3), op::store(VA + OUT + 4, 1)]);
    assert_eq!(t.bench.load(OUT + 4), 0);
    let at = t.bench.batch(INNER, &[op::store(VA + OUT, 3), vec![END]].concat());
    t.bench.submit(8, lrca, &op::start(at));
    t.bench.run();
    t.bench.run();
    assert_eq!((t.out(), t.bench.load(OUT + 4)), (3, 1));
}

#[test]
fn endless_batch_is_preempted() {
    let mut t = one(COPY);
    let engine = 1;
    let at = t.bench.batch(BATCH, &op::start(VA + BATCH));
    t.bench.submit(ID, t.lrca, &op::start(at));
    let runner = std::thread::spawn({
        let core = t.bench.core.clone();
        move || {
            use crate::engine::Engine;
            let mut runner = crate::xe::engine::EngineRunner::new(core, engine);
            while runner.step() == crate::engine::Progress::More {}
        }
    });
    while t.count(Counter::Instructions) < 1000 {
        assert!(!runner.is_finished(), "the batch ended");
        std::thread::yield_now();
    }
    t.bench.send(&[0x1001, ID, 0]);
    runner.join().unwrap();
    assert_eq!(t.bench.events(), [(0x1002, vec![ID, 0])]);
    assert_eq!(t.doing(), Doing::Nothing);
}

#[test]
fn reset_stops_an_endless_batch() {
    let mut t = one(COPY);
    let at = t.bench.batch(BATCH, &[op::increment(VA + OUT), op::start(VA + BATCH)].concat());
    t.bench.submit(ID, t.lrca, &op::start(at));
    let runner = std::thread::spawn({
        let core = t.bench.core.clone();
        move || {
            use crate::engine::Engine;
            let mut runner = crate::xe::engine::EngineRunner::new(core, 1);
            while runner.step() == crate::engine::Progress::More {}
        }
    });
    while t.out() < 10 {
        assert!(!runner.is_finished(), "the batch ended");
        std::thread::yield_now();
    }
    t.bench.write(0x941c, 1);
    let after = t.out();
    assert_eq!(t.bench.read(0xc000), 1, "firmware in reset");
    runner.join().unwrap();
    assert_eq!(t.out(), after, "nothing touches memory after a reset");
    assert!(t.bench.core.lock().gucs[0].context(ID).is_none());
}

#[test]
fn registers_and_conditional_end() {
    let mut t = one(COPY);
    let [low, high] = [(VA + OUT) as u32, (VA >> 32) as u32];
    let gpr = 0x2_2600;
    t.bench.store(OUT + 8, 42);
    t.batch(&[
        vec![0x22 << 23 | 3, gpr, 0x55, gpr + 4, 0x66],
        vec![0x2a << 23 | 1, gpr, gpr + 8],
        vec![0x24 << 23 | 2, gpr + 8, low, high],
        vec![0x29 << 23 | 2, gpr + 16, low + 8, high],
        vec![0x24 << 23 | 2, gpr + 16, low + 4, high],
        vec![0x2e << 23 | 3, low + 12, high, low + 8, high],
        // 42 > 41: goes on; 42 > 42 does not.
        vec![0x36 << 23 | 1 << 21 | 2, 41, low + 8, high],
        op::increment(VA + OUT + 16),
        vec![0x36 << 23 | 1 << 21 | 2, 42, low + 8, high],
        op::increment(VA + OUT + 16),
    ]);
    let out: Vec<u32> = (0..5).map(|i| t.bench.load(OUT + i * 4)).collect();
    assert_eq!(out, [0x55, 42, 42, 42, 1]);
}

#[test]
fn conditional_end_looks_at_the_very_dword() {
    let mut t = one(COPY);
    let [low, high] = [(VA + OUT) as u32, (VA >> 32) as u32];
    t.bench.store(OUT + 8, 1);
    t.bench.store(OUT + 12, 0);
    t.batch(&[
        vec![0x36 << 23 | 1 << 21 | 2, 0, low + 8, high],
        op::increment(VA + OUT),
        vec![0x36 << 23 | 1 << 21 | 2, 0, low + 12, high],
        op::increment(VA + OUT),
    ]);
    assert_eq!(t.out(), 1, "the one at +8 holds, the one at +12 does not");
}

#[test]
fn batch_of_a_process_stays_in_its_memory() {
    let mut t = one(COPY);
    let inner = t.bench.batch(INNER, &[op::store(VA + OUT, 7), vec![END]].concat());
    let mut global = op::start(inner);
    global[0] &= !(1 << 8);
    t.batch(&[global]);
    assert!(t.bench.events().is_empty(), "no memory error");
    assert_eq!(t.out(), 7);
}

#[test]
fn fence_between_memory_accesses_is_no_news() {
    let mut t = one(COPY);
    t.batch(&[vec![0x09 << 23 | 1], op::store(VA + OUT, 1)]);
    assert_eq!(t.out(), 1);
    assert!(t.bench.core.lock().unknown_instructions.is_empty());
}

#[test]
fn page_of_the_barrier_takes_nothing() {
    let mut bench = Bench::new();
    for at in [0x7f_f000, 0x7f_fffc] {
        bench.write(at, 5);
        assert_eq!(bench.read(at), 0xdead_beef);
    }
}

#[test]
fn batch_of_the_context_switch_runs_first() {
    let mut t = one(COPY);
    let at = 0x3_0000u64;
    let v = t.bench.core.memory.vram.mapping();
    let dwords = [vec![0x20 << 23 | 1 << 22 | 2, 0x3_8000, 0, 0xaa], vec![END]].concat();
    for (i, d) in dwords.iter().enumerate() {
        v.store32(at + i as u64 * 4, *d).unwrap();
    }
    image::put(&t.bench.core.memory, t.lrca, image::PER_CONTEXT_BATCH, at as u32 | 1);
    t.bench.submit(
        ID,
        t.lrca,
        &[0x2e << 23 | 1 << 22 | 3, (VA + OUT) as u32, (VA >> 32) as u32, 0x3_8000, 0],
    );
    t.bench.run();
    assert_eq!(t.out(), 0xaa);
}

#[test]
fn run_time_grows_and_is_saved() {
    let mut t = one(COPY);
    t.batch(&[op::store(VA + OUT, 1)]);
    let first = image::get(&t.bench.core.memory, t.lrca, image::RUN_TIME);
    t.batch(&vec![op::store(VA + OUT, 1); 200]);
    assert!(image::get(&t.bench.core.memory, t.lrca, image::RUN_TIME) > first);
}

#[test]
fn illegal_instruction_ends_the_context() {
    let mut t = one(COPY);
    t.batch(&[vec![0x8000_0000]]);
    assert_eq!(t.bench.events(), [(0x6000, vec![ID, 1]), (0x1008, vec![ID])]);
}

#[test]
fn copies_are_counted_once_and_by_direction() {
    let mut t = one(COPY);
    t.bench.more(t.owner).map_system(VA + 0x800_0000, 0x8000, true);
    t.bench.store(OUT, 77);
    t.batch(&[op::copy(VA + OUT, VA + 0x800_0000, 64), op::copy(VA + OUT, HOLE, 64)]);
    assert_eq!((t.count(Counter::Copies), t.count(Counter::BytesFromVram)), (1, 64));
    let (number, _) = t.fault();
    t.map_hole();
    t.answer(number, false);
    assert_eq!((t.count(Counter::Copies), t.count(Counter::BytesInsideVram), t.hole()), (2, 64, 77));
}

fn armed(kind: Kind, filter: u32, value: u32) -> One {
    let t = one(COPY);
    t.bench.core.board.injector.arm(Order { filter, value, ..Order::next(kind) });
    t.bench.store(OUT, 5);
    t
}

fn copy_to(target: u64) -> [Vec<u32>; 2] {
    [op::copy(VA + OUT, VA + target, 4), op::store(VA + OUT + 8, 1)]
}

#[test]
fn trouble_with_copies() {
    let mut t = armed(Kind::CopySkip, direction::INSIDE_VRAM, 0);
    t.batch(&copy_to(OUT + 4));
    assert_eq!((t.bench.load(OUT + 4), t.bench.load(OUT + 8)), (0, 1), "completes without moving anything");

    let mut t = armed(Kind::CopyError, inject::PROCESS, 0);
    t.batch(&copy_to(OUT + 4));
    assert_eq!(t.bench.events(), [(0x6000, vec![ID, 1]), (0x1008, vec![ID])]);

    let mut t = armed(Kind::CopyHang, direction::INSIDE_VRAM | inject::PROCESS, 0);
    t.batch(&copy_to(OUT + 4));
    assert_eq!((t.doing(), t.bench.load(OUT + 8)), (Doing::Hung { stuck: false }, 0));
    t.bench.send(&[0x1001, ID, 0]);
    assert_eq!(t.bench.events(), [(0x1008, vec![ID]), (0x1002, vec![ID, 0])]);

    let mut t = armed(Kind::CopyHang, direction::TO_VRAM, 0);
    t.batch(&copy_to(OUT + 4));
    assert_eq!((t.bench.load(OUT + 4), t.bench.load(OUT + 8)), (5, 1), "other direction");
}

#[test]
fn trouble_with_a_copy_is_asked_once_despite_faults() {
    let mut t = one(COPY);
    t.map_hole();
    t.bench.core.board.injector.arm(Order { nth: 2, ..Order::next(Kind::CopyHang) });
    // The second page of the target faults after the copy has been asked.
    t.batch(&[op::copy(VA + OUT, HOLE + 0xffc, 8)]);
    let (number, address) = t.fault();
    assert_eq!(address, HOLE + 0x1000);
    t.bench.more(t.owner).map_vram(HOLE + 0x1000, 12, DATA + 0x20_1000);
    t.answer(number, false);
    assert_eq!(t.doing(), Doing::Nothing, "still the first copy");
    t.batch(&[op::copy(VA + OUT, VA + OUT + 8, 4)]);
    assert_eq!(t.doing(), Doing::Hung { stuck: false }, "the second copy is the second");
}

/// The engine at work, one step at a time.
fn lease(t: &One) -> Lease {
    match Firmware::of(&t.bench.core, &mut t.bench.core.lock(), 0).next(1) {
        Next::Run(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn preempted_run_stops_soon() {
    let mut t = one(COPY);
    t.bench.submit(ID, t.lrca, &[vec![0; AT_LEAST as usize], op::store(VA + OUT, 1)].concat());
    let mut lease = lease(&t);
    t.bench.send(&[0x1001, ID, 0]);
    assert!(t.bench.events().is_empty(), "not before it has left the engine");
    let verdict = lease.exec.run(&t.bench.core, &lease.token);
    assert_eq!((verdict.clone(), t.out()), (Verdict::Yielded { polling: false }, 0));
    Firmware::of(&t.bench.core, &mut t.bench.core.lock(), 0).settle(1, lease, verdict);
    assert_eq!(t.bench.events(), [(0x1002, vec![ID, 0])]);
}

#[test]
fn preemption_waits_while_arbitration_is_off() {
    let mut t = one(COPY);
    let idle = vec![0; AT_LEAST as usize];
    let on_again = vec![0x08 << 23 | 1, 0];
    let commands =
        [vec![0x08 << 23], idle, op::store(VA + OUT, 1), on_again, op::store(VA + OUT, 2)].concat();
    t.bench.submit(ID, t.lrca, &commands);
    let mut first = lease(&t);
    // The first instruction turns arbitration off; the request comes while it is off.
    first.exec.arbitration = false;
    first.token.preempt();
    let verdict = first.exec.run(&t.bench.core, &first.token);
    assert_eq!((verdict, t.out()), (Verdict::Yielded { polling: false }, 1));
}

#[test]
fn work_submitted_at_the_end_of_a_run_is_not_lost() {
    let mut t = one(COPY);
    t.bench.submit(ID, t.lrca, &op::store(VA + OUT, 1));
    let mut lease = lease(&t);
    let verdict = lease.exec.run(&t.bench.core, &lease.token);
    assert_eq!(verdict, Verdict::Idle);
    t.bench.submit(ID, t.lrca, &op::store(VA + OUT, 2));
    Firmware::of(&t.bench.core, &mut t.bench.core.lock(), 0).settle(1, lease, verdict);
    t.bench.run();
    assert_eq!(t.out(), 2);
}

#[test]
fn trouble_with_jobs() {
    let mut t = armed(Kind::JobHang, 0, 1);
    t.batch(&[op::store(VA + OUT, 1)]);
    t.bench.send(&[0x1001, ID, 0]);
    assert_eq!((t.doing(), t.bench.events().len()), (Doing::Hung { stuck: true }, 0));
    t.bench.write(0x941c, 1);
    t.bench.load_firmware();
    t.bench.core.memory.vram.mapping().store64(0x2_0000, 0).unwrap();

    let mut t = armed(Kind::JobError, 3, 0);
    t.batch(&[op::store(VA + OUT, 1)]);
    assert_eq!((t.doing(), t.out()), (Doing::Dead, 5));
}

#[test]
fn hanging_context_is_reset_when_others_wait() {
    let mut t = armed(Kind::JobHang, 0, 0);
    let lrca = t.bench.context(8, COPY, t.owner);
    t.batch(&[op::store(VA + OUT, 1)]);
    let at = t.bench.batch(INNER, &[op::store(VA + OUT + 4, 1), vec![END]].concat());
    t.bench.submit(8, lrca, &op::start(at));
    let patience = Patience::new();
    while t.bench.load(OUT + 4) == 0 {
        patience.check("the other context to get the engine");
        t.bench.run();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(t.bench.events(), [(0x1008, vec![ID])]);
    assert_eq!(t.doing(), Doing::Dead);
}

#[test]
fn hanging_context_keeps_its_clock_running() {
    let mut t = armed(Kind::JobHang, 0, 0);
    t.batch(&[op::store(VA + OUT, 1)]);
    let first = t.bench.read(0x2_23a8);
    std::thread::sleep(std::time::Duration::from_millis(1));
    assert!(t.bench.read(0x2_23a8) > first, "the driver tells a busy engine from a dead one by this");
    t.bench.send(&[0x1001, ID, 0]);
    assert_eq!(t.bench.read(0x2_23a8), 0, "nothing on the engine");
}

#[test]
fn trouble_with_faults() {
    let mut t = armed(Kind::FaultLose, 0, 0);
    t.batch(&[op::store(HOLE, 1)]);
    assert!(t.bench.events().is_empty());
    assert!(matches!(t.doing(), Doing::Faulted(_)));

    let mut t = armed(Kind::FaultAnswerLose, 0, 0);
    t.batch(&[op::store(HOLE, 1)]);
    let (number, _) = t.fault();
    t.map_hole();
    t.answer(number, false);
    assert!(matches!(t.doing(), Doing::Faulted(_)));
    t.bench.send(&[0x1001, ID, 0]);
    assert_eq!(t.bench.events(), [(0x1002, vec![ID, 0])], "it can be disabled all the same");
}

#[test]
fn misplaced_root_is_a_fault_not_a_crash() {
    let mut bench = Bench::new();
    let owner = Owner { asid: 9, root: VramOffset(0x000f_ffff_ffff_f000) };
    let lrca = bench.context(ID, COPY, owner);
    bench.submit(ID, lrca, &op::start(VA));
    bench.run();
    assert_eq!(bench.events()[0].0, 0x6002);
}
