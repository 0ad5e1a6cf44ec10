//! What amdgpu and KFD answer.

use super::kfd_state::{KfdState, NoProcess};
use super::subject::Subject;
use super::{Answers, addresses, bar, bugs, open, xnack};
use crate::device::Driver;
use crate::doctor::checks;
use crate::doctor::facts::{Facts, number};
use crate::doctor::finding::{Finding, cure_of, in_words};
use crate::error::ErrorKind;
use crate::kfd::{self, GfxVersion, Node};
use crate::outcome::Bytes;

pub(super) fn check(
    facts: &Facts<'_>,
    kfd: &KfdState,
    subject: &Subject<'_>,
    render_opens: bool,
    answers: &mut Answers,
) {
    answers.findings.push(device_file(facts, kfd, subject));
    let Some(node) = &subject.kfd else {
        answers.findings.push(not_listed(facts, kfd, subject));
        return;
    };
    let (has_svm, finding) = capability(facts, kfd, subject, node);
    answers.findings.extend(finding);
    answers.findings.extend(memory(subject, facts, node));
    answers.confirmed = has_svm && render_opens;
    if let (true, Ok(process), Ok(topology)) = (has_svm, &kfd.process, &kfd.topology) {
        let apertures = node.gpu_id().and_then(|id| process.apertures(id));
        answers
            .findings
            .extend(apertures.map(|a| addresses::check(facts, Driver::Kfd, a.gpuvm.1.saturating_add(1))));
        answers.findings.push(xnack::check(facts, process, topology));
    }
    answers.findings.extend(bugs::check(facts, Driver::Kfd, true));
}

fn device_file(facts: &Facts<'_>, kfd: &KfdState, subject: &Subject<'_>) -> Finding {
    match &kfd.process {
        Ok(process) => {
            Finding::ok(&checks::KFD, format!("{} opens, interface {}", kfd::DEVICE, process.version()))
        }
        Err(NoProcess::Refused(errno)) => open::refused(facts, &checks::KFD, kfd::DEVICE, *errno, subject),
        Err(reason @ NoProcess::Unusable(error)) if reason.lacks_svm() => Finding::problem(
            &checks::KFD,
            format!("{} opens but has no shared virtual memory: {}", kfd::DEVICE, error.reason()),
            error.hint().unwrap_or("use a kernel with CONFIG_HSA_AMD_SVM=y").to_owned(),
        ),
        Err(NoProcess::Unusable(error)) => Finding::unknown(
            &checks::KFD,
            format!("{} opens but did not answer as expected: {}", kfd::DEVICE, in_words(error)),
            cure_of(error),
        ),
        Err(NoProcess::NotNeeded) => Finding::unknown(
            &checks::KFD,
            "not opened: no AMD GPU was seen before",
            "report this: a GPU was found in no usual place",
        ),
    }
}

/// amdgpu is bound, and KFD's topology has no such GPU.
fn not_listed(facts: &Facts<'_>, kfd: &KfdState, subject: &Subject<'_>) -> Finding {
    let topology = match &kfd.topology {
        Ok(topology) => topology,
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return if facts.kernel.is_set("HSA_AMD") == Some(false) {
                Finding::problem(
                    &checks::SVM,
                    "this kernel is built without CONFIG_HSA_AMD, so there is no KFD",
                    "use a kernel with CONFIG_HSA_AMD=y and CONFIG_HSA_AMD_SVM=y",
                )
            } else {
                Finding::problem(
                    &checks::SVM,
                    "there is no KFD topology in sysfs",
                    "use amdgpu built with CONFIG_HSA_AMD; in a container, mount /sys",
                )
            };
        }
        Err(error) => {
            return Finding::unknown(
                &checks::SVM,
                format!("KFD's topology cannot be read: {}", in_words(error)),
                "make /sys readable",
            );
        }
    };
    let denied = topology.denied_nodes();
    if !denied.is_empty() {
        let nodes: Vec<String> = denied.iter().map(u32::to_string).collect();
        return Finding::problem(
            &checks::SVM,
            format!(
                "KFD hides this GPU: the device cgroup denies the render node of KFD node {}",
                nodes.join(", ")
            ),
            facts.container.pass_in(subject.device_files(), None),
        );
    }
    Finding::problem(
        &checks::SVM,
        "amdgpu is bound but KFD does not list the GPU: it does not support it, or failed to set it up",
        "see dmesg | grep -i kfd; SVM needs gfx9 (Vega) or newer",
    )
}

/// Whether KFD offers shared virtual memory on this GPU to this process. No finding where that of `/dev/kfd` says it all.
fn capability(
    facts: &Facts<'_>,
    kfd: &KfdState,
    subject: &Subject<'_>,
    node: &Node,
) -> (bool, Option<Finding>) {
    /// The first with SVM (`KFD_IS_SVM_API_SUPPORTED`).
    const FIRST: GfxVersion = GfxVersion { major: 9, minor: 0, stepping: 1 };
    let problem =
        |observed: String, cure: String| (false, Some(Finding::problem(&checks::SVM, observed, cure)));
    if node.is_svm_capable() {
        let known = |id| kfd.process.as_ref().map(|process| process.apertures(id).is_some()).unwrap_or(true);
        if node.gpu_id().is_some_and(known) {
            let offered = "KFD offers it for this GPU (HSA_CAP_SVMAPI_SUPPORTED)";
            return (kfd.process.is_ok(), Some(Finding::ok(&checks::SVM, offered)));
        }
        return problem(
            "KFD keeps this GPU from this process: it came up after the process first opened /dev/kfd, or its render node is denied".into(),
            if facts.container.is_confined() {
                facts.container.pass_in(subject.device_files(), None)
            } else {
                "start the program again".into()
            },
        );
    }
    if let Some(gfx) = node.gfx_version().filter(|gfx| *gfx < FIRST) {
        return problem(
            format!("KFD does not offer it: {gfx} is older than gfx901"),
            "none for this GPU: SVM needs gfx9 (Vega) or newer".into(),
        );
    }
    if kfd.process.as_ref().is_err_and(NoProcess::lacks_svm) {
        return (false, None);
    }
    for option in ["HSA_AMD_SVM", "DEVICE_PRIVATE"] {
        if facts.kernel.is_set(option) == Some(false) {
            return problem(
                format!("KFD does not offer it: this kernel is built without CONFIG_{option}"),
                "use a kernel with CONFIG_HSA_AMD_SVM and CONFIG_DEVICE_PRIVATE".into(),
            );
        }
    }
    problem(
        "KFD does not offer it for this GPU: its VRAM has no page descriptors, or the driver is still starting".into(),
        "try again in a moment; then see dmesg | grep -i -e kfd -e hmm (CONFIG_HSA_AMD_SVM and CONFIG_DEVICE_PRIVATE are needed)"
            .into(),
    )
}

fn memory(subject: &Subject<'_>, facts: &Facts<'_>, node: &Node) -> Vec<Finding> {
    let vram = node.vram_bytes();
    if vram == 0 {
        return vec![Finding::not_applicable(&checks::VRAM, "none: nothing migrates")];
    }
    // An APU's node is CPU and GPU at once, unless the kernel splits them.
    if node.properties().get("cpu_cores_count").is_some_and(|cores| cores > 0) {
        return vec![Finding::not_applicable(
            &checks::VRAM,
            format!(
                "{}, carved out of system memory or shared with it: residency shows such pages as system memory",
                Bytes(vram)
            ),
        )];
    }
    let visible = subject
        .pci
        .and_then(|pci| number(facts.system, &format!("{}/mem_info_vis_vram_total", pci.path())).ok());
    let visible = if node.has_large_bar() { Some(vram) } else { visible };
    vec![Finding::ok(&checks::VRAM, Bytes(vram).to_string()), bar::check(subject, vram, visible)]
}
