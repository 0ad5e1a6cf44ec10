//! Kernel modules: loaded, available, or kept out.

use super::files::text;
use super::kernel::Kernel;
use crate::doctor::system::System;

/// What is known of a driver's module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Module {
    /// It is loaded, or part of the kernel.
    pub(in crate::doctor) loaded: bool,
    /// The running kernel's module directory has it, or the kernel contains it; `None` when there is no list.
    pub(in crate::doctor) available: Option<bool>,
    /// Where it is kept from being loaded, if anywhere: a file, or the command line.
    pub(in crate::doctor) blocked_by: Option<String>,
}

pub(in crate::doctor) fn module(system: &dyn System, kernel: &Kernel, name: &str) -> Module {
    Module {
        loaded: system.status(&format!("/sys/module/{name}")).is_ok(),
        available: available(system, kernel, name),
        blocked_by: blocked_by(system, kernel, name),
    }
}

fn available(system: &dyn System, kernel: &Kernel, name: &str) -> Option<bool> {
    let release = kernel.release.as_deref().ok()?;
    let mut listed = false;
    // `kernel/drivers/gpu/drm/xe/xe.ko.zst: ...` in one, `kernel/.../xe.ko` in the other.
    for file in ["modules.dep", "modules.builtin"] {
        let Ok(list) = text(system, &format!("/lib/modules/{release}/{file}")) else { continue };
        listed = true;
        let wanted = format!("/{name}.ko");
        let is_it = |line: &str| {
            let path = line.split(':').next().unwrap_or(line);
            path.rfind(&wanted)
                .is_some_and(|at| matches!(path.as_bytes().get(at + wanted.len()), None | Some(b'.')))
        };
        if list.lines().any(is_it) {
            return Some(true);
        }
    }
    listed.then_some(false)
}

fn blocked_by(system: &dyn System, kernel: &Kernel, name: &str) -> Option<String> {
    for key in ["modprobe.blacklist", "module_blacklist", "rd.driver.blacklist"] {
        if kernel.values(key).any(|list| list.split(',').any(|module| module == name)) {
            return Some(format!("{key}= on the kernel's command line"));
        }
    }
    for directory in ["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"] {
        let mut files = system.list(directory).unwrap_or_default();
        files.sort();
        for file in files.iter().filter(|file| file.ends_with(".conf")) {
            let path = format!("{directory}/{file}");
            let Ok(rules) = text(system, &path) else { continue };
            for rule in rules.lines() {
                let mut words = rule.split_ascii_whitespace();
                let blocks = match (words.next(), words.next(), words.next()) {
                    (Some("blacklist"), Some(module), _) => module == name,
                    (Some("install"), Some(module), Some(command)) => {
                        module == name && (command.ends_with("/false") || command.ends_with("/true"))
                    }
                    _ => false,
                };
                if blocks {
                    return Some(path);
                }
            }
        }
    }
    None
}
