//! Replays users' choices once, in the order in which they were made.

use super::rules::{Reference, Rule};
use super::seen::{Seen, Served};
use super::{Person, Trial};
use crate::mixture::Weights;

/// Bins of confidence, from one half to 1.
const BINS: usize = 10;

/// A bin of predictions: mean confidence, share that came true, count.
pub type Bin = (f64, f64, usize);

/// Returns the weights of all a user's labels, whatever their context, under the population's shares before the first
/// label and after each, shape `[n + 1][K]`.
#[must_use]
pub fn weights_over_time(person: &Person, reference: &Reference, served: Served) -> Vec<Vec<f64>> {
    let n_heads = reference.log_shares.len();
    let mut seen = Seen::nothing(n_heads, served);
    let weights = |seen: &Seen<'_>| {
        Weights::posterior(&reference.log_shares, seen.total(), served.routing).as_slice().to_vec()
    };
    let mut walk = vec![weights(&seen)];
    for trial in &person.trials {
        seen.learn(trial);
        walk.push(weights(&seen));
    }
    walk
}

/// Returns a rule's confidence in every next choice and its accuracy, in bins of confidence `max(p, 1 - p)`.
#[must_use]
pub fn calibration(people: &[Person], rule: Rule, reference: &Reference, served: Served) -> Vec<Bin> {
    let mut sums = vec![(0.0, 0.0, 0); BINS];
    for person in people {
        let mut seen = Seen::nothing(reference.log_shares.len(), served);
        for trial in person.trials.iter() {
            if trial.is_tie {
                seen.learn(trial);
                continue;
            }
            let (right, confidence) = confidence(rule, &seen, trial, reference);
            let bin = &mut sums[(((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1)];
            *bin = (bin.0 + confidence, bin.1 + right, bin.2 + 1);
            seen.learn(trial);
        }
    }
    let mean = |(confidence, right, n): (f64, f64, usize)| (confidence / n as f64, right / n as f64, n);
    sums.into_iter().filter(|bin| bin.2 > 0).map(mean).collect()
}

fn confidence(rule: Rule, seen: &Seen<'_>, trial: &Trial, reference: &Reference) -> (f64, f64) {
    let predicted = rule.predict(seen, &[trial], reference);
    let (right, log_loss) = predicted.first().copied().unwrap_or((0.5, std::f64::consts::LN_2));
    let chance = (-log_loss).exp();
    (right, chance.max(1.0 - chance))
}
