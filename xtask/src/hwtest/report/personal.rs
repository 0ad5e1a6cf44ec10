//! Taking out of texts what tells whose machine it is: its name, its users, their folders, addresses on the network,
//! identifiers that are unique to a machine.

use std::fs;

/// What must not be in a report, and what stands there instead.
#[derive(Debug, Default)]
pub(super) struct Personal {
    /// The longest first: a home folder before the user's name in it.
    words: Vec<(String, &'static str)>,
}

impl Personal {
    /// What this machine has of it.
    pub(super) fn of_this_machine() -> Self {
        let mut words = Vec::new();
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        words.push((file("/proc/sys/kernel/hostname"), "(host)"));
        words.push((file("/proc/sys/kernel/domainname"), "(host)"));
        words.push((variable("HOSTNAME"), "(host)"));
        words.push((file("/etc/machine-id"), "(identifier)"));
        words.push((file("/proc/sys/kernel/random/boot_id"), "(identifier)"));
        words.push((variable("HOME"), "(home)"));
        for name in ["USER", "LOGNAME", "SUDO_USER"] {
            words.push((variable(name), "(user)"));
        }
        if let Ok(folder) = std::env::current_dir() {
            words.push((folder.to_string_lossy().into_owned(), "(here)"));
        }
        Self::new(words)
    }

    fn new(mut words: Vec<(String, &'static str)>) -> Self {
        // Names that every machine has tell nothing, and taking them out would spoil the text.
        let common = [
            "root",
            "localhost",
            "(none)",
            "/",
            "/root",
            "user",
            "linux",
            "debian",
            "vm",
            "host",
            "gpu",
            "amd",
            "intel",
            "kernel",
        ];
        words.retain(|(word, _)| word.len() >= 2 && !common.contains(&word.as_str()));
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        words.dedup_by(|a, b| a.0 == b.0);
        Self { words }
    }

    /// The text without it.
    pub(super) fn remove_from(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for (word, instead) in &self.words {
            clean = replace_word(&clean, word, instead);
        }
        replace_tokens(&clean)
    }
}

fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Replaces `word` where it is not a part of a longer one.
fn replace_word(text: &str, word: &str, instead: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let joined = before.chars().next_back().is_some_and(in_word) && word.starts_with(in_word)
            || after.chars().next().is_some_and(in_word) && word.ends_with(in_word);
        result.push_str(before);
        result.push_str(if joined { word } else { instead });
        rest = after;
    }
    result + rest
}

/// Replaces tokens that look like addresses of network cards and hosts, or like unique identifiers.
fn replace_tokens(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let is_part = |letter: char| letter.is_ascii_hexdigit() || matches!(letter, ':' | '-' | '.');
    let mut token = String::new();
    for letter in text.chars().chain(['\n']) {
        if is_part(letter) {
            token.push(letter);
            continue;
        }
        let joined = in_word(letter) || result.chars().next_back().is_some_and(in_word);
        result.push_str(if joined { &token } else { instead_of(&token).unwrap_or(&token) });
        result.push(letter);
        token.clear();
    }
    result.pop();
    result
}

fn instead_of(token: &str) -> Option<&'static str> {
    let lengths = |separator| {
        token.trim_end_matches(['.', ':', '-']).split(separator).map(str::len).collect::<Vec<_>>()
    };
    if lengths(':') == [2; 6] {
        return Some("(address)");
    }
    if lengths('-') == [8, 4, 4, 4, 12] {
        return Some("(identifier)");
    }
    let numbers: Vec<Option<u8>> =
        token.trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect();
    (numbers.len() == 4 && numbers.iter().all(Option::is_some)).then_some("(address)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_folders_and_addresses_go_and_the_rest_stays() {
        let personal = Personal::new(vec![
            ("ada".into(), "(user)"),
            ("/home/ada".into(), "(home)"),
            ("engine9".into(), "(host)"),
            ("root".into(), "(user)"),
            ("vm".into(), "(host)"),
            (String::new(), "(host)"),
        ]);
        let text = "ada on engine9 ran /home/ada/drm; the adapter of canada, root port 0000:03:00.0, 6.18.44, \
                    vm.swappiness, 10.1.2.3 and 52:54:00:12:34:56, 3f2b0a4c-1234-4321-abcd-0123456789ab; [0x7f00, 0x8f00)";
        assert_eq!(
            personal.remove_from(text),
            "(user) on (host) ran (home)/drm; the adapter of canada, root port 0000:03:00.0, 6.18.44, \
             vm.swappiness, (address) and (address), (identifier); [0x7f00, 0x8f00)"
        );
    }

    #[test]
    fn nothing_of_this_machine_passes() {
        let personal = Personal::of_this_machine();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
        let folder = std::env::current_dir().unwrap();
        let clean = personal.remove_from(&format!("at {host}, in {}/x", folder.display()));
        assert!(!clean.contains(folder.to_str().unwrap()), "{clean}");
        assert!(
            personal.words.is_empty() || !personal.words.iter().any(|(word, _)| clean.contains(word)),
            "{clean}"
        );
    }
}
