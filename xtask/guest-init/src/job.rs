//! The job description: everything one boot is to do.

use serde::{Deserialize, Serialize};

/// The group that owns the GPU nodes in the guest, as udev's rules arrange it on a desktop.
pub const RENDER_GROUP: u32 = 105;

/// All that one boot does, in order: load modules, wait for GPUs, run programs or a shell, power off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Modules in the order they must be loaded.
    pub modules: Vec<Module>,
    /// How many render nodes must exist before the first program starts; 0 asks for none.
    pub render_nodes: usize,
    /// How long to wait for them, in milliseconds.
    pub render_wait_ms: u64,
    /// Programs, run one after another.
    pub programs: Vec<Program>,
    /// Run this on the console, after the programs.
    pub shell: Option<Shell>,
}

/// One kernel module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// File name below [`crate::MODULE_DIR`].
    pub file: String,
    /// Module parameters, separated by blanks.
    pub parameters: String,
}

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Absolute path in the guest.
    pub path: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment but for [`crate::RESULTS_VARIABLE`].
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// Who runs it; root when absent.
    pub user: Option<User>,
    /// Milliseconds after which the program and its process group are killed.
    pub timeout_ms: u64,
}

/// An ordinary user. Supplementary groups are always empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User number.
    pub uid: u32,
    /// Group number; [`RENDER_GROUP`] gives access to the GPU nodes.
    pub gid: u32,
}

/// An interactive program on the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// Absolute path in the guest.
    pub path: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The terminal's size (rows, columns), if the host knows it.
    pub size: Option<(u16, u16)>,
}
