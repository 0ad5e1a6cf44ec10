//! Scheduling: which context runs on which engine, and what becomes of it afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Context, Doing, Lease, Verdict};
use super::{Firmware, Guc};
use crate::counters::Counter;
use crate::engine::RunToken;
use crate::xe::cs::{Exec, Image, RunClock};
use crate::xe::memory::{GgttAddr, GgttSpace};
use crate::xe::topology::{ENGINES, engine_for};

const EVENT_SCHED_DONE: u32 = 0x1002;
const EVENT_CONTEXT_RESET: u32 = 0x1008;
const EVENT_DEREGISTERED: u32 = 0x4600;
const EVENT_MEMORY_ERROR: u32 = 0x6000;

/// How long a context may hold an engine that others want before it is reset (the driver's usual preemption
/// timeout).
const PREEMPTION_TIMEOUT: Duration = Duration::from_millis(640);
/// How often a semaphore is looked at.
const POLL: Duration = Duration::from_micros(100);

/// An engine that a hanging context holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocked {
    context: u32,
    since: Instant,
}

/// What an engine shall do next.
#[derive(Debug)]
pub enum Next {
    /// Run this.
    Run(Lease),
    /// Ask again after this time.
    Wait(Duration),
    /// Nothing until woken.
    Sleep,
}

impl Guc {
    fn enqueue(&mut self, id: u32) -> Option<usize> {
        let context = self.contexts.get_mut(&id)?;
        if context.enabled && context.doing == Doing::Nothing {
            context.doing = Doing::Ready;
            self.ready[context.engine].push_back(id);
        }
        Some(context.engine)
    }

    /// The context that is on an engine, running or hanging.
    pub fn running_on(&self, engine: usize) -> Option<&Context> {
        let on = |c: &&Context| matches!(c.doing, Doing::Running | Doing::Hung { .. });
        self.contexts.values().filter(|c| c.engine == engine).find(on)
    }
}

impl Firmware<'_> {
    /// REGISTER_CONTEXT: number, class, mask of engines, address of the image.
    pub(super) fn register(&mut self, m: &[u32]) {
        let (id, class, mask) = (m[2], m[3], m[4]);
        let lrca = GgttAddr((u64::from(m[10]) | u64::from(m[11]) << 32) & 0xffff_f000);
        let Some(engine) = engine_for(self.unit, class, mask) else {
            tracing::warn!(target: "guc", id, class, mask, "no engine for this context");
            return;
        };
        let clock = Arc::new(RunClock::default());
        let guc = self.guc();
        guc.generation += 1;
        let context = Context {
            generation: guc.generation,
            engine,
            lrca,
            enabled: false,
            doing: Doing::Nothing,
            clock,
            token: RunToken::new(),
            exec: None,
            kicked: false,
            disabling: false,
            polling: false,
        };
        if let Some(old) = guc.contexts.insert(id, context) {
            tracing::warn!(target: "guc", id, "registered again");
            old.token.cancel();
        }
    }

    /// DEREGISTER_CONTEXT.
    pub(super) fn deregister(&mut self, id: u32) {
        if let Some(context) = self.guc().contexts.remove(&id) {
            context.token.cancel();
            self.core.memory.gate.drain();
            self.release(context.engine, id);
        }
        self.guc().faults.retain(|f| f.context != id);
        self.event(EVENT_DEREGISTERED, &[id]);
    }

    /// SCHED_CONTEXT_MODE_SET: the driver allows a context to run, or wants it off its engine.
    pub(super) fn set_enabled(&mut self, id: u32, on: bool) {
        let guc = self.guc();
        let Some(context) = guc.contexts.get_mut(&id) else {
            tracing::warn!(target: "guc", id, on, "no such context");
            return;
        };
        let blocked = guc.blocked[context.engine].is_some();
        context.enabled = on;
        if on {
            // A context that comes, or comes back, loads its address space: the driver counts on it after it has changed page
            // tables of a VM whose queues it took off for that (`bind_op_prepare` in `xe_pt.c`).
            let image = Image::new(context.lrca);
            if let Ok(owner) = image.owner(&GgttSpace(&self.core.memory)) {
                self.core.memory.tlb.invalidate_owner(owner);
            }
            self.event(EVENT_SCHED_DONE, &[id, 1]);
            self.submit(id);
            return;
        }
        let engine = context.engine;
        match context.doing {
            // The answer comes when it has left the engine.
            Doing::Running => {
                context.disabling = true;
                context.token.preempt();
                return;
            }
            Doing::Hung { stuck: true } => {
                tracing::info!(target: "guc", id, "is stuck and cannot be disabled");
                return;
            }
            // What cannot be taken off in an orderly way is reset.
            Doing::Hung { stuck: false } => {
                context.doing = Doing::Dead;
                self.release(engine, id);
                self.report_reset(id);
            }
            // It gets its turn first: a driver that takes a queue off its engine again and again to look at its clock
            // must see it move.
            Doing::Ready if !blocked => {
                context.disabling = true;
                return;
            }
            // The access that faulted is tried again when the context is enabled the next time.
            Doing::Faulted(_) | Doing::Ready => context.doing = Doing::Nothing,
            Doing::Nothing | Doing::Dead => {}
        }
        let guc = self.guc();
        guc.faults.retain(|f| f.context != id);
        guc.ready[engine].retain(|c| *c != id);
        self.event(EVENT_SCHED_DONE, &[id, 0]);
    }

    /// SCHED_CONTEXT: there is something in the ring.
    pub(super) fn submit(&mut self, id: u32) {
        let guc = self.guc();
        if let Some(context) = guc.contexts.get_mut(&id) {
            context.kicked = true;
        }
        if let Some(engine) = guc.enqueue(id) {
            self.core.engines[engine].wake();
        }
    }

    /// Frees an engine that a hanging context held.
    fn release(&mut self, engine: usize, id: u32) {
        let guc = self.guc();
        guc.ready[engine].retain(|c| *c != id);
        if guc.blocked[engine].is_some_and(|b| b.context == id) {
            guc.blocked[engine] = None;
            self.core.engines[engine].wake();
        }
    }

    fn report_reset(&mut self, id: u32) {
        self.core.board.counters.add(Counter::ContextResets, 1);
        self.event(EVENT_CONTEXT_RESET, &[id]);
    }

    /// Ends a context after a memory error.
    pub(super) fn memory_error(&mut self, id: u32) {
        if let Some(context) = self.guc().contexts.get_mut(&id) {
            context.doing = Doing::Dead;
        }
        self.event(EVENT_MEMORY_ERROR, &[id, 1]);
        self.report_reset(id);
    }

    /// What an engine shall do next.
    pub fn next(&mut self, engine: usize) -> Next {
        if let Some(blocked) = self.guc().blocked[engine] {
            if self.guc().ready[engine].is_empty() {
                return Next::Sleep;
            }
            let left = PREEMPTION_TIMEOUT.saturating_sub(blocked.since.elapsed());
            if !left.is_zero() {
                return Next::Wait(left);
            }
            let id = blocked.context;
            let stuck = Doing::Hung { stuck: true };
            if self.guc().contexts.get(&id).is_some_and(|c| c.doing == stuck) {
                return Next::Sleep;
            }
            tracing::info!(target: "guc", id, engine = ENGINES[engine].name, "preemption timeout");
            if let Some(context) = self.guc().contexts.get_mut(&id) {
                context.doing = Doing::Dead;
            }
            self.release(engine, id);
            self.report_reset(id);
        }
        let guc = self.guc();
        let queue = &guc.ready[engine];
        let contexts = &guc.contexts;
        // Those that only wait for a semaphore are looked at now and then.
        let all_poll = !queue.is_empty()
            && queue.iter().all(|id| contexts.get(id).is_some_and(|c| c.polling && !c.kicked));
        let Some(id) = guc.ready[engine].pop_front() else { return Next::Sleep };
        let Some(context) = guc.contexts.get_mut(&id) else { return Next::Wait(Duration::ZERO) };
        if all_poll {
            // Next time round it is run.
            context.polling = false;
            guc.ready[engine].push_front(id);
            return Next::Wait(POLL);
        }
        context.doing = Doing::Running;
        context.kicked = false;
        context.token = RunToken::new();
        if context.disabling {
            context.token.preempt();
        }
        let exec = context.exec.take();
        Next::Run(Lease {
            id,
            generation: context.generation,
            token: context.token.clone(),
            exec: exec.unwrap_or_else(|| Box::new(Exec::new(context.lrca, engine, context.clock.clone()))),
        })
    }

    /// A run has ended.
    pub fn settle(&mut self, engine: usize, lease: Lease, verdict: Verdict) {
        let id = lease.id;
        let Some(context) = self.guc().contexts.get_mut(&id).filter(|c| c.generation == lease.generation)
        else {
            return;
        };
        context.exec = Some(lease.exec);
        context.polling = verdict == Verdict::Yielded { polling: true };
        context.doing = Doing::Nothing;
        let disabling = std::mem::take(&mut context.disabling);
        match verdict {
            Verdict::Idle | Verdict::Yielded { .. } | Verdict::Fault(_) if disabling => {}
            Verdict::Idle => {
                // Something was put into the ring after its end had been seen.
                if context.kicked {
                    self.guc().enqueue(id);
                }
            }
            Verdict::Yielded { .. } => {
                self.guc().enqueue(id);
            }
            Verdict::Fault(fault) => return self.raise_fault(id, &fault),
            Verdict::Broken(why) => {
                tracing::info!(target: "guc", id, engine = ENGINES[engine].name, why, "memory error");
                self.memory_error(id);
            }
            Verdict::Hang { stuck } => {
                tracing::info!(target: "guc", id, engine = ENGINES[engine].name, stuck, "hangs");
                context.doing = Doing::Hung { stuck };
                self.guc().blocked[engine] = Some(Blocked { context: id, since: Instant::now() });
                // Nobody else gets a turn now.
                let guc = self.guc();
                let waiting = guc.ready[engine].iter().copied();
                let mut off: Vec<u32> =
                    waiting.filter(|id| guc.contexts.get(id).is_some_and(|c| c.disabling)).collect();
                off.extend(disabling.then_some(id));
                for id in off {
                    if let Some(context) = self.guc().contexts.get_mut(&id) {
                        context.disabling = false;
                    }
                    self.set_enabled(id, false);
                }
                return;
            }
            Verdict::Cancelled => {}
        }
        if disabling {
            self.event(EVENT_SCHED_DONE, &[id, 0]);
        }
    }
}
