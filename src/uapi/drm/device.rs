//! Driver, capabilities and handles.

abi! {
    header "drm/drm.h";

    /// Name and version of the driver. Strings are cut to the room given, without a terminating zero, and the lengths
    /// are set to what there is.
    struct Version("drm_version", 64) for DRM_IOCTL_VERSION = iowr(b'd', 0x00) 0xC040_6400 {
        /// Out: major version.
        version_major: i32 => 0;
        /// Out: minor version.
        version_minor: i32 => 4;
        /// Out: patch level.
        version_patchlevel: i32 => 8;
        /// Room that C leaves before the next field. Zero.
        padding: u32 => 12 as "";
        /// In: room at [`name`](Self::name). Out: bytes of the name.
        name_len: u64 => 16;
        /// Address the driver's name is written to.
        name: u64 => 24;
        /// In: room at [`date`](Self::date). Out: bytes of the date.
        date_len: u64 => 32;
        /// Address the date is written to.
        date: u64 => 40;
        /// In: room at [`desc`](Self::desc). Out: bytes of the description.
        desc_len: u64 => 48;
        /// Address the description is written to.
        desc: u64 => 56;
    }

    /// Asks for a capability of the driver.
    struct GetCap("drm_get_cap", 16) for DRM_IOCTL_GET_CAP = iowr(b'd', 0x0C) 0xC010_640C {
        /// `DRM_CAP_*`.
        capability: u64 => 0;
        /// Out: its value.
        value: u64 => 8;
    }

    /// Closes a handle of a buffer object.
    struct GemClose("drm_gem_close", 8) for DRM_IOCTL_GEM_CLOSE = iow(b'd', 0x09) 0x4008_6409 {
        /// The handle.
        handle: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
    }

    /// Names this client of the device, for debugging tools. Since 6.13.
    struct SetClientName("drm_set_client_name", 16)
        for DRM_IOCTL_SET_CLIENT_NAME = iowr(b'd', 0xD1) 0xC010_64D1 {
        /// Bytes of the name; 0 takes the name away.
        name_len: u64 => 0;
        /// Address of the name: printable ASCII without spaces.
        name: u64 => 8;
    }

    constants {
        /// Sharing of buffer objects: `DRM_PRIME_CAP_*`.
        DRM_CAP_PRIME: u64 = 0x5;
        /// Import works.
        DRM_PRIME_CAP_IMPORT: u64 = 0x1;
        /// Export works.
        DRM_PRIME_CAP_EXPORT: u64 = 0x2;
        /// Sync objects: 0 or 1.
        DRM_CAP_SYNCOBJ: u64 = 0x13;
        /// Timeline sync objects: 0 or 1.
        DRM_CAP_SYNCOBJ_TIMELINE: u64 = 0x14;
    }
}
