//! The kernel: its age, its command line, how it was built.

use super::{Need, Wanted};
use crate::doctor::checks;
use crate::doctor::facts::{Facts, KernelConfig};
use crate::doctor::finding::{Check, Finding, short};
use crate::error::Errno;

pub(super) fn check(facts: &Facts<'_>, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![version(facts, wanted), command_line(facts)];
    findings.extend(configuration(facts, wanted));
    findings
}

fn version(facts: &Facts<'_>, wanted: &Wanted) -> Finding {
    let release = match &facts.kernel.release {
        Ok(release) => release,
        Err(errno) => {
            return Finding::unknown(
                &checks::KERNEL,
                format!("/proc/sys/kernel/osrelease cannot be read: {}", short(*errno)),
                "mount proc on /proc",
            );
        }
    };
    let Some(version) = facts.kernel.version else {
        return Finding::unknown(
            &checks::KERNEL,
            format!("{release:?} is no version known here"),
            "see uname -r",
        );
    };
    let (xe, kfd) = (wanted.xe == Need::Needed, wanted.kfd == Need::Needed);
    // Where a driver works, what it lacks is said by its own checks; distributions change old kernels.
    if kfd && !version.is_at_least(5, 14) {
        return Finding::problem(
            &checks::KERNEL,
            format!("Linux {release}: KFD has shared virtual memory since 5.14"),
            "use Linux 7.3.4 or newer",
        );
    }
    if xe && !version.is_at_least(6, 15) {
        let effect =
            format!("Linux {release}: xe has shared virtual memory since 6.15, all of it since 6.18");
        let cure = "for Intel GPUs use Linux 6.18 or newer";
        // Without any GPU it is only half a problem: an AMD GPU would do.
        return if kfd {
            Finding::degraded(&checks::KERNEL, effect, cure)
        } else {
            Finding::problem(&checks::KERNEL, effect, cure)
        };
    }
    if xe && !version.is_at_least(6, 18) {
        return Finding::degraded(
            &checks::KERNEL,
            format!("Linux {release}: xe prefetches into VRAM and takes advice since 6.18"),
            "use Linux 6.18 or newer",
        );
    }
    Finding::ok(&checks::KERNEL, format!("Linux {release}"))
}

fn command_line(facts: &Facts<'_>) -> Finding {
    if let Err(errno) = &facts.kernel.command_line {
        return Finding::unknown(
            &checks::COMMAND_LINE,
            format!("/proc/cmdline cannot be read: {}", short(*errno)),
            "mount proc on /proc",
        );
    }
    if facts.kernel.has_word("nomodeset") {
        return Finding::problem(
            &checks::COMMAND_LINE,
            "nomodeset: GPU drivers refuse to load",
            "remove nomodeset from the kernel's command line and restart",
        );
    }
    Finding::ok(&checks::COMMAND_LINE, "nothing in it keeps GPU drivers from loading")
}

/// One kernel option.
struct Kconfig {
    check: &'static Check,
    /// Names without `CONFIG_`; one of them is enough.
    names: &'static [&'static str],
    need: fn(&Wanted) -> Need,
    /// What goes without it; a problem, or only a degradation.
    without: &'static str,
    essential: bool,
}

fn either(wanted: &Wanted) -> Need {
    match (wanted.xe, wanted.kfd) {
        (Need::Works, _) | (_, Need::Works) => Need::Works,
        (Need::None, Need::None) => Need::None,
        _ => Need::Needed,
    }
}

const OPTIONS: &[Kconfig] = &[
    Kconfig {
        check: &checks::ZONE_DEVICE,
        names: &["ZONE_DEVICE"],
        need: either,
        without: "VRAM has no page descriptors",
        essential: true,
    },
    Kconfig {
        check: &checks::DEVICE_PRIVATE,
        names: &["DEVICE_PRIVATE"],
        need: either,
        without: "no page can be in VRAM",
        essential: true,
    },
    Kconfig {
        check: &checks::HMM_MIRROR,
        names: &["HMM_MIRROR"],
        need: either,
        without: "no driver can mirror a process",
        essential: true,
    },
    Kconfig {
        check: &checks::DRM_XE,
        names: &["DRM_XE"],
        need: |wanted| wanted.xe,
        without: "there is no driver for Intel GPUs with shared virtual memory",
        essential: true,
    },
    Kconfig {
        check: &checks::DRM_XE_GPUSVM,
        names: &["DRM_XE_GPUSVM"],
        need: |wanted| wanted.xe,
        without: "xe has no shared virtual memory",
        essential: true,
    },
    Kconfig {
        check: &checks::DRM_XE_PAGEMAP,
        names: &["DRM_XE_PAGEMAP", "DRM_XE_DEVMEM_MIRROR"],
        need: |wanted| wanted.xe,
        without: "xe never migrates pages into VRAM",
        essential: false,
    },
    Kconfig {
        check: &checks::DRM_AMDGPU,
        names: &["DRM_AMDGPU"],
        need: |wanted| wanted.kfd,
        without: "there is no driver for AMD GPUs",
        essential: true,
    },
    Kconfig {
        check: &checks::HSA_AMD,
        names: &["HSA_AMD"],
        need: |wanted| wanted.kfd,
        without: "there is no KFD",
        essential: true,
    },
    Kconfig {
        check: &checks::HSA_AMD_SVM,
        names: &["HSA_AMD_SVM"],
        need: |wanted| wanted.kfd,
        without: "KFD has no shared virtual memory",
        essential: true,
    },
    Kconfig {
        check: &checks::PCI_P2PDMA,
        names: &["PCI_P2PDMA"],
        need: |wanted| wanted.peers,
        without: "GPUs cannot reach each other's VRAM over PCIe",
        essential: false,
    },
];

/// The options the drivers need. Those that something can be asked about directly (page map, userfaultfd, huge pages) are not
/// looked up but asked.
fn configuration(facts: &Facts<'_>, wanted: &Wanted) -> Vec<Finding> {
    let config = match &facts.kernel.config {
        Ok(config) => config,
        Err(places) => return unreadable(places, wanted),
    };
    let mut findings = vec![Finding::ok(&checks::CONFIG, format!("read from {}", config.path))];
    findings.extend(OPTIONS.iter().map(|option| judge(option, config, wanted)));
    findings
}

fn is_set(option: &Kconfig, config: &KernelConfig) -> bool {
    option.names.iter().any(|name| config.get(name).is_set())
}

fn judge(option: &Kconfig, config: &KernelConfig, wanted: &Wanted) -> Finding {
    if let Some(name) = option.names.iter().find(|name| config.get(name).is_set()) {
        let setting = config.get(name);
        let name = if *name == option.names[0] { String::new() } else { format!(", as CONFIG_{name}") };
        return Finding::ok(option.check, format!("{setting}{name}"));
    }
    match (option.need)(wanted) {
        Need::None => Finding::not_applicable(option.check, "not set, and nothing here needs it"),
        Need::Works if option.essential => {
            Finding::ok(option.check, "not set, and yet a driver works: it was not built with this kernel")
        }
        Need::Needed if option.essential => Finding::problem(
            option.check,
            format!("not set, so {}", option.without),
            format!("use a kernel with {}", missing(config, wanted)),
        ),
        _ => Finding::degraded(
            option.check,
            format!("not set, so {}", option.without),
            format!("use a kernel with CONFIG_{}", option.names[0]),
        ),
    }
}

/// All essential options that are needed and not set: one kernel must have them all.
fn missing(config: &KernelConfig, wanted: &Wanted) -> String {
    let lacking =
        OPTIONS.iter().filter(|o| o.essential && (o.need)(wanted) == Need::Needed && !is_set(o, config));
    let names: Vec<String> = lacking.map(|option| format!("CONFIG_{}", option.names[0])).collect();
    names.join(", ")
}

fn unreadable(places: &[(String, Errno)], wanted: &Wanted) -> Vec<Finding> {
    let place = |(place, errno): &(String, Errno)| match *errno {
        Errno::ENOENT => place.clone(),
        other => format!("{place} ({})", short(other)),
    };
    let tried: Vec<String> = places.iter().map(place).collect();
    const CURE: &str = "modprobe configs (for /proc/config.gz), or put the kernel's configuration into /boot";
    let unknown = |check| Finding::unknown(check, "no kernel configuration is readable", CURE);
    let mut findings =
        vec![Finding::unknown(&checks::CONFIG, format!("none is readable of {}", tried.join(", ")), CURE)];
    findings.extend(OPTIONS.iter().map(|option| match (option.need)(wanted) {
        Need::None => Finding::not_applicable(option.check, "nothing here needs it"),
        Need::Works if option.essential => {
            Finding::ok(option.check, "a driver works, which it could not without")
        }
        _ => unknown(option.check),
    }));
    findings
}
