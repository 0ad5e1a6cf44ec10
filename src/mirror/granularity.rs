//! The migration granularity of memory about which nothing was said.

use std::sync::OnceLock;

use crate::buffer::Buffer;
use crate::error::Result;
use crate::kfd::{Granularity, Process};
use crate::range::page_size;

/// KFD's module parameter `svm_default_granularity`, as it was when the process was opened.
#[derive(Debug, Default)]
pub(super) struct DefaultGranularity(OnceLock<Granularity>);

impl DefaultGranularity {
    /// Asks the driver, the first time: of memory that nothing was said about it tells what a new range would have
    /// (`svm_range_get_attr`).
    pub(super) fn get(&self, process: &Process) -> Result<Granularity> {
        if let Some(known) = self.0.get() {
            return Ok(*known);
        }
        let new = Buffer::<u8>::zeroed(page_size() as usize)?;
        let told = process.get_attributes(new.range(), &[])?;
        Ok(*self.0.get_or_init(|| told.granularity))
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::gpu::Gpu;
    use crate::sim::Machine;
    use crate::sim::kfd::{Kfd, KfdConfig};

    #[test]
    fn taken_back_is_what_the_driver_was_loaded_with() {
        for pages_log2 in [0, 5, 9] {
            let config = KfdConfig { default_granularity: pages_log2, ..KfdConfig::new() };
            let machine = Machine::new().with_kfd(Kfd::new(config).unwrap());
            let gpu = Gpu::discover_in(&machine).into_iter().next().unwrap();
            let Device::Kfd(device) = gpu.device() else { panic!("a KFD machine") };
            let mirror = gpu.mirror().unwrap();
            let data = Buffer::<u64>::zeroed(1 << 16).unwrap();
            let told = || device.process().get_attributes(data.range(), &[]).unwrap().granularity;
            let advice = mirror.advise(&data).granularity(page_size() << 3).apply().unwrap();
            assert_eq!(told(), Granularity::from_pages_log2(3));
            advice.reset().unwrap();
            assert_eq!(told(), Granularity::from_pages_log2(pages_log2));
        }
    }
}
