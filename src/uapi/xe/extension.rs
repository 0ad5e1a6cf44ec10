//! The extension chain that some xe structs carry.

abi! {
    header "drm/xe_drm.h";

    /// Head of an element in a chain of extensions. A chain has at most 16 elements (`E2BIG` beyond).
    struct UserExtension("drm_xe_user_extension", 16) {
        /// Address of the next element, 0 at the end of the chain.
        next_extension: u64 => 0;
        /// Which extension this is; the names belong to the struct that carries the chain.
        name: u32 => 8;
        /// Must be zero.
        pad: u32 => 12;
    }

    /// The only kind of extension so far: sets one property of the object being created.
    struct ExtSetProperty("drm_xe_ext_set_property", 48) {
        /// Head, with the "set property" name of the object.
        base: UserExtension => 0;
        /// Which property.
        property: u32 => 16;
        /// Must be zero.
        pad: u32 => 20;
        /// The new value, or an address where the property is larger than 64 bits.
        value: u64 => 24 as "value" | "ptr";
        /// Must be zero.
        reserved: [u64; 2] => 32;
    }
}
