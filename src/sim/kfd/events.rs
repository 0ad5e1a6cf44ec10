//! Events: what a process waits for, here memory violations.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Errno;
use crate::sim::id_map::IdMap;
use crate::sim::kfd::Shared;
use crate::sim::user_memory::WriteAccess;
use crate::uapi::kfd as abi;

/// Numbers of events that are no signals start here.
const FIRST_ID: u32 = 0x8000_0001;

#[derive(Clone, Debug)]
struct Event {
    kind: u32,
    auto_reset: bool,
    signalled: bool,
    payload: abi::EventPayload,
}

/// The events of a process.
#[derive(Debug, Default)]
pub(super) struct Events {
    all: Mutex<IdMap<u32, Event>>,
    signalled: Condvar,
}

impl Events {
    pub(super) fn create(&self, arg: &mut abi::CreateEvent) -> Result<(), Errno> {
        if arg.event_type > abi::KFD_IOC_EVENT_MEMORY {
            return Err(Errno::EINVAL);
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let id = all.entries().last().map_or(FIRST_ID, |(last, _)| last + 1);
        let event = Event {
            kind: arg.event_type,
            auto_reset: arg.auto_reset != 0,
            signalled: false,
            payload: abi::EventPayload::default(),
        };
        all.insert(id, event);
        arg.event_id = id;
        arg.event_trigger_data = id;
        Ok(())
    }

    pub(super) fn destroy(&self, id: u32) -> Result<(), Errno> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(id).map(drop).ok_or(Errno::EINVAL)?;
        self.signalled.notify_all();
        Ok(())
    }

    pub(super) fn set(&self, id: u32, signalled: bool) -> Result<(), Errno> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(id).ok_or(Errno::EINVAL)?.signalled = signalled;
        self.signalled.notify_all();
        Ok(())
    }

    /// A GPU touched what it may not: every event of that kind is told.
    pub(super) fn memory_violation(&self, gpu_id: u32, address: u64, write_denied: bool) {
        let report = abi::MemoryExceptionData {
            failure: abi::MemoryExceptionFailure {
                not_present: u32::from(!write_denied),
                read_only: u32::from(write_denied),
                ..Default::default()
            },
            va: address,
            gpu_id,
            error_type: abi::KFD_MEM_ERR_NO_RAS,
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for event in all.values_mut().filter(|event| event.kind == abi::KFD_IOC_EVENT_MEMORY) {
            event.signalled = true;
            event.payload = report.into();
        }
        self.signalled.notify_all();
    }

    /// `WAIT_EVENTS`.
    pub(super) fn wait(
        &self,
        kfd: &Shared,
        arg: &mut abi::WaitEvents,
        access: WriteAccess,
    ) -> Result<(), Errno> {
        arg.wait_result = abi::KFD_IOC_WAIT_RESULT_FAIL;
        let mut asked = vec![abi::EventData::default(); arg.num_events as usize];
        kfd.memory.read(arg.events_ptr, bytemuck::cast_slice_mut(&mut asked))?;
        let forever = arg.timeout == u32::MAX;
        let deadline = Instant::now() + Duration::from_millis(arg.timeout.into());
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut done = 0;
            for data in &asked {
                let event = all.get(data.event_id).ok_or(Errno::EINVAL)?;
                done += usize::from(event.signalled);
            }
            if done == asked.len() || (done > 0 && arg.wait_for_all == 0) {
                arg.wait_result = abi::KFD_IOC_WAIT_RESULT_COMPLETE;
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !forever {
                arg.wait_result = abi::KFD_IOC_WAIT_RESULT_TIMEOUT;
                return Ok(());
            }
            let left = if forever { Duration::from_secs(3600) } else { left };
            all = self.signalled.wait_timeout(all, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        for data in &mut asked {
            if let Some(event) = all.get_mut(data.event_id).filter(|event| event.signalled) {
                data.payload = event.payload;
                event.signalled = !event.auto_reset;
            }
        }
        drop(all);
        kfd.memory.write(access, arg.events_ptr, bytemuck::cast_slice(&asked))
    }
}
