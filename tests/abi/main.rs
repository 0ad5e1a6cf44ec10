//! Every struct, field, request number and constant of `drm_pagemap::uapi`, compared with the C headers of real kernels.
//!
//! The table that defines the Rust items also writes a C program; the system's compiler builds it against
//!
//! * `newest`: the newest kernel headers that Debian packages, fetched into a cache. Everything must be there.
//! * `system`: the headers of this machine, of whatever age.
//! * `chosen`: those in the directories that `DRM_PAGEMAP_HEADERS` names.
//!
//! An item that is newer than the headers is listed, and its module counts as ignored, not as passed. So does everything
//! that could not be compared at all, with the reason.

mod compare;
mod facts;
mod headers;
mod mutation;
mod older;
mod probe;
mod sources;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use drm_pagemap::uapi::TABLES;
use drm_pagemap::uapi::abi::Table;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use compare::compare;
use probe::Measured;

/// Items that the newest headers do not have, and why they are in the crate all the same. Checked in both directions.
const NOT_IN_THE_NEWEST_HEADERS: &[(&str, &str)] = &[];

/// Why there is nothing to compare with.
#[derive(Clone, Debug)]
enum Unavailable {
    /// This machine cannot; not an error.
    Skip(String),
    /// Something is wrong.
    Fail(String),
}

type Measurement =
    LazyLock<Result<Measured, Unavailable>, Box<dyn FnOnce() -> Result<Measured, Unavailable> + Send>>;

/// A source of headers, measured once when the first test needs it.
struct Source {
    name: String,
    /// Whether every item must be there.
    complete: bool,
    measurement: Measurement,
}

impl Source {
    fn new(
        name: impl Into<String>,
        complete: bool,
        include: impl FnOnce() -> Result<Option<PathBuf>, Unavailable> + Send + 'static,
    ) -> Arc<Self> {
        let name = name.into();
        let label = name.clone();
        let measurement: Measurement = LazyLock::new(Box::new(move || {
            let measured = probe::compiler().map_err(Unavailable::Skip).and_then(|compiler| {
                let tables: Vec<_> = tables().collect();
                probe::measure(&compiler, include()?.as_deref(), &tables).map_err(Unavailable::Fail)
            });
            match &measured {
                Ok(measured) => println!("abi: {label}: headers of Linux {}", measured.version),
                Err(Unavailable::Skip(why)) => println!("abi: {label}: SKIPPED because {why}"),
                Err(Unavailable::Fail(_)) => {}
            }
            measured
        }));
        Arc::new(Self { name, complete, measurement })
    }

    fn measured(&self) -> Result<&Measured, Unavailable> {
        self.measurement.as_ref().map_err(Clone::clone)
    }
}

fn tables() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().copied().flatten()
}

fn main() {
    let arguments = Arguments::from_args();
    let newest = Source::new("newest", true, || headers::newest().map(Some).map_err(Unavailable::Skip));
    let system = Source::new("system", false, || {
        let version = PathBuf::from("/usr/include/linux/version.h");
        if version.exists() {
            Ok(None)
        } else {
            Err(Unavailable::Skip("kernel headers are not installed".into()))
        }
    });
    let mut sources = vec![newest.clone(), system];
    for directory in headers::chosen() {
        let name = format!("chosen {}", directory.display());
        let include = move || headers::include_directory(&directory).map(Some).map_err(Unavailable::Fail);
        sources.push(Source::new(name, false, include));
    }

    let mut trials = vec![
        Trial::test("every module is in the table", sources::every_module_is_in_the_table),
        Trial::test("request numbers are distinct", sources::requests_are_distinct),
        Trial::ignorable_test("items newer than the headers are told apart", older::trial),
        Trial::ignorable_test("exceptions are real", {
            let newest = newest.clone();
            move || exceptions_are_real(&newest)
        }),
    ];
    trials.extend(mutation::trials(&newest));
    for source in sources {
        trials.extend(tables().map(|table| {
            let source = source.clone();
            let name = format!("{}::{}", source.name, table.module.trim_start_matches("drm_pagemap::uapi::"));
            Trial::ignorable_test(name, move || compare_table(&source, table))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The verdict on one module.
fn compare_table(source: &Source, table: &Table) -> Result<Completion, Failed> {
    let measured = match source.measured() {
        Ok(measured) => measured,
        Err(Unavailable::Skip(why)) => return Ok(Completion::ignored_with(format!("skipped because {why}"))),
        Err(Unavailable::Fail(why)) => return Err(why.into()),
    };
    let place = format!("{} of Linux {} ({})", table.header, measured.version, source.name);
    if let Some(why) = measured.unusable.get(table.header) {
        let text = format!("{place} cannot be included: {why}");
        return if source.complete { Err(text.into()) } else { Ok(Completion::ignored_with(text)) };
    }

    let comparison = compare(table, measured);
    if !comparison.differ.is_empty() {
        let differences: Vec<_> = comparison.differ.into_iter().map(|(_, text)| text).collect();
        return Err(format!("{place} says otherwise:\n  {}", differences.join("\n  ")).into());
    }
    let absent: Vec<String> =
        comparison.absent_items.into_iter().filter(|item| !(source.complete && is_exception(item))).collect();
    if absent.is_empty() {
        return Ok(Completion::Completed);
    }
    let (count, list) = (absent.len(), absent.join(", "));
    if source.complete {
        return Err(format!("{place} lacks {count} items: {list}").into());
    }
    println!("abi: {place}: {count} items of {} are newer than the header: {list}", table.module);
    Ok(Completion::ignored_with(format!(
        "{} numbers agree, {count} items are newer than {place}",
        comparison.agree
    )))
}

fn is_exception(item: &str) -> bool {
    NOT_IN_THE_NEWEST_HEADERS.iter().any(|(name, _)| *name == item)
}

/// Each exception names an item of the crate that the newest headers indeed lack.
fn exceptions_are_real(newest: &Source) -> Result<Completion, Failed> {
    let measured = match newest.measured() {
        Ok(measured) => measured,
        Err(Unavailable::Skip(why)) => return Ok(Completion::ignored_with(format!("skipped because {why}"))),
        Err(Unavailable::Fail(why)) => return Err(why.into()),
    };
    for (name, why) in NOT_IN_THE_NEWEST_HEADERS {
        let fact = tables().flat_map(facts::facts).find(|fact| fact.item == *name);
        let fact = fact.ok_or_else(|| format!("{name} is an exception ({why}) but not an item"))?;
        if measured.value(&fact).is_some() {
            return Err(format!("{name} is an exception ({why}) but the newest headers have it").into());
        }
    }
    Ok(Completion::Completed)
}
