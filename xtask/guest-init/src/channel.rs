//! The guest's end of the message stream.

use guest_init::{CHANNEL_DEVICE, Message};
use rustix::termios;
use std::fs::File;
use std::io::Write;

/// A serial line in raw mode: every byte written arrives unchanged.
pub(crate) struct Channel {
    line: File,
}

impl Channel {
    pub(crate) fn open() -> Result<Self, String> {
        let failed = |error| format!("cannot open {CHANNEL_DEVICE}: {error}");
        let line = File::options().write(true).open(CHANNEL_DEVICE).map_err(failed)?;
        let mut settings = termios::tcgetattr(&line).map_err(|error| failed(error.into()))?;
        settings.make_raw();
        termios::tcsetattr(&line, termios::OptionalActions::Now, &settings)
            .map_err(|error| failed(error.into()))?;
        Ok(Self { line })
    }

    /// Sends a message whole. There is nobody to tell when that fails but the console.
    pub(crate) fn send(&self, message: &Message) {
        if let Err(error) = (&self.line).write_all(&message.encode()) {
            eprintln!("guest-init: cannot write to {CHANNEL_DEVICE}: {error}");
        }
    }

    /// Waits until the last byte has left the machine.
    pub(crate) fn drain(&self) {
        if let Err(error) = termios::tcdrain(&self.line) {
            eprintln!("guest-init: cannot drain {CHANNEL_DEVICE}: {error}");
        }
    }
}
