//! Events: signals from GPUs, and reports of memory violations and resets.

abi! {
    header "linux/kfd_ioctl.h";

    /// Creates an event.
    struct CreateEvent("kfd_ioctl_create_event_args", 32)
        for AMDKFD_IOC_CREATE_EVENT = iowr(b'K', 0x08) 0xC020_4B08 {
        /// In: handle of a memory object to use as signal page, or 0. Out: offset of the signal page.
        event_page_offset: u64 => 0;
        /// Out: what the GPU writes to signal.
        event_trigger_data: u32 => 8;
        /// `KFD_IOC_EVENT_*`.
        event_type: u32 => 12;
        /// Whether a wait resets it.
        auto_reset: u32 => 16;
        /// The GPU, for some types.
        node_id: u32 => 20;
        /// Out: the id.
        event_id: u32 => 24;
        /// Out: slot in the signal page.
        event_slot_index: u32 => 28;
    }

    /// Destroys an event.
    struct DestroyEvent("kfd_ioctl_destroy_event_args", 8)
        for AMDKFD_IOC_DESTROY_EVENT = iow(b'K', 0x09) 0x4008_4B09 {
        /// The event.
        event_id: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
    }

    /// Signals an event.
    struct SetEvent("kfd_ioctl_set_event_args", 8) for AMDKFD_IOC_SET_EVENT = iow(b'K', 0x0A) 0x4008_4B0A {
        /// The event.
        event_id: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
    }

    /// Takes the signal back.
    struct ResetEvent("kfd_ioctl_reset_event_args", 8)
        for AMDKFD_IOC_RESET_EVENT = iow(b'K', 0x0B) 0x4008_4B0B {
        /// The event.
        event_id: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
    }

    /// Waits for one or all of several events. `EINTR` on a signal.
    struct WaitEvents("kfd_ioctl_wait_events_args", 24)
        for AMDKFD_IOC_WAIT_EVENTS = iowr(b'K', 0x0C) 0xC018_4B0C {
        /// Address of an array of [`EventData`].
        events_ptr: u64 => 0;
        /// Elements there.
        num_events: u32 => 8;
        /// 1: wait for all, 0: for any.
        wait_for_all: u32 => 12;
        /// In: ms, `u32::MAX` for ever. Out: what is left after an interruption.
        timeout: u32 => 16;
        /// Out: `KFD_IOC_WAIT_RESULT_*`.
        wait_result: u32 => 20;
    }

    /// One event to wait for, and what it reported.
    struct EventData("kfd_event_data", 48) {
        /// What the event reported, by its type.
        payload: EventPayload => 0
            as "memory_exception_data" | "hw_exception_data" | "signal_event_data";
        /// Zero.
        kfd_event_data_ext: u64 => 32;
        /// The event.
        event_id: u32 => 40;
        /// Zero.
        pad: u32 => 44;
    }

    /// Report of [`KFD_IOC_EVENT_MEMORY`]: a GPU touched what it may not.
    struct MemoryExceptionData("kfd_hsa_memory_exception_data", 32) {
        /// Why.
        failure: MemoryExceptionFailure => 0;
        /// The address.
        va: u64 => 16;
        /// The GPU.
        gpu_id: u32 => 24;
        /// `KFD_MEM_ERR_*`.
        error_type: u32 => 28 as "ErrorType";
    }

    /// Why an access failed; each 0 or 1.
    struct MemoryExceptionFailure("kfd_memory_exception_failure", 16) {
        /// Nothing mapped.
        not_present: u32 => 0 as "NotPresent";
        /// Mapped read-only.
        read_only: u32 => 4 as "ReadOnly";
        /// Mapped without execution.
        no_execute: u32 => 8 as "NoExecute";
        /// The address is not exact.
        imprecise: u32 => 12;
    }

    /// Report of [`KFD_IOC_EVENT_HW_EXCEPTION`]: the GPU was reset.
    struct HwExceptionData("kfd_hsa_hw_exception_data", 16) {
        /// `KFD_HW_EXCEPTION_*_RESET`.
        reset_type: u32 => 0;
        /// `KFD_HW_EXCEPTION_GPU_HANG` or `KFD_HW_EXCEPTION_ECC`.
        reset_cause: u32 => 4;
        /// Whether VRAM content is lost.
        memory_lost: u32 => 8;
        /// The GPU.
        gpu_id: u32 => 12;
    }

    /// Report of [`KFD_IOC_EVENT_SIGNAL`]. KFD 1.14.
    struct SignalEventData("kfd_hsa_signal_event_data", 8) {
        /// In and out: age of the last signal seen, to miss none.
        last_event_age: u64 => 0;
    }

    constants {
        /// Signalled by GPU or CPU.
        KFD_IOC_EVENT_SIGNAL: u32 = 0;
        /// A node appeared or went.
        KFD_IOC_EVENT_NODECHANGE: u32 = 1;
        /// A device changed state.
        KFD_IOC_EVENT_DEVICESTATECHANGE: u32 = 2;
        /// [`HwExceptionData`].
        KFD_IOC_EVENT_HW_EXCEPTION: u32 = 3;
        /// System event.
        KFD_IOC_EVENT_SYSTEM_EVENT: u32 = 4;
        /// Debug event.
        KFD_IOC_EVENT_DEBUG_EVENT: u32 = 5;
        /// Profile event.
        KFD_IOC_EVENT_PROFILE_EVENT: u32 = 6;
        /// Queue event.
        KFD_IOC_EVENT_QUEUE_EVENT: u32 = 7;
        /// [`MemoryExceptionData`].
        KFD_IOC_EVENT_MEMORY: u32 = 8;

        /// Signalled.
        KFD_IOC_WAIT_RESULT_COMPLETE: u32 = 0;
        /// Time over.
        KFD_IOC_WAIT_RESULT_TIMEOUT: u32 = 1;
        /// Failed.
        KFD_IOC_WAIT_RESULT_FAIL: u32 = 2;
        /// Most signal events of a process.
        KFD_SIGNAL_EVENT_LIMIT: u32 = 4096;

        /// The whole GPU was reset.
        KFD_HW_EXCEPTION_WHOLE_GPU_RESET: u32 = 0;
        /// One engine was reset.
        KFD_HW_EXCEPTION_PER_ENGINE_RESET: u32 = 1;
        /// Because it hung.
        KFD_HW_EXCEPTION_GPU_HANG: u32 = 0;
        /// Because of a memory error.
        KFD_HW_EXCEPTION_ECC: u32 = 1;

        /// Not a hardware error: an invalid access.
        KFD_MEM_ERR_NO_RAS: u32 = 0;
        /// Memory error in SRAM.
        KFD_MEM_ERR_SRAM_ECC: u32 = 1;
        /// Broken data was used.
        KFD_MEM_ERR_POISON_CONSUMED: u32 = 2;
        /// The GPU hung.
        KFD_MEM_ERR_GPU_HANG: u32 = 3;
    }
}

/// The 32 bytes of [`EventData::payload`], which C declares as a union: read them with the method of the event's type.
///
/// ```
/// use drm_pagemap::uapi::kfd::{EventData, EventPayload, SignalEventData};
///
/// let wait = EventData { payload: SignalEventData { last_event_age: 1 }.into(), event_id: 7, ..Default::default() };
/// assert_eq!(wait.payload.as_signal().last_event_age, 1);
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventPayload([u64; 4]);

// SAFETY: transparent around plain data.
unsafe impl bytemuck::Zeroable for EventPayload {}
// SAFETY: transparent around plain data.
unsafe impl bytemuck::Pod for EventPayload {}

impl EventPayload {
    /// Read as the report of a [`KFD_IOC_EVENT_MEMORY`].
    #[must_use]
    pub fn as_memory_exception(self) -> MemoryExceptionData {
        bytemuck::cast(self)
    }

    /// Read as the report of a [`KFD_IOC_EVENT_HW_EXCEPTION`].
    #[must_use]
    pub fn as_hw_exception(self) -> HwExceptionData {
        bytemuck::cast([self.0[0], self.0[1]])
    }

    /// Read as the report of a [`KFD_IOC_EVENT_SIGNAL`].
    #[must_use]
    pub fn as_signal(self) -> SignalEventData {
        bytemuck::cast(self.0[0])
    }
}

impl From<MemoryExceptionData> for EventPayload {
    fn from(data: MemoryExceptionData) -> Self {
        bytemuck::cast(data)
    }
}

impl From<HwExceptionData> for EventPayload {
    fn from(data: HwExceptionData) -> Self {
        let [a, b]: [u64; 2] = bytemuck::cast(data);
        Self([a, b, 0, 0])
    }
}

impl From<SignalEventData> for EventPayload {
    fn from(data: SignalEventData) -> Self {
        Self([data.last_event_age, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_report_starts_the_payload() {
        let memory = MemoryExceptionData {
            failure: MemoryExceptionFailure { read_only: 1, ..Default::default() },
            va: 0x7f00_0000_1000,
            gpu_id: 0x4a3f,
            error_type: KFD_MEM_ERR_NO_RAS,
        };
        let event = EventData { payload: memory.into(), event_id: 5, ..Default::default() };
        let bytes = bytemuck::bytes_of(&event);
        assert_eq!(&bytes[..32], bytemuck::bytes_of(&memory));
        assert_eq!(&bytes[40..44], &5u32.to_ne_bytes());
        assert_eq!(event.payload.as_memory_exception(), memory);

        let reset = HwExceptionData { reset_type: 1, reset_cause: 2, memory_lost: 3, gpu_id: 4 };
        let payload = EventPayload::from(reset);
        assert_eq!(&bytemuck::bytes_of(&payload)[..16], bytemuck::bytes_of(&reset));
        assert_eq!(payload.as_hw_exception(), reset);
        assert_eq!(EventPayload::from(SignalEventData { last_event_age: 9 }).as_signal().last_event_age, 9);
    }
}
