//! The machine's settings before and after a run: the suite changes none, and this is the check.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files that hold one setting each, and folders of such files.
const PLACES: &[&str] = &[
    "sys/kernel/mm/transparent_hugepage/enabled",
    "sys/kernel/mm/transparent_hugepage/defrag",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "sys/kernel/mm/transparent_hugepage/khugepaged/defrag",
    "sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none",
    "sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_swap",
    "sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_shared",
    "sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs",
    "sys/kernel/mm/numa/demotion_enabled",
    "sys/kernel/mm/ksm/run",
    "proc/sys/vm/nr_hugepages",
    "proc/sys/vm/overcommit_memory",
    "proc/sys/vm/overcommit_ratio",
    "proc/sys/vm/swappiness",
    "proc/sys/vm/unprivileged_userfaultfd",
    "proc/sys/vm/max_map_count",
    "proc/sys/kernel/numa_balancing",
    "proc/sys/kernel/core_pattern",
    "proc/sys/kernel/perf_event_paranoid",
    "proc/sys/kernel/randomize_va_space",
    "sys/module/xe/parameters",
    "sys/module/amdgpu/parameters",
];

/// Settings of each GPU.
const OF_GPUS: &[&str] =
    &["power/control", "power_dpm_force_performance_level", "driver_override", "reset_method", "enable"];

/// What the settings were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads what can be read below `root`, which is `/` but for tests.
    pub(crate) fn read(root: &Path) -> Self {
        let mut found = BTreeMap::new();
        for place in PLACES {
            add(&mut found, root, place);
        }
        for entry in fs::read_dir(root.join("sys/class/drm")).into_iter().flatten().flatten() {
            let node = entry.file_name().to_string_lossy().into_owned();
            if node.starts_with("renderD") {
                for setting in OF_GPUS {
                    add(&mut found, root, &format!("sys/class/drm/{node}/device/{setting}"));
                }
            }
        }
        Self(found)
    }

    /// One line for each setting that is not in `later` what it is here.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        let names = self.0.keys().chain(later.0.keys().filter(|name| !self.0.contains_key(*name)));
        let shown =
            |value: Option<&String>| value.map_or("(absent)".to_owned(), |value| format!("{value:?}"));
        names
            .map(|name| (name, self.0.get(name), later.0.get(name)))
            .filter(|(_, before, after)| before != after)
            .map(|(name, before, after)| {
                format!("/{name} changed from {} to {}", shown(before), shown(after))
            })
            .collect()
    }
}

fn add(found: &mut BTreeMap<String, String>, root: &Path, place: &str) {
    let path = root.join(place);
    if let Ok(text) = fs::read_to_string(&path) {
        found.insert(place.to_owned(), text.trim_end().to_owned());
        return;
    }
    for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
        let name = format!("{place}/{}", entry.file_name().to_string_lossy());
        if let Ok(text) = fs::read_to_string(root.join(&name)) {
            found.insert(name, text.trim_end().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwtest::test_files::write;

    #[test]
    fn every_change_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let thp = "sys/kernel/mm/transparent_hugepage/enabled";
        write(root, thp, "always [madvise] never\n");
        write(root, "sys/module/xe/parameters/svm_notifier_size", "512\n");
        write(root, "sys/class/drm/renderD128/device/power/control", "auto\n");
        let before = Settings::read(root);
        assert_eq!(before.changes(&Settings::read(root)), Vec::<String>::new());
        write(root, thp, "[always] madvise never\n");
        write(root, "sys/class/drm/renderD128/device/power/control", "on\n");
        fs::remove_file(root.join("sys/module/xe/parameters/svm_notifier_size")).unwrap();
        write(root, "proc/sys/vm/nr_hugepages", "8");
        let changes = before.changes(&Settings::read(root)).join("\n");
        for part in [
            thp,
            "[madvise]",
            "power/control",
            "\"auto\" to \"on\"",
            "svm_notifier_size",
            "(absent) to \"8\"",
        ] {
            assert!(changes.contains(part), "{part} in {changes}");
        }
        assert_eq!(changes.lines().count(), 4);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(Settings::read(Path::new("/")).0.contains_key("proc/sys/vm/overcommit_memory"));
    }
}
