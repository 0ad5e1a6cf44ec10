//! The public API as text, taken from what `cargo doc` renders: one line for each item, method, variant, field and impl.
//!
//! rustdoc's JSON would be richer, but is unstable: each compiler has a format of its own.

use super::{Verdict, target};
use crate::command;
use crate::lab::{Workspace, cargo};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MADE_BY: &str = "# made by ";

pub(super) fn check(workspace: &Workspace) -> Result<Verdict> {
    let path = snapshot(workspace);
    let there = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (made_by, known) = parse(&there);
    let now = lines(workspace)?;
    let (gone, new) = (missing(&known, &now), missing(&now, &known));
    if gone.is_empty() && new.is_empty() {
        return Ok(Verdict::Holds(format!("{} lines, as in xtask/public-api.txt", now.len())));
    }
    let compiler = compiler()?;
    if made_by != compiler {
        return Ok(Verdict::Skipped(format!(
            "xtask/public-api.txt was made by {made_by}; {compiler} renders {} lines otherwise",
            gone.len() + new.len()
        )));
    }
    let shown = |sign: char, lines: &[&str]| -> String {
        lines.iter().take(40).map(|line| format!("\n  {sign} {line}")).collect()
    };
    bail!(
        "the public API is not that of xtask/public-api.txt ({} lines gone, {} new):{}{}\nif that is meant: cargo xtask release-check --update, and a line in CHANGELOG.md",
        gone.len(),
        new.len(),
        shown('-', &gone),
        shown('+', &new)
    )
}

pub(super) fn update(workspace: &Workspace) -> Result<()> {
    let mut text = format!("{MADE_BY}{}\n", compiler()?);
    for line in lines(workspace)? {
        text.push_str(&line);
        text.push('\n');
    }
    Ok(fs::write(snapshot(workspace), text)?)
}

fn snapshot(workspace: &Workspace) -> PathBuf {
    workspace.folder().join("xtask/public-api.txt")
}

fn parse(text: &str) -> (String, BTreeSet<String>) {
    let made_by = text.lines().next().and_then(|line| line.strip_prefix(MADE_BY)).unwrap_or_default();
    (made_by.to_owned(), text.lines().skip(1).map(str::to_owned).collect())
}

fn missing<'a>(from: &'a BTreeSet<String>, of: &'a BTreeSet<String>) -> Vec<&'a str> {
    from.difference(of).map(String::as_str).collect()
}

fn compiler() -> Result<String> {
    let text = command::output(Command::new("rustdoc").arg("--version"))?;
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

fn lines(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let folder = target(workspace).join("api");
    // Pages of items that are no more would stay.
    let _ = fs::remove_dir_all(folder.join("doc"));
    let mut doc = cargo();
    doc.args(["doc", "--quiet", "--locked", "--no-deps", "--package", "drm-pagemap", "--all-features"]);
    doc.arg("--target-dir").arg(&folder).current_dir(workspace.folder());
    command::run(&mut doc)?;
    let mut lines = BTreeSet::new();
    walk(&folder.join("doc/drm_pagemap"), "drm_pagemap", &mut lines)?;
    if lines.len() < 100 {
        bail!("cargo doc renders pages of another form than this task can read ({} lines)", lines.len());
    }
    Ok(lines)
}

fn walk(folder: &Path, module: &str, lines: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            walk(&path, &format!("{module}::{name}"), lines)?;
        } else if name == "index.html" {
            lines.insert(format!("mod {module}"));
        } else if let Some((_, item)) = name.strip_suffix(".html").and_then(|name| name.split_once('.')) {
            let item = format!("{module}::{item}");
            lines.extend(page(&fs::read_to_string(&path)?).into_iter().map(|line| format!("{item}: {line}")));
        }
    }
    Ok(())
}

/// What an item's page declares: the item, its members, its impls; not those that the compiler derives for every type.
fn page(html: &str) -> Vec<String> {
    let own = ["id=\"synthetic-implementations\"", "id=\"blanket-implementations\""]
        .iter()
        .filter_map(|mark| html.find(mark))
        .min()
        .map_or(html, |end| &html[..end]);
    let mut lines = Vec::new();
    for (start, end) in [
        ("<pre class=\"rust item-decl\">", "</pre>"),
        ("class=\"code-header\">", "</h"),
        ("<span id=\"variant.", "</span>"),
    ] {
        for part in own.split(start).skip(1) {
            lines.push(words(&without_toggles(part.split(end).next().unwrap_or_default())));
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// A declaration without the "Show 15 fields" that opens a long one: it comes and goes with the item's length.
fn without_toggles(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once("<summary class=\"hideme\">") {
        text.push_str(before);
        rest = after.split_once("</summary>").map_or("", |(_, after)| after);
    }
    text + rest
}

/// The text of a piece of HTML, its white space made alike.
fn words(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        if after.starts_with("br") || after.starts_with("div") {
            text.push(' ');
        }
        rest = after.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    for (entity, letter) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&")]
    {
        text = text.replace(entity, letter);
    }
    text.replace('\u{200b}', "").split_whitespace().filter(|word| *word != "§").collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_its_declarations() {
        let html = r##"<pre class="rust item-decl"><code>pub struct Gpu { <span class="comment">/* private fields */</span> }</code></pre>
            <section id="method.mirror" class="method"><a class="src">Source</a><h4 class="code-header">pub fn <a class="fn">mirror</a>(&amp;self) -&gt; Result&lt;<a href="x">Mirror</a>&gt;</h4></section>
            <h3 class="code-header">impl Clone for Gpu</h3>
            <h2 id="synthetic-implementations">Auto</h2><h3 class="code-header">impl Send for Gpu</h3>"##;
        assert_eq!(
            page(html),
            [
                "pub struct Gpu { /* private fields */ }",
                "pub fn mirror(&self) -> Result<Mirror>",
                "impl Clone for Gpu"
            ]
        );
    }

    #[test]
    fn a_long_declaration_reads_as_a_short_one() {
        let html = r##"<pre class="rust item-decl"><code>pub struct Kernel {<details class="toggle type-contents-toggle"><summary class="hideme"><span>Show 15 fields</span></summary>    pub version: <a href="x">u32</a>,
}</details></code></pre>"##;
        assert_eq!(page(html), ["pub struct Kernel { pub version: u32, }"]);
    }

    #[test]
    fn differences_go_both_ways() {
        let (made_by, known) = parse("# made by rustdoc 1.95.0\na\nb\n");
        let now = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        assert_eq!(
            (made_by.as_str(), missing(&known, &now), missing(&now, &known)),
            ("rustdoc 1.95.0", vec!["a"], vec!["c"])
        );
    }
}
