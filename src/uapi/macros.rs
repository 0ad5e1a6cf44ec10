//! The macro that defines the ABI: one statement per struct, request and constant, from which the Rust item, the proof
//! of its layout and its entry in the ABI test's table all follow.

/// Defines the ABI items that one module takes from one kernel header, and `TABLE`, their description.
///
/// ```text
/// abi! {
///     header "drm/xe_drm.h";
///
///     /// Documentation of the struct.
///     struct RustName("c_tag", 24) for C_REQUEST = iow(b'd', 0x44) 0x4018_6444 {
///         /// Documentation of the field; its offset is part of the statement.
///         vm_id: u32 => 0;
///         /// A field that C calls otherwise, here the members of a union.
///         target: u64 => 16 as "obj_offset" | "userptr";
///     }
///
///     /// In C a flexible array follows: described, not part of the type; it may raise the alignment.
///     struct ListHeader("c_list", 8, align 8) {
///         /// Documentation.
///         count: u64 => 0;
///         .. elements: Element => 8;
///     }
///
///     requests { /// Documentation.
///         NewType(Struct) for C_REQUEST = iowr(b'd', 0xC4) 0xC010_64C4; }
///     constants { /// Documentation.
///         C_NAME: u32 = 1; }
/// }
/// ```
///
/// A struct that does not have the stated size, a field that is not at its stated offset, padding between fields, a
/// field that is not plain data, or a request number that does not follow from direction, type, number and size
/// does not compile.
macro_rules! abi {
    (
        header $header:literal;
        $(
            $(#[$smeta:meta])*
            struct $Name:ident($c:literal, $size:literal $(, align $align:literal)?)
            $(for $request:ident = $dir:ident($ty:literal, $nr:literal) $value:literal)?
            {
                $(
                    $(#[$fmeta:meta])*
                    $field:ident: $fty:ty => $offset:literal $(as $($cfield:literal)|+)?;
                )*
                $(.. $tail:ident: $tty:ty => $toffset:literal;)?
            }
        )*
        $(
            requests {
                $(
                    $(#[$rmeta:meta])*
                    $RName:ident($RArg:ident) for $rrequest:ident = $rdir:ident($rty:literal, $rnr:literal) $rvalue:literal;
                )*
            }
        )?
        $(
            constants {
                $(
                    $(#[$kmeta:meta])*
                    $k:ident: $kty:ty = $kvalue:expr;
                )*
            }
        )?
    ) => {
        $(
            $(#[$smeta])*
            #[doc(alias = $c)]
            #[repr(C $(, align($align))?)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $Name {
                $($(#[$fmeta])* pub $field: $fty,)*
            }

            const _: () = {
                const fn plain<T: ::bytemuck::Pod>() -> usize {
                    size_of::<T>()
                }
                assert!(size_of::<$Name>() == $size, concat!("size of ", $c));
                assert!(0 $(+ plain::<$fty>())* == $size, concat!("padding in ", $c));
                $(assert!(::core::mem::offset_of!($Name, $field) == $offset, concat!("offset in ", $c));)*
                $(
                    assert!($toffset == $size && plain::<$tty>() != 0, concat!("tail of ", $c));
                    assert!(align_of::<$tty>() <= align_of::<$Name>(), concat!("alignment of ", $c));
                )?
            };

            // SAFETY: every field is plain data, for which all zeroes is a value (asserted above).
            unsafe impl ::bytemuck::Zeroable for $Name {}
            // SAFETY: `repr(C)`, every field is plain data, and the sizes of the fields add up to the size of the struct,
            // so there is no padding (asserted above).
            unsafe impl ::bytemuck::Pod for $Name {}

            impl Default for $Name {
                /// All zeroes.
                fn default() -> Self {
                    ::bytemuck::Zeroable::zeroed()
                }
            }

            $(
                #[doc = concat!("Request number of [`", stringify!($Name), "`].")]
                pub const $request: u32 = $value;
                const _: () = assert!(
                    $crate::uapi::abi::$dir($ty, $nr, size_of::<$Name>()) == $request,
                    stringify!($request)
                );
                // SAFETY: the number is that of the header (the ABI test compares them) and carries the size of
                // this struct (asserted above).
                unsafe impl $crate::uapi::abi::IoctlArg for $Name {
                    const NAME: &'static str = stringify!($request);
                    const REQUEST: u32 = $request;
                }
            )?
        )*

        $($(
            $(#[$rmeta])*
            #[repr(transparent)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct $RName(
                /// The argument itself.
                pub $RArg,
            );

            // SAFETY: transparent around plain data.
            unsafe impl ::bytemuck::Zeroable for $RName {}
            // SAFETY: transparent around plain data.
            unsafe impl ::bytemuck::Pod for $RName {}

            #[doc = concat!("Request number of [`", stringify!($RName), "`].")]
            pub const $rrequest: u32 = $rvalue;
            const _: () = assert!(
                $crate::uapi::abi::$rdir($rty, $rnr, size_of::<$RName>()) == $rrequest,
                stringify!($rrequest)
            );
            // SAFETY: the number is that of the header (the ABI test compares them) and carries the size of this struct
            // (asserted above).
            unsafe impl $crate::uapi::abi::IoctlArg for $RName {
                const NAME: &'static str = stringify!($rrequest);
                const REQUEST: u32 = $rrequest;
            }
        )*)?

        $($(
            $(#[$kmeta])*
            pub const $k: $kty = $kvalue;
        )*)?

        /// What this module takes from its header.
        pub(crate) const TABLE: $crate::uapi::abi::Table = $crate::uapi::abi::Table {
            module: module_path!(),
            header: $header,
            structs: &[$($crate::uapi::abi::StructDesc {
                rust_name: stringify!($Name),
                c_name: $c,
                size: size_of::<$Name>(),
                align: align_of::<$Name>(),
                fields: &[$($crate::uapi::abi::FieldDesc {
                    c_names: abi!(@names $field $($($cfield)+)?),
                    rust_type: stringify!($fty),
                    offset: ::core::mem::offset_of!($Name, $field),
                    size: size_of::<$fty>(),
                }),*],
                tail: abi!(@tail $($tail $tty, $toffset)?),
            }),*],
            requests: &[
                $($($crate::uapi::abi::RequestDesc {
                    c_name: stringify!($request),
                    value: $request,
                    argument: stringify!($Name),
                },)?)*
                $($($crate::uapi::abi::RequestDesc {
                    c_name: stringify!($rrequest),
                    value: $rrequest,
                    argument: stringify!($RArg),
                },)*)?
            ],
            constants: &[$($($crate::uapi::abi::ConstantDesc {
                c_name: stringify!($k),
                value: $k as u64,
                bits: <$kty>::BITS,
            }),*)?],
        };
    };

    (@names $field:ident) => { &[stringify!($field)] };
    (@names $field:ident $($cfield:literal)+) => { &[$($cfield),+] };
    (@tail) => { None };
    (@tail $tail:ident $tty:ty, $toffset:literal) => {
        Some($crate::uapi::abi::FieldDesc {
            c_names: &[stringify!($tail)],
            rust_type: stringify!($tty),
            offset: $toffset,
            size: size_of::<$tty>(),
        })
    };
}
