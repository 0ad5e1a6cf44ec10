//! A PCI function: configuration space, mailbox and presence around a device model.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::board::Board;
use crate::device::Device;
use crate::inject::{Mailbox, Request};
use crate::mem::{Dma, Mapping};
use crate::pci::ConfigSpace;

/// A device in its slot, as the transport talks to it.
#[derive(Debug)]
pub struct Function {
    board: Arc<Board>,
    device: Arc<dyn Device>,
    config: Mutex<ConfigSpace>,
    mailbox: Mutex<Mailbox>,
    present: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Function {
    /// Puts a device into a slot.
    pub fn new(board: Arc<Board>, device: Arc<dyn Device>) -> Function {
        let config = Function::config_space(&*device);
        let mailbox = Mailbox::new(board.index, board.devices);
        Function {
            board,
            device,
            config: Mutex::new(config),
            mailbox: Mutex::new(mailbox),
            present: AtomicBool::new(true),
        }
    }

    fn config_space(device: &dyn Device) -> ConfigSpace {
        let layout = device.layout();
        let mut config = ConfigSpace::new(&layout.identity, &layout.bars, layout.rom.len() as u32);
        for (at, bytes) in &layout.presets {
            config.preset(usize::from(*at), bytes);
        }
        for capability in &layout.capabilities {
            config.add(capability);
        }
        config.add(&Mailbox::capability());
        config
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Its surroundings.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Whether the device is on the bus.
    pub fn present(&self) -> bool {
        self.present.load(Ordering::SeqCst)
    }

    /// Reads configuration space. An absent device answers with ones, except in the mailbox.
    pub fn read_config(&self, at: u64, into: &mut [u8]) {
        lock(&self.config).read(at, into);
        let present = self.present();
        let mailbox = lock(&self.mailbox);
        for (i, byte) in into.iter_mut().enumerate() {
            let at = at + i as u64;
            match Mailbox::register(at) {
                Some(register) => *byte = mailbox.read(register).to_le_bytes()[(at & 3) as usize],
                None if !present => *byte = 0xff,
                None => {}
            }
        }
    }

    /// Writes configuration space. The mailbox takes whole dwords only.
    pub fn write_config(&self, at: u64, from: &[u8]) {
        if let Some(register) = Mailbox::register(at) {
            if let (0, Ok(bytes)) = (at & 3, <[u8; 4]>::try_from(from)) {
                let value = u32::from_le_bytes(bytes);
                let (injector, counters) = (&self.board.injector, &self.board.counters);
                let request = lock(&self.mailbox).write(register, value, injector, counters);
                match request {
                    Some(Request::Unplug) => self.unplug(),
                    Some(Request::Replug) => self.replug(),
                    None => {}
                }
            }
            return;
        }
        if !self.present() {
            return;
        }
        let mut config = lock(&self.config);
        let master = config.bus_master();
        config.write(at, from);
        let silenced = master && !config.bus_master();
        let layout = self.device.layout();
        if let Some(window) = layout.windows.iter().find(|w| w.bar == layout.memory_bar) {
            self.board.peers.place(self.board.index, config.bar_address(window.bar), &window.mapping);
        }
        let reset = config.reset_requested(&layout.capabilities);
        drop(config);
        if reset {
            self.reset();
        } else if silenced {
            self.device.bus_master_off();
        }
    }

    /// Reads a BAR.
    pub fn read_bar(&self, bar: u8, offset: u64, into: &mut [u8]) {
        if !self.present() {
            into.fill(0xff);
            return;
        }
        match self.device.layout().window(bar, offset, into.len() as u64) {
            Some(window) => {
                if window.mapping.read(offset, into).is_err() {
                    into.fill(0xff);
                }
            }
            None => self.device.read(bar, offset, into),
        }
    }

    /// Writes a BAR.
    pub fn write_bar(&self, bar: u8, offset: u64, from: &[u8]) {
        if !self.present() {
            return;
        }
        match self.device.layout().window(bar, offset, from.len() as u64) {
            // A store that leaves the window cannot get here: the window was chosen for its whole range.
            Some(window) => drop(window.mapping.write(offset, from)),
            None => self.device.write(bar, offset, from),
        }
    }

    /// Reads the expansion ROM.
    pub fn read_rom(&self, offset: u64, into: &mut [u8]) {
        let rom = &self.device.layout().rom;
        for (i, byte) in into.iter_mut().enumerate() {
            *byte = usize::try_from(offset + i as u64).ok().and_then(|i| rom.get(i)).copied().unwrap_or(0xff);
        }
    }

    /// Takes the device off the bus: trapped reads answer with ones, writes vanish, engines stop. Memory that is
    /// mapped into the guest stays readable, which real hardware would not do.
    pub fn unplug(&self) {
        tracing::info!(target: "pci", "unplugged");
        self.present.store(false, Ordering::SeqCst);
        self.device.halt();
    }

    /// Brings the device back, in the state after power-on.
    pub fn replug(&self) {
        tracing::info!(target: "pci", "plugged in again");
        self.device.reset();
        self.present.store(true, Ordering::SeqCst);
    }

    /// A reset of the function.
    pub fn reset(&self) {
        tracing::info!(target: "pci", "function reset");
        self.device.reset();
        *lock(&self.config) = Function::config_space(&*self.device);
        self.present.store(true, Ordering::SeqCst);
    }

    /// Guest memory appears.
    pub fn map_dma(
        &self,
        at: Dma,
        file: File,
        offset: u64,
        size: u64,
        writable: bool,
    ) -> std::io::Result<()> {
        self.board.dma.insert(at, Mapping::from_file(file, offset, size, writable)?);
        Ok(())
    }

    /// Guest memory goes away.
    pub fn unmap_dma(&self, at: Dma, size: u64) {
        self.board.dma.remove(at, size);
    }
}
