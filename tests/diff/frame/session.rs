//! Many scripts: which, what came of them, and the report.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::compare::{Comparison, Mismatch, compare, judge};
use super::recording::{self, Recorded};
use super::script::Script;
use super::shrink::shrink;
use super::step::Step;
use super::worker::transcript;
use super::{Model, Options, Side, like};

/// Nothing differs that is not explained.
const AGREES: u8 = 0;
/// Something differs.
const DIFFERS: u8 = 1;
/// Nothing could be compared.
const NOTHING: u8 = 2;
/// Added to these where the machine is spent: the script that began last, and those after it, are to be compared on another.
const SPENT: u8 = 4;

/// How many runs a mismatch gets to show itself again.
const AGAIN: usize = 2;
/// How many scripts of a kind a replay shows.
const SHOWN_OF_A_KIND: usize = 2;

/// A cause of mismatches, as far as it can be told from the outside.
#[derive(Debug)]
struct Found {
    /// The scripts that showed it.
    scripts: Vec<String>,
    /// The shortest script.
    steps: Vec<Step>,
    mismatch: Mismatch,
    /// The real driver's answers to them.
    answers: Vec<String>,
    /// It did not show itself in every run.
    unsteady: bool,
}

struct Session<'a> {
    model: &'a dyn Model,
    options: &'a Options,
    /// Where it is told which script is under way, for the case that the machine does not survive it, and what was answered.
    results: Option<File>,
    found: BTreeMap<String, Found>,
    scripts: usize,
    began: Instant,
    compared: usize,
    explained: Vec<usize>,
    /// What the real driver answered to [`Model::renewable`] at first.
    fresh: Vec<String>,
    spent: bool,
}

/// Compares everything that the options ask for.
pub(crate) fn run(model: &dyn Model, options: &Options) -> Result<ExitCode, String> {
    if let Some(reason) = model.lacking() {
        println!("nothing to compare: {reason}");
        return Ok(NOTHING.into());
    }
    let mut session = Session {
        model,
        options,
        results: std::env::var_os("HW_RESULTS")
            .and_then(|path| File::options().append(true).create(true).open(path).ok()),
        found: BTreeMap::new(),
        scripts: 0,
        began: Instant::now(),
        compared: 0,
        explained: vec![0; model.deviations().len()],
        fresh: Vec::new(),
        spent: false,
    };
    session.fresh = session.renewable()?;
    session.note(&recording::head(&like()));
    let saved = options.scripts.iter().map(|path| Script::read(path));
    let corpus = model.corpus();
    let fixed = if options.corpus { corpus.seeds } else { 0..0 };
    let fixed = fixed.map(|seed| Ok(Script::of_seed(model, seed, corpus.steps)));
    let seeds = options.first_seed..options.first_seed.saturating_add(options.seeds);
    let random = seeds.map(|seed| Ok(Script::of_seed(model, seed, options.steps)));
    for script in saved.chain(fixed).chain(random) {
        session.script(&script?)?;
        if session.spent {
            break;
        }
    }
    Ok(session.report().into())
}

/// Compares the simulation with recordings; needs no device.
pub(crate) fn replay(model: &dyn Model, files: &[PathBuf]) -> Result<ExitCode, String> {
    let (mut scripts, mut steps) = (0, 0);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        for recorded in recording::read(file)? {
            let comparison = against(model, &recorded)?;
            scripts += 1;
            steps += comparison.compared;
            let Some(mismatch) = comparison.mismatch else { continue };
            let times = kinds.entry(mismatch.kind()).or_default();
            *times += 1;
            if *times > SHOWN_OF_A_KIND {
                continue;
            }
            println!("--- {}", recorded.script.name);
            for (step, answer) in recorded.script.steps.iter().zip(&recorded.real.answers).take(mismatch.at) {
                println!("{step}\n#= {answer}");
            }
            println!("{}\n#   real: {}\n#   sim:  {}", mismatch.step, mismatch.real, mismatch.sim);
        }
    }
    for (kind, times) in &kinds {
        println!("{times} times: {kind}");
    }
    println!("{scripts} scripts, {steps} steps compared, {} kinds of mismatch", kinds.len());
    Ok(if scripts == 0 {
        NOTHING
    } else if kinds.is_empty() {
        AGREES
    } else {
        DIFFERS
    }
    .into())
}

/// Runs the simulation on a recorded script and compares.
pub(crate) fn against(model: &dyn Model, recorded: &Recorded) -> Result<Comparison, String> {
    let sim = transcript(model, Side::Sim, &recorded.script.steps, &recorded.kernel)
        .map_err(|error| format!("cannot run a worker: {error}"))?;
    Ok(judge(model.deviations(), &recorded.script.steps, recorded.real.clone(), &sim))
}

impl Session<'_> {
    /// Tells who started this what is going on.
    fn note(&mut self, text: &str) {
        if let Some(file) = &mut self.results {
            let _ = file.write_all(text.as_bytes());
        }
    }

    fn script(&mut self, script: &Script) -> Result<(), String> {
        self.note(&recording::begin(script));
        let comparison = self.compare(&script.steps)?;
        if comparison.mismatch.is_some() && self.is_spent(script)? {
            return Ok(());
        }
        self.scripts += 1;
        self.compared += comparison.compared;
        if let Some(bad) = &comparison.bad {
            return Err(format!("{}: {bad}", script.name));
        }
        for &deviation in &comparison.explained {
            self.explained[deviation] += 1;
        }
        if self.options.record {
            self.note(&recording::print(script, &comparison.real));
        }
        if let Some(mismatch) = comparison.mismatch {
            self.differs(script, mismatch, comparison.real.answers)?;
        }
        if self.scripts % 50 == 0 {
            let took = self.began.elapsed().as_secs();
            eprintln!(
                "diff: {} scripts, {} steps in {took} s, {}",
                self.scripts,
                self.compared,
                self.verdict()
            );
        }
        Ok(())
    }

    fn renewable(&self) -> Result<Vec<String>, String> {
        let steps = self.model.renewable();
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let real = transcript(self.model, Side::Real, &steps, &like());
        real.map(|real| real.answers).map_err(|error| format!("cannot run a worker: {error}"))
    }

    /// Whether the real driver no longer gives a new process what it gave the first.
    fn is_spent(&mut self, script: &Script) -> Result<bool, String> {
        let now = self.renewable()?;
        self.spent = now != self.fresh;
        if self.spent {
            let (now, fresh) = (now.join(", "), self.fresh.join(", "));
            println!(
                "before {}, the driver is spent: a new process gets {now}, the first one got {fresh}",
                script.name
            );
        }
        Ok(self.spent)
    }

    fn compare(&self, steps: &[Step]) -> Result<Comparison, String> {
        compare(self.model, steps).map_err(|error| format!("cannot run a worker: {error}"))
    }

    fn differs(&mut self, script: &Script, mismatch: Mismatch, answers: Vec<String>) -> Result<(), String> {
        let kind = mismatch.kind();
        if let Some(found) = self.found.get_mut(&kind) {
            found.scripts.push(script.name.clone());
            return Ok(());
        }
        println!("differs: {}: {kind}", script.name);
        let mut shown = 0;
        // Without a search for a shorter script it is only told of, and time goes to other scripts.
        let again = if self.options.tries == 0 { 0 } else { AGAIN };
        for _ in 0..again {
            let again = self.compare(&script.steps)?.mismatch;
            shown += usize::from(again.is_some_and(|again| again.at == mismatch.at && again.kind() == kind));
        }
        let mut found = Found {
            scripts: vec![script.name.clone()],
            steps: script.steps[..script.steps.len().min(mismatch.at + 1)].to_vec(),
            mismatch,
            unsteady: shown < again,
            answers: Vec::new(),
        };
        if shown > 0 {
            self.shorten(&mut found)?;
        }
        found.answers = if again == 0 {
            answers
        } else {
            let real = transcript(self.model, Side::Real, &found.steps, &like());
            real.map(|real| real.answers).unwrap_or_default()
        };
        print!("{}", describe(&found));
        self.found.insert(kind, found);
        Ok(())
    }

    fn shorten(&self, found: &mut Found) -> Result<(), String> {
        let kind = found.mismatch.kind();
        let mut last = None;
        let mut broken = None;
        found.steps =
            shrink(&found.steps, self.options.tries, &mut |candidate| match self.compare(candidate) {
                Ok(Comparison { bad: None, mismatch: Some(mismatch), .. }) if mismatch.kind() == kind => {
                    last = Some(mismatch);
                    true
                }
                Ok(_) => false,
                Err(error) => {
                    broken = Some(error);
                    false
                }
            });
        found.mismatch = last.unwrap_or_else(|| found.mismatch.clone());
        broken.map_or(Ok(()), Err)
    }

    fn verdict(&self) -> String {
        match self.found.len() {
            0 => "no mismatch".to_owned(),
            kinds => {
                let scripts: usize = self.found.values().map(|found| found.scripts.len()).sum();
                format!("{kinds} kinds of mismatch in {scripts} scripts")
            }
        }
    }

    fn report(&self) -> u8 {
        println!("\n{} scripts, {} steps compared, {}", self.scripts, self.compared, self.verdict());
        for found in self.found.values() {
            print!("{}", describe(found));
        }
        for (deviation, times) in self.model.deviations().iter().zip(&self.explained) {
            match times {
                0 => println!("known deviation never met: {} ({})", deviation.name, deviation.why),
                times => println!("known deviation met {times} times: {}", deviation.name),
            }
        }
        let verdict = match (self.scripts, self.found.len()) {
            (0, _) => NOTHING,
            (_, 0) => AGREES,
            _ => DIFFERS,
        };
        if self.spent { verdict + SPENT } else { verdict }
    }
}

/// A mismatch with its script and the answers to every step of it.
fn describe(found: &Found) -> String {
    let steady = if found.unsteady { ", not in every run" } else { "" };
    let mut text = format!("--- in {} scripts ({}){steady}\n", found.scripts.len(), few(&found.scripts));
    for (number, step) in found.steps.iter().enumerate() {
        text += &format!("{step}\n");
        if number < found.mismatch.at {
            text += &format!("#   {}\n", found.answers.get(number).map_or("?", String::as_str));
        }
    }
    text + &format!("#   real: {}\n#   sim:  {}\n", found.mismatch.real, found.mismatch.sim)
}

fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += ", ...";
    }
    text
}
