//! A driver behind a real file descriptor, without a device: seccomp takes the ioctls of a thread before the kernel's file
//! layer sees them, and this module answers them as xe and KFD would.
//!
//! What is called is the system call itself, so whoever makes it (this crate, a raw `ioctl` in C, a C library) goes the
//! same way and pays the same. Needs Linux 5.9 and no privilege.

#![allow(dead_code, reason = "shared by tests and benchmarks, each of which uses a part")]

mod answers;
pub(crate) mod filter;
mod memory;
pub(crate) mod watch;

pub(crate) use answers::{Driver, GPU_ID, topology};
pub(crate) use filter::Filter;
pub(crate) use watch::in_filtered_thread;
