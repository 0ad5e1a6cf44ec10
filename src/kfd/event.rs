//! Memory violations of GPUs, as events.

use std::time::Duration;

use crate::channel::Retry;
use crate::error::{Error, ErrorKind, Result};
use crate::kfd::failure::foreign;
use crate::kfd::{GpuId, Process};
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

/// A GPU touched memory that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "kfd_hsa_memory_exception_data")]
#[non_exhaustive]
pub struct MemoryException {
    /// Which GPU; `None` when the kernel names none.
    pub gpu: Option<GpuId>,
    /// The address, at best to the page.
    pub address: u64,
    /// Nothing was mapped there.
    pub not_present: bool,
    /// It is mapped read-only, and the GPU wrote.
    pub read_only: bool,
    /// It is mapped without execution, and the GPU fetched code.
    pub no_execute: bool,
    /// The address is not exact.
    pub imprecise: bool,
    /// 0 for an invalid access, else the kind of hardware error (`KFD_MEM_ERR_*`).
    pub error_type: u32,
}

/// An event that every memory violation of this process signals. Destroyed on drop.
#[derive(Debug)]
pub struct MemoryExceptions {
    process: Process,
    id: u32,
}

impl Process {
    /// Makes an event for memory violations. Violations from before are not reported.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`](ErrorKind::OutOfMemory); [`ForeignProcess`](ErrorKind::ForeignProcess) in a forked child.
    #[doc(alias = "AMDKFD_IOC_CREATE_EVENT")]
    #[doc(alias = "KFD_IOC_EVENT_MEMORY")]
    pub fn memory_exceptions(&self) -> Result<MemoryExceptions> {
        self.inner().guard.check(abi::CreateEvent::NAME)?;
        let mut arg =
            abi::CreateEvent { event_type: abi::KFD_IOC_EVENT_MEMORY, auto_reset: 1, ..Default::default() };
        // SAFETY: the argument holds no address.
        unsafe { self.channel().call(&mut arg, Retry::Always) }.map_err(foreign)?;
        Ok(MemoryExceptions { process: self.clone(), id: arg.event_id })
    }
}

impl MemoryExceptions {
    /// Waits for a violation, or for the time to pass (rounded up to milliseconds; `None` waits for ever). Of violations that
    /// nobody waited for, the last is reported.
    ///
    /// # Errors
    ///
    /// [`TryAgain`](ErrorKind::TryAgain) after very many signals; [`DeviceLost`](ErrorKind::DeviceLost) when waiting failed
    /// (`EIO`); [`ForeignProcess`](ErrorKind::ForeignProcess) in a forked child.
    #[doc(alias = "AMDKFD_IOC_WAIT_EVENTS")]
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<MemoryException>> {
        const CALL: &str = abi::WaitEvents::NAME;
        const FOR_EVER: u32 = u32::MAX;
        self.process.inner().guard.check(CALL)?;
        let mut data = [abi::EventData { event_id: self.id, ..Default::default() }];
        let milliseconds = timeout.map_or(FOR_EVER, |timeout| {
            u32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(FOR_EVER - 1).min(FOR_EVER - 1)
        });
        let mut arg = abi::WaitEvents {
            events_ptr: data.as_mut_ptr() as u64,
            num_events: 1,
            wait_for_all: 1,
            timeout: milliseconds,
            wait_result: 0,
        };
        // SAFETY: the kernel reads and writes one element at `events_ptr`, which outlives the call. After a signal it leaves
        // the time that is left in `timeout`, so repeating the call goes on waiting.
        unsafe { self.process.channel().call(&mut arg, Retry::Interrupted) }.map_err(foreign)?;
        match arg.wait_result {
            abi::KFD_IOC_WAIT_RESULT_COMPLETE => Ok(Some(exception(data[0].payload.as_memory_exception()))),
            abi::KFD_IOC_WAIT_RESULT_TIMEOUT => Ok(None),
            other => Err(Error::new(ErrorKind::Other, CALL)
                .because(format!("the kernel answered wait result {other}"))),
        }
    }
}

impl Drop for MemoryExceptions {
    fn drop(&mut self) {
        if self.process.inner().guard.is_owner() {
            let mut arg = abi::DestroyEvent { event_id: self.id, pad: 0 };
            // SAFETY: the argument holds no address. A failure leaves the event to the process's end.
            let _ = unsafe { self.process.channel().call(&mut arg, Retry::Always) };
        }
    }
}

fn exception(data: abi::MemoryExceptionData) -> MemoryException {
    MemoryException {
        gpu: GpuId::new(data.gpu_id),
        address: data.va,
        not_present: data.failure.not_present != 0,
        read_only: data.failure.read_only != 0,
        no_execute: data.failure.no_execute != 0,
        imprecise: data.failure.imprecise != 0,
        error_type: data.error_type,
    }
}
