//! From what to boot to what came of it.

use super::attempt::Attempt;
use super::device;
use super::initramfs::{self, GuestFile, ModuleSet};
use super::spec::{Report, Spec, Tools};
use anyhow::{Context, Result};
use guest_init::{Job, Message, Module};
use std::fs;
use std::path::{Path, PathBuf};

/// Boots and runs the job, handing every message to `sink`. A boot that never reached the first process is tried
/// once more: nothing has run yet, and on an overloaded host such boots happen.
pub(crate) fn run(tools: &Tools, spec: &Spec, sink: &mut dyn FnMut(&Message)) -> Result<Report> {
    let first = run_once(tools, spec, sink)?;
    if first.ready_ms.is_some() {
        return Ok(first);
    }
    for line in &first.trouble {
        eprintln!("lab: {line}");
    }
    eprintln!(
        "lab: the kernel did not reach its first process; booting once more (logs: {})",
        first.logs.display()
    );
    let mut second = run_once(tools, spec, sink)?;
    second.attempts = 2;
    Ok(second)
}

/// [`run`] without a second attempt.
pub(crate) fn run_once(tools: &Tools, spec: &Spec, sink: &mut dyn FnMut(&Message)) -> Result<Report> {
    let folder =
        tempfile::Builder::new().prefix("lab-").tempdir().context("cannot make a folder for sockets")?;
    let image = write_image(tools, spec, folder.path())?;
    Attempt::start(tools, spec, folder.path(), &image)?.follow(sink)
}

fn write_image(tools: &Tools, spec: &Spec, folder: &Path) -> Result<PathBuf> {
    let drivers = spec.gpus.iter().map(|gpus| gpus.vendor.module());
    let wanted: Vec<&str> = drivers.chain(spec.extra_modules.iter().map(String::as_str)).collect();
    let modules = ModuleSet::load(&tools.cache, &spec.kernel, &wanted)?;
    let job = job(spec, &modules.names);
    let mut files = spec.files.clone();
    if let Some(config) = &spec.kernel.config {
        // Where distributions put it.
        let guest = format!("/boot/config-{}", spec.kernel.release);
        files.push(GuestFile { host: config.clone(), guest });
    }
    for gpus in spec.gpus.iter().filter(|gpus| gpus.count > 0) {
        let firmware = folder.join(format!("firmware-{}", gpus.vendor));
        fs::create_dir_all(&firmware)?;
        device::write_firmware(tools.vgpu()?, gpus.vendor, &firmware)?;
        files.push(GuestFile { host: firmware.join("lib/firmware"), guest: "/lib/firmware".into() });
    }
    let image = folder.join("initramfs");
    initramfs::write(&image, &tools.init, &job, &modules, &files)?;
    Ok(image)
}

fn job(spec: &Spec, modules: &[String]) -> Job {
    let module = |name: &String| {
        let mut words = Vec::new();
        if let Some(gpus) = spec.gpus.iter().find(|gpus| gpus.vendor.module() == name) {
            words.push(gpus.vendor.parameters().to_owned());
            words.extend(spec.parameters.iter().cloned());
        }
        Module { file: format!("{name}.ko"), parameters: words.join(" ") }
    };
    Job {
        modules: modules.iter().map(module).collect(),
        render_nodes: spec.gpus.iter().map(|gpus| gpus.count).sum(),
        render_wait_ms: spec.boot_wait.as_millis() as u64 / 2,
        programs: spec.programs.clone(),
        shell: spec.shell.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::device::DeviceOptions;
    use crate::lab::kernel::{Kernel, Release};
    use crate::lab::qemu::Accel;
    use crate::lab::vendor::{Gpus, Vendor};
    use std::time::Duration;

    #[test]
    fn only_the_drivers_get_parameters_and_every_gpu_is_waited_for() {
        let spec = Spec {
            kernel: Kernel {
                release: Release::parse("7.3.4-amd64").unwrap(),
                image: "/k".into(),
                modules: "/m".into(),
                config: None,
                linked: false,
            },
            accel: Accel::Tcg,
            gpus: vec![
                Gpus { vendor: Vendor::Intel, count: 2, profile: String::new() },
                Gpus { vendor: Vendor::Amd, count: 1, profile: String::new() },
            ],
            device: DeviceOptions::default(),
            programs: Vec::new(),
            files: Vec::new(),
            shell: None,
            cpu: None,
            cpus: 2,
            memory_mib: None,
            append: Vec::new(),
            parameters: vec!["extra=1".into()],
            extra_modules: vec!["vgem".into()],
            boot_wait: Duration::from_secs(60),
            expected: Vec::new(),
        };
        let job = job(&spec, &["drm", "xe", "amdgpu", "vgem"].map(str::to_owned));
        let parameters: Vec<&str> = job.modules.iter().map(|module| module.parameters.as_str()).collect();
        assert_eq!(parameters[0], "");
        assert!(parameters[1].contains("probe_display=0") && parameters[1].ends_with("extra=1"));
        assert!(parameters[2].contains("fw_load_type=0"));
        assert_eq!(parameters[3], "");
        assert_eq!(
            (job.modules[1].file.as_str(), job.render_nodes, job.render_wait_ms),
            ("xe.ko", 3, 30_000)
        );
    }
}
