//! Kernel versions.

use std::fmt;

/// A kernel's version, as far as its release name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct KernelVersion {
    pub(in crate::doctor) major: u32,
    pub(in crate::doctor) minor: u32,
    /// The stable release, where the name has it. `X.Y.0-N` is the form of distributions whose names count their own builds and
    /// keep the stable release to themselves (Ubuntu, Red Hat, older Debian).
    pub(in crate::doctor) stable: Option<u32>,
}

impl KernelVersion {
    /// From a release name: `6.18.15`, `7.3.4+deb13-amd64`, `7.3-rc7`, `6.8.0-45-generic`.
    pub(in crate::doctor) fn parse(release: &str) -> Option<Self> {
        let (major, rest) = leading_number(release)?;
        let (minor, rest) = leading_number(rest.strip_prefix('.')?)?;
        let (patch, rest) = match rest.strip_prefix('.').and_then(leading_number) {
            Some((patch, rest)) => (patch, rest),
            None => return Some(Self { major, minor, stable: Some(0) }),
        };
        let counts_builds = patch == 0
            && rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        Some(Self { major, minor, stable: (!counts_builds).then_some(patch) })
    }

    /// Whether it is of the series `major.minor` or a later one.
    pub(in crate::doctor) const fn is_at_least(self, major: u32, minor: u32) -> bool {
        self.major > major || (self.major == major && self.minor >= minor)
    }

    pub(in crate::doctor) const fn is_of_series(self, major: u32, minor: u32) -> bool {
        self.major == major && self.minor == minor
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.stable {
            Some(0) | None => Ok(()),
            Some(stable) => write!(f, ".{stable}"),
        }
    }
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::KernelVersion;

    #[test]
    fn release_names_of_many_kinds() {
        for (release, expected) in [
            ("6.18.15", Some((6, 18, Some(15)))),
            ("7.3.4+deb13-amd64", Some((7, 3, Some(4)))),
            ("7.3-rc7", Some((7, 3, Some(0)))),
            ("6.17.0", Some((6, 17, Some(0)))),
            ("6.17.0-rc3+", Some((6, 17, Some(0)))),
            ("6.8.0-45-generic", Some((6, 8, None))),
            ("5.14.0-503.11.1.el9_5.x86_64", Some((5, 14, None))),
            ("6.12.107-1-lts", Some((6, 12, Some(107)))),
            ("4.4.0", Some((4, 4, Some(0)))),
            ("six", None),
            ("6", None),
        ] {
            let parsed = KernelVersion::parse(release).map(|v| (v.major, v.minor, v.stable));
            assert_eq!(parsed, expected, "{release}");
        }
    }

    #[test]
    fn series_are_ordered() {
        let version = KernelVersion::parse("7.0.2").unwrap();
        assert!(version.is_at_least(6, 18) && version.is_at_least(7, 0) && !version.is_at_least(7, 1));
        assert!(version.is_of_series(7, 0) && !version.is_of_series(6, 0));
    }
}
