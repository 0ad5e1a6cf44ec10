//! One node of the topology: the CPU, a GPU, or a partition of one.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;

use crate::kfd::GpuId;

/// The numbers of one `properties` file, by the kernel's key.
///
/// Kernels add keys and leave out others, so every number is optional; unknown keys are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(
    /// Ascending by key.
    Vec<(String, u64)>,
);

impl Properties {
    /// Reads lines of `key value` with decimal values. Lines of any other form are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut properties = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
            let Ok(value) = value.parse() else { continue };
            match properties.find(key) {
                Ok(at) => properties.0[at].1 = value,
                Err(at) => properties.0.insert(at, (key.to_owned(), value)),
            }
        }
        properties
    }

    /// The number of `key`, or `None` when this kernel does not report it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<u64> {
        self.find(key).ok().map(|at| self.0[at].1)
    }

    /// Every key and number, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(key, value)| (key.as_str(), *value))
    }

    /// Where a key is, or would be.
    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(key))
    }

    fn narrow(&self, key: &str) -> Option<u32> {
        self.get(key).and_then(|value| u32::try_from(value).ok())
    }
}

bitflags::bitflags! {
    /// The `capability` word of a GPU node: the bits that matter to shared virtual memory. Others are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Capability: u32 {
        /// The SVM ioctl works for this GPU (`HSA_CAP_SVMAPI_SUPPORTED`). Appears a moment after the driver has bound, and
        /// a process that opened `/dev/kfd` before keeps its older view.
        #[doc(alias = "HSA_CAP_SVMAPI_SUPPORTED")]
        const SVM = 0x0800_0000;
        /// The CPU can access the GPU's memory coherently (`HSA_CAP_FLAGS_COHERENTHOSTACCESS`).
        #[doc(alias = "HSA_CAP_FLAGS_COHERENTHOSTACCESS")]
        const COHERENT_HOST_ACCESS = 0x1000_0000;
        const _ = !0;
    }
}

/// The instruction set generation of a GPU, as in `gfx90a` or `gfx1100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GfxVersion {
    /// 9 in `gfx90a`, 11 in `gfx1100`.
    pub major: u32,
    /// 0 in `gfx90a`, 1 in `gfx1100`.
    pub minor: u32,
    /// 10 in `gfx90a`, 0 in `gfx1100`.
    pub stepping: u32,
}

impl GfxVersion {
    /// From the decimal digits of `gfx_target_version`: `major * 10000 + minor * 100 + stepping`. 0 is no GPU.
    #[must_use]
    pub fn from_decimal(version: u64) -> Option<Self> {
        let version = u32::try_from(version).ok().filter(|&version| version != 0)?;
        Some(Self { major: version / 10_000, minor: version / 100 % 100, stepping: version % 100 })
    }
}

impl fmt::Display for GfxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gfx{}{}{:x}", self.major, self.minor, self.stepping)
    }
}

/// What kind of memory a bank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeapType {
    /// System memory of a CPU node.
    System,
    /// VRAM that the CPU can reach as a whole (large BAR). A GPU that computes in system memory reports its share here.
    FrameBufferPublic,
    /// VRAM that the CPU cannot reach, or only in part.
    FrameBufferPrivate,
    /// Any other number.
    Other(u64),
}

/// One bank of memory of a node (`mem_banks/<i>/properties`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBank {
    /// What kind of memory it is.
    pub heap: HeapType,
    /// Size in bytes.
    pub bytes: u64,
    /// Every number the kernel reports of it.
    pub properties: Properties,
}

impl MemoryBank {
    pub(super) fn new(properties: Properties) -> Option<Self> {
        let heap = match properties.get("heap_type")? {
            0 => HeapType::System,
            1 => HeapType::FrameBufferPublic,
            2 => HeapType::FrameBufferPrivate,
            other => HeapType::Other(other),
        };
        Some(Self { heap, bytes: properties.get("size_in_bytes").unwrap_or(0), properties })
    }
}

/// What connects two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkType {
    /// PCI Express.
    Pcie,
    /// XGMI, AMD's fabric between GPUs (and some CPUs).
    Xgmi,
    /// Any other number.
    Other(u64),
}

/// A link from one node to another (`io_links` and `p2p_links`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoLink {
    /// What kind of link it is.
    pub link: LinkType,
    /// Index of the node at this end.
    pub from: u32,
    /// Index of the node at the other end.
    pub to: u32,
    /// The kernel's distance; smaller is nearer.
    pub weight: u64,
    /// Every number the kernel reports of it.
    pub properties: Properties,
}

impl IoLink {
    pub(super) fn new(properties: Properties) -> Option<Self> {
        let link = match properties.get("type")? {
            2 => LinkType::Pcie,
            11 => LinkType::Xgmi,
            other => LinkType::Other(other),
        };
        Some(Self {
            link,
            from: properties.narrow("node_from")?,
            to: properties.narrow("node_to")?,
            weight: properties.get("weight").unwrap_or(0),
            properties,
        })
    }
}

/// One node: a CPU socket, a GPU, or one partition of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub(super) index: u32,
    pub(super) gpu_id: Option<GpuId>,
    pub(super) name: String,
    pub(super) properties: Properties,
    pub(super) memory_banks: Vec<MemoryBank>,
    pub(super) io_links: Vec<IoLink>,
    pub(super) p2p_links: Vec<IoLink>,
}

impl Node {
    /// The node's number: the directory's name. Not what SVM calls want; that is [`gpu_id`](Self::gpu_id).
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The GPU's number in KFD calls; `None` for a CPU node.
    #[must_use]
    pub fn gpu_id(&self) -> Option<GpuId> {
        self.gpu_id
    }

    /// The chip's internal name in lower case (`aldebaran`); empty for CPU nodes and where the kernel does not say.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every number the kernel reports of the node.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The capability word; empty where the kernel reports none.
    #[must_use]
    pub fn capability(&self) -> Capability {
        Capability::from_bits_retain(self.properties.narrow("capability").unwrap_or(0))
    }

    /// Whether the SVM ioctl works for this GPU.
    #[must_use]
    #[doc(alias = "HSA_CAP_SVMAPI_SUPPORTED")]
    pub fn is_svm_capable(&self) -> bool {
        self.gpu_id.is_some() && self.capability().contains(Capability::SVM)
    }

    /// The minor number of the DRM render node, as in `/dev/dri/renderD128`.
    #[must_use]
    pub fn drm_render_minor(&self) -> Option<u32> {
        self.gpu_id?;
        self.properties.narrow("drm_render_minor").filter(|&minor| minor != 0)
    }

    /// Path of the DRM render node.
    #[must_use]
    pub fn render_node(&self) -> Option<PathBuf> {
        self.drm_render_minor().map(|minor| PathBuf::from(format!("/dev/dri/renderD{minor}")))
    }

    /// The instruction set generation.
    #[must_use]
    pub fn gfx_version(&self) -> Option<GfxVersion> {
        self.properties.get("gfx_target_version").and_then(GfxVersion::from_decimal)
    }

    /// PCI vendor.
    #[must_use]
    pub fn vendor_id(&self) -> Option<u32> {
        self.properties.narrow("vendor_id").filter(|&id| id != 0)
    }

    /// PCI device.
    #[must_use]
    pub fn device_id(&self) -> Option<u32> {
        self.properties.narrow("device_id").filter(|&id| id != 0)
    }

    /// PCI address: the domain, and bus, device and function as `bus << 8 | device << 3 | function`.
    #[must_use]
    pub fn pci_location(&self) -> Option<(u32, u32)> {
        self.gpu_id?;
        Some((self.properties.narrow("domain").unwrap_or(0), self.properties.narrow("location_id")?))
    }

    /// The XGMI hive the GPU belongs to. GPUs of one hive reach each other's VRAM.
    #[must_use]
    pub fn hive_id(&self) -> Option<NonZeroU64> {
        self.properties.get("hive_id").and_then(NonZeroU64::new)
    }

    /// How many SDMA engines user queues may use.
    #[must_use]
    pub fn sdma_engines(&self) -> u64 {
        self.properties.get("num_sdma_engines").unwrap_or(0)
    }

    /// Memory banks.
    #[must_use]
    pub fn memory_banks(&self) -> &[MemoryBank] {
        &self.memory_banks
    }

    /// Links to other nodes over PCIe or XGMI.
    #[must_use]
    pub fn io_links(&self) -> &[IoLink] {
        &self.io_links
    }

    /// Links to other GPUs through the CPU's root complex.
    #[must_use]
    pub fn p2p_links(&self) -> &[IoLink] {
        &self.p2p_links
    }

    /// Size of the GPU's VRAM in bytes. A GPU that computes in system memory reports its share of that.
    #[must_use]
    pub fn vram_bytes(&self) -> u64 {
        self.memory_banks
            .iter()
            .filter(|bank| matches!(bank.heap, HeapType::FrameBufferPublic | HeapType::FrameBufferPrivate))
            .fold(0, |sum: u64, bank| sum.saturating_add(bank.bytes))
    }

    /// Whether the CPU can reach all of the GPU's VRAM.
    #[must_use]
    pub fn has_large_bar(&self) -> bool {
        self.memory_banks.iter().any(|bank| bank.heap == HeapType::FrameBufferPublic)
    }
}
