//! `AMDKFD_IOC_SVM` itself: the one place that makes the call, and what is asked with it before there is a process to speak of.

use crate::channel::{Channel, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::failure::foreign;
use crate::kfd::{GpuId, SvmAttribute};
use crate::range::{PageRange, page_size};
use crate::uapi::kfd as abi;

pub(super) const CALL: &str = "AMDKFD_IOC_SVM";

/// Makes the call, with a buffer that has room for the attributes.
#[inline(always)]
pub(super) fn call(
    channel: &Channel,
    words: &mut [u64],
    range: PageRange,
    op: u32,
    attrs: impl ExactSizeIterator<Item = abi::SvmAttribute>,
) -> Result<()> {
    let header = abi::SvmHeader { start_addr: range.start(), size: range.len(), op, nattr: 0 };
    let (words, request) = abi::write_svm_args(words, header, attrs);
    // SAFETY: the kernel reads and writes the buffer. Its length and its attribute count agree with the request's size: all follow
    // from one count in `write_svm_args`. The range inside names memory that the kernel moves and maps for GPUs without changing a byte as the process
    // sees it; it writes nothing there.
    unsafe { channel.send(CALL, request, bytemuck::cast_slice_mut(words), Retry::Always) }
}

/// Asks nothing of no memory: tells a kernel with SVM (`EINVAL`) from one built without (`EPERM`), and the file of a
/// process from a secondary context (`EOPNOTSUPP`).
pub(super) fn probe(channel: &Channel) -> Result<()> {
    let nothing = PageRange::new(0, 0).map_err(Error::from)?;
    let mut words = [0; abi::svm_words(0)];
    match call(channel, &mut words, nothing, abi::KFD_IOCTL_SVM_OP_GET_ATTR, std::iter::empty()) {
        Ok(()) => Ok(()),
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(()),
        Err(error) => Err(explain(error)),
    }
}

/// Whether a GPU of the process lacks SVM: the kernel looks at what attributes name (`EINVAL`) before it looks at addresses, of
/// which these can never be mapped (`EFAULT`). Nothing is set either way.
///
/// Only for a process that has acquired some GPU: see the guard against kernel bugs at [`Process`].
pub(super) fn lacks_svm(channel: &Channel, gpu: GpuId) -> Result<bool> {
    /// In the kernel's half of the address space.
    const NEVER_MAPPED: u64 = 0xffff_8000_0000_0000;
    let nowhere = PageRange::new(NEVER_MAPPED, page_size()).map_err(Error::from)?;
    let attribute = SvmAttribute::Preferred(Some(gpu.into())).to_abi();
    let mut words = [0; abi::svm_words(1)];
    let attributes = std::iter::once(attribute);
    match call(channel, &mut words, nowhere, abi::KFD_IOCTL_SVM_OP_SET_ATTR, attributes) {
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(true),
        Err(error) if matches!(error.errno(), Some(Errno::EFAULT | Errno::EOVERFLOW)) => Ok(false),
        Err(error) => Err(explain(error)),
        Ok(()) => Err(Error::new(ErrorKind::Other, CALL)
            .over(nowhere)
            .because("the kernel set attributes of its own addresses; it cannot be KFD as we know it")),
    }
}

#[cold]
pub(super) fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => error
            .of_kind(ErrorKind::Unsupported)
            .because("the kernel was built without CONFIG_HSA_AMD_SVM")
            .hint_is("use a kernel with CONFIG_HSA_AMD_SVM and CONFIG_DEVICE_PRIVATE"),
        Some(Errno::EOPNOTSUPP) => error
            .because(
                "this open of /dev/kfd is a secondary context (AMDKFD_IOC_CREATE_PROCESS), which has no SVM",
            )
            .hint_is("open /dev/kfd once more and use that"),
        Some(Errno::EOVERFLOW) => error.because("the range ends beyond the address space"),
        Some(Errno::EFAULT) => error
            .because("a part of the range is not mapped, is device memory, or its pages cannot be had")
            .hint_is("pass only memory that is mapped from start to end, and no mapping of a device"),
        Some(Errno::EADDRINUSE) => error
            .because("a memory object of a GPU has some of these addresses (hipMalloc, a queue of ROCr)")
            .hint_is("leave memory that another runtime allocated to that runtime"),
        _ => foreign(error),
    }
}
