//! Learning which entry type means "in VRAM" on the running kernel.

use super::decide::entry_type;
use super::kernel::Kernel;
use super::procfs::Proc;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;

const CALL: &str = "Calibration::learn";

/// The swap types that the running kernel uses for device-private pages, learned from pages known to be in VRAM.
///
/// With `CAP_SYS_ADMIN`, `/proc/self/pagemap` shows the type of each entry that is not present. The types of device pages are
/// decisive, but their numbers differ between kernels (28 is a read-only device page on 6.12 and a writable one on
/// 7.3), so they are never assumed: a caller that *knows* a page to be in VRAM, because it has just put it there and its
/// driver confirmed that, shows it here. Writable pages and pages that are read-only or shared with a child after
/// `fork` have different types; each must be learned to be recognised.
///
/// With a calibration a [`Scanner`](super::Scanner) tells device pages from migrations in flight, poisoned
/// pages and pages held exclusively by a device, which all look alike without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    types: u32,
}

impl Calibration {
    /// One that knows no type yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { types: 0 }
    }

    /// Learns the type of the page that holds the byte at `addr`, which must be in VRAM now.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::PermissionDenied`]: the kernel hides entry types from this process (`CAP_SYS_ADMIN` in the initial user
    ///   namespace is needed when `/proc/self/pagemap` is opened).
    /// * [`ErrorKind::MemoryKind`]: the page is present or absent, or its type is one of a swap file: not in VRAM.
    /// * [`ErrorKind::Unsupported`]: `/proc/self/pagemap` cannot be opened; see [`Scanner::new`](super::Scanner::new).
    pub fn learn(&mut self, addr: u64) -> Result<()> {
        self.learn_with(&mut Proc::open()?, addr)
    }

    pub(super) fn learn_with(&mut self, kernel: &mut impl Kernel, addr: u64) -> Result<()> {
        let page = PageRange::rounded_out(addr, 1)?;
        let mut word = [0];
        let read = kernel
            .entries(page.start(), &mut word)
            .map_err(|errno| Error::from_errno("pread(/proc/self/pagemap)", errno).over(page))?;
        let refuse = |kind, reason: &'static str| Err(Error::new(kind, CALL).over(page).because(reason));
        if read != 1 {
            return Err(Error::from_errno(CALL, Errno::EFAULT).over(page));
        }
        let (present, software) = (word[0] >> 63 & 1 == 1, word[0] >> 62 & 1 == 1);
        if present || !software {
            return refuse(ErrorKind::MemoryKind, "the page is not in VRAM: it is present or absent");
        }
        match entry_type(word[0]) {
            None => Err(Error::new(ErrorKind::PermissionDenied, CALL)
                .over(page)
                .because("the kernel hides the types of page table entries from this process")
                .hint_is("CAP_SYS_ADMIN in the initial user namespace, held when the file is opened")),
            Some(0..=15) => refuse(ErrorKind::MemoryKind, "the page is not in VRAM: it is swapped out"),
            Some(kind) => {
                self.types |= 1 << kind;
                Ok(())
            }
        }
    }

    /// Whether no type has been learned.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.types == 0
    }

    pub(super) const fn types(self) -> u32 {
        self.types
    }
}
