//! The variable-length argument of [`AMDKFD_IOC_SVM`].

use core::fmt;

use super::{AMDKFD_IOC_SVM, SvmAttribute, SvmHeader};
use crate::uapi::abi::{IOC_SIZE_MAX, request_size};

const HEADER: usize = size_of::<SvmHeader>();
const HEADER_WORDS: usize = HEADER / 8;

/// Attributes that fit without an allocation.
const INLINE_ATTRIBUTES: usize = 16;

// The header is whole words, and one attribute is one word.
const _: () = assert!(HEADER == HEADER_WORDS * 8 && size_of::<SvmAttribute>() == 8);
const _: () = assert!(HEADER == request_size(AMDKFD_IOC_SVM));

/// Most attributes one call can carry: the size field of a request number has 14 bits.
pub const SVM_MAX_ATTRIBUTES: usize = (IOC_SIZE_MAX - HEADER) / 8;

/// More than [`SVM_MAX_ATTRIBUTES`] attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySvmAttributes {
    /// How many there were.
    pub count: usize,
}

impl fmt::Display for TooManySvmAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attributes, but one SVM call carries at most {SVM_MAX_ATTRIBUTES}", self.count)
    }
}

impl core::error::Error for TooManySvmAttributes {}

/// Words of a buffer with this many attributes.
pub(crate) const fn svm_words(count: usize) -> usize {
    HEADER_WORDS + count
}

const fn request(count: u32) -> u32 {
    AMDKFD_IOC_SVM + ((count * 8) << 16)
}

/// Writes the header over a buffer, with as many attributes as the buffer has words for, and gives the request number that goes
/// with them.
#[inline]
fn lay_out(words: &mut [u64], header: SvmHeader) -> u32 {
    let count = (words.len() - HEADER_WORDS) as u32;
    words[..HEADER_WORDS]
        .copy_from_slice(&bytemuck::cast::<_, [u64; HEADER_WORDS]>(SvmHeader { nattr: count, ..header }));
    request(count)
}

/// Writes header and attributes of one call to a buffer with room for [`svm_words`] of them; gives the part of it that is the
/// argument, and the request number that goes with that.
#[inline]
pub(crate) fn write_svm_args(
    words: &mut [u64],
    header: SvmHeader,
    attrs: impl ExactSizeIterator<Item = SvmAttribute>,
) -> (&mut [u64], u32) {
    let words = &mut words[..svm_words(attrs.len())];
    let request = lay_out(words, header);
    for (word, attr) in words[HEADER_WORDS..].iter_mut().zip(attrs) {
        *word = bytemuck::cast(attr);
    }
    (words, request)
}

/// The attributes in a buffer that [`write_svm_args`] wrote.
pub(crate) fn svm_attributes(words: &[u64]) -> &[SvmAttribute] {
    bytemuck::cast_slice(words.get(HEADER_WORDS..).unwrap_or_default())
}

/// Header and attributes of one `AMDKFD_IOC_SVM` call, in one buffer, with the request number that fits.
///
/// The kernel is told the number of attributes twice: in the header and, through the size, in the request number. Kernels
/// before 2026 read and write past their buffer when the two disagree. Here both follow from one count.
///
/// Up to 16 attributes need no allocation.
///
/// ```
/// use drm_pagemap::uapi::kfd::*;
///
/// let prefetch = SvmAttribute { attr_type: KFD_IOCTL_SVM_ATTR_PREFETCH_LOC, value: 0x4a3f };
/// let args = SvmArgs::new(0x7f00_0000_0000, 0x20_0000, KFD_IOCTL_SVM_OP_SET_ATTR, &[prefetch])?;
/// assert_eq!(args.request(), 0xC020_4B20);
/// assert_eq!(args.attrs(), [prefetch]);
/// # Ok::<(), TooManySvmAttributes>(())
/// ```
#[doc(alias = "kfd_ioctl_svm_args")]
#[doc(alias = "AMDKFD_IOC_SVM")]
#[derive(Clone)]
pub struct SvmArgs {
    words: Words,
    count: u16,
}

/// The buffer: header words, then one word for each attribute, aligned as the struct in C is.
#[derive(Clone)]
enum Words {
    Inline([u64; HEADER_WORDS + INLINE_ATTRIBUTES]),
    Heap(Box<[u64]>),
}

impl SvmArgs {
    /// A call over `size` bytes from `start`, both in bytes and as the kernel takes them: nothing is checked here.
    ///
    /// # Errors
    ///
    /// [`TooManySvmAttributes`] above [`SVM_MAX_ATTRIBUTES`].
    pub fn new(start: u64, size: u64, op: u32, attrs: &[SvmAttribute]) -> Result<Self, TooManySvmAttributes> {
        let count = attrs.len();
        if count > SVM_MAX_ATTRIBUTES {
            return Err(TooManySvmAttributes { count });
        }
        let words = if count <= INLINE_ATTRIBUTES {
            Words::Inline([0; HEADER_WORDS + INLINE_ATTRIBUTES])
        } else {
            Words::Heap(vec![0; HEADER_WORDS + count].into_boxed_slice())
        };
        // At most 2044, see above.
        let mut args = Self { words, count: count as u16 };
        args.set_header(SvmHeader { start_addr: start, size, op, nattr: 0 });
        args.attrs_mut().copy_from_slice(attrs);
        Ok(args)
    }

    /// The request number for this many attributes.
    #[must_use]
    pub fn request(&self) -> u32 {
        request(self.count.into())
    }

    /// The fixed part.
    #[must_use]
    pub fn header(&self) -> SvmHeader {
        bytemuck::pod_read_unaligned(&self.bytes()[..HEADER])
    }

    /// The attributes, after a successful get as the kernel filled them in. After a failed one they may be partly
    /// overwritten.
    #[must_use]
    pub fn attrs(&self) -> &[SvmAttribute] {
        bytemuck::cast_slice(&self.used()[HEADER_WORDS..])
    }

    /// The attributes, to change in place for another call. Their number is fixed.
    pub fn attrs_mut(&mut self) -> &mut [SvmAttribute] {
        bytemuck::cast_slice_mut(&mut self.used_mut()[HEADER_WORDS..])
    }

    /// Moves the call to another range, keeping operation and attributes.
    pub fn set_range(&mut self, start: u64, size: u64) {
        self.set_header(SvmHeader { start_addr: start, size, ..self.header() });
    }

    /// The whole argument.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self.used())
    }

    /// The whole argument, for the kernel to read and write. It has as many bytes as [`request`](Self::request) says, is
    /// aligned to 8, and its header names the right number of attributes, whatever was written over it before.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.set_header(self.header());
        bytemuck::cast_slice_mut(self.used_mut())
    }

    /// Writes the header with the true number of attributes.
    fn set_header(&mut self, header: SvmHeader) {
        lay_out(self.used_mut(), header);
    }

    fn used(&self) -> &[u64] {
        let used = HEADER_WORDS + usize::from(self.count);
        match &self.words {
            Words::Inline(words) => &words[..used],
            Words::Heap(words) => &words[..used],
        }
    }

    fn used_mut(&mut self) -> &mut [u64] {
        let used = HEADER_WORDS + usize::from(self.count);
        match &mut self.words {
            Words::Inline(words) => &mut words[..used],
            Words::Heap(words) => &mut words[..used],
        }
    }
}

impl fmt::Debug for SvmArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SvmArgs").field("header", &self.header()).field("attrs", &self.attrs()).finish()
    }
}

impl PartialEq for SvmArgs {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for SvmArgs {}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn attribute(attr_type: u32, value: u32) -> SvmAttribute {
        SvmAttribute { attr_type, value }
    }

    fn filled(count: usize) -> Vec<SvmAttribute> {
        (0..count as u32).map(|i| attribute(i % 8, i)).collect()
    }

    #[test]
    fn the_request_grows_with_the_attributes() {
        let known = [
            (0, 0xC018_4B20),
            (1, 0xC020_4B20),
            (2, 0xC028_4B20),
            (3, 0xC030_4B20),
            (4, 0xC038_4B20),
            (5, 0xC040_4B20),
            (6, 0xC048_4B20),
            (8, 0xC058_4B20),
            (2044, 0xFFF8_4B20),
        ];
        for (count, request) in known {
            let args = SvmArgs::new(0x1000, 0x1000, 0, &filled(count)).unwrap();
            assert_eq!(args.request(), request, "{count} attributes");
        }
    }

    #[test]
    fn more_attributes_than_the_size_field_can_say_are_refused() {
        assert_eq!(SVM_MAX_ATTRIBUTES, 2044);
        assert_eq!(SvmArgs::new(0, 0, 0, &filled(2045)), Err(TooManySvmAttributes { count: 2045 }));
        let message = TooManySvmAttributes { count: 2045 }.to_string();
        assert_eq!(message, "2045 attributes, but one SVM call carries at most 2044");
    }

    /// Compares with what AMD's own library sends, word by word: start, size, op, nattr, then type and value of each.
    fn assert_words(args: &mut SvmArgs, request: u32, op_and_attributes: &[u32]) {
        assert_eq!(args.request(), request);
        let mut expected = Vec::new();
        expected.extend_from_slice(&0x7f00_0000_0000u64.to_le_bytes());
        expected.extend_from_slice(&0x2000u64.to_le_bytes());
        for word in op_and_attributes {
            expected.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(args.bytes_mut(), expected);
    }

    #[test]
    fn calls_are_byte_for_byte_those_of_libhsakmt() {
        const GPU: u32 = 0x4a3f;
        let call = |op, attrs: &[SvmAttribute]| SvmArgs::new(0x7f00_0000_0000, 0x2000, op, attrs).unwrap();

        let set_six = [
            attribute(KFD_IOCTL_SVM_ATTR_PREFERRED_LOC, GPU),
            attribute(KFD_IOCTL_SVM_ATTR_PREFETCH_LOC, GPU),
            attribute(KFD_IOCTL_SVM_ATTR_ACCESS, GPU),
            attribute(
                KFD_IOCTL_SVM_ATTR_SET_FLAGS,
                KFD_IOCTL_SVM_FLAG_HOST_ACCESS | KFD_IOCTL_SVM_FLAG_GPU_READ_MOSTLY,
            ),
            attribute(KFD_IOCTL_SVM_ATTR_CLR_FLAGS, KFD_IOCTL_SVM_FLAG_COHERENT),
            attribute(KFD_IOCTL_SVM_ATTR_GRANULARITY, 9),
        ];
        let words = [0, 6, 0, GPU, 1, GPU, 2, GPU, 5, 0x21, 6, 2, 7, 9];
        assert_words(&mut call(KFD_IOCTL_SVM_OP_SET_ATTR, &set_six), 0xC048_4B20, &words);

        let get_five =
            [attribute(0, 0), attribute(1, 0), attribute(2, GPU), attribute(5, 0), attribute(7, 0)];
        let words = [1, 5, 0, 0, 1, 0, 2, GPU, 5, 0, 7, 0];
        assert_words(&mut call(KFD_IOCTL_SVM_OP_GET_ATTR, &get_five), 0xC040_4B20, &words);

        let register =
            [attribute(KFD_IOCTL_SVM_ATTR_CLR_FLAGS, 2), attribute(6, KFD_IOCTL_SVM_FLAG_EXT_COHERENT)];
        assert_words(&mut call(0, &register), 0xC028_4B20, &[0, 2, 6, 2, 6, 0x80]);

        let map = [attribute(KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE, GPU)];
        assert_words(&mut call(0, &map), 0xC020_4B20, &[0, 1, 3, GPU]);
    }

    #[test]
    fn overwriting_the_count_in_the_buffer_changes_nothing() {
        for count in [0, 1, INLINE_ATTRIBUTES, INLINE_ATTRIBUTES + 1] {
            let mut args = SvmArgs::new(0x1000, 0x2000, 1, &filled(count)).unwrap();
            args.bytes_mut()[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
            assert_eq!(args.attrs().len(), count);
            assert_eq!(args.bytes_mut()[20..24], (count as u32).to_ne_bytes());
            assert_eq!(args.request(), AMDKFD_IOC_SVM + ((count as u32 * 8) << 16));
        }
    }

    #[test]
    fn answers_are_read_in_place() {
        let mut args = SvmArgs::new(0x1000, 0x1000, 1, &[attribute(KFD_IOCTL_SVM_ATTR_ACCESS, 7)]).unwrap();
        args.bytes_mut()[24..28].copy_from_slice(&KFD_IOCTL_SVM_ATTR_NO_ACCESS.to_ne_bytes());
        assert_eq!(args.attrs(), [attribute(KFD_IOCTL_SVM_ATTR_NO_ACCESS, 7)]);
        args.attrs_mut()[0].value = 9;
        args.set_range(0x5000, 0x3000);
        assert_eq!(args.header(), SvmHeader { start_addr: 0x5000, size: 0x3000, op: 1, nattr: 1 });
        assert_eq!(args.attrs()[0].value, 9);
    }

    proptest::proptest! {
        #[test]
        fn size_count_and_bytes_always_agree(
            start: u64,
            size: u64,
            op: u32,
            words in proptest::collection::vec(proptest::num::u64::ANY, 0..=SVM_MAX_ATTRIBUTES),
        ) {
            let attrs: &[SvmAttribute] = bytemuck::cast_slice(&words);
            let mut args = SvmArgs::new(start, size, op, attrs).unwrap();
            let bytes = args.bytes_mut().to_vec();
            proptest::prop_assert_eq!(bytes.len(), request_size(args.request()));
            proptest::prop_assert_eq!(bytes.len(), 24 + 8 * attrs.len());
            proptest::prop_assert_eq!(args.request() & 0xC000_FFFF, 0xC000_4B20);
            proptest::prop_assert_eq!(args.header(), SvmHeader { start_addr: start, size, op, nattr: attrs.len() as u32 });
            proptest::prop_assert_eq!(args.attrs(), attrs);
            proptest::prop_assert_eq!(args.bytes(), &bytes[..]);
            proptest::prop_assert_eq!(args.bytes_mut().as_ptr() as usize % 8, 0);
            proptest::prop_assert_eq!(args.clone(), args);
        }
    }
}
