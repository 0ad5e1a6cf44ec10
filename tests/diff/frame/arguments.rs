//! The command line of `diff run`.

use std::path::PathBuf;

use lexopt::Arg::{Long, Value};
use lexopt::{Parser, ValueExt};

/// What to compare.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) driver: String,
    pub(crate) first_seed: u64,
    pub(crate) seeds: u64,
    pub(crate) steps: usize,
    /// The fixed corpus too.
    pub(crate) corpus: bool,
    pub(crate) scripts: Vec<PathBuf>,
    /// Tell every answer of the real driver, for a recording.
    pub(crate) record: bool,
    /// How many runs of a script the search for a shorter one may take.
    pub(crate) tries: usize,
}

impl Options {
    pub(crate) fn parse(mut parser: Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self {
            driver: String::new(),
            first_seed: 0,
            seeds: 0,
            steps: 30,
            corpus: false,
            scripts: Vec::new(),
            record: false,
            tries: 300,
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("driver") => options.driver = parser.value()?.string()?,
                Long("seed") => options.first_seed = parser.value()?.parse()?,
                Long("seeds") => options.seeds = parser.value()?.parse()?,
                Long("steps") => options.steps = parser.value()?.parse()?,
                Long("corpus") => options.corpus = true,
                Long("script") => options.scripts.push(parser.value()?.into()),
                Long("record") => options.record = true,
                Value(path) => options.scripts.push(path.into()),
                Long("tries") => options.tries = parser.value()?.parse()?,
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}
