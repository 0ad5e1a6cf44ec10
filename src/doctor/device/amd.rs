//! What amdgpu and KFD answer.

use super::kfd_state::{KfdState, NoProcess};
use super::subject::Subject;
use super::{Answers, addresses, bar, bugs, open, xnack};
use crate::device::Driver;
use crate::doctor::checks;
use crate::doctor::facts::{Facts, number};
use crate::doctor::finding::Finding;
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
    answers.findings.push(device_file(facts, kfd));
    let Some(node) = &subject.kfd else {
        answers.findings.push(not_listed(facts, kfd));
        answers.findings.extend(bugs::check(facts, Driver::Kfd, true));
        return;
    };
    let svm = capability(facts, node);
    let capable = svm.status() == crate::doctor::Status::Ok;
    answers.findings.push(svm);
    let Ok(process) = &kfd.process else {
        answers.findings.extend(memory(subject, facts, node));
        return;
    };
    let apertures = node.gpu_id().and_then(|id| process.apertures(id));
    match apertures {
        Some(apertures) => {
            answers.confirmed = capable && render_opens;
            let end = apertures.gpuvm.1.saturating_add(1);
            answers.findings.extend(memory(subject, facts, node));
            answers.findings.push(addresses::check(facts, end));
            if let Ok(topology) = &kfd.topology {
                answers.findings.push(xnack::check(facts, process, topology));
            }
        }
        None => answers.findings.push(Finding::problem(
            &checks::KFD,
            "KFD does not offer this GPU to this process: it came up after the process first opened /dev/kfd, or its render node is denied",
            if facts.container.is_confined() {
                facts.container.pass_in(&[kfd::DEVICE, "/dev/dri"], None)
            } else {
                "start the program again".into()
            },
        )),
    }
    answers.findings.extend(bugs::check(facts, Driver::Kfd, true));
}

fn device_file(facts: &Facts<'_>, kfd: &KfdState) -> Finding {
    match &kfd.process {
        Ok(process) => {
            Finding::ok(&checks::KFD, format!("{} opens, interface {}", kfd::DEVICE, process.version()))
        }
        Err(NoProcess::Refused(errno)) => open::refused(facts, &checks::KFD, kfd::DEVICE, *errno, None),
        Err(NoProcess::Unusable(error)) if error.kind() == ErrorKind::Unsupported => Finding::problem(
            &checks::KFD,
            format!("{} opens but has no shared virtual memory: {}", kfd::DEVICE, error.reason()),
            error.hint().unwrap_or("use a kernel with CONFIG_HSA_AMD_SVM=y").to_owned(),
        ),
        Err(NoProcess::Unusable(error)) => Finding::unknown(
            &checks::KFD,
            format!("{} opens but did not answer as expected: {error}", kfd::DEVICE),
            "see dmesg",
        ),
        Err(NoProcess::NotNeeded) => Finding::unknown(
            &checks::KFD,
            "not opened: no AMD GPU was seen before",
            "report this: a GPU was found in no usual place",
        ),
    }
}

/// amdgpu is bound, and KFD's topology has no such GPU.
fn not_listed(facts: &Facts<'_>, kfd: &KfdState) -> Finding {
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
                format!("KFD's topology cannot be read: {error}"),
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
            facts.container.pass_in(&[kfd::DEVICE, "/dev/dri"], None),
        );
    }
    Finding::problem(
        &checks::SVM,
        "amdgpu is bound but KFD does not list the GPU: it does not support it, or failed to set it up",
        "see dmesg | grep -i kfd; SVM needs gfx9 (Vega) or newer",
    )
}

fn capability(facts: &Facts<'_>, node: &Node) -> Finding {
    /// The first with SVM (`KFD_IS_SVM_API_SUPPORTED`).
    const FIRST: GfxVersion = GfxVersion { major: 9, minor: 0, stepping: 1 };
    if node.is_svm_capable() {
        return Finding::ok(&checks::SVM, "KFD offers it for this GPU (HSA_CAP_SVMAPI_SUPPORTED)");
    }
    let problem = |observed: String, cure: &str| Finding::problem(&checks::SVM, observed, cure);
    if let Some(gfx) = node.gfx_version().filter(|gfx| *gfx < FIRST) {
        return problem(
            format!("KFD does not offer it: {gfx} is older than gfx901"),
            "none for this GPU: SVM needs gfx9 (Vega) or newer",
        );
    }
    for option in ["HSA_AMD_SVM", "DEVICE_PRIVATE"] {
        if facts.kernel.is_set(option) == Some(false) {
            return problem(
                format!("KFD does not offer it: this kernel is built without CONFIG_{option}"),
                "use a kernel with CONFIG_HSA_AMD_SVM=y and CONFIG_DEVICE_PRIVATE=y",
            );
        }
    }
    problem(
        "KFD does not offer it for this GPU: its VRAM has no page descriptors, or the driver is still starting".into(),
        "try again in a moment; then see dmesg | grep -i -e kfd -e hmm (CONFIG_HSA_AMD_SVM and CONFIG_DEVICE_PRIVATE are needed)",
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
