//! Command-line options that describe a guest, shared by every command that boots one.

use super::accel;
use super::cache::Cache;
use super::device::DeviceOptions;
use super::initramfs::GuestFile;
use super::kernel::{Kernel, Release};
use super::qemu::Qemu;
use super::vendor::{Gpus, Vendor};
use anyhow::{Context, Result, bail};
use guest_init::{RENDER_GROUP, User};
use lexopt::{Arg, Parser, ValueExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The part of a help text that explains these options.
pub(crate) const HELP: &str = "\
Guest:
  --kernel V            release or its beginning, as in `lab list` (default: the newest here)
  --kernel PATH --modules DIR
                        a kernel of your own: bootable image, and its /lib/modules/RELEASE
  --gpu intel|amd|all   whose virtual GPU (default: intel, for hwtest all)
  --gpus N              how many of each (default: 1); 0 for none, where --gpu still has its driver loaded
  --profile K=V,...     settings of the virtual GPU
  --inject SPEC         faults of the virtual GPU on purpose; may be repeated
  --trace FILE          record what the virtual GPU sees
  --trace-level LEVEL   how much of it; profile, faults and levels are those of `vgpu --help`
  --unknown FILE        where to list what the virtual GPU does not know (default: with the logs)
  --accel tcg|kvm|auto  auto: KVM if it boots a kernel on this machine, else TCG (default)
  --cpu MODEL --smp N --memory MIB
                        virtual machine (default: max or host, EPYC for several GPUs; 2; by driver)
  --append WORDS        added to the kernel's command line; may be repeated
  --parameter P=V       added for the GPU driver's module; may be repeated
  --module NAME         load this module of the kernel's too, after the GPU drivers; may be repeated
  --expect TEXT         kernel log lines with this text are no complaints; may be repeated
  --boot-timeout S      to reach the first process, and again to bind the GPUs (default: 120)
  --cache DIR           the lab's folder (default: lab in $DRM_PAGEMAP_CACHE, or in drm-pagemap in the user's cache)
  --qemu PATH           a QEMU of your own, 10.1 or newer
  --vgpu PATH           a device model of your own (default: built from this workspace)
";

/// What the options say.
#[derive(Debug)]
pub(crate) struct GuestOptions {
    pub(crate) cache: Option<PathBuf>,
    pub(crate) kernel: Option<String>,
    pub(crate) modules: Option<PathBuf>,
    pub(crate) vendors: Vec<Vendor>,
    /// `--gpu` was there: the drivers are wanted also without a GPU.
    pub(crate) vendors_named: bool,
    pub(crate) gpus: usize,
    pub(crate) profile: String,
    pub(crate) device: DeviceOptions,
    pub(crate) accel: accel::Choice,
    pub(crate) cpu: Option<String>,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: Option<u32>,
    pub(crate) append: Vec<String>,
    pub(crate) parameters: Vec<String>,
    /// Modules of the kernel that are loaded beside the GPU drivers.
    pub(crate) extra_modules: Vec<String>,
    pub(crate) expected: Vec<String>,
    pub(crate) boot_wait: Duration,
    pub(crate) qemu: Option<PathBuf>,
    pub(crate) vgpu: Option<PathBuf>,
}

impl Default for GuestOptions {
    fn default() -> Self {
        Self {
            cache: None,
            kernel: None,
            modules: None,
            vendors: vec![Vendor::Intel],
            vendors_named: false,
            gpus: 1,
            profile: String::new(),
            device: DeviceOptions::default(),
            accel: accel::Choice::Auto,
            cpu: None,
            cpus: 2,
            memory_mib: None,
            append: Vec::new(),
            parameters: Vec::new(),
            extra_modules: Vec::new(),
            expected: Vec::new(),
            boot_wait: Duration::from_secs(120),
            qemu: None,
            vgpu: None,
        }
    }
}

impl GuestOptions {
    /// Takes the option if it is one of these. `name` is the long option without its dashes.
    pub(crate) fn take(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        match name {
            "cache" => self.cache = Some(path(parser)?),
            "kernel" => self.kernel = Some(text(parser)?),
            "modules" => self.modules = Some(path(parser)?),
            "gpu" => {
                self.vendors = Vendor::parse_list(&text(parser)?)?;
                self.vendors_named = true;
            }
            "gpus" => self.gpus = parser.value()?.parse()?,
            "profile" => self.profile = text(parser)?,
            "inject" => self.device.inject.push(text(parser)?),
            "trace" => self.device.trace = Some(path(parser)?),
            "trace-level" => self.device.trace_level = Some(text(parser)?),
            "unknown" => self.device.unknown = Some(path(parser)?),
            "accel" => self.accel = accel::Choice::parse(&text(parser)?)?,
            "cpu" => self.cpu = Some(text(parser)?),
            "smp" => self.cpus = parser.value()?.parse()?,
            "memory" => self.memory_mib = Some(parser.value()?.parse()?),
            "append" => self.append.push(text(parser)?),
            "parameter" => self.parameters.push(text(parser)?),
            "module" => self.extra_modules.push(non_empty("--module", text(parser)?)?),
            "expect" => self.expected.push(non_empty("--expect", text(parser)?)?),
            "boot-timeout" => self.boot_wait = seconds(parser)?,
            "qemu" => self.qemu = Some(path(parser)?),
            "vgpu" => self.vgpu = Some(path(parser)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(crate) fn cache(&self) -> Result<Cache> {
        Cache::locate(self.cache.clone())
    }

    pub(crate) fn qemu(&self, cache: &Cache) -> Result<Qemu> {
        match &self.qemu {
            Some(path) => {
                let qemu = Qemu::Own(path.clone());
                qemu.check()?;
                Ok(qemu)
            }
            None => Ok(Qemu::at(&cache.single("qemu")?)),
        }
    }

    /// The one kernel the options name.
    pub(crate) fn kernel(&self, cache: &Cache) -> Result<Kernel> {
        match own_kernel(self.kernel.as_deref(), self.modules.as_deref())? {
            Some(kernel) => Ok(kernel),
            None => cache.kernel(self.kernel.as_deref()),
        }
    }

    /// The drivers the options ask for, with their virtual GPUs, which may be none.
    pub(crate) fn gpus(&self) -> Vec<Gpus> {
        let vendors = self.vendors.iter().filter(|_| self.gpus > 0 || self.vendors_named);
        vendors.map(|vendor| self.gpus_of(*vendor, self.gpus)).collect()
    }

    /// Virtual GPUs of one vendor with the settings of the options.
    pub(crate) fn gpus_of(&self, vendor: Vendor, count: usize) -> Gpus {
        Gpus { vendor, count, profile: self.profile.clone() }
    }
}

/// A kernel given by paths. Both options must be there, or neither.
pub(crate) fn own_kernel(kernel: Option<&str>, modules: Option<&Path>) -> Result<Option<Kernel>> {
    let image = kernel.filter(|name| name.contains('/')).map(PathBuf::from);
    let (image, modules) = match (image, modules) {
        (None, None) => return Ok(None),
        (Some(image), Some(modules)) => (image, modules.to_owned()),
        (Some(_), None) => bail!("--kernel PATH needs --modules DIR (its /lib/modules/RELEASE)"),
        (None, Some(_)) => {
            bail!("--modules DIR needs --kernel PATH (the bootable image; a path holds a slash)")
        }
    };
    let image = image.canonicalize().with_context(|| format!("cannot find {}", image.display()))?;
    let modules = modules.canonicalize().with_context(|| format!("cannot find {}", modules.display()))?;
    let release = modules.file_name().and_then(|name| name.to_str()).and_then(Release::parse);
    match release.filter(|_| modules.join("kernel").is_dir()) {
        Some(release) => {
            let config = Some(modules.join("config")).filter(|path| path.is_file());
            Ok(Some(Kernel { release, image, modules, config, linked: true }))
        }
        None => bail!("{} is not the module folder of a kernel (like /lib/modules/7.3.4)", modules.display()),
    }
}

/// `HOST:GUEST`, the second an absolute path.
pub(crate) fn parse_file(text: &str) -> Result<GuestFile> {
    match text.rsplit_once(':') {
        Some((host, guest)) if guest.starts_with('/') && !host.is_empty() => {
            Ok(GuestFile { host: host.into(), guest: guest.into() })
        }
        _ => bail!("--file wants HOST:GUEST with an absolute path in the guest, not {text:?}"),
    }
}

/// `UID` or `UID:GID`; the group is by default the one that may open the GPU nodes.
pub(crate) fn parse_user(text: &str) -> Result<User> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    let number =
        |text: &str| text.parse().with_context(|| format!("--user wants UID or UID:GID, not {text:?}"));
    Ok(User { uid: number(uid)?, gid: if gid.is_empty() { RENDER_GROUP } else { number(gid)? } })
}

pub(crate) fn text(parser: &mut Parser) -> Result<String> {
    Ok(parser.value()?.string()?)
}

pub(crate) fn path(parser: &mut Parser) -> Result<PathBuf> {
    Ok(parser.value()?.into())
}

/// A positive number of seconds.
pub(crate) fn seconds(parser: &mut Parser) -> Result<Duration> {
    let seconds: u32 = parser.value()?.parse()?;
    if seconds == 0 {
        bail!("a time limit of 0 seconds lets nothing run");
    }
    Ok(Duration::from_secs(seconds.into()))
}

fn non_empty(option: &str, text: String) -> Result<String> {
    if text.is_empty() {
        bail!("{option} wants a text that is not empty");
    }
    Ok(text)
}

/// The error for an argument nobody knows.
pub(crate) fn unexpected(arg: Arg<'_>, command: &str) -> anyhow::Error {
    anyhow::Error::from(arg.unexpected()).context(format!("see `cargo xtask {command} --help`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<GuestOptions> {
        let mut options = GuestOptions::default();
        let mut parser = Parser::from_args(words);
        while let Some(arg) = parser.next()? {
            let Arg::Long(name) = arg else { bail!("not an option") };
            let name = name.to_owned();
            if !options.take(&name, &mut parser)? {
                bail!("unknown --{name}");
            }
        }
        Ok(options)
    }

    #[test]
    fn options_set_what_they_name() {
        let options =
            parse(&["--gpus", "2", "--gpu=all", "--profile", "media=on", "--append", "a", "--append", "b"])
                .unwrap();
        assert_eq!(parse(&["--module", "vgem", "--module", "loop"]).unwrap().extra_modules, ["vgem", "loop"]);
        assert_eq!(options.gpus().len(), 2);
        assert!(options.gpus().iter().all(|gpus| gpus.count == 2 && gpus.profile == "media=on"));
        assert_eq!(options.append, ["a", "b"]);
        assert!(parse(&["--gpus", "0"]).unwrap().gpus().is_empty());
        let driver_only = parse(&["--gpus", "0", "--gpu", "amd"]).unwrap().gpus();
        assert_eq!(
            driver_only.iter().map(|gpus| (gpus.vendor, gpus.count)).collect::<Vec<_>>(),
            [(Vendor::Amd, 0)]
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        for words in [
            &["--gpus", "x"][..],
            &["--accel", "x"],
            &["--boot-timeout", "0"],
            &["--expect", ""],
            &["--module", ""],
            &["--gpu"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn own_kernels_need_both_halves() {
        assert!(own_kernel(Some("/boot/vmlinuz"), None).unwrap_err().to_string().contains("--modules"));
        assert!(
            own_kernel(Some("7.3"), Some(Path::new("/m"))).unwrap_err().to_string().contains("--kernel PATH")
        );
        assert!(own_kernel(Some("7.3"), None).unwrap().is_none());
    }

    #[test]
    fn files_and_users_have_their_forms() {
        assert_eq!(parse_file("a:b:/c").unwrap(), GuestFile { host: "a:b".into(), guest: "/c".into() });
        assert!(parse_file("a:c").is_err() && parse_file("a").is_err() && parse_file(":/c").is_err());
        assert_eq!(parse_user("1000").unwrap(), User { uid: 1000, gid: RENDER_GROUP });
        assert_eq!(parse_user("1:2").unwrap(), User { uid: 1, gid: 2 });
        assert!(parse_user("root").is_err());
    }
}
