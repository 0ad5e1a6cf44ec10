//! Execution of PM4 packets.

use std::time::Duration;

use super::packet::{self, Header, Packet, Place, Release};
use super::scheduling;
use crate::amd::core::Core;
use crate::amd::interrupt::{Interrupt, source};
use crate::amd::mmio;
use crate::amd::queue::{Buffer, End, Hung, Job, QueueId};
use crate::amd::state::State;
use crate::amd::stream::Stream;
use crate::amd::trouble;
use crate::amd::vm::{HubId, MemoryStop, Owner, RunMemory};
use crate::counters::Counter;
use crate::mem;

/// A wait that fails is repeated after this time.
const POLL: Duration = Duration::from_micros(200);
/// Indirect buffers inside each other.
const DEPTH: usize = 3;

/// Executes the packet at the head of the queue.
pub fn step(core: &Core, job: &mut Job) -> Result<(), End> {
    let (owner, stream) = match job.cursor.buffers.last() {
        Some(b) => (b.owner, Stream::buffer(b.base, b.size, b.at)),
        None => (job.ring.owner, Stream::ring(job.ring.base, job.ring.size, job.ring.read)),
    };
    let token = job.token.clone();
    let run = RunMemory { memory: &core.memory, owner, token: &token };
    let header = stream.word(&run, 0)?;
    let (code, length) = match Header::new(header) {
        Header::Filler => {
            job.advance(1);
            job.leave_buffers();
            return Ok(());
        }
        Header::Operation { code, length } => (code, length),
        Header::Broken => return Err(unknown(core, &format!("pm4 header {header:#x}"))),
    };
    let mut words = vec![0; length as usize - 1];
    stream.words(&run, 1, &mut words)?;
    let packet = packet::decode(code, &words)
        .map_err(|unknown_code| unknown(core, &format!("pm4 operation {:#x}", unknown_code.code)))?;
    let kernel = State::is_kernel(&job.ring);
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
    let skip = execute(core, job, &run, &packet)?;
    core.board.counters.add(Counter::Instructions, 1);
    if std::mem::take(&mut job.cursor.faulted) {
        core.board.counters.add(Counter::FaultsResolved, 1);
    }
    job.advance(length + skip);
    if let Packet::Indirect { vmid, base, count } = packet {
        if job.cursor.buffers.len() >= DEPTH {
            return Err(End::Hung(Hung::Soft("indirect buffers too deep".into())));
        }
        let owner = if kernel { Owner { slot: vmid, ..owner } } else { owner };
        job.cursor.buffers.push(Buffer { base, size: count, at: 0, owner });
    }
    job.leave_buffers();
    Ok(())
}

fn unknown(core: &Core, what: &str) -> End {
    trouble::unknown_packet(core, what);
    End::Hung(Hung::Soft(what.into()))
}

fn load(core: &Core, run: &RunMemory<'_>, place: Place, wide: bool) -> Result<u64, MemoryStop> {
    Ok(match place {
        Place::Register(register) => mmio::read(core, &mut core.lock(), register).into(),
        Place::Memory(at) if wide => mem::read64(run, run.at(at))?,
        Place::Memory(at) => mem::read32(run, run.at(at))?.into(),
        Place::Immediate(value) => value,
        Place::Clock => core.clock(),
    })
}

fn store(core: &Core, run: &RunMemory<'_>, place: Place, value: u64, wide: bool) -> Result<(), MemoryStop> {
    match place {
        Place::Register(register) => mmio::write(core, register, value as u32, true),
        Place::Memory(at) if wide => mem::write64(run, run.at(at), value)?,
        Place::Memory(at) => mem::write32(run, run.at(at), value as u32)?,
        Place::Immediate(_) | Place::Clock => {}
    }
    Ok(())
}

/// Executes a packet and tells how many dwords behind it are skipped.
fn execute(core: &Core, job: &mut Job, run: &RunMemory<'_>, packet: &Packet) -> Result<u64, End> {
    match packet {
        Packet::Nop | Packet::Indirect { .. } => {}
        Packet::SetRegisters { first, values } => {
            for (i, value) in values.iter().enumerate() {
                mmio::write(core, first + i as u32, *value, true);
            }
        }
        Packet::WriteData { to, same, values } => {
            for (i, value) in values.iter().enumerate() {
                let i = if *same { 0 } else { i };
                let to = match *to {
                    Place::Register(register) => Place::Register(register + i as u32),
                    Place::Memory(at) => Place::Memory(at + 4 * i as u64),
                    other => other,
                };
                store(core, run, to, u64::from(*value), false)?;
            }
        }
        Packet::Wait { at, test, write } => {
            if let Some((register, value)) = write {
                mmio::write(core, *register, *value, true);
            }
            if !test.passes(load(core, run, *at, false)? as u32) {
                return Err(End::Wait(POLL));
            }
        }
        Packet::CopyData { from, to, wide } => {
            let value = load(core, run, *from, *wide)?;
            store(core, run, *to, value, *wide)?;
        }
        Packet::ReleaseMem { to, value, interrupt, context } => {
            if !trouble::fence(core, State::is_kernel(&job.ring)) {
                match *value {
                    Release::Nothing => {}
                    Release::Low(value) => mem::write32(run, run.at(*to), value)?,
                    Release::Both(value) => mem::write64(run, run.at(*to), value)?,
                    Release::Clock => mem::write64(run, run.at(*to), core.clock())?,
                }
            }
            if *interrupt {
                end_of_pipe(core, job, *context);
            }
        }
        Packet::DmaData { from, to, len } => match from {
            Place::Immediate(value) => {
                let block: Vec<u8> =
                    (*value as u32).to_le_bytes().into_iter().cycle().take(*len as usize).collect();
                mem::write(run, run.at(*to), &block)?;
            }
            Place::Memory(from) => {
                let mut traffic = mem::Traffic::default();
                mem::copy(run, run.at(*from), run, run.at(*to), *len, &mut traffic)?;
            }
            _ => {}
        },
        Packet::CondExec { at, count } => {
            if mem::read32(run, run.at(*at))? == 0 {
                return Ok(*count);
            }
        }
        Packet::InvalidateTlbs { pasid, all_hubs } => {
            invalidate(core, *pasid, *all_hubs);
        }
        Packet::SetResources { vmids } => core.lock().scheduler.set_vmids(*vmids),
        Packet::MapQueues(map) => scheduling::map(core, run, map)?,
        Packet::UnmapQueues { queues, reset } => scheduling::unmap(core, queues, *reset)?,
        Packet::QueryStatus { to, value } => scheduling::answer(core, job, run, *to, *value)?,
        Packet::RunList { base, count } => scheduling::run_list(core, run, *base, *count)?,
    }
    Ok(0)
}

fn end_of_pipe(core: &Core, job: &Job, context: u32) {
    let (engine, pipe, queue) = match job.id {
        QueueId::Slot(slot) => slot,
        _ => (0, 0, 0),
    };
    let interrupt = Interrupt {
        source: source::END_OF_PIPE,
        ring: engine << 2 | pipe | queue << 4,
        vmid: job.ring.owner.vmid(),
        mm: false,
        pasid: job.ring.pasid,
        data: [context, 0, 0],
    };
    core.interrupt(&mut core.lock(), &interrupt);
}

/// Drops the translations of a process, wherever it has a VMID.
fn invalidate(core: &Core, pasid: u32, all_hubs: bool) {
    let hubs: &[HubId] = if all_hubs { &HubId::ALL } else { &[HubId::Gc] };
    for hub in hubs {
        let vmids = {
            let state = core.lock();
            let scheduled = state.scheduler.slots(pasid).into_iter().filter(|slot| *slot < 16);
            let mapped = (1..16).filter(|slot| state.pasid(Owner { hub: *hub, slot: *slot }) == pasid);
            scheduled.chain(mapped).fold(0u16, |mask, slot| mask | 1 << slot)
        };
        core.invalidate(*hub, vmids);
    }
}
