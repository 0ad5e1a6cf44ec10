//! The rows that the suites of the drivers' authors suggest, and those that only this suite has.

/// Tests that belong together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    /// Rows: what is shown, after which upstream tests, and the tests here that show it. A pattern that ends with `*` stands for
    /// all names with that beginning; a test belongs to the first row that has it.
    pub(super) rows: &'static [(&'static str, &'static [&'static str])],
}

pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "Only here: what became of the pages",
        rows: &[
            (
                "residency after a prefetch",
                &[
                    "placement/prefetch_moves_and_says_so",
                    "placement/second_prefetch_finds_it_there",
                    "placement/back_to_system",
                    "placement/odd_sizes_and_offsets",
                    "placement/unobserved_still_moves",
                    "placement/untouched_memory_reads_zero",
                ],
            ),
            ("outcome, residency and events tell one story", &["story/*"]),
            (
                "residency after a CPU touch",
                &["placement/cpu_read_brings_it_back", "placement/system_calls_reach_vram"],
            ),
            (
                "outcome on memory kinds that do not move",
                &["memory_kinds/read_only", "memory_kinds/nothing_mapped", "memory_kinds/mixture"],
            ),
            (
                "outcome when VRAM is full",
                &["pressure/more_data_than_vram", "faults/kfd_vram_full", "trouble/vram*"],
            ),
            ("advice is taken back when its guard goes", &["advice/*"]),
            ("the doctor's verdict equals reality", &["doctor/*"]),
            ("each cause of a refusal, provoked", &["causes/*"]),
            ("events name what set a migration off", &["events/*"]),
            ("budgets keep earlier work in VRAM", &["budget/*"]),
            ("background prefetch leaves nothing behind", &["prefetcher/*"]),
            ("device loss", &["faults/xe_unplugged", "faults/xe_wedged", "trouble/*"]),
        ],
    },
    Group {
        title: "As in the xe tests of IGT",
        rows: &[
            (
                "once, many: malloc, prefetch",
                &["placement/plain_vec", "placement/cpu_write_lands_and_survives", "queue/*", "store/*"],
            ),
            ("the GPU stores, copies, increments: before and after a prefetch", &["gpu_access/*"]),
            (
                "mmap: file, shared, huge, remap, mlock",
                &[
                    "memory_kinds/shared_anonymous",
                    "memory_kinds/shared_file",
                    "memory_kinds/private_file",
                    "memory_kinds/hugetlb",
                    "memory_kinds/*",
                    "xe/stores_to*",
                ],
            ),
            ("malloc-fork-read", &["lifetime/forked*"]),
            ("partial unmaps, free and new", &["lifetime/*", "mapping/*", "xe/a_half*"]),
            ("malloc-race", &["pressure/writers_lose_no_update"]),
            ("evict", &["pressure/*"]),
            ("madvise, pat-index, vm-get-property, bind-array-enobufs", &["xe/*"]),
            (
                "multi-GPU migration and page faults",
                &[
                    "placement/memory_of_another_gpu_is_refused",
                    "xe/prefetch_to_a_peer",
                    "xe/mirror_prefetches_to_a_peer",
                    "xe/page_faults_to_a_peer",
                ],
            ),
            ("fault and migration counters", &["counters/*"]),
            (
                "invalid arguments",
                &["placement/empty_range_does_nothing", "placement/a_target_must_be_named"],
            ),
            ("without VRAM, older kernels", &["faults/xe*"]),
        ],
    },
    Group {
        title: "As in the SVM tests of kfdtest",
        rows: &[
            (
                "SetGetAttributes, XNACKMode, InvalidRange",
                &[
                    "kfd/KFDSVMRangeTest.SetGet*",
                    "kfd/KFDSVMRangeTest.XNACK*",
                    "kfd/KFDSVMRangeTest.Invalid*",
                    "kfd/attributes/*",
                    "kfd/access/*",
                ],
            ),
            ("Prefetch (mixed), PrefaultPartialRange", &["kfd/KFDSVMRangeTest.Pre*"]),
            ("Migrate", &["kfd/KFDSVMRangeTest.Migrate*", "kfd/KFDSVMRangeTest.MultiThread*", "kfd/vram/*"]),
            ("MultiGPU", &["kfd/KFDSVMRangeTest.MultiGPU*", "kfd/several_gpus/*"]),
            ("HMMProfilingEvent", &["kfd/KFDSVMRangeTest.HMM*", "kfd/events/*"]),
            ("VramOvercommit, SVMEvict", &["kfd/KFDSVMRangeTest.VramOvercommit*", "kfd/KFDSVMEvict*"]),
            ("Basic, Split, Evict, PartialUnmap, ReadOnly", &["kfd/KFDSVMRangeTest.*"]),
            ("copy engines on a Vec", &["kfd/sdma/*"]),
            ("without SVM, races, signals, the list itself", &["faults/kfd*", "kfd/*"]),
        ],
    },
];

/// Where a test belongs: group and row, by number. `None`: nobody has said yet.
pub(super) fn of(name: &str) -> Option<(usize, usize)> {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    };
    // An exact name anywhere counts more than a pattern that comes before it.
    let find = |exact: bool| {
        GROUPS.iter().enumerate().find_map(|(group, it)| {
            let row = it.rows.iter().position(|(_, patterns)| {
                patterns.iter().any(|pattern| pattern.ends_with('*') != exact && fits(pattern))
            })?;
            Some((group, row))
        })
    };
    find(true).or_else(|| find(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(name: &str) -> &'static str {
        let (group, row) = of(name).unwrap();
        GROUPS[group].rows[row].0
    }

    #[test]
    fn exact_names_come_before_patterns() {
        assert_eq!(title("memory_kinds/hugetlb"), "mmap: file, shared, huge, remap, mlock");
        assert_eq!(title("memory_kinds/mixture"), "outcome on memory kinds that do not move");
        assert_eq!(title("faults/xe_unplugged"), "device loss");
        assert_eq!(title("faults/xe_kernels"), "without VRAM, older kernels");
        assert_eq!(title("kfd/KFDSVMRangeTest.PrefetchTest"), "Prefetch (mixed), PrefaultPartialRange");
        assert_eq!(
            title("kfd/KFDSVMRangeTest.SplitVramRangeTest"),
            "Basic, Split, Evict, PartialUnmap, ReadOnly"
        );
        assert_eq!(of("nobody/knows"), None);
    }
}
