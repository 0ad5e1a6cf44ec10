//! `lab list`: kernels here and in the archive, and what is known of them.

use super::cache::Cache;
use super::catalog::{self, Support};
use super::kernel::Release;
use crate::table::Table;
use std::collections::BTreeMap;

/// The kernels that are here, the newest first, one a line.
pub(crate) fn here(cache: &Cache) -> String {
    cache.kernels().iter().rev().map(|kernel| format!("{}\n", kernel.release)).collect()
}

pub(crate) fn list(cache: &Cache) -> String {
    let mut found: BTreeMap<Release, Vec<&str>> = BTreeMap::new();
    for kernel in cache.kernels() {
        found.entry(kernel.release).or_default().push(if kernel.linked { "here (linked)" } else { "here" });
    }
    let offers = catalog::load(&cache.path("catalog.json"));
    for release in offers.iter().filter_map(|offer| Release::parse(&offer.release)) {
        found.entry(release).or_default().push("in the archive");
    }
    if found.is_empty() {
        return format!(
            "no kernel in {}, and the archive was never read: run `cargo xtask lab setup`\n",
            cache.root().display()
        );
    }
    let mut table =
        Table::new(&["kernel", "where", "xe: mirror", "advice", "prefetch to VRAM", "KFD SVM", "tried with"]);
    let mut remarks = String::new();
    for (release, places) in &found {
        let cells = match catalog::support(release) {
            Some(support) => known(support),
            None => ["?", "?", "?", "?", "never tried"].map(str::to_owned),
        };
        let mut row = vec![release.to_string(), places.join(", ")];
        row.extend(cells);
        table.row(row);
    }
    for support in catalog::SUPPORT.iter().filter(|support| !support.remark.is_empty()) {
        remarks.push_str(&format!("{}.{}: {}\n", support.series.0, support.series.1, support.remark));
    }
    format!("{table}\nAll of it was seen with the real driver on a virtual GPU.\n{remarks}")
}

fn known(support: &Support) -> [String; 5] {
    [support.xe_mirror, support.xe_advice, support.xe_prefetch, support.kfd_svm, support.tried]
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::catalog::Offer;

    #[test]
    fn kernels_are_listed_with_what_is_known_and_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::locate(Some(folder.path().join("lab"))).unwrap();
        assert!(list(&cache).contains("lab setup"));
        cache.folder("").unwrap();
        let offer = |release: &str| Offer { release: release.into(), packages: vec![] };
        catalog::save(&cache.path("catalog.json"), &[offer("6.17.13-amd64"), offer("9.1.0-amd64")]).unwrap();
        let text = list(&cache);
        let line = |release: &str| text.lines().find(|line| line.contains(release)).unwrap().to_owned();
        assert!(line("6.17.13-amd64").contains("kernel oops"));
        assert!(line("9.1.0-amd64").contains("never tried"));
    }
}
