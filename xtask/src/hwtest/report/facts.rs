//! Facts about the machine that figures and failures depend on. No names, serial numbers or addresses.

use serde_json::{Map, Value};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Facts in the order of their importance.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    /// Reads them below `root`, which is `/` but for tests.
    pub(crate) fn read(root: &Path) -> Self {
        let mut facts = Self::default();
        let file = |path: &str| fs::read_to_string(root.join(path)).ok().map(|text| text.trim().to_owned());
        facts.add("kernel", file("proc/sys/kernel/osrelease"));
        facts.add("kernel build", file("proc/sys/kernel/version"));
        facts.add("distribution", file("etc/os-release").and_then(|text| value(&text, "PRETTY_NAME", '=')));
        let cpus = file("proc/cpuinfo").unwrap_or_default();
        facts.add("processor", value(&cpus, "model name", ':'));
        facts.add(
            "processors",
            Some(cpus.lines().filter(|line| line.starts_with("processor")).count().to_string()),
        );
        facts.add("memory", file("proc/meminfo").and_then(|text| value(&text, "MemTotal", ':')));
        let swaps = file("proc/swaps").map_or(0, |text| text.lines().skip(1).count());
        facts.add("swap areas", Some(swaps.to_string()));
        let nodes =
            names(&root.join("sys/devices/system/node")).filter(|name| is_numbered(name, "node")).count();
        facts.add("NUMA nodes", Some(nodes.max(1).to_string()));
        let thp = |name: &str| {
            file(&format!("sys/kernel/mm/transparent_hugepage/{name}")).map(|text| chosen(&text))
        };
        facts.add("transparent huge pages", thp("enabled"));
        facts.add("huge page defragmentation", thp("defrag"));
        facts.add("userfaultfd for users", file("proc/sys/vm/unprivileged_userfaultfd"));
        let groups = names(&root.join("sys/kernel/iommu_groups")).count();
        facts.add("IOMMU", Some(if groups > 0 { "on" } else { "off" }.to_owned()));
        facts.add("hypervisor", cpus.contains(" hypervisor").then(|| "yes".to_owned()));
        for driver in ["xe", "amdgpu"] {
            facts.add(&format!("{driver} module"), file(&format!("sys/module/{driver}/srcversion")));
        }
        let mut nodes: Vec<String> =
            names(&root.join("sys/class/drm")).filter(|name| is_numbered(name, "renderD")).collect();
        nodes.sort();
        for (index, node) in nodes.iter().enumerate() {
            facts.gpu(index, &root.join("sys/class/drm").join(node).join("device"));
        }
        facts
    }

    fn gpu(&mut self, index: usize, device: &Path) {
        let file = |name: &str| fs::read_to_string(device.join(name)).ok().map(|text| text.trim().to_owned());
        let mut add = |what: &str, value| self.add(&format!("GPU {index} {what}"), value);
        let id = |name: &str| file(name).map(|text| text.trim_start_matches("0x").to_owned());
        add("PCI id", id("vendor").zip(id("device")).map(|(vendor, device)| format!("{vendor}:{device}")));
        add("revision", id("revision"));
        let driver = fs::read_link(device.join("driver")).ok();
        add("driver", driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())));
        add("VBIOS", file("vbios_version"));
        add("NUMA node", file("numa_node"));
        add("BARs", file("resource").map(|text| bars(&text)));
        add("link", Some(links(device)).filter(|text| !text.is_empty()));
    }

    fn add(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.0.push((name.to_owned(), value));
        }
    }

    /// A fact by its name.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Those that every figure needs beside it: kernel, huge pages, processor, GPUs and their links.
    pub(crate) fn conditions(&self) -> String {
        let wanted = ["kernel", "processor", "processors", "memory", "transparent huge pages"];
        let facts =
            self.0.iter().filter(|(name, _)| wanted.contains(&name.as_str()) || name.starts_with("GPU "));
        Self(facts.cloned().collect()).to_string()
    }

    pub(super) fn to_json(&self) -> Value {
        let pairs = self.0.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name:width$}  {value}"))
    }
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn is_numbered(name: &str, start: &str) -> bool {
    name.strip_prefix(start)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What stands behind the name in the first line that begins with it.
fn value(text: &str, name: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(separator)?.1.trim().trim_matches('"').to_owned())
}

/// `always [madvise] never` → `madvise`.
fn chosen(text: &str) -> String {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(word, _)| word).to_owned()
}

/// The sizes of the regions in `resource`, without where they are.
fn bars(text: &str) -> String {
    let number = |word: Option<&str>| u64::from_str_radix(word?.trim_start_matches("0x"), 16).ok();
    let size = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = (number(words.next())?, number(words.next())?);
        (end > start).then(|| end - start + 1)
    };
    let shown = |bytes: u64| match bytes {
        bytes if bytes >= 1 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    };
    text.lines().take(6).filter_map(size).map(shown).collect::<Vec<_>>().join(", ")
}

/// Speed and width of each PCI Express link from the device to the root, now and at most. The device's own is not the one
/// that counts where the card has a switch of its own.
fn links(device: &Path) -> String {
    let Ok(mut folder): Result<PathBuf, _> = device.canonicalize() else { return String::new() };
    let mut shown = Vec::new();
    loop {
        let file = |name: &str| fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned());
        let (Some(speed), Some(width)) = (file("current_link_speed"), file("current_link_width")) else {
            break;
        };
        let most = file("max_link_speed").zip(file("max_link_width"));
        let most = most.map_or(String::new(), |(speed, width)| format!(" (at most {speed} x{width})"));
        shown.push(format!("{speed} x{width}{most}"));
        if !folder.pop() {
            break;
        }
    }
    shown.join(" <- ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwtest::test_files::write;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_gpu_is_described_without_its_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let gpu = "sys/devices/pci/0000:00:01.0/0000:03:00.0";
        for (name, text) in [
            ("vendor", "0x8086\n"),
            ("device", "0xe20b\n"),
            ("revision", "0x00\n"),
            ("unique_id", "5e1a1\n"),
            ("resource", "0x60000000 0x60ffffff 0x0\n0x0 0x0 0x0\n0x4000000000 0x43ffffffff 0x0\n"),
            ("current_link_speed", "2.5 GT/s PCIe\n"),
            ("current_link_width", "1\n"),
            ("../current_link_speed", "16.0 GT/s PCIe\n"),
            ("../current_link_width", "8\n"),
            ("../max_link_speed", "32.0 GT/s PCIe\n"),
            ("../max_link_width", "16\n"),
        ] {
            write(root, &format!("{gpu}/{name}"), text);
        }
        symlink("../../../bus/pci/drivers/xe", root.join(gpu).join("driver")).unwrap();
        fs::create_dir_all(root.join("sys/class/drm/renderD128")).unwrap();
        symlink(root.join(gpu), root.join("sys/class/drm/renderD128/device")).unwrap();
        write(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        write(root, "etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n");
        let facts = Facts::read(root);
        assert_eq!(facts.get("GPU 0 PCI id"), Some("8086:e20b"));
        assert_eq!(facts.get("GPU 0 driver"), Some("xe"));
        assert_eq!(facts.get("GPU 0 BARs"), Some("16 MiB, 16 GiB"));
        assert_eq!(
            facts.get("GPU 0 link"),
            Some("2.5 GT/s PCIe x1 <- 16.0 GT/s PCIe x8 (at most 32.0 GT/s PCIe x16)")
        );
        assert_eq!(facts.get("transparent huge pages"), Some("madvise"));
        assert_eq!(facts.get("distribution"), Some("Debian GNU/Linux 13"));
        let text = facts.to_string();
        assert!(
            !text.contains("0000:03") && !text.contains("5e1a1") && !text.contains("4000000000"),
            "{text}"
        );
    }

    #[test]
    fn this_machine_has_a_kernel_and_processors() {
        let facts = Facts::read(Path::new("/"));
        assert!(facts.get("kernel").is_some_and(|text| text.contains('.')));
        assert!(facts.get("processors").is_some_and(|text| text != "0"));
    }
}
