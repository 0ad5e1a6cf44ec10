//! Devices that answer like drivers, as far as the doctor may ask, and write down what they were asked.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use drm_pagemap::Errno;
use drm_pagemap::channel::VirtualNode;
use drm_pagemap::uapi::IoctlArg;
use drm_pagemap::uapi::{drm, kfd, xe};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};

/// What devices were asked, in order.
pub(crate) type Recorded = Arc<Mutex<Vec<String>>>;

pub(crate) fn recorded() -> Recorded {
    Arc::default()
}

/// Copies out as the kernel does: `EFAULT` for a bad address.
fn copy_out(to: u64, bytes: &[u8]) -> Result<(), Errno> {
    let remote = [RemoteIoVec { base: to as usize, len: bytes.len() }];
    match process_vm_writev(nix::unistd::Pid::this(), &[IoSlice::new(bytes)], &remote) {
        Ok(written) if written == bytes.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

fn arg<A: IoctlArg>(bytes: &mut [u8]) -> &mut A {
    bytemuck::from_bytes_mut(bytes)
}

fn version(bytes: &mut [u8], name: &str) -> Result<(), Errno> {
    // Buffers of the crate are aligned, but bytemuck wants to be shown.
    let mut version: drm::Version = bytemuck::pod_read_unaligned(bytes);
    let len = (version.name_len as usize).min(name.len());
    copy_out(version.name, &name.as_bytes()[..len])?;
    version.name_len = name.len() as u64;
    bytes.copy_from_slice(bytemuck::bytes_of(&version));
    Ok(())
}

/// A render node of any driver that tells its name and refuses the rest; or answers everything with one errno.
#[derive(Debug)]
pub(crate) struct NamedNode {
    pub(crate) driver: &'static str,
    pub(crate) always: Option<Errno>,
    pub(crate) recorded: Recorded,
}

// SAFETY: answers go where the argument says and no further; no descriptor is made.
unsafe impl VirtualNode for NamedNode {
    unsafe fn ioctl(&self, request: u32, bytes: &mut [u8]) -> Result<(), Errno> {
        self.recorded.lock().unwrap().push(format!("{} {request:#x}", self.driver));
        match (self.always, request) {
            (Some(errno), _) => Err(errno),
            (None, drm::Version::REQUEST) => version(bytes, self.driver),
            _ => Err(Errno::EINVAL),
        }
    }

    fn name(&self) -> String {
        self.driver.into()
    }
}

/// A render node of xe.
#[derive(Debug)]
pub(crate) struct XeNode {
    pub(crate) device: u16,
    /// The series of the kernel, as (6, 18).
    pub(crate) kernel: (u32, u32),
    pub(crate) mirrors: bool,
    pub(crate) va_bits: u64,
    /// VRAM and how much of it the CPU sees; none for an integrated GPU.
    pub(crate) vram: Option<(u64, u64)>,
    pub(crate) vm_create: Result<(), Errno>,
    pub(crate) recorded: Recorded,
    prefetched: Mutex<bool>,
    file: File,
}

impl XeNode {
    /// A Battlemage with 16 GiB, all of it visible.
    pub(crate) fn battlemage(kernel: (u32, u32), recorded: &Recorded) -> Self {
        Self {
            device: 0xe20b,
            kernel,
            mirrors: true,
            va_bits: 48,
            vram: Some((16 << 30, 16 << 30)),
            vm_create: Ok(()),
            recorded: recorded.clone(),
            prefetched: Mutex::new(false),
            file: File::open("/dev/null").unwrap(),
        }
    }

    fn query(&self, bytes: &mut [u8]) -> Result<(), Errno> {
        let mut query: xe::DeviceQuery = bytemuck::pod_read_unaligned(bytes);
        let answer: Vec<u64> = match query.query {
            xe::DRM_XE_DEVICE_QUERY_CONFIG => {
                let mut flags = 0;
                flags |= if self.vram.is_some() { xe::DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM } else { 0 };
                flags |= if self.mirrors { xe::DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR } else { 0 };
                flags |=
                    if self.kernel >= (7, 1) { xe::DRM_XE_QUERY_CONFIG_FLAG_HAS_PURGING_SUPPORT } else { 0 };
                vec![5, u64::from(self.device), flags, 4096, self.va_bits, 1]
            }
            xe::DRM_XE_DEVICE_QUERY_MEM_REGIONS => {
                let region = |class: u16, instance: u16, total: u64, visible: u64| {
                    let mut words = [0u64; 11];
                    words[0] = u64::from(class) | u64::from(instance) << 16 | 4096 << 32;
                    words[1] = total;
                    words[3] = visible;
                    words
                };
                let mut words = vec![1 + u64::from(self.vram.is_some())];
                words.extend(region(0, 0, 32 << 30, 0));
                words.extend(self.vram.iter().flat_map(|(total, visible)| region(1, 1, *total, *visible)));
                words
            }
            // One main GT of Xe2.
            xe::DRM_XE_DEVICE_QUERY_GT_LIST => {
                let mut gt = [0u64; 12];
                gt[4] = 20 | 1 << 16;
                std::iter::once(1).chain(gt).collect()
            }
            _ => return Err(Errno::EINVAL),
        };
        let answer: &[u8] = bytemuck::cast_slice(&answer);
        match query.size {
            0 => query.size = answer.len() as u32,
            size if size as usize == answer.len() => copy_out(query.data, answer)?,
            _ => return Err(Errno::EINVAL),
        }
        bytes.copy_from_slice(bytemuck::bytes_of(&query));
        Ok(())
    }

    /// The one operation of a bind, in words.
    fn bind(&self, bytes: &[u8]) -> Result<(), Errno> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (op, flags, region) = (word(24 + 40), word(24 + 44), word(24 + 48));
        let mut prefetched = self.prefetched.lock().unwrap();
        match op {
            xe::DRM_XE_VM_BIND_OP_PREFETCH => {
                self.recorded.lock().unwrap().push(format!("xe prefetch to region {region}"));
                *prefetched = true;
                Ok(())
            }
            xe::DRM_XE_VM_BIND_OP_UNMAP if *prefetched => Err(Errno::EBUSY),
            xe::DRM_XE_VM_BIND_OP_MAP if *prefetched && self.kernel < (7, 0) => Err(Errno::EBUSY),
            xe::DRM_XE_VM_BIND_OP_MAP if flags & xe::DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET != 0 => {
                self.since((6, 18))
            }
            _ => Ok(()),
        }
    }

    fn since(&self, kernel: (u32, u32)) -> Result<(), Errno> {
        if self.kernel >= kernel { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

// SAFETY: answers go where the argument says and no further; no descriptor is made.
unsafe impl VirtualNode for XeNode {
    unsafe fn ioctl(&self, request: u32, bytes: &mut [u8]) -> Result<(), Errno> {
        match request {
            drm::Version::REQUEST => version(bytes, "xe"),
            xe::DeviceQuery::REQUEST => self.query(bytes),
            xe::VmCreate::REQUEST => {
                self.vm_create?;
                *self.prefetched.lock().unwrap() = false;
                let mut create: xe::VmCreate = bytemuck::pod_read_unaligned(bytes);
                if create.flags & xe::DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT != 0 {
                    self.since((7, 1))?;
                }
                create.vm_id = 1;
                bytes.copy_from_slice(bytemuck::bytes_of(&create));
                Ok(())
            }
            xe::VmDestroy::REQUEST => Ok(()),
            xe::VmBind::REQUEST => self.bind(bytes),
            xe::Madvise::REQUEST => {
                let names_region = bytes[38] != 0;
                self.since(if names_region { (7, 0) } else { (6, 18) })
            }
            xe::VmQueryMemRangeAttrs::REQUEST => self.since((6, 18)),
            xe::VmGetProperty::REQUEST => self.since((7, 1)),
            other => {
                self.recorded.lock().unwrap().push(format!("xe unexpected {other:#x}"));
                Err(Errno::EINVAL)
            }
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn name(&self) -> String {
        "/dev/dri/renderD128".into()
    }
}

/// `/dev/kfd`.
#[derive(Debug)]
pub(crate) struct KfdNode {
    pub(crate) minor_version: u32,
    /// Built with `CONFIG_HSA_AMD_SVM`.
    pub(crate) svm: bool,
    pub(crate) xnack: bool,
    /// The process has user queues.
    pub(crate) queues: bool,
    pub(crate) gpus: Vec<u32>,
    pub(crate) recorded: Recorded,
}

// SAFETY: answers go where the argument says and no further; no descriptor is made.
unsafe impl VirtualNode for KfdNode {
    unsafe fn ioctl(&self, request: u32, bytes: &mut [u8]) -> Result<(), Errno> {
        const SVM: u32 = 0x20;
        if request & 0xff == SVM {
            let op = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
            self.recorded.lock().unwrap().push(format!("kfd svm op {op}"));
            return Err(if self.svm { Errno::EINVAL } else { Errno::EPERM });
        }
        match request {
            kfd::GetVersion::REQUEST => {
                let answer: &mut kfd::GetVersion = arg(bytes);
                (answer.major_version, answer.minor_version) = (1, self.minor_version);
                Ok(())
            }
            kfd::GetProcessAperturesNew::REQUEST => {
                let mut list: kfd::GetProcessAperturesNew = bytemuck::pod_read_unaligned(bytes);
                if list.num_of_nodes != 0 {
                    let entry = |gpu_id: &u32| kfd::ProcessDeviceApertures {
                        gpuvm_base: 0x10000,
                        gpuvm_limit: (1 << 47) - 1,
                        gpu_id: *gpu_id,
                        ..Default::default()
                    };
                    let entries: Vec<kfd::ProcessDeviceApertures> = self.gpus.iter().map(entry).collect();
                    copy_out(list.kfd_process_device_apertures_ptr, bytemuck::cast_slice(&entries))?;
                }
                list.num_of_nodes = self.gpus.len() as u32;
                bytes.copy_from_slice(bytemuck::bytes_of(&list));
                Ok(())
            }
            kfd::SetXnackMode::REQUEST => {
                let mode: &mut kfd::SetXnackMode = arg(bytes);
                if mode.xnack_enabled >= 0 {
                    self.recorded.lock().unwrap().push(format!("kfd xnack {}", mode.xnack_enabled));
                    if self.queues {
                        return Err(Errno::EBUSY);
                    }
                }
                mode.xnack_enabled = self.xnack.into();
                Ok(())
            }
            other => {
                self.recorded.lock().unwrap().push(format!("kfd unexpected {other:#x}"));
                Err(Errno::EINVAL)
            }
        }
    }

    fn name(&self) -> String {
        "/dev/kfd".into()
    }
}
