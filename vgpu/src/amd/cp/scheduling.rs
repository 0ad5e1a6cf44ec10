//! What the driver asks of the scheduler.

use std::time::Duration;

use super::packet::{MapQueues, Selection};
use super::runlist::{self, Process};
use crate::amd::core::Core;
use crate::amd::queue::{Cursor, End, Hung, Job, QueueId, Run};
use crate::amd::registers::at;
use crate::amd::scheduler::{DESCRIPTOR, Scheduled};
use crate::amd::vm::{HubId, MemoryStop, Owner, RunMemory, VMIDS};
use crate::counters::Counter;
use crate::engine::RunToken;
use crate::inject::{Kind, Strike};
use crate::mem;

/// A request that cannot be met now is looked at again after this time.
const AGAIN: Duration = Duration::from_millis(10);
/// The code of QUERY_STATUS, for orders of trouble.
const QUERY_STATUS: u32 = 0xa4;
/// Position of the banked registers in the descriptor of a compute queue.
const BANK: u64 = 128;

/// Starts a queue in a slot of the command processor.
pub fn map(core: &Core, run: &RunMemory<'_>, map: &MapQueues) -> Result<(), MemoryStop> {
    core.board.counters.add(Counter::FirmwareRequests, 1);
    let mut bank = [0; at::CP_HQD_COUNT as usize];
    for (i, register) in bank.iter_mut().enumerate() {
        *register = mem::read32(run, run.at(map.descriptor + (BANK + i as u64) * 4))?;
    }
    const ADDRESS: u32 = 0x0fff_fffc;
    bank[at::hqd::ACTIVE] |= 1;
    let doorbell = &mut bank[at::hqd::PQ_DOORBELL_CONTROL];
    *doorbell = (*doorbell & !ADDRESS) | map.doorbell;
    tracing::debug!(target: "cp", slot = ?map.slot, doorbell = map.doorbell, "queue mapped");
    let mut state = core.lock();
    state.runs.remove(&QueueId::Slot(map.slot));
    state.banks.insert(map.slot, bank);
    core.cp.wake();
    Ok(())
}

/// Stops queues. A queue that hangs for good keeps the request waiting, as it does real firmware.
pub fn unmap(core: &Core, queues: &Selection, reset: bool) -> Result<(), End> {
    core.board.counters.add(Counter::FirmwareRequests, 1);
    tracing::debug!(target: "cp", ?queues, reset, "unmap");
    match queues {
        Selection::Doorbells(doorbells) => {
            let mut state = core.lock();
            const ADDRESS: u32 = 0x0fff_fffc;
            for doorbell in doorbells {
                for bank in state.banks.values_mut() {
                    if bank[at::hqd::PQ_DOORBELL_CONTROL] & ADDRESS == *doorbell {
                        bank[at::hqd::ACTIVE] = 0;
                    }
                }
            }
            let numbers: Vec<u32> =
                doorbells.iter().filter_map(|doorbell| state.scheduler.listener(*doorbell)).collect();
            drop(state);
            unload(core, &numbers, reset)
        }
        Selection::Pasid(pasid) => {
            let numbers = {
                let state = core.lock();
                let of_process = state.scheduler.queues().filter(|(_, q)| q.ring.pasid == *pasid);
                of_process.map(|(number, _)| number).collect::<Vec<_>>()
            };
            unload(core, &numbers, reset)
        }
        Selection::All => unload_all(core, reset),
    }
}

/// Takes queues off and saves where they are.
fn unload(core: &Core, numbers: &[u32], reset: bool) -> Result<(), End> {
    let ids: Vec<QueueId> = numbers.iter().map(|number| QueueId::Scheduled(*number)).collect();
    let mut saves = Vec::new();
    {
        let mut state = core.stop(core.lock(), &ids, true);
        let hard = |id: &QueueId| state.runs.get(id).is_some_and(|r| matches!(r.hung, Some(Hung::Hard(_))));
        if !reset && ids.iter().any(hard) {
            return Err(End::Wait(AGAIN));
        }
        for number in numbers {
            let run = state.runs.remove(&QueueId::Scheduled(*number)).unwrap_or_default();
            if let Some(queue) = state.scheduler.remove(*number) {
                saves.push((queue.descriptor, queue.save(&run.cursor)));
            }
        }
    }
    let token = RunToken::new();
    let kernel = core.kernel_memory(HubId::Gc, &token);
    for (descriptor, words) in saves.iter().filter(|_| !reset) {
        for (index, word) in words {
            mem::write32(&kernel, kernel.at(descriptor + *index as u64 * 4), *word)?;
        }
    }
    Ok(())
}

/// Takes everything off, the processes too.
fn unload_all(core: &Core, reset: bool) -> Result<(), End> {
    let numbers: Vec<u32> = core.lock().scheduler.queues().map(|(number, _)| number).collect();
    unload(core, &numbers, reset)?;
    let mut state = core.lock();
    for slot in state.scheduler.clear_processes() {
        if slot < VMIDS {
            state.registers.set(at::ATC_VMID0_PASID_MAPPING + slot, 0);
            state.registers.set(at::IH_VMID_0_LUT + slot, 0);
            state.registers.set(at::IH_VMID_0_LUT_MM + slot, 0);
        }
    }
    drop(state);
    for hub in HubId::ALL {
        core.memory.hub_mut(hub).forget_extra();
    }
    Ok(())
}

/// Writes the value that tells the driver that everything before is done, unless it is ordered to get lost.
pub fn answer(core: &Core, job: &mut Job, run: &RunMemory<'_>, to: u64, value: u64) -> Result<(), End> {
    if !job.cursor.asked {
        job.cursor.asked = true;
        match core.board.strike(&[Kind::ReplyLose, Kind::ReplyDelay], &[QUERY_STATUS]) {
            Some(Strike { kind: Kind::ReplyLose, .. }) => return Ok(()),
            Some(Strike { value, .. }) => return Err(End::Wait(Duration::from_micros(value.into()))),
            None => {}
        }
    }
    mem::write64(run, run.at(to), value)?;
    core.board.counters.add(Counter::FirmwareMessages, 1);
    Ok(())
}

/// Replaces all processes and queues.
pub fn run_list(core: &Core, run: &RunMemory<'_>, base: u64, count: u64) -> Result<(), End> {
    core.board.counters.add(Counter::FirmwareRequests, 1);
    unload_all(core, false)?;
    let mut bytes = vec![0; count as usize * 4];
    mem::read(run, run.at(base), &mut bytes)?;
    let words: Vec<u32> =
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (processes, problem) = runlist::parse(&words);
    if let Some(problem) = problem {
        crate::amd::trouble::unknown_packet(core, &problem);
    }
    for process in &processes {
        let slot = place(core, process);
        for map in &process.queues {
            start(core, run, process, slot, map)?;
        }
    }
    tracing::debug!(target: "cp", processes = processes.len(), "run list");
    Ok(())
}

/// Gives a process a slot and its page tables.
fn place(core: &Core, process: &Process) -> u32 {
    let slot = {
        let mut state = core.lock();
        let slot = state.scheduler.admit(process.pasid);
        if slot < VMIDS {
            state.registers.set(at::ATC_VMID0_PASID_MAPPING + slot, 1 << 31 | process.pasid);
            state.registers.set(at::IH_VMID_0_LUT + slot, process.pasid);
            state.registers.set(at::IH_VMID_0_LUT_MM + slot, process.pasid);
            for hub in HubId::ALL {
                let first = core.asic.hub(hub).contexts + at::hub::PAGE_TABLE_BASE + 2 * slot;
                state.registers.set(first, process.root as u32);
                state.registers.set(first + 1, (process.root >> 32) as u32);
            }
        }
        slot
    };
    for hub in HubId::ALL {
        core.memory.hub_mut(hub).assign(slot, process.root);
        if slot < VMIDS {
            core.memory.invalidate(hub, 1 << slot);
        }
    }
    slot
}

/// Starts a queue of a process.
fn start(
    core: &Core,
    run: &RunMemory<'_>,
    process: &Process,
    slot: u32,
    map: &MapQueues,
) -> Result<(), MemoryStop> {
    let mut words = [0; DESCRIPTOR];
    for (i, word) in words.iter_mut().enumerate() {
        // Descriptors of SDMA queues are shorter, but lie in the middle of a buffer.
        *word = mem::read32(run, run.at(map.descriptor + 4 * i as u64)).unwrap_or(0);
    }
    let hub = if map.sdma().is_some() { HubId::Mm } else { HubId::Gc };
    let token = RunToken::new();
    let space = RunMemory { memory: &core.memory, owner: Owner { hub, slot }, token: &token };
    let write = mem::read64(&space, space.at(map.write_pointer)).ok();
    let (queue, cursor): (Scheduled, Cursor) = Scheduled::load(map, &words, slot, process, write);
    if queue.sdma.is_some_and(|engine| engine >= core.asic.sdma.len()) {
        crate::amd::trouble::unknown_packet(core, &format!("a queue for engine {:?}", queue.sdma));
        return Ok(());
    }
    tracing::debug!(target: "cp", ?queue, "queue started");
    let mut state = core.lock();
    let number = state.scheduler.add(queue);
    let id = QueueId::Scheduled(number);
    state.runs.insert(id, Run { cursor, ..Run::default() });
    core.wake_queue(&state, id);
    Ok(())
}
