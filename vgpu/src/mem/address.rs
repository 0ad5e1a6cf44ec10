//! Address spaces as types: a number only means something together with the space it belongs to.

use std::fmt;

/// An address of one address space.
///
/// The implementations are newtypes made by [`address_space!`](crate::address_space); nothing converts between
/// two spaces except a translation.
pub trait Address: Copy + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The address `bytes` further on; wraps at the end of the 64-bit range, where no translation succeeds.
    fn plus(self, bytes: u64) -> Self;
}

/// Declares newtypes that implement [`Address`](crate::mem::Address).
#[macro_export]
macro_rules! address_space {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $crate::mem::Address for $name {
            fn plus(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}:{:#x}", stringify!($name), self.0)
            }
        }
    )+};
}

address_space! {
    /// An address on the system bus as the device emits it: guest memory, or the BAR of another device.
    Dma;
    /// An offset into the device's own memory.
    VramOffset;
}
