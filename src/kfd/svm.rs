//! `AMDKFD_IOC_SVM`: setting and reading the attributes of ranges.

#[cfg(doc)]
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::attributes::query;
use crate::kfd::svm_call::{CALL, call, explain};
use crate::kfd::{GpuId, Process, RangeAttributes, SvmAttribute, Version};
use crate::range::PageRange;
use crate::uapi::kfd as abi;

/// Attributes of an ordinary call.
const FEW: usize = 5;
/// Attributes that one call carries without an allocation.
const INLINE: usize = 16;

impl Process {
    /// Sets attributes of every page of a range: one ioctl, no allocation for up to 16 attributes. An empty range or an empty
    /// list is success, nothing done.
    ///
    /// Attributes are applied in order to exactly these pages; ranges that stick out are split. Then, range by range,
    /// memory is moved and mapped as the attributes ask. A failure of that part does not take the attributes back; a
    /// failure before it changes nothing. Moving **to** a GPU never fails visibly.
    ///
    /// Without XNACK, leave no queue running on a range while a **part of one 2 MiB block** of it gets other attributes: the driver
    /// takes the large page apart and maps what is around the part again afterwards, and where the part has neither end at a
    /// border of the block it forgets what lies behind it (`svm_range_split_tail`, seen on 7.3.4). The next access of the GPU there is
    /// a memory violation, after which the kernel runs no queue of the process. Whole blocks are not concerned.
    ///
    /// The kernel asks to come back (`EAGAIN`) when mappings of the process change meanwhile; that is done here, boundedly.
    ///
    /// # Errors
    ///
    /// | errno | kind | meaning |
    /// |---|---|---|
    /// | – | [`InvalidArgument`](ErrorKind::InvalidArgument) | a GPU of the process that supports SVM is not acquired; more than 2044 attributes; the range starts at address 0 |
    /// | – | [`NotFound`](ErrorKind::NotFound) | the process has no GPU |
    /// | `EINVAL` | [`InvalidArgument`](ErrorKind::InvalidArgument) | a GPU named is not one of the process or lacks SVM |
    /// | `EOVERFLOW` | [`InvalidArgument`](ErrorKind::InvalidArgument) | the range ends beyond the address space |
    /// | `EFAULT` | [`NotMapped`](ErrorKind::NotMapped) | a part is unmapped, or is device memory (`VM_IO`, `VM_PFNMAP`, `VM_MIXEDMAP`), or its pages cannot be had (a truncated file) |
    /// | `EADDRINUSE` | [`AddressInUse`](ErrorKind::AddressInUse) | a memory object of a GPU (`hipMalloc`, queues of ROCr) has these addresses |
    /// | `ENOMEM` | [`OutOfMemory`](ErrorKind::OutOfMemory) | memory, or without XNACK the system-wide limit on registered memory |
    /// | `EAGAIN`, `EINTR` | [`TryAgain`](ErrorKind::TryAgain) | still so after [`Retry::LIMIT`] repetitions |
    /// | `ENODEV` | [`DeviceLost`](ErrorKind::DeviceLost) | a GPU was removed |
    /// | `EBADF` | [`ForeignProcess`](ErrorKind::ForeignProcess) | in a forked child |
    #[doc(alias = "AMDKFD_IOC_SVM")]
    #[doc(alias = "KFD_IOCTL_SVM_OP_SET_ATTR")]
    pub fn set_attributes(&self, range: PageRange, attributes: &[SvmAttribute]) -> Result<()> {
        self.inner().guard.check(CALL)?;
        if !self.is_ready() {
            return self.set_first(range, attributes);
        }
        if range.is_empty() {
            return Ok(());
        }
        // None, or more than a few, in one comparison.
        if attributes.len().wrapping_sub(1) >= FEW {
            return self.set_many(range, attributes);
        }
        if range.start() == 0 {
            return Err(starts_at_zero(range));
        }
        self.set(range, attributes, &mut [0; abi::svm_words(FEW)])
    }

    /// The first time, before which it is found out whether every GPU has its address space.
    #[cold]
    fn set_first(&self, range: PageRange, attributes: &[SvmAttribute]) -> Result<()> {
        self.require_every_gpu_acquired(CALL)?;
        self.set_attributes(range, attributes)
    }

    #[inline(never)]
    fn set_many(&self, range: PageRange, attributes: &[SvmAttribute]) -> Result<()> {
        if attributes.is_empty() {
            return Ok(());
        }
        if range.start() == 0 {
            return Err(starts_at_zero(range));
        }
        if attributes.len() > INLINE {
            return self.set(range, attributes, &mut words_on_heap(attributes.len(), range)?);
        }
        self.set(range, attributes, &mut [0; abi::svm_words(INLINE)])
    }

    #[inline(always)]
    fn set(&self, range: PageRange, attributes: &[SvmAttribute], words: &mut [u64]) -> Result<()> {
        let attrs = attributes.iter().map(|attribute| attribute.to_abi());
        match call(self.channel(), words, range, abi::KFD_IOCTL_SVM_OP_SET_ATTR, attrs) {
            Ok(()) => Ok(()),
            Err(error) => Err(explain_set(error.over(range))),
        }
    }

    /// Reads the attributes of the registered ranges within `range`, and what each of `gpus` may do with them: one ioctl.
    ///
    /// # Errors
    ///
    /// | errno | kind | meaning |
    /// |---|---|---|
    /// | – | [`InvalidArgument`](ErrorKind::InvalidArgument) | the range is empty or starts at address 0; more than about 2000 GPUs |
    /// | `EINVAL` | [`NotFound`](ErrorKind::NotFound) | a GPU is not one of the process |
    /// | `EOVERFLOW` | [`InvalidArgument`](ErrorKind::InvalidArgument) | the range ends beyond the address space |
    /// | `EFAULT` | [`NotMapped`](ErrorKind::NotMapped) | a part is unmapped, or is device memory |
    /// | `EADDRINUSE` | [`AddressInUse`](ErrorKind::AddressInUse) | a memory object of a GPU has these addresses |
    /// | `EBADF` | [`ForeignProcess`](ErrorKind::ForeignProcess) | in a forked child |
    #[doc(alias = "AMDKFD_IOC_SVM")]
    #[doc(alias = "KFD_IOCTL_SVM_OP_GET_ATTR")]
    pub fn get_attributes(&self, range: PageRange, gpus: &[GpuId]) -> Result<RangeAttributes> {
        let access = Vec::with_capacity(gpus.len().min(abi::SVM_MAX_ATTRIBUTES));
        let mut answer = RangeAttributes { access, ..RangeAttributes::default() };
        self.get_attributes_into(range, gpus, &mut answer)?;
        Ok(answer)
    }

    /// As [`get_attributes`](Self::get_attributes), into an answer that is used again: with up to 11 GPUs, and room in its list for
    /// them, nothing is allocated.
    ///
    /// ```
    /// use drm_pagemap::kfd::RangeAttributes;
    /// use drm_pagemap::sim::Machine;
    /// use drm_pagemap::sim::kfd::{Kfd, KfdConfig};
    /// use drm_pagemap::{Buffer, Device, Gpu};
    ///
    /// let machine = Machine::new().with_kfd(Kfd::new(KfdConfig::new())?);
    /// let gpu = Gpu::discover_in(&machine).into_iter().next().expect("one GPU");
    /// let Device::Kfd(kfd) = gpu.device() else { unreachable!() };
    /// let mirror = gpu.mirror()?;
    /// let parts = [Buffer::<u64>::zeroed(1 << 16)?, Buffer::<u64>::zeroed(1 << 16)?];
    /// let _advice = mirror.advise(&parts[1]).prefer(gpu.vram()).apply()?;
    /// let mut answer = RangeAttributes::default();
    /// for part in &parts {
    ///     kfd.process().get_attributes_into(part.range(), &[kfd.id()], &mut answer)?;
    ///     println!("{:?}, migrates by {} bytes", answer.preferred, answer.granularity.bytes());
    /// }
    /// # Ok::<(), drm_pagemap::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_attributes`](Self::get_attributes). What `answer` holds then is of no use.
    pub fn get_attributes_into(
        &self,
        range: PageRange,
        gpus: &[GpuId],
        answer: &mut RangeAttributes,
    ) -> Result<()> {
        self.inner().guard.check(CALL)?;
        if range.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, CALL)
                .over(range)
                .because("an empty range has no attributes"));
        }
        if range.start() == 0 {
            return Err(starts_at_zero(range));
        }
        let attrs = query(gpus, self.version() >= Version::CLEAR_FLAGS_QUERY);
        let mut inline = [0; abi::svm_words(INLINE)];
        let mut heap;
        let words = match inline.get_mut(..abi::svm_words(attrs.len())) {
            Some(words) => words,
            None => {
                heap = words_on_heap(attrs.len(), range)?;
                &mut heap[..]
            }
        };
        call(self.channel(), words, range, abi::KFD_IOCTL_SVM_OP_GET_ATTR, attrs)
            .map_err(|error| explain_get(error.over(range)))?;
        let attributes = abi::svm_attributes(words);
        answer.read(attributes).ok_or_else(|| no_answer(range, attributes))
    }
}

/// A buffer for this many attributes.
fn words_on_heap(count: usize, range: PageRange) -> Result<Vec<u64>> {
    if count > abi::SVM_MAX_ATTRIBUTES {
        return Err(too_many_attributes(range, abi::TooManySvmAttributes { count }));
    }
    Ok(vec![0; abi::svm_words(count)])
}

#[cold]
fn starts_at_zero(range: PageRange) -> Error {
    Error::new(ErrorKind::InvalidArgument, CALL)
        .over(range)
        .because("the kernel refuses ranges that start at address 0")
}

#[cold]
fn no_answer(range: PageRange, attributes: &[abi::SvmAttribute]) -> Error {
    Error::new(ErrorKind::Other, CALL)
        .over(range)
        .because(format!("the kernel answered what it should not: {attributes:?}"))
}

#[cold]
fn too_many_attributes(range: PageRange, too_many: abi::TooManySvmAttributes) -> Error {
    Error::new(ErrorKind::InvalidArgument, CALL).over(range).because(too_many.to_string())
}

#[cold]
fn explain_set(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EINVAL) => error
            .because("a GPU named is not one of this process, or does not support shared virtual memory")
            .hint_is("take GPUs from Topology::svm_gpus; one that was added later needs a new process"),
        Some(Errno::ENOMEM) => error
            .because(
                "memory is exhausted, or without XNACK the system-wide limit on registered memory is reached",
            )
            .hint_is(
                "register less, turn XNACK on where the GPU can, or load amdgpu with no_system_mem_limit=1",
            ),
        _ => explain(error),
    }
}

#[cold]
fn explain_get(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EINVAL) => {
            error.of_kind(ErrorKind::NotFound).because("a GPU asked about is not one of this process")
        }
        _ => explain(error),
    }
}
