//! What the crate says about the kernel's headers, as a flat list of numbers that a C compiler can confirm.

use std::fmt::Write;

use drm_pagemap::uapi::abi::{FieldDesc, StructDesc, Table};

/// One number: the crate's value of it, and the C expression that has the kernel's.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// The expression as a reader writes it; names the fact in reports and is unique within a table.
    pub(crate) label: String,
    /// What of the header it is about: a struct, a field, a request or a constant.
    pub(crate) item: String,
    /// The expression as the compiler gets it.
    pub(crate) c_expression: String,
    pub(crate) expected: u64,
    /// Bits of the value that count; a C value must be a zero or sign extension of them.
    pub(crate) bits: u32,
    pub(crate) role: Role,
}

/// How a fact may deviate in a header that is merely older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Size or alignment of this struct: smaller while the struct lacks fields.
    Whole { rust_name: &'static str },
    /// Part of this struct.
    Field { rust_name: &'static str },
    /// Request that carries this struct: its size field is smaller while the struct lacks fields.
    Request { argument: &'static str },
    /// Nothing excuses a deviation.
    Plain,
}

/// All facts of one table.
pub(crate) fn facts(table: &Table) -> Vec<Fact> {
    let mut facts = Vec::new();
    for desc in table.structs {
        struct_facts(desc, &mut facts);
    }
    for request in table.requests {
        let role = Role::Request { argument: request.argument };
        facts.push(named(request.c_name, u64::from(request.value), 32, role));
    }
    for constant in table.constants {
        facts.push(named(constant.c_name, constant.value, constant.bits, Role::Plain));
    }
    facts
}

fn named(c_name: &str, expected: u64, bits: u32, role: Role) -> Fact {
    Fact { label: c_name.into(), item: c_name.into(), c_expression: c_name.into(), expected, bits, role }
}

fn struct_facts(desc: &StructDesc, facts: &mut Vec<Fact>) {
    let label = format!("struct {}", desc.c_name);
    let c_type = c_type(desc.c_name);
    let rust_name = desc.rust_name;
    let mut push = |label: String, item: &str, c_expression: String, expected: usize, role: Role| {
        facts.push(Fact {
            label,
            item: item.into(),
            c_expression,
            expected: expected as u64,
            bits: 64,
            role,
        });
    };
    let whole = || Role::Whole { rust_name };
    push(format!("sizeof({label})"), &label, format!("sizeof({c_type})"), desc.size, whole());
    push(format!("_Alignof({label})"), &label, format!("_Alignof({c_type})"), desc.align, whole());

    for field in desc.fields {
        for c_name in real_names(field) {
            let offset = format!("__builtin_offsetof({c_type}, {c_name})");
            let item = format!("{label}.{c_name}");
            let role = Role::Field { rust_name };
            push(format!("offsetof({label}, {c_name})"), &item, offset, field.offset, role);
        }
        let Some(c_name) = real_names(field).next() else { continue };
        let member = format!("(({c_type} *)0)->{c_name}");
        let mut push = |label: String, c_expression: String, expected: usize, item_of: &str| {
            push(label, &format!("{item_of}.{c_name}"), c_expression, expected, Role::Field { rust_name });
        };
        push(format!("sizeof({label}, {c_name})"), format!("sizeof({member})"), field.size, &label);
        if let Some(element) = array_element_size(field.rust_type) {
            push(format!("sizeof({label}, {c_name}[0])"), format!("sizeof({member}[0])"), element, &label);
        }
        if let Some(signed) = signedness(field.rust_type) {
            push(
                format!("is_signed({label}, {c_name})"),
                format!("IS_SIGNED({member})"),
                signed.into(),
                &label,
            );
        }
    }

    if let Some(tail) = &desc.tail {
        let c_name = tail.c_names[0];
        let item = format!("{label}.{c_name}");
        let role = || Role::Field { rust_name };
        let offset = format!("__builtin_offsetof({c_type}, {c_name})");
        push(format!("offsetof({label}, {c_name})"), &item, offset, tail.offset, role());
        let element = format!("sizeof((({c_type} *)0)->{c_name}[0])");
        push(format!("sizeof({label}, {c_name}[0])"), &item, element, tail.size, role());
    }
}

/// Names in C; padding that C leaves unnamed has none.
fn real_names(field: &FieldDesc) -> impl Iterator<Item = &'static str> {
    field.c_names.iter().copied().filter(|name| !name.is_empty())
}

/// `tag` is a struct; `tag.member` is the type of a member that has no tag of its own.
fn c_type(name: &str) -> String {
    match name.split_once('.') {
        None => format!("struct {name}"),
        Some((tag, member)) => format!("__typeof__(((struct {tag} *)0)->{member})"),
    }
}

/// Of integers; pointers count as unsigned, as addresses are `u64` in Rust.
fn signedness(rust_type: &str) -> Option<bool> {
    match rust_type {
        "u8" | "u16" | "u32" | "u64" => Some(false),
        "i8" | "i16" | "i32" | "i64" => Some(true),
        _ => None,
    }
}

/// Of arrays of integers. Byte arrays are left out: they stand for whatever C has there.
fn array_element_size(rust_type: &str) -> Option<usize> {
    let (element, _) = rust_type.strip_prefix('[')?.split_once(';')?;
    match element.trim() {
        "u16" => Some(2),
        "u32" => Some(4),
        "u64" => Some(8),
        _ => None,
    }
}

/// A C program that prints the index and value of each fact, except those in `skip`.
pub(crate) fn c_program(headers: &[&str], facts: &[&Fact], skip: impl Fn(usize) -> bool) -> String {
    let mut c = String::from("#include <stdio.h>\n#include <linux/version.h>\n");
    for header in headers {
        let _ = writeln!(c, "#include <{header}>");
    }
    c.push_str(
        "#define IS_SIGNED(x) _Generic((x), \\\n\
         unsigned char: 0, unsigned short: 0, unsigned int: 0, unsigned long: 0, unsigned long long: 0, \\\n\
         signed char: 1, short: 1, int: 1, long: 1, long long: 1, \\\n\
         char *: 0, default: 2)\n\
         int main(void)\n{\n\
         printf(\"version %d\\n\", LINUX_VERSION_CODE);\n",
    );
    for (index, fact) in facts.iter().enumerate() {
        if !skip(index) {
            // The compiler then reports errors by the number of the fact.
            let _ = writeln!(c, "#line {} \"{FACT_FILE}\"", index + 1);
            let _ = writeln!(c, "printf(\"{index} %llu\\n\", (unsigned long long)({}));", fact.c_expression);
        }
    }
    c.push_str("return 0;\n}\n");
    c
}

/// Name under which facts appear in diagnostics.
pub(crate) const FACT_FILE: &str = "abi-fact";
