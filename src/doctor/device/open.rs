//! What `open` of a device file answered: each errno has its own cause and its own cure.

use super::subject::Subject;
use crate::doctor::facts::{AccessDecision, Confinement, Facts, decide_access, text};
use crate::doctor::finding::{Check, Finding, short};
use crate::doctor::system::FileStatus;
use crate::error::Errno;
use crate::kfd;

/// The file could be opened.
pub(super) fn allowed(facts: &Facts<'_>, check: &'static Check, path: &str) -> Finding {
    match facts.system.status(path) {
        Ok(status) => Finding::ok(check, format!("{path} opens ({})", owner(facts, &status))),
        Err(_) => Finding::ok(check, format!("{path} opens")),
    }
}

/// The file could not be opened.
pub(super) fn refused(
    facts: &Facts<'_>,
    check: &'static Check,
    path: &str,
    errno: Errno,
    subject: &Subject<'_>,
) -> Finding {
    let is_kfd = path == kfd::DEVICE;
    let numbers = facts.system.status(path).ok().and_then(|status| status.device);
    let pass_in = || facts.container.pass_in(subject.device_files(), numbers);
    let problem = |observed: String, cure: String| Finding::problem(check, observed, cure);
    match errno {
        Errno::ENOENT if facts.container.is_confined() => {
            problem(format!("{path} does not exist in {}", facts.container.name()), pass_in())
        }
        Errno::ENOENT => problem(
            format!("{path} does not exist"),
            // Whether the driver made the device shows in sysfs.
            if is_kfd && facts.system.list("/sys/class/kfd").is_err() {
                "use amdgpu built with CONFIG_HSA_AMD=y and CONFIG_HSA_AMD_SVM=y".into()
            } else {
                "start udev, or: mount -t devtmpfs none /dev".into()
            },
        ),
        Errno::EACCES => by_rules(facts, check, path),
        Errno::EPERM => {
            problem(format!("{path}: the device cgroup of this process denies it (EPERM)"), pass_in())
        }
        Errno::ENXIO | Errno::ENODEV if is_kfd => problem(
            format!("{path} exists but KFD is not behind it ({})", short(errno)),
            "load amdgpu built with CONFIG_HSA_AMD (modprobe amdgpu), or remove the stale file".into(),
        ),
        Errno::ENXIO | Errno::ENODEV => problem(
            format!(
                "{path} exists but no driver is behind it ({}): the device was removed or unbound, or the file is stale",
                short(errno)
            ),
            if facts.container.is_confined() {
                "start the container again after the driver is bound on the host".into()
            } else {
                "bind the driver again (modprobe xe or amdgpu); a stale file can be removed".into()
            },
        ),
        Errno::EINVAL if is_kfd => problem(
            format!(
                "{path}: KFD has no GPU for this process (EINVAL): none it supports, none the device cgroup allows, or one being reset"
            ),
            if facts.container.is_confined() {
                pass_in()
            } else {
                "see dmesg | grep -i kfd; during a reset, try again".into()
            },
        ),
        Errno::ENOMEM => problem(
            format!("{path}: the kernel lacks memory for the state of this process (ENOMEM)"),
            if is_kfd {
                "free memory or raise the memory cgroup's limit; KFD answers so for GPUs it cannot set up, too: see dmesg | grep -i kfd".into()
            } else {
                "free memory, or raise the limit of the memory cgroup".into()
            },
        ),
        Errno::EMFILE => problem(
            format!("{path}: this process has too many open files (EMFILE)"),
            "raise the limit: ulimit -n 65536".into(),
        ),
        Errno::ENFILE => problem(
            format!("{path}: the system has too many open files (ENFILE)"),
            "raise the limit: sysctl fs.file-max".into(),
        ),
        other => Finding::problem(
            check,
            format!("{path} does not open: {}", short(other)),
            "see dmesg for the driver's reason",
        ),
    }
}

/// `EACCES`: the file's mode or list, or a policy beyond them.
fn by_rules(facts: &Facts<'_>, check: &'static Check, path: &str) -> Finding {
    let Ok(status) = facts.system.status(path) else {
        return Finding::problem(
            check,
            format!("{path}: permission denied, on the way to it"),
            "make its directory searchable (mode 755)",
        );
    };
    let acl = facts.system.acl(path).ok();
    match decide_access(&status, acl.as_deref(), &facts.process) {
        AccessDecision::Denied => {
            let observed =
                format!("{path} is for {}, and this process is {}", owner(facts, &status), who(facts));
            Finding::problem(check, observed, membership(facts, path, &status))
        }
        AccessDecision::Allowed => policy(facts, check, path, &status),
        AccessDecision::Unknown => Finding::problem(
            check,
            format!("{path} is for {}; who this process is cannot be read", owner(facts, &status)),
            format!("run as a member of group {}", facts.process.group_name(status.gid)),
        ),
    }
}

/// How to become one of those whom the mode allows.
fn membership(facts: &Facts<'_>, path: &str, status: &FileStatus) -> String {
    const OVERFLOW: u32 = 65534;
    let process = &facts.process;
    let group = process.group_name(status.gid);
    let group_may = status.mode >> 3 & 0o6 == 0o6;
    if process.in_user_namespace && status.gid == OVERFLOW {
        return match facts.container.kind {
            Confinement::Podman => "podman run --group-add keep-groups ... (needs crun), by a user who is in the node's group".into(),
            _ => "the node's group does not exist in this user namespace: keep the groups of the user who starts it, or run without one".into(),
        };
    }
    if !group_may || status.gid == 0 {
        let name = path.rsplit('/').next().unwrap_or(path);
        let kernel_name = if name.starts_with("renderD") { "renderD*" } else { name };
        return format!(
            "as root, in /etc/udev/rules.d/70-gpu.rules: KERNEL==\"{kernel_name}\", GROUP=\"render\", MODE=\"0660\"; then udevadm trigger"
        );
    }
    match facts.container.kind {
        Confinement::Docker | Confinement::Podman => {
            return format!("start the container with --group-add {}", status.gid);
        }
        Confinement::Kubernetes => {
            return format!("in the pod's securityContext: supplementalGroups: [{}]", status.gid);
        }
        _ => {}
    }
    let user = process.ids.as_ref().ok().and_then(|ids| Some((ids.user, process.named_user(ids.user)?)));
    let Some((uid, user)) = user else { return format!("run as a user who is in group {group}") };
    if process.is_listed_member(uid, status.gid) {
        return format!(
            "{user} is in group {group} since after this session began: log in again (or now: newgrp {group})"
        );
    }
    if process.named_group(status.gid).is_none() {
        return format!("sudo groupadd -g {group} gpu && sudo usermod -aG gpu {user}, then log in again");
    }
    format!("sudo usermod -aG {group} {user}, then log in again")
}

/// The mode allows it and still it is refused.
fn policy(facts: &Facts<'_>, check: &'static Check, path: &str, status: &FileStatus) -> Finding {
    let allowed =
        format!("{path} is refused although its mode allows this process ({})", owner(facts, status));
    if let Some(place) = without_devices(facts, path) {
        return Finding::problem(
            check,
            format!("{allowed}: {place} is mounted nodev"),
            "bind-mount it from a file system without nodev, or remount: mount -o remount,dev ".to_owned()
                + &place,
        );
    }
    if text(facts.system, "/sys/fs/selinux/enforce").is_ok_and(|enforce| enforce == "1") {
        let label = text(facts.system, "/proc/self/attr/current").unwrap_or_default();
        let label = label.trim_end_matches('\0');
        return Finding::problem(
            check,
            format!("{allowed}: SELinux is enforcing, and this process is {label}"),
            "setsebool -P container_use_devices on (containers), or see: ausearch -m avc -ts recent",
        );
    }
    Finding::problem(
        check,
        format!("{allowed}: a security module or a user namespace stands in the way"),
        "see dmesg | grep -i -e apparmor -e denied; in a user namespace run without one",
    )
}

/// The mount that the path is on, if it takes no device files.
fn without_devices(facts: &Facts<'_>, path: &str) -> Option<String> {
    let mounts = text(facts.system, "/proc/self/mountinfo").ok()?;
    let mount = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(4);
        let (place, options) = (words.next()?, words.next()?);
        let below = place == "/"
            || path == place
            || path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        below.then(|| (place.to_owned(), options.split(',').any(|option| option == "nodev")))
    };
    // The longest place wins; of equals the later one covers the earlier.
    let covering = mounts.lines().filter_map(mount).max_by_key(|(place, _)| place.len())?;
    covering.1.then_some(covering.0)
}

fn owner(facts: &Facts<'_>, status: &FileStatus) -> String {
    let process = &facts.process;
    format!(
        "{}:{} with mode {:04o}",
        process.user_name(status.uid),
        process.group_name(status.gid),
        status.mode & 0o7777
    )
}

fn who(facts: &Facts<'_>) -> String {
    match &facts.process.ids {
        Ok(ids) => {
            let mut groups = vec![ids.group];
            groups.extend(ids.groups.iter().copied().filter(|&gid| gid != ids.group));
            let names: Vec<String> = groups.into_iter().map(|gid| facts.process.group_name(gid)).collect();
            format!("{} in {}", facts.process.user_name(ids.user), names.join(", "))
        }
        Err(errno) => format!("unknown ({})", short(*errno)),
    }
}
