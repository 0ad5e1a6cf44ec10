//! How headers are treated that are older than the crate, shown with a header written for the purpose.

use std::fs;

use drm_pagemap::uapi::abi::{ConstantDesc, FieldDesc, RequestDesc, StructDesc, Table};
use libtest_mimic::{Completion, Failed};

use crate::compare::compare;
use crate::probe::{self, Scratch};

const HEADER: &str = "\
#define OLD_REQUEST 0xC0084B01u
#define OLD_CONSTANT 5
struct old { unsigned int first; unsigned int second; };
";

const fn field(
    name: &'static [&'static str],
    rust_type: &'static str,
    offset: usize,
    size: usize,
) -> FieldDesc {
    FieldDesc { c_names: name, rust_type, offset, size }
}

const FIRST: FieldDesc = field(&["first"], "u32", 0, 4);
const SECOND: FieldDesc = field(&["second"], "u32", 4, 4);

/// The struct has a field that the header does not know, and there are a struct and a constant that it does not know.
static NEWER: Table = Table {
    module: "newer",
    header: "abi_old.h",
    structs: &[
        StructDesc {
            rust_name: "Old",
            c_name: "old",
            size: 16,
            align: 8,
            fields: &[FIRST, SECOND, field(&["third"], "u64", 8, 8)],
            tail: None,
        },
        StructDesc { rust_name: "New", c_name: "new", size: 4, align: 4, fields: &[FIRST], tail: None },
    ],
    requests: &[RequestDesc { c_name: "OLD_REQUEST", value: 0xC010_4B01, argument: "Old" }],
    constants: &[
        ConstantDesc { c_name: "OLD_CONSTANT", value: 5, bits: 32 },
        ConstantDesc { c_name: "NEW_CONSTANT", value: 6, bits: 32 },
    ],
};

/// The header knows every field, so age excuses neither the size nor the request.
static WRONG: Table = Table {
    module: "wrong",
    structs: &[StructDesc {
        rust_name: "Old",
        c_name: "old",
        size: 16,
        align: 4,
        fields: &[FIRST, SECOND],
        tail: None,
    }],
    constants: &[],
    ..NEWER
};

static WITHOUT_HEADER: Table =
    Table { module: "without", header: "abi_no_such_header.h", structs: &[], requests: &[], constants: &[] };

pub(crate) fn trial() -> Result<Completion, Failed> {
    let compiler = match probe::compiler() {
        Ok(compiler) => compiler,
        Err(why) => return Ok(Completion::ignored_with(format!("skipped because {why}"))),
    };
    let include = Scratch::new()?;
    fs::create_dir(include.0.join("linux"))?;
    fs::write(include.0.join("linux/version.h"), "#define LINUX_VERSION_CODE 0x050607\n")?;
    fs::write(include.0.join("abi_old.h"), HEADER)?;

    let measured = probe::measure(&compiler, Some(&include.0), &[&NEWER, &WITHOUT_HEADER])?;
    check(measured.version == "5.6.7", &measured.version)?;
    check(measured.unusable.keys().eq([&"abi_no_such_header.h"]), &measured.unusable)?;

    let comparison = compare(&NEWER, &measured);
    let items = [
        "sizeof(struct old) of today (there 0x8)",
        "_Alignof(struct old) of today (there 0x4)",
        "struct old.third",
        "struct new",
        "OLD_REQUEST of today (there 0xc0084b01)",
        "NEW_CONSTANT",
    ];
    check(comparison.absent_items == items && comparison.differ.is_empty(), &comparison)?;
    // Absent: size, alignment and request of the grown struct, three facts of its new field, five of the new struct, and a
    // constant. Present: three facts of each field it has, and a constant.
    check(comparison.absent.len() == 12 && comparison.agree == 7, &comparison)?;

    let measured = probe::measure(&compiler, Some(&include.0), &[&WRONG])?;
    let comparison = compare(&WRONG, &measured);
    let differ: Vec<_> = comparison.differ.iter().map(|(label, _)| label.as_str()).collect();
    check(differ == ["sizeof(struct old)", "OLD_REQUEST"] && comparison.absent.is_empty(), &comparison)?;
    Ok(Completion::Completed)
}

fn check(holds: bool, seen: &impl std::fmt::Debug) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(format!("unexpected: {seen:?}").into()) }
}
