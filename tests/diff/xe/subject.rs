//! One open device of one side, and what the steps do to it.

use std::os::fd::OwnedFd;

use drm_pagemap::channel::{Channel, Retry};
use drm_pagemap::uapi::IoctlArg;
use drm_pagemap::uapi::xe::VmBindOp;

use crate::frame::{BadStep, Step, Subject};
use crate::memory::Arena;

/// An open device.
pub(super) struct Open {
    pub(super) channel: Channel,
    /// Another descriptor of the same open file.
    pub(super) second: Option<OwnedFd>,
    pub(super) arena: Arena,
    /// Bind operations that wait for the step `binds`.
    pub(super) ops: Vec<VmBindOp>,
    /// The last value that a fence was to get.
    pub(super) fence: u64,
}

impl Open {
    pub(super) fn new(channel: Channel) -> Result<Self, String> {
        // What the kernel makes huge pages of, and when, is its own affair.
        let _ = rustix::thread::disable_transparent_huge_pages(true);
        let second = channel.descriptor().map(|descriptor| descriptor.try_clone_to_owned()).transpose();
        let second = second.map_err(|error| error.to_string())?;
        Ok(Self { channel, second, arena: Arena::new()?, ops: Vec::new(), fence: 0 })
    }

    /// Makes a call, once more after EINTR and EAGAIN as every client does.
    pub(super) fn call<A: IoctlArg>(&self, arg: &mut A) -> Result<(), String> {
        // SAFETY: what the driver writes to on account of a step is the arena and the control pages, which are read and written
        // through atomics only, and outputs that live until the call returns.
        unsafe { self.channel.call(arg, Retry::Always) }.map_err(|error| {
            error.errno().map_or_else(
                || error.to_string(),
                |errno| errno.name().map_or_else(|| errno.to_string(), str::to_owned),
            )
        })
    }
}

/// `ok`, or the name of the errno.
pub(super) fn told(answer: Result<(), String>) -> String {
    answer.err().unwrap_or_else(|| "ok".to_owned())
}

impl Subject for Open {
    fn perform(&mut self, step: &Step) -> Result<String, BadStep> {
        match step.verb.as_str() {
            "vm" => self.vm(step),
            "destroy-vm" => self.destroy_vm(step),
            "bind" => self.bind(step),
            "op" => self.op(step),
            "binds" => self.binds(step),
            "madvise" => self.madvise(step),
            "attrs" => self.attributes(step),
            "faults" => self.faults(step),
            "queue" => self.queue(step),
            "destroy-queue" => self.destroy_queue(step),
            "banned" => self.banned(step),
            "gpu" => self.gpu(step),
            "wait" => self.wait(step),
            "bo" => self.bo(step),
            "close-bo" => self.close_bo(step),
            "bo-word" => self.bo_word(step),
            _ => self.arena.perform(step),
        }
    }
}
