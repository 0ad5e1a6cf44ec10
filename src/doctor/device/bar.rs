//! How much of the GPU's memory the bus shows.

use super::subject::Subject;
use crate::doctor::checks;
use crate::doctor::finding::Finding;
use crate::outcome::Bytes;

/// `visible` is what the driver says, where it does; otherwise the size of the window counts.
pub(super) fn check(subject: &Subject<'_>, vram: u64, visible: Option<u64>) -> Finding {
    let window = subject.pci.and_then(|pci| pci.largest_window);
    let Some(visible) = visible.or(window) else {
        return Finding::unknown(
            &checks::BAR,
            "neither the driver nor sysfs tells how much of the VRAM the bus shows",
            "make /sys/bus/pci readable",
        );
    };
    if visible >= vram {
        return Finding::ok(&checks::BAR, format!("all {} are visible on the bus", Bytes(vram)));
    }
    Finding::degraded(
        &checks::BAR,
        format!(
            "the bus shows {} of {}: the CPU and other GPUs cannot reach the rest directly",
            Bytes(visible),
            Bytes(vram)
        ),
        "enable Resizable BAR and Above 4G Decoding in the firmware",
    )
}
