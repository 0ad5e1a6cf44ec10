//! Executes a context: ring, batches, nested batches; stops and goes on at any instruction.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::decode::{self, Kind};
use super::image::{Image, Loaded};
use crate::counters::Counter;
use crate::engine::{RunToken, Wish};
use crate::inject;
use crate::mem::{self, Address};
use crate::xe::core::Core;
use crate::xe::guc::Verdict;
use crate::xe::memory::{ContextMemory, GgttAddr, MemoryStop, Owner, PageFault, Va};
use crate::xe::topology::{ENGINES, EngineDef};

/// Instructions after which another context gets its turn.
const SLICE: u32 = 20_000;
/// Instructions that a context executes at least before it heeds a preemption: firmware takes its time to take it off.
pub(super) const AT_LEAST: u32 = 64;
/// Nesting of batches at most; hardware knows two levels.
const DEPTH: usize = 4;

/// Run time of a context, readable while it runs.
#[derive(Debug, Default)]
pub struct RunClock {
    before: AtomicU64,
    /// Device time of the start of the present run plus one; zero while it does not run.
    since: AtomicU64,
}

impl RunClock {
    fn start(&self, before: u64, now: u64) {
        self.before.store(before, Ordering::SeqCst);
        self.since.store(now + 1, Ordering::SeqCst);
    }

    fn stop(&self, now: u64) -> u64 {
        let total = self.read(now);
        self.since.store(0, Ordering::SeqCst);
        self.before.store(total, Ordering::SeqCst);
        total
    }

    /// Ticks up to now.
    pub fn read(&self, now: u64) -> u64 {
        let since = self.since.load(Ordering::SeqCst);
        let running = if since == 0 { 0 } else { (now + 1).saturating_sub(since) };
        self.before.load(Ordering::SeqCst) + running
    }
}

/// Why execution leaves the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// A page fault that the driver may resolve.
    Fault(PageFault),
    /// Nobody can make it work.
    Broken(String),
    /// It does not go on.
    Hang { stuck: bool },
    /// A semaphore does not let it go on yet.
    Poll,
    /// The run was cancelled.
    Cancelled,
}

impl From<MemoryStop> for Stop {
    fn from(stop: MemoryStop) -> Stop {
        match stop {
            MemoryStop::Fault(fault) => Stop::Fault(fault),
            MemoryStop::Broken(why) => Stop::Broken(why),
            MemoryStop::Cancelled => Stop::Cancelled,
        }
    }
}

/// Where execution goes after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next instruction.
    Next,
    /// Into a batch, and back behind this instruction at its end.
    Call(Va),
    /// Into another batch instead of this one.
    Chain(Va),
    /// To the end of this batch.
    Return,
    /// To the end of every batch.
    ReturnAll,
}

/// A place in a stream of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// In the ring, at this offset.
    Ring(u32),
    /// In a batch.
    Batch(Va),
}

/// What surrounds one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Env<'a> {
    pub(super) core: &'a Core,
    pub(super) engine: &'static EngineDef,
    pub(super) memory: ContextMemory<'a>,
}

impl Env<'_> {
    /// What the injection filters call this context: its kind of engine, and whose it is.
    pub(super) fn classes(&self) -> [u32; 2] {
        let whose = if self.memory.owner.asid == 0 { inject::KERNEL } else { inject::PROCESS };
        [self.engine.filter(), whose]
    }

    /// Lets time pass, unless the run is to end.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Stop> {
        let end = std::time::Instant::now() + time;
        while std::time::Instant::now() < end {
            if self.memory.token.wish() == Wish::Cancel {
                return Err(Stop::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(1).min(time));
        }
        Ok(())
    }
}

/// The execution state of a context while it is off its engine.
#[derive(Debug)]
pub struct Exec {
    pub(super) image: Image,
    engine: usize,
    clock: Arc<RunClock>,
    owner: Owner,
    /// The ring, then the batches that are being executed. Each stands at the instruction to execute next; one
    /// that called stands at the call until the batch returns, so that the saved head repeats it if this state is
    /// thrown away.
    frames: Vec<Frame>,
    /// Registers of the context, by offset in the engine's block.
    pub(super) registers: HashMap<u32, u32>,
    /// The driver allows preemption here.
    pub(super) arbitration: bool,
    /// The present instruction has been tried before and did not complete.
    pub(super) repeated: bool,
    /// The present copy has been asked for trouble, and shall not move anything.
    pub(super) asked: bool,
    pub(super) skip: bool,
    dwords: Vec<u32>,
}

impl Exec {
    /// A context that has not run yet.
    pub fn new(lrca: GgttAddr, engine: usize, clock: Arc<RunClock>) -> Exec {
        Exec {
            image: Image::new(lrca),
            engine,
            clock,
            owner: Owner::default(),
            frames: Vec::new(),
            registers: HashMap::new(),
            arbitration: true,
            repeated: false,
            asked: false,
            skip: false,
            dwords: Vec::new(),
        }
    }

    /// Whose address space it runs in; known from the first run on.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Run time up to `now`.
    pub(super) fn run_time(&self, now: u64) -> u64 {
        self.clock.read(now)
    }

    /// Runs until something stops it.
    pub fn run(&mut self, core: &Core, token: &RunToken) -> Verdict {
        let memory = ContextMemory { memory: &core.memory, owner: self.owner, token };
        let loaded = match self.image.load(&memory) {
            Ok(loaded) => loaded,
            Err(stop) => return verdict(stop.into()),
        };
        self.owner = loaded.owner;
        let env = Env {
            core,
            engine: &ENGINES[self.engine],
            memory: ContextMemory { owner: loaded.owner, ..memory },
        };
        if self.frames.is_empty() {
            self.frames.push(Frame::Ring(loaded.head));
        }
        self.clock.start(loaded.timestamp, core.clock());
        let result = self.restore(&env, &loaded).and_then(|()| self.stream(&env, &loaded));
        // A hanging context stays on its engine: its time goes on, and nothing is saved.
        if let Err(Stop::Hang { stuck }) = result {
            return Verdict::Hang { stuck };
        }
        let ran = self.clock.stop(core.clock());
        let head = match self.frames.first() {
            Some(Frame::Ring(head)) => *head,
            _ => loaded.head,
        };
        match (result, self.image.save(&env.memory, head, ran)) {
            (Err(stop), _) => verdict(stop),
            (Ok(_), Err(stop)) => verdict(stop.into()),
            (Ok(verdict), Ok(())) => verdict,
        }
    }

    /// The batch that runs at each switch to the context.
    fn restore(&mut self, env: &Env<'_>, loaded: &Loaded) -> Result<(), Stop> {
        let Some(batch) = loaded.per_context_batch else { return Ok(()) };
        let mut at = Va::Ggtt(batch);
        loop {
            let flow = self.step_at(env, at, None)?;
            match flow {
                Flow::Next => at = at.plus(self.dwords.len() as u64 * 4),
                Flow::Return | Flow::ReturnAll => return Ok(()),
                Flow::Call(_) | Flow::Chain(_) => {
                    return Err(Stop::Broken("the batch of the context switch starts another one".into()));
                }
            }
        }
    }

    fn stream(&mut self, env: &Env<'_>, loaded: &Loaded) -> Result<Verdict, Stop> {
        let mut left = SLICE;
        loop {
            match env.memory.token.wish() {
                Wish::Cancel => return Err(Stop::Cancelled),
                Wish::Preempt if self.arbitration && SLICE - left >= AT_LEAST => {
                    return Ok(Verdict::Yielded { polling: false });
                }
                _ => {}
            }
            if left == 0 && self.arbitration {
                return Ok(Verdict::Yielded { polling: false });
            }
            left = left.saturating_sub(1);
            match self.step(env, loaded) {
                Ok(true) => {}
                Ok(false) => return Ok(Verdict::Idle),
                Err(Stop::Poll) => return Ok(Verdict::Yielded { polling: true }),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Executes the next instruction; `false` at the end of the ring.
    fn step(&mut self, env: &Env<'_>, loaded: &Loaded) -> Result<bool, Stop> {
        let Some(frame) = self.frames.last().copied() else { return Ok(false) };
        let flow = match frame {
            Frame::Ring(head) => {
                if head == self.image.tail(&env.memory)? {
                    return Ok(false);
                }
                self.step_at(env, Va::Ggtt(loaded.start.plus(u64::from(head))), Some((head, loaded)))?
            }
            Frame::Batch(at) => self.step_at(env, at, None)?,
        };
        self.repeated = false;
        self.asked = false;
        match flow {
            Flow::Next => self.advance(loaded),
            Flow::Call(target) => {
                if self.frames.len() > DEPTH {
                    return Err(Stop::Broken("batches are nested too deeply".into()));
                }
                self.frames.push(Frame::Batch(target));
            }
            Flow::Chain(target) => {
                self.frames.pop();
                self.frames.push(Frame::Batch(target));
            }
            Flow::Return => self.leave(loaded, 1),
            Flow::ReturnAll => self.leave(loaded, self.frames.len()),
        }
        Ok(true)
    }

    /// Moves the innermost frame behind its instruction. Calls have a fixed length, so the same serves to step
    /// over a call whose batch has returned.
    fn advance(&mut self, loaded: &Loaded) {
        let bytes = self.dwords.len() as u32 * 4;
        match self.frames.last_mut() {
            Some(Frame::Ring(head)) => *head = (*head + bytes) % loaded.size,
            Some(Frame::Batch(at)) => *at = at.plus(u64::from(bytes)),
            None => {}
        }
    }

    /// Leaves `levels` batches, and steps over the instruction that called the outermost of them. An end of batch
    /// in the ring itself does nothing.
    fn leave(&mut self, loaded: &Loaded, levels: usize) {
        let batches = self.frames.len() - 1;
        if batches == 0 {
            return self.advance(loaded);
        }
        self.frames.truncate(self.frames.len() - levels.min(batches));
        self.dwords.truncate(0);
        self.dwords.resize(super::mi::BATCH_START_LENGTH, 0);
        self.advance(loaded);
    }

    /// Fetches and executes one instruction; `ring` tells how to wrap.
    fn step_at(&mut self, env: &Env<'_>, at: Va, ring: Option<(u32, &Loaded)>) -> Result<Flow, Stop> {
        let header = mem::read32(&env.memory, at)?;
        let len = decode::length(header);
        let mut bytes = vec![0; len * 4];
        match ring {
            // An instruction may lie across the end of the ring.
            Some((head, loaded)) if head + len as u32 * 4 > loaded.size => {
                let first = (loaded.size - head) as usize;
                mem::read(&env.memory, at, &mut bytes[..first])?;
                mem::read(&env.memory, Va::Ggtt(loaded.start), &mut bytes[first..])?;
            }
            _ => mem::read(&env.memory, at, &mut bytes)?,
        }
        let mut dwords = std::mem::take(&mut self.dwords);
        dwords.clear();
        dwords.extend(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        if !self.repeated {
            env.core.board.counters.add(Counter::Instructions, 1);
        }
        let in_ring = ring.is_some();
        let flow = match decode::kind(header) {
            Kind::Mi(op) => self.mi(env, op, &dwords, at, in_ring),
            Kind::Blt(op) => self.blt(env, op, &dwords),
            Kind::Gfx(op) => self.gfx(env, op, &dwords),
            Kind::Illegal => {
                Err(Stop::Broken(format!("instruction {header:#010x} at {at:?} does not exist")))
            }
        };
        self.dwords = dwords;
        if flow.is_err() {
            self.repeated = true;
        }
        flow
    }
}

fn verdict(stop: Stop) -> Verdict {
    match stop {
        Stop::Fault(fault) => Verdict::Fault(fault),
        Stop::Broken(why) => Verdict::Broken(why),
        Stop::Hang { stuck } => Verdict::Hang { stuck },
        Stop::Poll => Verdict::Yielded { polling: true },
        Stop::Cancelled => Verdict::Cancelled,
    }
}
