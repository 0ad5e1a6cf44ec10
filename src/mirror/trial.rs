//! Whether a GPU's driver still copies what it migrates.

use std::hint::black_box;

use crate::buffer::Buffer;
use crate::device::KfdGpu;
use crate::error::{Error, ErrorKind, Result};
use crate::kfd::{Location, SvmAttribute};
use crate::range::page_size;
use crate::residency::{self, Place};

/// A word that is neither zero nor like its neighbours.
fn word(index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What became of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// It went to VRAM and came back as it was.
    Intact,
    /// It stayed in system memory, which shows nothing.
    Unmoved,
}

/// Sends a page to VRAM and back. amdgpu does not look at whether its copies succeeded, and once a reset has cancelled one it
/// cancels all further ones: pages change places without their contents, and every call succeeds.
pub(super) fn migrate_a_page(gpu: &KfdGpu) -> Result<Trial> {
    let mut page = Buffer::<u64>::zeroed(page_size() as usize / 8)?;
    page.iter_mut().enumerate().for_each(|(index, at)| *at = word(index));
    let to_vram = [SvmAttribute::Access(gpu.id()), SvmAttribute::Prefetch(Location::Gpu(gpu.id()))];
    gpu.process().set_attributes(page.range(), &to_vram)?;
    let place = residency::of_range(page.range())?.place_at(page.range().start());
    // Reading brings it back.
    let intact = black_box(&page).iter().enumerate().all(|(index, &found)| found == word(index));
    match (intact, place) {
        (false, _) => Err(Error::new(ErrorKind::DeviceLost, "Gpu::mirror")
            .because("a page that migrated to VRAM came back without its contents: the driver no longer copies, as amdgpu does after a reset that interrupted a copy")
            .hint_is("unload and load amdgpu, or reboot; until then nothing may be migrated to this GPU")),
        (true, Some(Place::Device)) => Ok(Trial::Intact),
        (true, _) => Ok(Trial::Unmoved),
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::sim::Machine;
    use crate::sim::kfd::{GpuConfig, Kfd, KfdConfig};
    use crate::{Gpu, sim};

    fn machine() -> Machine {
        let gpu = GpuConfig::mi200(0x4a3f, 64 << 20);
        sim::Machine::new().with_kfd(Kfd::new(KfdConfig::with_gpus(vec![gpu])).unwrap())
    }

    #[test]
    fn a_page_goes_and_comes_back() {
        let gpu = Gpu::discover_in(&machine()).into_iter().next().unwrap();
        // Acquires the GPU's address space.
        let _mirror = gpu.mirror().unwrap();
        let Device::Kfd(kfd) = gpu.device() else { panic!("KFD was asked for") };
        assert_eq!(migrate_a_page(kfd).unwrap(), Trial::Intact);
    }

    #[test]
    fn each_word_of_a_page_is_its_own() {
        let words: std::collections::BTreeSet<u64> = (0..page_size() as usize / 8).map(word).collect();
        assert_eq!(words.len() as u64, page_size() / 8);
        assert!(!words.contains(&0));
    }
}
