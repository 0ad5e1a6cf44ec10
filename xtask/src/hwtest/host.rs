//! The suite on this machine: on simulated devices, or on its GPUs, one process for each.

use super::devices::{self, Device};
use super::settings::Settings;
use super::summary::Run;
use super::supervise::{Patience, Suite};
use crate::command;
use crate::lab::Vendor;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// What the command line says about a run on this machine.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) ground: &'a str,
    pub(crate) vendors: &'a [Vendor],
    pub(crate) device: Option<&'a str>,
    pub(crate) filter: Option<&'a str>,
    pub(crate) patience: Patience,
}

/// What was found and what came of it.
#[derive(Debug)]
pub(crate) struct Tested {
    pub(crate) passed_over: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

impl Plan<'_> {
    /// Tests every device that the plan names and that can be tested.
    pub(crate) fn run(&self) -> Result<Tested> {
        let all = devices::of(self.binary, self.ground)?;
        let chosen = devices::choose(&all, self.vendors, self.device)?;
        let before = Settings::read(Path::new("/"));
        let mut runs = chosen.iter().map(|device| self.test(device)).collect::<Result<Vec<Run>>>()?;
        let changes = before.changes(&Settings::read(Path::new("/")));
        if let Some(last) = runs.last_mut() {
            last.trouble
                .extend(changes.into_iter().map(|change| format!("a setting of this machine: {change}")));
        }
        Ok(Tested { passed_over: all.iter().filter_map(reason).collect(), runs })
    }

    fn test(&self, device: &Device) -> Result<Run> {
        eprintln!("hwtest: {} ({})", device.label, device.name);
        let mut arguments =
            vec!["--ground".to_owned(), self.ground.to_owned(), "--device".to_owned(), device.label.clone()];
        arguments.extend(self.filter.map(str::to_owned));
        let list = command::output(Command::new(self.binary).args(&arguments).arg("--list"))?;
        let total = list.lines().filter(|line| line.ends_with(": test")).count();
        let title = format!("{} {}", self.ground, device.label);
        Suite { binary: self.binary, title: &title, arguments, total, patience: self.patience }.run()
    }
}

/// Why something that was found is not tested.
fn reason(device: &Device) -> Option<String> {
    device.lacking.as_ref().map(|lacking| format!("{}: {lacking}", device.name))
}
