//! Blitter instructions: copies and fills (`instructions/xe_gpu_commands.h`, `xe_migrate.c`).

use std::time::Duration;

use super::decode::blt;
use super::exec::{Env, Exec, Flow, Stop};
use crate::counters::Counter;
use crate::inject::{Kind, direction};
use crate::mem::{self, Access, Address, Space, Traffic};
use crate::xe::memory::Va;

const COPY_KINDS: [Kind; 4] = [Kind::CopySkip, Kind::CopyError, Kind::CopyHang, Kind::CopySlow];

/// A rectangle of bytes in two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rectangle {
    source: u64,
    target: u64,
    width: u64,
    rows: u64,
    source_pitch: u64,
    target_pitch: u64,
}

fn va(address: u64) -> Va {
    Va::new(false, address)
}

fn address(d: &[u32], at: usize) -> u64 {
    u64::from(d[at]) | u64::from(d[at + 1]) << 32
}

/// Bytes per pixel of a colour-depth field.
fn pixel(depth: u32) -> u64 {
    match depth {
        0 => 1,
        1 => 2,
        2 | 3 => 4,
        4 => 8,
        _ => 16,
    }
}

/// MEM_COPY: pages, bytes, or rows of bytes.
fn mem_copy(d: &[u32]) -> Rectangle {
    let pages = d[0] & 1 << 19 != 0;
    let matrix = d[0] & 1 << 17 != 0;
    let width = u64::from(d[1]) + 1;
    Rectangle {
        source: address(d, 5),
        target: address(d, 7),
        width: if pages { width * 256 } else { width },
        rows: if matrix { u64::from(d[2]) + 1 } else { 1 },
        source_pitch: u64::from(d[3]) + 1,
        target_pitch: u64::from(d[4]) + 1,
    }
}

/// XY_FAST_COPY: rows of pixels, linear surfaces.
fn fast_copy(d: &[u32]) -> Rectangle {
    let bytes = pixel(d[1] >> 24 & 7);
    let (x1, y1) = (u64::from(d[2] & 0xffff), u64::from(d[2] >> 16));
    let (x2, y2) = (u64::from(d[3] & 0xffff), u64::from(d[3] >> 16));
    let (source_x, source_y) = (u64::from(d[6] & 0xffff), u64::from(d[6] >> 16));
    let (target_pitch, source_pitch) = (u64::from(d[1] & 0xffff), u64::from(d[7] & 0xffff));
    Rectangle {
        source: address(d, 8) + source_y * source_pitch + source_x * bytes,
        target: address(d, 4) + y1 * target_pitch + x1 * bytes,
        width: x2.saturating_sub(x1) * bytes,
        rows: y2.saturating_sub(y1),
        source_pitch,
        target_pitch,
    }
}

impl Exec {
    pub(super) fn blt(&mut self, env: &Env<'_>, op: u32, d: &[u32]) -> Result<Flow, Stop> {
        match op {
            blt::MEM_COPY if d.len() >= 9 => self.copy(env, mem_copy(d))?,
            blt::XY_FAST_COPY if d.len() >= 10 => self.copy(env, fast_copy(d))?,
            blt::MEM_SET if d.len() >= 7 => {
                let rows = if d[0] & 1 << 17 != 0 { u64::from(d[2]) + 1 } else { 1 };
                for row in 0..rows {
                    let target = va(address(d, 4)).plus(row * (u64::from(d[3]) + 1));
                    mem::fill(&env.memory, target, (d[6] >> 24) as u8, u64::from(d[1]) + 1)?;
                }
            }
            blt::XY_FAST_COLOR if d.len() >= 8 => {
                let bytes = pixel(d[0] >> 19 & 7);
                let pitch = u64::from(d[1] & 0x3_ffff) + 1;
                let (x1, y1) = (u64::from(d[2] & 0xffff), u64::from(d[2] >> 16));
                let (x2, y2) = (u64::from(d[3] & 0xffff), u64::from(d[3] >> 16));
                let colour: Vec<u8> = d[7..].iter().take(4).flat_map(|v| v.to_le_bytes()).collect();
                let pixel = &colour[..colour.len().min(bytes as usize)];
                let line = pixel.repeat(x2.saturating_sub(x1) as usize);
                for y in y1..y2 {
                    mem::write(&env.memory, va(address(d, 4)).plus(y * pitch + x1 * bytes), &line)?;
                }
            }
            // Compression metadata: memory is never compressed here, so there is nothing to move.
            blt::XY_CTRL_SURF_COPY => {}
            _ => self.note_unknown(env, format!("BLT opcode {op:#04x}, {} dwords", d.len())),
        }
        Ok(Flow::Next)
    }

    fn copy(&mut self, env: &Env<'_>, r: Rectangle) -> Result<(), Stop> {
        if r.width == 0 || r.rows == 0 {
            return Ok(());
        }
        let moves = self.ask_for_trouble(env, &r)?;
        let mut traffic = Traffic::default();
        if moves {
            for row in 0..r.rows {
                let source = va(r.source).plus(row * r.source_pitch);
                let target = va(r.target).plus(row * r.target_pitch);
                mem::copy(&env.memory, source, &env.memory, target, r.width, &mut traffic)?;
            }
        }
        let counters = &env.core.board.counters;
        counters.add(Counter::Copies, 1);
        for (counter, bytes) in [
            (Counter::BytesToVram, traffic.to_vram),
            (Counter::BytesFromVram, traffic.from_vram),
            (Counter::BytesInsideVram, traffic.inside_vram),
            (Counter::BytesPeer, traffic.peer),
            (Counter::BytesSystem, traffic.system),
        ] {
            counters.add(counter, bytes);
        }
        tracing::debug!(
            target: "job",
            engine = env.engine.name,
            from = format_args!("{:#x}", r.source),
            to = format_args!("{:#x}", r.target),
            width = format_args!("{:#x}", r.width),
            rows = r.rows,
            ?traffic,
            "copy"
        );
        Ok(())
    }

    /// Lets ordered trouble happen to a copy; `false` when it shall not move anything. Asked once per copy, even
    /// if page faults make it start again: the first pages of both sides are looked at before, and what faults
    /// there is asked for when it is repeated.
    fn ask_for_trouble(&mut self, env: &Env<'_>, r: &Rectangle) -> Result<bool, Stop> {
        if self.asked {
            return Ok(!self.skip);
        }
        let class = {
            let _permit = env.memory.enter()?;
            let source = env.memory.translate(va(r.source), Access::Read)?.place();
            let target = env.memory.translate(va(r.target), Access::Write)?.place();
            let mut one = Traffic::default();
            one.add(source, target, 1);
            match one {
                Traffic { peer: 1, .. } => direction::PEER,
                Traffic { to_vram: 1, .. } => direction::TO_VRAM,
                Traffic { from_vram: 1, .. } => direction::FROM_VRAM,
                Traffic { inside_vram: 1, .. } => direction::INSIDE_VRAM,
                _ => direction::SYSTEM,
            }
        };
        self.asked = true;
        self.skip = false;
        let [_, whose] = env.classes();
        let Some(strike) = env.core.board.strike(&COPY_KINDS, &[class, whose, class | whose]) else {
            return Ok(true);
        };
        match strike.kind {
            Kind::CopySkip => self.skip = true,
            Kind::CopyError => return Err(Stop::Broken("ordered trouble".into())),
            Kind::CopyHang => return Err(Stop::Hang { stuck: strike.value == 1 }),
            _ => env.pause(Duration::from_micros(u64::from(strike.value)))?,
        }
        Ok(!self.skip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_copies() {
        let mut d = [2 << 29 | blt::MEM_COPY << 22 | 8, 63, 9, 99, 199, 0x1000, 1, 0x2000, 2, 0];
        let r = mem_copy(&d);
        assert_eq!((r.source, r.target, r.width, r.rows), (0x1_0000_1000, 0x2_0000_2000, 64, 1));
        d[0] |= 1 << 17;
        let r = mem_copy(&d);
        assert_eq!((r.width, r.rows, r.source_pitch, r.target_pitch), (64, 10, 100, 200));
        d[0] = d[0] & !(1 << 17) | 1 << 19;
        assert_eq!(mem_copy(&d).width, 64 * 256);
        let d = [0, 3 << 24 | 4096, 1 << 16 | 2, 3 << 16 | 10, 0x10_0000, 0, 0, 2048, 0x20_0000, 0];
        let r = fast_copy(&d);
        assert_eq!((r.width, r.rows, r.target, r.source), (32, 2, 0x10_1008, 0x20_0000));
    }
}
