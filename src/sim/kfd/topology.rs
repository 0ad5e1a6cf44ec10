//! The topology that a simulated KFD shows in sysfs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kfd::TopologySource;
use crate::sim::kfd::config::{GpuConfig, KfdConfig};
use crate::uapi::kfd as abi;

/// One CPU node, and one node for each GPU. GPUs in `removed` (by index) are gone; each change raised the generation.
pub(super) fn tree(config: &KfdConfig, removed: &[usize], generation: u64) -> TopologySource {
    let mut files = BTreeMap::new();
    let mut file = |path: String, text: String| {
        files.insert(path, text);
    };
    file("generation_id".into(), format!("{generation}\n"));
    file("system_properties".into(), "platform_oem 0\nplatform_id 0\nplatform_rev 0\n".into());
    file("nodes/0/gpu_id".into(), "0\n".into());
    file("nodes/0/name".into(), "\n".into());
    file(
        "nodes/0/properties".into(),
        "cpu_cores_count 2\nsimd_count 0\nmem_banks_count 1\ngfx_target_version 0\nvendor_id 0\n\
         device_id 0\ndrm_render_minor 0\nhive_id 0\n"
            .into(),
    );
    file(
        "nodes/0/mem_banks/0/properties".into(),
        "heap_type 0\nsize_in_bytes 8589934592\nflags 0\nwidth 64\nmem_clk_max 0\n".into(),
    );
    let present: Vec<&GpuConfig> = config
        .gpus
        .iter()
        .enumerate()
        .filter(|(index, _)| !removed.contains(index))
        .map(|(_, gpu)| gpu)
        .collect();
    for (gpu, node) in present.iter().zip(1..) {
        let path = |name: &str| format!("nodes/{node}/{name}");
        file(path("properties"), if gpu.visible { properties(config, gpu) } else { String::new() });
        if !gpu.visible {
            continue;
        }
        file(path("gpu_id"), format!("{}\n", gpu.gpu_id));
        file(path("name"), format!("{}\n", gpu.name));
        let heap =
            if gpu.large_bar { abi::HSA_MEM_HEAP_TYPE_FB_PUBLIC } else { abi::HSA_MEM_HEAP_TYPE_FB_PRIVATE };
        file(
            path("mem_banks/0/properties"),
            format!("heap_type {heap}\nsize_in_bytes {}\nflags 0\nwidth 4096\nmem_clk_max 1600\n", gpu.vram),
        );
        file(path("io_links/0/properties"), link(2, node, 0, 20));
        let linked = present
            .iter()
            .zip(1..)
            .filter(|(other, to)| *to != node && gpu.hive_id != 0 && other.hive_id == gpu.hive_id);
        for ((_, to), index) in linked.zip(1..) {
            file(path(&format!("io_links/{index}/properties")), link(11, node, to, 15));
        }
    }
    TopologySource::Tree(Arc::new(files))
}

fn properties(config: &KfdConfig, gpu: &GpuConfig) -> String {
    let gfx = gpu.gfx.major * 10_000 + gpu.gfx.minor * 100 + gpu.gfx.stepping;
    let capability = if gpu.svm && config.kernel.svm { abi::HSA_CAP_SVMAPI_SUPPORTED } else { 0 };
    format!(
        "cpu_cores_count 0\nsimd_count 416\nmem_banks_count 1\nio_links_count 1\ngfx_target_version {gfx}\nvendor_id 4098\n\
         device_id {}\nlocation_id {}\ndomain 0\ndrm_render_minor {}\nhive_id {}\nnum_sdma_engines {}\n\
         num_sdma_xgmi_engines 0\nnum_sdma_queues_per_engine {}\nmax_engine_clk_fcompute 1700\nlocal_mem_size 0\n\
         fw_version 0\ncapability {capability}\nsdma_fw_version 0\nunique_id {}\nnum_xcc 1\nmax_engine_clk_ccompute 0\n",
        gpu.device_id,
        (gpu.device + 1) << 8,
        gpu.render_minor,
        gpu.hive_id,
        gpu.sdma.0,
        gpu.sdma.1,
        gpu.gpu_id,
    )
}

fn link(kind: u32, from: u32, to: u32, weight: u32) -> String {
    format!(
        "type {kind}\nversion_major 0\nversion_minor 0\nnode_from {from}\nnode_to {to}\nweight {weight}\nflags 1\n"
    )
}
