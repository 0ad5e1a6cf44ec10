//! Tests of the frame itself, with a driver that differs on purpose.

use libtest_mimic::{Failed, Trial};

use super::compare::{Deviation, Then, judge};
use super::script::{self, Script};
use super::shrink::shrink;
use super::step::Step;
use super::worker::{Transcript, transcript};
use super::{Model, Side, like, recording, session};

type Outcome = Result<(), Failed>;

fn steps(text: &str) -> Vec<Step> {
    script::parse(text).expect("the test's own script")
}

fn answers(lines: &[&str]) -> Transcript {
    Transcript { answers: lines.iter().map(ToString::to_string).collect(), bad: None }
}

fn check(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned().into()) }
}

fn text_and_steps() -> Outcome {
    let read = steps("# a comment\n\n  bind op=map at=0x10 pages=4  \nquery\n");
    check(read.len() == 2 && read[0].verb == "bind", "two steps")?;
    check(read[0].number("at", 0) == Ok(16) && read[0].number("gone", 7) == Ok(7), "numbers and defaults")?;
    check(read[0].number("op", 0).is_err() && read[1].required("op").is_err(), "what is wrong is an error")?;
    check(steps(&script::print(&read)) == read, "text comes back")?;
    check("bind at".parse::<Step>().is_err(), "an argument has a value")
}

fn shrinker() -> Outcome {
    let script = steps("a x=1\nb\nc y=70 z=3\nd\na x=9\ne\nc y=5\nf w=1");
    // Shows when a step c with y above 20 comes after a step a.
    let mut runs = 0;
    let short = shrink(&script, 500, &mut |candidate| {
        runs += 1;
        let a = candidate.iter().position(|step| step.verb == "a");
        let c = candidate.iter().position(|step| step.verb == "c" && step.number("y", 0).unwrap_or(0) > 20);
        matches!((a, c), (Some(a), Some(c)) if a < c)
    });
    check(short == steps("a\nc y=21"), &format!("{}in {runs} runs", script::print(&short)))?;
    let unchanged = shrink(&script, 0, &mut |_| true);
    check(unchanged == script, "without tries nothing is done")
}

fn judgement() -> Outcome {
    const KNOWN: &[Deviation] = &[
        Deviation {
            name: "colour",
            why: "a test",
            is: |mismatch, _| mismatch.step.verb == "paint" && mismatch.sim == "red",
            then: Then::GoOn,
        },
        Deviation {
            name: "end",
            why: "a test",
            is: |mismatch, _| mismatch.step.verb == "stop",
            then: Then::Stop,
        },
    ];
    let script = steps("paint\nask\nstop\nask");
    let whole = |real: &[&str], sim: &[&str]| judge(KNOWN, &script, answers(real), &answers(sim));
    let same = whole(&["blue", "1", "2", "3"], &["blue", "1", "2", "3"]);
    check(same.mismatch.is_none() && same.compared == 4 && same.explained.is_empty(), "equal")?;
    let known = whole(&["blue", "1", "2", "3"], &["red", "1", "2", "3"]);
    check(known.mismatch.is_none() && known.explained == [0], "explained, and gone on")?;
    let stopped = whole(&["blue", "1", "2", "3"], &["blue", "1", "x", "y"]);
    check(
        stopped.mismatch.is_none() && stopped.explained == [1] && stopped.compared == 3,
        "explained, and over",
    )?;
    let other = whole(&["blue", "1", "2", "3"], &["green", "1", "2", "3"]);
    check(
        other.mismatch.is_some_and(|mismatch| mismatch.at == 0),
        "a deviation explains only what it is about",
    )?;
    let dead = whole(&["blue", "1", "2", "3"], &["blue", "dies of signal 11"]);
    check(dead.mismatch.is_some_and(|mismatch| mismatch.at == 1), "death is an answer")?;
    let silent = whole(&["blue", "1", "2", "3"], &["blue", "1", "2"]);
    check(silent.mismatch.is_some_and(|mismatch| mismatch.at == 3), "so is silence")
}

/// The seeds of a model's corpus make scripts that come back from text, and that its simulated device answers twice alike.
fn simulation_repeats(model: &dyn Model) -> Outcome {
    const SEEDS: u64 = 6;
    for seed in 0..SEEDS {
        let made = Script::of_seed(model, seed, 30);
        check(made == Script::of_seed(model, seed, 30), "a seed means one script")?;
        check(steps(&script::print(&made.steps)) == made.steps, "scripts are text")?;
        let run = || {
            transcript(model, Side::Sim, &made.steps, &like())
                .map_err(|error| Failed::from(error.to_string()))
        };
        let (first, second) = (run()?, run()?);
        check(first.bad.is_none(), &format!("seed {seed}: {:?}", first.bad))?;
        check(first.answers.len() == made.steps.len(), &format!("seed {seed}: {:?}", first.answers.last()))?;
        for (at, (one, other)) in first.answers.iter().zip(&second.answers).enumerate() {
            let step = &made.steps[at];
            check(one == other, &format!("seed {seed}, step {at} ({step}): {one} / {other}"))?;
        }
    }
    Ok(())
}

/// A worker's death and its last words are seen, and a step that is none is told apart from an answer.
fn worker_ends(model: &dyn Model) -> Outcome {
    let told =
        transcript(model, Side::Sim, &steps("no-such-verb"), &like()).map_err(|error| error.to_string())?;
    check(told.bad.is_some() && told.answers.is_empty(), &format!("{told:?}"))
}

fn recordings_are_text() -> Outcome {
    let script = Script { name: "seed 3".to_owned(), steps: steps("a x=1\nb") };
    let real = answers(&["ok", "EINVAL"]);
    let text = recording::head("7.3.4") + &recording::begin(&script) + &recording::print(&script, &real);
    let read = recording::parse(&format!("{text}# cut off\n"))?;
    check(read.len() == 1 && read[0].kernel == "7.3.4", "one, with its kernel")?;
    check(read[0].script == script && read[0].real == real, &format!("{read:?}"))?;
    check(recording::parse("a x=1").is_err(), "a step belongs to a script")
}

/// The simulation answers as the real driver did when the kept recordings were made.
fn recordings_hold(model: &dyn Model) -> Outcome {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diff/corpus").join(model.name());
    let mut files: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "recording"));
    files.sort();
    for file in files {
        for recorded in recording::read(&file)? {
            let comparison = session::against(model, &recorded)?;
            if let Some(mismatch) = comparison.mismatch {
                return Err(format!("{}: {}: {mismatch:?}", file.display(), recorded.script.name).into());
            }
        }
    }
    Ok(())
}

/// All of them.
pub(crate) fn trials(models: &'static [&'static dyn Model]) -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("frame/text_and_steps", text_and_steps),
        Trial::test("frame/shrinker", shrinker),
        Trial::test("frame/judgement", judgement),
        Trial::test("frame/recordings_are_text", recordings_are_text),
    ];
    for &model in models {
        let name = model.name();
        trials.push(Trial::test(format!("{name}/simulation_repeats"), move || simulation_repeats(model)));
        trials.push(Trial::test(format!("{name}/worker_ends"), move || worker_ends(model)));
        trials.push(Trial::test(format!("{name}/recordings_hold"), move || recordings_hold(model)));
    }
    trials
}
