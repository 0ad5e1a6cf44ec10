//! How the running kernel was built.

use std::collections::BTreeMap;
use std::fmt;

use zune_inflate::{DeflateDecoder, DeflateOptions};

use crate::doctor::system::System;
use crate::error::Errno;

/// The value of a kernel option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Setting {
    BuiltIn,
    Module,
    /// Anything else but `n`, as it stands in the file.
    Value(String),
    /// `n`, or not mentioned: its own conditions are not met, or this kernel does not know it.
    NotSet,
}

impl Setting {
    pub(in crate::doctor) fn is_set(&self) -> bool {
        *self != Self::NotSet
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("y"),
            Self::Module => f.write_str("m"),
            Self::Value(value) => f.write_str(value),
            Self::NotSet => f.write_str("n"),
        }
    }
}

/// The configuration of the running kernel.
#[derive(Clone, Debug)]
pub(in crate::doctor) struct KernelConfig {
    /// The file it was read from.
    pub(in crate::doctor) path: String,
    /// The setting of each option, as it stands in the file.
    options: BTreeMap<String, String>,
}

impl KernelConfig {
    /// Where distributions put it, in the order of preference: what the kernel itself says first.
    pub(in crate::doctor) fn places(release: &str) -> [String; 6] {
        [
            "/proc/config.gz".into(),
            format!("/boot/config-{release}"),
            format!("/lib/modules/{release}/config"),
            format!("/usr/lib/modules/{release}/config"),
            format!("/lib/modules/{release}/build/.config"),
            format!("/usr/lib/ostree-boot/config-{release}"),
        ]
    }

    /// The first readable one.
    ///
    /// # Errors
    ///
    /// Each place with the reason why it gave nothing.
    pub(in crate::doctor) fn read(
        system: &dyn System,
        release: Result<&str, Errno>,
    ) -> Result<Self, Vec<(String, Errno)>> {
        let mut failures = Vec::new();
        // Without a release name only the kernel's own file is certain to be the running kernel's.
        let places = release.map_or(vec!["/proc/config.gz".into()], |release| Self::places(release).to_vec());
        for path in places {
            let text = system.read(&path).and_then(unpack).and_then(|text| {
                // An empty file, or one of another kind, says nothing; least of all that options are off.
                if text.lines().any(|line| line.starts_with("CONFIG_")) {
                    Ok(text)
                } else {
                    Err(Errno::ENODATA)
                }
            });
            match text {
                Ok(text) => return Ok(Self { options: parse(&text), path }),
                Err(errno) => failures.push((path, errno)),
            }
        }
        Err(failures)
    }

    /// The setting of an option, named without `CONFIG_`.
    pub(in crate::doctor) fn get(&self, option: &str) -> Setting {
        match self.options.get(option).map(String::as_str) {
            None | Some("n") => Setting::NotSet,
            Some("y") => Setting::BuiltIn,
            Some("m") => Setting::Module,
            Some(other) => Setting::Value(other.to_owned()),
        }
    }
}

fn unpack(bytes: Vec<u8>) -> Result<String, Errno> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    if !bytes.starts_with(&GZIP) {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    // Configurations have some 300 KB; the limit keeps a hostile file from filling memory.
    let options = DeflateOptions::default().set_limit(16 << 20);
    let text = DeflateDecoder::new_with_options(&bytes, options).decode_gzip().map_err(|_| Errno::EIO)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let option = |line: &str| {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(option).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "#\n# Linux/x86 7.3.4 Kernel Configuration\n#\nCONFIG_DRM_XE=m\nCONFIG_ZONE_DEVICE=y\n\
                        # CONFIG_DEVICE_PRIVATE is not set\nCONFIG_NR_CPUS=8192\nCONFIG_OFF=n\n";

    #[test]
    fn settings_of_every_kind() {
        let config = KernelConfig { path: String::new(), options: parse(TEXT) };
        assert_eq!(config.get("DRM_XE"), Setting::Module);
        assert_eq!(config.get("ZONE_DEVICE"), Setting::BuiltIn);
        assert_eq!(config.get("NR_CPUS"), Setting::Value("8192".into()));
        assert!(!config.get("DEVICE_PRIVATE").is_set() && !config.get("OFF").is_set());
        assert!(!config.get("NEVER_HEARD_OF").is_set());
        assert_eq!(config.get("DRM_XE").to_string(), "m");
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_still_right(
            cut in 0..400usize,
            damages in proptest::collection::vec((2..200usize, any::<u8>()), 0..3),
        ) {
            let mut bytes = packed(TEXT.as_bytes());
            bytes.truncate(cut.max(2));
            for (at, value) in damages {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            match unpack(bytes) {
                Ok(text) => prop_assert_eq!(text, TEXT),
                Err(errno) => prop_assert_eq!(errno, Errno::EIO),
            }
        }
    }

    #[test]
    fn gzip_is_unpacked_and_anything_else_is_text() {
        let packed = packed(TEXT.as_bytes());
        assert_eq!(unpack(packed.clone()).unwrap(), TEXT);
        assert_eq!(unpack(TEXT.into()).unwrap(), TEXT);
        assert_eq!(unpack(packed[..packed.len() / 2].to_vec()), Err(Errno::EIO));
    }
}
