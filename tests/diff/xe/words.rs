//! The words that steps use for numbers.

use drm_pagemap::uapi::xe::*;

use crate::frame::{BadStep, Step};

pub(super) const VM_FLAGS: &[(&str, u32)] = &[
    ("scratch", DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE),
    ("lr", DRM_XE_VM_CREATE_FLAG_LR_MODE),
    ("fault", DRM_XE_VM_CREATE_FLAG_FAULT_MODE),
    ("noover", DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT),
];

pub(super) const BIND_FLAGS: &[(&str, u32)] = &[
    ("readonly", DRM_XE_VM_BIND_FLAG_READONLY),
    ("immediate", DRM_XE_VM_BIND_FLAG_IMMEDIATE),
    ("null", DRM_XE_VM_BIND_FLAG_NULL),
    ("dumpable", DRM_XE_VM_BIND_FLAG_DUMPABLE),
    ("pxp", DRM_XE_VM_BIND_FLAG_CHECK_PXP),
    ("mirror", DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR),
    ("autoreset", DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET),
    ("decompress", DRM_XE_VM_BIND_FLAG_DECOMPRESS),
];

pub(super) const BIND_OPS: &[(&str, u32)] = &[
    ("map", DRM_XE_VM_BIND_OP_MAP),
    ("unmap", DRM_XE_VM_BIND_OP_UNMAP),
    ("userptr", DRM_XE_VM_BIND_OP_MAP_USERPTR),
    ("unmap-all", DRM_XE_VM_BIND_OP_UNMAP_ALL),
    ("prefetch", DRM_XE_VM_BIND_OP_PREFETCH),
];

pub(super) const REGIONS: &[(&str, u32)] = &[("advised", DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC)];

pub(super) const ADVICE: &[(&str, u32)] = &[
    ("loc", DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC),
    ("atomic", DRM_XE_MEM_RANGE_ATTR_ATOMIC),
    ("pat", DRM_XE_MEM_RANGE_ATTR_PAT),
    ("purge", DRM_XE_VMA_ATTR_PURGEABLE_STATE),
];

pub(super) const CLASSES: &[(&str, u32)] = &[
    ("render", DRM_XE_ENGINE_CLASS_RENDER as u32),
    ("copy", DRM_XE_ENGINE_CLASS_COPY as u32),
    ("compute", DRM_XE_ENGINE_CLASS_COMPUTE as u32),
    ("bind", DRM_XE_ENGINE_CLASS_VM_BIND as u32),
];

/// The number of an argument: words joined by `+`, each known by name or a number.
pub(super) fn bits(step: &Step, name: &str, known: &[(&str, u32)], default: u32) -> Result<u32, BadStep> {
    let Some(text) = step.text(name) else { return Ok(default) };
    let mut bits = 0;
    for word in text.split('+') {
        let named = known.iter().find(|(own, _)| *own == word).map(|(_, bit)| *bit);
        let number = || crate::frame::number(word).and_then(|number| u32::try_from(number).ok());
        bits |= named
            .or_else(number)
            .ok_or_else(|| BadStep(format!("{}: {name}={word} means nothing", step.verb)))?;
    }
    Ok(bits)
}

/// What goes where zeroes belong.
pub(super) struct Rubbish {
    pub(super) extensions: u64,
    pub(super) pad: u32,
    pub(super) reserved: [u64; 2],
}

pub(super) fn rubbish(step: &Step) -> Result<Rubbish, BadStep> {
    let reserved = step.number("reserved", 0)?;
    Ok(Rubbish {
        extensions: step.number("ext", 0)?,
        pad: step.number("pad", 0)? as u32,
        // An odd number goes to the second word.
        reserved: if reserved % 2 == 1 { [0, reserved] } else { [reserved, 0] },
    })
}
