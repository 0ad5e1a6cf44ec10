//! The command line of `hwtest`.

use super::supervise::Patience;
use crate::lab::{Conditions, GuestOptions, Vendor, path, seconds, text, unexpected};
use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short};
use lexopt::Parser;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const HELP: &str = "\
cargo xtask hwtest [OPTIONS]

Runs the test suite of everything that talks to a GPU.

  --ground hardware     on the GPUs of this machine (default): says first what the doctor thinks of it
  --ground lab, --lab   in QEMU: real kernels and drivers, virtual GPUs; needs `cargo xtask lab setup`
  --ground simulated    on the software devices of the library
  --gpu intel|amd|all   whose GPUs (default: all)
  --device NAME         only this device, by its label as in the names of tests (xe0) or by a part of its name
  --kernel V|all        in the lab: which kernel, or every one that is here (default: the newest)
  --filter TEXT         only tests with this text in their name
  --list                name the devices and tests
  --report DIR          where the report goes (default: hwtest/GROUND in cargo's target folder)
  --suite PROGRAM       a test of this workspace, or a file (default: hw)
  --timeout S           hang guard: in the lab for one run of the suite (default: 1800), else for one test (360)
  --release             build with optimizations

The report folder holds report.txt, report.json, junit.xml, the suite's output and pictures of where pages were; of the
lab, also what the guests' kernels said; on hardware, also the doctor's findings. Names of the machine and its users, serial numbers and network addresses are
left out, so that it can be attached to a bug report.

Exit code 0: tests passed and none failed; 1: a test failed, or a guest, kernel or the suite did, or a setting of the
machine was not what it was before; 2: nothing was tested.
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    Simulated,
    Lab,
    Hardware,
}

impl Ground {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "simulated" => Self::Simulated,
            "lab" => Self::Lab,
            "hardware" => Self::Hardware,
            _ => bail!("no ground called {text:?}: simulated, lab or hardware"),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Lab => "lab",
            Self::Hardware => "hardware",
        }
    }
}

#[derive(Debug)]
pub(super) struct Options {
    pub(super) ground: Ground,
    pub(super) guest: GuestOptions,
    gpu_chosen: bool,
    pub(super) every_kernel: bool,
    pub(super) device: Option<String>,
    pub(super) filter: Option<String>,
    pub(super) list: bool,
    pub(super) report: Option<PathBuf>,
    pub(super) suite: String,
    pub(super) conditions: Conditions,
    pub(super) patience: Patience,
}

impl Options {
    /// `None` when only the help text was asked for.
    pub(super) fn parse(parser: &mut Parser) -> Result<Option<Self>> {
        let mut options = Self {
            ground: Ground::Hardware,
            guest: GuestOptions::default(),
            gpu_chosen: false,
            every_kernel: false,
            device: None,
            filter: None,
            list: false,
            report: None,
            suite: "hw".into(),
            conditions: Conditions { timeout: Duration::from_secs(1800), ..Conditions::default() },
            patience: Patience::default(),
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("help") | Short('h') => return Ok(None),
                Long("lab") => options.ground = Ground::Lab,
                Long("ground") => options.ground = Ground::parse(&text(parser)?)?,
                Long("device") => options.device = Some(text(parser)?),
                Long("filter") => options.filter = Some(text(parser)?),
                Long("list") => options.list = true,
                Long("report") => options.report = Some(path(parser)?),
                Long("suite") => options.suite = text(parser)?,
                Long("timeout") => {
                    options.conditions.timeout = seconds(parser)?;
                    options.patience.silence = options.conditions.timeout;
                }
                Long("release") => options.conditions.release = true,
                Long(name) => {
                    let name = name.to_owned();
                    options.gpu_chosen |= name == "gpu";
                    if !options.guest.take(&name, parser)? {
                        return Err(unexpected(Long(&name), "hwtest"));
                    }
                }
                arg => return Err(unexpected(arg, "hwtest")),
            }
        }
        if options.guest.kernel.as_deref() == Some("all") {
            options.guest.kernel = None;
            options.every_kernel = true;
        }
        if options.guest.gpus == 0 {
            bail!("--gpus 0 leaves nothing to test");
        }
        if options.ground == Ground::Lab && options.device.is_some() {
            bail!("--device is for devices of this machine; in the lab, --gpu and --gpus say what there is");
        }
        Ok(Some(options))
    }

    /// Whose GPUs to test.
    pub(super) fn vendors(&self) -> Vec<Vendor> {
        if self.gpu_chosen { self.guest.vendors.clone() } else { Vendor::ALL.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        Options::parse(&mut Parser::from_args(words)).map(|options| options.expect("no --help"))
    }

    #[test]
    fn options_choose_ground_kernels_and_tests() {
        let options = parsed(&["--lab", "--kernel", "all", "--gpu", "all", "--filter", "placement"]).unwrap();
        assert_eq!(options.ground, Ground::Lab);
        assert!(options.every_kernel && options.guest.kernel.is_none());
        assert_eq!(options.vendors(), Vendor::ALL);
        assert_eq!(parsed(&["--lab"]).unwrap().vendors(), Vendor::ALL);
        assert_eq!(parsed(&["--lab", "--gpu", "amd"]).unwrap().vendors(), [Vendor::Amd]);
        let options = parsed(&["--ground", "simulated", "--report", "there", "--timeout", "9"]).unwrap();
        assert_eq!((options.ground, options.suite.as_str()), (Ground::Simulated, "hw"));
        assert_eq!((options.report, options.patience.silence.as_secs()), (Some("there".into()), 9));
        let options = parsed(&["--gpu", "amd", "--device", "amdgpu1"]).unwrap();
        assert_eq!((options.vendors(), options.device.as_deref()), (vec![Vendor::Amd], Some("amdgpu1")));
        assert_eq!(parsed(&[]).unwrap().vendors(), Vendor::ALL);
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["--ground", "moon"][..],
            &["--gpus", "0"],
            &["--nope"],
            &["word"],
            &["--lab", "--device", "xe0"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
