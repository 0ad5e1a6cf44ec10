//! From options to a boot: find or build the tools, put programs into the guest, say how they ended.

use super::accel;
use super::initramfs::{self, GuestFile};
use super::options::GuestOptions;
use super::programs::{Kind, Target, Workspace};
use super::spec::{End, Report, Spec, Tools};
use super::vendor::Gpus;
use super::{kernel::Kernel, qemu::Accel};
use anyhow::{Context, Result};
use guest_init::{Program, User};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The environment variable that names a device model.
const VGPU_VARIABLE: &str = "DRM_PAGEMAP_LAB_VGPU";

/// Finds QEMU, builds the guest's first process and, when there are GPUs, the device model.
pub(crate) fn tools(options: &GuestOptions, workspace: &Workspace, with_gpus: bool) -> Result<Tools> {
    let cache = options.cache()?;
    let qemu = options.qemu(&cache)?;
    let package = |name: &str| Target { package: name.into(), kind: Kind::Bin, name: name.into() };
    let init = workspace.build_static(&package("guest-init"), true)?;
    let own = options.vgpu.clone().or_else(|| std::env::var_os(VGPU_VARIABLE).map(PathBuf::from));
    let vgpu = match own {
        _ if !with_gpus => None,
        Some(path) => Some(path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?),
        None => Some(workspace.build_for_host(&package("vgpu"), true)?),
    };
    Ok(Tools { cache, qemu, init, vgpu })
}

/// A guest without programs.
pub(crate) fn spec(options: &GuestOptions, kernel: Kernel, accel: Accel, gpus: Vec<Gpus>) -> Spec {
    Spec {
        kernel,
        accel,
        gpus,
        device: options.device.clone(),
        programs: Vec::new(),
        files: Vec::new(),
        shell: None,
        cpu: options.cpu.clone(),
        cpus: options.cpus,
        memory_mib: options.memory_mib,
        append: options.append.clone(),
        parameters: options.parameters.clone(),
        extra_modules: options.extra_modules.clone(),
        boot_wait: options.boot_wait,
        expected: options.expected.clone(),
    }
}

/// Chooses the accelerator and says which.
pub(crate) fn accelerator(options: &GuestOptions, tools: &Tools, kernel: &Kernel) -> Result<Accel> {
    let (accel, why) = accel::choose(tools, kernel, options.accel)?;
    eprintln!("lab: kernel {} with {} ({why})", kernel.release, accel.name());
    Ok(accel)
}

/// A program as the user wrote it, and how to run it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// A file, or the name of something this workspace builds.
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
}

/// How the programs of a guest are run.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) user: Option<User>,
    pub(crate) timeout: Duration,
    pub(crate) release: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            cwd: "/tmp".into(),
            user: None,
            timeout: Duration::from_secs(120),
            release: false,
        }
    }
}

/// Puts the program's file into the guest, built first if it is one of the workspace's.
pub(crate) fn add_program(
    spec: &mut Spec,
    workspace: &Workspace,
    wanted: &Wanted,
    conditions: &Conditions,
) -> Result<()> {
    let file = Path::new(&wanted.program);
    let host = if wanted.program.contains('/') || file.is_file() {
        initramfs::check_program(file)?;
        file.to_owned()
    } else {
        workspace.build_static(workspace.find(&wanted.program)?, conditions.release)?
    };
    let path = place(&mut spec.files, &host);
    let mut env: Vec<(String, String)> = [("PATH", "/bin"), ("HOME", "/tmp"), ("TMPDIR", "/tmp")]
        .map(|(key, value)| (key.into(), value.into()))
        .to_vec();
    // What steers diagnosis on the host does so in the guest.
    let passed_on = ["RUST_BACKTRACE", "RUST_LOG"].into_iter();
    env.extend(passed_on.filter_map(|key| Some((key.to_owned(), std::env::var(key).ok()?))));
    env.extend(conditions.env.iter().cloned());
    spec.programs.push(Program {
        path,
        args: wanted.args.clone(),
        env,
        cwd: conditions.cwd.clone(),
        user: conditions.user,
        timeout_ms: conditions.timeout.as_millis() as u64,
    });
    Ok(())
}

/// The program's path in the guest; two files of one name get different ones.
fn place(files: &mut Vec<GuestFile>, host: &Path) -> String {
    if let Some(file) = files.iter().find(|file| file.host == host) {
        return file.guest.clone();
    }
    let name = host.file_name().unwrap_or_default().to_string_lossy();
    let candidates =
        std::iter::once(format!("/bin/{name}")).chain((2..).map(|number| format!("/bin/{number}/{name}")));
    let free = |path: &String| !files.iter().any(|file| file.guest == *path);
    let guest = candidates.into_iter().find(free).unwrap_or_default();
    files.push(GuestFile { host: host.to_owned(), guest: guest.clone() });
    guest
}

/// Exit codes that are the lab's own.
pub(crate) const TIMED_OUT: i32 = 124;
pub(crate) const LAB_FAILED: i32 = 125;
pub(crate) const NOT_STARTED: i32 = 126;

/// The exit code for a program's end, as a shell would give it.
pub(crate) fn exit_code(end: &End) -> i32 {
    match end {
        End::Exited(code) => *code,
        End::Signaled(signal) => 128 + signal,
        End::TimedOut(_) => TIMED_OUT,
        End::NotStarted(_) => NOT_STARTED,
        End::Unknown => LAB_FAILED,
    }
}

/// What a program's end means, when it is not an ordinary exit.
pub(crate) fn describe_end(end: &End) -> Option<String> {
    match end {
        End::Exited(_) => None,
        End::Signaled(signal) => Some(format!("ended by signal {signal}{}", signal_name(*signal))),
        End::TimedOut(threads) => {
            Some(format!("did not end in its time and was killed; its threads were at\n{threads}"))
        }
        End::NotStarted(why) => Some(why.clone()),
        End::Unknown => Some("did not come to its end".into()),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// Says what the driver used that the virtual GPU does not know; silent when that is nothing. Not a failure, but the first
/// place to look when a new kernel's driver fails.
pub(crate) fn describe_unknown(report: &Report) -> String {
    let mut text = String::new();
    if !report.unknown.is_empty() {
        text.push_str(&format!(
            "lab: the virtual GPU does not know {} things that the driver used:\n",
            report.unknown.len()
        ));
        for line in &report.unknown {
            text.push_str(&format!("lab:   {line}\n"));
        }
    }
    text
}

/// Says what was wrong with the guest; silent about a sound one.
pub(crate) fn describe_trouble(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.trouble {
        text.push_str(&format!("lab: {line}\n"));
    }
    if !report.complaints.is_empty() {
        text.push_str("lab: the kernel complained:\n");
        const SHOWN: usize = 12;
        for line in report.complaints.iter().take(SHOWN) {
            text.push_str(&format!("lab:   {line}\n"));
        }
        if report.complaints.len() > SHOWN {
            text.push_str(&format!("lab:   and {} more\n", report.complaints.len() - SHOWN));
        }
    }
    if !text.is_empty() {
        text.push_str(&format!("lab: logs in {}\n", report.logs.display()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_become_exit_codes_as_in_a_shell() {
        assert_eq!(exit_code(&End::Exited(3)), 3);
        assert_eq!(exit_code(&End::Signaled(11)), 139);
        assert_eq!(exit_code(&End::TimedOut(String::new())), 124);
        assert_eq!(exit_code(&End::Unknown), 125);
        assert!(describe_end(&End::Exited(1)).is_none());
        assert!(describe_end(&End::Signaled(11)).unwrap().contains("SIGSEGV"));
    }

    #[test]
    fn files_of_one_name_get_different_places_and_one_file_gets_one() {
        let mut files = Vec::new();
        assert_eq!(place(&mut files, Path::new("/a/test")), "/bin/test");
        assert_eq!(place(&mut files, Path::new("/b/test")), "/bin/2/test");
        assert_eq!(place(&mut files, Path::new("/c/test")), "/bin/3/test");
        assert_eq!(place(&mut files, Path::new("/a/test")), "/bin/test");
        assert_eq!(files.len(), 3);
    }
}
