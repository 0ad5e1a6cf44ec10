//! Machines with AMD GPUs.

use std::sync::Arc;

use drm_pagemap::Errno;
use drm_pagemap::doctor::Verdict;

use crate::examined::{compare, expect};
use crate::machine::{Machine, Opens};
use crate::nodes::{KfdNode, NamedNode};

const TOPOLOGY: &str = "/sys/class/kfd/kfd/topology";

/// One GPU of KFD.
#[derive(Clone, Copy)]
struct Gpu {
    node: u32,
    gfx: u32,
    svm: bool,
    hive: u64,
    vram: u64,
    large_bar: bool,
    /// Cores of the CPU that the node also is.
    cores: u32,
}

/// An MI200.
const MI200: Gpu = Gpu { node: 1, gfx: 90010, svm: true, hive: 0, vram: 64 << 30, large_bar: true, cores: 0 };
/// A card of RDNA 3.
const RDNA3: Gpu = Gpu { gfx: 110_000, vram: 24 << 30, ..MI200 };

/// A workstation with GPUs that amdgpu and KFD serve.
fn amd(release: &str, gpus: &[Gpu], change: impl FnOnce(&mut KfdNode)) -> Machine {
    let mut machine = Machine::linux(release)
        .file(&format!("{TOPOLOGY}/generation_id"), "2\n")
        .file(&format!("{TOPOLOGY}/nodes/0/gpu_id"), "0\n")
        .file(&format!("{TOPOLOGY}/nodes/0/properties"), "cpu_cores_count 16\nsimd_count 0\n");
    let mut kfd = KfdNode {
        minor_version: 23,
        svm: true,
        xnack: false,
        queues: false,
        gpus: gpus.iter().map(|gpu| 1000 + gpu.node).collect(),
        recorded: machine.recorded.clone(),
    };
    change(&mut kfd);
    for gpu in gpus {
        let (bus, minor) = (2 + gpu.node, 127 + gpu.node);
        let address = format!("0000:{bus:02x}:00.0");
        let base = format!("{TOPOLOGY}/nodes/{}", gpu.node);
        let capability = if gpu.svm { 0x0800_0000u32 } else { 0 };
        let heap = if gpu.large_bar { 1 } else { 2 };
        let named = NamedNode { driver: "amdgpu", always: None, recorded: machine.recorded.clone() };
        machine = machine
            .pci(&address, 0x1002, 0x7408, 0x03_8000, Some("amdgpu"))
            .window(&address, if gpu.large_bar { gpu.vram } else { 256 << 20 })
            .render(minor, &address, "amdgpu", Opens::As(Arc::new(named)))
            .file(&format!("{base}/gpu_id"), format!("{}\n", 1000 + gpu.node))
            .file(&format!("{base}/name"), "aldebaran\n")
            .file(
                &format!("{base}/properties"),
                format!(
                    "cpu_cores_count {}\nsimd_count 416\ngfx_target_version {}\nvendor_id 4098\ndevice_id 29704\nlocation_id {}\n\
                     domain 0\ndrm_render_minor {minor}\nhive_id {}\ncapability {capability}\n",
                    gpu.cores,
                    gpu.gfx,
                    bus << 8,
                    gpu.hive
                ),
            )
            .file(
                &format!("{base}/mem_banks/0/properties"),
                format!("heap_type {heap}\nsize_in_bytes {}\n", gpu.vram),
            );
    }
    machine.device("/dev/kfd", 0o660, (0, 993), (234, 0), Opens::As(Arc::new(kfd)))
}

#[test]
fn an_mi200_with_xnack() {
    let report = expect("amd_good", &amd("7.3.4", &[MI200], |kfd| kfd.xnack = true), &[Verdict::Yes]);
    compare("amd_good_full", &format!("{report:#}"));
}

#[test]
fn five_levels_of_page_tables() {
    let machine = amd("7.3.4", &[MI200], |kfd| kfd.xnack = true);
    let machine = machine.file("/proc/cpuinfo", "flags\t\t: fpu la57 lm\n");
    expect("amd_la57", &machine, &[Verdict::Degraded]);
}

#[test]
fn xnack_is_off_and_why() {
    let degraded = &[Verdict::Degraded];
    expect("amd_xnack_off", &amd("7.3.4", &[MI200], |_| {}), degraded);
    expect("amd_xnack_queues", &amd("7.3.4", &[MI200], |kfd| kfd.queues = true), degraded);
    expect("amd_xnack_never", &amd("7.3.4", &[RDNA3], |_| {}), degraded);
    let vega = Gpu { gfx: 90006, ..MI200 };
    expect("amd_xnack_by_boot", &amd("7.3.4", &[vega], |_| {}), degraded);
    let booted = amd("7.3.4", &[vega], |_| {}).file("/sys/module/amdgpu/parameters/noretry", "0\n");
    expect("amd_xnack_booted", &booted, degraded);
    let mixed = [MI200, Gpu { node: 2, ..RDNA3 }];
    expect("amd_xnack_mixed", &amd("7.3.4", &mixed, |_| {}), &[Verdict::Degraded, Verdict::Degraded]);
}

#[test]
fn gpus_of_one_hive_and_of_none() {
    let yes = &[Verdict::Yes, Verdict::Yes];
    let linked = [Gpu { hive: 77, ..MI200 }, Gpu { hive: 77, node: 2, ..MI200 }];
    expect("amd_hive", &amd("7.3.4", &linked, |kfd| kfd.xnack = true), yes);
    let apart = [MI200, Gpu { node: 2, ..MI200 }];
    expect("amd_no_hive", &amd("7.3.4", &apart, |kfd| kfd.xnack = true), yes);
}

#[test]
fn a_kernel_built_without_svm() {
    let gpu = Gpu { svm: false, ..MI200 };
    let machine = amd("7.3.4", &[gpu], |kfd| kfd.svm = false).config_without(&["HSA_AMD_SVM"]);
    expect("amd_no_svm_config", &machine, &[Verdict::No]);
    let unreadable = amd("7.3.4", &[gpu], |kfd| kfd.svm = false).without("/boot/config-7.3.4");
    expect("amd_no_svm_unknown_config", &unreadable, &[Verdict::No]);
}

#[test]
fn a_kernel_built_without_kfd() {
    let machine = amd("7.3.4", &[MI200], |_| {})
        .config_without(&["HSA_AMD", "HSA_AMD_SVM"])
        .without("/dev/kfd")
        .without("/sys/class/kfd");
    expect("amd_no_kfd", &machine, &[Verdict::No]);
}

#[test]
fn hardware_older_than_svm() {
    expect("amd_old_gpu", &amd("7.3.4", &[Gpu { gfx: 80003, svm: false, ..MI200 }], |_| {}), &[Verdict::No]);
}

#[test]
fn a_gpu_that_kfd_does_not_list() {
    let machine = amd("7.3.4", &[MI200], |_| {}).without(&format!("{TOPOLOGY}/nodes/1"));
    expect("amd_not_listed", &machine.refuse("/dev/kfd", Errno::EINVAL), &[Verdict::No]);
}

#[test]
fn a_gpu_that_came_up_late() {
    let machine = amd("7.3.4", &[MI200], |kfd| kfd.gpus.clear());
    expect("amd_late", &machine, &[Verdict::No]);
}

#[test]
fn kernels_that_crash_at_early_attributes() {
    let on = |kfd: &mut KfdNode| kfd.xnack = true;
    expect("amd_6_18_15", &amd("6.18.15", &[MI200], on), &[Verdict::Degraded]);
    // Later stable releases may have the fix: not known is not said, and does not change the verdict.
    expect("amd_6_18_44", &amd("6.18.44", &[MI200], on), &[Verdict::Yes]);
}

#[test]
fn a_small_window_and_an_apu() {
    let small = Gpu { large_bar: false, ..MI200 };
    expect("amd_small_bar", &amd("7.3.4", &[small], |kfd| kfd.xnack = true), &[Verdict::Degraded]);
    let apu = Gpu { cores: 16, gfx: 110_501, vram: 48 << 30, ..MI200 };
    expect("amd_apu", &amd("7.3.4", &[apu], |_| {}), &[Verdict::Degraded]);
}

#[test]
fn a_cgroup_that_hides_the_gpu() {
    let base = format!("{TOPOLOGY}/nodes/1");
    let machine = amd("7.3.4", &[MI200], |_| {})
        .without(&base)
        .unreadable(&format!("{base}/gpu_id"), Errno::EPERM)
        .refuse("/dev/kfd", Errno::EINVAL)
        .refuse("/dev/dri/renderD128", Errno::EPERM)
        .file("/.dockerenv", "");
    expect("amd_docker_no_render", &machine, &[Verdict::No]);
}

#[test]
fn kfd_is_for_another_group() {
    let machine =
        amd("7.3.4", &[MI200], |_| {}).owned("/dev/kfd", 0o660, 0, 44).refuse("/dev/kfd", Errno::EACCES);
    expect("amd_kfd_group", &machine, &[Verdict::No]);
}
