//! Where kernel headers come from.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

/// Directories of the user's choice, separated by colons: roots of an include tree, or of an unpacked package.
pub(crate) const HEADERS_VARIABLE: &str = "DRM_PAGEMAP_HEADERS";

/// Suite with the newest kernel that Debian packages for its stable release.
const SUITE: &str = "trixie-backports";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PACKAGE: &str = "linux-libc-dev";

/// Age at which it is time to look for newer headers.
const REFRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// The newest packaged headers: their include directory. Needs no privilege and leaves the system's packages alone.
pub(crate) fn newest() -> Result<PathBuf, String> {
    let cache = cache_directory()?.join("kernel-headers");
    let current = cache.join("current");
    let unpacked = || {
        let name = fs::read_to_string(&current).ok()?;
        let include = cache.join(name.trim()).join("usr/include");
        include.join("linux/version.h").exists().then_some(include)
    };
    let age = fs::metadata(&current).and_then(|metadata| metadata.modified()).ok();
    let fresh = age.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age < REFRESH);
    if let (true, Some(include)) = (fresh, unpacked()) {
        return Ok(include);
    }
    match download(&cache, &current) {
        Ok(()) => unpacked().ok_or_else(|| format!("the package {PACKAGE} does not hold kernel headers")),
        // Older ones are better than none; the version is part of every report.
        Err(why) => {
            unpacked().inspect(|_| println!("abi: using headers of an earlier download: {why}")).ok_or(why)
        }
    }
}

/// Fetches and unpacks the package below `cache`, and notes its folder in `current`.
fn download(cache: &Path, current: &Path) -> Result<(), String> {
    if !Path::new(KEYRING).exists() {
        return Err(format!("the archive keyring {KEYRING} is not there to check packages with"));
    }
    let targets = run(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
    let mirror = targets
        .lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
        .ok_or("apt is not configured with a Debian mirror")?;

    let work = cache.join(format!("work-{}", std::process::id()));
    let result = download_in(&work, mirror, cache, current);
    let _ = fs::remove_dir_all(&work);
    result
}

fn download_in(work: &Path, mirror: &str, cache: &Path, current: &Path) -> Result<(), String> {
    for directory in ["state/lists/partial", "cache/archives/partial"] {
        create(&work.join(directory))?;
    }
    write(&work.join("status"), "")?;
    write(&work.join("sources.list"), &format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"))?;
    let root = work.display();
    let configuration = format!(
        "Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{root}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::State \"{root}/state\";\n\
         Dir::State::Lists \"{root}/state/lists\";\n\
         Dir::State::status \"{root}/status\";\n\
         Dir::Cache \"{root}/cache\";\n\
         APT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"2\";\n\
         Acquire::http::Timeout \"30\";\n\
         Acquire::https::Timeout \"30\";\n"
    );
    let configuration_file = work.join("apt.conf");
    write(&configuration_file, &configuration)?;
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").arg("-c").arg(&configuration_file).args(arguments).current_dir(work))
    };

    apt(&["--error-on=any", "update"])?;
    apt(&["download", PACKAGE])?;
    let package = fs::read_dir(work)
        .map_err(|error| format!("cannot read {root}: {error}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| format!("apt downloaded no {PACKAGE}"))?;
    let name = package.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let destination = cache.join(&name);
    if !destination.exists() {
        let unpacked = work.join("unpacked");
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
        // Another process may have been faster; then its folder is as good.
        if let Err(error) = fs::rename(&unpacked, &destination) {
            if !destination.exists() {
                return Err(format!("cannot create {}: {error}", destination.display()));
            }
        }
    }
    let note = work.join("current");
    write(&note, &name)?;
    fs::rename(&note, current).map_err(|error| format!("cannot write {}: {error}", current.display()))
}

/// Outside the checkout, so that it outlives it and is never packaged.
fn cache_directory() -> Result<PathBuf, String> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DRM_PAGEMAP_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("drm-pagemap")))
        .or_else(|| Some(variable("HOME")?.join(".cache/drm-pagemap")))
        .ok_or_else(|| "there is no cache directory: set DRM_PAGEMAP_CACHE".into())
}

/// Directories named by the user.
pub(crate) fn chosen() -> Vec<PathBuf> {
    env::var_os(HEADERS_VARIABLE)
        .map(|paths| env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default()
}

/// The include directory of a directory named by the user.
pub(crate) fn include_directory(directory: &Path) -> Result<PathBuf, String> {
    [directory.to_owned(), directory.join("usr/include"), directory.join("include")]
        .into_iter()
        .find(|include| include.join("linux/version.h").exists())
        .ok_or_else(|| {
            format!("{HEADERS_VARIABLE} names {}, which holds no linux/version.h", directory.display())
        })
}

fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.env("LC_ALL", "C").output().map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason =
        stderr.lines().find(|line| line.starts_with("E:")).or(stderr.lines().last()).unwrap_or_default();
    Err(format!("{name} failed ({}): {reason}", output.status))
}

fn create(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("cannot create {}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
