//! Attributes: which the kernel accepts, whether a range has them already, and their effect on it.

use crate::error::Errno;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::state::Device;
use crate::sim::kfd::svm::range::{Range, SYSTEM, UNDEFINED};
use crate::uapi::kfd as abi;

/// The largest granularity that is stored.
const LARGEST_GRANULARITY: u32 = 0x3f;

/// One attribute that passed the check, with GPUs by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::kfd) enum Attribute {
    Preferred(u32),
    Prefetch(u32),
    Access(usize),
    InPlace(usize),
    NoAccess(usize),
    Set(u32),
    Clear(u32),
    Granularity(u32),
}

/// Checks attributes in order; the first that is wrong fails all.
pub(in crate::sim::kfd) fn check(
    attrs: &[abi::SvmAttribute],
    devices: &[Device],
) -> Result<Vec<Attribute>, Errno> {
    attrs.iter().map(|&attr| check_one(attr, devices)).collect()
}

fn check_one(attr: abi::SvmAttribute, devices: &[Device]) -> Result<Attribute, Errno> {
    let value = attr.value;
    let gpu = || svm_gpu(value, devices);
    Ok(match attr.attr_type {
        abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC => {
            if value != SYSTEM && value != UNDEFINED {
                gpu()?;
            }
            Attribute::Preferred(value)
        }
        abi::KFD_IOCTL_SVM_ATTR_PREFETCH_LOC => {
            if value != SYSTEM {
                gpu()?;
            }
            Attribute::Prefetch(value)
        }
        abi::KFD_IOCTL_SVM_ATTR_ACCESS => Attribute::Access(gpu()?),
        abi::KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE => Attribute::InPlace(gpu()?),
        abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS => Attribute::NoAccess(gpu()?),
        abi::KFD_IOCTL_SVM_ATTR_SET_FLAGS => Attribute::Set(value),
        abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS => Attribute::Clear(value),
        abi::KFD_IOCTL_SVM_ATTR_GRANULARITY => Attribute::Granularity(value),
        _ => return Err(Errno::EINVAL),
    })
}

fn svm_gpu(gpu_id: u32, devices: &[Device]) -> Result<usize, Errno> {
    let index =
        devices.iter().position(|device| device.gpu_id == gpu_id && device.svm).ok_or(Errno::EINVAL)?;
    if devices[index].removed { Err(Errno::ENODEV) } else { Ok(index) }
}

impl Attribute {
    /// Whether a range has the attribute already. A prefetch always acts.
    fn is_satisfied_by(self, range: &Range) -> bool {
        match self {
            Self::Preferred(location) => range.preferred == location,
            Self::Prefetch(_) => false,
            Self::Access(gpu) => range.access.has(gpu),
            Self::InPlace(gpu) => range.in_place.has(gpu),
            Self::NoAccess(gpu) => !range.access.has(gpu) && !range.in_place.has(gpu),
            Self::Set(flags) => range.flags & flags == flags,
            Self::Clear(flags) => range.flags & flags == 0,
            Self::Granularity(granularity) => u32::from(range.granularity) == granularity,
        }
    }

    /// Whether mappings need an update because of the attribute.
    fn changes_mappings(self, xnack: bool) -> bool {
        match self {
            Self::Access(_) | Self::InPlace(_) | Self::NoAccess(_) => !xnack,
            Self::Set(_) | Self::Clear(_) => true,
            Self::Preferred(_) | Self::Prefetch(_) | Self::Granularity(_) => false,
        }
    }

    fn apply(self, range: &mut Range, no_access_unmaps: bool) {
        match self {
            Self::Preferred(location) => range.preferred = location,
            Self::Prefetch(location) => range.prefetch = location,
            Self::Access(gpu) => {
                range.access.insert(gpu);
                range.in_place.remove(gpu);
            }
            Self::InPlace(gpu) => {
                range.access.remove(gpu);
                range.in_place.insert(gpu);
            }
            Self::NoAccess(gpu) => {
                range.access.remove(gpu);
                range.in_place.remove(gpu);
                if no_access_unmaps {
                    range.needs_unmap = range.needs_unmap.or(range.mapped.and(Gpus::one(gpu)));
                }
            }
            Self::Set(flags) => range.flags |= flags,
            Self::Clear(flags) => range.flags &= !flags,
            // At most 0x3f, see the constant.
            Self::Granularity(granularity) => range.granularity = granularity.min(LARGEST_GRANULARITY) as u8,
        }
    }
}

/// Whether nothing needs doing for a range.
pub(in crate::sim::kfd) fn all_satisfied(attributes: &[Attribute], range: &Range) -> bool {
    attributes.iter().all(|attribute| attribute.is_satisfied_by(range))
}

/// Applies attributes in order; the last of several that contradict each other wins.
pub(in crate::sim::kfd) fn apply_all(attributes: &[Attribute], range: &mut Range, no_access_unmaps: bool) {
    for attribute in attributes {
        attribute.apply(range, no_access_unmaps);
    }
}

/// Whether any attribute asks for an update of mappings.
pub(in crate::sim::kfd) fn any_changes_mappings(attributes: &[Attribute], xnack: bool) -> bool {
    attributes.iter().any(|attribute| attribute.changes_mappings(xnack))
}
