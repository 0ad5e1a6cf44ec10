//! Whether the process is confined to a container or sandbox, by facts that its maker leaves behind.

use super::files::text;
use super::process::Process;
use crate::doctor::system::System;

/// What confines the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Confinement {
    /// No sign of any.
    None,
    Docker,
    Podman,
    Kubernetes,
    Lxc,
    Flatpak,
    /// A container of a kind not known here, by the name it gave.
    Other(String),
    /// Windows Subsystem for Linux.
    Wsl,
    /// gVisor, which implements the kernel's interface itself.
    Gvisor,
}

/// What confines the process, and how that is known.
#[derive(Clone, Debug)]
pub(in crate::doctor) struct Container {
    pub(in crate::doctor) kind: Confinement,
    /// The facts, for people.
    pub(in crate::doctor) evidence: String,
}

impl Container {
    pub(super) fn detect(system: &dyn System, process: &Process) -> Self {
        let (kind, mut evidence) = kind(system).unwrap_or((Confinement::None, String::new()));
        if process.in_user_namespace {
            let map = text(system, "/proc/self/uid_map").unwrap_or_default();
            let map: Vec<&str> = map.lines().next().unwrap_or_default().split_ascii_whitespace().collect();
            let renumbered = match map.as_slice() {
                [inside, outside, _] => format!("user {inside} here is user {outside} outside"),
                _ => "user numbers are not those outside".to_owned(),
            };
            if !evidence.is_empty() {
                evidence.push_str("; ");
            }
            evidence.push_str(&renumbered);
        }
        Self { kind, evidence }
    }

    /// The name for people.
    pub(in crate::doctor) fn name(&self) -> &str {
        match &self.kind {
            Confinement::None => "no container",
            Confinement::Docker => "a Docker container",
            Confinement::Podman => "a Podman container",
            Confinement::Kubernetes => "a Kubernetes pod",
            Confinement::Lxc => "an LXC container",
            Confinement::Flatpak => "a Flatpak sandbox",
            Confinement::Other(name) => name,
            Confinement::Wsl => "WSL",
            Confinement::Gvisor => "gVisor",
        }
    }

    pub(in crate::doctor) fn is_confined(&self) -> bool {
        self.kind != Confinement::None
    }

    /// How to give device files to what confines the process. `nodes` are paths; `numbers` the device number of what was
    /// refused, if known.
    pub(in crate::doctor) fn pass_in(&self, nodes: &[&str], numbers: Option<(u32, u32)>) -> String {
        let devices: Vec<String> = nodes.iter().map(|node| format!("--device {node}")).collect();
        let devices = devices.join(" ");
        match &self.kind {
            Confinement::Docker => format!("docker run {devices} ..."),
            Confinement::Podman => format!("podman run {devices} --group-add keep-groups ..."),
            Confinement::Kubernetes if nodes.contains(&"/dev/kfd") => {
                "install AMD's device plugin and request resources.limits: amd.com/gpu: 1".into()
            }
            Confinement::Kubernetes => {
                "install the GPU vendor's device plugin and request one (resources.limits: gpu.intel.com/xe: 1)".into()
            }
            Confinement::Lxc => {
                let mount = |node: &&str| {
                    let kind = if *node == "/dev/dri" { "dir" } else { "file" };
                    format!("lxc.mount.entry = {node} {} none bind,create={kind}", node.trim_start_matches('/'))
                };
                let mut lines: Vec<String> = nodes.iter().map(mount).collect();
                lines.extend(numbers.map(|(major, _)| format!("lxc.cgroup2.devices.allow = c {major}:* rwm")));
                lines.join(", ")
            }
            Confinement::Flatpak => "flatpak override --user --device=all APPLICATION".into(),
            Confinement::None => {
                let allow = |node: &&str| {
                    let class = if *node == "/dev/kfd" { "char-kfd" } else { "char-drm" };
                    format!("DeviceAllow={class} rw")
                };
                let allow: Vec<String> = nodes.iter().map(allow).collect();
                format!("in a systemd unit: {} (and not PrivateDevices=yes)", allow.join(", "))
            }
            Confinement::Other(_) => format!("give the container {} when it is started", nodes.join(" and ")),
            Confinement::Wsl => "use Linux itself: WSL passes GPUs as /dev/dxg, which has no shared virtual memory of xe or KFD".into(),
            Confinement::Gvisor => "run outside gVisor: it passes no ioctls of xe or KFD on to the kernel".into(),
        }
    }
}

fn kind(system: &dyn System) -> Option<(Confinement, String)> {
    let exists = |path: &str| system.status(path).is_ok();
    let release = text(system, "/proc/sys/kernel/osrelease").unwrap_or_default();
    if release.to_ascii_lowercase().contains("microsoft") || exists("/dev/dxg") {
        let evidence =
            if exists("/dev/dxg") { "/dev/dxg exists" } else { "the kernel's release names Microsoft" };
        return Some((Confinement::Wsl, evidence.into()));
    }
    // gVisor shows this version and no other.
    if text(system, "/proc/version").is_ok_and(|v| v.contains("#1 SMP Sun Jan 10 15:06:54 PST 2016")) {
        return Some((Confinement::Gvisor, "/proc/version is the one gVisor shows".into()));
    }
    if exists("/.flatpak-info") {
        return Some((Confinement::Flatpak, "/.flatpak-info exists".into()));
    }
    if exists("/run/secrets/kubernetes.io") || exists("/var/run/secrets/kubernetes.io") {
        return Some((Confinement::Kubernetes, "/run/secrets/kubernetes.io exists".into()));
    }
    if exists("/run/.containerenv") {
        return Some((Confinement::Podman, "/run/.containerenv exists".into()));
    }
    if exists("/.dockerenv") {
        return Some((Confinement::Docker, "/.dockerenv exists".into()));
    }
    if let Ok(name) = text(system, "/run/systemd/container") {
        let kind = match name.as_str() {
            "docker" => Confinement::Docker,
            "podman" => Confinement::Podman,
            "lxc" | "lxc-libvirt" => Confinement::Lxc,
            "wsl" => Confinement::Wsl,
            other => Confinement::Other(format!("a container ({other})")),
        };
        return Some((kind, format!("/run/systemd/container says {name}")));
    }
    let groups = text(system, "/proc/1/cgroup").unwrap_or_default();
    for (sign, kind) in [
        ("kubepods", Confinement::Kubernetes),
        ("docker", Confinement::Docker),
        ("libpod", Confinement::Podman),
        ("lxc", Confinement::Lxc),
        ("containerd", Confinement::Other("a container (containerd)".into())),
    ] {
        if groups.contains(sign) {
            return Some((kind, format!("/proc/1/cgroup names {sign}")));
        }
    }
    None
}
