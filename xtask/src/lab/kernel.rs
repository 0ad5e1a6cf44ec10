//! Kernels: their names, their order, where they lie.

use std::cmp::Ordering;
use std::fmt;
use std::path::PathBuf;

/// What `uname -r` says, for example `7.3.4+deb13-amd64`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Release(String);

impl Release {
    /// `None` when the text does not begin with two numbers.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let release = Self(text.to_owned());
        (release.numbers().len() >= 2).then_some(release)
    }

    /// The leading numbers: `[7, 3, 4]`.
    fn numbers(&self) -> Vec<u32> {
        let numeric = self.0.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("");
        numeric.split('.').map_while(|part| part.parse().ok()).collect()
    }

    /// Major and minor number: what decides which ioctls exist.
    pub(crate) fn series(&self) -> (u32, u32) {
        match self.numbers().as_slice() {
            [major, minor, ..] => (*major, *minor),
            _ => (0, 0),
        }
    }

    /// Whether a user who says `name` can mean this: the whole release, or its beginning up to a separator.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '+', '-']))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers().cmp(&other.numbers()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The newest release of every series.
pub(crate) fn newest_of_each_series(releases: &[Release]) -> Vec<Release> {
    let mut newest: Vec<Release> = Vec::new();
    let mut sorted = releases.to_vec();
    sorted.sort();
    for release in sorted {
        newest.retain(|kept| kept.series() != release.series());
        newest.push(release);
    }
    newest
}

/// A kernel in the lab's folder.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    pub(crate) release: Release,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// The folder that `/lib/modules/RELEASE` would be.
    pub(crate) modules: PathBuf,
    /// Its configuration, if it came with one.
    pub(crate) config: Option<PathBuf>,
    /// The folder belongs to the user and may change at any time; nothing made from it is kept.
    pub(crate) linked: bool,
}

impl Kernel {
    /// The kernel in a finished entry of the lab's folder.
    pub(crate) fn at(folder: PathBuf) -> Option<Self> {
        let release = Release::parse(folder.file_name()?.to_str()?)?;
        let (image, modules) = (folder.join("vmlinuz"), folder.join("modules"));
        let linked = modules.is_symlink();
        let config = Some(folder.join("config")).filter(|path| path.is_file());
        (image.exists() && modules.is_dir()).then_some(Self { release, image, modules, config, linked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases(names: &[&str]) -> Vec<Release> {
        names.iter().map(|name| Release::parse(name).unwrap()).collect()
    }

    #[test]
    fn order_is_numeric_not_alphabetic() {
        let mut list =
            releases(&["7.2.12+deb13-amd64", "6.18.5+deb13-amd64", "7.2.9+deb13-amd64", "7.3-amd64"]);
        list.sort();
        let names: Vec<&str> = list.iter().map(Release::as_str).collect();
        assert_eq!(names, ["6.18.5+deb13-amd64", "7.2.9+deb13-amd64", "7.2.12+deb13-amd64", "7.3-amd64"]);
    }

    #[test]
    fn a_user_may_shorten_a_release_at_a_separator() {
        let release = Release::parse("7.3.14+deb13-amd64").unwrap();
        assert!(
            ["7", "7.3", "7.3.14", "7.3.14+deb13", "7.3.14+deb13-amd64"]
                .iter()
                .all(|name| release.matches(name))
        );
        assert!(!["7.3.1", "7.31", "6", "7.3.14+deb13-amd"].iter().any(|name| release.matches(name)));
    }

    #[test]
    fn series_are_two_numbers() {
        assert_eq!(Release::parse("6.18.15+deb13-amd64").unwrap().series(), (6, 18));
        assert_eq!(Release::parse("7.3-rc7-amd64").unwrap().series(), (7, 3));
        assert!(Release::parse("amd64").is_none() && Release::parse("7").is_none());
    }

    #[test]
    fn one_release_of_each_series_is_chosen() {
        let all = releases(&["6.17.8-a", "7.3.4-a", "6.17.13-a", "7.2.6-a", "7.2.12-a"]);
        assert_eq!(newest_of_each_series(&all), releases(&["6.17.13-a", "7.2.12-a", "7.3.4-a"]));
    }
}
