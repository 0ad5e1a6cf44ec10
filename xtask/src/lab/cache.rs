//! The folder outside the checkout where everything fetched and built for the lab is kept.
//!
//! Every entry appears whole by a rename, so an interrupted setup leaves nothing that looks finished.

use super::kernel::{Kernel, Release};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::FlockOperation;
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variable that names the folder for everything this workspace fetches; the lab has a part of it.
pub(crate) const VARIABLE: &str = "DRM_PAGEMAP_CACHE";

#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The folder by option, else the lab's part of the folder that the variable names, else of the one in the user's
    /// cache folder. It need not exist.
    pub(crate) fn locate(option: Option<PathBuf>) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let all = || {
            variable(VARIABLE)
                .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("drm-pagemap")))
                .or_else(|| variable("HOME").map(|home| home.join(".cache/drm-pagemap")))
        };
        let root = option
            .or_else(|| all().map(|all| all.join("lab")))
            .ok_or_else(|| anyhow!("no place for the lab's files: set {VARIABLE}, or HOME"))?;
        let root =
            std::path::absolute(&root).with_context(|| format!("cannot resolve {}", root.display()))?;
        // The loader's library path and apt's configuration would both misread these.
        if root.to_string_lossy().contains([':', '"', ';', ' ']) {
            bail!("the lab's folder {} must not hold a blank, colon, semicolon or quote", root.display());
        }
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// A folder below the root, made if need be.
    pub(crate) fn folder(&self, below: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.path(below);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Keeps other setups out until the guard is dropped; waits for one that is under way.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.folder("")?.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("lab: waiting for another setup in {}", self.root.display());
            rustix::fs::flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Lock { _file: file })
    }

    /// Makes `below` by filling an empty folder beside it and renaming that; what was there before is replaced.
    pub(crate) fn install(
        &self,
        below: impl AsRef<Path>,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let target = self.path(below);
        let parent = target.parent().ok_or_else(|| anyhow!("{} has no parent", target.display()))?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // A leading dot keeps unfinished folders out of listings; the guard removes it on any error.
        let unfinished = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
        let content = unfinished.path().join("content");
        fs::create_dir(&content)?;
        fill(&content)?;
        if fs::symlink_metadata(&target).is_ok() {
            fs::rename(&target, unfinished.path().join("old"))?;
        }
        fs::rename(&content, &target)
            .with_context(|| format!("cannot move the finished folder to {}", target.display()))?;
        Ok(target)
    }

    /// Removes what interrupted setups left.
    pub(crate) fn sweep(&self) -> Result<()> {
        for parent in ["", "qemu", "kernel", "headers", "busybox", "initramfs", "hmm", "upstream"] {
            for entry in fs::read_dir(self.path(parent)).into_iter().flatten().flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(b".unfinished-") {
                    fs::remove_dir_all(entry.path())
                        .with_context(|| format!("cannot remove {}", entry.path().display()))?;
                }
            }
        }
        Ok(())
    }

    /// Finished entries of one kind, sorted by name.
    pub(crate) fn entries(&self, kind: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(kind)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
            .map(|e| e.path())
            .collect();
        paths.sort();
        paths
    }

    /// The one entry of a kind of which only the newest is kept.
    pub(crate) fn single(&self, kind: &str) -> Result<PathBuf> {
        self.entries(kind)
            .pop()
            .ok_or_else(|| anyhow!("no {kind} in {}: run `cargo xtask lab setup` first", self.root.display()))
    }

    /// Removes every entry of a kind but one.
    pub(crate) fn keep_only(&self, kind: &str, kept: &Path) -> Result<()> {
        for path in self.entries(kind).into_iter().filter(|path| path != kept) {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// The kernels here, oldest first.
    pub(crate) fn kernels(&self) -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = self.entries("kernel").into_iter().filter_map(Kernel::at).collect();
        kernels.sort_by(|a, b| a.release.cmp(&b.release));
        kernels
    }

    /// The kernel a user means by `name` (see [`Release::matches`]); the newest when no name is given.
    pub(crate) fn kernel(&self, name: Option<&str>) -> Result<Kernel> {
        let kernels = self.kernels();
        let known = || {
            let names: Vec<String> = kernels.iter().map(|kernel| kernel.release.to_string()).collect();
            if names.is_empty() { "none".into() } else { names.join(", ") }
        };
        let found = kernels.iter().rev().find(|kernel| name.is_none_or(|name| kernel.release.matches(name)));
        found.cloned().ok_or_else(|| match name {
            Some(name) => anyhow!(
                "kernel {name} is not in {} (there: {}): run `cargo xtask lab setup --kernel {name}`",
                self.root.display(),
                known()
            ),
            None => anyhow!("no kernel in {}: run `cargo xtask lab setup` first", self.root.display()),
        })
    }

    /// Whether a kernel is already here.
    pub(crate) fn has_kernel(&self, release: &Release) -> bool {
        self.path("kernel").join(release.to_string()).join("vmlinuz").exists()
    }
}

/// Held while the folder is being changed.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: fs::File,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::locate(Some(folder.path().join("lab"))).unwrap();
        (folder, cache)
    }

    #[test]
    fn an_interrupted_install_leaves_nothing_that_looks_finished() {
        let (_guard, cache) = cache();
        let failed = cache.install("qemu/1", |content| {
            fs::write(content.join("half"), "x")?;
            bail!("interrupted")
        });
        assert!(failed.is_err());
        assert!(cache.entries("qemu").is_empty());
        assert!(cache.single("qemu").unwrap_err().to_string().contains("lab setup"));
    }

    #[test]
    fn install_replaces_and_keep_only_removes_the_rest() {
        let (_guard, cache) = cache();
        for text in ["first", "second"] {
            cache.install("qemu/1", |content| Ok(fs::write(content.join("file"), text)?)).unwrap();
        }
        assert_eq!(fs::read_to_string(cache.path("qemu/1/file")).unwrap(), "second");
        let kept = cache.install("qemu/2", |_| Ok(())).unwrap();
        cache.keep_only("qemu", &kept).unwrap();
        assert_eq!(cache.entries("qemu"), [kept]);
    }

    #[test]
    fn leftovers_of_a_killed_setup_are_swept() {
        let (_guard, cache) = cache();
        fs::create_dir_all(cache.path("kernel/.unfinished-abc/content")).unwrap();
        assert!(cache.entries("kernel").is_empty());
        cache.sweep().unwrap();
        assert!(!cache.path("kernel/.unfinished-abc").exists());
    }

    #[test]
    fn a_second_lock_waits_for_the_first() {
        let (_guard, cache) = cache();
        let first = cache.lock().unwrap();
        let file = fs::File::open(cache.path("lock")).unwrap();
        assert!(rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(first);
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    }

    #[test]
    fn folders_that_tools_would_misread_are_refused() {
        assert!(Cache::locate(Some("/tmp/a b".into())).is_err());
        assert!(Cache::locate(Some("/tmp/a:b".into())).is_err());
    }
}
