//! XNACK: whether GPUs of this process retry page faults, and why that cannot change.

use crate::doctor::checks;
use crate::doctor::facts::{Facts, text};
use crate::doctor::finding::{Finding, cure_of, in_words};
use crate::error::ErrorKind;
use crate::kfd::{GfxVersion, Process, Topology, Xnack};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ability {
    /// Each process chooses.
    PerProcess,
    /// Only with `amdgpu.noretry=0` at boot.
    ByBoot,
    Never,
    /// Older than SVM: does not count.
    NoMatter,
}

fn ability(gfx: GfxVersion) -> Ability {
    match (gfx.major, gfx.minor, gfx.stepping) {
        (0..9, ..) => Ability::NoMatter,
        (9, 0, 10) | (9, 4, _) | (9, 5, _) => Ability::PerProcess,
        (10 | 11, ..) | (12, 0, _) => Ability::Never,
        _ => Ability::ByBoot,
    }
}

pub(super) fn check(facts: &Facts<'_>, process: &Process, topology: &Topology) -> Finding {
    match process.xnack() {
        Ok(Xnack::On) => Finding::ok(
            &checks::XNACK,
            "on: GPUs retry page faults, and all memory of the process is accessible",
        ),
        Ok(Xnack::Off) => off(facts, process, topology),
        Err(error) => Finding::unknown(
            &checks::XNACK,
            format!("KFD did not tell the mode: {}", in_words(&error)),
            cure_of(&error),
        ),
    }
}

const EFFECT: &str = "off: memory must be given to the GPU beforehand, and what leaves VRAM, as pages that the CPU touches do, stays away";

fn off(facts: &Facts<'_>, process: &Process, topology: &Topology) -> Finding {
    let versions: Vec<GfxVersion> = process.gpus().filter_map(|id| topology.gpu(id)?.gfx_version()).collect();
    let with = |wanted: Ability| versions.iter().find(|gfx| ability(**gfx) == wanted);
    if let Some(gfx) = with(Ability::Never) {
        return Finding::degraded(
            &checks::XNACK,
            format!(
                "{EFFECT}; {gfx} cannot retry page faults, so the mode cannot change while this process has it"
            ),
            match with(Ability::PerProcess) {
                Some(able) => {
                    format!("show this process only the {able}: in a container, or by a device cgroup")
                }
                None => "none for this GPU: grant access before use, and prefetch again after the CPU has touched the memory".into(),
            },
        );
    }
    if let Some(gfx) = with(Ability::ByBoot) {
        let noretry = text(facts.system, "/sys/module/amdgpu/parameters/noretry");
        if noretry.as_deref() != Ok("0") {
            let now = noretry.map_or_else(|_| "cannot be read".to_owned(), |value| format!("is {value}"));
            return Finding::degraded(
                &checks::XNACK,
                format!("{EFFECT}; {gfx} can retry only with amdgpu.noretry=0, which {now}"),
                "add amdgpu.noretry=0 to the kernel's command line, restart, and run with HSA_XNACK=1",
            );
        }
    }
    // The mode it has already: this changes nothing, and tells whether queues forbid a change.
    let has_queues = process.set_xnack(Xnack::Off).is_err_and(|error| error.kind() == ErrorKind::Busy);
    if has_queues {
        return Finding::degraded(
            &checks::XNACK,
            format!("{EFFECT}; it cannot change any more, since this process has GPU queues"),
            "run with HSA_XNACK=1, or set the mode before HIP or ROCr starts",
        );
    }
    Finding::degraded(
        &checks::XNACK,
        format!("{EFFECT}; the GPUs could retry"),
        "run with HSA_XNACK=1 (HIP, ROCr), or kfd::Process::set_xnack(Xnack::On) before anything is registered",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_by_what_they_can() {
        for (decimal, expected) in [
            (80003, Ability::NoMatter),
            (90000, Ability::ByBoot),
            (90006, Ability::ByBoot),
            (90008, Ability::ByBoot),
            (90010, Ability::PerProcess),
            (90402, Ability::PerProcess),
            (90500, Ability::PerProcess),
            (100100, Ability::Never),
            (110000, Ability::Never),
            (120001, Ability::Never),
            (120100, Ability::ByBoot),
        ] {
            let gfx = GfxVersion::from_decimal(decimal).unwrap();
            assert_eq!(ability(gfx), expected, "{gfx}");
        }
    }
}
