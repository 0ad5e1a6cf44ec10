//! `docs/troubleshooting.md` knows every check, and every cure that the made-up machines bring to light.

use drm_pagemap::doctor::{CHECKS, Report};

/// The page: a heading for each check, and below it, as list items, the cures. `…` in an item stands for what differs from
/// machine to machine.
const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// Panics unless each cure of the report is on the page, below its check.
pub(crate) fn assert_cures_are_there(report: &Report) {
    for (_, finding) in report.findings() {
        let Some(cure) = finding.cure() else { continue };
        let id = finding.check().id;
        let items = section(id).lines().filter_map(|line| line.strip_prefix("* "));
        assert!(
            items.into_iter().any(|item| fits(item, cure)),
            "docs/troubleshooting.md, section `{id}`, lacks this cure:\n* {cure}\n({})",
            finding.observed()
        );
    }
}

/// The text below the heading of a check; empty where there is none.
fn section(id: &str) -> &'static str {
    let heading = format!("(`{id}`)\n");
    let Some((_, rest)) = PAGE.split_once(&heading) else { return "" };
    rest.split("\n## ").next().unwrap_or_default().split("\n### ").next().unwrap_or_default()
}

/// Whether the text is the item, with anything in place of each `…`.
fn fits(item: &str, text: &str) -> bool {
    let mut parts = item.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn every_check_has_its_heading_and_rule() {
    for check in CHECKS {
        let heading = format!("### {} (`{}`)\n", check.title, check.id);
        assert!(PAGE.contains(&heading), "docs/troubleshooting.md lacks: {heading}");
        assert!(
            section(check.id).contains(&format!("Rule: {}\n", check.source)),
            "docs/troubleshooting.md, section `{}`, lacks:\nRule: {}",
            check.id,
            check.source
        );
    }
    let headings = PAGE.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(headings, CHECKS.len(), "docs/troubleshooting.md has headings of checks that do not exist");
}

#[test]
fn items_fit_with_anything_in_the_gaps() {
    assert!(fits("join the group …: usermod -aG … USER", "join the group render: usermod -aG render USER"));
    assert!(fits("plain", "plain") && !fits("plain", "plainly") && !fits("a … c", "a b d"));
    assert!(fits("… or newer", "Linux 6.18 or newer") && fits("see …", "see "));
}
