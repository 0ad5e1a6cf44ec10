//! What the kernel may not say. A driver that complains on a virtual GPU has found a fault: in the device model, in
//! the test, or in the driver itself. All of them end the run as failed.

/// Words that make a line of the kernel's log a complaint.
const COMPLAINTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops:",
    "general protection fault",
    "Kernel panic",
    "*ERROR*",
    "UBSAN:",
    "KASAN:",
    "KCSAN:",
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "self-detected stall",
    "detected stalls on CPUs",
    "possible circular locking dependency",
    "inconsistent lock state",
    "unchecked MSR access error",
];

/// Complaints that are known to be harmless, each with the reason. A line is let through when it holds every word of
/// one entry.
const ALLOWED: &[(&[&str], &str)] = &[
    // Said at start of a processor model for which there is no microcode (arch/x86/kernel/cpu/bugs.c).
    (&["Speculative Return Stack Overflow: WARNING:"], "about the virtual processor"),
    (&["RETBleed: WARNING:"], "about the virtual processor"),
    (&["Spectre V2 : WARNING:"], "about the virtual processor"),
    // "Recorded vram pages(...) should not be less than migration pages(...)". When amdgpu splits a range it counts the new
    // range's pages in VRAM by their mappings (kfd_svm.c, svm_range_split_pages), and pages that have moved but are not
    // mapped yet, as when a CPU thread writes to them meanwhile, are missed. Only that count is wrong.
    (&["WARNING:", "kfd_migrate.c:", "at svm_migrate_vram_to_ram"], "amdgpu's own book-keeping"),
];

/// Watches a kernel log line by line.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Texts that this run expects.
    expected: Vec<String>,
    complaints: Vec<String>,
}

impl Watch {
    pub(crate) fn new(expected: Vec<String>) -> Self {
        Self { expected, complaints: Vec::new() }
    }

    pub(crate) fn line(&mut self, line: &str) {
        let complains = COMPLAINTS.iter().any(|word| line.contains(word));
        if complains && !is_allowed(line, ALLOWED) && !self.expected.iter().any(|text| line.contains(text)) {
            self.complaints.push(line.to_owned());
        }
    }

    /// The complaints nobody expected.
    pub(crate) fn into_complaints(self) -> Vec<String> {
        self.complaints
    }
}

fn is_allowed(line: &str, allowed: &[(&[&str], &str)]) -> bool {
    allowed.iter().any(|(words, _reason)| words.iter().all(|word| line.contains(word)))
}

/// A console line as text: without the colour and cursor codes of the firmware, without the carriage return.
pub(crate) fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            match characters.next() {
                Some('[') => while characters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {},
                _ => continue,
            }
        } else if !character.is_control() || character == '\t' {
            clean.push(character);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_from_talk() {
        let mut watch = Watch::default();
        for line in [
            "[    1.0] clocksource: Watchdog remote CPU 1 read timed out",
            "[    2.0] xe 0000:00:01.0: [drm] Found battlemage (device ID e20b) discrete display",
            "[    0.04] Speculative Return Stack Overflow: WARNING: See https://kernel.org/doc for mitigation options.",
            "[    2.5] x86/mm: Checked W+X mappings: passed, no W+X pages found.",
        ] {
            watch.line(line);
        }
        assert!(watch.complaints.is_empty());
        for line in [
            "[    3.0] WARNING: drivers/gpu/drm/xe/xe_irq.c:30 at assert_iir_is_zero+0x6b/0x80 [xe], CPU#1: insmod/1",
            "[    3.1] xe 0000:00:01.0: [drm] *ERROR* GT0: GuC load failed",
            "[    3.2] Kernel panic - not syncing: Attempted to kill init!",
            "[    3.3] INFO: task hw:99 blocked for more than 120 seconds.",
        ] {
            watch.line(line);
        }
        assert_eq!(watch.into_complaints().len(), 4);
    }

    #[test]
    fn an_expected_complaint_is_let_through() {
        let mut watch = Watch::new(vec!["engine reset".into()]);
        watch.line("*ERROR* engine reset: bcs0");
        watch.line("*ERROR* CAT error on queue 7");
        assert_eq!(watch.into_complaints(), ["*ERROR* CAT error on queue 7"]);
    }

    #[test]
    fn an_allowed_line_needs_every_word_of_its_entry() {
        let allowed: &[(&[&str], &str)] = &[(&["WARNING:", "some_function"], "reason")];
        assert!(is_allowed("WARNING: at some_function+0x1", allowed));
        assert!(!is_allowed("WARNING: at other_function+0x1", allowed));
        assert!(!is_allowed("anything", &[]));
    }

    #[test]
    fn terminal_codes_are_dropped() {
        assert_eq!(clean(b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1)\r"), "SeaBIOS (version 1)");
        assert_eq!(clean(b"[    1.0]\tplain"), "[    1.0]\tplain");
    }
}
