//! C code to compare with, loaded at run time: our own, compiled on the spot, and AMD's libhsakmt.

use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;

/// A shared library.
#[derive(Debug)]
struct Library(*mut c_void);

impl Library {
    fn open(path: &str) -> Result<Self, String> {
        let path = CString::new(path).map_err(|error| error.to_string())?;
        // SAFETY: loads the library and runs its constructors.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            // SAFETY: after a failure this is a string.
            return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
        }
        Ok(Self(handle))
    }

    /// # Safety
    ///
    /// `F` is the type of the function.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
        // SAFETY: the library stays loaded.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if symbol.is_null() {
            return Err(format!("no function {}", name.to_string_lossy()));
        }
        // SAFETY: a function pointer, by the caller's word of this type.
        Ok(unsafe { std::mem::transmute_copy(&symbol) })
    }
}

/// `raw.c`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct C {
    pub(crate) xe_prefetch: unsafe extern "C" fn(c_int, u32, u64, u64, u32) -> c_int,
    pub(crate) xe_advise: unsafe extern "C" fn(c_int, u32, u64, u64, u32) -> c_int,
    pub(crate) xe_query: unsafe extern "C" fn(c_int, u32, u64, u64, *mut c_void, u32) -> c_int,
    pub(crate) kfd_set: unsafe extern "C" fn(c_int, u64, u64, u32) -> c_int,
    pub(crate) kfd_get: unsafe extern "C" fn(c_int, u64, u64, u32, *mut u32) -> c_int,
}

/// Compiles `raw.c` into `folder`.
pub(crate) fn compile(folder: &Path) -> Result<String, String> {
    let library = folder.join("raw.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/calls/raw.c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(&compiler)
        .args(["-O2", "-fPIC", "-shared", "-o"])
        .arg(&library)
        .arg(source)
        .status()
        .map_err(|error| format!("cannot run {compiler}: {error}"))?;
    if status.success() { Ok(library.display().to_string()) } else { Err(format!("{compiler} failed")) }
}

impl C {
    pub(crate) fn load(path: &str) -> Result<Self, String> {
        let library = Library::open(path)?;
        // SAFETY: the types are those in `raw.c`.
        unsafe {
            Ok(Self {
                xe_prefetch: library.function(c"raw_xe_prefetch")?,
                xe_advise: library.function(c"raw_xe_advise")?,
                xe_query: library.function(c"raw_xe_query")?,
                kfd_set: library.function(c"raw_kfd_set")?,
                kfd_get: library.function(c"raw_kfd_get")?,
            })
        }
    }
}

/// `HSA_SVM_ATTRIBUTE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HsaAttribute {
    pub(crate) kind: u32,
    pub(crate) value: u32,
}

type SvmCall = unsafe extern "C" fn(*mut c_void, u64, c_uint, *mut HsaAttribute) -> c_uint;

/// AMD's userspace library for KFD.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hsakmt {
    pub(crate) set: SvmCall,
    pub(crate) get: SvmCall,
}

impl Hsakmt {
    /// Loads and opens it; the file behind is whatever `/dev/kfd` is here.
    pub(crate) fn load() -> Result<Self, String> {
        let library = Library::open("libhsakmt.so.1")?;
        // SAFETY: the types are those of `hsakmt.h`.
        unsafe {
            let open: unsafe extern "C" fn() -> c_uint = library.function(c"hsaKmtOpenKFD")?;
            let look: unsafe extern "C" fn(*mut u64) -> c_uint =
                library.function(c"hsaKmtAcquireSystemProperties")?;
            let (set, get) = (library.function(c"hsaKmtSVMSetAttr")?, library.function(c"hsaKmtSVMGetAttr")?);
            match open() {
                0 => {}
                status => return Err(format!("hsaKmtOpenKFD answers {status}")),
            }
            // Reads the topology, by which it tells nodes. The struct has less than 64 bytes.
            match look([0u64; 64].as_mut_ptr()) {
                0 => Ok(Self { set, get }),
                status => Err(format!("hsaKmtAcquireSystemProperties answers {status}")),
            }
        }
    }
}
