//! What every request of this floor has in common: the [`IoctlArg`] contract, the arithmetic of request numbers, and
//! the descriptors from which the ABI test writes its C program.

use bytemuck::Pod;

/// The argument of one ioctl: a plain-data struct together with the only request it may be passed to.
///
/// One type answers exactly one request. Where the kernel uses one C struct for several requests, each request has
/// its own transparent type here, so that a request and its argument cannot be mixed up.
///
/// # Safety
///
/// [`REQUEST`](Self::REQUEST) must be the number of an ioctl whose argument is a pointer to this very layout, and the
/// size encoded in it must be `size_of::<Self>()`: the kernel copies that many bytes from the argument, and for
/// requests with the read direction back into it, and touches nothing else *of the argument itself*. Addresses stored in
/// fields are a separate matter: whoever makes the call answers for the memory they name.
pub unsafe trait IoctlArg: Pod {
    /// Name of the request in the kernel header, for error messages.
    const NAME: &'static str;
    /// The request number.
    const REQUEST: u32;
}

/// Direction bits: no argument.
const NONE: u32 = 0;
/// Direction bits: the kernel reads the argument.
const WRITE: u32 = 1;
/// Direction bits: the kernel writes the argument.
const READ: u32 = 2;

const SIZE_SHIFT: u32 = 16;
const DIRECTION_SHIFT: u32 = 30;

/// Largest argument a request number can describe, in bytes: the size field has 14 bits.
pub const IOC_SIZE_MAX: usize = (1 << 14) - 1;

const fn ioc(direction: u32, ty: u8, nr: u8, size: usize) -> u32 {
    assert!(size <= IOC_SIZE_MAX, "an ioctl argument has at most 16383 bytes");
    direction << DIRECTION_SHIFT | (size as u32) << SIZE_SHIFT | (ty as u32) << 8 | nr as u32
}

/// Number of a request without an argument (C `_IO`).
#[must_use]
pub const fn io(ty: u8, nr: u8) -> u32 {
    ioc(NONE, ty, nr, 0)
}

/// Number of a request whose argument the kernel only writes (C `_IOR`).
#[must_use]
pub const fn ior(ty: u8, nr: u8, size: usize) -> u32 {
    ioc(READ, ty, nr, size)
}

/// Number of a request whose argument the kernel only reads (C `_IOW`).
#[must_use]
pub const fn iow(ty: u8, nr: u8, size: usize) -> u32 {
    ioc(WRITE, ty, nr, size)
}

/// Number of a request whose argument the kernel reads and writes (C `_IOWR`).
#[must_use]
pub const fn iowr(ty: u8, nr: u8, size: usize) -> u32 {
    ioc(READ | WRITE, ty, nr, size)
}

/// Size of the argument, in bytes, that a request number describes (C `_IOC_SIZE`).
#[must_use]
pub const fn request_size(request: u32) -> usize {
    (request >> SIZE_SHIFT) as usize & IOC_SIZE_MAX
}

/// The type byte of a request number (C `_IOC_TYPE`): `b'd'` for DRM, `b'K'` for KFD.
#[must_use]
pub const fn request_type(request: u32) -> u8 {
    (request >> 8) as u8
}

/// The command number within its type (C `_IOC_NR`).
#[must_use]
pub const fn request_nr(request: u32) -> u8 {
    request as u8
}

/// Whether the number says that the kernel reads the argument (`_IOC_WRITE`). userfaultfd's `UFFDIO_UNREGISTER` and
/// `UFFDIO_WAKE` say the opposite of what they do, and KFD goes by its own table.
#[must_use]
pub const fn request_reads_argument(request: u32) -> bool {
    request >> DIRECTION_SHIFT & WRITE != 0
}

/// Whether the number says that the kernel writes the argument back (`_IOC_READ`), which DRM does even when the call fails.
#[must_use]
pub const fn request_writes_argument(request: u32) -> bool {
    request >> DIRECTION_SHIFT & READ != 0
}

/// Everything one module takes from one kernel header.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Rust path of the module.
    pub module: &'static str,
    /// The header as C includes it.
    pub header: &'static str,
    /// Its structs.
    pub structs: &'static [StructDesc],
    /// Its request numbers.
    pub requests: &'static [RequestDesc],
    /// Its constants.
    pub constants: &'static [ConstantDesc],
}

/// One struct as this crate believes it to be.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct StructDesc {
    /// Type in Rust.
    pub rust_name: &'static str,
    /// Tag in C; `tag.member` names the unnamed struct type of a member.
    pub c_name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Bytes.
    pub align: usize,
    /// In order.
    pub fields: &'static [FieldDesc],
    /// The flexible array behind the last field.
    pub tail: Option<FieldDesc>,
}

/// One field. For a flexible array, `size` is that of one element.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct FieldDesc {
    /// The member; further names are other members of the same C union.
    pub c_names: &'static [&'static str],
    /// Rust type, as written.
    pub rust_type: &'static str,
    /// Bytes from the start of the struct.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// One request number.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct RequestDesc {
    /// Macro in C.
    pub c_name: &'static str,
    /// Its value.
    pub value: u32,
    /// Rust name of the struct it carries; an older header may know the request with a shorter one.
    pub argument: &'static str,
}

/// One constant.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ConstantDesc {
    /// Macro or enumerator in C.
    pub c_name: &'static str,
    /// Its value.
    pub value: u64,
    /// Bits of the Rust type; C values are compared after truncation to it.
    pub bits: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_built_and_taken_apart() {
        let bind = iow(b'd', 0x45, 136);
        assert_eq!(bind, 0x4088_6445);
        assert_eq!(request_size(bind), 136);
        assert_eq!(request_type(bind), b'd');
        assert_eq!(request_nr(bind), 0x45);
        assert!(request_reads_argument(bind) && !request_writes_argument(bind));

        let version = ior(b'K', 1, 8);
        assert_eq!(version, 0x8008_4b01);
        assert!(!request_reads_argument(version) && request_writes_argument(version));

        let both = iowr(b'd', 0x43, 32);
        assert!(request_reads_argument(both) && request_writes_argument(both));

        let none = io(b'K', 0x27);
        assert_eq!(none, 0x4b27);
        assert!(!request_reads_argument(none) && !request_writes_argument(none));
        assert_eq!(request_size(iow(b'd', 0, IOC_SIZE_MAX)), IOC_SIZE_MAX);
    }

    #[test]
    #[should_panic(expected = "at most 16383 bytes")]
    fn an_argument_too_large_for_the_size_field_is_refused() {
        let _ = iow(b'd', 0, IOC_SIZE_MAX + 1);
    }
}
