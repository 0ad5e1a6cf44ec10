//! Comparing what the two sides answered.

use super::step::Step;
use super::worker::{Transcript, Worker};
use super::{Model, Side, like};

/// Two answers to one step that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Which step; its number is that of steps when one side died after the last.
    pub(crate) at: usize,
    pub(crate) step: Step,
    pub(crate) real: String,
    pub(crate) sim: String,
}

impl Mismatch {
    /// What two mismatches have in common that are probably of one cause: the operation, and the answers without numbers.
    pub(crate) fn kind(&self) -> String {
        let bare = |text: &str| {
            let mut bare: String = text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
            while bare.contains("##") {
                bare = bare.replace("##", "#");
            }
            bare.chars().take(160).collect::<String>()
        };
        let how = self.step.text("op").or_else(|| self.step.text("type")).unwrap_or_default();
        format!("{} {how}: {} / {}", self.step.verb, bare(&self.real), bare(&self.sim))
    }
}

/// What to do after a mismatch that is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The state is the same on both sides: go on comparing.
    GoOn,
    /// The two sides are not in the same state any more: what follows says nothing.
    Stop,
}

/// A difference that is known and justified.
pub(crate) struct Deviation {
    /// A short name.
    pub(crate) name: &'static str,
    /// Why the simulation is different and stays so.
    pub(crate) why: &'static str,
    /// Whether a mismatch is of this kind; the steps are all steps up to it, the mismatching one last. As narrow as can be.
    pub(crate) is: fn(&Mismatch, &[Step]) -> bool,
    pub(crate) then: Then,
}

/// What comparing a script gave.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// The first difference that no deviation explains.
    pub(crate) mismatch: Option<Mismatch>,
    /// The deviations that were met, by number.
    pub(crate) explained: Vec<usize>,
    /// How many steps were compared.
    pub(crate) compared: usize,
    /// The script has a step that cannot be understood.
    pub(crate) bad: Option<String>,
    pub(crate) real: Transcript,
}

/// Runs a script on both sides at once and compares.
pub(crate) fn compare(model: &dyn Model, steps: &[Step]) -> std::io::Result<Comparison> {
    let real = Worker::start(model, Side::Real, steps, &like())?;
    let sim = Worker::start(model, Side::Sim, steps, &like())?;
    let (real, sim) = (real.finish()?, sim.finish()?);
    Ok(judge(model.deviations(), steps, real, &sim))
}

/// Compares two transcripts.
pub(crate) fn judge(
    deviations: &[Deviation],
    steps: &[Step],
    real: Transcript,
    sim: &Transcript,
) -> Comparison {
    let mut comparison = Comparison {
        mismatch: None,
        explained: Vec::new(),
        compared: 0,
        bad: real.bad.clone().or_else(|| sim.bad.clone()),
        real,
    };
    let real = &comparison.real;
    if comparison.bad.is_some() {
        return comparison;
    }
    let answer =
        |side: &Transcript, at: usize| side.answers.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
    for at in 0..real.answers.len().max(sim.answers.len()).max(steps.len()) {
        let (real, sim) = (answer(real, at), answer(sim, at));
        comparison.compared = at + 1;
        if real == sim {
            continue;
        }
        let step = steps.get(at).cloned().unwrap_or_else(|| Step::new("(end)"));
        let mismatch = Mismatch { at, step, real, sim };
        let so_far = &steps[..steps.len().min(at + 1)];
        match deviations.iter().position(|deviation| (deviation.is)(&mismatch, so_far)) {
            Some(number) => {
                comparison.explained.push(number);
                if deviations[number].then == Then::Stop {
                    break;
                }
            }
            None => {
                comparison.mismatch = Some(mismatch);
                break;
            }
        }
    }
    comparison
}
