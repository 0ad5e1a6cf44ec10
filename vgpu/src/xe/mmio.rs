//! Registers at which the device acts.

use super::core::{Core, State};
use super::guc::Firmware;
use super::registers::{
    DMA_ADDR_0_HIGH, DMA_ADDR_0_LOW, DMA_COPY_SIZE, DMA_CTRL, GU_DEBUG, GUC_STATUS, HUC_KERNEL_LOAD_INFO,
    Key, PCODE_DATA0, PCODE_DATA1,
};
use super::topology::{MAIN, MEDIA, MEDIA_OFFSET};
use crate::counters::Counter;
use crate::regs::merge_masked;

/// Firmware status: boot ROM in reset.
const STATUS_IN_RESET: u32 = 1;
/// Firmware status: authenticated, ROM done (0x76), kernel ready (0xf0), no error.
const STATUS_READY: u32 = 2 << 30 | 1 << 16 | 0xf0 << 8 | 0x76 << 1;

/// Reset of everything in the unit; of the firmware alone.
const RESET_FULL: u32 = 1 << 0;
const RESET_GUC: u32 = 1 << 3;

/// Start of an upload; the image is the GuC's; the image is the HuC's.
const DMA_START: u32 = 1 << 0;
const DMA_TO_GUC: u32 = 1 << 4;
const DMA_TO_HUC: u32 = 1 << 9;

/// Command register: busy, command number, status in the low byte.
const PCODE_BUSY: u32 = 1 << 31;
const PCODE_DGFX_STATUS: u32 = 0x7e;

/// Start of a function-level reset, and the bit that says it is over.
const DRIVER_FLR: u32 = 1 << 31;

/// A read of a register.
pub(super) fn read(core: &Core, state: &mut State, address: u32) -> u32 {
    let (stored, hook) = state.registers.read(address);
    let Some(key) = hook else { return stored };
    let half = |value: u64, high: bool| if high { (value >> 32) as u32 } else { value as u32 };
    match key {
        Key::InterruptTile => state.irq.tile(),
        Key::InterruptMaster => state.irq.master(),
        Key::InterruptBank(bank) => state.irq.bank(bank),
        Key::InterruptIdentity(bank) => state.irq.identity(bank),
        Key::Clock(high) => half(core.clock(), high),
        Key::ContextClock(engine, high) => {
            let running = state.gucs.iter().find_map(|guc| guc.running_on(engine));
            half(running.map_or(0, |context| context.clock.read(core.clock())), high)
        }
        _ => stored,
    }
}

/// A write to a register.
pub(super) fn write(core: &Core, state: &mut State, address: u32, value: u32) {
    let Some(key) = state.registers.write(address, value) else { return };
    let due = match key {
        Key::InterruptTile => state.irq.write_tile(value),
        Key::InterruptBank(bank) => state.irq.clear_bank(bank, value),
        _ => false,
    };
    if due {
        core.board.interrupt();
    }
    match key {
        Key::InterruptMaster => state.irq.clear_master(value),
        Key::InterruptSelector(bank) => {
            state.registers.set(address, value);
            state.irq.select(bank, value);
        }
        Key::InterruptIdentity(bank) => state.irq.clear_identity(bank),
        Key::ForceWake(acknowledge) => {
            let old = state.registers.get(acknowledge);
            state.registers.set(acknowledge, merge_masked(old, value));
        }
        Key::PcodeMailbox => pcode(state, address, value),
        Key::GuControl => {
            if value & DRIVER_FLR != 0 {
                tracing::info!(target: "mmio", "function-level reset by the driver");
                let old = state.registers.get(GU_DEBUG);
                state.registers.set(GU_DEBUG, old | DRIVER_FLR);
                reset_units(core, state);
            }
            state.registers.set(address, value & !DRIVER_FLR);
        }
        Key::Reset(unit) => {
            tracing::info!(target: "mmio", unit, value, "reset");
            if value & (RESET_FULL | RESET_GUC) != 0 {
                reset_unit(core, state, unit, value & RESET_FULL != 0);
            }
            state.registers.set(address, 0);
        }
        Key::FirmwareDma(unit) => upload(state, unit, value),
        Key::GucRequest(unit) => {
            state.registers.set(address, value);
            state.gucs[unit].note_request();
        }
        Key::GucDoorbell(unit) => Firmware::of(core, state, unit).doorbell(),
        _ => {}
    }
}

fn offset(unit: usize) -> u32 {
    unit as u32 * MEDIA_OFFSET
}

/// Resets a unit; `full` includes the second firmware.
fn reset_unit(core: &Core, state: &mut State, unit: usize, full: bool) {
    core.board.counters.add(Counter::UnitResets, 1);
    Firmware::of(core, state, unit).reset();
    state.registers.set(offset(unit) + GUC_STATUS, STATUS_IN_RESET);
    if full {
        state.registers.set(offset(unit) + HUC_KERNEL_LOAD_INFO, 0);
    }
}

/// Resets both units.
pub(super) fn reset_units(core: &Core, state: &mut State) {
    for unit in [MAIN, MEDIA] {
        reset_unit(core, state, unit, true);
    }
}

/// The power controller: answers every command at once.
fn pcode(state: &mut State, address: u32, value: u32) {
    if value & PCODE_BUSY == 0 {
        return state.registers.set(address, value);
    }
    let command = value & 0xff;
    let argument = state.registers.get(PCODE_DATA0);
    // "Ready" is the only answer that matters; the rest (fans, power limits) is content with zero.
    let answer = if command == PCODE_DGFX_STATUS { 1 } else { 0 };
    tracing::debug!(target: "mmio", command, argument, answer, "power controller");
    state.registers.set(PCODE_DATA0, answer);
    state.registers.set(PCODE_DATA1, 0);
    state.registers.set(address, value & !PCODE_BUSY & !0xff);
}

/// Upload of a firmware image. The image itself is not looked at: nothing here could run it.
fn upload(state: &mut State, unit: usize, value: u32) {
    let base = offset(unit);
    let control = merge_masked(state.registers.get(base + DMA_CTRL), value);
    if control & DMA_START != 0 {
        let get = |at| state.registers.get(base + at);
        let from = u64::from(get(DMA_ADDR_0_LOW)) | u64::from(get(DMA_ADDR_0_HIGH)) << 32;
        let (from, control_bits) = (format_args!("{from:#x}"), format_args!("{control:#x}"));
        tracing::info!(target: "mmio", unit, from, size = get(DMA_COPY_SIZE), control_bits, "firmware upload");
        if control & DMA_TO_GUC != 0 {
            state.gucs[unit].start();
            state.registers.set(base + GUC_STATUS, STATUS_READY);
        }
        if control & DMA_TO_HUC != 0 {
            state.registers.set(base + HUC_KERNEL_LOAD_INFO, 0);
        }
    }
    state.registers.set(base + DMA_CTRL, control & !DMA_START);
}
