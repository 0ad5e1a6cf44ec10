//! Allocations whose contents a driver copies: the operations of the header, each of which may fail.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::addr::{DeviceAddr, Direction, InterconnectProtocol};
use crate::error::Errno;
use crate::pagemap::{Dev, DevMem, DevMemOps, Pagemap, PagemapOps, Pfn, Trigger};

/// A driver: device memory is a vector of pages.
#[derive(Debug, Default)]
struct Card {
    memory: Mutex<Vec<Option<Vec<u8>>>>,
    next: AtomicU64,
    released: AtomicU32,
    copied_in: AtomicU64,
    fail: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    pfns: Trigger,
    to_devmem: Trigger,
    to_ram: Trigger,
    panic: Trigger,
    /// Touched by `copy_to_ram`.
    touch: Option<u64>,
}

/// One allocation.
#[derive(Debug)]
struct Block {
    card: Arc<Card>,
    first: u64,
}

impl Card {
    fn fail(&self, change: impl FnOnce(&mut Failures)) {
        change(&mut self.fail.lock().unwrap());
    }

    fn allocate(self: &Arc<Self>, space: &Space, pagemap: &Arc<Pagemap>, bytes: u64) -> DevMem {
        let pages = bytes / page_size();
        let first = self.next.fetch_add(pages, Ordering::SeqCst);
        self.memory.lock().unwrap().resize((first + pages) as usize, None);
        let block = Block { card: self.clone(), first };
        DevMem::new(pagemap.dev(), space, Box::new(block), pagemap.clone(), bytes)
    }

    fn released(&self) -> u32 {
        self.released.load(Ordering::SeqCst)
    }
}

fn bytes_at(addr: DeviceAddr) -> *mut u8 {
    assert_eq!((addr.protocol(), addr.order()), (InterconnectProtocol::SYSTEM, 0));
    addr.addr() as *mut u8
}

// SAFETY: pages are kept in `Card::memory` as they were, and written back from there.
unsafe impl DevMemOps for Block {
    fn populate_devmem_pfn(&self, pfns: &mut [Pfn]) -> Result<(), Errno> {
        if self.card.fail.lock().unwrap().pfns.strikes() {
            return Err(Errno::EIO);
        }
        (self.first..).zip(pfns).for_each(|(number, pfn)| *pfn = Pfn(number));
        Ok(())
    }

    fn copy_to_devmem(&self, dst: &[Option<Pfn>], src: &[Option<DeviceAddr>]) -> Result<(), Errno> {
        if self.card.fail.lock().unwrap().panic.strikes() {
            panic!("a driver's bug");
        }
        let fails = self.card.fail.lock().unwrap().to_devmem.strikes();
        let mut memory = self.card.memory.lock().unwrap();
        assert_eq!(dst.len(), src.len());
        let src_len = src.len();
        for (n, (dst, src)) in dst.iter().zip(src).enumerate() {
            if fails && n == src_len / 2 {
                return Err(Errno::ENXIO);
            }
            let mut page = vec![0; page_size() as usize];
            if let Some(src) = src {
                assert_eq!(src.direction(), Direction::ToDevice);
                // SAFETY: the address is that of a page of system memory that is this call's.
                unsafe { std::ptr::copy_nonoverlapping(bytes_at(*src), page.as_mut_ptr(), page.len()) };
                self.card.copied_in.fetch_add(1, Ordering::SeqCst);
            }
            memory[dst.unwrap().0 as usize] = Some(page);
        }
        Ok(())
    }

    fn copy_to_ram(&self, src: &[Option<Pfn>], dst: &[Option<DeviceAddr>]) -> Result<(), Errno> {
        let (fails, touch) = {
            let mut fail = self.card.fail.lock().unwrap();
            (fail.to_ram.strikes(), fail.touch.take())
        };
        if let Some(at) = touch {
            // SAFETY: the test says where, and keeps it mapped.
            unsafe { (at as *const u8).read_volatile() };
        }
        let memory = self.card.memory.lock().unwrap();
        assert_eq!(dst.len(), src.len());
        for (src, dst) in src.iter().zip(dst) {
            let (Some(src), Some(dst)) = (src, dst) else {
                assert!(src.is_none() && dst.is_none());
                continue;
            };
            assert_eq!(dst.direction(), Direction::FromDevice);
            let page = memory[src.0 as usize].as_ref().unwrap();
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(page.as_ptr(), bytes_at(*dst), page.len()) };
        }
        if fails { Err(Errno::ENXIO) } else { Ok(()) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.card.released.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct CardOps(Arc<Card>);

impl PagemapOps for CardOps {
    fn device_map(&self, pagemap: &Pagemap, dev: &Dev, page: Pfn, order: u32, dir: Direction) -> DeviceAddr {
        if *dev != pagemap.dev() {
            return DeviceAddr::MAPPING_ERROR;
        }
        DeviceAddr::encode(page.0 * page_size(), InterconnectProtocol::DRIVER, order, dir).unwrap()
    }

    fn device_unmap(&self, _: &Pagemap, _: &Dev, _: DeviceAddr) {}

    fn populate_mm(
        &self,
        pagemap: &Arc<Pagemap>,
        range: PageRange,
        mm: &Space,
        timeslice: Duration,
    ) -> crate::Result<()> {
        for piece in range.blocks(MB2) {
            mm.migrate_devmem(self.0.allocate(mm, pagemap, piece.len()), piece, timeslice)?;
        }
        Ok(())
    }
}

fn card() -> Option<(Space, Arc<Card>, Arc<Pagemap>)> {
    let space = space()?;
    let card = Arc::new(Card::default());
    let pagemap = Pagemap::new(&space, Dev::new(), Box::new(CardOps(card.clone()))).unwrap();
    Some((space, card, pagemap))
}

fn populate(space: &Space, pagemap: &Arc<Pagemap>, range: PageRange) -> crate::Result<()> {
    pagemap.populate_mm(range, space, Duration::ZERO)
}

#[test]
fn a_driver_gets_the_contents_and_gives_them_back() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(2 * MB2);
    memory.advise(memory.part(3, 2), rustix::mm::Advice::LinuxDontNeed).unwrap();
    populate(&space, &pagemap, memory.range()).unwrap();
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    assert_eq!(card.copied_in.load(Ordering::SeqCst), memory.pages() - 2, "holes are not copied");
    memory.check_pages(0..3);
    assert_eq!(device_bytes(&space, memory.range()), MB2);
    assert_eq!((memory.get(3 * page_size()), memory.get(4 * page_size())), (0, 0));
    memory.check_pages(5..memory.pages());
    assert_eq!(device_bytes(&space, memory.range()), 0);
    while card.released() < 2 {
        std::thread::yield_now();
    }
}

#[test]
fn an_allocation_lives_as_long_as_a_page_of_it_is_used() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    let devmem = card.allocate(&space, &pagemap, MB2);
    assert_eq!((devmem.size(), devmem.dev()), (MB2, pagemap.dev()));
    assert!(devmem.mm().unwrap().is(&space) && Arc::ptr_eq(devmem.dpagemap(), &pagemap));
    let state = devmem.observe();
    assert!(!state.is_detached() && state.wait_detached().is_err());
    space.migrate_devmem(devmem, memory.range(), Duration::from_secs(3600)).unwrap();
    assert!(!state.is_detached() && state.timeslice_left() > Duration::from_secs(3000));
    assert_eq!(state.live_pages(), memory.pages());
    memory.advise(memory.part(0, 100), rustix::mm::Advice::LinuxDontNeed).unwrap();
    assert_eq!((state.live_pages(), card.released()), (memory.pages() - 100, 0));
    // Eviction does not ask for the timeslice.
    state.evict_to_ram().unwrap();
    state.wait_detached().unwrap();
    assert!(state.is_detached() && state.live_pages() == 0);
    memory.check_pages(100..memory.pages());
    while card.released() == 0 {
        std::thread::yield_now();
    }
    assert!(state.evict_to_ram().is_ok());
}

#[test]
fn memory_that_is_unmapped_releases_the_allocation() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    let devmem = card.allocate(&space, &pagemap, MB2);
    let state = devmem.observe();
    space.migrate_devmem(devmem, memory.range(), Duration::ZERO).unwrap();
    drop(memory);
    assert!(state.is_detached());
    state.wait_detached().unwrap();
    while card.released() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn each_operation_may_fail_on_the_way_in_and_nothing_has_changed() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    for (round, code) in [libc::EIO, libc::ENXIO].into_iter().enumerate() {
        card.fail(|f| if round == 0 { f.pfns = Trigger::ONCE } else { f.to_devmem = Trigger::ONCE });
        let devmem = card.allocate(&space, &pagemap, MB2);
        let state = devmem.observe();
        let error = space.migrate_devmem(devmem, memory.range(), Duration::ZERO).unwrap_err();
        assert_eq!(errno(&error), code, "{error}");
        assert_eq!(card.released() as usize, round + 1, "consumed even on error");
        assert!(state.is_detached());
        assert_eq!(device_bytes(&space, memory.range()), 0);
        memory.check();
    }
    populate(&space, &pagemap, memory.range()).unwrap();
    memory.check();
}

#[test]
fn a_driver_that_panics_harms_only_its_caller() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    card.fail(|f| f.panic = Trigger::ONCE);
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| populate(&space, &pagemap, memory.range())));
    assert!(panicked.is_err());
    assert_eq!((device_bytes(&space, memory.range()), card.released()), (0, 1));
    memory.check();
    populate(&space, &pagemap, memory.range()).unwrap();
    memory.check();
}

#[test]
fn a_copy_that_fails_on_the_way_out_leaves_the_pages_with_the_device() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    card.fail(|f| f.to_ram = Trigger::ONCE);
    let error = space.migrate_to_ram(memory.range()).unwrap_err();
    assert_eq!(errno(&error), libc::ENXIO, "{error}");
    assert_eq!((device_bytes(&space, memory.range()), card.released()), (MB2, 0));
    // Eviction tries three times.
    let window = space.window_at(memory.start()).unwrap().unwrap();
    card.fail(|f| f.to_ram = Trigger::times(3));
    assert_eq!(errno(&window.evict().unwrap_err()), libc::EBUSY);
    card.fail(|f| f.to_ram = Trigger::times(2));
    window.evict().unwrap();
    memory.check();
}

#[test]
fn a_touch_whose_copy_fails_raises_a_signal() {
    if !alone!(a_touch_whose_copy_fails_raises_a_signal dies of libc::SIGBUS) {
        return;
    }
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    card.fail(|f| f.to_ram = Trigger::ONCE);
    memory.get(0);
}

#[test]
fn an_operation_may_touch_memory_that_is_on_the_device() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(6 * MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    // Each copy needs a page of the next window.
    for n in 1..6 {
        card.fail(|f| f.touch = Some(memory.start() + n * MB2 + 5));
        memory.check_pages(0..1);
        assert_eq!(device_bytes(&space, memory.range()), (5 - n) * MB2);
        space.migrate_to_ram(memory.part(0, memory.pages() / 6)).unwrap();
        populate(&space, &pagemap, memory.part(0, memory.pages() / 6)).unwrap();
    }
    memory.check();
}

#[test]
fn an_operation_that_touches_what_it_copies_out_dies_instead_of_hanging() {
    if !alone!(an_operation_that_touches_what_it_copies_out_dies_instead_of_hanging dies of libc::SIGBUS) {
        return;
    }
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    card.fail(|f| f.touch = Some(memory.start() + 5));
    let _ = space.migrate_to_ram(memory.range());
}

#[test]
fn what_is_there_already_is_not_migrated_again() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    let again =
        space.migrate_devmem(card.allocate(&space, &pagemap, MB2), memory.range(), Duration::ZERO).unwrap();
    assert_eq!((again.moved, again.already, card.released()), (0, MB2, 1));
    // Part of another allocation, and part of system memory: fragmentation.
    space.migrate_to_ram(memory.range()).unwrap();
    populate(&space, &pagemap, memory.part(16, 16)).unwrap();
    let error = populate(&space, &pagemap, memory.range()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Busy, libc::EBUSY), "{error}");
    memory.check();
}

#[test]
fn ranges_that_no_allocation_can_hold_are_refused() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(4 * MB2);
    for (bytes, range) in [(MB2, memory.part(0, memory.pages() / 2)), (4 * MB2, memory.range())] {
        let error =
            space.migrate_devmem(card.allocate(&space, &pagemap, bytes), range, Duration::ZERO).unwrap_err();
        assert_eq!((error.kind(), errno(&error)), (ErrorKind::InvalidArgument, libc::EINVAL), "{error}");
    }
    assert_eq!(card.released(), 2);
    memory.check();
}

#[test]
fn a_removed_driver_gives_back_what_it_has() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(2 * MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    pagemap.remove().unwrap();
    assert_eq!(device_bytes(&space, memory.range()), 0);
    memory.check();
    let error = populate(&space, &pagemap, memory.range()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::DeviceLost, libc::ENODEV), "{error}");
    while card.released() < 3 {
        std::thread::yield_now();
    }
}

#[test]
fn ending_the_space_copies_everything_back() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(2 * MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    drop(pagemap);
    drop(space);
    memory.check();
    while card.released() < 2 {
        std::thread::yield_now();
    }
}

#[test]
fn a_mapping_that_moves_while_its_pages_are_a_drivers() {
    let Some((space, card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    let memory = memory.relocate();
    assert_eq!(device_bytes(&space, memory.range()), MB2);
    // A part of it goes elsewhere, and holds the allocation on its own.
    let (part, place) = (memory.part(64, 64), Memory::absent(64 * page_size()));
    let (len, flags) = (part.len() as usize, rustix::mm::MremapFlags::MAYMOVE);
    // SAFETY: part of the test's own mapping, not touched at the old place any more.
    unsafe { rustix::mm::mremap_fixed(part.start() as *mut _, len, len, flags, place.start() as *mut _) }
        .unwrap();
    memory.give_up(part);
    memory.check_pages(0..64);
    memory.check_pages(128..memory.pages());
    assert_eq!((device_bytes(&space, place.range()), card.released()), (part.len(), 0));
    (0..64).for_each(|page| assert_eq!(place.get(page * page_size()), Memory::pattern(64 + page)));
    while card.released() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn device_accesses_bring_a_drivers_pages_back() {
    let Some((space, _card, pagemap)) = card() else { return };
    let memory = Memory::filled(MB2);
    populate(&space, &pagemap, memory.range()).unwrap();
    let mut byte = [0];
    space.device_read(memory.start() + 7 * page_size(), &mut byte).unwrap();
    assert_eq!(byte, [Memory::pattern(7)]);
    assert_eq!(device_bytes(&space, memory.range()), 0);
    memory.check();
}

#[test]
fn device_addresses_follow_the_interconnect() {
    use crate::pagemap::{OwnerList, VramRegionOptions};
    let Some(space) = space() else { return };
    let (own, peer, stranger) = (Dev::new(), Dev::new(), Dev::new());
    let owners = Arc::new(OwnerList::new());
    let linked = |a: Dev, b: Dev| a != stranger && b != stranger;
    for dev in [own, peer, stranger] {
        owners.join(dev, linked);
    }
    let vram = VramRegionOptions::new(MB2).dev(own).owners(owners).create(&space).unwrap();
    let map = |dev| vram.pagemap().ops().device_map(vram.pagemap(), &dev, Pfn(3), 2, Direction::ToDevice);
    let (here, there) = (map(own), map(peer));
    assert_eq!(
        (here.protocol(), here.addr(), here.order()),
        (InterconnectProtocol::DRIVER, 3 * page_size(), 2)
    );
    assert_eq!(Some(there.protocol()), InterconnectProtocol::private(1));
    assert!(map(stranger).is_mapping_error());
    assert_eq!(vram.live_maps(), 2);
    for (dev, addr) in [(own, here), (peer, there), (stranger, DeviceAddr::MAPPING_ERROR)] {
        vram.pagemap().ops().device_unmap(vram.pagemap(), &dev, addr);
    }
    assert_eq!(vram.live_maps(), 0);
}

#[test]
fn the_operation_of_a_region_populates_all_or_nothing() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    populate(&space, vram.pagemap(), memory.range()).unwrap();
    assert_eq!(space.device_bytes(memory.range(), Some(vram.id())).unwrap(), 2 * MB2);
    populate(&space, vram.pagemap(), memory.range()).unwrap();
    space.migrate_to_ram(memory.part(0, 1)).unwrap();
    let error = populate(&space, vram.pagemap(), memory.range()).unwrap_err();
    assert_eq!(errno(&error), libc::EBUSY, "{error}");
    memory.check();
}
