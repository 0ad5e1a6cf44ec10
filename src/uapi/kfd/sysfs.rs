//! Bits of the topology that KFD shows in sysfs.

abi! {
    header "linux/kfd_sysfs.h";

    constants {
        /// In a node's `capability`: the GPU supports SVM.
        HSA_CAP_SVMAPI_SUPPORTED: u32 = 0x0800_0000;
        /// In a node's `capability`: the CPU reaches the GPU's memory coherently.
        HSA_CAP_FLAGS_COHERENTHOSTACCESS: u32 = 0x1000_0000;

        /// `heap_type` of a memory bank: system memory.
        HSA_MEM_HEAP_TYPE_SYSTEM: u32 = 0;
        /// VRAM the CPU can reach.
        HSA_MEM_HEAP_TYPE_FB_PUBLIC: u32 = 1;
        /// VRAM the CPU cannot reach.
        HSA_MEM_HEAP_TYPE_FB_PRIVATE: u32 = 2;
    }
}
