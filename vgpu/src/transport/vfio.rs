//! A vfio-user server: QEMU's `vfio-user-pci` is the client.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_PCI_ROM_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info, vfio_region_sparse_mmap_area,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion, SparseArea};

use crate::function::Function;
use crate::mem::Dma;
use crate::pci::{CONFIG_SIZE, Layout};

/// A device that waits for QEMU.
pub struct Listener {
    server: Server,
    function: Arc<Function>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("function", &self.function).finish_non_exhaustive()
    }
}

/// Offers a device at a socket. The file must not exist; it goes away when the listener is dropped.
pub fn listen(path: &Path, function: Arc<Function>) -> anyhow::Result<Listener> {
    let layout = function.device().layout();
    let server = Server::new(path, true, interrupts(), regions(layout))
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    Ok(Listener { server, function })
}

impl Listener {
    /// Serves one connection until QEMU closes it.
    pub fn serve(&self) -> anyhow::Result<()> {
        let mut backend = Backend { function: self.function.clone() };
        match self.server.run(&mut backend) {
            Ok(()) => Ok(()),
            // QEMU ends by closing the socket, sometimes in the middle of an answer.
            Err(vfio_user::Error::StreamWrite(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(vfio_user::Error::ReceiveWithFd(e)) if e.errno() == CONNECTION_RESET => Ok(()),
            Err(e) => Err(e).context("connection to QEMU"),
        }
    }
}

/// ECONNRESET.
const CONNECTION_RESET: i32 = 104;

fn interrupts() -> Vec<IrqInfo> {
    let info = |index| match index {
        VFIO_PCI_MSI_IRQ_INDEX => {
            IrqInfo { index, count: 1, flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE }
        }
        _ => IrqInfo { index, count: 0, flags: 0 },
    };
    (0..VFIO_PCI_NUM_IRQS).map(info).collect()
}

fn regions(layout: &Layout) -> Vec<ServerRegion> {
    (0..VFIO_PCI_NUM_REGIONS).map(|index| region(layout, index)).collect()
}

fn region(layout: &Layout, index: u32) -> ServerRegion {
    let both = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    let bar = layout.bars.iter().find(|b| u32::from(b.index) == index);
    let (size, flags) = match (index, bar) {
        (VFIO_PCI_CONFIG_REGION_INDEX, _) => (CONFIG_SIZE as u64, both),
        (VFIO_PCI_ROM_REGION_INDEX, _) if !layout.rom.is_empty() => {
            (layout.rom.len() as u64, VFIO_REGION_INFO_FLAG_READ)
        }
        (_, Some(bar)) => (bar.size, both),
        _ => (0, 0),
    };
    let mut info = vfio_region_info {
        argsz: size_of::<vfio_region_info>() as u32,
        index,
        size,
        flags,
        ..Default::default()
    };
    // A descriptor is only sent together with areas, so a BAR that is mapped whole has one area too.
    let windows: Vec<_> = layout.windows.iter().filter(|w| u32::from(w.bar) == index).collect();
    if !windows.is_empty() {
        info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
    }
    let area = |w: &&crate::pci::Window| SparseArea {
        area: vfio_region_sparse_mmap_area { offset: w.offset, size: w.size },
    };
    ServerRegion {
        region_info: info,
        sparse_areas: windows.iter().map(area).collect(),
        mmap_fd: windows.first().map(|w| w.mapping.raw_fd()),
    }
}

/// Passes messages on.
struct Backend {
    function: Arc<Function>,
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.function.read_config(offset, data),
            VFIO_PCI_ROM_REGION_INDEX => self.function.read_rom(offset, data),
            bar => self.function.read_bar(bar as u8, offset, data),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.function.write_config(offset, data),
            VFIO_PCI_ROM_REGION_INDEX => {}
            bar => self.function.write_bar(bar as u8, offset, data),
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        // Without a descriptor it is the BAR of another device, which is reached as a peer.
        let Some(file) = fd else { return Ok(()) };
        let (at, bytes) = (format_args!("{address:#x}"), format_args!("{size:#x}"));
        tracing::debug!(target: "pci", at, bytes, offset, ?flags, "guest memory");
        let writable = flags.contains(DmaMapFlags::WRITE);
        self.function.map_dma(Dma(address), file, offset, size, writable)
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.function.unmap_dma(Dma(0), u64::MAX);
        } else {
            self.function.unmap_dma(Dma(address), size);
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.function.reset();
        Ok(())
    }

    fn set_irqs(&mut self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        tracing::debug!(target: "pci", index, flags, start, count, fds = fds.len(), "interrupt lines");
        if index == VFIO_PCI_MSI_IRQ_INDEX {
            self.function.board().msi.connect(if count > 0 { fds.into_iter().next() } else { None });
        }
        Ok(())
    }
}
