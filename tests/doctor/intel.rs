//! Machines with Intel GPUs.

use std::sync::Arc;

use drm_pagemap::Errno;
use drm_pagemap::doctor::Verdict;

use crate::examined::expect;
use crate::machine::{Machine, Opens};
use crate::nodes::{NamedNode, XeNode};

pub(crate) const AT: &str = "0000:03:00.0";
const DISPLAY: u32 = 0x03_0000;

/// Adds a GPU that xe serves.
pub(crate) fn with_xe(machine: Machine, address: &str, minor: u32, node: XeNode) -> Machine {
    let window = node.vram.map_or(256 << 20, |(_, visible)| visible);
    machine.pci(address, 0x8086, node.device, DISPLAY, Some("xe")).window(address, window).render(
        minor,
        address,
        "xe",
        Opens::As(Arc::new(node)),
    )
}

/// A workstation with a Battlemage.
pub(crate) fn battlemage(release: &str, kernel: (u32, u32)) -> Machine {
    changed(release, kernel, |_| {})
}

fn changed(release: &str, kernel: (u32, u32), change: impl FnOnce(&mut XeNode)) -> Machine {
    let machine = Machine::linux(release);
    let mut node = XeNode::battlemage(kernel, &machine.recorded);
    change(&mut node);
    with_xe(machine, AT, 128, node)
}

/// A GPU on the bus that xe does not serve.
fn unserved(device: u16, driver: Option<&str>) -> Machine {
    Machine::linux("7.3.4+deb13-amd64").pci(AT, 0x8086, device, DISPLAY, driver)
}

#[test]
fn a_battlemage_on_a_good_kernel() {
    expect("xe_good", &battlemage("7.3.4+deb13-amd64", (7, 3)), &[Verdict::Yes]);
}

#[test]
fn an_integrated_gpu() {
    let machine = changed("7.3.4", (7, 3), |node| (node.device, node.vram) = (0x64a0, None));
    expect("xe_integrated", &machine, &[Verdict::Yes]);
}

#[test]
fn the_first_complete_kernel_lacks_what_came_later() {
    let report = expect("xe_6_18", &battlemage("6.18.15", (6, 18)), &[Verdict::Yes]);
    let advice = report.findings().find(|(_, finding)| finding.check().id == "device.advice").unwrap().1;
    assert!(advice.observed().contains("purgeable buffer objects (7.1)"), "{advice:?}");
}

#[test]
fn linux_6_17_crashes_at_a_prefetch() {
    expect("xe_6_17", &battlemage("6.17.13", (6, 17)), &[Verdict::Degraded]);
}

#[test]
fn linux_6_17_is_harmless_without_vram() {
    let machine = changed("6.17.13", (6, 17), |node| (node.device, node.vram) = (0x64a0, None));
    expect("xe_6_17_integrated", &machine, &[Verdict::Degraded]);
}

#[test]
fn linux_6_16_does_not_prefetch() {
    expect("xe_6_16", &battlemage("6.16.12", (6, 16)), &[Verdict::Degraded]);
}

#[test]
fn a_kernel_older_than_svm() {
    let machine = changed("6.12.107+deb13-amd64", (6, 12), |node| node.mirrors = false);
    expect("xe_6_12", &machine.config_without(&["DRM_XE_GPUSVM", "DEVICE_PRIVATE"]), &[Verdict::No]);
}

#[test]
fn a_kernel_built_without_svm() {
    let machine = changed("7.3.4", (7, 3), |node| node.mirrors = false);
    expect("xe_no_gpusvm", &machine.config_without(&["DRM_XE_GPUSVM"]), &[Verdict::No]);
}

#[test]
fn hardware_without_page_faults() {
    let machine = changed("7.3.4", (7, 3), |node| (node.device, node.mirrors) = (0x56a0, false));
    expect("xe_no_faults", &machine, &[Verdict::No]);
}

#[test]
fn a_kernel_that_never_migrates() {
    let machine = battlemage("7.3.4", (7, 3)).config_without(&["DRM_XE_PAGEMAP"]);
    expect("xe_no_pagemap", &machine, &[Verdict::Degraded]);
}

#[test]
fn linux_6_16_calls_it_devmem_mirror() {
    let machine = battlemage("7.3.4", (7, 3))
        .file("/proc/config.gz", "CONFIG_DRM_XE_DEVMEM_MIRROR=y\nCONFIG_DRM_XE=m\nCONFIG_SWAP=y\n");
    let report = expect("xe_foreign_build", &machine, &[Verdict::Yes]);
    let pagemap =
        report.findings().find(|(_, finding)| finding.check().id == "config.DRM_XE_PAGEMAP").unwrap().1;
    assert_eq!(pagemap.observed(), "y, as CONFIG_DRM_XE_DEVMEM_MIRROR");
}

#[test]
fn a_small_window_into_vram() {
    let machine = changed("7.3.4", (7, 3), |node| node.vram = Some((16 << 30, 256 << 20)));
    expect("xe_small_bar", &machine, &[Verdict::Degraded]);
}

#[test]
fn five_levels_of_page_tables() {
    let machine = battlemage("7.3.4", (7, 3)).file("/proc/cpuinfo", "flags\t\t: fpu la57 lm\n");
    expect("xe_la57", &machine, &[Verdict::Degraded]);
    let wide = changed("7.3.4", (7, 3), |node| (node.device, node.va_bits) = (0x0bd5, 57));
    expect("xe_la57_wide_gpu", &wide.file("/proc/cpuinfo", "flags\t\t: fpu la57 lm\n"), &[Verdict::Yes]);
}

#[test]
fn a_mapping_beyond_the_gpu() {
    let machine = battlemage("7.3.4", (7, 3))
        .file("/proc/self/maps", "1ffff00000000-1ffff00021000 rw-p 0 0 0\n")
        .file("/proc/cpuinfo", "Features : fp asimd\n");
    expect("xe_high_mapping", &machine, &[Verdict::Degraded]);
}

#[test]
fn a_vm_that_cannot_be_made() {
    let machine = changed("7.3.4", (7, 3), |node| node.vm_create = Err(Errno::ENOMEM));
    expect("xe_no_memory", &machine, &[Verdict::No]);
    let machine = changed("7.3.4", (7, 3), |node| node.vm_create = Err(Errno::EINVAL));
    expect("xe_no_fault_mode", &machine, &[Verdict::No]);
}

#[test]
fn a_wedged_device() {
    let machine = Machine::linux("7.3.4");
    let node = NamedNode { driver: "xe", always: Some(Errno::ECANCELED), recorded: machine.recorded.clone() };
    let machine =
        machine.pci(AT, 0x8086, 0xe20b, DISPLAY, Some("xe")).render(128, AT, "xe", Opens::As(Arc::new(node)));
    expect("xe_wedged", &machine, &[Verdict::No]);
}

#[test]
fn a_driver_that_answers_nonsense_is_unknown() {
    let machine = Machine::linux("7.3.4");
    let node = NamedNode { driver: "xe", always: None, recorded: machine.recorded.clone() };
    let machine =
        machine.pci(AT, 0x8086, 0xe20b, DISPLAY, Some("xe")).render(128, AT, "xe", Opens::As(Arc::new(node)));
    let report = drm_pagemap::doctor::examine_system(&machine);
    assert_eq!(report.devices[0].verdict, Verdict::Unknown, "{report}");
    crate::examined::compare("xe_silent", &report.to_string());
}

#[test]
fn two_gpus_and_the_way_between_them() {
    let machine = battlemage("7.3.4", (7, 3));
    let second = XeNode::battlemage((7, 3), &machine.recorded);
    let machine = with_xe(machine, "0000:04:00.0", 129, second);
    expect("xe_two", &machine, &[Verdict::Yes, Verdict::Yes]);
    expect("xe_two_no_p2p", &machine.config_without(&["PCI_P2PDMA"]), &[Verdict::Yes, Verdict::Yes]);
}

#[test]
fn i915_in_the_way() {
    expect("i915_lunar_lake", &unserved(0x64a0, Some("i915")), &[Verdict::No]);
    expect("i915_old", &unserved(0x9a49, Some("i915")), &[Verdict::No]);
}

#[test]
fn set_aside_for_a_virtual_machine() {
    expect("vfio", &unserved(0xe20b, Some("vfio-pci")), &[Verdict::No]);
}

#[test]
fn no_driver_and_why() {
    let bare = unserved(0xe20b, None);
    let unloaded = bare.clone().without("/sys/module/xe");
    let dep = "/lib/modules/7.3.4+deb13-amd64/modules.dep";
    let listed = "kernel/drivers/gpu/drm/xe/xe.ko.xz: kernel/drivers/gpu/drm/drm.ko.xz\n";
    let no = &[Verdict::No];
    expect("unbound_failed", &bare, no);
    expect("unbound_force_probe", &unserved(0x0bd5, None), no);
    expect("unbound_forced", &unserved(0x0bd5, None).file("/proc/cmdline", "quiet xe.force_probe=0BD5"), no);
    expect("unbound_nomodeset", &bare.clone().file("/proc/cmdline", "quiet nomodeset"), no);
    expect("unbound_not_loaded", &unloaded.clone().file(dep, listed), no);
    expect("unbound_no_module", &unloaded.clone().file(dep, "kernel/drivers/gpu/drm/i915/i915.ko.xz:\n"), no);
    expect("unbound_unknown_module", &unloaded, no);
    expect(
        "unbound_blacklist",
        &unloaded.clone().file("/etc/modprobe.d/gpu.conf", "# no\nblacklist xe\n"),
        no,
    );
    expect(
        "unbound_install_false",
        &unloaded.clone().file("/etc/modprobe.d/gpu.conf", "install xe /bin/false\n"),
        no,
    );
    expect(
        "unbound_command_line",
        &unloaded.clone().file("/proc/cmdline", "modprobe.blacklist=nouveau,xe"),
        no,
    );
    expect("unbound_not_built", &unloaded.config_without(&["DRM_XE"]), no);
}

#[test]
fn a_driver_without_a_render_node() {
    let machine = unserved(0xe20b, Some("xe"));
    expect("xe_no_node", &machine, &[Verdict::No]);
}

#[test]
fn a_driver_of_another_kind() {
    let machine = Machine::linux("7.3.4");
    let node = NamedNode { driver: "vgem", always: None, recorded: machine.recorded.clone() };
    // A device of the kernel's faux bus, as on Linux 6.17 and newer.
    let machine = machine.render(128, "vgem", "faux_driver", Opens::As(Arc::new(node)));
    expect("vgem", &machine, &[Verdict::No]);
    // A device of the platform bus, which no driver is bound to.
    expect("vgem", &machine.without("/sys/class/drm/renderD128/device/driver"), &[Verdict::No]);
}
