//! The parts of a device and who may touch them: memory without a lock, the state behind one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::asic::Asic;
use super::faults;
use super::interrupt::{self, Interrupt};
use super::queue::{End, EngineId, Hung, Job, QueueId, Ring};
use super::state::State;
use super::vm::{HubId, Memory, MemoryStop, Owner, PageFault, RunMemory};
use crate::board::Board;
use crate::counters::Counter;
use crate::engine::{RunToken, Waker, Wish};
use crate::inject::Kind;
use crate::mem;

/// An access that failed is repeated after this time.
pub const RETRY: Duration = Duration::from_millis(2);

/// A device, shared by the message loop and the engine threads.
///
/// Lock order: the state may be locked first and then the gate drained; an engine that holds a permit of the gate
/// must not lock the state.
#[derive(Debug)]
pub struct Core {
    /// Which device.
    pub asic: &'static Asic,
    /// Surroundings.
    pub board: Arc<Board>,
    /// Memory and translations.
    pub memory: Memory,
    /// Wakes the command processor.
    pub cp: Waker,
    /// Wakes the SDMA engines.
    pub sdma: Vec<Waker>,
    state: Mutex<State>,
    left: Condvar,
    started: Instant,
}

/// What an engine finds when it looks for work.
#[derive(Debug)]
pub enum Work {
    /// This.
    Job(Box<Job>),
    /// Nothing before this time has passed.
    Later(Duration),
    /// Nothing.
    Nothing,
}

impl Core {
    /// A device after power-on; no thread runs yet.
    pub fn new(asic: &'static Asic, board: Arc<Board>, memory: Memory) -> Core {
        let core = Core {
            asic,
            board,
            memory,
            cp: Waker::default(),
            sdma: asic.sdma.iter().map(|_| Waker::default()).collect(),
            state: Mutex::new(State::new(asic)),
            left: Condvar::new(),
            started: Instant::now(),
        };
        core.power_on(&mut core.lock());
        core
    }

    /// Locks the state.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock: 27 MHz, twice 13.5, as the reference clock of the VBIOS says.
    pub fn clock(&self) -> u64 {
        (self.started.elapsed().as_nanos() * 27 / 1000) as u64
    }

    /// Puts an interrupt into the ring.
    pub fn interrupt(&self, state: &mut State, interrupt: &Interrupt) {
        interrupt::deliver(&mut state.registers, &self.board, interrupt, self.clock());
    }

    /// Wakes what executes a queue.
    pub fn wake(&self, engine: EngineId) {
        match engine {
            EngineId::Cp => self.cp.wake(),
            EngineId::Sdma(engine) => {
                if let Some(waker) = self.sdma.get(engine) {
                    waker.wake();
                }
            }
        }
    }

    /// Wakes what executes a queue.
    pub fn wake_queue(&self, state: &State, id: QueueId) {
        if let Some(engine) = state.engine_of(id) {
            self.wake(engine);
        }
    }

    /// Wakes all engines.
    pub fn wake_all(&self) {
        self.cp.wake();
        self.sdma.iter().for_each(Waker::wake);
    }

    /// Memory as VMID 0 sees it, for work that nobody cancels.
    pub fn kernel_memory<'a>(&'a self, hub: HubId, token: &'a RunToken) -> RunMemory<'a> {
        RunMemory { memory: &self.memory, owner: Owner::kernel(hub), token }
    }

    /// Looks for a queue of the engine that can go on, starting behind `last`.
    pub fn take(&self, engine: EngineId, last: Option<QueueId>) -> Work {
        let mut state = self.lock();
        let now = Instant::now();
        let mut ids = state.queues(engine);
        let start = last.and_then(|last| ids.iter().position(|id| *id > last)).unwrap_or(0);
        ids.rotate_left(start);
        let mut later: Option<Duration> = None;
        for id in ids {
            let Some(ring) = state.ring(id) else { continue };
            let run = state.runs.entry(id).or_default();
            let idle = ring.pending() == 0 && run.cursor.buffers.is_empty();
            if idle || run.running || run.hung.is_some() || run.token.wish() != Wish::Run {
                continue;
            }
            if let Some(left) =
                run.wait_until.and_then(|t| t.checked_duration_since(now)).filter(|d| !d.is_zero())
            {
                later = Some(later.map_or(left, |l| l.min(left)));
                continue;
            }
            run.running = true;
            run.wait_until = None;
            let job = Job { id, ring, cursor: run.cursor.clone(), token: run.token.clone() };
            return Work::Job(Box::new(job));
        }
        later.map_or(Work::Nothing, Work::Later)
    }

    /// Gives a queue back; what the engine did counts even if the queue was told to stop meanwhile.
    pub fn finish(&self, mut job: Job, end: End) {
        self.report(&job.ring, job.id);
        let mut state = self.lock();
        state.set_read(job.id, job.ring.read);
        let mut wait = None;
        let mut hung = None;
        match end {
            End::Drained => job.cursor.busy = false,
            End::More | End::Stopped => {}
            End::Wait(time) => wait = Some(Instant::now() + time),
            End::Fault(fault) => {
                job.cursor.faulted = true;
                if self.fault(&mut state, &job.ring, &fault) {
                    wait = Some(Instant::now() + RETRY);
                } else {
                    hung = Some(Hung::Soft(format!("{fault:?}")));
                }
            }
            End::Hung(reason) => hung = Some(reason),
        }
        if let Some(hung) = &hung {
            tracing::info!(target: "queue", id = ?job.id, ?hung, "stopped for good");
        }
        if let Some(run) = state.runs.get_mut(&job.id) {
            run.running = false;
            run.cursor = job.cursor;
            run.wait_until = wait;
            run.hung = hung;
        }
        drop(state);
        self.left.notify_all();
    }

    /// Writes a queue's position to where the producer looks for it.
    fn report(&self, ring: &Ring, id: QueueId) {
        if ring.report == 0 {
            return;
        }
        let token = RunToken::new();
        let run = RunMemory { memory: &self.memory, owner: ring.owner, token: &token };
        let at = run.at(ring.report);
        let result = if ring.owner.hub == HubId::Mm {
            mem::write64(&run, at, ring.read * 4)
        } else {
            mem::write32(&run, at, (ring.read % ring.size) as u32)
        };
        if let Err(stop) = result {
            tracing::debug!(target: "queue", ?id, ?stop, "position not reported");
        }
    }

    /// Reports a page fault; `true` when the access shall be repeated.
    pub fn fault(&self, state: &mut State, ring: &Ring, fault: &PageFault) -> bool {
        let context = self.memory.hub(fault.owner.hub).context(fault.owner.slot);
        let retry = context.retry() && !ring.retry_disabled && fault.owner.slot != 0;
        let number = if retry {
            match state.faults.admit(fault, self.asic.retry_cam, Instant::now()) {
                Some(number) => Some(number),
                None => return true,
            }
        } else {
            None
        };
        self.board.counters.add(Counter::FaultsRaised, 1);
        tracing::debug!(target: "fault", ?fault, pasid = ring.pasid, retry, "raised");
        if self.board.strike(&[Kind::FaultLose], &[]).is_some() {
            return retry;
        }
        let status = self.asic.hub(fault.owner.hub).fault_status;
        state.registers.set(status, faults::status(fault));
        self.interrupt(state, &faults::interrupt(fault, ring.pasid, number));
        retry
    }

    /// Drops kept translations and waits until no access uses them any more, unless that is ordered to be skipped.
    pub fn invalidate(&self, hub: HubId, vmids: u16) {
        self.board.counters.add(Counter::Invalidations, 1);
        if self.board.strike(&[Kind::InvalidationSkip], &[]).is_none() {
            self.memory.invalidate(hub, vmids);
        }
    }

    /// Makes an engine let go of the given queues and forgets how it handled them. `wait`: returns only when no
    /// engine works on them any more; an engine must not wait for itself.
    pub fn stop<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        ids: &[QueueId],
        wait: bool,
    ) -> MutexGuard<'a, State> {
        for id in ids {
            if let Some(run) = state.runs.get(id) {
                run.token.cancel();
            }
        }
        let busy = |state: &State| ids.iter().any(|id| state.runs.get(id).is_some_and(|run| run.running));
        while wait && busy(&state) {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Stops all engines and brings everything to the state after power-on; memory keeps its contents.
    pub fn reset(&self) {
        let state = self.lock();
        let ids: Vec<QueueId> = state.runs.keys().copied().collect();
        self.power_on(&mut self.stop(state, &ids, true));
    }

    /// Brings registers and memory to the state after power-on.
    fn power_on(&self, state: &mut State) {
        state.reset();
        super::mmio::preset(self, state);
        self.memory.tlb.invalidate_all();
    }
}

impl From<MemoryStop> for End {
    fn from(stop: MemoryStop) -> End {
        match stop {
            MemoryStop::Fault(fault) => End::Fault(fault),
            MemoryStop::Broken(why) => End::Hung(Hung::Soft(why)),
            MemoryStop::Cancelled => End::Stopped,
        }
    }
}
