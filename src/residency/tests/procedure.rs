//! The course of a scan, case by case.

use super::model::Page::{self, *};
use super::model::{Call, DEVICE_WRITE, Mapping, Model};
use crate::error::{Errno, ErrorKind};
use crate::range::{PageRange, page_size};
use crate::residency::calibration::Calibration;
use crate::residency::kernel::SwapSpace;
use crate::residency::scanner::Engine;
use crate::residency::{Composition, Depth, Place, Residency};
use crate::uapi::pagemap_scan::{PAGE_IS_HUGE, PAGE_IS_PFNZERO, PAGE_IS_PRESENT, PAGE_IS_SWAPPED};

const FIRST: u64 = 64;

fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new(first * page_size(), count * page_size()).unwrap()
}

fn model(content: &[Page]) -> Model {
    Model::new(vec![Mapping::anonymous(FIRST, content)])
}

fn engine(model: Model) -> Engine<Model> {
    let mut engine = Engine::new(model).unwrap();
    engine.kernel.calls.clear();
    engine.kernel.asked.clear();
    engine
}

fn scan(engine: &mut Engine<Model>) -> Residency {
    let (first, last) =
        (&engine.kernel.mappings[0], &engine.kernel.mappings[engine.kernel.mappings.len() - 1]);
    let range = pages(first.first, last.end() - first.first);
    let mut residency = Residency::new();
    engine.scan(range, &mut residency).unwrap();
    assert_eq!(residency.range(), Some(range));
    residency
}

fn letters(residency: &Residency) -> String {
    let letter = |place| match place {
        Place::System => 's',
        Place::Zero => 'z',
        Place::Device => 'D',
        Place::Swap => 'w',
        Place::Guard => 'g',
        Place::Marker => 'm',
        Place::Absent => '.',
        Place::Ambiguous => '?',
    };
    residency.pages().map(letter).collect()
}

/// The pages of the measured scenario: VRAM, system, absent, zero page, swapped (still cached), guard.
const SCENARIO: [Page; 13] = [
    Device, Device, Device, Device, System, Absent, Zero, SwapCached, SwapCached, Guard, Device, Device,
    Absent,
];

#[test]
fn without_candidates_one_ioctl_is_all() {
    let mut engine = engine(model(&[System, Zero, Absent, Guard, Huge]));
    assert_eq!(letters(&scan(&mut engine)), "sz.gs");
    assert_eq!(engine.kernel.calls, [Call::Scan]);
}

#[test]
fn the_measured_scenario_without_privilege() {
    let mut engine = engine(model(&SCENARIO));
    let residency = scan(&mut engine);
    assert_eq!(letters(&residency), "????s.z??g??.");
    let page = page_size();
    assert_eq!(residency.summary().device_bytes(), 6 * page..=6 * page, "the number is exact");
    assert_eq!(residency.ambiguities().len(), 1);
    assert_eq!(residency.ambiguities()[0].ambiguous_bytes(), 8 * page);
    assert_eq!(residency.ambiguities()[0].device_bytes_in_vma(), 6 * page..=6 * page);
}

#[test]
fn the_measured_scenario_with_privilege() {
    let mut engine = engine(Model { types: true, ..model(&SCENARIO) });
    assert_eq!(letters(&scan(&mut engine)), "DDDDs.zwwgDD.");
    assert_eq!(engine.kernel.count(Call::Smaps), 0, "types make counting needless");
}

#[test]
fn cheap_stops_after_the_ioctl() {
    let mut engine = engine(model(&SCENARIO));
    engine.depth = Depth::Cheap;
    let residency = scan(&mut engine);
    assert_eq!(letters(&residency), "????s.z??g??.");
    assert_eq!(engine.kernel.calls, [Call::Scan]);
    assert_eq!(residency.summary().device_bytes(), 0..=8 * page_size());
}

#[test]
fn swapped_out_and_device_pages_are_told_apart_when_nothing_is_cached() {
    let mut engine = engine(model(&[Device, Swapped, Device, Swapped, Swapped]));
    assert_eq!(letters(&scan(&mut engine)), "DwDww");
}

#[test]
fn without_swap_smaps_is_not_read() {
    let mut engine = engine(Model { swap: SwapSpace::Empty, ..model(&[Device, System, Device]) });
    assert_eq!(letters(&scan(&mut engine)), "DsD");
    assert_eq!(engine.kernel.count(Call::Smaps), 0);
    assert_eq!(engine.kernel.count(Call::Entries), 0);
}

#[test]
fn a_kernel_built_without_swap_is_not_asked_for_mincore() {
    let mut engine = engine(Model { swap: SwapSpace::NotBuilt, ..model(&[Device, System, Device]) });
    assert_eq!(letters(&scan(&mut engine)), "DsD", "the model panics when mincore is called");
}

#[test]
fn markers_on_a_kernel_built_without_swap_stay_doubtful() {
    let mut model = Model { swap: SwapSpace::NotBuilt, ..model(&[Device, Marker, System]) };
    model.mappings[0].userfaultfd = true;
    let residency = scan(&mut engine(model));
    assert_eq!(letters(&residency), "??s");
    assert_eq!(residency.summary().device_bytes(), 0..=2 * page_size());
}

#[test]
fn the_rest_of_the_mapping_counts_too() {
    // The slots of the mapping all lie outside of what is scanned.
    let mut engine = engine(model(&[Swapped, Swapped, Device, System, SwapCached]));
    let mut residency = Residency::new();
    engine.scan(pages(FIRST + 2, 2), &mut residency).unwrap();
    assert_eq!(letters(&residency), "?s");
    let page = page_size();
    let ambiguity = &residency.ambiguities()[0];
    assert_eq!(ambiguity.device_bytes_in_vma(), page..=page);
    assert_eq!(ambiguity.device_bytes(), 0..=page, "it may be the one outside");

    engine.kernel.mappings[0].pages[4] = Swapped;
    engine.scan(pages(FIRST + 2, 2), &mut residency).unwrap();
    assert_eq!(letters(&residency), "Ds");
}

#[test]
fn each_mapping_is_judged_by_its_own_counts() {
    let mappings = vec![
        Mapping::anonymous(FIRST, &[Device, Device]),
        Mapping::anonymous(FIRST + 2, &[SwapCached, SwapCached]),
        Mapping::anonymous(FIRST + 5, &[Swapped, Device]),
    ];
    let residency = scan(&mut engine(Model::new(mappings)));
    assert_eq!(letters(&residency), "DDww.wD");
}

#[test]
fn shared_memory_is_never_on_a_device() {
    let mut shared = Mapping::anonymous(FIRST, &[Marker, File, Absent]);
    (shared.shared, shared.userfaultfd) = (true, true);
    let residency = scan(&mut engine(Model { swap: SwapSpace::Empty, ..Model::new(vec![shared]) }));
    assert_eq!(letters(&residency), "ms.");
}

#[test]
fn a_file_that_mincore_does_not_answer_for_is_not_misread() {
    let mut file = Mapping::anonymous(FIRST, &[Device, Swapped, File]);
    (file.file, file.mincore_denied) = (true, true);
    let residency = scan(&mut engine(Model::new(vec![file])));
    assert_eq!(letters(&residency), "??s");
    assert_eq!(residency.summary().device_bytes(), page_size()..=2 * page_size());
}

#[test]
fn a_migration_in_flight_is_looked_at_again() {
    let mut model = model(&[Migrating, Device, System]);
    model.swap = SwapSpace::Empty;
    model.script = Some(Box::new(|call, mappings| {
        if call == Call::Mincore {
            mappings[0].pages[0] = System;
        }
    }));
    let mut engine = engine(model);
    assert_eq!(letters(&scan(&mut engine)), "sDs");
}

#[test]
fn device_pages_that_stay_are_looked_at_twice() {
    let mut engine = engine(Model { swap: SwapSpace::Empty, ..model(&[System, Device, Device, Absent]) });
    assert_eq!(letters(&scan(&mut engine)), "sDD.");
    assert_eq!(engine.kernel.count(Call::Scan), 2);
}

#[test]
fn pages_that_move_all_the_time_end_as_ambiguous() {
    let mut model = model(&[Device, Device, System]);
    model.swap = SwapSpace::Empty;
    // The first scan asks what the kernel can; then each first look sees the page and no second look does.
    let mut scans = 0;
    model.script = Some(Box::new(move |call, mappings| {
        scans += usize::from(call == Call::Scan);
        mappings[0].pages[0] = if scans % 2 == 0 { Device } else { System };
    }));
    let residency = scan(&mut engine(model));
    assert_eq!(letters(&residency), "?Ds");
    assert_eq!(residency.summary().device_bytes(), page_size()..=2 * page_size());
    assert_eq!(residency.composition(), Composition::Unknown);
}

#[test]
fn settled_waits_for_two_equal_answers() {
    let mut model = Model { swap: SwapSpace::Empty, ..model(&[System, System, System, System]) };
    let mut scans = 0;
    model.script = Some(Box::new(move |_, mappings| {
        if scans < 4 {
            mappings[0].pages[scans] = Device;
        }
        scans += 1;
    }));
    let mut engine = engine(model);
    engine.depth = Depth::Settled;
    assert_eq!(letters(&scan(&mut engine)), "DDDD");
}

#[test]
fn settled_gives_up_and_says_so() {
    let mut model = model(&[System, System]);
    model.script = Some(Box::new(|_, mappings| mappings[0].pages.rotate_left(1)));
    model.mappings[0].pages[0] = Zero;
    let mut engine = engine(model);
    engine.depth = Depth::Settled;
    let mut residency = Residency::new();
    let error = engine.scan(pages(FIRST, 2), &mut residency).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    assert_eq!(error.range(), Some(pages(FIRST, 2)));
    assert!(residency.range().is_none() && residency.runs().is_empty());
}

#[test]
fn memory_that_is_unmapped_meanwhile_is_looked_at_anew() {
    let mut model = Model { swap: SwapSpace::Empty, ..model(&[System, Device]) };
    model.mappings.push(Mapping::anonymous(FIRST + 2, &[Device]));
    let mut done = false;
    model.script = Some(Box::new(move |call, mappings| {
        if call == Call::Mincore && !done {
            mappings.pop();
            done = true;
        }
    }));
    let mut engine = engine(model);
    let mut residency = Residency::new();
    engine.scan(pages(FIRST, 3), &mut residency).unwrap();
    assert_eq!(letters(&residency), "sD.");
}

#[test]
fn mappings_that_never_hold_still_are_an_error() {
    let mut model = Model { swap: SwapSpace::Empty, ..model(&[Device]) };
    model.fail = Some((Call::Mincore, Errno::ENOMEM));
    let mut residency = Residency::new();
    let error = engine(model).scan(pages(FIRST, 1), &mut residency).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
}

#[test]
fn before_the_guard_category_guards_are_markers_and_a_proof_less() {
    let model = Model { guard_known: false, ..model(&[System, Guard, Device, Swapped]) };
    let mut engine = engine(model);
    assert!(engine.collector.support.pagemap_scan && !engine.collector.support.guard);
    // One slot, two candidates with mincore 0: not provable which is which, but nothing is claimed wrongly.
    let residency = scan(&mut engine);
    assert_eq!(letters(&residency), "s???");
    engine.kernel.swap = SwapSpace::Empty;
    engine.kernel.mappings[0].pages[3] = System;
    assert_eq!(letters(&scan(&mut engine)), "smDs");
}

#[test]
fn before_the_ioctl_words_are_read() {
    let mut engine =
        engine(Model { has_ioctl: false, ..model(&[System, Zero, Device, Swapped, Absent, Huge]) });
    let support = engine.collector.support;
    assert!(!support.pagemap_scan() && !support.zero() && !support.huge() && !support.guard());
    assert_eq!(letters(&scan(&mut engine)), "ssDw.s", "the zero page is system memory there");
    assert_eq!(engine.kernel.count(Call::Scan), 0);
}

#[test]
fn errors_of_each_call_are_reported_as_such() {
    let cases = [
        (Call::Scan, Errno::EFAULT, ErrorKind::NotMapped, "PAGEMAP_SCAN"),
        (Call::Scan, Errno::ENOMEM, ErrorKind::OutOfMemory, "PAGEMAP_SCAN"),
        (Call::Mincore, Errno::EAGAIN, ErrorKind::TryAgain, "mincore"),
        (Call::Smaps, Errno::EACCES, ErrorKind::PermissionDenied, "/proc/self/smaps"),
    ];
    for (call, errno, kind, name) in cases {
        let mut engine = engine(model(&[Device, Swapped]));
        engine.kernel.fail = Some((call, errno));
        let mut residency = Residency::new();
        let error = engine.scan(pages(FIRST, 2), &mut residency).unwrap_err();
        assert_eq!((error.kind(), error.call(), error.errno()), (kind, name, Some(errno)));
        assert_eq!(error.reason().contains("beyond the addresses of user memory"), errno == Errno::EFAULT);
        assert!(residency.range().is_none() && residency.runs().is_empty());
    }
    let refused = Engine::new(Model { fail: Some((Call::Scan, Errno::EPERM)), ..model(&[]) });
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::PermissionDenied), "a sandbox");
    let nothing = Engine::new(Model { fail: Some((Call::Scan, Errno::EINVAL)), ..model(&[]) });
    assert_eq!(nothing.err().map(|error| error.kind()), Some(ErrorKind::InvalidArgument), "not even this");
}

#[test]
fn coherent_pages_are_found_only_on_request() {
    let mut engine = engine(model(&[System, Coherent, Coherent, File, Zero, Huge]));
    assert_eq!(letters(&scan(&mut engine)), "sssszs");
    assert_eq!(engine.kernel.count(Call::Nodes), 0);
    engine.collector.files = true;
    let residency = scan(&mut engine);
    assert_eq!(letters(&residency), "sDDszs");
    assert_eq!(residency.runs().len(), 5, "file and anonymous memory are one place");
    engine.kernel.fail = Some((Call::Nodes, Errno::ENOSYS));
    let error = engine.scan(pages(FIRST, 6), &mut Residency::new()).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::Unsupported, "move_pages"));
}

fn learned(model: &mut Model, pages: &[u64]) -> Result<Calibration, crate::Error> {
    let mut calibration = Calibration::new();
    for page in pages {
        calibration.learn_with(model, page * page_size() + 17)?;
    }
    Ok(calibration)
}

#[test]
fn calibration_learns_from_pages_in_vram_only() {
    let mut model = Model { types: true, ..model(&[Device, DeviceReadOnly, System, Absent, Swapped]) };
    let calibration = learned(&mut model, &[FIRST, FIRST + 1]).unwrap();
    assert_eq!(calibration.types(), 1 << DEVICE_WRITE | 1 << (DEVICE_WRITE + 1));
    for page in 2..5 {
        let error = learned(&mut model, &[FIRST + page]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MemoryKind);
    }
    model.types = false;
    assert_eq!(learned(&mut model, &[FIRST]).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_calibration_tells_migrations_from_devices() {
    let mut model =
        Model { types: true, swap: SwapSpace::Empty, ..model(&[Device, DeviceReadOnly, Migrating, System]) };
    let both = learned(&mut model, &[FIRST, FIRST + 1]).unwrap();
    let mut engine = engine(model);
    assert_eq!(
        letters(&scan(&mut engine)),
        "DDDs",
        "without, a migration that lasts looks like a device page"
    );
    engine.resolver.device_types = both.types();
    assert_eq!(letters(&scan(&mut engine)), "DD?s");
    engine.resolver.device_types = 1 << DEVICE_WRITE;
    assert_eq!(letters(&scan(&mut engine)), "D??s", "what was not learned is not claimed");
}

#[test]
fn a_calibration_changes_nothing_where_types_are_hidden() {
    let mut engine = engine(model(&[Device, Swapped, System]));
    engine.resolver.device_types = 1 << DEVICE_WRITE;
    assert_eq!(letters(&scan(&mut engine)), "Dws");
}

#[test]
fn device_bytes_do_not_ask_what_is_present() {
    let mut engine = engine(model(&[System, Zero, Device, Device, Swapped, Guard, Absent]));
    let bytes = 2 * page_size();
    assert_eq!(engine.device_bytes(pages(FIRST, 7)).unwrap(), bytes..=bytes);
    // Other tests of the process may have simulated devices, which hold pages that the kernel calls absent: then all is asked.
    let only_candidates = engine.kernel.asked.iter().all(|&mask| mask == PAGE_IS_SWAPPED);
    assert!(only_candidates || crate::residency::overlay::any(), "{:x?}", engine.kernel.asked);
    engine.collector.files = true;
    engine.kernel.mappings[0].pages[0] = Coherent;
    assert_eq!(engine.device_bytes(pages(FIRST, 7)).unwrap(), 3 * page_size()..=3 * page_size());
}

#[test]
fn huge_entries_are_marked() {
    let residency = scan(&mut engine(model(&[Huge, Huge, System, DeviceHuge, Device])));
    let runs: Vec<_> =
        residency.runs().iter().map(|run| (run.place(), run.is_huge(), run.range().pages())).collect();
    assert_eq!(
        runs,
        [
            (Place::System, true, 2),
            (Place::System, false, 1),
            (Place::Device, true, 1),
            (Place::Device, false, 1)
        ]
    );
    assert_eq!(residency.summary().huge_bytes(Place::Device), page_size());
}

#[test]
fn more_regions_than_fit_at_once() {
    let content: Vec<Page> = (0..20_000).map(|i| if i % 2 == 0 { System } else { Zero }).collect();
    let mut engine = engine(model(&content));
    let residency = scan(&mut engine);
    assert_eq!(residency.runs().len(), content.len());
    let first = engine.kernel.count(Call::Scan);
    scan(&mut engine);
    assert!(engine.kernel.count(Call::Scan) - first < first, "the buffer has grown");
}

#[test]
fn the_buffer_of_regions_grows_to_its_limit_and_stays() {
    let content: Vec<Page> = (0..20_000).map(|i| if i % 2 == 0 { System } else { Zero }).collect();
    let mut engine = engine(model(&content));
    engine.collector.files = true;
    scan(&mut engine);
    engine.kernel.calls.clear();
    scan(&mut engine);
    assert_eq!(engine.kernel.count(Call::Scan), 20_000usize.div_ceil(4096));
}

#[test]
fn a_mapping_of_few_pages_is_not_asked_for_however_often_they_alternate() {
    let content: Vec<Page> = (0..1000).map(|i| if i % 2 == 0 { System } else { Zero }).collect();
    let mut engine = engine(model(&content));
    engine.depth = Depth::Cheap;
    assert_eq!(letters(&scan(&mut engine)), "sz".repeat(500));
    assert_eq!(engine.kernel.count(Call::Mapping), 0);
}

#[test]
fn what_is_reported_around_the_range_is_cut_off() {
    let mut engine =
        engine(Model { reports_neighbours: true, ..model(&[Zero, System, Zero, Absent, System]) });
    let mut residency = Residency::new();
    for (first, count, expected) in [(1, 3, "sz."), (2, 2, "z."), (1, 1, "s"), (3, 1, ".")] {
        engine.scan(pages(FIRST + first, count), &mut residency).unwrap();
        assert_eq!(letters(&residency), expected);
        assert!(residency.runs().iter().all(|run| !run.range().is_empty()), "{residency:?}");
    }
}

#[test]
fn a_walk_end_that_lags_behind_repeats_nothing() {
    let content: Vec<Page> = (0..1000).map(|i| [System, Zero, Absent][i % 3]).collect();
    let mut engine = engine(Model { stale_walk_end: true, ..model(&content) });
    let residency = scan(&mut engine);
    assert_eq!(letters(&residency), "sz.".repeat(334)[..1000]);
}

#[test]
fn an_empty_range_asks_nothing() {
    let mut engine = engine(model(&[System]));
    let mut residency = Residency::new();
    engine.scan(pages(FIRST, 0), &mut residency).unwrap();
    assert!(residency.runs().is_empty() && engine.kernel.calls.is_empty());
    assert_eq!(residency.composition(), Composition::Empty);
}

#[test]
fn compositions() {
    let composition = |content: &[Page]| scan(&mut engine(model(content))).composition();
    assert_eq!(composition(&[System, Huge, Zero]), Composition::System);
    assert_eq!(composition(&[Device, DeviceHuge]), Composition::Device);
    assert_eq!(composition(&[Device, System]), Composition::Mixed);
    assert_eq!(composition(&[Device, System, Absent]), Composition::Unpopulated);
    assert_eq!(composition(&[Device, Swapped]), Composition::Unpopulated);
    assert_eq!(composition(&[Device, SwapCached]), Composition::Unpopulated, "one of the two is swapped out");
}

/// Two mappings that follow each other, and an engine to which two pages are many.
fn by_mapping(low: &[Page], high: &[Page]) -> Engine<Model> {
    let low = Mapping::anonymous(FIRST, low);
    let high = Mapping::anonymous(low.end(), high);
    let mut engine = engine(Model::new(vec![low, high]));
    engine.collector.many_pages = 2;
    engine
}

const POPULATED: u64 = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
const NOT_PLAIN: u64 = PAGE_IS_PRESENT | PAGE_IS_PFNZERO | PAGE_IS_HUGE;

#[test]
fn plain_pages_of_large_mappings_are_not_reported() {
    let mut engine =
        by_mapping(&[System, System, System, Zero, System, Absent, System], &[Absent, System, Guard]);
    engine.depth = Depth::Cheap;
    assert_eq!(letters(&scan(&mut engine)), "ssszs.s.sg");
    // Two pages; what is not plain in the other five; whether the first and the last of those not reported are present; and the second mapping.
    assert_eq!(engine.kernel.asked, [POPULATED, NOT_PLAIN, POPULATED, POPULATED, POPULATED]);
}

#[test]
fn memory_of_a_device_is_not_taken_for_plain_pages() {
    let mut engine = by_mapping(&[System; 2], &[Absent; 6]);
    engine.kernel.mappings[1].special = true;
    let last = Mapping::anonymous(engine.kernel.mappings[1].end(), &[System; 4]);
    engine.kernel.mappings.push(last);
    let residency = scan(&mut engine);
    assert_eq!(letters(&residency), "ss......ssss");
    assert_eq!(residency.runs().len(), 3);
}

#[test]
fn a_mapping_that_vanishes_under_the_scan_is_not_taken_for_plain_pages() {
    let mut engine = by_mapping(&[System; 8], &[System; 2]);
    let mut scans = 0;
    engine.kernel.script = Some(Box::new(move |call, mappings| {
        scans += u32::from(call == Call::Scan);
        // After the mapping was named its end goes away.
        if scans == 2 {
            mappings[0].pages.truncate(5);
        }
    }));
    let mut residency = Residency::new();
    engine.scan(pages(FIRST, 10), &mut residency).unwrap();
    assert_eq!(letters(&residency), "sssss...ss");
}

#[test]
fn what_is_a_file_is_asked_of_each_page_of_large_mappings_too() {
    let mut engine = by_mapping(&[System, Coherent, Coherent, Coherent, File, System], &[File; 4]);
    engine.collector.files = true;
    assert_eq!(letters(&scan(&mut engine)), "sDDDssssss");
    assert!(!engine.kernel.asked.contains(&NOT_PLAIN), "{:x?}", engine.kernel.asked);
}

#[test]
fn absent_memory_is_one_question() {
    let mut engine = by_mapping(&[Absent; 8], &[Absent; 8]);
    assert_eq!(letters(&scan(&mut engine)), ".".repeat(16));
    assert_eq!(engine.kernel.calls, [Call::Scan]);
}

#[test]
fn kernels_that_name_no_mappings_are_asked_at_once() {
    let mut engine = by_mapping(&[System, Zero, System, System], &[System; 6]);
    engine.kernel.has_query = false;
    assert_eq!(letters(&scan(&mut engine)), "szssssssss");
    assert_eq!(engine.kernel.asked, [POPULATED; 2]);
}

#[test]
fn many_small_mappings_are_not_asked_for_one_by_one() {
    let mappings = (0..1000).map(|i| Mapping::anonymous(FIRST + 3 * i, &[System, Zero])).collect();
    let mut engine = engine(Model::new(mappings));
    engine.collector.many_pages = 3;
    assert_eq!(letters(&scan(&mut engine)), "sz.".repeat(1000)[..2999]);
    assert!(engine.kernel.count(Call::Mapping) < 20, "{}", engine.kernel.count(Call::Mapping));
}
