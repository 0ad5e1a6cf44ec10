//! What the library says of a machine without an AMD GPU.

use drm_pagemap::kfd::{Location, Process, SvmAttribute, open_device};
use drm_pagemap::{Buffer, Errno, ErrorKind, Gpu};
use libtest_mimic::Failed;

/// Whether the kernel opens `/dev/kfd`; if not, that the reason is told.
pub(crate) fn opening() -> Result<(), Failed> {
    let error = match open_device() {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.reason().contains("GPU"), "{error}");
    assert!(error.hint().is_some(), "{error}");
    Ok(())
}

pub(crate) fn discovery() -> Result<(), Failed> {
    match Gpu::discover() {
        Ok(found) => {
            assert!(found.gpus().is_empty(), "{:?}", found.gpus());
            println!("passed over: {:?}", found.passed_over());
        }
        Err(error) => {
            assert!(error.hint().is_some(), "{error}");
            println!("{error}");
        }
    }
    Ok(())
}

/// On the kernels that open, setting attributes would crash: safe code does not get there.
pub(crate) fn attributes() -> Result<(), Failed> {
    let Ok(channel) = open_device() else { return Ok(()) };
    let process = match Process::open(channel) {
        Ok(process) => process,
        Err(error) => {
            // A kernel without shared virtual memory.
            assert_eq!(
                (error.kind(), error.errno()),
                (ErrorKind::Unsupported, Some(Errno::EPERM)),
                "{error}"
            );
            assert!(error.reason().contains("CONFIG_HSA_AMD_SVM"), "{error}");
            assert!(error.hint().is_some(), "{error}");
            return Ok(());
        }
    };
    assert_eq!(process.gpus().count(), 0);
    let memory = Buffer::<u8>::zeroed(4096)?;
    for attributes in [&[SvmAttribute::Prefetch(Location::System)][..], &[]] {
        let error = process.set_attributes(memory.range(), attributes).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, None), "{error}");
    }
    process.get_attributes(memory.range(), &[])?;
    Ok(())
}
