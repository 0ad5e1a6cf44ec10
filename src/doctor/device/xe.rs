//! What xe answers.

use super::subject::Subject;
use super::{Answers, addresses, bar, bugs};
use crate::channel::Channel;
use crate::device::Driver;
use crate::doctor::checks;
use crate::doctor::facts::{Facts, PciFunction, intel_family};
use crate::doctor::finding::{FIRST_THE_REST, Finding, Status, cure_of, in_words};
use crate::error::ErrorKind;
use crate::outcome::Bytes;
use crate::xe::{Device, MemoryClass, MemoryRegion, Operation};

/// What the PCI id alone tells of an Intel GPU that cannot be asked.
pub(super) fn capable_by_model(subject: &Subject<'_>) -> Option<Finding> {
    if subject.vendor() != Some(PciFunction::INTEL) {
        return None;
    }
    let device = subject.device_id()?;
    let known = match intel_family(device) {
        Some(family) => format!("{} does serve the page faults that it needs", family.name),
        None => format!("{device:04x} is not among the GPUs known to serve the page faults that it needs"),
    };
    Some(Finding::unknown(
        &checks::SVM,
        format!("not asked, since the driver cannot be reached; {known}"),
        FIRST_THE_REST,
    ))
}

pub(super) fn check(facts: &Facts<'_>, subject: &Subject<'_>, channel: Channel, answers: &mut Answers) {
    let device = match Device::from_channel(channel) {
        Ok(device) => device,
        Err(error) => {
            let finding = if error.kind() == ErrorKind::DeviceLost {
                Finding::problem(
                    &checks::SVM,
                    format!("the device is gone or wedged: {}", in_words(&error)),
                    "see dmesg; rebind the driver, or restart",
                )
            } else {
                Finding::unknown(
                    &checks::SVM,
                    format!("xe did not answer: {}", in_words(&error)),
                    cure_of(&error),
                )
            };
            answers.findings.push(finding);
            return;
        }
    };
    let config = device.config();
    answers.device_id = Some(config.device_id);
    if !config.has_cpu_addr_mirror {
        answers.findings.push(no_mirror(facts, config.device_id));
        return;
    }
    answers.confirmed = true;
    answers
        .findings
        .push(Finding::ok(&checks::SVM, "xe mirrors CPU addresses on this GPU (HAS_CPU_ADDR_MIRROR)"));
    let fault_mode = fault_mode(&device);
    let serves_faults = fault_mode.status() == Status::Ok;
    answers.findings.push(fault_mode);
    match device.memory_regions() {
        Ok(regions) => answers.findings.extend(memory(subject, &regions)),
        Err(error) => answers.findings.push(Finding::unknown(
            &checks::VRAM,
            format!("xe did not tell its memory regions: {}", in_words(&error)),
            cure_of(&error),
        )),
    }
    // Both are asked of a VM.
    if serves_faults {
        answers.findings.push(prefetch(facts, &device));
        answers.findings.push(advice(&device));
    }
    answers.findings.push(addresses::check(facts, Driver::Xe, 1 << config.va_bits));
    answers.findings.extend(bugs::check(facts, Driver::Xe, config.has_vram));
}

/// xe says that it does not mirror. Which of three reasons it is, as far as facts go.
fn no_mirror(facts: &Facts<'_>, device: u16) -> Finding {
    let problem = |observed: String, cure: &str| Finding::problem(&checks::SVM, observed, cure);
    const HARDWARE: &str = "use Ponte Vecchio, Lunar Lake, Battlemage or newer";
    if facts.kernel.is_older_than(6, 15) {
        let version = facts.kernel.version.map_or_else(String::new, |version| format!(" {version}"));
        return problem(
            format!(
                "xe does not mirror CPU addresses: Linux{version} is older than 6.15, the first that can"
            ),
            "use Linux 6.18 or newer",
        );
    }
    if facts.kernel.is_set("DRM_XE_GPUSVM") == Some(false) {
        return problem(
            "xe does not mirror CPU addresses: this kernel is built without CONFIG_DRM_XE_GPUSVM".into(),
            "use a kernel with CONFIG_DRM_XE_GPUSVM=y (and CONFIG_DEVICE_PRIVATE=y)",
        );
    }
    match (intel_family(device), facts.kernel.is_set("DRM_XE_GPUSVM")) {
        (None, Some(true)) => problem(
            format!("xe does not mirror CPU addresses on this GPU: {device:04x} serves no page faults"),
            HARDWARE,
        ),
        (Some(family), _) => problem(
            format!("xe does not mirror CPU addresses, although {} serves page faults: the kernel's xe lacks it", family.name),
            "use a kernel with CONFIG_DRM_XE_GPUSVM=y, 6.18 or newer",
        ),
        (None, None) => problem(
            "xe does not mirror CPU addresses: the GPU serves no page faults, or the kernel is built without CONFIG_DRM_XE_GPUSVM".into(),
            HARDWARE,
        ),
        (None, Some(false)) => problem("xe does not mirror CPU addresses".into(), HARDWARE),
    }
}

fn fault_mode(device: &Device) -> Finding {
    match device.probe().supports(Operation::FaultMode) {
        Ok(true) => {
            Finding::ok(&checks::FAULT_MODE, "a VM that serves GPU page faults was made and destroyed")
        }
        Ok(false) => Finding::problem(
            &checks::FAULT_MODE,
            "xe refuses a VM that serves GPU page faults (EINVAL)",
            "see dmesg with drm.debug=0x2 for the check that failed; a virtual function may lack it",
        ),
        Err(error) => Finding::problem(
            &checks::FAULT_MODE,
            format!("a VM that serves GPU page faults could not be made: {}", in_words(&error)),
            if error.kind() == ErrorKind::OutOfMemory {
                "free memory: the page descriptors of VRAM take 1.6 % of its size".to_owned()
            } else {
                cure_of(&error)
            },
        ),
    }
}

fn memory(subject: &Subject<'_>, regions: &[MemoryRegion]) -> Vec<Finding> {
    let vram: Vec<&MemoryRegion> =
        regions.iter().filter(|region| region.class == MemoryClass::Vram).collect();
    let (total, visible) = vram
        .iter()
        .fold((0u64, 0u64), |(t, v), r| (t.saturating_add(r.total), v.saturating_add(r.cpu_visible_size)));
    if vram.is_empty() {
        return vec![Finding::not_applicable(
            &checks::VRAM,
            "none: an integrated GPU works on system memory, nothing migrates",
        )];
    }
    let regions = if vram.len() == 1 { String::new() } else { format!(" in {} regions", vram.len()) };
    vec![
        Finding::ok(&checks::VRAM, format!("{}{regions}", Bytes(total))),
        // The driver tells the visible part to privileged processes only, on some kernels.
        bar::check(subject, total, Some(visible).filter(|&visible| visible > 0)),
    ]
}

fn prefetch(facts: &Facts<'_>, device: &Device) -> Finding {
    if !device.config().has_vram {
        return Finding::not_applicable(&checks::PREFETCH, "the GPU has no VRAM");
    }
    match device.probe().supports(Operation::PrefetchToVram) {
        Ok(false) => Finding::degraded(
            &checks::PREFETCH,
            "not on this kernel: pages move into VRAM on GPU page faults only",
            "use Linux 6.18 or newer",
        ),
        Err(error) => Finding::unknown(
            &checks::PREFETCH,
            format!("could not be asked: {}", in_words(&error)),
            cure_of(&error),
        ),
        // A kernel without the option answers like one that has it, and leaves pages where they are.
        Ok(true) => {
            match (facts.kernel.is_set("DRM_XE_PAGEMAP"), facts.kernel.is_set("DRM_XE_DEVMEM_MIRROR")) {
                (Some(false), Some(false)) => Finding::degraded(
                    &checks::PREFETCH,
                    "accepted and without effect: this kernel is built without CONFIG_DRM_XE_PAGEMAP, so nothing migrates",
                    "use a kernel with CONFIG_DRM_XE_PAGEMAP=y",
                ),
                (None, _) => Finding::ok(
                    &checks::PREFETCH,
                    "the driver offers it (whether the kernel has CONFIG_DRM_XE_PAGEMAP, without which nothing moves, is not to be seen)",
                ),
                _ => Finding::ok(&checks::PREFETCH, "the driver offers it"),
            }
        }
    }
}

fn advice(device: &Device) -> Finding {
    const OPTIONAL: [(Operation, &str, &str); 5] = [
        (Operation::Autoreset, "advice that ends with its memory", "6.18"),
        (Operation::PreferredRegion, "VRAM of another GPU as preferred location", "7.0"),
        (Operation::RemirrorInUse, "mirroring anew while in use", "7.0"),
        (Operation::Faults, "the list of failed GPU faults", "7.1"),
        (Operation::Purgeable, "purgeable buffer objects", "7.1"),
    ];
    let probe = device.probe();
    match (probe.supports(Operation::Advise), probe.supports(Operation::RangeAttributes)) {
        (Ok(true), Ok(true)) => {}
        (Err(error), _) | (_, Err(error)) => {
            return Finding::unknown(
                &checks::ADVICE,
                format!("could not be asked: {}", in_words(&error)),
                cure_of(&error),
            );
        }
        _ => {
            return Finding::degraded(
                &checks::ADVICE,
                "this kernel's xe takes no advice on memory (preferred location, atomics) and lists no attributes",
                "use Linux 6.18 or newer",
            );
        }
    }
    let missing: Vec<String> = OPTIONAL
        .iter()
        .filter(|(operation, ..)| probe.supports(*operation).is_ok_and(|supported| !supported))
        .filter(|(operation, ..)| *operation != Operation::PreferredRegion || device.config().has_vram)
        .map(|(_, what, since)| format!("{what} ({since})"))
        .collect();
    if missing.is_empty() {
        return Finding::ok(
            &checks::ADVICE,
            "preferred location, atomics, range attributes, and all that came later",
        );
    }
    Finding::ok(
        &checks::ADVICE,
        format!("preferred location, atomics, range attributes; of newer kernels: {}", missing.join(", ")),
    )
}
