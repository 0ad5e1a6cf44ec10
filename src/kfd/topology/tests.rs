use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// A CPU, and an MI200 with the fields of a 7.3 kernel (numbers of an emulated device, `sched_policy=2`).
fn two_nodes() -> BTreeMap<String, String> {
    [
        ("generation_id", "2\n"),
        ("system_properties", "platform_oem 0\n"),
        ("nodes/0/gpu_id", "0\n"),
        ("nodes/0/name", "\n"),
        ("nodes/0/properties", "cpu_cores_count 2\nsimd_count 0\ngfx_target_version 0\nvendor_id 0\ndrm_render_minor 0\n"),
        ("nodes/0/mem_banks/0/properties", "heap_type 0\nsize_in_bytes 2100473856\nflags 0\nwidth 64\nmem_clk_max 0\n"),
        ("nodes/1/gpu_id", "62055\n"),
        ("nodes/1/name", "aldebaran\n"),
        (
            "nodes/1/properties",
            "cpu_cores_count 0\nsimd_count 416\ngfx_target_version 90010\nvendor_id 4098\ndevice_id 29704\nlocation_id 8\n\
             domain 0\ndrm_render_minor 128\nhive_id 16\nnum_sdma_engines 5\nlocal_mem_size 0\ncapability 671327872\n\
             a_key_of_tomorrow 7\nnot_a_number x\nmax_engine_clk_ccompute 0\n",
        ),
        ("nodes/1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 1073741824\nflags 0\n"),
        ("nodes/1/mem_banks/1/properties", "heap_type 9\nsize_in_bytes 5\n"),
        ("nodes/1/io_links/0/properties", "type 2\nnode_from 1\nnode_to 0\nweight 20\nmax_bandwidth 16000\n"),
        ("nodes/1/p2p_links/0/properties", "type 11\nnode_from 1\nnode_to 2\nweight 15\n"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into()
}

fn topology(tree: BTreeMap<String, String>) -> Result<Topology> {
    Topology::read(&TopologySource::Tree(Arc::new(tree)))
}

#[test]
fn a_tree_of_a_cpu_and_a_gpu() {
    let topology = topology(two_nodes()).unwrap();
    assert_eq!((topology.generation(), topology.nodes().len()), (2, 2));
    assert!(topology.denied_nodes().is_empty());
    let cpu = &topology.nodes()[0];
    assert_eq!((cpu.index(), cpu.gpu_id(), cpu.drm_render_minor(), cpu.vram_bytes()), (0, None, None, 0));
    assert_eq!(cpu.memory_banks()[0].heap, HeapType::System);
    assert!(!cpu.is_svm_capable() && cpu.gfx_version().is_none());

    let gpus: Vec<_> = topology.svm_gpus().collect();
    let [gpu] = gpus.as_slice() else { panic!("{gpus:?}") };
    assert_eq!(gpu.gpu_id(), GpuId::new(62055));
    assert_eq!(gpu.name(), "aldebaran");
    assert_eq!(gpu.gfx_version().unwrap().to_string(), "gfx90a");
    assert_eq!(gpu.render_node().unwrap(), Path::new("/dev/dri/renderD128"));
    assert_eq!((gpu.vendor_id(), gpu.device_id()), (Some(0x1002), Some(0x7408)));
    assert_eq!((gpu.pci_location(), gpu.hive_id().unwrap().get()), (Some((0, 8)), 16));
    assert_eq!((gpu.vram_bytes(), gpu.has_large_bar(), gpu.sdma_engines()), (1 << 30, true, 5));
    assert_eq!(gpu.memory_banks()[1].heap, HeapType::Other(9));
    assert_eq!((gpu.io_links()[0].link, gpu.io_links()[0].to), (LinkType::Pcie, 0));
    assert_eq!((gpu.p2p_links()[0].link, gpu.p2p_links()[0].weight), (LinkType::Xgmi, 15));
    assert_eq!(gpu.properties().get("a_key_of_tomorrow"), Some(7));
    assert_eq!(gpu.properties().get("not_a_number"), None);
}

#[test]
fn the_capability_bit_decides_about_svm() {
    let mut tree = two_nodes();
    let properties = tree.get_mut("nodes/1/properties").unwrap();
    *properties = properties.replace("capability 671327872", "capability 537110144");
    let topology = topology(tree).unwrap();
    assert_eq!((topology.gpus().count(), topology.svm_gpus().count()), (1, 0));
}

#[test]
fn missing_keys_and_lists_are_no_error() {
    let mut tree = two_nodes();
    tree.retain(|path, _| !path.contains("links") && !path.contains("mem_banks") && !path.ends_with("name"));
    tree.insert("nodes/1/properties".into(), "capability 134217728".into());
    let topology = topology(tree).unwrap();
    let gpu = topology.svm_gpus().next().unwrap();
    assert_eq!((gpu.name(), gpu.vram_bytes(), gpu.render_node(), gpu.hive_id()), ("", 0, None, None));
    assert!(topology.are_linked(gpu.gpu_id().unwrap(), gpu.gpu_id().unwrap()));
}

#[test]
fn names_of_generations() {
    for (version, name) in
        [(90_010, "gfx90a"), (90_402, "gfx942"), (110_000, "gfx1100"), (120_001, "gfx1201")]
    {
        assert_eq!(GfxVersion::from_decimal(version).unwrap().to_string(), name);
    }
    assert_eq!(GfxVersion::from_decimal(0), None);
}

#[test]
fn linked_means_same_device_or_same_hive() {
    let mut tree = two_nodes();
    for (node, gpu_id, location, hive) in [(2, 7, 8, 0), (3, 8, 9, 16), (4, 9, 10, 0)] {
        tree.insert(format!("nodes/{node}/gpu_id"), gpu_id.to_string());
        tree.insert(
            format!("nodes/{node}/properties"),
            format!("domain 0\nlocation_id {location}\nhive_id {hive}"),
        );
    }
    let topology = topology(tree).unwrap();
    let linked = |b| topology.are_linked(GpuId::new(62055).unwrap(), GpuId::new(b).unwrap());
    assert_eq!([7, 8, 9, 1234].map(linked), [true, true, false, false]);
}

#[test]
fn a_machine_without_kfd() {
    for source in [TopologySource::Tree(Arc::default()), TopologySource::Sysfs("/nonexistent".into())] {
        let error = Topology::read(&source).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(Errno::ENOENT)));
        assert!(error.hint().unwrap().contains("amdgpu"));
    }
}

#[test]
fn a_node_denied_by_the_cgroup_is_reported_and_the_others_are_read() {
    let mut tree = two_nodes();
    tree.insert("nodes/2/properties".into(), String::new());
    assert_eq!(topology(tree).unwrap().denied_nodes(), [2]);
}

#[test]
fn a_copy_of_sysfs_reads_like_the_tree() {
    let root = std::env::temp_dir().join(format!("kfd-topology-{}", std::process::id()));
    for (path, text) in two_nodes() {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::create_dir_all(root.join("nodes/1/caches")).unwrap();
    let copied = Topology::read(&TopologySource::Sysfs(root.clone()));
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(copied.unwrap(), topology(two_nodes()).unwrap());
}

/// Answers like sysfs while GPUs come and go: the generation stands still only from the `stable_at`th look on.
struct Shifting {
    tree: TopologySource,
    looks: Cell<u64>,
    stable_at: u64,
    refuse: Option<(&'static str, Errno)>,
}

impl Files for Shifting {
    fn read(&self, path: &str) -> Result<String, Errno> {
        match self.refuse {
            Some((refused, errno)) if path == refused => return Err(errno),
            _ if path != "generation_id" => return self.tree.read(path),
            _ => {}
        }
        self.looks.set(self.looks.get() + 1);
        Ok(self.looks.get().min(self.stable_at).to_string())
    }

    fn numbers(&self, directory: &str) -> Result<Vec<u32>, Errno> {
        self.tree.numbers(directory)
    }
}

fn shifting(stable_at: u64, refuse: Option<(&'static str, Errno)>) -> (Result<Topology>, u64) {
    let files = Shifting {
        tree: TopologySource::Tree(Arc::new(two_nodes())),
        looks: Cell::new(0),
        stable_at,
        refuse,
    };
    let result = read(&files, "test");
    (result, files.looks.get())
}

#[test]
fn reads_until_the_generation_stands_still() {
    let (result, looks) = shifting(4, None);
    assert_eq!((result.unwrap().generation(), looks), (4, 6));
    let (result, looks) = shifting(u64::MAX, None);
    assert_eq!((result.unwrap_err().kind(), looks), (ErrorKind::TryAgain, 32));
}

#[test]
fn refused_files() {
    let eperm = shifting(1, Some(("nodes/1/properties", Errno::EPERM))).0.unwrap();
    assert_eq!((eperm.denied_nodes(), eperm.nodes().len()), (&[1][..], 1));
    let eacces = shifting(1, Some(("nodes/1/gpu_id", Errno::EACCES))).0.unwrap_err();
    assert_eq!(eacces.kind(), ErrorKind::PermissionDenied);
    assert!(eacces.reason().contains("nodes/1/gpu_id"), "{eacces}");
    let vanished = shifting(1, Some(("nodes/1/properties", Errno::ENOENT))).0.unwrap_err();
    assert_eq!(vanished.kind(), ErrorKind::NotFound);
}

#[test]
fn a_generation_that_is_no_number() {
    let mut tree = two_nodes();
    tree.insert("generation_id".into(), "soon\n".into());
    assert!(topology(tree).unwrap_err().reason().contains("soon"));
}

proptest! {
    #[test]
    fn no_text_panics(texts in proptest::collection::vec("(?s).{0,80}|[a-z_]{1,12} [0-9]{1,25}\n.{0,20}", 5)) {
        let mut tree = two_nodes();
        for (path, text) in ["nodes/1/gpu_id", "nodes/1/properties", "nodes/1/mem_banks/0/properties",
                             "nodes/1/io_links/0/properties", "nodes/1/name"].iter().zip(texts) {
            tree.insert((*path).into(), text);
        }
        let topology = topology(tree).unwrap();
        prop_assert_eq!(topology.nodes().len(), 2);
        let node = &topology.nodes()[1];
        let _ = (node.vram_bytes(), node.gfx_version(), node.drm_render_minor(), node.pci_location());
    }

    #[test]
    fn properties_keep_every_wellformed_line(pairs in proptest::collection::btree_map("[a-z_0-9]{1,16}", any::<u64>(), 0..20)) {
        let text: String = pairs.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let parsed = Properties::parse(&text);
        prop_assert!(parsed.iter().eq(pairs.iter().map(|(key, value)| (key.as_str(), *value))));
    }
}
