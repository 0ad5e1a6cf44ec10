//! A device behind its socket, with the client side of the protocol in place of QEMU.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
};
use vfio_user::Client;
use vgpu::board::Board;
use vgpu::function::Function;
use vgpu::inject::Kind;
use vgpu::mem::{Dma, Place};
use vgpu::pci::Peers;
use vgpu::profile::Profile;
use vgpu::transport::listen;
use vgpu::xe::XeDevice;

struct Served {
    client: Client,
    function: Arc<Function>,
    server: JoinHandle<anyhow::Result<()>>,
    folder: PathBuf,
}

fn serve(name: &str) -> Served {
    let folder = std::env::temp_dir().join(format!("vgpu-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let board = Arc::new(Board::new(0, 1, Arc::new(Peers::default())));
    let device = Arc::new(XeDevice::new(board.clone(), &Profile::default()).unwrap());
    let function = Arc::new(Function::new(board, device));
    let listener = listen(&path, function.clone()).unwrap();
    let server = std::thread::spawn(move || listener.serve());
    Served { client: Client::new(&path).unwrap(), function, server, folder }
}

impl Served {
    fn config(&mut self, at: u64) -> u32 {
        self.read(VFIO_PCI_CONFIG_REGION_INDEX, at)
    }

    fn set_config(&mut self, at: u64, value: u32) {
        self.client.region_write(VFIO_PCI_CONFIG_REGION_INDEX, at, &value.to_le_bytes()).unwrap();
    }

    fn read(&mut self, region: u32, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.client.region_read(region, at, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    }

    fn capability(&mut self, id: u32) -> u64 {
        let mut at = u64::from(self.config(0x34) & 0xff);
        while at != 0 {
            let header = self.config(at);
            if header & 0xff == id {
                return at;
            }
            at = u64::from(header >> 8 & 0xff);
        }
        panic!("no capability {id:#x}");
    }

    fn end(self) {
        drop(self.client);
        self.server.join().unwrap().expect("a closed connection is the usual end");
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

#[test]
fn identity_registers_and_windows() {
    let mut s = serve("identity");
    assert_eq!(s.config(0), 0xe20b_8086);
    assert_eq!(s.read(0, 0xd8c), 20 << 22 | 1 << 14 | 4);
    s.client.region_write(0, 0xa188, &0x0001_0001u32.to_le_bytes()).unwrap();
    assert_eq!(s.read(0, 0xdfc), 1, "the domain is awake");
    let areas = |region: u32| {
        let region = s.client.region(region).unwrap();
        let areas = region.sparse_areas.iter().map(|a| (a.offset, a.size)).collect::<Vec<_>>();
        (region.size, region.file_offset.is_some(), areas)
    };
    assert_eq!(areas(0), (16 << 20, true, vec![(8 << 20, 8 << 20)]));
    assert_eq!(areas(2), (1 << 30, true, vec![(0, 1 << 30)]));
    // What is not mapped goes the same way as what is.
    s.client.region_write(2, 0x1234_5678, &[1, 2, 3, 4]).unwrap();
    assert_eq!(s.read(2, 0x1234_5678), 0x0403_0201);
    s.end();
}

#[test]
fn guest_memory_and_interrupts() {
    let mut s = serve("memory");
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, 1 << 20).unwrap();
    s.client.dma_map(0x1000, 0x10_0000, 0x2000, memory.as_raw_fd()).unwrap();
    let span = s.function.board().resolve(Dma(0x10_1000)).unwrap();
    assert_eq!((span.place(), span.len()), (Some(Place::System), 0x1000));
    s.client.dma_unmap(0x10_0000, 0x2000).unwrap();
    assert!(s.function.board().resolve(Dma(0x10_1000)).is_none());

    let event: OwnedFd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    s.client.set_irqs(VFIO_PCI_MSI_IRQ_INDEX, flags, 0, 1, &[event.as_raw_fd()]).unwrap();
    s.function.board().interrupt();
    let mut count = [0; 8];
    File::from(event).read_exact(&mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
    s.end();
}

#[test]
fn mailbox_and_unplugging() {
    let mut s = serve("mailbox");
    let at = s.capability(0x09);
    assert_eq!(s.config(at + 4).to_le_bytes(), *b"VGPU");
    s.set_config(at + 0x0c, Kind::JobHang as u32);
    s.set_config(at + 0x08, 1);
    assert_eq!(s.config(at + 8), 1 << 16);
    assert_eq!(s.function.board().injector.waiting(Some(Kind::JobHang)), 1);

    s.set_config(at + 0x08, 5);
    assert_eq!((s.config(0), s.read(0, 0xd8c)), (u32::MAX, u32::MAX));
    assert_eq!(s.config(at + 4).to_le_bytes(), *b"VGPU", "the way back");
    s.client.region_write(0, 0x4800, &[1, 2, 3, 4]).unwrap();
    s.set_config(at + 0x08, 6);
    assert_eq!((s.config(0), s.read(0, 0x4800)), (0xe20b_8086, 0));
    s.end();
}

#[test]
fn memory_bar_is_visible_to_peers_while_it_is_decoded() {
    let mut s = serve("peers");
    let at = Dma(0x70_4000_0000);
    s.set_config(0x18, 0x4000_0000);
    s.set_config(0x1c, 0x70);
    assert!(s.function.board().peers.resolve(1, at).is_none(), "decoding is off");
    s.client.region_write(VFIO_PCI_CONFIG_REGION_INDEX, 0x04, &[0x06, 0x00]).unwrap();
    let span = s.function.board().peers.resolve(1, at).unwrap();
    assert_eq!((span.place(), span.len()), (Some(Place::Peer), 1 << 30));
    s.set_config(0x18, u32::MAX);
    s.set_config(0x1c, u32::MAX);
    assert!(s.function.board().peers.resolve(1, at).is_none(), "its size is being probed");
    s.end();
}
