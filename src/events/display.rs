//! Events for people, one line each.

use std::fmt;

use super::event::*;
use crate::outcome::Bytes;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} {}", self.at.as_secs_f64(), self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request) => request.fmt(f),
            Self::MigrationBegan(migration) => write!(f, "{migration} began"),
            Self::MigrationEnded { migration, took, error } => {
                write!(f, "{migration} ended")?;
                time(f, *took)?;
                error.map_or(Ok(()), |errno| write!(f, " with {errno}"))
            }
            Self::FaultBegan { page, write } => {
                write!(f, "GPU fault at {page:#x} began, {}", if *write { "write" } else { "read" })
            }
            Self::FaultEnded { page, migrated, took } => {
                write!(f, "GPU fault at {page:#x} ended, {}", if *migrated { "migrated" } else { "mapped" })?;
                time(f, *took)
            }
            Self::FaultFailed(fault) => fault.fmt(f),
            Self::QueuesStopped { reason } => write!(f, "queues stopped: {}", words(reason)),
            Self::QueuesResumed { postponed: false } => f.write_str("queues resumed"),
            Self::QueuesResumed { postponed: true } => f.write_str("resuming of queues postponed"),
            Self::Unmapped { range, reason } => {
                write!(f, "{} at {range} unmapped from the GPU: {}", Bytes(range.len()), words(reason))
            }
            Self::Counted(counters) => counters.fmt(f),
            Self::Reset { cause } => write!(f, "GPU reset: {cause}"),
            Self::Other(text) => write!(f, "{text:?}"),
            Self::Lost { from } => write!(f, "events may be missing: {}", words(from)),
        }
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, from, to, trigger, request } = self;
        write!(
            f,
            "migration of {} at {range} from {from} to {to} by {}",
            Bytes(range.len()),
            words(trigger)
        )?;
        request.as_ref().map_or(Ok(()), |request| write!(f, " (request {})", request.number))
    }
}

impl fmt::Display for FailedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GPU fault failed")?;
        if let Some(address) = self.address {
            write!(f, " at {address:#x}")?;
        }
        if let Some(access) = &self.access {
            write!(f, ", {}", words(access))?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {}", words(reason))?;
        }
        Ok(())
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.of_process { "counted for this process:" } else { "counted for the device:" })?;
        if let Some(faults) = self.gpu_faults {
            write!(f, " {faults} GPU faults")?;
        }
        if let Some(bytes) = self.to_vram {
            write!(f, " {} to VRAM", Bytes(bytes))?;
        }
        if let Some(bytes) = self.to_system {
            write!(f, " {} to system memory", Bytes(bytes))?;
        }
        Ok(())
    }
}

fn time(f: &mut fmt::Formatter<'_>, took: Option<std::time::Duration>) -> fmt::Result {
    took.map_or(Ok(()), |took| write!(f, " after {took:?}"))
}

/// The name of a variant as words: `CpuTouch` is `cpu touch`.
fn words(variant: &impl fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}
