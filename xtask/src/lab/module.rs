//! Kernel modules: which ones a driver needs, in which order, unpacked.
//!
//! Every module names those it needs in its `.modinfo` section, so nothing but the modules themselves has to exist
//! (Debian makes `modules.dep` only when a kernel is installed).

use anyhow::{Context, Result, anyhow, bail};
use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a module says about its needs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Modules it takes symbols from.
    pub(crate) hard: Vec<String>,
    /// Modules it would like to find loaded; they may be built in or absent.
    pub(crate) soft: Vec<String>,
}

/// The modules below a folder, by normal name.
#[derive(Debug)]
pub(crate) struct Tree {
    files: BTreeMap<String, PathBuf>,
}

/// A module unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

impl Tree {
    pub(crate) fn scan(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut pending = vec![folder.join("kernel")];
        while let Some(folder) = pending.pop() {
            let entries =
                fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    pending.push(path);
                } else if let Some(name) =
                    path.file_name().and_then(|name| name.to_str()).and_then(module_name)
                {
                    files.insert(name, path);
                }
            }
        }
        Ok(Self { files })
    }

    /// The named modules and all they need, in the order they must be loaded.
    pub(crate) fn closure(&self, names: &[&str]) -> Result<Vec<Unpacked>> {
        let mut contents = BTreeMap::new();
        let order = order(names, |name| {
            let Some(path) = self.files.get(name) else { return Ok(None) };
            let content = unpack(path)?;
            let needs = needs(&content).with_context(|| format!("cannot read {}", path.display()))?;
            contents.insert(name.to_owned(), content);
            Ok(Some(needs))
        })?;
        let with_content = |name: String| {
            let content = contents.remove(&name).unwrap_or_default();
            Unpacked { name, content }
        };
        Ok(order.into_iter().map(with_content).collect())
    }
}

/// `drm-buddy.ko.xz` → `drm_buddy`: dashes and underscores are the same to the kernel's tools.
fn module_name(file: &str) -> Option<String> {
    let (name, rest) = file.split_once(".ko")?;
    (rest.is_empty() || rest.starts_with('.')).then(|| normal(name))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Depth first: a module comes after what it needs. `look_up` answers `None` for what is not a module.
fn order(names: &[&str], mut look_up: impl FnMut(&str) -> Result<Option<Needs>>) -> Result<Vec<String>> {
    let mut walk =
        Walk { look_up: &mut look_up, loaded: Vec::new(), seen: BTreeSet::new(), path: Vec::new() };
    for name in names {
        walk.visit(&normal(name), true)?;
    }
    Ok(walk.loaded)
}

struct Walk<'a> {
    look_up: &'a mut dyn FnMut(&str) -> Result<Option<Needs>>,
    loaded: Vec<String>,
    seen: BTreeSet<String>,
    path: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, name: &str, required: bool) -> Result<()> {
        if self.path.iter().any(|above| above == name) {
            if !required {
                return Ok(());
            }
            bail!("modules need each other in a circle: {} -> {name}", self.path.join(" -> "));
        }
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(needs) = (self.look_up)(name)? else {
            if !required {
                return Ok(());
            }
            let by = self.path.last().map_or(String::new(), |above| format!(", which {above} needs"));
            return Err(anyhow!("the kernel has no module {name}{by}"));
        };
        self.path.push(name.to_owned());
        for (names, required) in [(&needs.soft, false), (&needs.hard, true)] {
            for needed in names {
                self.visit(needed, required)?;
            }
        }
        self.path.pop();
        self.loaded.push(name.to_owned());
        Ok(())
    }
}

/// Reads `depends=` and `softdep=pre: ...` of a module's image.
fn needs(image: &[u8]) -> Result<Needs> {
    let file = object::File::parse(image).context("not an ELF file")?;
    let section = file.section_by_name(".modinfo").context("no .modinfo section: not a kernel module")?;
    Ok(parse_modinfo(section.data()?))
}

fn parse_modinfo(section: &[u8]) -> Needs {
    let mut needs = Needs::default();
    for field in section.split(|byte| *byte == 0) {
        let field = String::from_utf8_lossy(field);
        if let Some(list) = field.strip_prefix("depends=") {
            needs.hard.extend(list.split(',').filter(|name| !name.is_empty()).map(normal));
        } else if let Some(text) = field.strip_prefix("softdep=") {
            let mut before = false;
            for word in text.split_whitespace() {
                match word {
                    "pre:" => before = true,
                    "post:" => before = false,
                    name if before => needs.soft.push(normal(name)),
                    _ => {}
                }
            }
        }
    }
    needs
}

fn unpack(path: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut content = Vec::new();
    let done = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return Ok(packed),
        Some("xz") => lzma_rust2::XzReader::new(packed.as_slice(), true).read_to_end(&mut content).map(drop),
        Some("zst") => ruzstd::decoding::StreamingDecoder::new(packed.as_slice())
            .map_err(std::io::Error::other)
            .and_then(|mut decoder| decoder.read_to_end(&mut content).map(drop)),
        _ => bail!("{} is packed in a way the lab does not know (known: .xz, .zst)", path.display()),
    };
    done.with_context(|| format!("cannot unpack {}", path.display()))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up<'a>(table: &'a [(&str, &str)]) -> impl FnMut(&str) -> Result<Option<Needs>> + 'a {
        |name| {
            let found = table.iter().find(|(module, _)| *module == name);
            Ok(found.map(|(_, modinfo)| parse_modinfo(modinfo.replace(';', "\0").as_bytes())))
        }
    }

    #[test]
    fn needs_come_first_and_each_once() {
        let table = [
            ("xe", "license=GPL;depends=drm,ttm,drm-buddy"),
            ("ttm", "depends=drm"),
            ("drm", "depends="),
            ("drm_buddy", "depends=drm"),
        ];
        assert_eq!(order(&["xe", "drm"], look_up(&table)).unwrap(), ["drm", "ttm", "drm_buddy", "xe"]);
    }

    #[test]
    fn soft_needs_are_loaded_when_they_exist() {
        let table =
            [("a", "softdep=pre: b builtin post: late;depends="), ("b", "depends="), ("late", "depends=")];
        assert_eq!(order(&["a"], look_up(&table)).unwrap(), ["b", "a"]);
    }

    #[test]
    fn a_missing_or_circular_need_is_an_error_that_names_both() {
        let error = order(&["xe"], look_up(&[("xe", "depends=gone")])).unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("xe"), "{error}");
        let circle = [("a", "depends=b"), ("b", "depends=a")];
        assert!(order(&["a"], look_up(&circle)).unwrap_err().to_string().contains("a -> b -> a"));
        let soft_circle = [("a", "softdep=pre: b;depends="), ("b", "depends=a")];
        assert!(order(&["a"], look_up(&soft_circle)).is_err(), "b cannot be loaded before the a it needs");
    }

    #[test]
    fn file_names_become_module_names() {
        assert_eq!(module_name("drm-buddy.ko.xz").as_deref(), Some("drm_buddy"));
        assert_eq!(module_name("xe.ko").as_deref(), Some("xe"));
        assert_eq!(module_name("modules.order"), None);
        assert_eq!(module_name("a.kobold"), None);
    }

    #[test]
    fn packed_files_are_unpacked_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        assert_eq!(unpack(&write("a.ko", b"plain")).unwrap(), b"plain");
        // `printf hello | xz -C crc32`
        let xz = [
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21, 0x01,
            0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x04, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
            0x00, 0x00, 0x00, 0x00, 0x86, 0xa6, 0x10, 0x36, 0x00, 0x01, 0x19, 0x05, 0xbc, 0xe8, 0xec, 0xcb,
            0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
        ];
        assert!(unpack(&write("broken.ko.xz", b"\xfd7zXZ\0 nonsense")).is_err());
        assert_eq!(unpack(&write("b.ko.xz", &xz)).unwrap(), b"hello");
        // `printf hello | zstd --no-check`
        let zst = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x29, 0x00, 0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(unpack(&write("d.ko.zst", &zst)).unwrap(), b"hello");
        assert!(unpack(&write("c.ko.gz", b"x")).unwrap_err().to_string().contains("c.ko.gz"));
    }
}
