//! Counters of drivers, in files.

use std::path::{Path, PathBuf};

use super::event::Counters;
use crate::device::Device;
use crate::range::page_size;

/// The files that count for a device, as far as this process may read them.
#[derive(Debug)]
pub(super) enum CounterFiles {
    /// `gt*/stats` below the device's directory in debugfs.
    Xe(Vec<PathBuf>),
    /// `counters_<gpu>` of this process.
    Kfd(PathBuf),
}

impl CounterFiles {
    pub(super) fn of(device: &Device) -> Option<Self> {
        let files = match device {
            Device::Xe(device) => {
                let node = rustix::fs::fstat(device.channel().descriptor()?).ok()?;
                let minor = rustix::fs::minor(node.st_rdev);
                Self::Xe(xe_files(Path::new("/"), minor))
            }
            Device::Kfd(gpu) => {
                let process = format!("/sys/class/kfd/kfd/proc/{}", std::process::id());
                Self::Kfd(Path::new(&process).join(format!("counters_{}", gpu.id().raw())))
            }
        };
        files.read().is_some().then_some(files)
    }

    /// The totals; `None` where nothing can be read.
    pub(super) fn read(&self) -> Option<Counters> {
        match self {
            Self::Xe(files) => {
                let texts: Vec<String> =
                    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
                (!texts.is_empty()).then(|| xe_counters(texts.iter().map(String::as_str)))
            }
            Self::Kfd(directory) => {
                let number = |name: &str| -> Option<u64> {
                    std::fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
                };
                let counters = Counters {
                    of_process: true,
                    gpu_faults: number("faults"),
                    to_vram: number("page_in").map(|pages| pages * page_size()),
                    to_system: number("page_out").map(|pages| pages * page_size()),
                };
                let any = counters.gpu_faults.or(counters.to_vram).or(counters.to_system);
                any.map(|_| counters)
            }
        }
    }
}

/// The `stats` files of a device by its render minor. Directories of debugfs are named by PCI address or by the minor of the primary
/// node, depending on the kernel.
fn xe_files(root: &Path, render_minor: u32) -> Vec<PathBuf> {
    let device = root.join(format!("sys/dev/char/226:{render_minor}/device"));
    let pci = std::fs::canonicalize(&device).ok();
    let pci = pci.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let cards = std::fs::read_dir(device.join("drm")).into_iter().flatten().flatten();
    let cards = cards.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("card").map(str::to_owned));
    let dri = root.join("sys/kernel/debug/dri");
    for name in pci.into_iter().chain(cards) {
        let mut files: Vec<PathBuf> = std::fs::read_dir(dri.join(name))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                entry.file_name().to_str().is_some_and(|name| {
                    name.strip_prefix("gt").is_some_and(|digits| digits.parse::<u32>().is_ok())
                })
            })
            .map(|entry| entry.path().join("stats"))
            .filter(|file| file.exists())
            .collect();
        if !files.is_empty() {
            files.sort();
            return files;
        }
    }
    Vec::new()
}

/// Sums `name: value` lines of the GTs. The names are those of `xe_gt_stats.c`; kernels differ in which they have.
fn xe_counters<'t>(texts: impl Iterator<Item = &'t str>) -> Counters {
    let mut counters = Counters::default();
    let add = |total: &mut Option<u64>, value: u64| *total = Some(total.unwrap_or(0) + value);
    for line in texts.flat_map(str::lines) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let Ok(value) = value.trim().parse::<u64>() else { continue };
        match name.trim() {
            "svm_pagefault_count" => add(&mut counters.gpu_faults, value),
            "svm_device_copy_kb" => add(&mut counters.to_vram, value * 1024),
            "svm_cpu_copy_kb" => add(&mut counters.to_system, value * 1024),
            _ => {}
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = "svm_pagefault_count: 7\ntlb_inval_count: 3\nsvm_4K_device_copy_kb: 4\n\
                         svm_device_copy_kb: 2052\nsvm_cpu_copy_kb: 0\nnonsense\n";

    #[test]
    fn the_totals_of_all_gts_are_summed() {
        let counters = xe_counters([STATS, "svm_pagefault_count: 1\n"].into_iter());
        assert_eq!(
            (counters.gpu_faults, counters.to_vram, counters.to_system),
            (Some(8), Some(2052 << 10), Some(0))
        );
        assert!(!counters.of_process);
        assert_eq!(xe_counters(["tlb_inval_count: 3\n"].into_iter()), Counters::default());
    }

    #[test]
    fn the_directory_is_found_by_either_name() {
        for name in ["0000:03:00.0", "1"] {
            let root = tempfile::tempdir().unwrap();
            let pci = root.path().join("sys/devices/0000:03:00.0");
            std::fs::create_dir_all(pci.join("drm/card1")).unwrap();
            std::fs::create_dir_all(root.path().join("sys/dev/char/226:129")).unwrap();
            std::os::unix::fs::symlink(&pci, root.path().join("sys/dev/char/226:129/device")).unwrap();
            for gt in ["gt0", "gt1", "gtx"] {
                let gt = root.path().join("sys/kernel/debug/dri").join(name).join(gt);
                std::fs::create_dir_all(&gt).unwrap();
                std::fs::write(gt.join("stats"), STATS).unwrap();
            }
            let files = xe_files(root.path(), 129);
            assert_eq!(files.len(), 2, "{files:?}");
            assert_eq!(CounterFiles::Xe(files).read().unwrap().gpu_faults, Some(14));
            assert_eq!(xe_files(root.path(), 128), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn kfd_counts_pages() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [("faults", "2\n"), ("page_in", "512\n"), ("page_out", "0\n")] {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        let counters = CounterFiles::Kfd(root.path().into()).read().unwrap();
        assert_eq!((counters.gpu_faults, counters.to_vram), (Some(2), Some(512 * page_size())));
        assert!(counters.of_process);
        assert!(CounterFiles::Kfd(root.path().join("nothing")).read().is_none());
    }

    #[test]
    fn what_grew_is_what_is_told() {
        let before = Counters { to_vram: Some(10), ..Counters::default() };
        let now = Counters { to_vram: Some(14), gpu_faults: Some(9), ..Counters::default() };
        let grown = now.since(&before);
        assert_eq!((grown.to_vram, grown.gpu_faults), (Some(4), None));
        assert!(!grown.is_zero() && now.since(&now).is_zero());
    }
}
