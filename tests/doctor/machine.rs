//! A machine in memory: files, links, device files and what opening them gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use drm_pagemap::channel::{Channel, VirtualNode};
use drm_pagemap::doctor::{FileStatus, PagemapAccess, System, UserfaultfdAccess};
use drm_pagemap::uapi::userfaultfd::UFFD_FEATURE_MOVE;
use drm_pagemap::{Errno, Error, ErrorKind, Result};

use crate::nodes::{Recorded, recorded};

#[derive(Clone, Debug)]
enum Entry {
    Text(String),
    Link(String),
    Unreadable(Errno),
    Device { status: FileStatus, opens: Opens },
}

#[derive(Clone, Debug)]
pub(crate) enum Opens {
    As(Arc<dyn VirtualNode>),
    Refused(Errno),
}

/// What reading the own page map gives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pagemap {
    WithScan,
    WithoutScan,
    Refused,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    entries: BTreeMap<String, Entry>,
    pub(crate) page_size: u64,
    pub(crate) pagemap: Pagemap,
    pub(crate) userfaultfd: Result<UserfaultfdAccess, Errno>,
    /// Every ioctl that any of its devices got.
    pub(crate) recorded: Recorded,
}

const CONFIG: &str = "ZONE_DEVICE=y DEVICE_PRIVATE=y HMM_MIRROR=y DRM_XE=m DRM_XE_GPUSVM=y DRM_XE_PAGEMAP=y \
                      DRM_AMDGPU=m HSA_AMD=y HSA_AMD_SVM=y PCI_P2PDMA=y SWAP=y";

impl Machine {
    /// A workstation without a GPU: nothing stands in the way. The process is that of user alice, who is in group render.
    pub(crate) fn linux(release: &str) -> Self {
        let mut machine = Self {
            entries: BTreeMap::new(),
            page_size: 4096,
            pagemap: Pagemap::WithScan,
            userfaultfd: Ok(UserfaultfdAccess { kernel_faults: true, features: UFFD_FEATURE_MOVE }),
            recorded: recorded(),
        };
        let options: String =
            CONFIG.split_ascii_whitespace().map(|option| format!("CONFIG_{option}\n")).collect();
        for (path, text) in [
            ("/proc/sys/kernel/osrelease", format!("{release}\n")),
            ("/proc/version", format!("Linux version {release} (builder@example)\n")),
            ("/proc/cmdline", "root=/dev/nvme0n1p2 quiet\n".into()),
            ("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme lm nx\n".into()),
            ("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n".into()),
            ("/proc/sys/vm/overcommit_memory", "0\n".into()),
            ("/proc/sys/vm/unprivileged_userfaultfd", "0\n".into()),
            ("/proc/self/maps", "55d0c0000000-55d0c0001000 r-xp 0 08:02 1 /bin/doctor\n7ffc00000000-7ffc00021000 rw-p 0 0 0 [stack]\nffffffffff600000-ffffffffff601000 --xp 0 0 0 [vsyscall]\n".into()),
            ("/proc/self/uid_map", "         0          0 4294967295\n".into()),
            ("/proc/self/mountinfo", "27 1 8:2 / / rw - ext4 /dev/nvme0n1p2 rw\n24 27 0:6 / /dev rw,nosuid - devtmpfs udev rw\n".into()),
            ("/proc/1/cgroup", "0::/init.scope\n".into()),
            ("/etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n".into()),
            ("/etc/group", "root:x:0:\nvideo:x:44:\nrender:x:993:alice\nalice:x:1000:\n".into()),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n".into()),
            ("/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_swap", "64\n".into()),
            ("/sys/module/xe/version", "1\n".into()),
            ("/sys/module/amdgpu/parameters/noretry", "-1\n".into()),
        ] {
            machine = machine.file(path, text);
        }
        machine
            .file(&format!("/boot/config-{release}"), options)
            .process(1000, &[1000, 993], 0)
            .limits("unlimited")
            .pci("0000:00:00.0", 0x8086, 0x3ec2, 0x06_0000, None)
    }

    pub(crate) fn file(mut self, path: &str, text: impl Into<String>) -> Self {
        self.entries.insert(path.into(), Entry::Text(text.into()));
        self
    }

    pub(crate) fn link_to(mut self, path: &str, target: &str) -> Self {
        self.entries.insert(path.into(), Entry::Link(target.into()));
        self
    }

    pub(crate) fn unreadable(mut self, path: &str, errno: Errno) -> Self {
        self.entries.insert(path.into(), Entry::Unreadable(errno));
        self
    }

    /// Removes a file, or a directory with all below it.
    pub(crate) fn without(mut self, path: &str) -> Self {
        let below = format!("{path}/");
        self.entries.retain(|entry, _| entry != path && !entry.starts_with(&below));
        self
    }

    /// The process's user, groups (the first is the primary one) and effective capabilities.
    pub(crate) fn process(self, user: u32, groups: &[u32], capabilities: u64) -> Self {
        let list: Vec<String> = groups.iter().map(u32::to_string).collect();
        let text = format!(
            "Name:\tdoctor\nUid:\t{user}\t{user}\t{user}\t{user}\nGid:\t{0}\t{0}\t{0}\t{0}\nGroups:\t{1}\nCapEff:\t{capabilities:016x}\n",
            groups[0],
            list.join(" ")
        );
        self.file("/proc/self/status", text)
    }

    pub(crate) fn limits(self, address_space: &str) -> Self {
        self.file(
            "/proc/self/limits",
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max locked memory         8388608              8388608              bytes     \n\
                 Max address space         {address_space:<20} unlimited            bytes     \n"
            ),
        )
    }

    /// Takes options out of the kernel's configuration.
    pub(crate) fn config_without(mut self, options: &[&str]) -> Self {
        for entry in self.entries.iter_mut().filter(|(path, _)| path.starts_with("/boot/config-")) {
            let Entry::Text(text) = entry.1 else { continue };
            let kept = text
                .lines()
                .filter(|line| !options.iter().any(|o| line.starts_with(&format!("CONFIG_{o}="))));
            let mut kept: String = kept.map(|line| format!("{line}\n")).collect();
            kept.extend(options.iter().map(|option| format!("# CONFIG_{option} is not set\n")));
            *text = kept;
        }
        self
    }

    pub(crate) fn pci(
        self,
        address: &str,
        vendor: u16,
        device: u16,
        class: u32,
        driver: Option<&str>,
    ) -> Self {
        let base = format!("/sys/bus/pci/devices/{address}");
        let machine = self
            .link_to(&base, &format!("../../../devices/pci0000:00/{address}"))
            .file(&format!("{base}/vendor"), format!("0x{vendor:04x}\n"))
            .file(&format!("{base}/device"), format!("0x{device:04x}\n"))
            .file(&format!("{base}/class"), format!("0x{class:06x}\n"));
        match driver {
            Some(driver) => {
                machine.link_to(&format!("{base}/driver"), &format!("../../../../bus/pci/drivers/{driver}"))
            }
            None => machine,
        }
    }

    /// The window into memory of a PCI function.
    pub(crate) fn window(self, address: &str, bytes: u64) -> Self {
        let (start, end) = (0x60_0000_0000u64, 0x60_0000_0000 + bytes - 1);
        let lines = format!("0xa0000000 0xa0ffffff 0x140204\n0x0 0x0 0x0\n{start:#x} {end:#x} 0x14220c\n");
        self.file(&format!("/sys/bus/pci/devices/{address}/resource"), lines)
    }

    /// A render node in sysfs and `/dev/dri`, of group render with mode 0660.
    pub(crate) fn render(self, minor: u32, device: &str, driver: &str, opens: Opens) -> Self {
        let base = format!("/sys/class/drm/renderD{minor}");
        self.file(&format!("{base}/dev"), format!("226:{minor}\n"))
            .link_to(&format!("{base}/device"), &format!("../../../{device}"))
            .link_to(&format!("{base}/device/driver"), &format!("../../../bus/pci/drivers/{driver}"))
            .device(&format!("/dev/dri/renderD{minor}"), 0o660, (0, 993), (226, minor), opens)
    }

    pub(crate) fn device(
        mut self,
        path: &str,
        mode: u32,
        owner: (u32, u32),
        numbers: (u32, u32),
        opens: Opens,
    ) -> Self {
        let status = FileStatus { mode: 0o020_000 | mode, uid: owner.0, gid: owner.1, device: Some(numbers) };
        self.entries.insert(path.into(), Entry::Device { status, opens });
        self
    }

    /// Changes what opening a device file gives.
    pub(crate) fn refuse(mut self, path: &str, errno: Errno) -> Self {
        let Some(Entry::Device { opens, .. }) = self.entries.get_mut(path) else {
            panic!("{path} is no device file")
        };
        *opens = Opens::Refused(errno);
        self
    }

    /// Changes mode and owner of a device file.
    pub(crate) fn owned(mut self, path: &str, mode: u32, uid: u32, gid: u32) -> Self {
        let Some(Entry::Device { status, .. }) = self.entries.get_mut(path) else {
            panic!("{path} is no device file")
        };
        *status = FileStatus { mode: 0o020_000 | mode, uid, gid, ..*status };
        self
    }
}

impl System for Machine {
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        match self.entries.get(path) {
            Some(Entry::Text(text)) => Ok(text.clone().into_bytes()),
            Some(Entry::Unreadable(errno)) => Err(*errno),
            _ => Err(Errno::ENOENT),
        }
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, Errno> {
        if let Some(Entry::Unreadable(errno)) = self.entries.get(directory) {
            return Err(*errno);
        }
        let prefix = format!("{directory}/");
        let below = self.entries.range(prefix.clone()..).map_while(|(path, _)| path.strip_prefix(&prefix));
        let mut names: Vec<String> =
            below.filter_map(|rest| rest.split('/').next().map(str::to_owned)).collect();
        names.dedup();
        if names.is_empty() { Err(Errno::ENOENT) } else { Ok(names) }
    }

    fn link(&self, path: &str) -> Result<String, Errno> {
        match self.entries.get(path) {
            Some(Entry::Link(target)) => Ok(target.clone()),
            Some(_) => Err(Errno::EINVAL),
            None => Err(Errno::ENOENT),
        }
    }

    fn status(&self, path: &str) -> Result<FileStatus, Errno> {
        match self.entries.get(path) {
            Some(Entry::Device { status, .. }) => Ok(*status),
            Some(_) => Ok(FileStatus { mode: 0o100_644, uid: 0, gid: 0, device: None }),
            None if self.list(path).is_ok() => {
                Ok(FileStatus { mode: 0o040_755, uid: 0, gid: 0, device: None })
            }
            None => Err(Errno::ENOENT),
        }
    }

    fn acl(&self, _: &str) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENODATA)
    }

    fn open(&self, path: &str) -> Result<Channel, Errno> {
        match self.entries.get(path) {
            Some(Entry::Device { opens: Opens::As(node), .. }) => Ok(Channel::to_virtual(node.clone())),
            Some(Entry::Device { opens: Opens::Refused(errno), .. }) => Err(*errno),
            Some(_) => Err(Errno::EACCES),
            None => Err(Errno::ENOENT),
        }
    }

    fn page_size(&self) -> u64 {
        self.page_size
    }

    fn pagemap(&self) -> Result<PagemapAccess> {
        match self.pagemap {
            Pagemap::WithScan => Ok(PagemapAccess { scan: true }),
            Pagemap::WithoutScan => Ok(PagemapAccess { scan: false }),
            Pagemap::Refused => Err(Error::new(ErrorKind::Unsupported, "open(/proc/self/pagemap)")
                .errno_is(Errno::EACCES)
                .because("this process is not dumpable")
                .hint_is("prctl(PR_SET_DUMPABLE, 1)")),
        }
    }

    fn userfaultfd(&self) -> Result<UserfaultfdAccess, Errno> {
        self.userfaultfd
    }
}
