//! Submission of GPU commands: the one unsafe act.

use super::errors::{Meaning, explain, means};
use super::exec_queue::ExecQueue;
use super::sync::Syncs;
use crate::channel::Retry;
use crate::error::{Errno, ErrorKind, Result};
use crate::uapi::IoctlArg;
use crate::uapi::xe::Exec;

const EXEC: &[Meaning] = &[
    means(
        Errno::EAGAIN,
        ErrorKind::TryAgain,
        "the queue has a thousand unfinished submissions",
        "wait for a fence of an earlier one",
    ),
    // Wedged devices answer the same, and are told apart by every other call failing too.
    means(
        Errno::ECANCELED,
        ErrorKind::DeviceLost,
        "the queue was banned, its VM killed, or the device wedged",
        "Vm::faults tells a page fault; make a new queue, or a new VM",
    ),
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the queue is one for binds, or a sync is not usable (a timeline point 0, a sync object without a fence)",
        "submit to an ExecQueue; signal or submit the sync object first",
    ),
    means(
        Errno::ENOENT,
        ErrorKind::NotFound,
        "the queue or a sync object does not exist",
        "use objects of the same open file",
    ),
    means(
        Errno::EOPNOTSUPP,
        ErrorKind::Unsupported,
        "a long-running VM signals user fences only",
        "pass a UserFence",
    ),
];

impl ExecQueue {
    /// Submits the commands at GPU address `batch` (`EXEC`, since kernel 6.8). They run after the syncs that are waited
    /// for, and after earlier submissions to the queue; the fence is written when they are done.
    ///
    /// # Safety
    ///
    /// The commands can read and write every address the VM maps; in a mirrored VM that is all of the process's memory. The
    /// caller answers for what they do, as if the process did it itself:
    ///
    /// * they write only memory that nobody else reads or writes without synchronisation, and that stays mapped and of
    ///   that meaning until they are done;
    /// * what they read, the batch itself included, is not changed or unmapped until they are done, with 4 KiB mapped behind the
    ///   batch, because the hardware reads ahead;
    /// * the fence of `syncs`, if there is one, lies in mirrored memory of this VM ([`UserFence`](super::UserFence) does, once
    ///   its address is mirrored).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TryAgain`] (`EAGAIN`, queue full), [`ErrorKind::DeviceLost`] (`ECANCELED`, banned or wedged; `ENODEV`),
    /// [`ErrorKind::InvalidArgument`] (`EINVAL`), [`ErrorKind::NotFound`] (`ENOENT`), [`ErrorKind::Unsupported`]
    /// (`EOPNOTSUPP`), [`ErrorKind::OutOfMemory`], [`ErrorKind::ForeignProcess`]; [`ErrorKind::Busy`] when the fence still waits
    /// for an earlier operation.
    #[doc(alias = "drm_xe_exec")]
    pub unsafe fn submit(&self, batch: u64, mut syncs: Syncs<'_>) -> Result<()> {
        self.check_process(Exec::NAME)?;
        let armed = syncs.arm()?;
        let mut arg = Exec {
            exec_queue_id: self.id(),
            num_syncs: armed.count(),
            syncs: armed.address(),
            address: batch,
            num_batch_buffer: 1,
            ..Default::default()
        };
        // EAGAIN is a full queue and needs waiting, not repeating.
        // SAFETY: the kernel reads the sync entries during the call; the caller answers for what the commands do.
        let result = unsafe { self.device().channel().call(&mut arg, Retry::Interrupted) };
        armed.settle(&result);
        result.map_err(|error| explain(error, EXEC))
    }
}
