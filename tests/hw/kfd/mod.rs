//! KFD's own objects, on every ground, with a copy engine (SDMA user queue) as the GPU that touches memory.
//!
//! # The cases of kfdtest
//!
//! ROCm's `kfdtest` (`libhsakmt/tests/kfdtest/src/KFDSVMRangeTest.cpp`, `KFDSVMEvictTest.cpp`) runs 26 cases of shared virtual
//! memory, with XNACK off and on. Each has a counterpart here **of the same name**, `kfd/<suite>.<case>`, and the suite itself
//! runs once in each mode. Where a case of kfdtest launches a shader, the counterpart has a copy engine write, copy or fill; what
//! a shader alone can show is named in the last column.
//!
//! | case | where | differs from kfdtest |
//! |---|---|---|
//! | `KFDSVMRangeTest.BasicSystemMemTest` | `system_memory` | |
//! | `KFDSVMRangeTest.SetGetAttributesTest` | `attributes` | |
//! | `KFDSVMRangeTest.XNACKModeTest` | `attributes` | |
//! | `KFDSVMRangeTest.InvalidRangeTest` | `attributes` | |
//! | `KFDSVMRangeTest.SplitSystemRangeTest` | `system_memory` | |
//! | `KFDSVMRangeTest.EvictSystemRangeTest` | `system_memory` | no compute (PM4) queue beside the copy engine's |
//! | `KFDSVMRangeTest.PartialUnmapSysMemTest` | `system_memory` | |
//! | `KFDSVMRangeTest.BasicVramTest` | `vram` | |
//! | `KFDSVMRangeTest.SplitVramRangeTest` | `vram` | |
//! | `KFDSVMRangeTest.PrefetchTest` | `attributes` | |
//! | `KFDSVMRangeTest.MigrateTest` | `migration` | |
//! | `KFDSVMRangeTest.MigrateAccessInPlaceTest` | `migration` | |
//! | `KFDSVMRangeTest.MigrateGranularityTest` | `migration` | also looks at how much moved, which kfdtest leaves to the kernel's log |
//! | `KFDSVMRangeTest.MigrateLargeBufTest` | `migration` | as large as half of VRAM, at most 1 GiB |
//! | `KFDSVMRangeTest.MigratePolicyTest` | `migration` | |
//! | `KFDSVMRangeTest.MultiGPUMigrationTest` | `several_gpus` | |
//! | `KFDSVMRangeTest.MultiGPUAccessInPlaceTest` | `several_gpus` | |
//! | `KFDSVMRangeTest.MultiThreadMigrationTest` | `migration` | |
//! | `KFDSVMRangeTest.MigrateFileBackedRangeTest` | `system_memory` | |
//! | `KFDSVMRangeTest.ReadOnlyRangeTest` | `read_only` | in a process of its own, as there |
//! | `KFDSVMRangeTest.HMMProfilingEvent` | `events` | |
//! | `KFDSVMRangeTest.VramOvercommitTest` | `overcommit` | half as much again as there is VRAM, in pieces of an eighth |
//! | `KFDSVMRangeTest.VramOvercommitGiantRangeTest` | `overcommit` | likewise |
//! | `KFDSVMRangeTest.PrefaultPartialRangeTest` | `system_memory` | |
//! | `KFDSVMEvictTest.BasicTest` | `evict` | needs a device that two processes share: not the simulated one |
//! | `KFDSVMEvictTest.QueueTest` | `evict` | a copy engine reads all the while, where kfdtest has a shader spin |

mod attributes;
pub(crate) mod bench;
mod events;
mod evict;
mod migration;
mod overcommit;
mod read_only;
mod sdma;
mod several_gpus;
mod system_memory;
mod taken_away;
mod vram;

use crate::harness::{Context, Need, Test, TestResult};

pub(crate) const TESTS: &[&[Test]] = &[
    &[Test {
        name: "kfd/every_case_of_kfdtest_has_a_counterpart",
        needs: &[Need::Kfd],
        run: every_case_of_kfdtest_has_a_counterpart,
    }],
    attributes::TESTS,
    sdma::TESTS,
    system_memory::TESTS,
    vram::TESTS,
    migration::TESTS,
    several_gpus::TESTS,
    read_only::TESTS,
    taken_away::TESTS,
    events::TESTS,
    overcommit::TESTS,
    evict::TESTS,
];

/// The cases of kfdtest about shared virtual memory.
const KFDTEST: [&str; 26] = [
    "KFDSVMRangeTest.BasicSystemMemTest",
    "KFDSVMRangeTest.SetGetAttributesTest",
    "KFDSVMRangeTest.XNACKModeTest",
    "KFDSVMRangeTest.InvalidRangeTest",
    "KFDSVMRangeTest.SplitSystemRangeTest",
    "KFDSVMRangeTest.EvictSystemRangeTest",
    "KFDSVMRangeTest.PartialUnmapSysMemTest",
    "KFDSVMRangeTest.BasicVramTest",
    "KFDSVMRangeTest.SplitVramRangeTest",
    "KFDSVMRangeTest.PrefetchTest",
    "KFDSVMRangeTest.MigrateTest",
    "KFDSVMRangeTest.MigrateAccessInPlaceTest",
    "KFDSVMRangeTest.MigrateGranularityTest",
    "KFDSVMRangeTest.MigrateLargeBufTest",
    "KFDSVMRangeTest.MigratePolicyTest",
    "KFDSVMRangeTest.MultiGPUMigrationTest",
    "KFDSVMRangeTest.MultiGPUAccessInPlaceTest",
    "KFDSVMRangeTest.MultiThreadMigrationTest",
    "KFDSVMRangeTest.MigrateFileBackedRangeTest",
    "KFDSVMRangeTest.ReadOnlyRangeTest",
    "KFDSVMRangeTest.HMMProfilingEvent",
    "KFDSVMRangeTest.VramOvercommitTest",
    "KFDSVMRangeTest.VramOvercommitGiantRangeTest",
    "KFDSVMRangeTest.PrefaultPartialRangeTest",
    "KFDSVMEvictTest.BasicTest",
    "KFDSVMEvictTest.QueueTest",
];

fn every_case_of_kfdtest_has_a_counterpart(_: &Context) -> TestResult {
    let mut named: Vec<&str> = TESTS.iter().flat_map(|tests| tests.iter()).map(|test| test.name).collect();
    for case in KFDTEST {
        assert!(named.contains(&format!("kfd/{case}").as_str()), "no counterpart of {case}");
    }
    let all = named.len();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), all, "names are told apart");
    Ok(())
}
