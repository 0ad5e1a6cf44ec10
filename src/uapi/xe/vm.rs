//! GPU address spaces: create, destroy, and the faults they recorded.

abi! {
    header "drm/xe_drm.h";

    /// Creates a GPU address space; it belongs to the address space of the calling process for good. Since 6.8.
    struct VmCreate("drm_xe_vm_create", 32) for DRM_IOCTL_XE_VM_CREATE = iowr(b'd', 0x43) 0xC020_6443 {
        /// No extension is defined: zero.
        extensions: u64 => 0;
        /// `DRM_XE_VM_CREATE_FLAG_*`.
        flags: u32 => 8;
        /// Out: the id, valid on this file, from 1 upwards, reused at once after destruction.
        vm_id: u32 => 12;
        /// Must be zero.
        reserved: [u64; 2] => 16;
    }

    /// Destroys a GPU address space; `ENOENT` if the id is unknown. Since 6.8.
    struct VmDestroy("drm_xe_vm_destroy", 24) for DRM_IOCTL_XE_VM_DESTROY = iow(b'd', 0x44) 0x4018_6444 {
        /// The id.
        vm_id: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
        /// Must be zero.
        reserved: [u64; 2] => 8;
    }

    /// Reads a property of an address space; the only one is the list of page faults that could not be served. With
    /// [`size`](Self::size) 0 the kernel writes the bytes available and nothing else. Since 7.1 (`EINVAL` before).
    struct VmGetProperty("drm_xe_vm_get_property", 56)
        for DRM_IOCTL_XE_VM_GET_PROPERTY = iowr(b'd', 0x4F) 0xC038_644F {
        /// No extension is defined: zero.
        extensions: u64 => 0;
        /// The address space; `ENOENT` if unknown.
        vm_id: u32 => 8;
        /// `DRM_XE_VM_GET_PROPERTY_*`.
        property: u32 => 12;
        /// Bytes at [`data`](Self::data): a multiple of the element, at most what is available.
        size: u32 => 16;
        /// Must be zero.
        pad: u32 => 20;
        /// Address the list is written to; for properties of one number, that number.
        data: u64 => 24 as "data" | "value";
        /// Must be zero.
        reserved: [u64; 3] => 32;
    }

    /// One recorded page fault. The kernel keeps the first 50 of an address space, in order, and never clears them.
    struct VmFault("xe_vm_fault", 48) {
        /// Faulting address, sign-extended from the address bits of the device.
        address: u64 => 0;
        /// Bytes the address is exact to (a page).
        address_precision: u32 => 8;
        /// `FAULT_ACCESS_TYPE_*`.
        access_type: u8 => 12;
        /// `FAULT_TYPE_*`; 15 for a fault the hardware refused outright.
        fault_type: u8 => 13;
        /// `FAULT_LEVEL_*`; 15 as above.
        fault_level: u8 => 14;
        /// Zero.
        pad: u8 => 15;
        /// Zero.
        reserved: [u64; 4] => 16;
    }

    constants {
        /// Unmapped addresses read and write a scratch page. With fault mode only on devices that need it.
        DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE: u32 = 1 << 0;
        /// Long-running: work may run without end, completion is told by user fences only.
        DRM_XE_VM_CREATE_FLAG_LR_MODE: u32 = 1 << 1;
        /// GPU page faults are served; needed for SVM. Only together with long-running.
        DRM_XE_VM_CREATE_FLAG_FAULT_MODE: u32 = 1 << 2;
        /// Bound memory is never evicted for lack of space. Only with fault mode. Since 7.1.
        DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT: u32 = 1 << 3;

        /// A list of [`VmFault`].
        DRM_XE_VM_GET_PROPERTY_FAULTS: u32 = 0;

        /// The GPU read.
        FAULT_ACCESS_TYPE_READ: u8 = 0;
        /// The GPU wrote.
        FAULT_ACCESS_TYPE_WRITE: u8 = 1;
        /// The GPU did an atomic operation.
        FAULT_ACCESS_TYPE_ATOMIC: u8 = 2;
        /// Nothing mapped there.
        FAULT_TYPE_NOT_PRESENT: u8 = 0;
        /// Mapped, not writable.
        FAULT_TYPE_WRITE_ACCESS: u8 = 1;
        /// Mapped, no atomics.
        FAULT_TYPE_ATOMIC_ACCESS: u8 = 2;
        /// Page table entry (4 KiB).
        FAULT_LEVEL_PTE: u8 = 0;
        /// Page directory entry (2 MiB).
        FAULT_LEVEL_PDE: u8 = 1;
        /// Third level (1 GiB).
        FAULT_LEVEL_PDP: u8 = 2;
        /// Fourth level.
        FAULT_LEVEL_PML4: u8 = 3;
        /// Fifth level.
        FAULT_LEVEL_PML5: u8 = 4;
    }
}

/// Most faults one address space records (`xe_vm.h` in the driver; not in the header).
pub const MAX_FAULTS_SAVED_PER_VM: usize = 50;
