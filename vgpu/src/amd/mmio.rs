//! Registers and doorbells: what an access by the guest, or by a packet, does.

use super::core::Core;
use super::queue::QueueId;
use super::registers::{Hook, at};
use super::state::State;
use super::vm::{ApertureField, HubId};
use crate::inject::Kind;

/// Where the frame buffer aperture starts; far from guest memory and from the GART.
const FRAME_BASE: u64 = 0xf4_0000_0000;

/// Registers whose value after power-on depends on the profile.
pub fn preset(core: &Core, state: &mut State) {
    let hive = &core.memory.hive;
    let (size, nodes) = (hive.own().size(), hive.nodes() as u64);
    let base = (FRAME_BASE >> 24) as u32;
    let top = ((FRAME_BASE + size * nodes - 1) >> 24) as u32;
    for hub in HubId::ALL {
        let first = core.asic.hub(hub).apertures;
        state.registers.set(first, base);
        state.registers.set(first + at::aperture::FB_LOCATION_TOP, top);
        let mut hub = core.memory.hub_mut(hub);
        *hub = Default::default();
        hub.set_aperture(ApertureField::FrameBase, base);
        hub.set_aperture(ApertureField::FrameTop, top);
        // The AGP aperture ends before it starts.
        hub.set_aperture(ApertureField::AgpBottom, u32::MAX);
    }
    state.registers.set(at::RCC_CONFIG_MEMSIZE, (size >> 20) as u32);
    if nodes > 1 {
        let node = hive.node() as u32;
        state.registers.set(at::MC_VM_XGMI_LFB_CNTL, node | (nodes as u32 - 1) << 4);
        state.registers.set(at::MC_VM_XGMI_LFB_SIZE, (size >> 24) as u32);
    }
}

/// What the window of MM_INDEX points to.
enum Window {
    Register(u32),
    Memory(u64),
}

fn window(state: &State) -> Window {
    let index = state.registers.get(at::MM_INDEX);
    if index >> 31 == 0 {
        return Window::Register(index >> 2);
    }
    let high = u64::from(state.registers.get(at::MM_INDEX_HI));
    Window::Memory(u64::from(index & 0x7fff_ffff) | high << 31)
}

/// Reads a register.
pub fn read(core: &Core, state: &mut State, address: u32) -> u32 {
    let (value, hook) = state.registers.read(address);
    match hook {
        None => value,
        Some(Hook::Window) => match window(state) {
            Window::Register(address) if address != at::MM_DATA => read(core, state, address),
            Window::Register(_) => 0,
            Window::Memory(at) => core.memory.hive.own().mapping().load32(at).unwrap_or(!0),
        },
        Some(Hook::Network) => {
            let index = state.registers.get(at::PCIE_INDEX2);
            *state.network.entry(index).or_default()
        }
        Some(Hook::MemorySize) => {
            // The driver asks several times and must hear the same, until a reset.
            if let Some(strike) = core.board.strike(&[Kind::MemoryLimit], &[]) {
                state.registers.set(address, strike.value.clamp(1, value));
            }
            state.registers.get(address)
        }
        Some(Hook::Clock { high }) => (core.clock() >> if high { 32 } else { 0 }) as u32,
        Some(Hook::Queue) => {
            let slot = state.selected_slot();
            state.banks.get(&slot).map_or(0, |bank| bank[(address - at::CP_HQD_FIRST) as usize])
        }
        Some(_) => value,
    }
}

/// Writes a register. `engine`: a packet does it, so it cannot wait for an engine.
pub fn write(core: &Core, address: u32, value: u32, engine: bool) {
    let mut state = core.lock();
    let Some(hook) = state.registers.write(address, value) else { return };
    match hook {
        Hook::Window => match window(&state) {
            Window::Register(address) if address != at::MM_DATA => {
                drop(state);
                write(core, address, value, engine);
            }
            Window::Register(_) => {}
            Window::Memory(at) => drop(core.memory.hive.own().mapping().store32(at, value)),
        },
        Hook::Network => {
            let index = state.registers.get(at::PCIE_INDEX2);
            state.network.insert(index, value);
        }
        Hook::Invalidate(hub) => {
            state.registers.set(address, value);
            core.invalidate(hub, value as u16);
        }
        Hook::Context { hub, field, first } => {
            state.registers.set(address, value);
            core.memory.hub_mut(hub).set_context(field, address - first, value);
        }
        Hook::Aperture(hub, field) => {
            state.registers.set(address, value);
            core.memory.hub_mut(hub).set_aperture(field, value);
        }
        Hook::Queue => {
            drop(state);
            write_bank(core, address, value, engine);
        }
        Hook::GraphicsPointer => {
            state.registers.set(address, value);
            core.cp.wake();
        }
        Hook::SdmaRing { engine: number } => {
            state.registers.set(address, value);
            let offset = address - core.asic.sdma_ring(number, 0);
            let (ring, register) =
                (offset / super::asic::SDMA_RING_STRIDE, offset % super::asic::SDMA_RING_STRIDE);
            let id = QueueId::Sdma { engine: number, ring };
            if register == at::sdma::RB_CNTL && value & 1 == 0 {
                let mut state = core.stop(state, &[id], !engine);
                state.runs.remove(&id);
            } else {
                core.sdma[number].wake();
            }
        }
        Hook::RetryAcknowledge => state.faults.acknowledge(value),
        Hook::MemorySize | Hook::Clock { .. } => {}
    }
}

/// Writes a banked register of a queue of the command processor.
fn write_bank(core: &Core, address: u32, value: u32, engine: bool) {
    use at::hqd as h;
    let mut state = core.lock();
    let slot = state.selected_slot();
    let register = (address - at::CP_HQD_FIRST) as usize;
    let bank = state.banks.entry(slot).or_insert([0; at::CP_HQD_COUNT as usize]);
    bank[register] = value;
    let stop = register == h::DEQUEUE_REQUEST && value & 0xf != 0 || register == h::ACTIVE && value & 1 == 0;
    if stop {
        let id = QueueId::Slot(slot);
        let mut state = core.stop(state, &[id], !engine);
        state.runs.remove(&id);
        if let Some(bank) = state.banks.get_mut(&slot) {
            bank[h::ACTIVE] = 0;
            bank[h::DEQUEUE_REQUEST] = 0;
        }
    } else if register == h::ACTIVE || register == h::PQ_WPTR || register == h::PQ_WPTR + 1 {
        core.cp.wake();
    }
}

/// A store into the doorbell BAR, of 4 or 8 bytes.
pub fn doorbell(core: &Core, offset: u64, value: u64, wide: bool) {
    let mut state = core.lock();
    let value = if wide {
        value
    } else {
        state.half_doorbells.insert(offset, value as u32);
        if offset & 4 != 0 {
            return;
        }
        let high = state.half_doorbells.get(&(offset + 4)).copied().unwrap_or(0);
        value & 0xffff_ffff | u64::from(high) << 32
    };
    let Ok(offset) = u32::try_from(offset) else { return };
    if interrupt_doorbell(core, &mut state, offset, value as u32) {
        return;
    }
    match state.listener(offset) {
        Some(id) => {
            state.set_write(id, value);
            core.wake_queue(&state, id);
        }
        None => tracing::debug!(target: "doorbell", offset, value, "nobody listens"),
    }
}

/// Doorbells of the interrupt rings; they are numbered in dwords.
fn interrupt_doorbell(core: &Core, state: &mut State, offset: u32, value: u32) -> bool {
    let listens = |state: &State, register: u32| {
        let control = state.registers.get(register);
        control >> 28 & 1 == 1 && (control & 0x3ff_ffff) * 4 == offset
    };
    if listens(state, at::IH_DOORBELL_RPTR) {
        state.registers.set(at::IH_RB_RPTR, value);
        return true;
    }
    if core.asic.retry_cam && listens(state, at::IH_DOORBELL_RETRY_CAM) {
        state.faults.acknowledge(value);
        return true;
    }
    (1..3).any(|ring| listens(state, at::IH_DOORBELL_RPTR + ring * core.asic.interrupt_rings))
}
