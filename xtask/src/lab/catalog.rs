//! Which kernels the archive offers, and what is known of each series.

use super::kernel::Release;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The first series whose xe driver has shared virtual memory.
pub(crate) const FIRST_SERIES: (u32, u32) = (6, 16);

/// The archive's package names that [`offers`] wants to see.
pub(crate) const PACKAGE_PATTERN: &str = "^linux-(image|binary|modules|base)-[0-9].*-amd64$";

/// A kernel that can be fetched, and the packages that hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) release: String,
    pub(crate) packages: Vec<String>,
}

/// Kernels that can be built from the archive's package names, oldest first.
///
/// Up to 6.18 one package holds image and modules; later ones are split, and an image without its modules (the archive
/// drops old ones at different times) is of no use. Without the third part, the kernel's configuration, a guest still boots.
pub(crate) fn offers(names: &[String]) -> Vec<Offer> {
    let all: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut releases: Vec<Release> = names.iter().filter_map(|name| plain_release(name)).collect();
    releases.sort();
    releases.dedup();
    let offer = |release: &Release| {
        let named =
            |part: &str| Some(format!("linux-{part}-{release}")).filter(|name| all.contains(name.as_str()));
        let packages = match (named("binary"), named("modules"), named("image")) {
            (Some(binary), Some(modules), _) => [binary, modules].into_iter().chain(named("base")).collect(),
            (None, None, Some(image)) => vec![image],
            _ => return None,
        };
        Some(Offer { release: release.to_string(), packages })
    };
    releases.iter().filter(|release| release.series() >= FIRST_SERIES).filter_map(offer).collect()
}

/// The release in a package name of the ordinary flavour.
fn plain_release(name: &str) -> Option<Release> {
    let text = ["linux-image-", "linux-binary-", "linux-modules-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let version = text.strip_suffix("-amd64")?;
    let flavoured = ["-rt", "-cloud"].iter().any(|flavour| version.ends_with(flavour));
    if flavoured { None } else { Release::parse(text) }
}

/// Keeps the offers for a later `lab list`.
pub(crate) fn save(path: &Path, offers: &[Offer]) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(offers)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The offers of the last setup; none when there was no setup.
pub(crate) fn load(path: &Path) -> Vec<Offer> {
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// What the drivers of one kernel series can do, seen on a virtual GPU.
#[derive(Debug)]
pub(crate) struct Support {
    pub(crate) series: (u32, u32),
    /// The release that was tried.
    pub(crate) tried: &'static str,
    /// CPU address mirror and execution in it.
    pub(crate) xe_mirror: &'static str,
    /// Memory advice and attribute query.
    pub(crate) xe_advice: &'static str,
    /// Prefetch to VRAM.
    pub(crate) xe_prefetch: &'static str,
    /// KFD shared virtual memory.
    pub(crate) kfd_svm: &'static str,
    pub(crate) remark: &'static str,
}

/// One line per series that somebody has tried.
pub(crate) const SUPPORT: &[Support] = &[
    Support {
        series: (6, 16),
        tried: "6.16.12",
        xe_mirror: "yes",
        xe_advice: "no (EINVAL)",
        xe_prefetch: "accepted, moves nothing",
        kfd_svm: "yes",
        remark: "xe: GPU faults do migrate; prefetch to region -1 trips UBSAN in xe_vm.c",
    },
    Support {
        series: (6, 17),
        tried: "6.17.13",
        xe_mirror: "yes",
        xe_advice: "no (EINVAL)",
        xe_prefetch: "kernel oops",
        kfd_svm: "yes",
        remark: "xe: xe_migrate_vram(m = NULL) out of xe_svm_copy",
    },
    Support {
        series: (6, 18),
        tried: "6.18.15",
        xe_mirror: "yes",
        xe_advice: "yes",
        xe_prefetch: "yes",
        kfd_svm: "yes",
        remark: "first series with all of xe's shared virtual memory",
    },
    Support {
        series: (7, 2),
        tried: "7.2.12",
        xe_mirror: "yes",
        xe_advice: "yes",
        xe_prefetch: "yes",
        kfd_svm: "yes",
        remark: "",
    },
    Support {
        series: (7, 3),
        tried: "7.3.4",
        xe_mirror: "yes",
        xe_advice: "yes",
        xe_prefetch: "yes",
        kfd_svm: "yes",
        remark: "also two GPUs with peer-to-peer pages",
    },
];

/// What is known of a release's series.
pub(crate) fn support(release: &Release) -> Option<&'static Support> {
    SUPPORT.iter().find(|support| support.series == release.series())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn whole_images_and_split_pairs_are_offered_and_halves_are_not() {
        let found = offers(&names(&[
            "linux-image-6.18.15+deb13-amd64",
            "linux-image-7.3.4+deb13-amd64",
            "linux-binary-7.3.4+deb13-amd64",
            "linux-modules-7.3.4+deb13-amd64",
            "linux-base-7.3.4+deb13-amd64",
            "linux-modules-7.2.9+deb13-amd64",
            "linux-binary-7.2.9+deb13-amd64",
            "linux-image-7.1.8+deb13-amd64",
            "linux-binary-7.1.8+deb13-amd64",
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-7.3.4+deb13-rt-amd64",
            "linux-image-6.17.13+deb13-cloud-amd64",
        ]));
        let expected = [
            Offer {
                release: "6.18.15+deb13-amd64".into(),
                packages: names(&["linux-image-6.18.15+deb13-amd64"]),
            },
            Offer {
                release: "7.2.9+deb13-amd64".into(),
                packages: names(&["linux-binary-7.2.9+deb13-amd64", "linux-modules-7.2.9+deb13-amd64"]),
            },
            Offer {
                release: "7.3.4+deb13-amd64".into(),
                packages: names(&[
                    "linux-binary-7.3.4+deb13-amd64",
                    "linux-modules-7.3.4+deb13-amd64",
                    "linux-base-7.3.4+deb13-amd64",
                ]),
            },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn offers_survive_the_file_and_a_missing_file_is_no_offer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.json");
        assert!(load(&path).is_empty());
        let some = vec![Offer { release: "7.3.4-amd64".into(), packages: names(&["a", "b"]) }];
        save(&path, &some).unwrap();
        assert_eq!(load(&path), some);
    }

    #[test]
    fn every_support_line_belongs_to_the_release_it_names() {
        for support in SUPPORT {
            assert_eq!(Release::parse(support.tried).unwrap().series(), support.series);
            assert!(support.series >= FIRST_SERIES);
        }
    }
}
