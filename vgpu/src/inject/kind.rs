//! What can be made to go wrong on purpose.

use std::fmt;
use std::str::FromStr;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal;)+) => {
        /// A kind of trouble; the number is what the guest writes into the mailbox.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Kind {
            $($(#[doc = $doc])+ $variant = $code,)+
        }

        impl Kind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];

            /// The name used on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name),+ }
            }
        }
    };
}

kinds! {
    /// A copy completes without having moved anything. Filter: direction.
    CopySkip = 1, "copy-skip";
    /// A copy ends in a memory error; its context is reset. Filter: direction.
    CopyError = 2, "copy-error";
    /// A copy never completes; its engine hangs. Filter: direction.
    CopyHang = 3, "copy-hang";
    /// A copy takes `value` microseconds longer. Filter: direction.
    CopySlow = 4, "copy-slow";
    /// A batch hangs its engine before the first instruction. Value 1: it cannot be preempted either, only a reset
    /// of the whole unit ends it.
    JobHang = 5, "job-hang";
    /// A batch ends in a memory error before the first instruction; its context is reset.
    JobError = 6, "job-error";
    /// A reply or event of the firmware is lost. Filter: its code.
    ReplyLose = 7, "reply-lose";
    /// A reply or event of the firmware comes `value` microseconds later. Filter: its code.
    ReplyDelay = 8, "reply-delay";
    /// A page fault is not reported; its context waits for ever.
    FaultLose = 9, "fault-lose";
    /// The driver's answer to a page fault is lost; the context waits for ever.
    FaultAnswerLose = 10, "fault-answer-lose";
    /// An interrupt message is lost.
    InterruptLose = 11, "interrupt-lose";
    /// An invalidation of translations is answered but not carried out. Needs the profile's `tlb`.
    InvalidationSkip = 12, "invalidation-skip";
    /// A fence is not written. AMD only. Filter: whose queue.
    FenceLose = 13, "fence-lose";
    /// The device has only `value` MiB of memory when the driver asks for its size. AMD only.
    MemoryLimit = 14, "memory-limit";
}

impl Kind {
    /// The kind with this number.
    pub fn from_code(code: u32) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|k| *k as u32 == code)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(s: &str) -> Result<Kind, String> {
        Kind::ALL.iter().copied().find(|k| k.name() == s).ok_or_else(|| {
            let names: Vec<_> = Kind::ALL.iter().map(|k| k.name()).collect();
            format!("unknown injection {s:?}; there are: {}", names.join(", "))
        })
    }
}
