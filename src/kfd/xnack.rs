//! XNACK: whether a GPU retries a page fault once the kernel has mapped the page.

use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::Process;
use crate::kfd::failure::foreign;
use crate::uapi::IoctlArg;
use crate::uapi::kfd::SetXnackMode;

const CALL: &str = SetXnackMode::NAME;

/// Whether the GPUs of a process retry page faults. One mode for the process, not one for each GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Xnack {
    /// A GPU that touches a page it has no mapping of commits a memory violation. Granting access populates and maps every
    /// page at once. The default on almost every GPU.
    Off,
    /// The kernel maps pages when a GPU faults, and any memory of the process is accessible without being registered.
    On,
}

impl Process {
    /// The XNACK mode of this process.
    ///
    /// # Errors
    ///
    /// [`ForeignProcess`](ErrorKind::ForeignProcess) in a forked child.
    #[doc(alias = "AMDKFD_IOC_SET_XNACK_MODE")]
    pub fn xnack(&self) -> Result<Xnack> {
        let answer = self.xnack_call(-1).map_err(foreign)?;
        Ok(if answer == 0 { Xnack::Off } else { Xnack::On })
    }

    /// Sets the XNACK mode of this process. Do so before memory is registered, since existing ranges keep the access that the
    /// old mode gave them by default, and before any runtime makes queues.
    ///
    /// GPU code is compiled for one mode or the other (`xnack+`, `xnack-`); copy engines do not care.
    ///
    /// # Errors
    ///
    /// | errno | kind | meaning |
    /// |---|---|---|
    /// | `EBUSY` | [`Busy`](ErrorKind::Busy) | the process has user queues (HIP and ROCr make them early), even if the mode would not change |
    /// | `EPERM` | [`Unsupported`](ErrorKind::Unsupported) | some GPU of the process cannot: RDNA never can, chips before MI200 only with `amdgpu.noretry=0`, MI200 under SR-IOV within limits |
    /// | `ENOMEM` | [`OutOfMemory`](ErrorKind::OutOfMemory) | turning it off would count every registered range against the system-memory limit, which is too small; the mode is unchanged |
    /// | `EBADF` | [`ForeignProcess`](ErrorKind::ForeignProcess) | in a forked child |
    #[doc(alias = "AMDKFD_IOC_SET_XNACK_MODE")]
    pub fn set_xnack(&self, mode: Xnack) -> Result<()> {
        let value = match mode {
            Xnack::Off => 0,
            Xnack::On => 1,
        };
        match self.xnack_call(value) {
            Ok(_) => Ok(()),
            Err(error) => Err(explain(error)),
        }
    }

    fn xnack_call(&self, value: i32) -> Result<i32> {
        self.inner().guard.check(CALL)?;
        let mut arg = SetXnackMode { xnack_enabled: value };
        // SAFETY: the argument holds no address.
        unsafe { self.channel().call(&mut arg, Retry::Always) }?;
        Ok(arg.xnack_enabled)
    }
}

fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EBUSY) => error
            .because("the mode cannot change while the process has user queues")
            .hint_is("set it before HIP or ROCr is initialised, or choose there (HSA_XNACK=1)"),
        Some(Errno::EPERM) => error
            .of_kind(ErrorKind::Unsupported)
            .because("a GPU of this process cannot retry page faults")
            .hint_is("boot with amdgpu.noretry=0 on chips before MI200; hide GPUs that cannot (RDNA) from the process"),
        Some(Errno::ENOMEM) => error
            .because("without XNACK every registered range counts against the system-memory limit, which is reached")
            .hint_is("unmap ranges first, or load amdgpu with no_system_mem_limit=1"),
        _ => foreign(error),
    }
}
