//! The model on a bench: what the driver relies on, without a driver.

use super::bench::{self, ANSWER, Bench, DATA, FRAME, VA, add64, copy, fence, indirect, trap, write};
use super::registers::at;
use super::vm::Entry;
use crate::counters::Counter;
use crate::device::Device;
use crate::inject::{self, Kind, direction};

/// Where the data of a process lies; two pages.
const PAGE: u64 = VA + 0x20_0000;
const NEXT: u64 = PAGE + 0x1000;
/// Pages of guest memory for them.
const GUEST: u64 = 0x20_0000;

#[test]
fn ring_of_the_driver() {
    let mut b = Bench::new("mi200");
    b.set_vram32(DATA, 0x1234_5678);
    b.set_vram32(DATA + 0xffc, 0x9abc_def0);
    let words =
        [copy(FRAME + DATA, FRAME + DATA + 0x1000, 0x1000), fence(FRAME + DATA + 0x2000, 7), trap(0x55)];
    b.sdma(&words.concat());
    let entry = b.interrupt();
    assert_eq!((entry[0] & 0xffff, entry[4]), (224 << 8 | 8, 0x55));
    assert_eq!(b.vram32(DATA + 0x2000), 7, "the fence comes before the interrupt");
    assert_eq!((b.vram32(DATA + 0x1000), b.vram32(DATA + 0x1ffc)), (0x1234_5678, 0x9abc_def0));
    assert_eq!(b.counter(Counter::BytesInsideVram), 0x1000);
}

#[test]
fn indirect_buffer_and_ring_test() {
    let mut b = Bench::new("mi200");
    for (i, word) in write(FRAME + DATA + 0x100, 0xdead_beef).into_iter().enumerate() {
        b.set_vram32(DATA + 4 * i as u64, word);
    }
    b.sdma(&[indirect(FRAME + DATA, 5), fence(FRAME + DATA + 0x104, 1)].concat());
    b.until("the fence", || b.vram32(DATA + 0x104) == 1);
    assert_eq!(b.vram32(DATA + 0x100), 0xdead_beef);
    // SET_UCONFIG_REG of the scratch register, as the driver tests its rings.
    b.hiq(&[bench::pm4(0x79, 2), 0x40, 0xcafe]);
    b.until("the register", || b.read(0xc040) == 0xcafe);
}

#[test]
fn rings_go_round() {
    let mut b = Bench::new("mi200");
    for i in 0..400 {
        b.settle();
        b.sdma(&fence(FRAME + DATA, i));
        b.until("the fence", || b.vram32(DATA) == i);
    }
    assert!(b.gpu.coverage().sections[2].lines.is_empty());
}

#[test]
fn poll_waits_for_memory() {
    let mut b = Bench::new("vega10");
    let at = FRAME + DATA;
    let poll = [8 | 1 << 31 | 3 << 28, at as u32, (at >> 32) as u32, 5, !0, 0];
    b.sdma(&[&poll[..], &fence(at + 8, 1)].concat());
    b.set_vram32(DATA, 4);
    b.settle();
    assert_eq!(b.vram32(DATA + 8), 0);
    b.set_vram32(DATA, 5);
    b.until("the fence", || b.vram32(DATA + 8) == 1);
}

#[test]
fn queue_of_a_process() {
    let mut b = Bench::new("mi200");
    let mut p = b.process(0);
    b.map(&p, PAGE, Entry::system(GUEST, true));
    b.run_list(&[&p]);
    b.settle();
    b.submit(&mut p, &[write(PAGE, 3), add64(PAGE + 8, 5), add64(PAGE + 8, 5), fence(PAGE + 16, 9)].concat());
    b.until("the fence", || b.guest32(GUEST + 16) == 9);
    assert_eq!((b.guest32(GUEST), b.guest32(GUEST + 8)), (3, 10));
    b.until("the position", || b.position(&p) == p.written());
    assert_eq!(b.counter(Counter::Atomics), 2);
}

#[test]
fn retry_fault_is_reported_once_and_repeated_until_mapped() {
    let mut b = Bench::new("mi200");
    let mut p = b.process(0);
    b.run_list(&[&p]);
    b.settle();
    b.submit(&mut p, &[write(PAGE + 0x10, 3), fence(PAGE + 0x20, 4)].concat());
    let entry = b.interrupt();
    assert_eq!((entry[0] & 0xff, entry[3]), (0x12, p.pasid()));
    assert_eq!((entry[4], entry[5]), ((PAGE >> 12) as u32, (PAGE >> 44) as u32 | 0x80 | 0x20));
    b.settle();
    assert!(!b.interrupted(), "the CAM holds it back");
    b.map(&p, PAGE, Entry::system(GUEST, true));
    b.until("the fence", || b.guest32(GUEST + 0x20) == 4);
    assert_eq!(b.guest32(GUEST + 0x10), 3);
    assert_eq!((b.counter(Counter::FaultsRaised), b.counter(Counter::FaultsResolved)), (1, 1));
}

#[test]
fn final_fault_stops_the_queue_but_not_the_scheduler() {
    let mut b = Bench::new("mi200");
    let mut p = b.process(0);
    p.retry_disabled = true;
    b.map(&p, NEXT, Entry::system(GUEST, false));
    b.run_list(&[&p]);
    b.settle();
    b.submit(&mut p, &write(NEXT, 3));
    let entry = b.interrupt();
    assert_eq!(entry[0] >> 16 & 0xff, 0x20, "write protection");
    assert_eq!(entry[5] & 0xa0, 0x20, "not to be repeated");
    b.map(&p, NEXT, Entry::system(GUEST, true));
    b.unmap_all(false);
    b.settle();
    assert_eq!(b.guest32(GUEST), 0, "nothing repeats it");
    b.run_list(&[&p]);
    b.until("the write", || b.guest32(GUEST) == 3);
}

#[test]
fn preempted_copy_goes_on_where_it_was() {
    let mut b = Bench::new("mi200");
    let mut p = b.process(0);
    b.map(&p, PAGE, Entry::system(GUEST, true));
    b.map(&p, PAGE + 0x10_0000, Entry::system(GUEST + 0x8000, true));
    b.run_list(&[&p]);
    b.settle();
    b.submit(&mut p, &[copy(PAGE, PAGE + 0x10_0000, 0x2000), fence(PAGE + 0x10_0000, 1)].concat());
    b.interrupt();
    b.unmap_all(false);
    b.settle();
    assert_eq!(b.descriptor(&p, 32), 0x1000, "one page was copied");
    assert_eq!(b.descriptor(&p, 3), 0, "the packet is not done");
    b.map(&p, NEXT, Entry::system(GUEST + 0x1000, true));
    b.map(&p, PAGE + 0x10_1000, Entry::system(GUEST + 0x9000, true));
    b.run_list(&[&p]);
    b.until("the fence", || b.guest32(GUEST + 0x8000) == 1);
    assert_eq!(b.counter(Counter::BytesSystem), 0x2000, "no page twice");
}

#[test]
fn more_processes_than_vmids() {
    let mut b = Bench::new("mi200,vram=256M");
    let mut processes: Vec<_> = (0..12).map(|n| b.process(n)).collect();
    for (n, p) in processes.iter().enumerate() {
        b.map(p, PAGE, Entry::system(GUEST + 0x1000 * n as u64, true));
    }
    b.run_list(&processes.iter().collect::<Vec<_>>());
    b.settle();
    for (n, p) in processes.iter_mut().enumerate() {
        b.submit(p, &fence(PAGE, 100 + n as u32));
    }
    for n in 0..12 {
        b.until("a fence", || b.guest32(GUEST + 0x1000 * n) == 100 + n as u32);
    }
    // A fault of one without a VMID still names its process.
    b.submit(&mut processes[11], &write(NEXT, 1));
    let entry = b.interrupt();
    assert_eq!((entry[0] >> 24 & 0xf, entry[3]), (15, processes[11].pasid()));
}

#[test]
fn translations_are_dropped_by_process() {
    let mut b = Bench::new("mi200");
    let mut p = b.process(0);
    b.map(&p, PAGE, Entry::system(GUEST, true));
    b.run_list(&[&p]);
    b.settle();
    b.submit(&mut p, &fence(PAGE, 1));
    b.until("the first fence", || b.guest32(GUEST) == 1);
    b.map(&p, PAGE, Entry::system(GUEST + 0x1000, true));
    b.submit(&mut p, &fence(PAGE, 2));
    b.until("the stale fence", || b.guest32(GUEST) == 2);
    b.hiq(&[bench::pm4(0x98, 1), 1 << 4 | p.pasid() << 5]);
    b.settle();
    b.submit(&mut p, &fence(PAGE, 3));
    b.until("the fresh fence", || b.guest32(GUEST + 0x1000) == 3);
}

#[test]
fn copies_go_wrong_on_purpose() {
    let mut b = Bench::new("mi200");
    b.set_vram32(DATA, 1);
    b.arm(Kind::CopySkip, direction::INSIDE_VRAM | inject::KERNEL, 0);
    b.sdma(&[copy(FRAME + DATA, FRAME + DATA + 0x1000, 64), fence(FRAME + DATA + 0x2000, 1)].concat());
    b.until("the fence", || b.vram32(DATA + 0x2000) == 1);
    assert_eq!(b.vram32(DATA + 0x1000), 0);
    b.arm(Kind::FenceLose, inject::KERNEL, 0);
    b.sdma(&[fence(FRAME + DATA + 0x2000, 2), fence(FRAME + DATA + 0x2004, 2)].concat());
    b.until("the second fence", || b.vram32(DATA + 0x2004) == 2);
    assert_eq!(b.vram32(DATA + 0x2000), 1);
    b.arm(Kind::CopyError, 0, 0);
    b.sdma(&[copy(FRAME + DATA, FRAME + DATA + 0x1000, 64), fence(FRAME + DATA + 0x2000, 3)].concat());
    let entry = b.interrupt();
    assert_eq!((entry[0] & 0xff, entry[5] & 0x80), (0x12, 0));
    b.settle();
    assert_eq!(b.vram32(DATA + 0x2000), 1, "the ring stopped");
}

#[test]
fn first_copy_of_a_process_goes_wrong_on_purpose() {
    let mut b = Bench::new("mi200");
    let mut p = b.process(0);
    b.map(&p, PAGE, Entry::system(GUEST, true));
    b.run_list(&[&p]);
    b.settle();
    b.arm(Kind::CopySkip, direction::SYSTEM | inject::PROCESS, 0);
    b.submit(&mut p, &[write(PAGE, 3)].concat());
    b.until("the write", || b.guest32(GUEST) == 3 && b.position(&p) == p.written());
    b.submit(&mut p, &[copy(PAGE, PAGE + 0x100, 64), fence(PAGE + 0x200, 1)].concat());
    b.until("the fence", || b.guest32(GUEST + 0x200) == 1);
    assert_eq!((b.guest32(GUEST + 0x100), b.counter(Counter::Batches)), (0, 2));
}

#[test]
fn hard_hang_keeps_the_scheduler_waiting() {
    let mut b = Bench::new("mi200");
    let mut p = b.process(0);
    b.map(&p, PAGE, Entry::system(GUEST, true));
    b.run_list(&[&p]);
    b.settle();
    b.arm(Kind::JobHang, inject::PROCESS, 1);
    b.submit(&mut p, &fence(PAGE, 1));
    b.until("the hang", || b.board.injector.fired(None) == 1);
    let before = b.vram32(ANSWER);
    b.unmap_all(false);
    b.ask();
    let tries = b.counter(Counter::FirmwareRequests);
    b.until("the request to be tried again", || b.counter(Counter::FirmwareRequests) > tries + 3);
    assert_eq!(b.vram32(ANSWER), before, "cannot be taken off");
    b.gpu.reset();
    assert_eq!(b.read(at::IH_RB_CNTL), 0, "all registers are back");
}

#[test]
fn answers_get_lost() {
    let mut b = Bench::new("mi200");
    b.arm(Kind::ReplyLose, 0xa4, 0);
    let lost = b.ask();
    b.settle();
    assert_ne!(b.vram32(ANSWER), lost);
    assert_eq!(b.board.injector.fired(Some(Kind::ReplyLose)), 1);
}

#[test]
fn memory_can_be_limited() {
    let b = Bench::new("mi200");
    assert_eq!(b.read(at::RCC_CONFIG_MEMSIZE), 1024);
    b.arm(Kind::MemoryLimit, 0, 128);
    assert_eq!(b.read(at::RCC_CONFIG_MEMSIZE), 128);
    assert_eq!(b.read(at::RCC_CONFIG_MEMSIZE), 128, "asked again");
    b.gpu.reset();
    assert_eq!(b.read(at::RCC_CONFIG_MEMSIZE), 1024);
}

#[test]
fn ring_that_is_switched_off_lets_go_of_a_packet() {
    let mut b = Bench::new("mi200");
    let at_ring = super::asic::MI200.sdma_ring(0, 0);
    let address = FRAME + DATA;
    let poll = [8 | 1 << 31 | 3 << 28, address as u32, (address >> 32) as u32, 5, !0, 0];
    b.sdma(&[&poll[..], &fence(address + 8, 1)].concat());
    b.settle();
    b.write(at_ring, 10 << 1);
    b.set_vram32(DATA, 5);
    b.settle();
    assert_eq!(b.vram32(DATA + 8), 0);
    b.write(at_ring, 1 | 10 << 1);
    b.until("the fence", || b.vram32(DATA + 8) == 1);
}

#[test]
fn unknown_things_are_listed() {
    let mut b = Bench::new("mi200");
    b.write(0x1_2345, 7);
    assert_eq!(b.read(0x1_2345), 7, "storage");
    b.sdma(&[0x77]);
    b.until("the packet", || !b.gpu.coverage().sections[2].lines.is_empty());
    let coverage = b.gpu.coverage();
    assert_eq!(coverage.sections[0].lines.len(), 1, "{coverage}");
    assert!(coverage.sections[2].lines[0].starts_with("sdma operation 0x77"));
}
