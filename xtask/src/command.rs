//! Running host tools, with errors that say what was run and what it said.

use crate::child;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// The tool's standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    check_interrupted()?;
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    check_interrupted()?;
    if !output.status.success() {
        bail!("{shown} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed something that is not UTF-8"))
}

/// Runs the tool with its output shown to the user.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = describe(command);
    check_interrupted()?;
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {shown}"))?;
    check_interrupted()?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}

/// Ctrl-C in the terminal ends the tool too; its failure then is of no interest.
fn check_interrupted() -> Result<()> {
    if child::interrupted() { Err(child::Interrupted.into()) } else { Ok(()) }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("`{}...`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tool_is_quoted_with_its_words() {
        let error =
            output(Command::new("sh").args(["-c", "echo because >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("because") && error.contains('3'), "{error}");
        assert_eq!(output(Command::new("echo").arg("x")).unwrap(), "x\n");
        assert!(
            run(&mut Command::new("/nonexistent/tool"))
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/tool")
        );
    }
}
