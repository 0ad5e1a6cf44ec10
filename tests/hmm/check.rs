//! Compares what residency says with what the device says and with what the test made.

use drm_pagemap::PageRange;
use drm_pagemap::range::page_size;
use drm_pagemap::residency::{Depth, Place, Residency, Scanner};

use crate::device::{Device, Truth};

/// A place as a letter.
pub(crate) fn letter(place: Place) -> char {
    match place {
        Place::System => 's',
        Place::Zero => 'z',
        Place::Device => 'D',
        Place::Swap => 'w',
        Place::Guard => 'g',
        Place::Marker => 'm',
        Place::Absent => '.',
        Place::Ambiguous => '?',
        _ => '!',
    }
}

pub(crate) fn letters(residency: &Residency) -> String {
    residency.pages().map(letter).collect()
}

/// The letter that a device's snapshot shows for a letter of ours: it does not tell absent pages from others that are not
/// there.
fn in_snapshot(letter: char) -> char {
    match letter {
        'D' | 's' | 'z' => letter,
        _ => '.',
    }
}

fn snapshot_letters(device: &Device, range: PageRange) -> String {
    let letter = |truth| match truth {
        Truth::Private => 'D',
        // Coherent device pages are in system memory as far as page tables tell.
        Truth::System | Truth::Coherent => 's',
        Truth::Zero => 'z',
        Truth::Nothing => '.',
    };
    device.snapshot(range).into_iter().map(|seen| letter(seen.truth)).collect()
}

/// Looks at every depth and compares. `expected` has one letter for each page.
pub(crate) fn check(device: &Device, range: PageRange, expected: &str) {
    assert_eq!(expected.len() as u64, range.pages(), "one letter for each page");
    let truth = snapshot_letters(device, range);
    assert_eq!(
        truth,
        expected.chars().map(in_snapshot).collect::<String>(),
        "the test is not what it means to be"
    );

    let mut scanner = Scanner::new().unwrap();
    let mut residency = Residency::new();
    for depth in [Depth::Cheap, Depth::Exact, Depth::Settled] {
        scanner.set_depth(depth);
        scanner.scan(range, &mut residency).unwrap();
        let wanted = match depth {
            Depth::Cheap => expected.replace(['D', 'w', 'm'], "?"),
            _ => expected.to_owned(),
        };
        assert_eq!(letters(&residency), wanted, "{depth:?}");
        check_huge(device, range, &residency);
    }
    let bytes = expected.chars().filter(|&letter| letter == 'D').count() as u64 * page_size();
    assert_eq!(residency.summary().device_bytes(), bytes..=bytes);
    assert_eq!(scanner.device_bytes(range).unwrap(), bytes..=bytes);
    assert_eq!(snapshot_letters(device, range), truth, "looking moves nothing");
}

/// Huge entries are those that the device says are.
fn check_huge(device: &Device, range: PageRange, residency: &Residency) {
    for (seen, address) in
        device.snapshot(range).into_iter().zip((range.start()..).step_by(page_size() as usize))
    {
        let run = residency.run_at(address).unwrap();
        let populated = matches!(seen.truth, Truth::Private | Truth::System | Truth::Coherent);
        if populated {
            assert_eq!(run.is_huge(), seen.huge, "{address:#x} in {run:?}");
        }
    }
}

/// Checks an answer that may be doubtful page by page: what is claimed is so, and the number of device pages is exact.
pub(crate) fn check_counts(device: &Device, range: PageRange, residency: &Residency) {
    let seen = device.snapshot(range);
    for (seen, place) in seen.iter().zip(residency.pages()) {
        let right = match seen.truth {
            Truth::Private => matches!(place, Place::Device | Place::Ambiguous),
            Truth::System | Truth::Coherent => place == Place::System,
            Truth::Zero => place == Place::Zero,
            Truth::Nothing => !matches!(place, Place::Device | Place::System | Place::Zero),
        };
        assert!(right, "{seen:?} is called {place}");
    }
    let private = seen.iter().filter(|seen| seen.truth == Truth::Private).count() as u64 * page_size();
    assert_eq!(residency.summary().device_bytes(), private..=private);
    let counted = Scanner::new().unwrap().with_depth(Depth::Settled).device_bytes(range).unwrap();
    assert_eq!(counted, private..=private);
}

/// One exact look.
pub(crate) fn look(range: PageRange) -> Residency {
    let mut residency = Residency::new();
    Scanner::new().unwrap().scan(range, &mut residency).unwrap();
    residency
}
