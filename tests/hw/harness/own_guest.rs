//! Tests after which a driver is of no use: they have the lab boot a guest for them, and find the driver loaded anew there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Set by the lab in a guest that is for such tests.
const VARIABLE: &str = "HW_OWN_GUEST";

/// Tells the lab that a test wants such a guest; the lab knows these words.
const REASON: &str = "needs a guest of its own";

/// Remembers which devices a guest had when its first test began.
const DEVICES: &str = "/tmp/hw-own-guest";

/// A hang guard, far above what a probe takes on an emulated processor.
const PROBE_LIMIT: Duration = Duration::from_secs(180);

/// Why a test that spoils the driver does not run here.
pub(super) fn lacking() -> Option<String> {
    std::env::var_os(VARIABLE).is_none().then(|| REASON.to_owned())
}

/// Gives the drivers of the lab's GPUs up and has them probe again, in every program of the guest but the first.
pub(super) fn renew_drivers() {
    if lacking().is_some() || super::own_process::is_one() {
        return;
    }
    if let Ok(text) = fs::read_to_string(DEVICES) {
        text.lines().for_each(|line| renew(Path::new(line)));
        return;
    }
    let drivers = ["xe", "amdgpu"].map(|name| Path::new("/sys/bus/pci/drivers").join(name));
    let devices: Vec<String> = drivers.iter().flat_map(|driver| bound(driver)).collect();
    fs::write(DEVICES, devices.join("\n")).expect("the guest has a /tmp");
}

/// The devices of a driver, as `<driver's folder>/<address>`.
fn bound(driver: &Path) -> Vec<String> {
    let entries = fs::read_dir(driver).into_iter().flatten().flatten();
    let addresses = entries.filter(|entry| entry.file_name().as_encoded_bytes().contains(&b':'));
    addresses.map(|entry| entry.path().display().to_string()).collect()
}

fn renew(device: &Path) {
    let (Some(driver), Some(address)) = (device.parent(), device.file_name()) else { return };
    let address = address.to_string_lossy();
    let tell = |what: &str| {
        let file: PathBuf = driver.join(what);
        fs::write(&file, address.as_bytes()).unwrap_or_else(|error| panic!("{address} to {file:?}: {error}"));
    };
    if device.exists() {
        tell("unbind");
    }
    tell("bind");
    let nodes = Path::new("/sys/bus/pci/devices").join(&*address).join("drm");
    let started = Instant::now();
    while !has_render_node(&nodes) {
        assert!(started.elapsed() < PROBE_LIMIT, "{address} has no render node again");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn has_render_node(nodes: &Path) -> bool {
    let mut names = fs::read_dir(nodes).into_iter().flatten().flatten().map(|node| node.file_name());
    names.any(|name| {
        name.as_encoded_bytes().starts_with(b"render") && Path::new("/dev/dri").join(&name).exists()
    })
}
