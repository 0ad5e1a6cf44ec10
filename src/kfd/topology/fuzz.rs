//! Trees that no kernel shows: damaged, with files missing, with names of any kind. `DRM_PAGEMAP_FUZZ_SECONDS` makes the search as
//! long as one likes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Topology, TopologySource};
use crate::kfd::fuzzing::{Damage, damage, search};

/// A tree as one text: a path, a line end, the content, and a line of dashes.
const TREE: &str = "generation_id\n2\n----\n\
nodes/0/gpu_id\n0\n----\n\
nodes/0/name\n\n----\n\
nodes/0/properties\ncpu_cores_count 2\nsimd_count 0\ndrm_render_minor 0\n----\n\
nodes/0/mem_banks/0/properties\nheap_type 0\nsize_in_bytes 2100473856\n----\n\
nodes/1/gpu_id\n62055\n----\n\
nodes/1/name\naldebaran\n----\n\
nodes/1/properties\nsimd_count 416\ngfx_target_version 90010\nvendor_id 4098\ndevice_id 29704\nlocation_id 8\n\
domain 0\ndrm_render_minor 128\nhive_id 16\nnum_sdma_engines 5\ncapability 671327872\n----\n\
nodes/1/mem_banks/0/properties\nheap_type 1\nsize_in_bytes 1073741824\n----\n\
nodes/1/mem_banks/1/properties\nheap_type 2\nsize_in_bytes 1073741824\n----\n\
nodes/1/io_links/0/properties\ntype 2\nnode_from 1\nnode_to 0\nweight 20\n----\n\
nodes/1/p2p_links/0/properties\ntype 11\nnode_from 1\nnode_to 2\nweight 15\n";

fn tree(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let files = text.split("----\n").filter_map(|file| file.split_once('\n'));
    files.map(|(path, content)| (path.to_owned(), content.to_owned())).collect()
}

fn read(text: &[u8]) -> crate::Result<Topology> {
    Topology::read(&TopologySource::Tree(Arc::new(tree(text))))
}

#[test]
fn the_tree_of_the_start_has_a_gpu() {
    assert_eq!(read(TREE.as_bytes()).unwrap().svm_gpus().count(), 1);
}

#[test]
fn no_tree_does_harm() {
    let strategy = damage(TREE.as_bytes(), b"0123456789 \n-/_abcnodesx\0\xff");
    search("topologies", strategy, |damages| {
        let text = Damage::all(&damages, TREE.as_bytes());
        let Ok(topology) = read(&text) else { return Ok(()) };
        prop_assert_eq!(&topology, &read(&text).unwrap(), "the same tree says the same");
        for node in topology.nodes() {
            let Some(gpu) = node.gpu_id() else { continue };
            prop_assert!(topology.gpu(gpu).is_some() && topology.are_linked(gpu, gpu));
            let _ = (node.vram_bytes(), node.has_large_bar(), node.render_node(), node.pci_location());
            let _ = (node.gfx_version().map(|gfx| gfx.to_string()), node.hive_id(), node.sdma_engines());
            for other in topology.gpus().filter_map(super::Node::gpu_id) {
                prop_assert_eq!(topology.are_linked(gpu, other), topology.are_linked(other, gpu));
            }
        }
        Ok(())
    });
}
