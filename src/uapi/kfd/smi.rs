//! System management events: a text log of what SVM does.

abi! {
    header "linux/kfd_ioctl.h";

    /// Opens the event log of one GPU. The descriptor is not close-on-exec, reads never block (`EAGAIN`), and nothing is
    /// logged until 8 bytes of mask were written to it; the bit of event `id` is `1 << (id - 1)`. Migrations and faults since
    /// KFD 1.10.
    struct SmiEvents("kfd_ioctl_smi_events_args", 8) for AMDKFD_IOC_SMI_EVENTS = iowr(b'K', 0x1F) 0xC008_4B1F {
        /// In: the GPU.
        gpuid: u32 => 0;
        /// Out: the descriptor.
        anon_fd: u32 => 4;
    }

    constants {
        /// Nothing.
        KFD_SMI_EVENT_NONE: u32 = 0;
        /// A GPU page fault that was not served.
        KFD_SMI_EVENT_VMFAULT: u32 = 1;
        /// The GPU slows down to cool.
        KFD_SMI_EVENT_THERMAL_THROTTLE: u32 = 2;
        /// A reset is about to happen.
        KFD_SMI_EVENT_GPU_PRE_RESET: u32 = 3;
        /// A reset happened.
        KFD_SMI_EVENT_GPU_POST_RESET: u32 = 4;
        /// A migration starts.
        KFD_SMI_EVENT_MIGRATE_START: u32 = 5;
        /// A migration ended.
        KFD_SMI_EVENT_MIGRATE_END: u32 = 6;
        /// A GPU page fault (XNACK) is about to be served.
        KFD_SMI_EVENT_PAGE_FAULT_START: u32 = 7;
        /// It was served.
        KFD_SMI_EVENT_PAGE_FAULT_END: u32 = 8;
        /// The queues of a process were stopped.
        KFD_SMI_EVENT_QUEUE_EVICTION: u32 = 9;
        /// They go on.
        KFD_SMI_EVENT_QUEUE_RESTORE: u32 = 10;
        /// A range was unmapped from the GPU.
        KFD_SMI_EVENT_UNMAP_FROM_GPU: u32 = 11;
        /// A process opened the GPU. Since 6.16.
        KFD_SMI_EVENT_PROCESS_START: u32 = 12;
        /// A process left the GPU. Since 6.16.
        KFD_SMI_EVENT_PROCESS_END: u32 = 13;
        /// Events of other processes too; needs `CAP_SYS_ADMIN` when the log is opened.
        KFD_SMI_EVENT_ALL_PROCESS: u32 = 64;
        /// Longest line, in bytes.
        KFD_SMI_EVENT_MSG_SIZE: u32 = 96;

        /// Migrated because of a prefetch.
        KFD_MIGRATE_TRIGGER_PREFETCH: u32 = 0;
        /// Because the GPU faulted.
        KFD_MIGRATE_TRIGGER_PAGEFAULT_GPU: u32 = 1;
        /// Because the CPU touched VRAM.
        KFD_MIGRATE_TRIGGER_PAGEFAULT_CPU: u32 = 2;
        /// Because VRAM was needed.
        KFD_MIGRATE_TRIGGER_TTM_EVICTION: u32 = 3;

        /// Queues stopped because SVM memory changed.
        KFD_QUEUE_EVICTION_TRIGGER_SVM: u32 = 0;
        /// Because user memory of a memory object changed.
        KFD_QUEUE_EVICTION_TRIGGER_USERPTR: u32 = 1;
        /// Because VRAM was needed.
        KFD_QUEUE_EVICTION_TRIGGER_TTM: u32 = 2;
        /// Because the system sleeps.
        KFD_QUEUE_EVICTION_TRIGGER_SUSPEND: u32 = 3;
        /// Because a checkpoint is taken.
        KFD_QUEUE_EVICTION_CRIU_CHECKPOINT: u32 = 4;
        /// Because a checkpoint is restored.
        KFD_QUEUE_EVICTION_CRIU_RESTORE: u32 = 5;

        /// Unmapped because CPU mappings changed.
        KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY: u32 = 0;
        /// Because of a migration.
        KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY_MIGRATE: u32 = 1;
        /// Because the CPU unmapped the memory.
        KFD_SVM_UNMAP_TRIGGER_UNMAP_FROM_CPU: u32 = 2;
    }
}
