//! A device without threads, and the part of the driver that talks to the firmware.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ctb, Message};
use crate::board::Board;
use crate::engine::{Engine, Progress, Worker};
use crate::mem::{self, Dma, Mapping, VramOffset};
use crate::pci::Peers;
use crate::profile::Profile;
use crate::xe::core::Core;
use crate::xe::cs::testing::image;
use crate::xe::engine::{EngineRunner, Postman};
use crate::xe::memory::page_tables::Tables;
use crate::xe::memory::{GgttAddr, GgttPage, GgttSpace, Owner};
use crate::xe::mmio;
use crate::xe::topology::ENGINES;

/// Where things lie: global address and device memory are the same below this.
const IDENTITY: u64 = 4 << 20;
const H2G: u64 = 0x1_0000;
const G2H: u64 = 0x2_0000;
const FIRST_IMAGE: u64 = 0x10_0000;
const FIRST_TABLE: u64 = 0x80_0000;
pub(crate) const RING_SIZE: u32 = 0x1000;

/// First free byte of device memory for data of tests.
pub(crate) const DATA: u64 = 0x20_0000;

pub(crate) const COPY: u32 = 3;
pub(crate) const COMPUTE: u32 = 4;

/// A device on a bench: the test is driver and scheduler of the engine threads.
pub(crate) struct Bench {
    pub(crate) core: Arc<Core>,
    h2g: Ctb,
    g2h: Ctb,
    images: u64,
    next_table: u64,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with(&Profile::default(), 1024)
    }

    /// With a channel to the driver of `g2h` dwords.
    pub(crate) fn with(profile: &Profile, g2h: u32) -> Bench {
        let board = Arc::new(Board::new(0, 1, Arc::new(Peers::default())));
        board.dma.insert(Dma(0), Mapping::new("guest", 16 << 20).unwrap());
        let core = Arc::new(Core::new(board, profile).unwrap());
        for page in (0..IDENTITY).step_by(0x1000) {
            core.memory.ggtt.set(GgttAddr(page), GgttPage::Vram(VramOffset(page)));
        }
        let ring = |base, size| Ctb { buffer: GgttAddr(base + 0x1000), descriptor: GgttAddr(base), size };
        let mut bench =
            Bench { core, h2g: ring(H2G, 1024), g2h: ring(G2H, g2h), images: 0, next_table: FIRST_TABLE };
        bench.load_firmware();
        bench
    }

    pub(crate) fn load_firmware(&mut self) {
        // Upload, then addresses and sizes of the channels, then channels on.
        self.write(0xc314, 0x0011_0011);
        for (i, (h2g, g2h)) in [
            (self.h2g.buffer.0, self.g2h.buffer.0),
            (self.h2g.descriptor.0, self.g2h.descriptor.0),
            (u64::from(self.h2g.size) * 4, u64::from(self.g2h.size) * 4),
        ]
        .into_iter()
        .enumerate()
        {
            self.request([0x0508, (0x902 + i as u32) << 16 | 1, h2g as u32, 0]);
            self.request([0x0508, (0x905 + i as u32) << 16 | 1, g2h as u32, 0]);
        }
        self.request([0x4509, 1, 0, 0]);
    }

    pub(crate) fn write(&mut self, register: u32, value: u32) {
        mmio::write(&self.core, &mut self.core.lock(), register, value);
    }

    pub(crate) fn read(&mut self, register: u32) -> u32 {
        mmio::read(&self.core, &mut self.core.lock(), register)
    }

    fn request(&mut self, request: [u32; 4]) {
        for (i, dword) in request.into_iter().enumerate() {
            self.write(0x19_0240 + 4 * i as u32, dword);
        }
        self.write(0x19_01f0, 0);
        assert_eq!(self.read(0x19_0240) >> 28, 0xf, "success");
    }

    /// Sends a fast request and rings the doorbell.
    pub(crate) fn send(&mut self, dwords: &[u32]) {
        self.send_typed(0, 2, dwords);
    }

    /// Sends a message of a type, with a fence.
    pub(crate) fn send_typed(&mut self, fence: u32, kind: u32, dwords: &[u32]) {
        let mut hxg = dwords.to_vec();
        hxg[0] |= kind << 28;
        let sent = self.h2g.send(&GgttSpace(&self.core.memory), &Message { fence, hxg });
        assert_eq!(sent, Ok(true));
        self.write(0x19_01f0, 0);
    }

    /// What the driver does on an interrupt: takes all messages.
    pub(crate) fn drain(&mut self) -> Vec<Message> {
        let mut taken = Vec::new();
        while let Some(message) = self.g2h.receive(&GgttSpace(&self.core.memory)).unwrap() {
            taken.push(message);
        }
        taken
    }

    /// The events since the last call, each as code and data.
    pub(crate) fn events(&mut self) -> Vec<(u32, Vec<u32>)> {
        self.drain().into_iter().map(|m| (m.hxg[0] & 0xffff, m.hxg[1..].to_vec())).collect()
    }

    /// Page tables of a new process.
    pub(crate) fn tables(&mut self) -> Tables<'_> {
        let at = self.next_table;
        self.next_table += 0x10_0000;
        Tables::new(&self.core.memory.vram, at)
    }

    /// Continues page tables that were made before.
    pub(crate) fn more(&mut self, owner: Owner) -> Tables<'_> {
        let next = self.next_table;
        self.next_table += 0x10_0000;
        Tables { vram: &self.core.memory.vram, root: owner.root, next }
    }

    /// A process whose first 4 MiB behind [`VA`] are the device memory behind [`DATA`].
    pub(crate) fn process(&mut self, asid: u32) -> Owner {
        let mut tables = self.tables();
        for page in (0..0x40_0000).step_by(0x1000) {
            tables.map_vram(VA + page, 12, DATA + page);
        }
        Owner { asid, root: tables.root }
    }

    /// Registers and enables a context; its ring lies behind its image.
    pub(crate) fn context(&mut self, id: u32, class: u32, owner: Owner) -> GgttAddr {
        let lrca = GgttAddr(FIRST_IMAGE + self.images * 0x1_0000);
        self.images += 1;
        image::make(&self.core.memory, lrca, Bench::ring_of(lrca), RING_SIZE, owner);
        let mut m = vec![0x4502, 0, id, class, 1, 0, 0, 0, 0, 0, lrca.0 as u32 | 1, 0];
        self.send(&m);
        m.clear();
        self.send(&[0x1001, id, 1]);
        assert_eq!(self.events(), [(0x1002, vec![id, 1])]);
        lrca
    }

    pub(crate) fn ring_of(lrca: GgttAddr) -> GgttAddr {
        GgttAddr(lrca.0 + 0x8000)
    }

    /// Appends instructions to a ring, wrapping, and submits.
    pub(crate) fn submit(&mut self, id: u32, lrca: GgttAddr, dwords: &[u32]) {
        let mut tail = image::get(&self.core.memory, lrca, image::TAIL);
        for dword in dwords.iter().copied().chain((dwords.len() % 2 == 1).then_some(0)) {
            let at = GgttAddr(Bench::ring_of(lrca).0 + u64::from(tail));
            mem::write32(&GgttSpace(&self.core.memory), at, dword).unwrap();
            tail = (tail + 4) % RING_SIZE;
        }
        image::put(&self.core.memory, lrca, image::TAIL, tail);
        self.send(&[0x1000, id]);
    }

    /// Writes a batch at an offset of the process's memory; tells its address there.
    pub(crate) fn batch(&mut self, offset: u64, dwords: &[u32]) -> u64 {
        for (i, dword) in dwords.iter().enumerate() {
            self.store(offset + i as u64 * 4, *dword);
        }
        VA + offset
    }

    pub(crate) fn store(&self, offset: u64, value: u32) {
        self.core.memory.vram.mapping().store32(DATA + offset, value).unwrap();
    }

    pub(crate) fn load(&self, offset: u64) -> u32 {
        self.core.memory.vram.mapping().load32(DATA + offset).unwrap()
    }

    /// Runs every engine until all sleep or wait for time to pass.
    pub(crate) fn run(&mut self) {
        for _ in 0..1000 {
            let mut busy = false;
            for engine in 0..ENGINES.len() {
                let progress = EngineRunner::new(self.core.clone(), engine).step();
                busy |= progress == Progress::More;
            }
            if !busy {
                return;
            }
        }
        panic!("the engines never come to rest");
    }

    /// Starts real engine threads, in place of [`run`](Self::run).
    pub(crate) fn start(&self) -> Vec<Worker> {
        let start = |engine: usize| {
            let runner = EngineRunner::new(self.core.clone(), engine);
            Worker::spawn(ENGINES[engine].name, self.core.engines[engine].clone(), runner).unwrap()
        };
        (0..ENGINES.len()).map(start).collect()
    }

    /// Lets the firmware deliver what waits.
    pub(crate) fn deliver(&mut self) -> Progress {
        Postman::new(self.core.clone()).step()
    }
}

/// A hang guard for loops that wait for something: a test that hangs says nothing, and hides those after it.
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience(Instant::now())
    }

    /// Called in each round of the loop.
    pub(crate) fn check(&self, what: &str) {
        assert!(self.0.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
    }
}

/// Where the memory of a process starts.
pub(crate) const VA: u64 = 0x7f00_1000_0000;
