//! The render node.

use super::subject::Subject;
use crate::doctor::checks;
use crate::doctor::facts::{Confinement, Facts};
use crate::doctor::finding::Finding;
use crate::error::Errno;

/// Finds the render node's path.
///
/// # Errors
///
/// The finding that says why there is none.
pub(super) fn check(facts: &Facts<'_>, subject: &Subject<'_>) -> Result<(Finding, String), Finding> {
    let problem = |observed: String, cure: String| Err(Finding::problem(&checks::NODE, observed, cure));
    let Some(render) = subject.render else {
        let driver = subject.driver_name().unwrap_or("the driver");
        return problem(
            format!("{driver} is bound but made no render node"),
            format!(
                "look for the reason: dmesg | grep -i {driver} (the driver failed halfway, or serves as SR-IOV host only)"
            ),
        );
    };
    let path = render.path();
    let status = match facts.system.status(&path) {
        Ok(status) => status,
        Err(Errno::ENOENT) => {
            let cure = if facts.container.kind == Confinement::None {
                "start udev, or: mount -t devtmpfs none /dev".to_owned()
            } else {
                facts.container.pass_in(subject.device_files(), render.numbers)
            };
            return problem(
                format!("the kernel has renderD{}, but {path} does not exist", render.minor),
                cure,
            );
        }
        Err(errno) => {
            return problem(
                format!("{path} cannot be looked at: {errno}"),
                "make /dev/dri searchable for this user (mode 755)".into(),
            );
        }
    };
    match (status.device, render.numbers) {
        (None, _) => problem(
            format!("{path} is no device file"),
            format!("remove it: rm {path}; udev makes the right one"),
        ),
        (Some(have), Some(want)) if have != want => problem(
            format!("{path} is device {}:{}, the kernel's is {}:{}", have.0, have.1, want.0, want.1),
            "start the container again: its device files are older than the driver's latest start".into(),
        ),
        _ => Ok((Finding::ok(&checks::NODE, path.clone()), path)),
    }
}
