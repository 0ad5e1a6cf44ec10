//! `DEVICE_QUERY`.

use super::config::KernelVersion;
use super::node::XeNode;
use crate::error::Errno;
use crate::range::{SIZE_4K, SIZE_64K, page_size};
use crate::sim::user_memory::WriteAccess;
use crate::uapi::xe::*;

impl XeNode {
    /// `DEVICE_QUERY` (`xe_query_ioctl`).
    pub(super) fn device_query(&self, arg: &mut DeviceQuery, access: WriteAccess) -> Result<(), Errno> {
        if arg.extensions != 0 || arg.reserved != [0; 2] || arg.query > DRM_XE_DEVICE_QUERY_EU_STALL {
            return Err(Errno::EINVAL);
        }
        let answer = match arg.query {
            DRM_XE_DEVICE_QUERY_ENGINES => self.engines(),
            DRM_XE_DEVICE_QUERY_MEM_REGIONS => self.regions(),
            DRM_XE_DEVICE_QUERY_CONFIG => self.config_words(),
            DRM_XE_DEVICE_QUERY_GT_LIST => self.gts(),
            // What a device without the table answers.
            DRM_XE_DEVICE_QUERY_HWCONFIG => Vec::new(),
            // Tables of real hardware, which nothing stands behind here.
            _ => return Err(Errno::ENODEV),
        };
        if arg.size == 0 {
            arg.size = answer.len() as u32;
            return Ok(());
        }
        if arg.size as usize != answer.len() {
            return Err(Errno::EINVAL);
        }
        access.copy_to(arg.data, &answer).map_err(|errno| match arg.query {
            DRM_XE_DEVICE_QUERY_MEM_REGIONS => Errno::ENOSPC,
            _ => errno,
        })
    }

    fn engines(&self) -> Vec<u8> {
        let engines = self.engine_list();
        let records: Vec<Engine> =
            engines.iter().map(|&instance| Engine { instance, ..Default::default() }).collect();
        list(records.len(), bytemuck::cast_slice(&records))
    }

    /// The engines that work can be submitted to. One copy engine of each tile is the driver's own and not listed.
    pub(super) fn engine_list(&self) -> Vec<EngineClassInstance> {
        let tiles = self.gpu.config().tile_count() as u16;
        let one = |engine_class, engine_instance, gt_id| EngineClassInstance {
            engine_class,
            engine_instance,
            gt_id,
            pad: 0,
        };
        let mut engines = Vec::new();
        for tile in 0..tiles {
            let (main, media) = (2 * tile, 2 * tile + 1);
            engines.push(one(DRM_XE_ENGINE_CLASS_RENDER, 0, main));
            engines.push(one(DRM_XE_ENGINE_CLASS_COPY, 0, main));
            // The driver gives all of the compute hardware to one engine unless it is told otherwise (`ccs_mode`).
            engines.push(one(DRM_XE_ENGINE_CLASS_COMPUTE, 0, main));
            engines.push(one(DRM_XE_ENGINE_CLASS_VIDEO_DECODE, 0, media));
            engines.push(one(DRM_XE_ENGINE_CLASS_VIDEO_ENHANCE, 0, media));
        }
        engines
    }

    fn regions(&self) -> Vec<u8> {
        let config = self.gpu.config();
        let facts = config.facts();
        let memory = rustix::system::sysinfo();
        let total = memory.totalram as u64 * u64::from(memory.mem_unit);
        let mut records = vec![MemRegion {
            mem_class: DRM_XE_MEM_REGION_CLASS_SYSMEM,
            instance: 0,
            min_page_size: page_size() as u32,
            // What TTM takes for its pool of system memory.
            total_size: total / 2,
            ..Default::default()
        }];
        for pagemap in self.gpu.pagemaps() {
            let used = pagemap.used();
            let told = config.since(KernelVersion::V6_18);
            records.push(MemRegion {
                mem_class: DRM_XE_MEM_REGION_CLASS_VRAM,
                instance: pagemap.tile as u16 + 1,
                min_page_size: if facts.needs_64k { SIZE_64K } else { SIZE_4K } as u32,
                total_size: pagemap.bytes,
                used: if told { used } else { 0 },
                cpu_visible_size: pagemap.bytes,
                cpu_visible_used: if told { used } else { 0 },
                ..Default::default()
            });
        }
        list(records.len(), bytemuck::cast_slice(&records))
    }

    fn config_words(&self) -> Vec<u8> {
        let config = self.gpu.config();
        let facts = config.facts();
        let mut flags = DRM_XE_QUERY_CONFIG_FLAG_HAS_LOW_LATENCY;
        if facts.discrete {
            flags |= DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM;
        }
        if facts.faults {
            flags |= DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR;
        }
        if facts.xe2_or_newer && config.since(KernelVersion::V7_0) {
            flags |= DRM_XE_QUERY_CONFIG_FLAG_HAS_NO_COMPRESSION_HINT;
        }
        if config.since(KernelVersion::V7_1) {
            flags |= DRM_XE_QUERY_CONFIG_FLAG_HAS_PURGING_SUPPORT;
        }
        let words = [
            u64::from(facts.device_id) | u64::from(facts.revision) << 16,
            flags,
            if facts.needs_64k { SIZE_64K } else { SIZE_4K },
            u64::from(facts.va_bits),
            // A simulated process has no CAP_SYS_NICE.
            1,
        ];
        list(words.len(), bytemuck::cast_slice(&words))
    }

    fn gts(&self) -> Vec<u8> {
        let config = self.gpu.config();
        let facts = config.facts();
        let mask = u64::from(config.region_mask());
        let mut records = Vec::new();
        for tile in 0..config.tile_count() as u16 {
            let near = if facts.discrete { 1 << (tile + 1) } else { 1 };
            for (kind, ip) in
                [(DRM_XE_QUERY_GT_TYPE_MAIN, facts.graphics), (DRM_XE_QUERY_GT_TYPE_MEDIA, facts.media)]
            {
                records.push(Gt {
                    gt_type: kind,
                    tile_id: tile,
                    gt_id: 2 * tile + kind,
                    reference_clock: 19_200_000,
                    near_mem_regions: near,
                    far_mem_regions: mask ^ near,
                    ip_ver_major: ip.major,
                    ip_ver_minor: ip.minor,
                    ip_ver_rev: ip.revision,
                    ..Default::default()
                });
            }
        }
        list(records.len(), bytemuck::cast_slice(&records))
    }
}

/// The 8-byte head and the elements behind it.
fn list(count: usize, elements: &[u8]) -> Vec<u8> {
    let mut answer = (count as u64).to_ne_bytes().to_vec();
    answer.extend_from_slice(elements);
    answer
}
