//! Random contents, checked against the device's snapshot.

use drm_pagemap::range::page_size;
use drm_pagemap::residency::{Depth, Place, Residency, Scanner};

use crate::case::Case;
use crate::check::{check, check_counts};
use crate::device::Device;
use crate::memory::Memory;
use crate::prepare::has_swap;

const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;
const PAGES: usize = 1024;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("random mixes are known page by page", without_swap),
        Case::new("random mixes with swap are counted exactly", with_swap).needs(has_swap(), "no swap area"),
    ]
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

/// Applies random operations, and keeps the letter of each page.
fn stir(memory: &Memory, device: &Device, random: &mut Random, truth: &mut [char], operations: usize) {
    for _ in 0..operations {
        let first = random.below(PAGES);
        let pages = first..(first + 1 + random.below(12)).min(PAGES);
        match random.below(6) {
            0 => {
                memory.advise(pages.clone(), libc::MADV_DONTNEED).unwrap();
                pages
                    .filter(|&page| truth[page] != 'g')
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|page| truth[page] = '.');
            }
            1 => {
                for page in pages.filter(|&page| truth[page] != 'g').collect::<Vec<_>>() {
                    memory.read(page..page + 1);
                    truth[page] = match truth[page] {
                        '.' => 'z',
                        'D' => 's',
                        other => other,
                    };
                }
            }
            2 => {
                memory.advise(pages.clone(), MADV_GUARD_INSTALL).unwrap();
                truth[pages].fill('g');
            }
            3 => {
                memory.advise(pages.clone(), MADV_GUARD_REMOVE).unwrap();
                pages
                    .filter(|&page| truth[page] == 'g')
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|page| truth[page] = '.');
            }
            4 => {
                for page in pages.filter(|&page| truth[page] != 'g').collect::<Vec<_>>() {
                    memory.write(page..page + 1);
                    truth[page] = 's';
                }
            }
            _ => {
                // The device takes absent and zero pages as well, but not guards.
                for page in pages.filter(|&page| truth[page] != 'g').collect::<Vec<_>>() {
                    device.take(memory.part(page..page + 1));
                    truth[page] = 'D';
                }
            }
        }
    }
}

fn without_swap() {
    let device = Device::first();
    let memory = Memory::private(PAGES);
    let mut truth = ['.'; PAGES];
    let mut random = Random(1);
    for _ in 0..6 {
        stir(&memory, &device, &mut random, &mut truth, 150);
        check(&device, memory.range(), &truth.iter().collect::<String>());
        let (a, b) = (random.below(PAGES), random.below(PAGES));
        let part = a.min(b)..a.max(b);
        check(&device, memory.part(part.clone()), &truth[part].iter().collect::<String>());
    }
}

fn with_swap() {
    let device = Device::first();
    let memory = Memory::private(PAGES);
    let mut truth = ['.'; PAGES];
    let mut random = Random(2);
    let mut scanner = Scanner::new().unwrap().with_depth(Depth::Settled);
    let mut residency = Residency::new();
    let mut swapped = 0;
    for _ in 0..10 {
        stir(&memory, &device, &mut random, &mut truth, 100);
        let first = random.below(PAGES / 2);
        memory.advise(first..first + PAGES / 2, libc::MADV_PAGEOUT).unwrap();
        scanner.scan(memory.range(), &mut residency).unwrap();
        check_counts(&device, memory.range(), &residency);
        swapped += residency.summary().bytes(Place::Swap) + residency.summary().bytes(Place::Ambiguous);
        // All in again, so that the letters hold.
        for (page, _) in truth.iter().enumerate().filter(|(_, letter)| matches!(letter, 's' | 'z')) {
            memory.read(page..page + 1);
        }
    }
    assert!(swapped > 100 * page_size(), "hardly anything was swapped out");
}
