//! Which driver serves the GPU, and why it is not the right one.

use super::subject::Subject;
use crate::channel::Channel;
use crate::device::Driver;
use crate::doctor::checks;
use crate::doctor::facts::{Facts, PciFunction, intel_family, module, text};
use crate::doctor::finding::{Finding, in_words};
use crate::drm::driver_name;
use crate::error::ErrorKind;

/// Looks at the driver that is bound. A problem ends the examination of the device.
pub(super) fn check(facts: &Facts<'_>, subject: &Subject<'_>) -> (Finding, Option<Driver>) {
    let Some(name) = subject.driver_name() else {
        return match subject.pci {
            Some(pci) => (unbound(facts, pci), None),
            None => {
                let driver = subject.kfd.as_ref().map(|_| Driver::Kfd);
                let finding = Finding::unknown(
                    &checks::DRIVER,
                    "sysfs does not say which driver is behind the render node",
                    "make /sys readable; the driver is asked for its name instead",
                );
                (finding, driver)
            }
        };
    };
    match name {
        "xe" => (Finding::ok(&checks::DRIVER, "xe is bound"), Some(Driver::Xe)),
        "amdgpu" => (Finding::ok(&checks::DRIVER, "amdgpu is bound"), Some(Driver::Kfd)),
        "i915" => (i915(subject), None),
        "vfio-pci" | "xe-vfio-pci" | "pci-stub" => {
            let wanted = driver_of(subject.vendor());
            let finding = Finding::problem(
                &checks::DRIVER,
                format!("{name} is bound: the GPU is set aside for a virtual machine"),
                format!(
                    "use it inside that machine, or give it back: driverctl unset-override {}",
                    address(subject)
                ) + &format!(" (or bind {wanted} by hand)"),
            );
            (finding, None)
        }
        "radeon" => {
            let finding = Finding::problem(
                &checks::DRIVER,
                "radeon is bound, which has no shared virtual memory",
                "none for this GPU: SVM needs gfx9 (Vega) or newer, and radeon serves older ones",
            );
            (finding, None)
        }
        other => {
            let finding = Finding::problem(
                &checks::DRIVER,
                format!("{other} is bound, which has no shared virtual memory that this crate speaks"),
                "none for this device: use a GPU of xe (Lunar Lake, Battlemage or newer) or amdgpu (gfx9 or newer)",
            );
            (finding, None)
        }
    }
}

/// Asks the driver for its name.
///
/// # Errors
///
/// The finding that ends the examination.
pub(super) fn ask(channel: &Channel, bound: Option<Driver>) -> Result<(Finding, Driver), Finding> {
    match driver_name(channel).as_deref() {
        Ok("xe") => Ok((Finding::ok(&checks::ANSWER, "the driver calls itself xe"), Driver::Xe)),
        Ok("amdgpu") => Ok((Finding::ok(&checks::ANSWER, "the driver calls itself amdgpu"), Driver::Kfd)),
        Ok(other) => Err(Finding::problem(
            &checks::ANSWER,
            format!(
                "the driver calls itself {other}, which has no shared virtual memory that this crate speaks"
            ),
            "none for this device: use a GPU of xe (Lunar Lake, Battlemage or newer) or amdgpu (gfx9 or newer)",
        )),
        Err(error) if error.kind() == ErrorKind::DeviceLost => Err(Finding::problem(
            &checks::ANSWER,
            format!("the device is gone or wedged: {}", in_words(error)),
            "see dmesg; rebind the driver (or restart) after what made it hang is gone",
        )),
        Err(error) => {
            let driver = bound.map_or("the driver", Driver::name);
            Err(Finding::unknown(
                &checks::ANSWER,
                format!("{driver} did not answer as expected: {}", in_words(error)),
                "see dmesg; a sandbox that filters ioctls answers so, too",
            ))
        }
    }
}

fn driver_of(vendor: Option<u16>) -> &'static str {
    if vendor == Some(PciFunction::AMD) { "amdgpu" } else { "xe" }
}

fn address(subject: &Subject<'_>) -> String {
    subject.pci.map_or_else(|| "ADDRESS".to_owned(), |pci| pci.address.to_string())
}

fn i915(subject: &Subject<'_>) -> Finding {
    let id = subject.device_id().unwrap_or(0);
    let options = format!("i915.force_probe=!{id:04x} xe.force_probe={id:04x}");
    match subject.device_id().and_then(intel_family) {
        Some(_) => Finding::problem(
            &checks::DRIVER,
            "i915 is bound, which has no shared virtual memory; this GPU has it with xe",
            format!("add to the kernel's command line: {options}"),
        ),
        None => Finding::problem(
            &checks::DRIVER,
            format!(
                "i915 is bound, which has no shared virtual memory; {id:04x} is not among the GPUs known to serve page faults"
            ),
            format!(
                "none for GPUs before Lunar Lake; for a newer one add to the kernel's command line: {options}"
            ),
        ),
    }
}

/// Why no driver is bound, by the first reason that is a fact.
fn unbound(facts: &Facts<'_>, pci: &PciFunction) -> Finding {
    let driver = driver_of(Some(pci.vendor));
    let found = module(facts.system, &facts.kernel, driver);
    let option = if driver == "xe" { "DRM_XE" } else { "DRM_AMDGPU" };
    let problem = |observed: String, cure: String| Finding::problem(&checks::DRIVER, observed, cure);
    if facts.kernel.has_word("nomodeset") {
        return problem(
            format!(
                "no driver is bound, and {driver} refuses to load with nomodeset on the kernel's command line"
            ),
            "remove nomodeset from the kernel's command line and restart".into(),
        );
    }
    if !found.loaded {
        if let Some(place) = &found.blocked_by {
            let cure = if place.starts_with('/') {
                format!("remove the rule for {driver} from {place}, then: modprobe {driver}")
            } else {
                format!("remove {driver} from {place} and restart")
            };
            return problem(format!("no driver is bound: {driver} is blocked by {place}"), cure);
        }
        if facts.kernel.is_set(option) == Some(false) {
            return problem(
                format!("no driver is bound: this kernel is built without CONFIG_{option}"),
                format!("use a kernel with CONFIG_{option}=m"),
            );
        }
        return match found.available {
            Some(true) => problem(
                format!("no driver is bound: the module {driver} is there but not loaded"),
                format!("modprobe {driver}"),
            ),
            Some(false) => problem(
                format!("no driver is bound: this kernel's module directory has no {driver}"),
                format!("install the package with {driver} for this kernel (on Ubuntu linux-modules-extra)"),
            ),
            None if facts.container.is_confined() => problem(
                format!("no driver is bound, and {driver} is not loaded"),
                format!("on the host: modprobe {driver}"),
            ),
            None => problem(
                format!(
                    "no driver is bound, and {driver} is not loaded; whether this kernel has it is unknown (no modules.dep)"
                ),
                format!("modprobe {driver}"),
            ),
        };
    }
    let id = format!("{:04x}", pci.device);
    let needs_force =
        pci.vendor == PciFunction::INTEL && intel_family(pci.device).is_some_and(|f| f.needs_force_probe);
    if needs_force && !is_forced(facts, &id) {
        return problem(
            format!("no driver is bound: xe takes {id} only when told to"),
            format!(
                "add xe.force_probe={id} to the kernel's command line, or: options xe force_probe={id} in /etc/modprobe.d/xe.conf"
            ),
        );
    }
    problem(
        format!("no driver is bound although {driver} is loaded: it does not know the GPU, or failed on it"),
        format!(
            "look for the reason: dmesg | grep -i {driver} (missing firmware and unknown ids are the usual ones; a newer kernel knows more)"
        ),
    )
}

fn is_forced(facts: &Facts<'_>, id: &str) -> bool {
    let parameter = text(facts.system, "/sys/module/xe/parameters/force_probe").unwrap_or_default();
    let lists = facts.kernel.values("xe.force_probe").chain([parameter.as_str()]);
    lists.flat_map(|list| list.split(',')).any(|entry| entry == "*" || entry.eq_ignore_ascii_case(id))
}
