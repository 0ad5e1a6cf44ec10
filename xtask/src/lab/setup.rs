//! `lab setup`: fills the lab's folder.

use super::apt::{Apt, Source};
use super::cache::Cache;
use super::catalog::{self, Offer};
use super::kernel::{self, Kernel, Release};
use super::qemu::Qemu;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Which kernels to fetch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    #[default]
    Newest,
    /// The newest release of every series.
    Series,
    /// Releases as the user named them, see [`Release::matches`].
    Named(Vec<String>),
}

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) source: Source,
    pub(crate) choice: Choice,
    /// A QEMU of the user's own.
    pub(crate) qemu: Option<PathBuf>,
    /// A kernel of the user's own.
    pub(crate) kernel: Option<Kernel>,
}

pub(crate) fn setup(cache: &Cache, options: &Options) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the lab runs x86_64 kernels with x86_64 programs; this machine is {}", std::env::consts::ARCH);
    }
    let _lock = cache.lock()?;
    cache.sweep()?;
    if let Some(path) = &options.qemu {
        link_qemu(cache, path)?;
    }
    if let Some(kernel) = &options.kernel {
        link_kernel(cache, kernel)?;
    }
    if options.qemu.is_some() && options.kernel.is_some() {
        eprintln!("lab: ready in {} (busybox and kernel headers are not fetched)", cache.root().display());
        return Ok(());
    }
    let apt = Apt::open(&cache.folder("apt")?, &options.source)?;
    if options.qemu.is_none() {
        fetch_qemu(cache, &apt)?;
    }
    if options.kernel.is_none() {
        fetch_kernels(cache, &apt, &options.choice)?;
    }
    fetch_single(cache, &apt, "headers", "linux-libc-dev", "usr/include/linux")?;
    fetch_single(cache, &apt, "busybox", "busybox-static", "")?;
    eprintln!("lab: ready in {}", cache.root().display());
    Ok(())
}

/// Version text that is safe as a folder name in a library path.
fn folder_name(version: &str) -> String {
    version.replace([':', '~'], "-")
}

fn fetch_qemu(cache: &Cache, apt: &Apt) -> Result<()> {
    let candidate = apt.newest("qemu-system-x86", |version| upstream_at_least(version, (10, 1)))?;
    let below = Path::new("qemu").join(folder_name(&candidate.version));
    if !cache.path(&below).exists() {
        let closure = apt.closure(&candidate)?;
        eprintln!("lab: fetching QEMU {} ({} packages)", candidate.version, closure.len());
        cache.install(&below, |content| {
            apt.unpack(&closure, content)?;
            for useless in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var"] {
                let path = content.join(useless);
                if path.exists() {
                    fs::remove_dir_all(path)?;
                }
            }
            Qemu::at(content).check()
        })?;
    }
    cache.keep_only("qemu", &cache.path(&below))
}

/// Whether the upstream part of a Debian version (`1:11.1.3+ds-1`) is at least this.
fn upstream_at_least(version: &str, least: (u32, u32)) -> bool {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    let mut numbers =
        upstream.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
}

fn fetch_kernels(cache: &Cache, apt: &Apt, choice: &Choice) -> Result<()> {
    let offers = catalog::offers(&apt.names(catalog::PACKAGE_PATTERN)?);
    catalog::save(&cache.path("catalog.json"), &offers)?;
    let chosen = choose(&offers, choice)?;
    for (number, offer) in chosen.iter().enumerate() {
        let release = parse_offer(offer)?;
        if cache.has_kernel(&release) {
            continue;
        }
        eprintln!("lab: fetching kernel {release} ({} of {})", number + 1, chosen.len());
        cache.install(Path::new("kernel").join(&offer.release), |content| {
            let unpacked = content.join("unpacked");
            fs::create_dir(&unpacked)?;
            apt.unpack(&offer.packages, &unpacked)?;
            arrange_kernel(content, &unpacked, &offer.release)?;
            Ok(fs::remove_dir_all(unpacked)?)
        })?;
    }
    Ok(())
}

fn parse_offer(offer: &Offer) -> Result<Release> {
    Release::parse(&offer.release).with_context(|| format!("{} is no kernel release", offer.release))
}

fn choose(offers: &[Offer], choice: &Choice) -> Result<Vec<Offer>> {
    let releases = offers.iter().map(parse_offer).collect::<Result<Vec<Release>>>()?;
    let wanted: Vec<Release> = match choice {
        Choice::Newest => releases.iter().max().cloned().into_iter().collect(),
        Choice::Series => kernel::newest_of_each_series(&releases),
        Choice::Named(names) => {
            let find = |name: &String| {
                releases.iter().filter(|release| release.matches(name)).max().cloned().with_context(|| {
                    let known: Vec<&str> = releases.iter().map(Release::as_str).collect();
                    format!(
                        "the archive has no kernel {name} with shared virtual memory (there: {})",
                        known.join(", ")
                    )
                })
            };
            names.iter().map(find).collect::<Result<_>>()?
        }
    };
    if wanted.is_empty() {
        let (major, minor) = catalog::FIRST_SERIES;
        bail!("the archive has no kernel of {major}.{minor} or later");
    }
    Ok(offers
        .iter()
        .filter(|offer| wanted.iter().any(|release| release.as_str() == offer.release))
        .cloned()
        .collect())
}

/// Brings the two layouts of Debian's kernel packages into one: `vmlinuz`, `modules` and, where there is one, `config`.
fn arrange_kernel(content: &Path, unpacked: &Path, release: &str) -> Result<()> {
    let modules = ["usr/lib/modules", "lib/modules"]
        .iter()
        .map(|base| unpacked.join(base).join(release))
        .find(|path| path.join("kernel").is_dir())
        .with_context(|| format!("the packages of kernel {release} hold no modules"))?;
    let image = [modules.join("vmlinuz"), unpacked.join(format!("boot/vmlinuz-{release}"))]
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("the packages of kernel {release} hold no bootable image"))?;
    fs::rename(image, content.join("vmlinuz"))?;
    let configs = [modules.join("config"), unpacked.join(format!("boot/config-{release}"))];
    if let Some(config) = configs.into_iter().find(|path| path.is_file()) {
        fs::rename(config, content.join("config"))?;
    }
    Ok(fs::rename(modules, content.join("modules"))?)
}

/// Fetches the newest version of a package of which one is kept; `proof` must exist in it.
fn fetch_single(cache: &Cache, apt: &Apt, kind: &str, package: &str, proof: &str) -> Result<()> {
    let candidate = apt.newest(package, |_| true)?;
    let below = Path::new(kind).join(folder_name(&candidate.version));
    if !cache.path(&below).exists() {
        eprintln!("lab: fetching {package} {}", candidate.version);
        cache.install(&below, |content| {
            apt.unpack(&[candidate.pin()], content)?;
            if !content.join(proof).exists() {
                bail!("{} holds no {proof}", candidate.pin());
            }
            Ok(())
        })?;
    }
    cache.keep_only(kind, &cache.path(&below))
}

fn link_qemu(cache: &Cache, path: &Path) -> Result<()> {
    let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    let entry = cache.install("qemu/own", |content| {
        symlink(&path, content.join(Qemu::LINK))?;
        Qemu::at(content).check()
    })?;
    cache.keep_only("qemu", &entry)
}

fn link_kernel(cache: &Cache, kernel: &Kernel) -> Result<()> {
    cache.install(Path::new("kernel").join(kernel.release.as_str()), |content| {
        symlink(&kernel.image, content.join("vmlinuz"))?;
        if let Some(config) = &kernel.config {
            symlink(config, content.join("config"))?;
        }
        Ok(symlink(&kernel.modules, content.join("modules"))?)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::options::own_kernel;

    fn offers() -> Vec<Offer> {
        let offer = |release: &str| Offer {
            release: release.into(),
            packages: vec![format!("linux-image-{release}")],
        };
        ["6.17.8-a", "6.17.13-a", "7.2.12-a", "7.3.4-a"].map(offer).to_vec()
    }

    fn chosen(choice: Choice) -> Vec<String> {
        choose(&offers(), &choice).unwrap().into_iter().map(|offer| offer.release).collect()
    }

    #[test]
    fn the_newest_one_of_each_series_or_the_named_are_chosen() {
        assert_eq!(chosen(Choice::Newest), ["7.3.4-a"]);
        assert_eq!(chosen(Choice::Series), ["6.17.13-a", "7.2.12-a", "7.3.4-a"]);
        assert_eq!(chosen(Choice::Named(vec!["6.17".into(), "7.2.12".into()])), ["6.17.13-a", "7.2.12-a"]);
        let error = choose(&offers(), &Choice::Named(vec!["5.10".into()])).unwrap_err().to_string();
        assert!(error.contains("5.10") && error.contains("7.3.4-a"), "{error}");
        assert!(choose(&[], &Choice::Newest).is_err());
    }

    #[test]
    fn upstream_versions_are_compared_as_numbers() {
        assert!(upstream_at_least("1:11.1.3+ds-1~bpo13+1", (10, 1)));
        assert!(upstream_at_least("1:10.1.0+ds-1", (10, 1)));
        assert!(!upstream_at_least("1:10.0.13+ds-0+deb13u1", (10, 1)));
        assert!(!upstream_at_least("1:7.2+dfsg-7", (10, 1)));
        assert!(upstream_at_least("10.1~rc1", (10, 1)));
    }

    #[test]
    fn both_package_layouts_end_up_the_same() {
        for (modules, image, config) in [
            ("usr/lib/modules/7.3-a", "usr/lib/modules/7.3-a/vmlinuz", "usr/lib/modules/7.3-a/config"),
            ("lib/modules/7.3-a", "boot/vmlinuz-7.3-a", "boot/config-7.3-a"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let unpacked = folder.path().join("unpacked");
            fs::create_dir_all(unpacked.join(modules).join("kernel")).unwrap();
            fs::create_dir_all(unpacked.join(image).parent().unwrap()).unwrap();
            assert!(
                arrange_kernel(folder.path(), &unpacked, "7.3-a").unwrap_err().to_string().contains("image")
            );
            fs::write(unpacked.join(image), "image").unwrap();
            fs::write(unpacked.join(config), "CONFIG_X=y").unwrap();
            arrange_kernel(folder.path(), &unpacked, "7.3-a").unwrap();
            assert!(folder.path().join("vmlinuz").is_file() && folder.path().join("modules/kernel").is_dir());
            assert!(folder.path().join("config").is_file());
        }
    }

    #[test]
    fn a_kernel_of_the_users_own_is_linked_by_its_module_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::locate(Some(folder.path().join("lab"))).unwrap();
        let (image, modules) = (folder.path().join("bzImage"), folder.path().join("7.9.1-mine"));
        fs::write(&image, "image").unwrap();
        fs::create_dir_all(&modules).unwrap();
        let own = || own_kernel(image.to_str(), Some(&modules));
        assert!(own().is_err(), "a folder without modules");
        fs::create_dir_all(modules.join("kernel")).unwrap();
        link_kernel(&cache, &own().unwrap().unwrap()).unwrap();
        let kernel = cache.kernel(Some("7.9")).unwrap();
        assert!(kernel.linked && kernel.image.exists());
    }
}
