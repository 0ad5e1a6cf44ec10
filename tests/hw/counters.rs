//! What the driver, and the virtual device below it, counted agrees with what an outcome says.

use drm_pagemap::Buffer;
use drm_pagemap::range::SIZE_2M;

use crate::harness::mailbox::{Count, Mailbox};
use crate::harness::{Context, Counts, DriverCounters, Need, Stop, Test, TestResult, overcommitted};
use crate::placement::{assert_intact, device_bytes, filled};
use crate::queue::Runner;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "counters/prefetch_there_and_back",
        needs: &[Need::Vram, Need::DriverCounters],
        run: prefetch_there_and_back,
    },
    Test { name: "counters/cpu_touch", needs: &[Need::Vram, Need::DriverCounters], run: cpu_touch },
    // Not before 6.18: a fault that migrates crashes 6.17 (`xe_migrate_vram` without a migration queue).
    Test { name: "counters/gpu_fault", needs: &[Need::Xe, Need::Vram, Need::DriverCounters], run: gpu_fault },
    Test {
        name: "counters/eviction",
        needs: &[Need::Vram, Need::Overcommit, Need::DriverCounters],
        run: eviction,
    },
    Test {
        name: "counters/the_device_saw_the_copies",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: the_device_saw_the_copies,
    },
];

const LEN: usize = 4 << 20;

/// The counters of the device under test, and what they were at the beginning.
struct Meter {
    counters: DriverCounters,
    start: Counts,
}

impl Meter {
    fn start(context: &Context) -> Result<Self, Stop> {
        let counters = DriverCounters::of(context.gpu()).map_err(Stop::Skip)?;
        let start = counters.read();
        Ok(Self { counters, start })
    }

    /// How much a counter has grown.
    fn grown(&self, name: &str) -> Result<u64, Stop> {
        let now = self.counters.read();
        now.since(&self.start, name)
            .ok_or_else(|| Stop::Skip(format!("this kernel's xe does not count {name}")))
    }

    /// Bytes copied into VRAM, and out of it, by the driver's migrations.
    fn copied(&self) -> Result<(u64, u64), Stop> {
        Ok((self.grown("svm_device_copy_kb")? << 10, self.grown("svm_cpu_copy_kb")? << 10))
    }
}

fn prefetch_there_and_back(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(LEN)?;
    let meter = Meter::start(context)?;
    let there = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!(meter.copied()?, (there.moved(), 0), "{there}");
    let again = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!(again.already_there(), LEN as u64, "{again}");
    assert_eq!(meter.copied()?, (there.moved(), 0), "nothing moves twice");
    let back = mirror.prefetch(&data).to_system().run()?;
    assert_eq!(meter.copied()?, (there.moved(), back.moved()), "{back}");
    assert_eq!(meter.grown("svm_pagefault_count")?, 0, "no GPU fault was needed");
    assert_intact(&data);
    Ok(())
}

fn cpu_touch(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(LEN)?;
    assert!(mirror.prefetch(&data).to(context.gpu().vram()).run()?.is_complete());
    let meter = Meter::start(context)?;
    std::hint::black_box(std::hint::black_box(&data)[data.len() / 2]);
    let left = LEN as u64 - device_bytes(data.range())?;
    assert!(left > 0, "the touched page is back");
    assert_eq!(meter.copied()?, (0, left), "the driver moved what residency says");
    assert_intact(&data);
    assert_eq!(meter.copied()?, (0, LEN as u64));
    Ok(())
}

fn gpu_fault(context: &Context) -> TestResult {
    let runner = Runner::new(context.gpu())?;
    let mut data = filled(LEN)?;
    let meter = Meter::start(context)?;
    let at = data.range().start() + SIZE_2M + 64;
    runner.store_u64(at, 42)?;
    let resident = device_bytes(data.range())?;
    let faults = meter.grown("svm_pagefault_count")?;
    assert!(faults > 0, "the batch and its target had to be faulted in");
    match meter.copied() {
        // The batch lies in memory that migrates as well.
        Ok((into, _)) => {
            assert!(resident > 0 && into >= resident, "{into} bytes moved in, {resident} are there")
        }
        Err(Stop::Skip(_)) => assert!(resident > 0, "a GPU fault migrates"),
        Err(other) => return Err(other),
    }
    let index = (SIZE_2M as usize + 64) / 8;
    assert_eq!(data[index], 42, "the CPU reads what the GPU wrote");
    data[index] = crate::placement::word_at(index);
    assert_intact(&data);
    Ok(())
}

fn eviction(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut data = Buffer::<u64>::zeroed(overcommitted(context.gpu()) as usize / 8)?;
    // Every page exists, so that every page has to be copied.
    data.iter_mut().step_by(512).for_each(|word| *word = 1);
    let meter = Meter::start(context)?;
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    let resident = device_bytes(data.range())?;
    assert_eq!(resident, outcome.moved(), "{outcome}");
    let (into, out) = meter.copied()?;
    assert_eq!(into, resident + out, "what was moved in is there, or was evicted: {outcome}");
    assert!(data.iter().step_by(512).all(|&word| word == 1));
    Ok(())
}

fn the_device_saw_the_copies(context: &Context) -> TestResult {
    if context.gpu().is_simulated() {
        skip!("a simulated device has no copy engine that counts");
    }
    let mailbox = Mailbox::of(context.gpu()).map_err(Stop::Skip)?;
    let mirror = context.gpu().mirror()?;
    let data = filled(LEN)?;
    let count = || (mailbox.count(Count::BytesToVram), mailbox.count(Count::BytesFromVram));
    let (into, out) = count();
    let there = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!(count(), (into + there.moved(), out), "{there}");
    let back = mirror.prefetch(&data).to_system().run()?;
    assert_eq!(count(), (into + there.moved(), out + back.moved()), "{back}");
    assert_intact(&data);
    Ok(())
}
