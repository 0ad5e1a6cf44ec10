//! The words that steps and answers use for the kernel's numbers.

use drm_pagemap::kfd::Location;
use drm_pagemap::uapi::kfd::*;

use super::device::Gpu;
use crate::frame::{BadStep, Step, number};

const TYPES: &[(&str, u32)] = &[
    ("pref", KFD_IOCTL_SVM_ATTR_PREFERRED_LOC),
    ("move", KFD_IOCTL_SVM_ATTR_PREFETCH_LOC),
    ("access", KFD_IOCTL_SVM_ATTR_ACCESS),
    ("inplace", KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE),
    ("noaccess", KFD_IOCTL_SVM_ATTR_NO_ACCESS),
    ("set", KFD_IOCTL_SVM_ATTR_SET_FLAGS),
    ("clear", KFD_IOCTL_SVM_ATTR_CLR_FLAGS),
    ("gran", KFD_IOCTL_SVM_ATTR_GRANULARITY),
];

/// `g0`, `g1`: a GPU by its place in the topology; with fewer GPUs than that, the last.
pub(super) fn gpu(text: &str, gpus: &[Gpu]) -> Option<usize> {
    let index: usize = text.strip_prefix('g')?.parse().ok()?;
    Some(index.min(gpus.len() - 1))
}

/// The GPU that a step names, by default the first.
pub(super) fn gpu_of(step: &Step, gpus: &[Gpu]) -> Result<usize, BadStep> {
    let text = step.text("gpu").unwrap_or("g0");
    gpu(text, gpus).ok_or_else(|| BadStep(format!("{}: gpu={text} is none", step.verb)))
}

/// A number that stands for a GPU, a place or anything else.
pub(super) fn value(text: &str, gpus: &[Gpu]) -> Option<u32> {
    match text {
        "sys" => Some(KFD_IOCTL_SVM_LOCATION_SYSMEM),
        "undef" => Some(KFD_IOCTL_SVM_LOCATION_UNDEFINED),
        _ => match gpu(text, gpus) {
            Some(index) => Some(gpus[index].id.raw()),
            None => u32::try_from(number(text)?).ok(),
        },
    }
}

/// `type:value,type:value`, in this order.
pub(super) fn attributes(step: &Step, gpus: &[Gpu]) -> Result<Vec<SvmAttribute>, BadStep> {
    let list = step.text("attrs").unwrap_or("");
    let one = |text: &str| {
        let (name, given) = text.split_once(':')?;
        let known = TYPES.iter().find(|(word, _)| *word == name).map(|(_, raw)| *raw);
        let attr_type = known.or_else(|| u32::try_from(number(name)?).ok())?;
        Some(SvmAttribute { attr_type, value: value(given, gpus)? })
    };
    let parsed = list.split(',').filter(|text| !text.is_empty()).map(one).collect::<Option<_>>();
    parsed.ok_or_else(|| BadStep(format!("{}: attrs={list} means nothing", step.verb)))
}

/// An attribute as an answer tells it.
pub(super) fn told(attr: SvmAttribute, gpus: &[Gpu]) -> String {
    let name = TYPES.iter().find(|(_, raw)| *raw == attr.attr_type).map(|(word, _)| (*word).to_owned());
    let value = match attr.attr_type {
        KFD_IOCTL_SVM_ATTR_SET_FLAGS | KFD_IOCTL_SVM_ATTR_CLR_FLAGS => format!("{:#x}", attr.value),
        KFD_IOCTL_SVM_ATTR_GRANULARITY => attr.value.to_string(),
        _ => place(attr.value, gpus),
    };
    format!("{}:{value}", name.unwrap_or_else(|| attr.attr_type.to_string()))
}

/// A place by name.
pub(super) fn place(raw: u32, gpus: &[Gpu]) -> String {
    match Location::from_raw(raw) {
        None => "undef".to_owned(),
        Some(Location::System) => "sys".to_owned(),
        Some(Location::Gpu(id)) => match gpus.iter().position(|gpu| gpu.id == id) {
            Some(index) => format!("g{index}"),
            None => format!("{raw:#x}"),
        },
    }
}
