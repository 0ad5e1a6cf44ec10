//! Results in the XML dialect that continuous integration reads.

use super::super::contract::Outcome;
use super::super::summary::Run;
use std::fmt::Write;

/// One suite for each run; troubles are failed cases of their own.
pub(super) fn of(runs: &[Run]) -> String {
    let mut xml =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"drm-pagemap hw\">\n");
    // Writing to a string does not fail.
    for run in runs {
        let count = |outcome| run.results.iter().filter(|result| result.outcome == outcome).count();
        let seconds: f64 = run.results.iter().map(|result| result.ms as f64 / 1e3).sum();
        let _ = writeln!(
            xml,
            "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{seconds:.3}\">",
            escape(&run.title),
            run.results.len() + run.trouble.len(),
            count(Outcome::Failed) + run.trouble.len(),
            count(Outcome::Skipped),
        );
        for result in &run.results {
            let (class, name) = result.name.rsplit_once('/').unwrap_or(("", &result.name));
            // Readers make a folder of each part between dots: the dots of a version must not count.
            let class = format!("{}.{}", run.title.replace('.', "_"), class.replace('/', "."));
            let head = format!(
                "<testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
                escape(&class),
                escape(name),
                result.ms as f64 / 1e3
            );
            let _ = match result.outcome {
                Outcome::Passed => writeln!(xml, "{head}/>"),
                Outcome::Failed => writeln!(xml, "{head}>{}</testcase>", failure(&result.reason)),
                Outcome::Skipped => {
                    writeln!(xml, "{head}><skipped message=\"{}\"/></testcase>", escape(&result.reason))
                }
            };
        }
        for trouble in &run.trouble {
            let _ = writeln!(
                xml,
                "<testcase classname=\"{}\" name=\"(besides the tests)\">{}</testcase>",
                escape(&run.title),
                failure(trouble)
            );
        }
        xml.push_str("</testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn failure(reason: &str) -> String {
    let first = reason.lines().next().unwrap_or_default();
    format!("<failure message=\"{}\">{}</failure>", escape(first), escape(reason))
}

/// Text for elements and attributes; characters that XML 1.0 does not know become `?`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(letter),
            '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            letter if letter.is_control() => escaped.push('?'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::super::contract::TestResult;
    use super::*;

    #[test]
    fn outcomes_reasons_and_troubles_are_there_and_well_formed() {
        let result = |name: &str, outcome, reason: &str| TestResult {
            name: name.into(),
            outcome,
            reason: reason.into(),
            ms: 1500,
        };
        let run = Run {
            title: "xe \"7.3\"".into(),
            results: vec![
                result("xe0/a/b", Outcome::Passed, ""),
                result("xe0/a/c", Outcome::Failed, "1 < 2\n\u{1b}[0m & more"),
                result("xe0/a/d", Outcome::Skipped, "no VRAM"),
            ],
            trouble: vec!["the kernel complained".into()],
            ..Run::default()
        };
        assert_eq!(
            of(&[run]),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites name=\"drm-pagemap hw\">
<testsuite name=\"xe &quot;7.3&quot;\" tests=\"4\" failures=\"2\" errors=\"0\" skipped=\"1\" time=\"4.500\">
<testcase classname=\"xe &quot;7_3&quot;.xe0.a\" name=\"b\" time=\"1.500\"/>
<testcase classname=\"xe &quot;7_3&quot;.xe0.a\" name=\"c\" time=\"1.500\"><failure message=\"1 &lt; 2\">1 &lt; 2
?[0m &amp; more</failure></testcase>
<testcase classname=\"xe &quot;7_3&quot;.xe0.a\" name=\"d\" time=\"1.500\"><skipped message=\"no VRAM\"/></testcase>
<testcase classname=\"xe &quot;7.3&quot;\" name=\"(besides the tests)\"><failure message=\"the kernel complained\">the kernel complained</failure></testcase>
</testsuite>
</testsuites>
"
        );
    }
}
