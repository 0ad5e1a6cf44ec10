//! What the real driver once answered, kept as text: the simulation can be held against it without the driver.
//!
//! ```text
//! #! 7.3.4+deb13-amd64        the kernel
//! # seed 12                   a script begins
//! bind op=map flags=mirror    a step,
//! #= ok                       and its answer
//! ```

use std::fmt::Write as _;
use std::path::Path;

use super::script::Script;
use super::step::Step;
use super::worker::Transcript;

/// A script with the real driver's answers.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) kernel: String,
    pub(crate) script: Script,
    pub(crate) real: Transcript,
}

/// The text of one.
pub(crate) fn print(script: &Script, real: &Transcript) -> String {
    let mut text = String::new();
    for (number, step) in script.steps.iter().enumerate() {
        let _ = writeln!(text, "{step}");
        if let Some(answer) = real.answers.get(number) {
            let _ = writeln!(text, "#= {answer}");
        }
    }
    text
}

/// The head of a file of recordings.
pub(crate) fn head(kernel: &str) -> String {
    format!("#! {kernel}\n")
}

/// The line that begins a script.
pub(crate) fn begin(script: &Script) -> String {
    format!("# {}\n", script.name)
}

/// All of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Recorded>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|why| format!("{}: {why}", path.display()))
}

/// All of a text.
pub(crate) fn parse(text: &str) -> Result<Vec<Recorded>, String> {
    let mut kernel = String::new();
    let mut all: Vec<Recorded> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(release) = line.strip_prefix("#! ") {
            kernel = release.to_owned();
        } else if let Some(name) = line.strip_prefix("# ") {
            all.push(Recorded {
                kernel: kernel.clone(),
                script: Script { name: name.to_owned(), steps: Vec::new() },
                real: Transcript::default(),
            });
        } else {
            let last = all.last_mut().ok_or("a recording begins with the name of its script")?;
            match line.strip_prefix("#= ") {
                Some(answer) => last.real.answers.push(answer.to_owned()),
                None => last.script.steps.push(line.parse::<Step>().map_err(|bad| bad.to_string())?),
            }
        }
    }
    // The last one may be cut off by the end of the machine that it was recorded on.
    all.retain(|recorded| !recorded.script.steps.is_empty());
    Ok(all)
}
