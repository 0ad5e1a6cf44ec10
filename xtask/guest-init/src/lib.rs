//! What the host and the first process of a lab guest say to each other.
//!
//! The host writes a [`Job`] into the initramfs; the guest answers with a stream of [`Message`]s over a serial line
//! that nothing else uses.

mod frame;
mod job;

pub use frame::{Decoder, FrameError, Message};
pub use job::{Job, Module, Program, RENDER_GROUP, Shell, User};

/// Where the job description lies in the guest.
pub const JOB_PATH: &str = "/job.json";
/// Where the kernel modules lie in the guest.
pub const MODULE_DIR: &str = "/modules";
/// The guest's end of the message stream.
pub const CHANNEL_DEVICE: &str = "/dev/ttyS1";
/// The environment variable that names the file for a program's structured results. In the guest it is a pipe that the
/// program has inherited, as `/proc/self/fd/N`.
pub const RESULTS_VARIABLE: &str = "HW_RESULTS";
