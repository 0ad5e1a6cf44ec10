//! A device on a bench: registers, rings and page tables as the driver would set them up, without a driver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Maker;
use super::asic::SDMA_RING_STRIDE;
use super::gpu::Gpu;
use super::profile::AmdProfile;
use super::registers::at;
use super::scheduler::DESCRIPTOR;
use super::vm::Entry;
use super::vm::testing::Tables;
use crate::board::Board;
use crate::counters::Counter;
use crate::device::Device;
use crate::inject::{Kind, Order};
use crate::mem::{Dma, Mapping, Span};
use crate::pci::Peers;

/// Start of the frame buffer aperture.
pub(crate) const FRAME: u64 = 0xf4_0000_0000;
/// Where processes see their data.
pub(crate) const VA: u64 = 0x7f00_0000_0000;

// Places in device memory.
const SDMA_RING: u64 = 0x1_0000;
const HIQ: u64 = 0x2_0000;
const RUN_LIST: u64 = 0x3_0000;
/// Where the scheduler answers.
pub(crate) const ANSWER: u64 = 0x4_0000;
/// Free for data of the driver.
pub(crate) const DATA: u64 = 0x5_0000;
const PROCESSES: u64 = 0x10_0000;
const PROCESS: u64 = 0x10_0000;
// Inside the memory of a process, in device memory: tables, descriptor, ring, pointers, data.
const DESCRIPTOR_AT: u64 = 0x8_0000;
const RING_AT: u64 = 0x9_0000;
const POINTERS_AT: u64 = 0xa_0000;

// Places in guest memory.
const INTERRUPTS: u64 = 0x1_0000;
const INTERRUPT_POINTER: u64 = 0x8000;

// Doorbells, as byte offsets.
const SDMA_DOORBELL: u32 = 0x780;
const HIQ_DOORBELL: u32 = 0x10;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) gpu: Gpu,
    pub(crate) board: Arc<Board>,
    vram: Arc<Mapping>,
    sdma_write: u64,
    hiq_write: u64,
    answers: u64,
    interrupts: u64,
}

/// A process with one SDMA queue.
pub(crate) struct TestProcess {
    number: u64,
    write: u64,
    pub(crate) retry_disabled: bool,
}

impl Bench {
    pub(crate) fn new(profile: &str) -> Bench {
        let profile: AmdProfile = profile.parse().unwrap();
        let board = Arc::new(Board::new(0, 1, Arc::new(Peers::default())));
        board.dma.insert(Dma(0), Mapping::new("guest", 4 << 20).unwrap());
        let gpu = Maker::new(profile, 1).unwrap().device(board.clone()).unwrap();
        let vram = gpu.layout().windows[0].mapping.clone();
        let b = Bench { gpu, board, vram, sdma_write: 0, hiq_write: 0, answers: 0, interrupts: 0 };
        b.write(at::IH_RB_BASE, (INTERRUPTS >> 8) as u32);
        b.write(at::IH_RB_WPTR_ADDR_LO, INTERRUPT_POINTER as u32);
        b.write(at::IH_RB_CNTL, 1 | 14 << 1);
        for hub in super::vm::HubId::ALL {
            let first = profile.asic.hub(hub).contexts;
            for vmid in 1..16 {
                b.write(first + vmid, 1 | 3 << 1 | 1 << 7);
            }
        }
        let ring = profile.asic.sdma_ring(0, 0);
        b.write(ring + at::sdma::RB_BASE, ((FRAME + SDMA_RING) >> 8) as u32);
        b.write(ring + at::sdma::RB_BASE + 1, ((FRAME + SDMA_RING) >> 40) as u32);
        b.write(ring + at::sdma::DOORBELL_OFFSET, SDMA_DOORBELL);
        b.write(ring + at::sdma::DOORBELL, 1 << 28);
        b.write(ring, 1 | 10 << 1);
        assert_eq!(SDMA_RING_STRIDE, 0x60);
        b.write(at::GRBM_GFX_CNTL, 2 << 2);
        let bank = |register: usize, value| b.write(at::CP_HQD_FIRST + register as u32, value);
        bank(at::hqd::PQ_BASE, ((FRAME + HIQ) >> 8) as u32);
        bank(at::hqd::PQ_BASE + 1, ((FRAME + HIQ) >> 40) as u32);
        bank(at::hqd::PQ_CONTROL, 9);
        bank(at::hqd::PQ_DOORBELL_CONTROL, 1 << 30 | HIQ_DOORBELL);
        bank(at::hqd::ACTIVE, 1);
        b
    }

    pub(crate) fn write(&self, register: u32, value: u32) {
        self.gpu.write(5, u64::from(register) * 4, &value.to_le_bytes());
    }

    pub(crate) fn read(&self, register: u32) -> u32 {
        let mut bytes = [0; 4];
        self.gpu.read(5, u64::from(register) * 4, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn vram32(&self, at: u64) -> u32 {
        self.vram.load32(at).unwrap()
    }

    pub(crate) fn set_vram32(&self, at: u64, value: u32) {
        self.vram.store32(at, value).unwrap();
    }

    pub(crate) fn guest32(&self, at: u64) -> u32 {
        match self.board.resolve(Dma(at)) {
            Some(Span::Memory { mapping, offset, .. }) => mapping.load32(offset).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.board.counters.get(counter)
    }

    pub(crate) fn arm(&self, kind: Kind, filter: u32, value: u32) {
        self.board.injector.arm(Order { filter, value, ..Order::next(kind) });
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so() {
            assert!(Instant::now() < deadline, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next interrupt.
    pub(crate) fn interrupt(&mut self) -> [u32; 8] {
        let at = self.interrupts;
        self.until("an interrupt", || u64::from(self.guest32(INTERRUPT_POINTER)) > at);
        self.interrupts += 32;
        std::array::from_fn(|i| self.guest32(INTERRUPTS + at + 4 * i as u64))
    }

    /// Whether another interrupt has come.
    pub(crate) fn interrupted(&self) -> bool {
        u64::from(self.guest32(INTERRUPT_POINTER)) > self.interrupts
    }

    fn put(&self, ring: u64, write: &mut u64, words: &[u32]) {
        for word in words {
            self.set_vram32(ring + (*write % 1024) * 4, *word);
            *write += 1;
        }
    }

    /// Puts packets into the driver's ring of the first SDMA engine.
    pub(crate) fn sdma(&mut self, words: &[u32]) {
        let mut write = self.sdma_write;
        self.put(SDMA_RING, &mut write, words);
        self.sdma_write = write;
        self.gpu.write(2, SDMA_DOORBELL.into(), &(write * 4).to_le_bytes());
    }

    /// Puts packets into the queue of the scheduler.
    pub(crate) fn hiq(&mut self, words: &[u32]) {
        let mut write = self.hiq_write;
        self.put(HIQ, &mut write, words);
        self.hiq_write = write;
        self.gpu.write(2, HIQ_DOORBELL.into(), &write.to_le_bytes());
    }

    /// Has the scheduler answer, and tells what the answer will be.
    pub(crate) fn ask(&mut self) -> u32 {
        self.answers += 1;
        let answer = self.answers as u32;
        let at = FRAME + ANSWER;
        self.hiq(&[pm4(0xa4, 6), 0, 0, at as u32, (at >> 32) as u32, answer, 0]);
        answer
    }

    /// Waits for the scheduler.
    pub(crate) fn settle(&mut self) {
        let answer = self.ask();
        self.until("the scheduler's answer", || self.vram32(ANSWER) == answer);
    }

    /// A process with a queue and pages for ring and pointers.
    pub(crate) fn process(&self, number: u64) -> TestProcess {
        let base = PROCESSES + number * PROCESS;
        let tables = Tables::new(&self.vram, base);
        tables.map(VA + RING_AT, Entry::frame(base + RING_AT, true));
        tables.map(VA + POINTERS_AT, Entry::frame(base + POINTERS_AT, true));
        let (ring, report) = (VA + RING_AT, VA + POINTERS_AT);
        let descriptor = [(0, 10 << 1), (1, (ring >> 8) as u32), (2, (ring >> 40) as u32)];
        let report = [(8, (report >> 32) as u32), (9, report as u32)];
        for (index, word) in descriptor.into_iter().chain(report) {
            self.set_vram32(base + DESCRIPTOR_AT + 4 * index, word);
        }
        TestProcess { number, write: 0, retry_disabled: false }
    }

    /// Maps a page of a process.
    pub(crate) fn map(&self, process: &TestProcess, va: u64, entry: Entry) {
        // The tables exist; continue behind the ones that were made for ring and pointers.
        let base = PROCESSES + process.number * PROCESS;
        Tables::continued(&self.vram, base, base + 0x2_0000).map(va, entry);
    }

    /// Has the scheduler run exactly these.
    pub(crate) fn run_list(&mut self, processes: &[&TestProcess]) {
        let mut list = Vec::new();
        for p in processes {
            let base = PROCESSES + p.number * PROCESS;
            let config = if p.retry_disabled { 1 << 12 } else { 0 };
            list.extend([pm4(0xa1, 15), p.pasid(), base as u32 | 1, 0, 0, config]);
            list.extend([0; 10]);
            let (descriptor, write) = (FRAME + base + DESCRIPTOR_AT, VA + POINTERS_AT + 0x100);
            list.extend([pm4(0xa2, 6), 1 << 29 | 1 << 26 | 1 << 2 | 1 << 4, p.doorbell()]);
            list.extend([descriptor, write].iter().flat_map(|a| [*a as u32, (*a >> 32) as u32]));
        }
        for (i, word) in list.iter().enumerate() {
            self.set_vram32(RUN_LIST + 4 * i as u64, *word);
        }
        let at = FRAME + RUN_LIST;
        self.hiq(&[pm4(0xa5, 3), at as u32, (at >> 32) as u32, 1 << 23 | list.len() as u32]);
    }

    /// Takes all queues off.
    pub(crate) fn unmap_all(&mut self, reset: bool) {
        self.hiq(&[pm4(0xa3, 5), u32::from(reset) | 3 << 4, 0, 0, 0, 0]);
    }

    /// Puts packets into the queue of a process.
    pub(crate) fn submit(&self, process: &mut TestProcess, words: &[u32]) {
        let base = PROCESSES + process.number * PROCESS;
        let mut write = process.write;
        self.put(base + RING_AT, &mut write, words);
        process.write = write;
        self.vram.store64(base + POINTERS_AT + 0x100, write * 4).unwrap();
        self.gpu.write(2, process.doorbell().into(), &(write * 4).to_le_bytes());
    }

    /// How far the queue of a process is, in dwords, as reported to it.
    pub(crate) fn position(&self, process: &TestProcess) -> u32 {
        self.vram32(PROCESSES + process.number * PROCESS + POINTERS_AT) / 4
    }

    /// A dword of the descriptor of a process's queue.
    pub(crate) fn descriptor(&self, process: &TestProcess, index: usize) -> u32 {
        assert!(index < DESCRIPTOR);
        self.vram32(PROCESSES + process.number * PROCESS + DESCRIPTOR_AT + 4 * index as u64)
    }
}

impl TestProcess {
    pub(crate) fn pasid(&self) -> u32 {
        0x8000 + self.number as u32
    }

    fn doorbell(&self) -> u32 {
        0x1000 + self.number as u32 * 0x1000
    }

    /// Dwords that were put into the queue.
    pub(crate) fn written(&self) -> u32 {
        self.write as u32
    }
}

/// The header of a PM4 packet with `body` dwords behind it.
pub(crate) fn pm4(code: u32, body: u32) -> u32 {
    3 << 30 | (body - 1) << 16 | code << 8
}

fn halves(address: u64) -> [u32; 2] {
    [address as u32, (address >> 32) as u32]
}

/// COPY_LINEAR.
pub(crate) fn copy(from: u64, to: u64, len: u32) -> Vec<u32> {
    [&[1, len - 1, 0][..], &halves(from), &halves(to)].concat()
}

/// WRITE_LINEAR of one dword.
pub(crate) fn write(to: u64, value: u32) -> Vec<u32> {
    [&[2][..], &halves(to), &[0, value]].concat()
}

/// FENCE.
pub(crate) fn fence(to: u64, value: u32) -> Vec<u32> {
    [&[5][..], &halves(to), &[value]].concat()
}

/// TRAP.
pub(crate) fn trap(context: u32) -> Vec<u32> {
    vec![6, context]
}

/// INDIRECT.
pub(crate) fn indirect(base: u64, count: u32) -> Vec<u32> {
    [&[4][..], &halves(base), &[count, 0, 0]].concat()
}

/// ATOMIC: 64-bit addition.
pub(crate) fn add64(to: u64, value: u64) -> Vec<u32> {
    [&[10 | 0x2f << 25][..], &halves(to), &halves(value), &[0, 0, 0]].concat()
}
