//! `PROCMAP_QUERY` (`linux/fs.h`): one mapping of a process, without reading all of `/proc/<pid>/maps`.
//!
//! Called on `/proc/<pid>/maps`; needs no privilege for one's own process. `ENOTTY` before 6.11.

abi! {
    header "linux/fs.h";

    /// Asks for the mapping that covers an address. `ENOENT` where there is none. Since 6.11.
    struct ProcmapQueryArg("procmap_query", 104) for PROCMAP_QUERY = iowr(b'f', 17) 0xC068_6611 {
        /// Bytes of this struct.
        size: u64 => 0;
        /// `PROCMAP_QUERY_*` filters; [`PROCMAP_QUERY_COVERING_OR_NEXT_VMA`] widens the search.
        query_flags: u64 => 8;
        /// The address.
        query_addr: u64 => 16;
        /// Out: first address.
        vma_start: u64 => 24;
        /// Out: first address behind.
        vma_end: u64 => 32;
        /// Out: `PROCMAP_QUERY_VMA_*`.
        vma_flags: u64 => 40;
        /// Out: bytes of a page of the mapping; larger than the system's page for hugetlb.
        vma_page_size: u64 => 48;
        /// Out: offset into the file.
        vma_offset: u64 => 56;
        /// Out: inode of the file, 0 without one.
        inode: u64 => 64;
        /// Out: major number of the file's device.
        dev_major: u32 => 72;
        /// Out: minor number of the file's device.
        dev_minor: u32 => 76;
        /// In: bytes at `vma_name_addr`, 0 if the name is not wanted. Out: bytes of the name with its zero.
        vma_name_size: u32 => 80;
        /// In: bytes at `build_id_addr`, 0 if the build id is not wanted. Out: bytes of the build id.
        build_id_size: u32 => 84;
        /// Address of a buffer for the name, as in the last column of `/proc/<pid>/maps`.
        vma_name_addr: u64 => 88;
        /// Address of a buffer for the build id.
        build_id_addr: u64 => 96;
    }

    constants {
        /// The mapping can be read.
        PROCMAP_QUERY_VMA_READABLE: u64 = 0x01;
        /// The mapping can be written.
        PROCMAP_QUERY_VMA_WRITABLE: u64 = 0x02;
        /// The mapping can be executed.
        PROCMAP_QUERY_VMA_EXECUTABLE: u64 = 0x04;
        /// The mapping is shared.
        PROCMAP_QUERY_VMA_SHARED: u64 = 0x08;
        /// The mapping that covers the address, or else the next one above it.
        PROCMAP_QUERY_COVERING_OR_NEXT_VMA: u64 = 0x10;
        /// Only mappings of files.
        PROCMAP_QUERY_FILE_BACKED_VMA: u64 = 0x20;
    }
}
