//! Builds the module of the kernel's HMM test device with the compiler of this machine.
//!
//! The headers of a newer distribution bring tools that need that distribution's C library, and name compiler options
//! that an older compiler does not know. The tools are run by the loader of the library that is fetched beside them;
//! the options are left out.

use crate::command;
use crate::lab::{Apt, Cache, Kernel, Source};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const FILE: &str = "test_hmm.ko";

/// Files of the kernel source that make the module.
const SOURCES: [&str; 2] = ["test_hmm.c", "test_hmm_uapi.h"];
/// Tools of the kernel's build that run on this machine, below the folder of `linux-kbuild`, and the program behind
/// each.
const TOOLS: [(&str, &str); 3] = [
    ("scripts/basic/fixdep", "scripts/basic/fixdep"),
    ("scripts/mod/modpost", "scripts/mod/modpost.real-lsb-64"),
    ("tools/objtool/objtool", "tools/objtool/objtool.real-x86"),
];
/// Libraries those tools need.
const LIBRARIES: [&str; 4] = ["libc6", "libelf1t64", "zlib1g", "libzstd1"];
/// Compiler options that not every compiler has, and what to say instead.
const OPTIONS: [(&str, &str, Option<&str>); 3] = [
    ("-fmin-function-alignment=16", "-fmin-function-alignment=", Some("-falign-functions=")),
    ("-fstrict-flex-arrays=3", "-fstrict-flex-arrays=", None),
    ("-fzero-init-padding-bits=all", "-fzero-init-padding-bits=", None),
];

/// The module for a kernel, built unless it has been before.
pub(crate) fn module(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let below = Path::new("hmm").join(kernel.release.as_str());
    let file = cache.path(&below).join(FILE);
    if file.exists() {
        return Ok(file);
    }
    if kernel.linked {
        bail!("the module can only be built for kernels that `cargo xtask lab setup` fetched");
    }
    let _lock = cache.lock()?;
    cache.sweep()?;
    let apt = Apt::open(&cache.folder("apt")?, &Source::default())?;
    cache.install(&below, |content| {
        let work = content.join("work");
        fs::create_dir(&work)?;
        let module = build(&apt, kernel.release.as_str(), &work)?;
        fs::copy(module, content.join(FILE))?;
        Ok(fs::remove_dir_all(work)?)
    })?;
    Ok(file)
}

fn build(apt: &Apt, release: &str, work: &Path) -> Result<PathBuf> {
    let packages = Packages::of(release)?;
    let headers = apt.newest(&packages.headers, |_| true)?;
    let exact = |name: &str| format!("{name}={}", headers.version);
    // The source must be of this very kernel: structures inside the kernel change between any two.
    if apt.newest(&packages.source, |version| version == headers.version).is_err() {
        bail!(
            "the archive has no {} in version {}, the source of kernel {release}; take the newest kernel of its series, or \
             of another one",
            packages.source,
            headers.version
        );
    }
    eprintln!("hmm: fetching headers and source of kernel {release}");
    let mut pins = vec![exact(&packages.headers), exact(&packages.common), exact(&packages.kbuild)];
    pins.push(exact(&packages.source));
    for library in LIBRARIES {
        pins.push(apt.newest(library, |_| true)?.pin());
    }
    apt.unpack(&pins, work)?;

    let module = work.join("module");
    fs::create_dir(&module)?;
    extract(&work.join("usr/src").join(format!("{}.tar.xz", packages.source)), &packages.source, &module)?;
    fs::write(module.join("Makefile"), "obj-m := test_hmm.o\n")?;
    let kbuild = work.join("usr/lib").join(&packages.kbuild);
    for (tool, program) in TOOLS {
        run_by_own_loader(work, &kbuild.join(tool), &kbuild.join(program))?;
    }
    let tree = work.join("usr/src").join(&packages.headers);
    move_here(&tree.join("Makefile"), work)?;
    let compiler = work.join("compiler");
    write_script(&compiler, &compiler_script(knows_option))?;

    eprintln!("hmm: building {FILE}");
    let mut make = Command::new("make");
    make.arg("-C").arg(&tree).arg(assignment("M", &module)).arg(assignment("CC", &compiler));
    // Type information for BPF would need another tool, and nothing here reads it.
    make.args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]);
    // What an outer make or cargo says is not meant for this one.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("CFLAGS").env_remove("CC");
    command::output(&mut make).context("cannot build the module (gcc, make and binutils are needed)")?;
    Ok(module.join(FILE))
}

fn assignment(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// The packages that belong to a kernel `7.3.4+deb13-amd64`.
#[derive(Debug, PartialEq, Eq)]
struct Packages {
    headers: String,
    common: String,
    kbuild: String,
    source: String,
}

impl Packages {
    fn of(release: &str) -> Result<Self> {
        let (version, _flavour) = release
            .rsplit_once('-')
            .with_context(|| format!("{release} is not the release of a Debian kernel"))?;
        let mut numbers = version.split(['.', '+', '-']);
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            bail!("{release} is not the release of a Debian kernel");
        };
        Ok(Self {
            headers: format!("linux-headers-{release}"),
            common: format!("linux-headers-{version}-common"),
            kbuild: format!("linux-kbuild-{version}"),
            source: format!("linux-source-{major}.{minor}"),
        })
    }
}

/// Takes the module's files out of the kernel's source, reading no further than need be.
fn extract(archive: &Path, top: &str, into: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("-xJf").arg(archive).arg("-C").arg(into).args(["--strip-components=2", "--occurrence=1"]);
    tar.args(SOURCES.map(|name| format!("{top}/lib/{name}")));
    command::output(&mut tar).context("cannot read the kernel's source (tar and xz are needed)")?;
    // The archive is large and has served.
    Ok(fs::remove_file(archive)?)
}

/// Replaces a tool by a script that runs its program with the libraries fetched beside it.
fn run_by_own_loader(root: &Path, tool: &Path, program: &Path) -> Result<()> {
    let program = if tool == program {
        let aside = tool.with_extension("elf");
        fs::rename(tool, &aside).with_context(|| format!("the headers lack {}", tool.display()))?;
        aside
    } else {
        program.to_owned()
    };
    if !program.exists() {
        bail!("the headers lack {}", program.display());
    }
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let loader = libraries.join("ld-linux-x86-64.so.2");
    write_script(tool, &loader_script(&loader, &libraries, &program))
}

fn loader_script(loader: &Path, libraries: &Path, program: &Path) -> String {
    format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        loader.display(),
        libraries.display(),
        program.display()
    )
}

/// Makes absolute paths of the headers' makefile point into the folder where they were unpacked.
fn move_here(makefile: &Path, root: &Path) -> Result<()> {
    let text = fs::read_to_string(makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
    let moved = text.replace("/usr/src/", &format!("{}/usr/src/", root.display()));
    Ok(fs::write(makefile, moved)?)
}

/// A compiler that leaves out the options it does not know.
fn compiler_script(knows: impl Fn(&str) -> bool) -> String {
    let mut cases = String::new();
    for (probe, prefix, instead) in OPTIONS {
        if knows(probe) {
            continue;
        }
        let action = match instead {
            Some(instead) => format!("set -- \"$@\" \"{instead}${{word#{prefix}}}\""),
            None => ":".to_owned(),
        };
        cases.push_str(&format!("    {prefix}*) {action} ;;\n"));
    }
    format!(
        "#!/bin/sh\nfor word do\n  shift\n  case \"$word\" in\n{cases}    *) set -- \"$@\" \"$word\" ;;\n  esac\ndone\n\
         exec gcc \"$@\"\n"
    )
}

fn knows_option(option: &str) -> bool {
    let mut gcc = Command::new("gcc");
    gcc.args(["-Werror", option, "-S", "-x", "c", "/dev/null", "-o", "/dev/null"]);
    command::output(&mut gcc).is_ok()
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_follow_from_the_release() {
        let packages = Packages::of("7.3.4+deb13-amd64").unwrap();
        assert_eq!(packages.headers, "linux-headers-7.3.4+deb13-amd64");
        assert_eq!(packages.common, "linux-headers-7.3.4+deb13-common");
        assert_eq!(packages.kbuild, "linux-kbuild-7.3.4+deb13");
        assert_eq!(packages.source, "linux-source-7.3");
        assert_eq!(Packages::of("7.3-rc7-amd64").unwrap().source, "linux-source-7.3");
        assert!(Packages::of("7").is_err() && Packages::of("7-amd64").is_err());
    }

    /// Runs a compiler script whose compiler is `echo`.
    fn compiled_with(knows: impl Fn(&str) -> bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("compiler");
        write_script(&script, &compiler_script(knows).replace("exec gcc", "printf '<%s>'")).unwrap();
        let mut command = Command::new(&script);
        command.args(["-DA=\"b c\"", "-fmin-function-alignment=32", "-fzero-init-padding-bits=all", "x.c"]);
        command::output(&mut command).unwrap()
    }

    #[test]
    fn unknown_options_are_left_out_and_words_stay_whole() {
        assert_eq!(compiled_with(|_| false), "<-DA=\"b c\"><-falign-functions=32><x.c>");
        let all = "<-DA=\"b c\"><-fmin-function-alignment=32><-fzero-init-padding-bits=all><x.c>";
        assert_eq!(compiled_with(|_| true), all);
    }

    #[test]
    fn a_tool_becomes_a_script_around_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let tool = root.join("fixdep");
        assert!(run_by_own_loader(root, &tool, &tool).is_err(), "a missing tool is an error");
        fs::write(&tool, "program").unwrap();
        run_by_own_loader(root, &tool, &tool).unwrap();
        assert_eq!(fs::read_to_string(root.join("fixdep.elf")).unwrap(), "program");
        assert!(fs::read_to_string(&tool).unwrap().contains("--library-path"));
        assert!(run_by_own_loader(root, &tool, &root.join("gone")).is_err());
    }

    #[test]
    fn the_makefile_is_moved_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let makefile = folder.path().join("Makefile");
        fs::write(&makefile, "KBUILD_OUTPUT=/usr/src/a\ninclude /usr/src/b/Makefile\n").unwrap();
        move_here(&makefile, Path::new("/r")).unwrap();
        let moved = "KBUILD_OUTPUT=/r/usr/src/a\ninclude /r/usr/src/b/Makefile\n";
        assert_eq!(fs::read_to_string(&makefile).unwrap(), moved);
    }
}
