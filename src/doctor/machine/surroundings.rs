//! What surrounds the process: GPUs on the bus, containers, page size, rights, and ways from GPU to GPU.

use crate::device::Driver;
use crate::doctor::checks;
use crate::doctor::device::Examined;
use crate::doctor::facts::{Capability, Confinement, Facts, PciFunction};
use crate::doctor::finding::{Finding, short};
use crate::kfd::Node;

pub(super) fn check(facts: &Facts<'_>, devices: &[Examined<'_>]) -> Vec<Finding> {
    let mut findings = vec![gpus(facts, devices)];
    findings.extend(other_gpus(facts, devices));
    findings.push(container(facts));
    findings.push(page_size(facts, devices));
    findings.push(capabilities(facts));
    findings.extend(peers(facts, devices));
    findings
}

fn gpus(facts: &Facts<'_>, devices: &[Examined<'_>]) -> Finding {
    let ours =
        devices.iter().filter(|device| device.subject.vendor().is_some() || device.driver.is_some()).count();
    if ours > 0 {
        return Finding::ok(&checks::GPUS, format!("{ours} of Intel or AMD"));
    }
    if matches!(facts.container.kind, Confinement::Wsl | Confinement::Gvisor) {
        return Finding::problem(
            &checks::GPUS,
            format!("none that {} shows", facts.container.name()),
            facts.container.pass_in(&[], None),
        );
    }
    match &facts.pci {
        Err(crate::Errno::ENOENT) if !devices.is_empty() => {
            Finding::unknown(&checks::GPUS, "sysfs shows no PCI bus", "mount sysfs on /sys")
        }
        // Containers hide device files, and seldom sysfs: what is on the bus, they show.
        Ok(functions) => Finding::problem(
            &checks::GPUS,
            format!("none of Intel or AMD among the functions of the PCI bus ({})", functions.len()),
            if facts.kernel.virtualised == Ok(true) {
                "this is a virtual machine: pass a GPU through to it (vfio-pci on the host), or use a machine with one"
            } else {
                "install a GPU that xe (Lunar Lake, Battlemage or newer) or amdgpu (gfx9 or newer) serves"
            },
        ),
        Err(errno) => Finding::problem(
            &checks::GPUS,
            format!("none: no render node, and no PCI bus in sysfs ({})", short(*errno)),
            if facts.container.is_confined() {
                facts.container.pass_in(&["/dev/dri", "/dev/kfd"], None)
            } else {
                "mount sysfs on /sys; a GPU needs a PCI bus".into()
            },
        ),
    }
}

/// GPUs of other vendors that have no render node; those with one are devices of their own.
fn other_gpus(facts: &Facts<'_>, devices: &[Examined<'_>]) -> Option<Finding> {
    let listed =
        |pci: &PciFunction| devices.iter().any(|d| d.subject.pci.is_some_and(|p| p.address == pci.address));
    let others: Vec<String> = facts
        .pci
        .iter()
        .flatten()
        .filter(|pci| {
            pci.is_gpu() && !matches!(pci.vendor, PciFunction::INTEL | PciFunction::AMD) && !listed(pci)
        })
        .map(|pci| {
            let driver = pci.driver.as_deref().unwrap_or("no driver");
            format!("{:04x}:{:04x} at {} ({driver})", pci.vendor, pci.device, pci.address)
        })
        .collect();
    (!others.is_empty()).then(|| Finding::not_applicable(&checks::OTHER_GPUS, others.join(", ")))
}

fn container(facts: &Facts<'_>) -> Finding {
    let container = &facts.container;
    match container.kind {
        Confinement::Wsl | Confinement::Gvisor => Finding::problem(
            &checks::CONTAINER,
            format!("{}: {}", container.name(), container.evidence),
            container.pass_in(&[], None),
        ),
        Confinement::None if container.evidence.is_empty() => {
            Finding::ok(&checks::CONTAINER, "no sign of any")
        }
        Confinement::None => {
            Finding::ok(&checks::CONTAINER, format!("a user namespace: {}", container.evidence))
        }
        _ => Finding::ok(&checks::CONTAINER, format!("{}: {}", container.name(), container.evidence)),
    }
}

fn page_size(facts: &Facts<'_>, devices: &[Examined<'_>]) -> Finding {
    let bytes = facts.system.page_size();
    if bytes == 4096 {
        return Finding::ok(&checks::PAGE_SIZE, "4096 bytes");
    }
    let observed = format!("{bytes} bytes; xe supports 4096 only");
    if devices.iter().any(|device| device.driver == Some(Driver::Xe) && device.confirmed) {
        return Finding::ok(&checks::PAGE_SIZE, format!("{bytes} bytes, and xe works"));
    }
    let only_amd = !devices.is_empty() && devices.iter().all(|device| device.driver == Some(Driver::Kfd));
    if only_amd {
        return Finding::not_applicable(&checks::PAGE_SIZE, observed);
    }
    Finding::problem(&checks::PAGE_SIZE, observed, "use a kernel with pages of 4 KiB")
}

fn capabilities(facts: &Facts<'_>) -> Finding {
    const OF_USE: [(Capability, &str, &str); 3] = [
        (Capability::SysAdmin, "CAP_SYS_ADMIN", "tells VRAM from swap page by page"),
        (Capability::Perfmon, "CAP_PERFMON", "shows VRAM usage on kernels before 6.18"),
        (Capability::SysPtrace, "CAP_SYS_PTRACE", "lets system calls touch simulated VRAM"),
    ];
    if facts.process.has(Capability::SysAdmin).is_none() {
        return Finding::unknown(
            &checks::CAPABILITIES,
            "/proc/self/status does not tell",
            "mount proc on /proc",
        );
    }
    let list = |held: bool| -> Vec<String> {
        let of_use = OF_USE.iter().filter(|(capability, ..)| facts.process.has(*capability) == Some(held));
        of_use
            .map(|(_, name, use_of)| if held { (*name).to_owned() } else { format!("{name} ({use_of})") })
            .collect()
    };
    let (held, missing) = (list(true), list(false));
    let observed = match (held.is_empty(), missing.is_empty()) {
        (true, _) => format!("none needed; without {}", missing.join(", ")),
        (_, true) => held.join(", "),
        _ => format!("{}; without {}", held.join(", "), missing.join(", ")),
    };
    Finding::ok(&checks::CAPABILITIES, observed)
}

/// Whether GPUs of one driver can reach each other's VRAM, as far as it shows before they are asked.
fn peers(facts: &Facts<'_>, devices: &[Examined<'_>]) -> Vec<Finding> {
    let working = |driver: Driver| -> Vec<&Examined<'_>> {
        devices.iter().filter(|device| device.confirmed && device.driver == Some(driver)).collect()
    };
    let (xe, kfd) = (working(Driver::Xe), working(Driver::Kfd));
    let mut findings = Vec::new();
    if xe.len() > 1 {
        findings.push(xe_peers(facts, &xe));
    }
    if kfd.len() > 1 {
        findings.push(kfd_peers(&kfd));
    }
    if findings.is_empty() {
        findings.push(Finding::not_applicable(
            &checks::PEERS,
            "fewer than two GPUs of one driver with shared virtual memory",
        ));
    }
    findings
}

fn kfd_peers(working: &[&Examined<'_>]) -> Finding {
    let nodes: Vec<&Node> = working.iter().filter_map(|device| device.subject.kfd.as_ref()).collect();
    let linked = |a: &Node, b: &Node| {
        let one_hive = a.hive_id().is_some() && a.hive_id() == b.hive_id();
        one_hive || (a.pci_location().is_some() && a.pci_location() == b.pci_location())
    };
    if nodes.windows(2).all(|pair| linked(pair[0], pair[1])) {
        return Finding::ok(
            &checks::PEERS,
            format!("{} AMD GPUs in one XGMI hive, or parts of one", working.len()),
        );
    }
    Finding::degraded(
        &checks::PEERS,
        format!(
            "{} AMD GPUs that are not all in one XGMI hive: memory that several may access stays in system memory",
            working.len()
        ),
        "grant access to one GPU at a time, or connect the GPUs by XGMI",
    )
}

fn xe_peers(facts: &Facts<'_>, working: &[&Examined<'_>]) -> Finding {
    if facts.kernel.is_set("PCI_P2PDMA") == Some(false) {
        return Finding::degraded(
            &checks::PEERS,
            "none: this kernel is built without CONFIG_PCI_P2PDMA, so data goes through system memory",
            "use a kernel with CONFIG_PCI_P2PDMA",
        );
    }
    Finding::unknown(
        &checks::PEERS,
        format!(
            "{}; whether the bus lets them reach each other shows only when advice names another GPU (ENOLINK: no)",
            ways(working)
        ),
        "if it is refused, put the GPUs below one PCIe switch; the CPU's root ports pass it on some machines only",
    )
}

/// Where the GPUs meet, and whether an IOMMU is in between.
fn ways(working: &[&Examined<'_>]) -> String {
    let functions: Vec<&PciFunction> = working.iter().filter_map(|device| device.subject.pci).collect();
    let (Some(first), true) = (functions.first(), functions.len() == working.len()) else {
        return format!("{} GPUs, not all on a PCI bus that can be seen", working.len());
    };
    let common = first
        .upstream
        .iter()
        .take_while(|bridge| functions.iter().all(|function| function.upstream.contains(bridge)))
        .last();
    let meet = match common {
        Some(bridge) => format!("they meet below bridge {bridge}"),
        None => "they meet at the root of the bus only".to_owned(),
    };
    let iommu =
        if functions.iter().any(|function| function.iommu_group.is_some()) { ", with an IOMMU" } else { "" };
    format!("{} GPUs: {meet}{iommu}", working.len())
}
