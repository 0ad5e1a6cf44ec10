//! Containers and permissions.

use drm_pagemap::Errno;
use drm_pagemap::doctor::Verdict;

use crate::examined::expect;
use crate::intel::battlemage;
use crate::machine::Machine;

const NODE: &str = "/dev/dri/renderD128";

fn machine() -> Machine {
    battlemage("7.3.4", (7, 3))
}

/// The node is denied by its mode.
fn denied() -> Machine {
    machine().process(1000, &[1000], 0).refuse(NODE, Errno::EACCES)
}

#[track_caller]
fn no(name: &str, machine: &Machine) {
    expect(name, machine, &[Verdict::No]);
}

#[test]
fn not_in_the_group() {
    no("group_missing", &denied().file("/etc/group", "render:x:993:\nalice:x:1000:\n"));
    no("group_since_login", &denied());
    no("user_without_name", &denied().file("/etc/passwd", ""));
    no("group_without_name", &denied().file("/etc/group", "alice:x:1000:\n"));
}

#[test]
fn a_node_for_root_alone() {
    no("node_root_only", &denied().owned(NODE, 0o600, 0, 0));
    no("node_read_only", &denied().owned(NODE, 0o640, 0, 993));
}

#[test]
fn docker() {
    let docker = || machine().file("/.dockerenv", "");
    no("docker_no_device", &docker().without("/dev/dri"));
    no("docker_cgroup", &docker().refuse(NODE, Errno::EPERM));
    let stranger =
        docker().process(1000, &[1000], 0).refuse(NODE, Errno::EACCES).file("/etc/group", "root:x:0:\n");
    no("docker_group", &stranger);
    expect("docker_no_sysfs", &docker().without("/sys").without("/dev/dri"), &[]);
}

#[test]
fn rootless_podman() {
    let podman = machine()
        .file("/run/.containerenv", "engine=\"podman-5\"\nrootless=1\n")
        .file("/proc/self/uid_map", "         0       1000          1\n         1     100000      65536\n")
        .process(0, &[0], !0)
        .owned(NODE, 0o660, 65534, 65534)
        .refuse(NODE, Errno::EACCES);
    no("podman_rootless", &podman);
}

#[test]
fn other_containers() {
    no(
        "kubernetes_no_device",
        &machine().without("/dev/dri").file("/run/secrets/kubernetes.io/serviceaccount/token", ""),
    );
    no("lxc_cgroup", &machine().file("/run/systemd/container", "lxc\n").refuse(NODE, Errno::EPERM));
    no("flatpak_no_device", &machine().file("/.flatpak-info", "").without("/dev/dri"));
    no("nspawn_no_device", &machine().file("/run/systemd/container", "systemd-nspawn\n").without("/dev/dri"));
    no("systemd_unit", &machine().refuse(NODE, Errno::EPERM));
}

#[test]
fn the_mode_allows_and_something_else_does_not() {
    let refused = || machine().refuse(NODE, Errno::EACCES);
    no(
        "selinux",
        &refused()
            .file("/sys/fs/selinux/enforce", "1\n")
            .file("/proc/self/attr/current", "system_u:system_r:container_t:s0\0"),
    );
    no(
        "nodev",
        &refused().file(
            "/proc/self/mountinfo",
            "1 0 8:2 / / rw - ext4 a rw\n2 1 0:9 / /dev/dri rw,nodev - tmpfs t rw\n",
        ),
    );
    no("other_policy", &refused());
}

#[test]
fn a_stale_node() {
    let machine = machine().file("/sys/class/drm/renderD128/dev", "226:129\n");
    no("stale_numbers", &machine);
}

#[test]
fn environments_without_the_drivers() {
    let wsl = Machine::linux("5.15.153.1-microsoft-standard-WSL2").file("/dev/dxg", "");
    expect("wsl", &wsl, &[]);
    let gvisor = Machine::linux("4.4.0")
        .file("/proc/version", "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n")
        .without("/sys")
        .without("/boot");
    expect("gvisor", &gvisor, &[]);
}
