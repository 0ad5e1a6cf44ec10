//! The PCI slot of a device under test, through sysfs: its driver, and its configuration space.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drm_pagemap::Gpu;

/// A hang guard, far above what a probe takes on an emulated processor.
const BIND_LIMIT: Duration = Duration::from_secs(120);

/// The slot a device is in.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    folder: PathBuf,
    driver: &'static str,
}

impl Slot {
    /// The slot of a real device.
    pub(crate) fn of(gpu: &Gpu) -> Result<Self, String> {
        let node = gpu.device().node();
        let name = Path::new(&node).file_name().ok_or_else(|| format!("{node} is no render node"))?;
        let link = Path::new("/sys/class/drm").join(name).join("device");
        let folder = link.canonicalize().map_err(|error| format!("{}: {error}", link.display()))?;
        Ok(Self { folder, driver: gpu.driver().name() })
    }

    /// The address, for example `0000:00:01.0`.
    pub(crate) fn address(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The numbers of the DRM nodes, which debugfs of older kernels goes by.
    pub(crate) fn minors(&self) -> Vec<String> {
        let nodes = fs::read_dir(self.folder.join("drm")).into_iter().flatten().flatten();
        let names = nodes.map(|node| node.file_name().to_string_lossy().into_owned());
        names.map(|name| name.trim_start_matches(char::is_alphabetic).to_owned()).collect()
    }

    /// The configuration space; beyond its first 64 bytes it is for root.
    pub(super) fn config(&self) -> Result<Config, String> {
        let path = self.folder.join("config");
        let file = File::options().read(true).write(true).open(&path);
        file.map(Config).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Takes the driver off the device (root). Returns when the driver is done, which is when it has let go.
    pub(crate) fn unbind(&self) {
        self.tell("unbind");
    }

    /// Has the driver probe the device again, and waits for the render node.
    pub(crate) fn bind(&self) {
        self.tell("bind");
        let started = Instant::now();
        while self.render_node().is_none() {
            assert!(started.elapsed() < BIND_LIMIT, "{} has no render node again", self.address());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The render node that the driver made, if it is at the device.
    pub(crate) fn render_node(&self) -> Option<PathBuf> {
        let nodes = fs::read_dir(self.folder.join("drm")).into_iter().flatten().flatten();
        let mut names = nodes.map(|node| node.file_name());
        let render = names.find(|name| name.as_encoded_bytes().starts_with(b"render"))?;
        Some(Path::new("/dev/dri").join(render)).filter(|node| node.exists())
    }

    fn tell(&self, what: &str) {
        let path = Path::new("/sys/bus/pci/drivers").join(self.driver).join(what);
        fs::write(&path, self.address())
            .unwrap_or_else(|error| panic!("{} to {}: {error}", self.address(), path.display()));
    }
}

/// The configuration space of a device.
#[derive(Debug)]
pub(super) struct Config(File);

impl Config {
    pub(super) fn read(&self, at: u64) -> Result<u32, String> {
        let mut bytes = [0; 4];
        let read = self.0.read_exact_at(&mut bytes, at);
        read.map_err(|error| format!("byte {at:#x} of its PCI configuration space cannot be read: {error}"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn write(&self, at: u64, value: u32) {
        self.0.write_all_at(&value.to_le_bytes(), at).expect("root writes configuration space");
    }
}
