//! Reading attributes: what all registered ranges of some addresses have in common.

use crate::error::Errno;
use crate::range::PageRange;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::state::Device;
use crate::sim::kfd::svm::range::{DEFAULT_FLAGS, Range, Ranges, UNDEFINED};
use crate::uapi::kfd as abi;

/// What is true of every range looked at.
struct Common {
    preferred: u32,
    prefetch: u32,
    flags_and: u32,
    flags_or: u32,
    granularity: u8,
    access: Gpus,
    in_place: Gpus,
}

impl Common {
    fn of(range: &Range) -> Self {
        Self {
            preferred: range.preferred,
            prefetch: range.prefetch,
            flags_and: range.flags,
            flags_or: range.flags,
            granularity: range.granularity,
            access: range.access,
            in_place: range.in_place,
        }
    }

    fn with(self, range: &Range) -> Self {
        let same = |a, b| if a == b { a } else { UNDEFINED };
        Self {
            preferred: same(self.preferred, range.preferred),
            prefetch: same(self.prefetch, range.prefetch),
            flags_and: self.flags_and & range.flags,
            flags_or: self.flags_or | range.flags,
            granularity: self.granularity.min(range.granularity),
            access: self.access.and(range.access),
            in_place: self.in_place.and(range.in_place),
        }
    }
}

/// Fills in the answers. On an error in the middle, earlier entries are already overwritten, as in the kernel.
pub(in crate::sim::kfd) fn answer(
    ranges: &Ranges,
    pages: PageRange,
    devices: &[Device],
    default_granularity: u8,
    default_access: Gpus,
    attrs: &mut [abi::SvmAttribute],
) -> Result<(), Errno> {
    let asked_wrongly = |attr: &abi::SvmAttribute| {
        matches!(attr.attr_type, abi::KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE | abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS)
            || attr.attr_type > abi::KFD_IOCTL_SVM_ATTR_GRANULARITY
    };
    if attrs.iter().any(asked_wrongly) {
        return Err(Errno::EINVAL);
    }
    let common = ranges.within(pages).fold(None, |common: Option<Common>, range| {
        Some(common.map_or_else(|| Common::of(range), |common| common.with(range)))
    });
    let common = common.unwrap_or(Common {
        preferred: UNDEFINED,
        prefetch: UNDEFINED,
        flags_and: DEFAULT_FLAGS,
        flags_or: DEFAULT_FLAGS,
        granularity: default_granularity,
        access: default_access,
        in_place: Gpus::NONE,
    });
    for attr in attrs {
        match attr.attr_type {
            abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC => attr.value = common.preferred,
            abi::KFD_IOCTL_SVM_ATTR_PREFETCH_LOC => attr.value = common.prefetch,
            abi::KFD_IOCTL_SVM_ATTR_SET_FLAGS => attr.value = common.flags_and,
            abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS => attr.value = !common.flags_or,
            abi::KFD_IOCTL_SVM_ATTR_GRANULARITY => attr.value = common.granularity.into(),
            _ => {
                let gpu =
                    devices.iter().position(|device| device.gpu_id == attr.value).ok_or(Errno::EINVAL)?;
                attr.attr_type = if common.access.has(gpu) {
                    abi::KFD_IOCTL_SVM_ATTR_ACCESS
                } else if common.in_place.has(gpu) {
                    abi::KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE
                } else {
                    abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS
                };
            }
        }
    }
    Ok(())
}
