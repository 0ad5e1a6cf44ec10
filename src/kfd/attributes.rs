//! The attributes of a range: what can be set, and what the kernel says of many ranges at once.

use crate::kfd::{GpuId, Location};
use crate::range::page_size;
use crate::uapi::kfd as abi;

bitflags::bitflags! {
    /// Flags of a range. The kernel stores any bit; unknown ones are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct SvmFlags: u32 {
        /// The host accesses the range. On by default; stored and reported, without effect.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_HOST_ACCESS")]
        const HOST_ACCESS = abi::KFD_IOCTL_SVM_FLAG_HOST_ACCESS;
        /// Coherent between devices, in the cache policy of each GPU generation. On by default. Without effect on
        /// gfx9.4.3 and later of that line, and on gfx12.0.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_COHERENT")]
        const COHERENT = abi::KFD_IOCTL_SVM_FLAG_COHERENT;
        /// Coherent within an XGMI hive. Stored and reported, without effect.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_HIVE_LOCAL")]
        const HIVE_LOCAL = abi::KFD_IOCTL_SVM_FLAG_HIVE_LOCAL;
        /// Read-only for GPUs.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_GPU_RO")]
        const GPU_READ_ONLY = abi::KFD_IOCTL_SVM_FLAG_GPU_RO;
        /// GPUs may execute code in the range. Off by default.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_GPU_EXEC")]
        const GPU_EXEC = abi::KFD_IOCTL_SVM_FLAG_GPU_EXEC;
        /// Mostly read by GPUs. Stored and reported, without effect.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_GPU_READ_MOSTLY")]
        const GPU_READ_MOSTLY = abi::KFD_IOCTL_SVM_FLAG_GPU_READ_MOSTLY;
        /// Keep the range mapped on GPUs even with XNACK, as without. Since KFD 1.11.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_GPU_ALWAYS_MAPPED")]
        const GPU_ALWAYS_MAPPED = abi::KFD_IOCTL_SVM_FLAG_GPU_ALWAYS_MAPPED;
        /// Coherent with everything, at instruction granularity.
        #[doc(alias = "KFD_IOCTL_SVM_FLAG_EXT_COHERENT")]
        const EXT_COHERENT = abi::KFD_IOCTL_SVM_FLAG_EXT_COHERENT;
        const _ = !0;
    }
}

/// The unit of migration when a page fault moves memory: a power of two of pages.
///
/// A touch of the CPU (and, with XNACK, of a GPU) moves the naturally aligned block of this size around it, as far as the
/// range reaches. A prefetch moves whole ranges regardless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[doc(alias = "KFD_IOCTL_SVM_ATTR_GRANULARITY")]
pub struct Granularity(u8);

impl Granularity {
    /// Single pages.
    pub const PAGE: Self = Self(0);

    /// `1 << log2` pages. The kernel stores at most 63, and more than 27 is pointless; the kernel's default is 9 (2 MiB of
    /// 4 KiB pages), a parameter of the module (`svm_default_granularity`).
    #[must_use]
    pub const fn from_pages_log2(log2: u8) -> Self {
        Self(log2)
    }

    /// Blocks of `bytes`, or `None` when that is not a power of two of at least a page.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        let pages = bytes / page_size();
        (pages.is_power_of_two() && bytes % page_size() == 0).then(|| Self(pages.trailing_zeros() as u8))
    }

    /// The exponent.
    #[must_use]
    pub const fn pages_log2(self) -> u8 {
        self.0
    }

    /// The block's size in bytes, saturating.
    #[must_use]
    pub fn bytes(self) -> u64 {
        page_size().saturating_mul(1u64.checked_shl(self.0.into()).unwrap_or(u64::MAX))
    }
}

/// One attribute to set on a range.
///
/// Several in one call are applied in order; of those that contradict each other the last wins.
// The discriminants are the kernel's numbers, so that a list of attributes is hardly more than copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum SvmAttribute {
    /// Where GPU page faults should put the range; `None` takes the preference away. Moves nothing by itself, and without
    /// XNACK, where there are no GPU page faults, is remembered and reported only. A preferred GPU may access the range on
    /// a fault even after [`NoAccess`](Self::NoAccess).
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_PREFERRED_LOC")]
    Preferred(Option<Location>) = abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC,
    /// Move the range there now, as far as possible, and again whenever later attributes are set on it.
    ///
    /// To a GPU: anonymous pages move, and absent ones become zeroed VRAM; pages of files, pinned pages and the like stay,
    /// **without an error**. To system memory: VRAM pages move back; memory that never was in VRAM is not touched.
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_PREFETCH_LOC")]
    Prefetch(Location) = abi::KFD_IOCTL_SVM_ATTR_PREFETCH_LOC,
    /// The GPU may access the range, and the range may move for it. Without XNACK this populates and maps it at once.
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_ACCESS")]
    Access(GpuId) = abi::KFD_IOCTL_SVM_ATTR_ACCESS,
    /// The GPU may access the range wherever it is. Populates and maps it at once, without XNACK.
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE")]
    AccessInPlace(GpuId) = abi::KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE,
    /// The GPU may not access the range. Since Linux 7.3 this removes existing mappings, and where a range has then no mapping
    /// left, **the rest of the call is skipped for it**: a prefetch beside this attribute is remembered, and moves nothing.
    /// Prefetch in a call of its own.
    ///
    /// Before Linux 7.3 existing mappings stay, and the driver knows of them no longer: **they stay even when the memory is
    /// unmapped**, so that the GPU reaches pages that may be anyone's by then. There, leave access as it is until the memory is
    /// unmapped, which does end it. (Where the rule comes from: `svm_range_set_attr` and `svm_range_unmap_from_gpus`; seen on
    /// 6.16.12, 6.17.13, 6.18.15 and 7.2.12.)
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_NO_ACCESS")]
    NoAccess(GpuId) = abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS,
    /// Set these flags.
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_SET_FLAGS")]
    SetFlags(SvmFlags) = abi::KFD_IOCTL_SVM_ATTR_SET_FLAGS,
    /// Clear these flags.
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_CLR_FLAGS")]
    ClearFlags(SvmFlags) = abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS,
    /// Set the unit of migration.
    #[doc(alias = "KFD_IOCTL_SVM_ATTR_GRANULARITY")]
    Granularity(Granularity) = abi::KFD_IOCTL_SVM_ATTR_GRANULARITY,
}

impl SvmAttribute {
    #[inline]
    pub(super) const fn to_abi(self) -> abi::SvmAttribute {
        let (attr_type, value) = match self {
            Self::Preferred(Some(location)) => (abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC, location.raw()),
            Self::Preferred(None) => {
                (abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC, abi::KFD_IOCTL_SVM_LOCATION_UNDEFINED)
            }
            Self::Prefetch(location) => (abi::KFD_IOCTL_SVM_ATTR_PREFETCH_LOC, location.raw()),
            Self::Access(gpu) => (abi::KFD_IOCTL_SVM_ATTR_ACCESS, gpu.raw()),
            Self::AccessInPlace(gpu) => (abi::KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE, gpu.raw()),
            Self::NoAccess(gpu) => (abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS, gpu.raw()),
            Self::SetFlags(flags) => (abi::KFD_IOCTL_SVM_ATTR_SET_FLAGS, flags.bits()),
            Self::ClearFlags(flags) => (abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS, flags.bits()),
            Self::Granularity(granularity) => (abi::KFD_IOCTL_SVM_ATTR_GRANULARITY, granularity.0 as u32),
        };
        abi::SvmAttribute { attr_type, value }
    }
}

/// What the kernel says of a location over several ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Agreed<T> {
    /// Every registered range has this value.
    Uniform(T),
    /// Some range has another value, or none was ever set: the kernel does not tell which.
    MixedOrUnset,
}

/// What a GPU may do with every registered range of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GpuAccess {
    /// Access, and ranges may move for it ([`SvmAttribute::Access`]).
    Full,
    /// Access wherever the ranges are ([`SvmAttribute::AccessInPlace`]).
    InPlace,
    /// Some range is not accessible, **or** some are `Full` and others `InPlace`.
    NoneOrMixed,
}

/// The attributes of the registered ranges within a query's addresses.
///
/// Addresses never registered are ignored, not counted as defaults: one registered page in a gigabyte decides the answer.
/// Where nothing is registered the answer is what a new range would have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeAttributes {
    /// Where GPU page faults put memory.
    pub preferred: Agreed<Location>,
    /// Where the last prefetch was **asked** to move memory. Not where it is.
    pub prefetch: Agreed<Location>,
    /// Flags that every range has.
    pub flags_on_all: SvmFlags,
    /// Flags that at least one range has; `None` before KFD 1.6, which does not tell.
    pub flags_on_any: Option<SvmFlags>,
    /// The smallest unit of migration.
    pub granularity: Granularity,
    /// What each GPU asked about may do, in the order asked.
    pub access: Vec<(GpuId, GpuAccess)>,
}

impl RangeAttributes {
    /// What `gpu` may do, if it was asked about.
    #[must_use]
    pub fn access_of(&self, gpu: GpuId) -> Option<GpuAccess> {
        self.access.iter().find(|(asked, _)| *asked == gpu).map(|(_, access)| *access)
    }

    /// Takes over the kernel's answer to the attributes of [`query`]; `None` where it is none.
    pub(super) fn read(&mut self, attrs: &[abi::SvmAttribute]) -> Option<()> {
        let mut access_of = std::mem::take(&mut self.access);
        access_of.clear();
        *self = Self { access: access_of, ..Self::default() };
        for attr in attrs {
            match attr.attr_type {
                abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC => self.preferred = agreed(attr.value),
                abi::KFD_IOCTL_SVM_ATTR_PREFETCH_LOC => self.prefetch = agreed(attr.value),
                abi::KFD_IOCTL_SVM_ATTR_SET_FLAGS => {
                    self.flags_on_all = SvmFlags::from_bits_retain(attr.value)
                }
                abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS => {
                    self.flags_on_any = Some(SvmFlags::from_bits_retain(!attr.value));
                }
                abi::KFD_IOCTL_SVM_ATTR_GRANULARITY => {
                    self.granularity = Granularity(u8::try_from(attr.value).unwrap_or(u8::MAX));
                }
                other => self.access.push((GpuId::new(attr.value)?, access(other)?)),
            }
        }
        Some(())
    }
}

/// Of no range and no GPU: what [`Process::get_attributes_into`](super::Process::get_attributes_into) fills in.
impl Default for RangeAttributes {
    fn default() -> Self {
        Self {
            preferred: Agreed::MixedOrUnset,
            prefetch: Agreed::MixedOrUnset,
            flags_on_all: SvmFlags::empty(),
            flags_on_any: None,
            granularity: Granularity::PAGE,
            access: Vec::new(),
        }
    }
}

fn agreed(raw: u32) -> Agreed<Location> {
    Location::from_raw(raw).map_or(Agreed::MixedOrUnset, Agreed::Uniform)
}

fn access(attr_type: u32) -> Option<GpuAccess> {
    match attr_type {
        abi::KFD_IOCTL_SVM_ATTR_ACCESS => Some(GpuAccess::Full),
        abi::KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE => Some(GpuAccess::InPlace),
        abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS => Some(GpuAccess::NoneOrMixed),
        _ => None,
    }
}

/// The attributes to ask for: everything, and the access of each GPU.
pub(super) fn query(
    gpus: &[GpuId],
    with_clear_flags: bool,
) -> impl ExactSizeIterator<Item = abi::SvmAttribute> {
    const FIRST: [u32; 2] = [abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC, abi::KFD_IOCTL_SVM_ATTR_PREFETCH_LOC];
    const LAST: [u32; 3] = [
        abi::KFD_IOCTL_SVM_ATTR_SET_FLAGS,
        abi::KFD_IOCTL_SVM_ATTR_GRANULARITY,
        abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS,
    ];
    let last = if with_clear_flags { 3 } else { 2 };
    (0..FIRST.len() + gpus.len() + last).map(move |index| {
        let ask = |attr_type| abi::SvmAttribute { attr_type, value: 0 };
        if let Some(&attr_type) = FIRST.get(index) {
            return ask(attr_type);
        }
        match gpus.get(index - FIRST.len()) {
            Some(gpu) => abi::SvmAttribute { attr_type: abi::KFD_IOCTL_SVM_ATTR_ACCESS, value: gpu.raw() },
            None => ask(LAST[index - FIRST.len() - gpus.len()]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granularity_in_bytes_and_back() {
        assert_eq!(Granularity::from_bytes(page_size() << 9), Some(Granularity::from_pages_log2(9)));
        assert_eq!(Granularity::from_bytes(page_size()), Some(Granularity::PAGE));
        for bytes in [0, 1, page_size() / 2, page_size() * 3, page_size() + 1] {
            assert_eq!(Granularity::from_bytes(bytes), None, "{bytes}");
        }
        assert_eq!(Granularity::from_pages_log2(9).bytes(), page_size() << 9);
        assert_eq!(Granularity::from_pages_log2(255).bytes(), u64::MAX);
    }

    #[test]
    fn the_answer_is_read_by_type_wherever_it_stands() {
        let attrs = [(4, 7), (2, 8), (3, 9), (7, 5), (6, 0xffff_fffc), (5, 1), (1, u32::MAX), (0, 0)]
            .map(|(attr_type, value)| abi::SvmAttribute { attr_type, value });
        let mut answer = RangeAttributes::default();
        // What an earlier query said is gone.
        answer.access.push((GpuId::new(10).unwrap(), GpuAccess::Full));
        answer.read(&attrs).unwrap();
        let gpu = |raw| GpuId::new(raw).unwrap();
        assert_eq!(answer.preferred, Agreed::Uniform(Location::System));
        assert_eq!(answer.prefetch, Agreed::MixedOrUnset);
        assert_eq!(answer.flags_on_all, SvmFlags::HOST_ACCESS);
        assert_eq!(answer.flags_on_any, Some(SvmFlags::HOST_ACCESS | SvmFlags::COHERENT));
        assert_eq!(answer.granularity.pages_log2(), 5);
        assert_eq!(answer.access_of(gpu(7)), Some(GpuAccess::NoneOrMixed));
        assert_eq!(answer.access_of(gpu(8)), Some(GpuAccess::Full));
        assert_eq!(answer.access_of(gpu(9)), Some(GpuAccess::InPlace));
        assert_eq!(answer.access_of(gpu(10)), None);
    }

    #[test]
    fn an_answer_no_kernel_gives_is_refused() {
        let odd = [abi::SvmAttribute { attr_type: 99, value: 1 }];
        assert_eq!(RangeAttributes::default().read(&odd), None);
        let no_gpu = [abi::SvmAttribute { attr_type: 2, value: 0 }];
        assert_eq!(RangeAttributes::default().read(&no_gpu), None);
    }
}
