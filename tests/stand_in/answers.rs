//! What the driver answers: an xe device with 8 GiB of VRAM on a recent kernel, and a KFD with one GPU. Nothing moves.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use bytemuck::NoUninit;
use drm_pagemap::Errno;
use drm_pagemap::uapi::IoctlArg;
use drm_pagemap::uapi::drm::Version;
use drm_pagemap::uapi::{kfd, xe};

use super::memory::Memory;
use super::watch::{Answer, Call};

/// KFD's number for its GPU.
pub(crate) const GPU_ID: u32 = 0x4a3f;
const VM_ID: u32 = 1;
/// What stands for the render node of the AMD GPU, told from that of the xe device by its path.
const AMD_RENDER_NODE: &str = "/dev/zero";
/// Battlemage.
const DEVICE_ID: u64 = 0xe20b;

/// The driver.
#[derive(Debug, Default)]
pub(crate) struct Driver {
    /// Where the files of KFD's topology are.
    root: Option<PathBuf>,
    /// The other ends of the event logs that were opened.
    logs: Vec<UnixDatagram>,
}

impl Driver {
    /// With device files, and with a topology in this folder.
    pub(crate) fn with_files(root: PathBuf) -> Self {
        Self { root: Some(root), ..Self::default() }
    }

    pub(crate) fn answer(&mut self, call: &Call) -> Answer {
        if let Some(request) = call.request() {
            if request == kfd::SmiEvents::REQUEST {
                return self.open_log(call).unwrap_or(Answer::Done(Err(Errno::EMFILE)));
            }
            let amdgpu = request == Version::REQUEST
                && call.memory.file(call.arguments[0]).is_ok_and(|path| path == Path::new(AMD_RENDER_NODE));
            let result = if amdgpu {
                answer_version(call.memory, call.arguments[2], "amdgpu", 3)
            } else {
                answer_ioctl(call.memory, request, call.arguments[2])
            };
            return Answer::Done(result);
        }
        if call.number == libc::SYS_openat {
            return self.open(call).unwrap_or(Answer::Kernel);
        }
        Answer::Kernel
    }

    /// A log that takes masks and tells of no event.
    fn open_log(&mut self, call: &Call) -> Option<Answer> {
        let (log, other_end) = UnixDatagram::pair().ok()?;
        log.set_nonblocking(true).ok()?;
        self.logs.push(other_end);
        Some(Answer::FileAt(log.into(), call.arguments[2] + 4))
    }

    fn open(&self, call: &Call) -> Option<Answer> {
        let root = self.root.as_ref()?;
        let path = call.memory.path(call.arguments[1]).ok()?;
        let path = Path::new(&path);
        let device = match path.to_str()? {
            "/dev/kfd" => Some("/dev/null"),
            node if node.starts_with("/dev/dri/render") => Some(AMD_RENDER_NODE),
            _ => None,
        };
        if let Some(device) = device {
            return Some(Answer::File(File::options().read(true).write(true).open(device).ok()?.into()));
        }
        let below = path.strip_prefix("/sys/devices/virtual/kfd/kfd/topology").ok()?;
        match File::open(root.join(below)) {
            Ok(file) => Some(Answer::File(file.into())),
            Err(_) => Some(Answer::Done(Err(Errno::ENOENT))),
        }
    }
}

/// The files of KFD's topology, by path: one processor and the GPU.
pub(crate) fn topology() -> BTreeMap<String, String> {
    let gpu = format!(
        "cpu_cores_count 0\nsimd_count 416\nmem_banks_count 1\ncaches_count 0\nio_links_count 0\np2p_links_count 0\n\
         max_waves_per_simd 8\nlds_size_in_kb 64\nwave_front_size 64\narray_count 8\nsimd_arrays_per_engine 1\n\
         cu_per_simd_array 16\nsimd_per_cu 4\ngfx_target_version 90010\nvendor_id 4098\ndevice_id 29704\n\
         location_id 256\ndomain 0\ndrm_render_minor 128\nhive_id 0\ncapability {}\n",
        kfd::HSA_CAP_SVMAPI_SUPPORTED
    );
    let bank = |heap: u32| {
        format!("heap_type {heap}\nsize_in_bytes 8589934592\nflags 0\nwidth 64\nmem_clk_max 1600\n")
    };
    let files = [
        ("generation_id", "1\n".into()),
        ("system_properties", "platform_oem 0\nplatform_id 0\nplatform_rev 0\n".into()),
        ("nodes/0/gpu_id", "0\n".into()),
        ("nodes/0/name", "\n".into()),
        (
            "nodes/0/properties",
            "cpu_cores_count 1\nsimd_count 0\nmem_banks_count 1\ncaches_count 0\nio_links_count 0\n".into(),
        ),
        ("nodes/0/mem_banks/0/properties", bank(kfd::HSA_MEM_HEAP_TYPE_SYSTEM)),
        ("nodes/1/gpu_id", format!("{GPU_ID}\n")),
        ("nodes/1/name", "aldebaran\n".into()),
        ("nodes/1/properties", gpu),
        ("nodes/1/mem_banks/0/properties", bank(kfd::HSA_MEM_HEAP_TYPE_FB_PUBLIC)),
    ];
    files.map(|(path, text): (&str, String)| (path.to_owned(), text)).into()
}

fn answer_ioctl(memory: Memory, request: u32, argument: u64) -> Result<(), Errno> {
    let fault = |_: std::io::Error| Errno::EFAULT;
    match request {
        Version::REQUEST => answer_version(memory, argument, "xe", 1),
        xe::DeviceQuery::REQUEST => {
            let arg: xe::DeviceQuery = memory.read(argument).map_err(fault)?;
            answer_query(memory, argument, arg).map_err(fault)
        }
        xe::VmCreate::REQUEST => {
            let arg: xe::VmCreate = memory.read(argument).map_err(fault)?;
            memory.write(argument, &xe::VmCreate { vm_id: VM_ID, ..arg }).map_err(fault)
        }
        xe::VmBind::REQUEST => {
            let arg: xe::VmBind = memory.read(argument).map_err(fault)?;
            // As on a VM whose mirrored pages the GPU uses.
            let unmaps = arg.num_binds == 1 && arg.binds.as_inline().op == xe::DRM_XE_VM_BIND_OP_UNMAP;
            if unmaps { Err(Errno::EBUSY) } else { Ok(()) }
        }
        xe::VmQueryMemRangeAttrs::REQUEST => {
            let arg: xe::VmQueryMemRangeAttrs = memory.read(argument).map_err(fault)?;
            if arg.num_mem_ranges > 0 {
                let whole = xe::MemRangeAttr { end: 1 << 47, ..Default::default() };
                memory.write(arg.vector_of_mem_attr, &whole).map_err(fault)?;
            }
            let answer = xe::VmQueryMemRangeAttrs {
                num_mem_ranges: 1,
                sizeof_mem_range_attr: size_of::<xe::MemRangeAttr>() as u64,
                ..arg
            };
            memory.write(argument, &answer).map_err(fault)
        }
        kfd::GetVersion::REQUEST => {
            memory.write(argument, &kfd::GetVersion { major_version: 1, minor_version: 14 }).map_err(fault)
        }
        kfd::GetProcessAperturesNew::REQUEST => {
            let arg: kfd::GetProcessAperturesNew = memory.read(argument).map_err(fault)?;
            if arg.num_of_nodes > 0 {
                let gpu = kfd::ProcessDeviceApertures {
                    gpu_id: GPU_ID,
                    gpuvm_base: 1 << 16,
                    gpuvm_limit: (1 << 47) - 1,
                    ..Default::default()
                };
                memory.write(arg.kfd_process_device_apertures_ptr, &gpu).map_err(fault)?;
            }
            memory.write(argument, &kfd::GetProcessAperturesNew { num_of_nodes: 1, ..arg }).map_err(fault)
        }
        kfd::AllocMemoryOfGpu::REQUEST => Err(Errno::EINVAL),
        // Done, and the argument as it was.
        _ => Ok(()),
    }
}

fn answer_version(memory: Memory, argument: u64, name: &str, major: i32) -> Result<(), Errno> {
    let fault = |_: std::io::Error| Errno::EFAULT;
    let arg: Version = memory.read(argument).map_err(fault)?;
    let put = |text: &str, address: u64, room: u64| {
        let mut bytes = text.as_bytes().iter().zip(address..address + room);
        bytes.try_for_each(|(byte, at)| memory.write(at, byte)).map_err(fault)
    };
    let other = "0";
    put(name, arg.name, arg.name_len)?;
    put(other, arg.date, arg.date_len)?;
    put(other, arg.desc, arg.desc_len)?;
    let answer = Version {
        version_major: major,
        version_minor: 54,
        name_len: name.len() as u64,
        date_len: other.len() as u64,
        desc_len: other.len() as u64,
        ..arg
    };
    memory.write(argument, &answer).map_err(fault)
}

fn answer_query(memory: Memory, argument: u64, arg: xe::DeviceQuery) -> std::io::Result<()> {
    match arg.query {
        xe::DRM_XE_DEVICE_QUERY_CONFIG => {
            let flags =
                xe::DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM | xe::DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR;
            put(memory, argument, arg, &[5u64, DEVICE_ID, flags, 4096, 48, 1])
        }
        xe::DRM_XE_DEVICE_QUERY_MEM_REGIONS => {
            let region = |instance: u64, class: u64| {
                [class | instance << 16 | 4096 << 32, 8 << 30, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            };
            let (system, vram) = (region(0, 0), region(1, 1));
            let mut words = [0u64; 23];
            words[0] = 2;
            words[1..12].copy_from_slice(&system);
            words[12..].copy_from_slice(&vram);
            put(memory, argument, arg, &words)
        }
        // No engine, no GT.
        _ => put(memory, argument, arg, &[0u64]),
    }
}

/// Answers with the size when no room was offered, otherwise with the data.
fn put<T: NoUninit>(memory: Memory, argument: u64, arg: xe::DeviceQuery, data: &T) -> std::io::Result<()> {
    if arg.size == 0 {
        return memory.write(argument, &xe::DeviceQuery { size: size_of::<T>() as u32, ..arg });
    }
    memory.write(arg.data, data)
}
