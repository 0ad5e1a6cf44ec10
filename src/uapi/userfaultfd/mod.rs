//! userfaultfd (`linux/userfaultfd.h`): page faults of a range handled in userspace.

mod message;

pub use message::*;

pub(super) const TABLES: &[super::abi::Table] = &[TABLE, message::TABLE];

abi! {
    header "linux/userfaultfd.h";

    /// Handshake, the first call on a new descriptor. `EINVAL` if a requested feature is unknown, `EPERM` if it is not
    /// allowed; the descriptor is unusable afterwards and a new one is needed.
    struct UffdioApi("uffdio_api", 24) for UFFDIO_API = iowr(0xAA, 0x3F) 0xC018_AA3F {
        /// [`UFFD_API`].
        api: u64 => 0;
        /// In: requested `UFFD_FEATURE_*`. Out: all that the kernel has.
        features: u64 => 8;
        /// Out: bits `1 << _UFFDIO_*` of the ioctls of the descriptor.
        ioctls: u64 => 16;
    }

    /// A range of addresses.
    struct UffdioRange("uffdio_range", 16) {
        /// First address, a multiple of the page size.
        start: u64 => 0;
        /// Bytes, a multiple of the page size.
        len: u64 => 8;
    }

    /// Registers a range: from now on its faults are reported.
    struct UffdioRegister("uffdio_register", 32) for UFFDIO_REGISTER = iowr(0xAA, 0x00) 0xC020_AA00 {
        /// The range; every mapping in it is affected.
        range: UffdioRange => 0;
        /// `UFFDIO_REGISTER_MODE_*`.
        mode: u64 => 16;
        /// Out: bits `1 << _UFFDIO_*` of the ioctls that work on the range.
        ioctls: u64 => 24;
    }

    /// Fills missing pages with a copy. `EEXIST` where a page exists, `ENOENT` where the registration is gone.
    struct UffdioCopy("uffdio_copy", 40) for UFFDIO_COPY = iowr(0xAA, 0x03) 0xC028_AA03 {
        /// First address to fill.
        dst: u64 => 0;
        /// Address to copy from.
        src: u64 => 8;
        /// Bytes, a multiple of the page size.
        len: u64 => 16;
        /// `UFFDIO_COPY_MODE_*`.
        mode: u64 => 24;
        /// Out: bytes copied, or a negative errno. A partial copy fails with `EAGAIN`.
        copy: i64 => 32;
    }

    /// Fills missing pages with zeroes.
    struct UffdioZeropage("uffdio_zeropage", 32) for UFFDIO_ZEROPAGE = iowr(0xAA, 0x04) 0xC020_AA04 {
        /// The range.
        range: UffdioRange => 0;
        /// `UFFDIO_ZEROPAGE_MODE_*`.
        mode: u64 => 16;
        /// Out: bytes filled, or a negative errno.
        zeropage: i64 => 24;
    }

    /// Moves pages from one private anonymous mapping into the missing pages of another, without copying. `EBUSY` for pages
    /// that are pinned or shared, `EEXIST` where the destination has a page, `ENOENT` for a hole in the source, `EINVAL`
    /// for mappings that do not match. Since 6.8.
    struct UffdioMove("uffdio_move", 40) for UFFDIO_MOVE = iowr(0xAA, 0x05) 0xC028_AA05 {
        /// First address to fill, in a registered range.
        dst: u64 => 0;
        /// First address to empty.
        src: u64 => 8;
        /// Bytes, a multiple of the page size.
        len: u64 => 16;
        /// `UFFDIO_MOVE_MODE_*`.
        mode: u64 => 24;
        /// Out: bytes moved, or a negative errno. A partial move fails with `EAGAIN`.
        moved: i64 => 32 as "move";
    }

    /// Write-protects a range, or takes the protection away. Since 5.7.
    struct UffdioWriteprotect("uffdio_writeprotect", 24)
        for UFFDIO_WRITEPROTECT = iowr(0xAA, 0x06) 0xC018_AA06 {
        /// The range.
        range: UffdioRange => 0;
        /// `UFFDIO_WRITEPROTECT_MODE_*`.
        mode: u64 => 16;
    }

    /// Maps pages that the page cache already has, after a minor fault. Since 5.13.
    struct UffdioContinue("uffdio_continue", 32) for UFFDIO_CONTINUE = iowr(0xAA, 0x07) 0xC020_AA07 {
        /// The range.
        range: UffdioRange => 0;
        /// `UFFDIO_CONTINUE_MODE_*`.
        mode: u64 => 16;
        /// Out: bytes mapped, or a negative errno.
        mapped: i64 => 24;
    }

    /// Marks missing pages as broken: touching them raises `SIGBUS`. Since 6.6.
    struct UffdioPoison("uffdio_poison", 32) for UFFDIO_POISON = iowr(0xAA, 0x08) 0xC020_AA08 {
        /// The range.
        range: UffdioRange => 0;
        /// `UFFDIO_POISON_MODE_*`.
        mode: u64 => 16;
        /// Out: bytes marked, or a negative errno.
        updated: i64 => 24;
    }

    /// Protects a range against reading and writing, or takes the protection away; the pages stay. Since 7.3.
    struct UffdioRwprotect("uffdio_rwprotect", 24) for UFFDIO_RWPROTECT = iowr(0xAA, 0x09) 0xC018_AA09 {
        /// The range.
        range: UffdioRange => 0;
        /// `UFFDIO_RWPROTECT_MODE_*`.
        mode: u64 => 16;
    }

    /// Turns features on or off after the handshake; [`UFFD_FEATURE_RWP_ASYNC`] can be. Since 7.3.
    struct UffdioSetMode("uffdio_set_mode", 16) for UFFDIO_SET_MODE = iow(0xAA, 0x0A) 0x4010_AA0A {
        /// `UFFD_FEATURE_*` to turn on.
        enable: u64 => 0;
        /// `UFFD_FEATURE_*` to turn off; none may be in both.
        disable: u64 => 8;
    }

    requests {
        /// Ends a registration; waiting faults go on.
        UffdioUnregister(UffdioRange) for UFFDIO_UNREGISTER = ior(0xAA, 0x01) 0x8010_AA01;
        /// Wakes the threads that wait for pages of the range.
        UffdioWake(UffdioRange) for UFFDIO_WAKE = ior(0xAA, 0x02) 0x8010_AA02;
    }

    constants {
        /// Request on `/dev/userfaultfd` that returns a new descriptor; the argument is the value of flags. Since 6.1.
        USERFAULTFD_IOC_NEW: u32 = super::abi::io(0xAA, 0x00);
        /// Flag of a new descriptor: faults of the kernel on behalf of the process are not reported but fail. Needs no
        /// privilege. Since 5.11.
        UFFD_USER_MODE_ONLY: u32 = 1;
        /// The version of the interface.
        UFFD_API: u64 = 0xAA;

        /// Bit of [`UffdioRegister`].
        _UFFDIO_REGISTER: u32 = 0x00;
        /// Bit of [`UffdioUnregister`].
        _UFFDIO_UNREGISTER: u32 = 0x01;
        /// Bit of [`UffdioWake`].
        _UFFDIO_WAKE: u32 = 0x02;
        /// Bit of [`UffdioCopy`].
        _UFFDIO_COPY: u32 = 0x03;
        /// Bit of [`UffdioZeropage`].
        _UFFDIO_ZEROPAGE: u32 = 0x04;
        /// Bit of [`UffdioMove`].
        _UFFDIO_MOVE: u32 = 0x05;
        /// Bit of [`UffdioWriteprotect`].
        _UFFDIO_WRITEPROTECT: u32 = 0x06;
        /// Bit of [`UffdioContinue`].
        _UFFDIO_CONTINUE: u32 = 0x07;
        /// Bit of [`UffdioPoison`].
        _UFFDIO_POISON: u32 = 0x08;
        /// Bit of [`UffdioRwprotect`].
        _UFFDIO_RWPROTECT: u32 = 0x09;
        /// Bit of [`UffdioSetMode`].
        _UFFDIO_SET_MODE: u32 = 0x0A;
        /// Bit of [`UffdioApi`].
        _UFFDIO_API: u32 = 0x3F;

        /// Faults on write-protected pages are flagged [`UFFD_PAGEFAULT_FLAG_WP`]. Since 5.7.
        UFFD_FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
        /// Report `fork`. Needs `CAP_SYS_PTRACE`. Since 4.11.
        UFFD_FEATURE_EVENT_FORK: u64 = 1 << 1;
        /// Report `mremap`. Since 4.11.
        UFFD_FEATURE_EVENT_REMAP: u64 = 1 << 2;
        /// Report `MADV_DONTNEED`, `MADV_REMOVE` and the like. Since 4.11.
        UFFD_FEATURE_EVENT_REMOVE: u64 = 1 << 3;
        /// Missing pages of hugetlbfs. Since 4.11.
        UFFD_FEATURE_MISSING_HUGETLBFS: u64 = 1 << 4;
        /// Missing pages of shared memory. Since 4.11.
        UFFD_FEATURE_MISSING_SHMEM: u64 = 1 << 5;
        /// Report `munmap`. Since 4.11.
        UFFD_FEATURE_EVENT_UNMAP: u64 = 1 << 6;
        /// Raise `SIGBUS` instead of reporting. Since 4.14.
        UFFD_FEATURE_SIGBUS: u64 = 1 << 7;
        /// Fault reports name the thread. Since 4.14.
        UFFD_FEATURE_THREAD_ID: u64 = 1 << 8;
        /// Minor faults of hugetlbfs. Since 5.13.
        UFFD_FEATURE_MINOR_HUGETLBFS: u64 = 1 << 9;
        /// Minor faults of shared memory. Since 5.14.
        UFFD_FEATURE_MINOR_SHMEM: u64 = 1 << 10;
        /// Fault addresses are not rounded to pages. Since 5.18.
        UFFD_FEATURE_EXACT_ADDRESS: u64 = 1 << 11;
        /// Write protection of hugetlbfs and shared memory. Since 5.19.
        UFFD_FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
        /// Write protection of pages that do not exist yet. Since 6.4.
        UFFD_FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
        /// [`UffdioPoison`]. Since 6.6.
        UFFD_FEATURE_POISON: u64 = 1 << 14;
        /// Write protection that the kernel resolves by itself, to track writes. Since 6.7.
        UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
        /// [`UffdioMove`]. Since 6.8.
        UFFD_FEATURE_MOVE: u64 = 1 << 16;
        /// [`UffdioRwprotect`]. Since 7.3.
        UFFD_FEATURE_RWP: u64 = 1 << 17;
        /// Read and write protection that the kernel resolves by itself, to track accesses. Since 7.3.
        UFFD_FEATURE_RWP_ASYNC: u64 = 1 << 18;

        /// Report faults on missing pages.
        UFFDIO_REGISTER_MODE_MISSING: u64 = 1 << 0;
        /// Report writes to write-protected pages. Since 5.7.
        UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
        /// Report faults on pages the page cache has. Since 5.13.
        UFFDIO_REGISTER_MODE_MINOR: u64 = 1 << 2;
        /// Report accesses to pages protected against reading and writing. Since 7.3.
        UFFDIO_REGISTER_MODE_RWP: u64 = 1 << 3;
        /// Leave the waiting threads asleep.
        UFFDIO_COPY_MODE_DONTWAKE: u64 = 1 << 0;
        /// Write-protect the new pages.
        UFFDIO_COPY_MODE_WP: u64 = 1 << 1;
        /// Leave the waiting threads asleep.
        UFFDIO_ZEROPAGE_MODE_DONTWAKE: u64 = 1 << 0;
        /// Leave the waiting threads asleep.
        UFFDIO_MOVE_MODE_DONTWAKE: u64 = 1 << 0;
        /// Pass over holes in the source, counting them as moved.
        UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES: u64 = 1 << 1;
        /// Protect; without it, take the protection away.
        UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1 << 0;
        /// Leave the waiting threads asleep.
        UFFDIO_WRITEPROTECT_MODE_DONTWAKE: u64 = 1 << 1;
        /// Protect; without it, take the protection away.
        UFFDIO_RWPROTECT_MODE_RWP: u64 = 1 << 0;
        /// Leave the waiting threads asleep.
        UFFDIO_RWPROTECT_MODE_DONTWAKE: u64 = 1 << 1;
        /// Leave the waiting threads asleep.
        UFFDIO_CONTINUE_MODE_DONTWAKE: u64 = 1 << 0;
        /// Write-protect the pages. Since 6.4.
        UFFDIO_CONTINUE_MODE_WP: u64 = 1 << 1;
        /// Leave the waiting threads asleep.
        UFFDIO_POISON_MODE_DONTWAKE: u64 = 1 << 0;
    }
}

const _: () = assert!(USERFAULTFD_IOC_NEW == 0xAA00);
