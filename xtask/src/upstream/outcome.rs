//! What a subtest's end and its words say.

use crate::lab::{End, describe_end};

/// The upstream tests' exit code for "something is lacking" (IGT's `igt_core.h`).
pub(super) const SKIPPED: i32 = 77;

/// How a subtest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// The test found something lacking.
    Skipped(String),
    Failed(String),
}

impl Outcome {
    /// From the end of the process that ran this one subtest, and all that it printed.
    pub(super) fn of(end: &End, output: &str) -> Self {
        match end {
            End::Exited(0) if output.contains(": SUCCESS (") => Self::Passed,
            End::Exited(0) => Self::Failed("ended in order without having run the subtest".into()),
            End::Exited(SKIPPED) => Self::Skipped(lacking(output)),
            End::Exited(code) => Self::Failed(
                complaint(output).unwrap_or_else(|| format!("exit code {code}; last line: {}", last(output))),
            ),
            End::TimedOut(_) => Self::Failed(format!("did not end in its time; last line: {}", last(output))),
            end => Self::Failed(describe_end(end).unwrap_or_default()),
        }
    }
}

fn after<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.split_once(word).map(|(_, rest)| rest.trim())
}

/// The requirement that was not met, and the line of explanation where the test gives one.
fn lacking(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let found = lines.iter().position(|line| line.contains("Test requirement:"));
    let Some(at) = found else { return last(output).to_owned() };
    let condition = after(lines[at], "Test requirement:").unwrap_or_default();
    let talk = |line: &&&str| {
        !["Last errno", "Subtest ", "Dynamic subtest "].iter().any(|word| line.starts_with(word))
            && !line.trim().is_empty()
    };
    match lines.get(at + 1).filter(talk) {
        Some(why) => format!("{condition}: {}", why.trim()),
        None => condition.to_owned(),
    }
}

/// The assertion that failed, with the values it names.
fn complaint(output: &str) -> Option<String> {
    let find = |word: &str| output.lines().find_map(|line| after(line, word));
    let assertion = find("Failed assertion:")?;
    let place = find("Test assertion failure function").unwrap_or_default();
    let values = find(") error: ").or_else(|| {
        output.lines().find_map(|line| line.strip_prefix("error: ")).filter(|text| !text.is_empty())
    });
    let values = values.map_or(String::new(), |values| format!(" ({values})"));
    Some(format!("{assertion}{values} in {place}"))
}

fn last(output: &str) -> &str {
    output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing was printed").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_needs_the_subtests_own_word() {
        let output = "Starting subtest: a\nSubtest a: SUCCESS (0.1s)\n";
        assert_eq!(Outcome::of(&End::Exited(0), output), Outcome::Passed);
        assert!(matches!(Outcome::of(&End::Exited(0), "IGT-Version\n"), Outcome::Failed(_)));
        assert!(matches!(Outcome::of(&End::Signaled(11), output), Outcome::Failed(_)));
    }

    #[test]
    fn skips_name_the_requirement() {
        let plain = "Test requirement not met in function f, file x.c:1:\nTest requirement: gpu_count >= 2\n\
                     Last errno: 2, No such file or directory\nSubtest a: SKIP (0.0s)\n";
        assert_eq!(Outcome::of(&End::Exited(77), plain), Outcome::Skipped("gpu_count >= 2".into()));
        let explained = "Test requirement: !(x)\nno such engine\nSubtest a: SKIP (0.0s)\n";
        assert_eq!(Outcome::of(&End::Exited(77), explained), Outcome::Skipped("!(x): no such engine".into()));
    }

    #[test]
    fn failures_name_the_assertion() {
        let output = "(a:1) CRITICAL: Test assertion failure function f, file x.c:9:\n\
                      (a:1) CRITICAL: Failed assertion: a == b\n(a:1) CRITICAL: error: 1 != 2\nSubtest a: FAIL\n";
        let Outcome::Failed(why) = Outcome::of(&End::Exited(98), output) else { panic!() };
        assert!(why.contains("a == b") && why.contains("x.c:9"), "{why}");
        let Outcome::Failed(why) = Outcome::of(&End::Exited(98), "bad thing\n\n") else { panic!() };
        assert!(why.contains("98") && why.contains("bad thing"), "{why}");
    }
}
