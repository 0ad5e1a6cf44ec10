//! Trees of files that stand for a machine's.

use std::fs;
use std::path::Path;

/// Writes a file below `root`, with the folders that lead to it.
pub(crate) fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
