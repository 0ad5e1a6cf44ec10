//! Proof that the comparison can fail: each number of each table is changed in turn, and exactly that change must be
//! reported; so must a name that C does not have.

use std::collections::BTreeSet;
use std::sync::Arc;

use drm_pagemap::uapi::abi::{ConstantDesc, FieldDesc, RequestDesc, StructDesc, Table};
use libtest_mimic::{Completion, Failed, Trial};

use crate::compare::compare;
use crate::probe::{self, Measured};
use crate::{Source, Unavailable, headers, tables};

pub(crate) fn trials(newest: &Arc<Source>) -> Vec<Trial> {
    let numbers = newest.clone();
    let names = newest.clone();
    vec![
        Trial::ignorable_test("every wrong number is reported", move || with(&numbers, wrong_numbers)),
        Trial::ignorable_test("every wrong name is reported", move || with(&names, wrong_names)),
    ]
}

fn with(source: &Source, check: fn(&Measured) -> Result<(), Failed>) -> Result<Completion, Failed> {
    match source.measured() {
        Ok(measured) => check(measured).map(|()| Completion::Completed),
        Err(Unavailable::Skip(why)) => Ok(Completion::ignored_with(format!("skipped because {why}"))),
        Err(Unavailable::Fail(why)) => Err(why.into()),
    }
}

/// A table with one thing wrong, and the facts that must be reported for it.
struct Mutant {
    table: Table,
    expected: Vec<String>,
}

fn wrong_numbers(measured: &Measured) -> Result<(), Failed> {
    let mut count = 0;
    for table in tables() {
        for mutant in mutants(table) {
            count += 1;
            let comparison = compare(&mutant.table, measured);
            let reported: BTreeSet<_> = comparison.differ.into_iter().map(|(label, _)| label).collect();
            let expected: BTreeSet<_> = mutant.expected.into_iter().collect();
            if reported != expected || !comparison.absent.is_empty() {
                return Err(format!("{}: expected {expected:?}, reported {reported:?}", table.module).into());
            }
        }
    }
    println!("abi: {count} wrong numbers, each reported");
    if count == 0 { Err("nothing was changed".into()) } else { Ok(()) }
}

fn mutants(table: &Table) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (index, &desc) in table.structs.iter().enumerate() {
        for (changed, expected) in struct_mutants(desc) {
            mutants.push(Mutant {
                table: Table { structs: replaced(table.structs, index, changed), ..*table },
                expected,
            });
        }
    }
    for (index, &request) in table.requests.iter().enumerate() {
        for bit in [0, 8, 16, 30] {
            let changed = RequestDesc { value: request.value ^ 1 << bit, ..request };
            let requests = replaced(table.requests, index, changed);
            mutants
                .push(Mutant { table: Table { requests, ..*table }, expected: vec![request.c_name.into()] });
        }
    }
    for (index, &constant) in table.constants.iter().enumerate() {
        let changed = ConstantDesc { value: constant.value ^ 1, ..constant };
        let constants = replaced(table.constants, index, changed);
        mutants.push(Mutant { table: Table { constants, ..*table }, expected: vec![constant.c_name.into()] });
    }
    mutants
}

fn struct_mutants(desc: StructDesc) -> Vec<(StructDesc, Vec<String>)> {
    let label = format!("struct {}", desc.c_name);
    let mut mutants = vec![
        (StructDesc { size: desc.size + 8, ..desc }, vec![format!("sizeof({label})")]),
        (StructDesc { align: desc.align * 2, ..desc }, vec![format!("_Alignof({label})")]),
    ];
    for (index, &field) in desc.fields.iter().enumerate() {
        let names: Vec<_> = field.c_names.iter().filter(|name| !name.is_empty()).collect();
        let Some(first) = names.first() else { continue };
        let mut change = |changed: FieldDesc, expected: Vec<String>| {
            mutants.push((StructDesc { fields: replaced(desc.fields, index, changed), ..desc }, expected));
        };
        let offsets = names.iter().map(|name| format!("offsetof({label}, {name})")).collect();
        change(FieldDesc { offset: field.offset + 1, ..field }, offsets);
        change(FieldDesc { size: field.size + 1, ..field }, vec![format!("sizeof({label}, {first})")]);
        let other_sign = match field.rust_type {
            "u64" => "i64",
            "i64" => "u64",
            "u32" => "i32",
            "i32" => "u32",
            "u16" => "i16",
            "u8" => "i8",
            _ => continue,
        };
        change(FieldDesc { rust_type: other_sign, ..field }, vec![format!("is_signed({label}, {first})")]);
    }
    if let Some(tail) = desc.tail {
        let name = tail.c_names[0];
        let shifted = FieldDesc { offset: tail.offset + 8, ..tail };
        let grown = FieldDesc { size: tail.size + 8, ..tail };
        mutants
            .push((StructDesc { tail: Some(shifted), ..desc }, vec![format!("offsetof({label}, {name})")]));
        mutants.push((StructDesc { tail: Some(grown), ..desc }, vec![format!("sizeof({label}, {name}[0])")]));
    }
    mutants
}

/// The slice with one element replaced. Tables are static, so it is leaked; a few hundred small ones.
fn replaced<T: Copy>(slice: &[T], index: usize, element: T) -> &'static [T] {
    let mut slice = slice.to_vec();
    slice[index] = element;
    slice.leak()
}

/// A name that C does not have must be reported as absent, it and what hangs on it, and nothing else.
fn wrong_names(_: &Measured) -> Result<(), Failed> {
    const WRONG: &str = "no_such_name";
    let table = tables()
        .find(|table| table.structs.len() > 1 && !table.requests.is_empty() && !table.constants.is_empty())
        .ok_or("no table has structs, requests and constants")?;
    let desc = table.structs[0];
    let field = FieldDesc { c_names: &[WRONG], ..desc.fields[0] };
    let with_field = StructDesc { fields: replaced(desc.fields, 0, field), ..desc };
    let with_tag = StructDesc { c_name: WRONG, ..desc };
    let request = RequestDesc { c_name: WRONG, ..table.requests[0] };
    let constant = ConstantDesc { c_name: WRONG, ..table.constants[0] };
    let mutants = [
        Table { structs: replaced(table.structs, 0, with_field), ..*table },
        Table { structs: replaced(table.structs, 0, with_tag), ..*table },
        Table { requests: replaced(table.requests, 0, request), ..*table },
        Table { constants: replaced(table.constants, 0, constant), ..*table },
    ];

    let compiler = probe::compiler()?;
    let include = headers::newest()?;
    for mutant in mutants {
        let mutant: &'static Table = Box::leak(Box::new(mutant));
        let measured = probe::measure(&compiler, Some(&include), &[mutant])?;
        let comparison = compare(mutant, &measured);
        let facts = crate::facts::facts(mutant);
        let expected: Vec<_> =
            facts.iter().map(|fact| fact.label.as_str()).filter(|label| label.contains(WRONG)).collect();
        if expected.is_empty() || comparison.absent != expected || !comparison.differ.is_empty() {
            return Err(format!("expected {expected:?} to be absent, got {comparison:?}").into());
        }
    }
    Ok(())
}
