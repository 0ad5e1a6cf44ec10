//! A process as KFD sees it: one state for each address space, shared by every open of `/dev/kfd`.

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::channel::{Channel, DeviceMapping, ProcessGuard, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::GpuId;
use crate::kfd::failure::foreign;
use crate::kfd::svm_call;
use crate::range::page_size;
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

/// Version of the KFD interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[doc(alias = "AMDKFD_IOC_GET_VERSION")]
pub struct Version {
    /// 1.
    pub major: u32,
    /// Grows with features.
    pub minor: u32,
}

impl Version {
    /// The first with shared virtual memory (kernel 5.14).
    pub const SVM: Self = Self { major: 1, minor: 5 };
    /// The first whose `GET_ATTR` reports flags that are clear everywhere.
    pub const CLEAR_FLAGS_QUERY: Self = Self { major: 1, minor: 6 };
    /// The first with [`Process::available_memory`].
    pub const AVAILABLE_MEMORY: Self = Self { major: 1, minor: 9 };
    /// The first whose [`SmiEvents`](crate::kfd::SmiEvents) report migrations and GPU faults.
    pub const SVM_EVENTS: Self = Self { major: 1, minor: 10 };
    /// The first with [`SvmFlags::GPU_ALWAYS_MAPPED`](crate::kfd::SvmFlags::GPU_ALWAYS_MAPPED).
    pub const ALWAYS_MAPPED: Self = Self { major: 1, minor: 11 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where the special address ranges of a GPU are. Limits are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "kfd_process_device_apertures")]
#[non_exhaustive]
pub struct Apertures {
    /// Addresses that the GPU reads as addresses of memory: first and last.
    pub gpuvm: (u64, u64),
    /// Local data share: first and last.
    pub lds: (u64, u64),
    /// Scratch: first and last.
    pub scratch: (u64, u64),
}

/// Whose DRM file gave a GPU its address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The file passed in this call, or in an earlier one by this library, also through a [`Process`] that is gone.
    Now,
    /// Another file, opened by other code of this process (HIP, ROCr). Shared virtual memory works all the same.
    ByOther,
}

/// A GPU of the process and what is known of it.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) id: GpuId,
    apertures: Apertures,
    acquired: AtomicBool,
    /// The kernel said that the GPU lacks SVM.
    without_svm: AtomicBool,
    /// The render node that gave the GPU its address space, if that was ours: memory objects are mapped through it.
    pub(super) render: OnceLock<Channel>,
    /// The doorbells of all queues on the GPU, once there was one.
    pub(super) doorbells: OnceLock<DeviceMapping>,
}

impl Gpu {
    /// Whether no SVM call can make the kernel use an address space that this GPU does not have.
    fn is_safe(&self) -> bool {
        self.acquired.load(Ordering::Acquire) || self.without_svm.load(Ordering::Relaxed)
    }
}

/// This process's KFD state, reached through one open of `/dev/kfd`. Cheap to clone.
///
/// The kernel keeps one state for each address space: closing the file loses nothing, a second open finds the same
/// attributes, XNACK mode and address spaces, and other code of the process (HIP, ROCr) shares them. A forked child has
/// none of it; every call here answers [`ErrorKind::ForeignProcess`] there.
///
/// # A guard against kernel bugs
///
/// Kernels before 2026 dereference NULL when attributes are set before the first [`acquire_vm`](Self::acquire_vm), or when a
/// GPU without an acquired address space gets access to a range, which with XNACK any GPU does by default. So attributes can
/// be set only once **every** GPU of the process is acquired, except those that lack SVM, which the kernel is asked about.
#[derive(Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) channel: Channel,
    pub(super) guard: ProcessGuard,
    version: Version,
    pub(super) gpus: Box<[Gpu]>,
    ready: AtomicBool,
}

impl Process {
    /// Takes over an open `/dev/kfd` (see [`open_device`](crate::kfd::open_device)): checks the version, that the kernel was
    /// built with SVM, that the file is not a secondary context, and lists the GPUs.
    ///
    /// # Errors
    ///
    /// | kind | when |
    /// |---|---|
    /// | [`Unsupported`](ErrorKind::Unsupported) | not a KFD file (`ENOTTY`); interface older than 1.5; no `CONFIG_HSA_AMD_SVM` (`EPERM`); a secondary context (`EOPNOTSUPP`), which `AMDKFD_IOC_CREATE_PROCESS` makes of a file since 1.19 and which has no SVM |
    /// | [`ForeignProcess`](ErrorKind::ForeignProcess) | the file was opened by another process (`EBADF`) |
    #[doc(alias = "AMDKFD_IOC_GET_VERSION")]
    #[doc(alias = "AMDKFD_IOC_GET_PROCESS_APERTURES_NEW")]
    pub fn open(channel: Channel) -> Result<Self> {
        let guard = ProcessGuard::current()?;
        let version = version(&channel)?;
        if version < Version::SVM {
            return Err(Error::new(ErrorKind::Unsupported, abi::GetVersion::NAME)
                .because(format!(
                    "KFD interface {version} has no shared virtual memory, which came with {}",
                    Version::SVM
                ))
                .hint_is("use kernel 5.14 or later"));
        }
        svm_call::probe(&channel)?;
        let gpus = list_gpus(&channel)?;
        Ok(Self { inner: Arc::new(Inner { channel, guard, version, gpus, ready: AtomicBool::new(false) }) })
    }

    /// Takes over an open `/dev/kfd` in a process where other code (HIP, ROCr) has already given the GPUs their address
    /// spaces, so that nothing needs to be acquired. That this is true of each GPU named is verified.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`NotFound`](ErrorKind::NotFound) when a GPU is not one of the process;
    /// [`Busy`](ErrorKind::Busy) when nobody has acquired its address space yet.
    pub fn adopt(channel: Channel, gpus: &[GpuId]) -> Result<Self> {
        const CALL: &str = "kfd::Process::adopt";
        let process = Self::open(channel)?;
        for &gpu in gpus {
            if !process.is_acquired(gpu)? {
                return Err(Error::new(ErrorKind::Busy, CALL)
                    .because(format!("nobody has acquired the address space of {gpu} yet"))
                    .hint_is("initialise the other runtime first, or use Process::open and acquire_vm"));
            }
        }
        Ok(process)
    }

    /// The interface's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.inner.version
    }

    /// The GPUs of this process, in the kernel's order: those that were there when it first opened `/dev/kfd`, and whose
    /// render nodes its device cgroup allows.
    pub fn gpus(&self) -> impl Iterator<Item = GpuId> {
        self.inner.gpus.iter().map(|gpu| gpu.id)
    }

    /// The address ranges of a GPU, or `None` when it is not one of the process.
    #[must_use]
    pub fn apertures(&self, gpu: GpuId) -> Option<Apertures> {
        self.inner.gpus.iter().find(|known| known.id == gpu).map(|known| known.apertures)
    }

    /// The channel to `/dev/kfd`.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.inner.channel
    }

    /// Makes the address space of an open render node the one that the GPU uses for this process. Needed once for each GPU;
    /// repeating it with the same file is harmless. The kernel keeps the address space until the process ends, even when
    /// the file is closed.
    ///
    /// The kernel does not check that the render node is that of the GPU: take it from the same
    /// [`Node`](crate::kfd::Node).
    ///
    /// ROCr fails to initialise on a GPU that was acquired before by someone else. A program that also uses HIP should
    /// initialise that first; it then gets [`Acquired::ByOther`] here, which is as good.
    ///
    /// # Errors
    ///
    /// | kind | when |
    /// |---|---|
    /// | [`NotFound`](ErrorKind::NotFound) | the GPU is not one of the process |
    /// | [`InvalidArgument`](ErrorKind::InvalidArgument) | the file is no amdgpu render node, or its address space already serves another GPU or process (`EINVAL`) |
    /// | [`OutOfMemory`](ErrorKind::OutOfMemory) | `ENOMEM` |
    /// | [`ForeignProcess`](ErrorKind::ForeignProcess) | in a forked child |
    #[doc(alias = "AMDKFD_IOC_ACQUIRE_VM")]
    pub fn acquire_vm(&self, render_node: &Channel, gpu: GpuId) -> Result<Acquired> {
        const CALL: &str = abi::AcquireVm::NAME;
        self.inner.guard.check(CALL)?;
        let known = self.gpu(CALL, gpu)?;
        let Some(descriptor) = render_node.descriptor() else {
            return Err(Error::new(ErrorKind::InvalidArgument, CALL)
                .because(format!("{} is no open file", render_node.name())));
        };
        let acquired = match self.acquire_file(descriptor.as_raw_fd(), gpu) {
            Ok(()) => {
                if known.render.get().is_none() {
                    crate::kfd::kept::keep(gpu, render_node);
                    // A second thread that acquires the same GPU holds a duplicate of the same file.
                    let _ = known.render.set(render_node.try_clone()?);
                }
                Acquired::Now
            }
            Err(error) if error.errno() == Some(Errno::EBUSY) => self.acquire_again(known),
            Err(error) if error.errno() == Some(Errno::EINVAL) => {
                return Err(error
                    .because(format!(
                        "{} is no amdgpu render node, or its address space already serves another GPU or process",
                        render_node.name()
                    ))
                    .hint_is("open the GPU's own render node once more, for this GPU alone"));
            }
            Err(error) => return Err(foreign(error)),
        };
        self.note_acquired(known);
        Ok(acquired)
    }

    fn acquire_file(&self, drm_fd: RawFd, gpu: GpuId) -> Result<()> {
        let mut arg = abi::AcquireVm { drm_fd: drm_fd as u32, gpu_id: gpu.raw() };
        // SAFETY: the argument holds no address.
        unsafe { self.inner.channel.call(&mut arg, Retry::Always) }
    }

    /// A GPU that was acquired with another file: one that this library keeps, or one of other code.
    fn acquire_again(&self, gpu: &Gpu) -> Acquired {
        let is_the_one = |kept: &Channel| {
            let descriptor = kept.descriptor();
            descriptor.is_some_and(|descriptor| self.acquire_file(descriptor.as_raw_fd(), gpu.id).is_ok())
        };
        match crate::kfd::kept::of(gpu.id).filter(is_the_one) {
            Some(kept) => {
                // Another thread may have found it first.
                let _ = gpu.render.set(kept);
                Acquired::Now
            }
            None => Acquired::ByOther,
        }
    }

    /// Whether some DRM file has given the GPU its address space, ours or that of other code in this process.
    ///
    /// Asks the kernel where this object has not seen it happen: `ALLOC_MEMORY_OF_GPU` without a kind of memory allocates
    /// nothing and answers `ENODEV` before the address space is acquired, `EINVAL` after.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when the GPU is not one of the process;
    /// [`ForeignProcess`](ErrorKind::ForeignProcess) in a forked child.
    pub fn is_acquired(&self, gpu: GpuId) -> Result<bool> {
        const CALL: &str = abi::AllocMemoryOfGpu::NAME;
        self.inner.guard.check(CALL)?;
        let known = self.gpu(CALL, gpu)?;
        if known.acquired.load(Ordering::Acquire) {
            return Ok(true);
        }
        let mut arg = abi::AllocMemoryOfGpu { size: page_size(), gpu_id: gpu.raw(), ..Default::default() };
        // SAFETY: the argument holds no address of this process, and without a kind of memory nothing is allocated.
        match unsafe { self.inner.channel.call(&mut arg, Retry::Always) } {
            Err(error) if error.errno() == Some(Errno::EINVAL) => {
                self.note_acquired(known);
                Ok(true)
            }
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(false),
            Err(error) => Err(foreign(error)),
            Ok(()) => Err(Error::new(ErrorKind::Other, CALL)
                .because("the kernel allocated memory of no kind; it cannot be KFD as we know it")),
        }
    }

    /// Bytes of VRAM that memory objects can still take on a GPU. Pages that SVM has put there are **not** counted, since they
    /// can be evicted: the number does not change with a prefetch. Since KFD 1.9 (kernel 6.0).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) before KFD 1.9; [`NotFound`](ErrorKind::NotFound) when the GPU is not one
    /// of the process; [`ForeignProcess`](ErrorKind::ForeignProcess) in a forked child.
    #[doc(alias = "AMDKFD_IOC_AVAILABLE_MEMORY")]
    pub fn available_memory(&self, gpu: GpuId) -> Result<u64> {
        const CALL: &str = abi::GetAvailableMemory::NAME;
        self.inner.guard.check(CALL)?;
        self.gpu(CALL, gpu)?;
        self.require(CALL, Version::AVAILABLE_MEMORY)?;
        let mut arg = abi::GetAvailableMemory { gpu_id: gpu.raw(), ..Default::default() };
        // SAFETY: the argument holds no address.
        unsafe { self.inner.channel.call(&mut arg, Retry::Always) }.map_err(foreign)?;
        Ok(arg.available)
    }

    pub(super) fn gpu(&self, call: &'static str, gpu: GpuId) -> Result<&Gpu> {
        self.inner.gpus.iter().find(|known| known.id == gpu).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, call)
                .because(format!("{gpu} is not a GPU of this process"))
                .hint_is("it was added after the process opened /dev/kfd, or the device cgroup denies its render node")
        })
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Refuses a call that came with a later interface.
    pub(super) fn require(&self, call: &'static str, since: Version) -> Result<()> {
        if self.inner.version >= since {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, call)
            .because(format!("came with KFD interface {since}, and this kernel has {}", self.inner.version)))
    }

    /// Whether attributes can be set: every GPU is known to have its address space.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        self.inner.ready.load(Ordering::Acquire)
    }

    /// Refuses to set attributes while that could make an older kernel dereference NULL.
    pub(super) fn require_every_gpu_acquired(&self, call: &'static str) -> Result<()> {
        if self.inner.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        self.find_what_others_acquired(call)
    }

    #[cold]
    fn find_what_others_acquired(&self, call: &'static str) -> Result<()> {
        if self.inner.gpus.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, call)
                .because("this process has no GPU")
                .hint_is("in a container, pass the render nodes in (--device /dev/dri)"));
        }
        let mut missing = None;
        for gpu in &self.inner.gpus {
            if !self.is_acquired(gpu.id)? {
                missing = Some(gpu);
            }
        }
        let any_acquired = self.inner.gpus.iter().any(|gpu| gpu.acquired.load(Ordering::Acquire));
        for gpu in self.inner.gpus.iter().filter(|gpu| any_acquired && !gpu.is_safe()) {
            // Not before one is acquired: until then older kernels take no attribute of anything.
            let lacks = svm_call::lacks_svm(self.channel(), gpu.id)?;
            gpu.without_svm.store(lacks, Ordering::Relaxed);
        }
        self.update_ready();
        match missing.filter(|_| !self.inner.ready.load(Ordering::Acquire)) {
            None => Ok(()),
            Some(gpu) => Err(Error::new(ErrorKind::InvalidArgument, call)
                .because(format!("the address space of {} was not acquired", gpu.id))
                .hint_is("call acquire_vm for every GPU of the process that supports SVM first")),
        }
    }

    fn note_acquired(&self, gpu: &Gpu) {
        gpu.acquired.store(true, Ordering::Release);
        self.update_ready();
    }

    fn update_ready(&self) {
        let gpus = &self.inner.gpus;
        let any_acquired = gpus.iter().any(|gpu| gpu.acquired.load(Ordering::Acquire));
        if any_acquired && gpus.iter().all(Gpu::is_safe) {
            self.inner.ready.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("channel", &self.inner.channel)
            .field("version", &self.inner.version)
            .field("gpus", &self.inner.gpus)
            .finish_non_exhaustive()
    }
}

fn version(channel: &Channel) -> Result<Version> {
    let mut arg = abi::GetVersion::default();
    // SAFETY: the argument holds no address.
    unsafe { channel.call(&mut arg, Retry::Always) }.map_err(|error| match error.errno() {
        Some(Errno::ENOTTY) => {
            error.because(format!("{} is not KFD's device", channel.name())).hint_is("open /dev/kfd")
        }
        _ => foreign(error),
    })?;
    Ok(Version { major: arg.major_version, minor: arg.minor_version })
}

fn list_gpus(channel: &Channel) -> Result<Box<[Gpu]>> {
    let mut arg = abi::GetProcessAperturesNew::default();
    // SAFETY: with room for no element the kernel writes the count and nothing else.
    unsafe { channel.call(&mut arg, Retry::Always) }.map_err(foreign)?;
    if arg.num_of_nodes == 0 {
        return Ok(Box::default());
    }
    let mut entries = vec![abi::ProcessDeviceApertures::default(); arg.num_of_nodes as usize];
    arg.kfd_process_device_apertures_ptr = entries.as_mut_ptr() as u64;
    // SAFETY: the kernel writes at most `num_of_nodes` elements, which is how many `entries` has, and is done with them when
    // the call returns.
    unsafe { channel.call(&mut arg, Retry::Always) }.map_err(foreign)?;
    entries.truncate(arg.num_of_nodes as usize);
    Ok(entries.iter().filter_map(gpu_of).collect())
}

fn gpu_of(entry: &abi::ProcessDeviceApertures) -> Option<Gpu> {
    Some(Gpu {
        id: GpuId::new(entry.gpu_id)?,
        apertures: Apertures {
            gpuvm: (entry.gpuvm_base, entry.gpuvm_limit),
            lds: (entry.lds_base, entry.lds_limit),
            scratch: (entry.scratch_base, entry.scratch_limit),
        },
        acquired: AtomicBool::new(false),
        without_svm: AtomicBool::new(false),
        render: OnceLock::new(),
        doorbells: OnceLock::new(),
    })
}
