//! Where pictures go.

use super::super::contract::Picture;

/// The picture's place in the report folder.
pub(super) fn path(title: &str, picture: &Picture) -> String {
    format!("pictures/{}/{}-{}.svg", file_name(title), file_name(&picture.test), file_name(&picture.what))
}

/// A text as a file name: letters, digits, dots and single dashes.
pub(super) fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || (letter == '.' && !name.is_empty()) || letter == '_' {
            name.push(letter);
        } else if !name.ends_with('-') && !name.is_empty() {
            name.push('-');
        }
    }
    name.truncate(100);
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        assert_eq!(file_name("xe 7.3.4 / XNACK off"), "xe-7.3.4-XNACK-off");
        assert_eq!(file_name("../../etc/passwd"), "etc-passwd");
        assert_eq!(file_name("a_b"), "a_b");
    }
}
