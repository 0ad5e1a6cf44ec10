//! The memory of this process, moved by the migration engine.

use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::Advice;

use crate::error::{Errno, Error, Result};
use crate::pagemap::{Atomicity, Event, Events, MigrateOptions, Space, VramRegion, Windows};
use crate::procmaps::{Entry, Maps};
use crate::range::{PageRange, SIZE_2M};
use crate::sim::id_map::IdMap;
use crate::sim::kfd::config::KfdConfig;
use crate::sim::kfd::memory::{Change, Kind, Memory, Piece, Watch};
use crate::sim::user_memory::WriteAccess;
use crate::vma::{Vma, VmaKind, VmaMap};

/// This process's address space, and one region of VRAM for each simulated device.
///
/// What moves is what the engine can move: private anonymous memory that is readable and writable. The kernel also moves
/// read-only memory, and pages of private file mappings that were written to.
#[derive(Debug)]
pub(super) struct ProcessMemory {
    space: Space,
    regions: IdMap<usize, VramRegion>,
    events: Mutex<Events>,
}

impl ProcessMemory {
    /// Regions as large as the devices' VRAM. What is allocated in them is decided by the simulated driver, which evicts
    /// before they are full.
    pub(super) fn new(config: &KfdConfig, space: Space) -> Result<Self> {
        let mut regions = IdMap::new();
        for gpu in &config.gpus {
            if !regions.contains_key(gpu.device) {
                regions.insert(gpu.device, VramRegion::new(&space, gpu.vram)?);
            }
        }
        let events = Mutex::new(space.events()?);
        Ok(Self { space, regions, events })
    }

    /// Moves what moves of a part of one mapping. How many bytes of it are in the region then.
    fn part_to_vram(&self, region: &VramRegion, part: PageRange, block: u64) -> Result<u64, Errno> {
        let options = MigrateOptions::new()
            .windows(Windows::Blocks(block.min(SIZE_2M)))
            .atomicity(Atomicity::BestEffort);
        let migrate = || self.space.migrate_to_devmem(region, part, &options).map_err(errno);
        let mut migrated = migrate()?;
        if migrated.refused > 0 {
            // Unlike the kernel, the engine does not move pages that a forked process shares. Writing ends the sharing.
            for run in self.space.placement(part).map_err(errno)?.iter().filter(|run| run.region.is_none()) {
                let _ = self.fault_in(run.range, true);
            }
            migrated = migrate()?;
        }
        Ok(migrated.moved + migrated.already)
    }

    /// Makes the pages of a run present that no device has.
    fn fault_in(&self, run: PageRange, write: bool) -> Result<(), Errno> {
        let advice = if write { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
        // SAFETY: the kernel faults pages in as a touch would, changing no byte, and answers EFAULT or ENOMEM where that is
        // not possible.
        let result =
            unsafe { rustix::mm::madvise(run.start() as usize as *mut _, run.len() as usize, advice) };
        result.map_err(|errno| match errno {
            // A hole, which the driver's own look at the mappings reports as well.
            rustix::io::Errno::NOMEM => Errno::EFAULT,
            other => other.into(),
        })
    }
}

impl Memory for ProcessMemory {
    fn pieces(&self, range: PageRange) -> Result<Vec<Piece>, Errno> {
        let mut map = VmaMap::new();
        map.read(range).map_err(errno)?;
        let (mut pieces, mut flags): (Vec<Piece>, _) = (Vec::new(), MappingFlags::default());
        for piece in map.within(range).filter_map(|vma| piece_of(vma, range)) {
            // The engine's registrations split mappings that a real driver sees as one.
            match pieces.last_mut().filter(|last| continues(last, &piece) && flags.are_alike(last, &piece)) {
                Some(last) => last.range = last.range.hull(piece.range),
                None => pieces.push(piece),
            }
        }
        Ok(pieces)
    }

    fn populate(&self, range: PageRange, write: bool) -> Result<(), Errno> {
        let runs = self.space.placement(range).map_err(errno)?;
        for run in runs.iter().filter(|run| run.region.is_none()) {
            if self.fault_in(run.range, write).is_err() {
                // Pages that leave at this moment look like pages that are not there to a system call.
                self.to_system(run.range)?;
                self.fault_in(run.range, write)?;
            }
        }
        Ok(())
    }

    fn to_vram(&self, device: usize, range: PageRange, block: u64) -> Result<u64, Errno> {
        let region = self.regions.get(device).ok_or(Errno::ENODEV)?;
        // The engine moves within one mapping at a time, and what the driver sees as one may be several.
        let mut map = VmaMap::new();
        map.read(range).map_err(errno)?;
        let parts = map.within(range).filter_map(|vma| vma.range().intersection(range));
        parts.map(|part| self.part_to_vram(region, part, block)).sum()
    }

    fn to_system(&self, range: PageRange) -> Result<(), Errno> {
        self.space.migrate_to_ram(range).map(drop).map_err(errno)
    }

    fn in_vram(&self, range: PageRange) -> Vec<PageRange> {
        let runs = self.space.placement(range).unwrap_or_default();
        let is_ours = |region| self.regions.values().any(|ours| Some(ours.id()) == region);
        runs.into_iter().filter(|run| is_ours(run.region)).map(|run| run.range).collect()
    }

    fn touches(&self) -> u64 {
        let of = |region: &VramRegion| region.usage().map_or(0, |usage| usage.counters.windows_out);
        self.regions.values().map(of).sum()
    }

    fn changes(&self) -> Vec<Change> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok((events, lost)) = events.take() else { return Vec::new() };
        let change = |event| match event {
            Event::Discarded(range) => Change::Discarded(range),
            Event::Unmapped(range) | Event::Moved { from: range, .. } => Change::Unmapped(range),
        };
        let changes = events.into_iter().map(change);
        changes.chain(lost.then_some(Change::Anything)).collect()
    }

    fn watch(&self, range: PageRange) -> Option<Arc<Watch>> {
        // Memory that cannot be watched is registered all the same; that it is gone is noticed when it is looked at.
        self.space.watch(range).ok().map(|watch| Arc::new(watch) as Arc<Watch>)
    }

    fn remove_device(&self, device: usize) {
        if let Some(region) = self.regions.get(device) {
            // What cannot come back raises SIGBUS when it is touched.
            let _ = region.remove();
        }
    }

    fn is_heap_or_stack(&self, address: u64) -> bool {
        let is_one =
            |entry: &Entry<'_>| entry.range.contains(address) && matches!(entry.name, b"[heap]" | b"[stack]");
        let buffer = || Ok(vec![0; 4096]);
        let found = Maps::open().and_then(|maps| maps.at_or_after(address, buffer, is_one));
        found.is_ok_and(|found| found == Some(true))
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.space.device_read(address, bytes).map_err(errno)
    }

    fn write(&self, _: WriteAccess, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        // SAFETY: who named the address answers for the memory there, as the right to write shows.
        unsafe { self.space.device_write(address, bytes) }.map_err(errno)
    }
}

/// What the list of mappings does not show and keeps the kernel from joining two (`DONTFORK`, locked, ...), read when it matters.
#[derive(Debug, Default)]
struct MappingFlags {
    /// First address and flags of each mapping, ascending.
    mappings: Option<Vec<(u64, String)>>,
}

impl MappingFlags {
    /// What registering with userfaultfd sets, and what means nothing for joining.
    const IGNORED: [&'static str; 4] = ["um", "uw", "ui", "sd"];

    fn are_alike(&mut self, one: &Piece, other: &Piece) -> bool {
        let mappings = self.mappings.get_or_insert_with(|| {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
            Self::parse(&text)
        });
        let of = |address: u64| {
            let after = mappings.partition_point(|(start, _)| *start <= address);
            after.checked_sub(1).map(|index| mappings[index].1.as_str())
        };
        of(one.range.end() - 1) == of(other.range.start())
    }

    fn parse(smaps: &str) -> Vec<(u64, String)> {
        let mut mappings = Vec::new();
        let mut start = None;
        for line in smaps.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let kept = flags.split_whitespace().filter(|flag| !Self::IGNORED.contains(flag));
                mappings.extend(start.take().map(|start| (start, kept.collect::<Vec<_>>().join(" "))));
            } else if let Some((first, _)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-'))
            {
                start = u64::from_str_radix(first, 16).ok().or(start);
            }
        }
        mappings
    }
}

fn errno(error: Error) -> Errno {
    error.errno().unwrap_or(Errno::ENOMEM)
}

fn piece_of(vma: &Vma, within: PageRange) -> Option<Piece> {
    let kind = match vma.kind() {
        VmaKind::Anonymous => Kind::Anonymous,
        VmaKind::PrivateFile => Kind::PrivateFile,
        VmaKind::HugeTlb => Kind::HugeTlb,
        VmaKind::Special => Kind::Special,
        _ => Kind::Shared,
    };
    let range = vma.range().intersection(within)?;
    Some(Piece { range, kind, readable: vma.is_readable(), writable: vma.is_writable() })
}

fn continues(last: &Piece, next: &Piece) -> bool {
    let nature = |piece: &Piece| (piece.kind, piece.readable, piece.writable);
    last.range.end() == next.range.start() && last.kind == Kind::Anonymous && nature(last) == nature(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_mappings() {
        let smaps = "7f00-8000 rw-p 0 00:00 0\nRss: 4 kB\nVmFlags: rd wr mr mw me ac sd um \n\
                     8000-9000 rw-p 0 00:00 0\nVmFlags: rd wr mr mw me dc ac \n\
                     9000-a000 rw-p 0 00:00 0\nVmFlags: rd wr mr mw me ac uw \n";
        let expected =
            [(0x7f00, "rd wr mr mw me ac"), (0x8000, "rd wr mr mw me dc ac"), (0x9000, "rd wr mr mw me ac")];
        assert_eq!(MappingFlags::parse(smaps), expected.map(|(start, flags)| (start, flags.to_owned())));
    }
}
