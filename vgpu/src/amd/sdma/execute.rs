//! Execution of SDMA packets.

use std::time::{Duration, Instant};

use super::atomic::Operation;
use super::packet::{self, Packet, WINDOW};
use crate::amd::asic::SDMA_CLIENTS;
use crate::amd::core::Core;
use crate::amd::interrupt::{Interrupt, source};
use crate::amd::mmio;
use crate::amd::queue::{Buffer, End, Hung, Job, QueueId};
use crate::amd::state::State;
use crate::amd::stream::Stream;
use crate::amd::trouble;
use crate::amd::vm::{Cause, MemoryStop, Owner, PageFault, RunMemory};
use crate::counters::Counter;
use crate::inject::{Kind, Strike, direction};
use crate::mem::{self, Access, Place, Space, Span, Traffic};

/// A poll that fails is repeated after this time.
const POLL: Duration = Duration::from_micros(200);
/// Bytes after which a long packet looks whether it shall stop, and remembers how far it is.
const PIECE: u64 = 4096;

/// Executes the packet at the head of the queue, or as much of it as goes.
pub fn step(core: &Core, engine: usize, job: &mut Job) -> Result<(), End> {
    let (base, stream) = match job.cursor.buffers.last() {
        Some(b) => (b.owner, Stream::buffer(b.base, b.size, b.at)),
        None => (job.ring.owner, Stream::ring(job.ring.base, job.ring.size, job.ring.read)),
    };
    let token = job.token.clone();
    let run = RunMemory { memory: &core.memory, owner: base, token: &token };
    let mut words = [0; WINDOW];
    words[0] = stream.word(&run, 0)?;
    let needs = packet::needs(words[0]);
    stream.words(&run, 1, &mut words[1..needs])?;
    let (packet, length) = packet::decode(&words, core.asic.wide_copies).map_err(|unknown| {
        let why =
            format!("sdma operation {:#x} sub {:#x}", unknown.header & 0xff, (unknown.header >> 8) & 0xff);
        trouble::unknown_packet(core, &why);
        End::Hung(Hung::Soft(why))
    })?;
    let kernel = State::is_kernel(&job.ring);
    // A batch is an indirect buffer of the driver, or what a process puts into an empty queue.
    let starts = if kernel {
        matches!(packet, Packet::Indirect { .. }) && !job.cursor.asked
    } else {
        !job.cursor.busy
    };
    job.cursor.busy = true;
    if starts {
        // A packet of a process may still be asked about itself.
        job.cursor.asked = kernel;
        trouble::batch(core, job, kernel)?;
    }
    let mut skip = 0;
    execute(core, engine, job, &run, &stream, packet, &mut skip)?;
    core.board.counters.add(Counter::Instructions, 1);
    if std::mem::take(&mut job.cursor.faulted) {
        core.board.counters.add(Counter::FaultsResolved, 1);
    }
    if let Packet::Indirect { vmid, base, count } = packet {
        job.advance(length);
        // Queues of processes stay in their own address space.
        let owner = if kernel { Owner { slot: vmid, ..job.ring.owner } } else { job.ring.owner };
        if !job.cursor.buffers.is_empty() {
            return Err(End::Hung(Hung::Soft("an indirect buffer inside another".into())));
        }
        job.cursor.buffers.push(Buffer { base, size: count, at: 0, owner });
    } else {
        job.advance(length + skip);
    }
    job.leave_buffers();
    Ok(())
}

fn execute(
    core: &Core,
    engine: usize,
    job: &mut Job,
    run: &RunMemory<'_>,
    stream: &Stream,
    packet: Packet,
    skip: &mut u64,
) -> Result<(), End> {
    match packet {
        Packet::Nop | Packet::Indirect { .. } | Packet::Timestamp { to: None } => {}
        Packet::Copy { from, to, len } => copy(core, job, run, from, to, len)?,
        Packet::Write { to, count } => write_words(job, run, stream, to, count)?,
        Packet::Fence { to, value } => {
            if !trouble::fence(core, State::is_kernel(&job.ring)) {
                mem::write32(run, run.at(to), value)?;
            }
        }
        Packet::Trap { context } => {
            let client = SDMA_CLIENTS.get(engine).copied().unwrap_or(0);
            let ring = match job.id {
                QueueId::Sdma { ring: 1, .. } => 3,
                QueueId::Sdma { ring: 0, .. } => 0,
                _ => 1,
            };
            let interrupt = Interrupt {
                source: (client, source::SDMA_TRAP),
                ring,
                vmid: job.ring.owner.vmid(),
                mm: true,
                pasid: job.ring.pasid,
                data: [context, 0, 0],
            };
            core.interrupt(&mut core.lock(), &interrupt);
        }
        Packet::PollRegister { register, test } => {
            let value = mmio::read(core, &mut core.lock(), register >> 2);
            if !test.passes(value) {
                return Err(End::Wait(POLL));
            }
        }
        Packet::PollMemory { at, test } => {
            if !test.passes(mem::read32(run, run.at(at))?) {
                return Err(End::Wait(POLL));
            }
        }
        Packet::Conditional { at, reference, count } => {
            if mem::read32(run, run.at(at))? != reference {
                *skip = count;
            }
        }
        Packet::Atomic { operation, repeat, at, operand, compare } => {
            let Some(operation) = Operation::new(operation) else {
                return Err(End::Hung(Hung::Soft(format!("atomic operation {operation:#x}"))));
            };
            let changed = atomic(run, operation, at, operand, compare)?;
            core.board.counters.add(Counter::Atomics, 1);
            if repeat && operation.compares() && !changed {
                return Err(End::Wait(POLL));
            }
        }
        Packet::Fill { to, pattern, width, len } => fill(job, run, to, pattern, width, len)?,
        Packet::Entries { to, first, step, count } => {
            while job.cursor.done < count {
                let i = job.cursor.done;
                mem::write64(run, run.at(to + i * 8), first.wrapping_add(step.wrapping_mul(i)))?;
                job.cursor.done += 1;
            }
        }
        Packet::Timestamp { to: Some(to) } => mem::write64(run, run.at(to), core.clock())?,
        Packet::RegisterWrite { register, value } => mmio::write(core, register, value, true),
    }
    Ok(())
}

/// The direction of a copy, for orders of trouble and for counters.
fn classify(from: Option<Place>, to: Option<Place>) -> u32 {
    match (from, to) {
        (Some(Place::Peer), _) | (_, Some(Place::Peer)) => direction::PEER,
        (Some(Place::Vram), Some(Place::Vram)) => direction::INSIDE_VRAM,
        (Some(Place::Vram), _) => direction::FROM_VRAM,
        (_, Some(Place::Vram)) => direction::TO_VRAM,
        _ => direction::SYSTEM,
    }
}

fn copy(core: &Core, job: &mut Job, run: &RunMemory<'_>, from: u64, to: u64, len: u64) -> Result<(), End> {
    if job.cursor.done == 0 && !job.cursor.asked {
        let (source, target) = {
            let _permit = run.enter()?;
            let source = run.translate(run.at(from), Access::Read)?.place();
            (source, run.translate(run.at(to), Access::Write)?.place())
        };
        job.cursor.asked = true;
        tracing::trace!(target: "sdma", id = ?job.id, from, to, len, "copy");
        let kinds = [Kind::CopySkip, Kind::CopyError, Kind::CopyHang, Kind::CopySlow];
        let (way, whose) = (classify(source, target), trouble::whose(State::is_kernel(&job.ring)));
        match core.board.strike(&kinds, &[way, whose, way | whose]) {
            None => {}
            Some(Strike { kind: Kind::CopySkip, .. }) => return Ok(()),
            Some(Strike { kind: Kind::CopySlow, value }) => {
                job.cursor.until = Some(Instant::now() + Duration::from_micros(value.into()));
            }
            Some(Strike { kind: Kind::CopyError, .. }) => {
                let fault = PageFault {
                    owner: run.owner,
                    va: run.at(to),
                    access: Access::Write,
                    cause: Cause::NotValid,
                };
                return Err(trouble::memory_error(core, job, &fault));
            }
            Some(Strike { value: 1, .. }) => {
                return Err(End::Hung(Hung::Hard("a copy that hangs and cannot be preempted".into())));
            }
            Some(_) => return Err(End::Hung(Hung::Soft("a copy that never completes".into()))),
        }
    }
    if let Some(left) = job.cursor.until.and_then(|t| t.checked_duration_since(Instant::now())) {
        if !left.is_zero() {
            return Err(End::Wait(left.min(Duration::from_millis(50))));
        }
    }
    let mut traffic = Traffic::default();
    let result = copy_pieces(job, run, from, to, len, &mut traffic);
    let counters = &core.board.counters;
    counters.add(Counter::BytesToVram, traffic.to_vram);
    counters.add(Counter::BytesFromVram, traffic.from_vram);
    counters.add(Counter::BytesInsideVram, traffic.inside_vram);
    counters.add(Counter::BytesPeer, traffic.peer);
    counters.add(Counter::BytesSystem, traffic.system);
    result?;
    counters.add(Counter::Copies, 1);
    Ok(())
}

fn copy_pieces(
    job: &mut Job,
    run: &RunMemory<'_>,
    from: u64,
    to: u64,
    len: u64,
    traffic: &mut Traffic,
) -> Result<(), MemoryStop> {
    while job.cursor.done < len {
        let done = job.cursor.done;
        // Pieces end at a page of the target, so that a fault there repeats nothing.
        let part = (PIECE - (to.wrapping_add(done) & (PIECE - 1))).min(len - done);
        mem::copy(run, run.at(from.wrapping_add(done)), run, run.at(to.wrapping_add(done)), part, traffic)?;
        job.cursor.done += part;
    }
    Ok(())
}

fn write_words(
    job: &mut Job,
    run: &RunMemory<'_>,
    stream: &Stream,
    to: u64,
    count: u64,
) -> Result<(), MemoryStop> {
    while job.cursor.done < count {
        let done = job.cursor.done;
        let part = (count - done).min(PIECE / 4);
        let mut words = vec![0; part as usize];
        stream.words(run, 4 + done, &mut words)?;
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        mem::write(run, run.at(to + done * 4), &bytes)?;
        job.cursor.done += part;
    }
    Ok(())
}

fn fill(
    job: &mut Job,
    run: &RunMemory<'_>,
    to: u64,
    pattern: u32,
    width: u64,
    len: u64,
) -> Result<(), MemoryStop> {
    let bytes = pattern.to_le_bytes();
    let block: Vec<u8> = bytes[..width as usize].iter().copied().cycle().take(PIECE as usize).collect();
    while job.cursor.done < len {
        let done = job.cursor.done;
        let part = (len - done).min(PIECE);
        mem::write(run, run.at(to + done), &block[..part as usize])?;
        job.cursor.done += part;
    }
    Ok(())
}

/// Changes memory in one step, also as the guest's processors see it; tells whether it changed.
fn atomic(
    run: &RunMemory<'_>,
    operation: Operation,
    at: u64,
    operand: u64,
    compare: u64,
) -> Result<bool, End> {
    use std::sync::atomic::Ordering::SeqCst;
    let _permit = run.enter()?;
    let span = run.translate(run.at(at), Access::Atomic)?;
    let Span::Memory { mapping, offset, .. } = span else { return Ok(false) };
    let broken = || End::Hung(Hung::Soft(format!("atomic operation at {at:#x}: no aligned memory there")));
    if operation.wide {
        let cell = mapping.atomic64(offset).map_err(|_| broken())?;
        return Ok(cell.fetch_update(SeqCst, SeqCst, |old| operation.apply(old, operand, compare)).is_ok());
    }
    let cell = mapping.atomic32(offset).map_err(|_| broken())?;
    let update = |old: u32| operation.apply(old.into(), operand, compare).map(|new| new as u32);
    Ok(cell.fetch_update(SeqCst, SeqCst, update).is_ok())
}
