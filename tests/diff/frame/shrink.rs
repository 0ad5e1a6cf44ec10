//! Cutting a script down: first steps, then arguments, as long as it still shows the mismatch.

use super::step::{self, Step};

/// Shrinks `steps`. `shows` runs a script and tells whether it still shows the mismatch; it is asked at most `tries` times.
pub(crate) fn shrink(steps: &[Step], tries: usize, shows: &mut dyn FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut left = tries;
    let mut shows = |candidate: &[Step]| {
        left > 0 && {
            left -= 1;
            shows(candidate)
        }
    };
    let mut best = steps.to_vec();
    loop {
        let before = best.clone();
        fewer_steps(&mut best, &mut shows);
        fewer_arguments(&mut best, &mut shows);
        smaller_numbers(&mut best, &mut shows);
        if best == before {
            return best;
        }
    }
}

/// Takes out runs of steps, long ones first (delta debugging).
fn fewer_steps(best: &mut Vec<Step>, shows: &mut dyn FnMut(&[Step]) -> bool) {
    let mut length = best.len() / 2;
    while length > 0 {
        // From the end: what is last depends on what is first.
        let mut end = best.len();
        while end > 0 {
            let start = end.saturating_sub(length);
            let mut candidate = best.clone();
            candidate.drain(start..end);
            if !candidate.is_empty() && shows(&candidate) {
                *best = candidate;
            }
            end = start;
        }
        length /= 2;
    }
}

fn fewer_arguments(best: &mut [Step], shows: &mut dyn FnMut(&[Step]) -> bool) {
    for at in 0..best.len() {
        for argument in (0..best[at].args.len()).rev() {
            let taken = best[at].args.remove(argument);
            if !shows(best) {
                best[at].args.insert(argument, taken);
            }
        }
    }
}

fn smaller_numbers(best: &mut [Step], shows: &mut dyn FnMut(&[Step]) -> bool) {
    for at in 0..best.len() {
        for argument in 0..best[at].args.len() {
            let Some(mut number) = step::number(&best[at].args[argument].1) else { continue };
            while number > 0 {
                let smaller = [0, 1, number / 2, number - 1]
                    .into_iter()
                    .filter(|&other| other < number)
                    .find(|other| {
                        let old = std::mem::replace(&mut best[at].args[argument].1, other.to_string());
                        let good = shows(best);
                        if !good {
                            best[at].args[argument].1 = old;
                        }
                        good
                    });
                match smaller {
                    Some(smaller) => number = smaller,
                    None => break,
                }
            }
        }
    }
}
