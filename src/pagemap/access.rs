//! What a device does to memory, at the process's own addresses.

use super::engine::request::{AtomicOp as Op, Reply, Request};
use super::engine::slots::BOUNCE;
use super::failure::closed;
use super::space::{Space, expect, failed};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Errno, Error, Result};
use crate::own_memory;
use crate::range::PageRange;

/// How often an access follows pages that change place under it.
const ROUNDS: u32 = 10_000;

/// A read-modify-write operation; each answers the value before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceAtomic {
    /// Wrapping addition.
    Add(u64),
    /// Wrapping subtraction.
    Sub(u64),
    /// Bitwise and.
    And(u64),
    /// Bitwise or.
    Or(u64),
    /// Bitwise exclusive or.
    Xor(u64),
    /// The smaller, unsigned.
    Min(u64),
    /// The larger, unsigned.
    Max(u64),
    /// Replaces the value.
    Exchange(u64),
    /// Replaces the value if it is `expected`.
    CompareExchange {
        /// What the value must be.
        expected: u64,
        /// What it becomes then.
        new: u64,
    },
}

impl Space {
    /// Reads memory as a device would: device pages where they are, without bringing them back, and system memory through
    /// the kernel.
    ///
    /// The bytes of one page are read at one moment; a longer read is several.
    ///
    /// # Errors
    ///
    /// [`NotMapped`](ErrorKind::NotMapped) with `EFAULT` where the process itself could not read.
    pub fn device_read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        const CALL: &str = "Space::device_read";
        self.each_piece(CALL, at, into.len() as u64, |at, offset, len| {
            let piece = &mut into[offset..offset + len];
            let (reply, ()) = self.exchange(CALL, Request::Read { at, len: len as u64 }, |payload| {
                // What the engine did not fill is overwritten below, or read again.
                piece.copy_from_slice(&payload[..len]);
            })?;
            let (device, system) = accessed(CALL, reply)?;
            let behind = device as usize..(device + system) as usize;
            Ok((device, own_memory::read(at + device, &mut piece[behind])))
        })
    }

    /// Writes memory as a device would: device pages where they are, without bringing them back, and system memory through the
    /// kernel. Any address of the process can be the target.
    ///
    /// # Safety
    ///
    /// As for GPU code: the range must be memory that may change under the process's feet. No reference to it may exist
    /// that promises otherwise, and what is written must be valid there.
    ///
    /// # Errors
    ///
    /// [`NotMapped`](ErrorKind::NotMapped) with `EFAULT` where the process itself could not write.
    pub unsafe fn device_write(&self, at: u64, from: &[u8]) -> Result<()> {
        const CALL: &str = "Space::device_write";
        self.each_piece(CALL, at, from.len() as u64, |at, offset, len| {
            let piece = &from[offset..offset + len];
            let reply = self.send(CALL, Request::Write { at, len: len as u64 }, piece)?;
            let (device, system) = accessed(CALL, reply)?;
            let behind = device as usize..(device + system) as usize;
            // SAFETY: the caller answers for the target.
            let written = unsafe { own_memory::write(at + device, &piece[behind]) };
            Ok((device, written))
        })
    }

    /// An atomic operation of a device on 4 or 8 bytes, atomic with respect to every other access by any CPU or simulated
    /// device. Answers the value before.
    ///
    /// On device memory it happens there. A page of system memory is taken away from everybody for the moment it takes, as
    /// the kernel's `make_device_exclusive` does, which works for memory that could also migrate.
    ///
    /// # Safety
    ///
    /// As for [`device_write`](Self::device_write).
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for other sizes and for addresses that are not a multiple of the size;
    /// otherwise as [`migrate_to_devmem`](Self::migrate_to_devmem) for the page.
    #[doc(alias = "make_device_exclusive")]
    pub unsafe fn device_atomic(&self, at: u64, bytes: u32, op: DeviceAtomic) -> Result<u64> {
        const CALL: &str = "Space::device_atomic";
        let (op, operand, expected) = match op {
            DeviceAtomic::Add(value) => (Op::Add, value, 0),
            DeviceAtomic::Sub(value) => (Op::Sub, value, 0),
            DeviceAtomic::And(value) => (Op::And, value, 0),
            DeviceAtomic::Or(value) => (Op::Or, value, 0),
            DeviceAtomic::Xor(value) => (Op::Xor, value, 0),
            DeviceAtomic::Min(value) => (Op::Min, value, 0),
            DeviceAtomic::Max(value) => (Op::Max, value, 0),
            DeviceAtomic::Exchange(value) => (Op::Exchange, value, 0),
            DeviceAtomic::CompareExchange { expected, new } => (Op::CompareExchange, new, expected),
        };
        let reply = self.ask(CALL, Request::Atomic { at, bytes, op, operand, expected })?;
        expect(CALL, reply, |reply| match reply {
            Reply::Number(old) => Some(old),
            _ => None,
        })
    }

    /// Calls `piece(address, offset, length)`, which tells how much it did on the device and what came of the system memory
    /// behind that, until all is done.
    fn each_piece(
        &self,
        call: &'static str,
        start: u64,
        len: u64,
        mut piece: impl FnMut(u64, usize, usize) -> Result<(u64, Result<u64, Errno>)>,
    ) -> Result<()> {
        let fault = |at: u64| {
            let error = Error::from_errno(call, Errno::EFAULT).because(format!("no access to {at:#x}"));
            match PageRange::rounded_out(at, 1) {
                Ok(page) => error.over(page),
                Err(_) => error,
            }
        };
        if start.checked_add(len).is_none() {
            return Err(fault(start));
        }
        let (mut done, mut idle) = (0, 0);
        while done < len {
            let next = (len - done).min(BOUNCE as u64);
            let (device, system) = piece(start + done, done as usize, next as usize)?;
            let progress = device + *system.as_ref().unwrap_or(&0);
            done += progress;
            idle = if progress == 0 { idle + 1 } else { 0 };
            // Without kernel touches a page that migrated just now looks like one that is not there: then the device has it
            // the next time.
            match system {
                Err(errno) if idle > 3 && errno != Errno::EFAULT => {
                    return Err(Error::from_errno(call, errno));
                }
                Err(_) if idle > 3 && !self.is_migrating(start + done)? => return Err(fault(start + done)),
                _ if idle > ROUNDS => {
                    return Err(
                        Error::from_errno(call, Errno::EAGAIN).because("the pages keep changing place")
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the page is the device's by now. Others of a window are the process's own, which may have closed them.
    fn is_migrating(&self, at: u64) -> Result<bool> {
        match PageRange::rounded_out(at, 1) {
            Ok(page) => Ok(self.device_bytes(page, None)? > 0),
            Err(_) => Ok(false),
        }
    }
}

fn accessed(call: &'static str, reply: Reply) -> Result<(u64, u64)> {
    match reply {
        Reply::Accessed { device, system } => Ok((device, system)),
        Reply::Failed(failure) => Err(failed(call, failure)),
        _ => Err(closed(call)),
    }
}
