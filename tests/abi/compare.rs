//! Compares the crate's numbers with the kernel's.

use std::collections::BTreeSet;

use drm_pagemap::uapi::abi::{Table, request_size};

use crate::facts::{Fact, Role, facts};
use crate::probe::Measured;

/// Outcome for one table.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// How many facts agree.
    pub(crate) agree: usize,
    /// Facts that differ: label, and what each side says.
    pub(crate) differ: Vec<(String, String)>,
    /// Labels of facts the header does not have: newer than it, or misspelt here.
    pub(crate) absent: Vec<String>,
    /// The items they are about, each once; of a struct that is wholly absent, only the struct.
    pub(crate) absent_items: Vec<String>,
}

pub(crate) fn compare(table: &Table, measured: &Measured) -> Comparison {
    let facts = facts(table);
    // Structs of which the header knows some fields and lacks others: there it was shorter, or a field was padding.
    let has = |fact: &&Fact| measured.value(fact).is_some();
    let known: BTreeSet<_> = facts.iter().filter(has).filter_map(field_of).collect();
    let lacking: BTreeSet<_> = facts.iter().filter(|fact| !has(fact)).filter_map(field_of).collect();
    let grown: BTreeSet<_> = known.intersection(&lacking).copied().collect();

    let mut comparison = Comparison::default();
    for fact in &facts {
        let Some(actual) = measured.value(fact) else {
            comparison.absent.push(fact.label.clone());
            let covered = |item: &String| {
                fact.item
                    .strip_prefix(item.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if !comparison.absent_items.iter().any(covered) {
                comparison.absent_items.push(fact.item.clone());
            }
            continue;
        };
        if agrees(fact, actual) {
            comparison.agree += 1;
        } else if is_merely_older(fact, actual, &grown) {
            comparison.absent.push(fact.label.clone());
            comparison.absent_items.push(format!("{} of today (there {actual:#x})", fact.label));
        } else {
            let text = format!("{} is {:#x} here, {actual:#x} in C", fact.label, fact.expected);
            comparison.differ.push((fact.label.clone(), text));
        }
    }
    comparison
}

fn field_of(fact: &Fact) -> Option<&'static str> {
    match fact.role {
        Role::Field { rust_name } => Some(rust_name),
        _ => None,
    }
}

/// C constants are often `int`: what counts are the bits of the Rust type, and that nothing is lost beyond them.
fn agrees(fact: &Fact, actual: u64) -> bool {
    if fact.bits == 64 {
        return actual == fact.expected;
    }
    let high = actual >> fact.bits;
    let nothing_lost = high == 0 || high == u64::MAX >> fact.bits;
    nothing_lost && actual & ((1 << fact.bits) - 1) == fact.expected
}

fn is_merely_older(fact: &Fact, actual: u64, grown: &BTreeSet<&str>) -> bool {
    match fact.role {
        Role::Whole { rust_name } => grown.contains(rust_name) && actual < fact.expected,
        Role::Request { argument } => {
            let [Ok(ours), Ok(theirs)] = [fact.expected, actual].map(u32::try_from) else { return false };
            let without_size = |request: u32| request & !(0x3fff << 16);
            grown.contains(argument)
                && without_size(ours) == without_size(theirs)
                && request_size(theirs) < request_size(ours)
        }
        Role::Field { .. } | Role::Plain => false,
    }
}
