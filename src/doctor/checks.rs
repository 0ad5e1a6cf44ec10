//! The checks: every precondition that is looked at, and where its rule comes from.

use super::finding::Check;

macro_rules! checks {
    ($($name:ident = $id:literal, $title:literal, $source:literal;)*) => {
        $(pub(super) static $name: Check = Check { id: $id, title: $title, source: $source };)*

        /// Every check there is, whether or not it applies to this machine. Identifiers are stable.
        pub static CHECKS: &[&Check] = &[$(&$name),*];
    };
}

checks! {
    // The machine and this process.
    GPUS = "machine.gpus", "GPUs on the bus",
        "display controllers and accelerators of vendors 8086 and 1002 in /sys/bus/pci";
    OTHER_GPUS = "machine.other_gpus", "other GPUs",
        "xe and amdgpu are the drivers this crate speaks to";
    CONTAINER = "machine.container", "container or sandbox",
        "marks that container managers leave: /.dockerenv, /run/.containerenv, /run/systemd/container, /proc/1/cgroup, /dev/dxg";
    PAGE_SIZE = "machine.page_size", "page size",
        "xe supports pages of 4 KiB only (drivers/gpu/drm/xe/Kconfig)";
    PEERS = "machine.peers", "access from GPU to GPU",
        "xe_svm.c:xe_has_interconnect (pci_p2pdma_distance); kfd_svm.c: one XGMI hive";
    CAPABILITIES = "process.capabilities", "capabilities",
        "none is needed for SVM; fs/proc/task_mmu.c shows entry types to CAP_SYS_ADMIN, userfaultfd kernel faults to CAP_SYS_PTRACE";

    KERNEL = "kernel.version", "kernel",
        "xe has SVM since Linux 6.15 and everything this crate uses since 6.18; KFD since 5.14";
    COMMAND_LINE = "kernel.command_line", "kernel command line",
        "drivers/gpu/drm/drm_nomodeset.c: xe and amdgpu refuse to load with nomodeset";
    CONFIG = "kernel.config", "kernel configuration",
        "/proc/config.gz, /boot/config-*, /lib/modules/*/config";
    ZONE_DEVICE = "config.ZONE_DEVICE", "CONFIG_ZONE_DEVICE",
        "VRAM gets page descriptors by it (mm/memremap.c)";
    DEVICE_PRIVATE = "config.DEVICE_PRIVATE", "CONFIG_DEVICE_PRIVATE",
        "pages in VRAM are device-private pages (mm/migrate_device.c)";
    HMM_MIRROR = "config.HMM_MIRROR", "CONFIG_HMM_MIRROR",
        "drm_gpusvm and KFD read page tables through hmm_range_fault (mm/hmm.c)";
    DRM_XE = "config.DRM_XE", "CONFIG_DRM_XE",
        "drivers/gpu/drm/xe/Kconfig";
    DRM_XE_GPUSVM = "config.DRM_XE_GPUSVM", "CONFIG_DRM_XE_GPUSVM",
        "HAS_CPU_ADDR_MIRROR depends on it (xe_query.c)";
    DRM_XE_PAGEMAP = "config.DRM_XE_PAGEMAP", "CONFIG_DRM_XE_PAGEMAP",
        "without it a prefetch to VRAM silently becomes one to system memory (xe_svm.c); DRM_XE_DEVMEM_MIRROR in 6.16";
    DRM_AMDGPU = "config.DRM_AMDGPU", "CONFIG_DRM_AMDGPU",
        "drivers/gpu/drm/amd/amdgpu/Kconfig";
    HSA_AMD = "config.HSA_AMD", "CONFIG_HSA_AMD",
        "KFD, and with it /dev/kfd, exists only with it (amdkfd/Kconfig)";
    HSA_AMD_SVM = "config.HSA_AMD_SVM", "CONFIG_HSA_AMD_SVM",
        "without it every SVM ioctl of KFD answers EPERM (kfd_chardev.c)";
    PCI_P2PDMA = "config.PCI_P2PDMA", "CONFIG_PCI_P2PDMA",
        "pages in the VRAM of another GPU are reached by it (xe_svm.c, multi-GPU)";

    THP = "memory.huge_pages", "transparent huge pages",
        "drm_gpusvm migrates blocks of 2 MiB, 64 KiB or 4 KiB; a huge page moves as one (drm_gpusvm.c, since 7.x)";
    KHUGEPAGED = "memory.khugepaged", "khugepaged",
        "measured: with max_ptes_swap 64, up to 64 VRAM pages of a 2 MiB block were collapsed back to RAM within seconds";
    SWAP = "memory.swap", "swap",
        "pagemap shows VRAM pages and swapped pages alike to a process without CAP_SYS_ADMIN (fs/proc/task_mmu.c)";
    OVERCOMMIT = "memory.overcommit", "overcommit",
        "mm/util.c:__vm_enough_memory: mode 2 refuses reservations beyond the commit limit";
    ADDRESS_LIMIT = "memory.address_limit", "address space limit",
        "mm/mmap.c:may_expand_vm counts every mapping against RLIMIT_AS";
    LOCK_LIMIT = "memory.lock_limit", "locked memory limit",
        "locking memory before it migrates keeps it from being swapped; RLIMIT_MEMLOCK limits how much";

    PAGEMAP = "residency.pagemap", "page map",
        "/proc/self/pagemap belongs to root when the process is not dumpable, and needs CONFIG_PROC_PAGE_MONITOR";
    PAGEMAP_SCAN = "residency.scan", "PAGEMAP_SCAN",
        "fs/proc/task_mmu.c, since Linux 6.7";
    MINCORE = "residency.mincore", "mincore on VRAM pages",
        "kernels built without swap warn at it between commits 1f2052755c15 and 0c25b8734367 (mm/mincore.c)";
    USERFAULTFD = "simulation.userfaultfd", "userfaultfd",
        "the simulated device takes CPU faults by it (fs/userfaultfd.c; vm.unprivileged_userfaultfd)";
    UFFDIO_MOVE = "simulation.move", "UFFDIO_MOVE",
        "the simulated device moves pages by it (mm/userfaultfd.c, since Linux 6.8)";

    // Each GPU.
    DRIVER = "device.driver", "driver",
        "the driver link of the PCI function in sysfs";
    NODE = "device.node", "render node",
        "/sys/class/drm and /dev/dri";
    OPEN = "device.open", "permission",
        "open(2) of the render node; drivers/gpu/drm allows rendering to whoever may open it";
    ANSWER = "device.answer", "driver's answer",
        "DRM_IOCTL_VERSION and DRM_IOCTL_XE_DEVICE_QUERY";
    SVM = "device.svm", "shared virtual memory",
        "HAS_CPU_ADDR_MIRROR of xe_query.c; HSA_CAP_SVMAPI_SUPPORTED of kfd_topology.c";
    FAULT_MODE = "device.fault_mode", "GPU page faults",
        "xe_vm.c:xe_vm_create_ioctl with LR_MODE and FAULT_MODE";
    VRAM = "device.vram", "memory of its own",
        "DRM_XE_DEVICE_QUERY_MEM_REGIONS; KFD's mem_banks";
    PREFETCH = "device.prefetch", "prefetch into VRAM",
        "xe: since Linux 6.18 (6.16 accepts it and moves nothing, 6.17 crashes)";
    ADVICE = "device.advice", "advice",
        "DRM_IOCTL_XE_MADVISE and VM_QUERY_MEM_RANGE_ATTRS, since Linux 6.18";
    ADDRESSES = "device.addresses", "address width",
        "the GPU's VA_BITS (xe_pci.c) or KFD's gpuvm aperture (kfd_flat_memory.c), against the CPU's";
    BAR = "device.bar", "window into VRAM",
        "the prefetchable BAR in sysfs' resource file; KFD's heap type FB_PUBLIC or FB_PRIVATE";
    KERNEL_BUGS = "device.kernel_bugs", "known kernel bugs",
        "observed with the real drivers; each entry says where";
    KFD = "device.kfd", "KFD",
        "kfd_chardev.c:kfd_open, kfd_process.c:kfd_create_process";
    XNACK = "device.xnack", "XNACK",
        "kfd_process.c:kfd_process_xnack_mode: one mode for the process, and every GPU of it must be able to";
}

#[cfg(test)]
mod tests {
    use super::CHECKS;

    #[test]
    fn identifiers_are_unique_and_have_a_subject() {
        let mut ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
        assert!(ids.iter().all(|id| id.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())));
    }

    #[test]
    fn each_is_one_line_with_a_source() {
        for check in CHECKS {
            assert!(!check.title.is_empty() && !check.source.is_empty(), "{}", check.id);
            assert!(!check.source.contains('\n') && !check.title.contains('\n'), "{}", check.id);
        }
    }
}
