//! The static data of the program and its libraries.

/// Writable segments that are known; of modules beyond, none is refused.
const MAX: usize = 128;

/// Where loaded modules keep their writable static data, `[low, high)` in whole pages.
///
/// The engine's thread runs code of this crate and of the C library, and so reads statics of both: they must not migrate.
/// Modules loaded later do not matter to it.
#[derive(Debug)]
pub(super) struct Statics {
    segments: [(u64, u64); MAX],
    count: usize,
    page: u64,
}

impl Statics {
    pub(super) fn of_loaded_modules(page: u64) -> Self {
        let mut statics = Self { segments: [(0, 0); MAX], count: 0, page };
        let data: *mut Self = &mut statics;
        // SAFETY: the C library calls `note` with `data` for each module, and does not keep either.
        unsafe { libc::dl_iterate_phdr(Some(note), data.cast()) };
        statics
    }

    pub(super) fn overlap(&self, start: u64, end: u64) -> bool {
        self.segments[..self.count].iter().any(|&(low, high)| start < high && low < end)
    }

    fn add(&mut self, low: u64, high: u64) {
        if self.count < MAX {
            self.segments[self.count] = (low & !(self.page - 1), high.next_multiple_of(self.page));
            self.count += 1;
        }
    }
}

/// Takes down the writable segments of one module.
unsafe extern "C" fn note(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the C library passes a valid description of a loaded module.
    let info = unsafe { &*info };
    // SAFETY: `data` is what `of_loaded_modules` passed, which nothing else refers to meanwhile.
    let statics = unsafe { &mut *data.cast::<Statics>() };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the module's program headers, as many as it says.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W != 0 {
            let low = info.dlpi_addr.wrapping_add(header.p_vaddr);
            statics.add(low, low.wrapping_add(header.p_memsz));
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;

    static VARIABLE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(7);

    #[test]
    fn a_static_is_found_and_the_heap_is_not() {
        let statics = Statics::of_loaded_modules(page_size());
        let variable = std::ptr::from_ref(&VARIABLE) as u64;
        assert!(statics.overlap(variable, variable + 8));
        let mapped = crate::Buffer::<u8>::zeroed(1 << 21).unwrap();
        assert!(!statics.overlap(mapped.range().start(), mapped.range().end()));
    }
}
