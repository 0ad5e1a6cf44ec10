//! The guest's file system: first process, job, modules, firmware, programs.

use super::cache::Cache;
use super::cpio::Archive;
use super::kernel::Kernel;
use super::module::Tree;
use anyhow::{Context, Result, bail};
use guest_init::{JOB_PATH, Job, MODULE_DIR, RENDER_GROUP};
use object::{Object, ObjectKind};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A driver's modules in loading order, packed.
#[derive(Debug)]
pub(crate) struct ModuleSet {
    pub(crate) names: Vec<String>,
    archive: Vec<u8>,
}

impl ModuleSet {
    /// Collects the modules; unpacking takes a while, so the result is kept in the lab's folder.
    pub(crate) fn load(cache: &Cache, kernel: &Kernel, drivers: &[&str]) -> Result<Self> {
        if kernel.linked {
            return Self::collect(kernel, drivers);
        }
        let key = format!(
            "{}-{}",
            kernel.release,
            if drivers.is_empty() { "none".into() } else { drivers.join("+") }
        );
        let below = Path::new("initramfs").join(key);
        let folder = cache.path(&below);
        // Guests may be started side by side; one of them makes it.
        let _lock = if folder.exists() { None } else { Some(cache.lock()?) };
        if !folder.exists() {
            let made = Self::collect(kernel, drivers)?;
            cache.install(&below, |content| {
                fs::write(content.join("order"), made.names.join("\n"))?;
                Ok(fs::write(content.join("modules.cpio"), &made.archive)?)
            })?;
            return Ok(made);
        }
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let order = String::from_utf8(read("order")?)?;
        Ok(Self { names: order.lines().map(str::to_owned).collect(), archive: read("modules.cpio")? })
    }

    fn collect(kernel: &Kernel, drivers: &[&str]) -> Result<Self> {
        let modules =
            if drivers.is_empty() { Vec::new() } else { Tree::scan(&kernel.modules)?.closure(drivers)? };
        let mut archive = Archive::default();
        let mut names = Vec::new();
        for module in modules {
            archive.file(&format!("{}/{}.ko", relative(MODULE_DIR), module.name), 0o644, &module.content);
            names.push(module.name);
        }
        Ok(Self { names, archive: archive.finish() })
    }
}

/// A file or folder of the host and where it goes in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestFile {
    pub(crate) host: PathBuf,
    /// Absolute path in the guest.
    pub(crate) guest: String,
}

/// Writes the image: the modules' archive followed by one with everything else.
pub(crate) fn write(
    path: &Path,
    init: &Path,
    job: &Job,
    modules: &ModuleSet,
    files: &[GuestFile],
) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    // The kernel opens it for the first process before anything is mounted.
    archive.character_device("dev/console", 0o600, 5, 1);
    for folder in ["proc", "sys", "tmp", "run", "root", "bin", "boot", "etc", "lib/firmware"] {
        archive.directory(folder);
    }
    archive.file("init", 0o755, &read(init)?);
    archive.file(relative(JOB_PATH), 0o644, &serde_json::to_vec(job)?);
    archive.file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n");
    let groups = format!("root:x:0:\nrender:x:{RENDER_GROUP}:\nuser:x:1000:\n");
    archive.file("etc/group", 0o644, groups.as_bytes());
    for file in files {
        add(&mut archive, &file.host, relative(&file.guest))?;
    }
    let failed = || format!("cannot write {}", path.display());
    let mut image = File::create(path).with_context(failed)?;
    image.write_all(&modules.archive).with_context(failed)?;
    image.write_all(&archive.finish()).with_context(failed)
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn add(archive: &mut Archive, host: &Path, guest: &str) -> Result<()> {
    let failed = || format!("cannot read {}", host.display());
    let metadata = fs::metadata(host).with_context(failed)?;
    if !metadata.is_dir() {
        archive.file(guest, metadata.permissions().mode() & 0o777, &fs::read(host).with_context(failed)?);
        return Ok(());
    }
    archive.directory(guest);
    let mut entries = fs::read_dir(host).with_context(failed)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().with_context(|| format!("{} is not UTF-8", entry.path().display()))?;
        add(archive, &entry.path(), &format!("{guest}/{name}"))?;
    }
    Ok(())
}

/// Fails unless the guest, which has no libraries, can run this program.
pub(crate) fn check_program(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let reason = match object::File::parse(bytes.as_slice()) {
        Err(_) => "is not a program for Linux",
        Ok(file) if file.architecture() != object::Architecture::X86_64 => "is not a program for x86_64",
        Ok(file) if !matches!(file.kind(), ObjectKind::Executable | ObjectKind::Dynamic) => {
            "is not a program"
        }
        Ok(_) if interpreter(&bytes)? => {
            "needs shared libraries, which the guest does not have: link it statically (Rust: \
             -C target-feature=+crt-static, C: -static)"
        }
        Ok(_) => return Ok(()),
    };
    bail!("{} {reason}", path.display())
}

/// Whether the program asks for a dynamic loader.
fn interpreter(bytes: &[u8]) -> Result<bool> {
    use object::read::elf::{ElfFile64, ProgramHeader};
    let file: ElfFile64<'_, object::Endianness> = ElfFile64::parse(bytes)?;
    let endian = file.endian();
    Ok(file.elf_program_headers().iter().any(|header| header.p_type(endian) == object::elf::PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_in_whole_with_their_permissions() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("fw/xe")).unwrap();
        fs::write(folder.path().join("fw/xe/stub.bin"), "stub").unwrap();
        fs::write(folder.path().join("init"), "init").unwrap();
        let files = [GuestFile { host: folder.path().join("fw"), guest: "/lib/firmware".into() }];
        let modules = ModuleSet { names: vec![], archive: Archive::default().finish() };
        let image = folder.path().join("image");
        write(&image, &folder.path().join("init"), &Job::default(), &modules, &files).unwrap();
        let text = String::from_utf8_lossy(&fs::read(image).unwrap()).into_owned();
        assert!(text.contains("lib/firmware/xe/stub.bin\0") && text.contains("dev/console\0"));
        assert!(text.contains("job.json\0") && text.contains("\"programs\":[]"));
    }

    #[test]
    fn programs_that_cannot_run_in_the_guest_are_refused_with_the_reason() {
        let error = check_program(&std::env::current_exe().unwrap()).unwrap_err().to_string();
        assert!(error.contains("crt-static"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(check_program(&script).unwrap_err().to_string().contains("not a program"));
        assert!(check_program(Path::new("/nonexistent")).is_err());
    }
}
