//! The value of a pick: the rating that a person gave to the response which a rule ranks first.
//!
//! Accuracy on pairs is not what a policy gets (arXiv 2512.23067): it gets the best response of many. A value is the
//! rating of the pick minus the person's mean rating, over the responses that no label is about.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::Person;
use super::curve::Setting;
use super::interval::{Estimate, estimate};
use super::order::ask;
use super::rules::Reference;
use super::seen::Seen;

/// A person with choices to learn from, and ratings to pick by.
#[derive(Debug, Clone, PartialEq)]
pub struct Rater {
    /// The person.
    pub person: Person,
    /// The rated responses, at least two.
    pub rated: Vec<RatedResponse>,
    /// The router's log-weights for their prompt, shape `[K]`.
    pub log_prior: Vec<f64>,
}

/// A response with a rating, as rules score it.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedResponse {
    /// Its number among [`super::Trial::responses`].
    pub response: usize,
    /// The person's rating.
    pub rating: f64,
    /// `z_k` of the response, shape `[K]`.
    pub z: Vec<f64>,
    /// The single head's log-odds.
    pub single: f64,
    /// The mean rating of other people; none if nobody else rated it.
    pub pooled: Option<f64>,
}

/// A way to pick a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picker {
    /// Any response alike: the mean of their ratings.
    Random,
    Single,
    /// The response that other people rate highest.
    Pooled,
    /// The highest reward under the ledger's weights, as /rank orders.
    Ledger,
    /// The response that the person rates highest: the most that any rule can reach.
    Oracle,
}

impl Picker {
    const ALL: [Self; 5] = [Self::Random, Self::Single, Self::Pooled, Self::Ledger, Self::Oracle];

    const fn label(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Single => "single head",
            Self::Pooled => "mean of other people",
            Self::Ledger => "Bayes ledger",
            Self::Oracle => "oracle",
        }
    }
}

/// One rule's values as labels come in.
#[derive(Debug, Clone, Serialize)]
pub struct ValueRow {
    /// The rule.
    pub rule: &'static str,
    /// The points, one per number of labels.
    pub points: Vec<ValuePoint>,
}

/// The value after n labels.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ValuePoint {
    /// Number of labels given.
    pub n: usize,
    /// Number of people with responses left to pick from.
    pub people: usize,
    /// The rating of the pick minus the person's mean rating.
    pub value: Estimate,
    /// The value minus that of the single head from the same responses.
    pub over_single: Estimate,
    /// The value minus that of the response that other people rate highest.
    pub over_pooled: Estimate,
}

/// Sums over orders by checkpoint and rule, and the number of orders.
type Sums = Vec<([f64; Picker::ALL.len()], f64)>;

/// Returns the value of every rule's picks after the numbers of labels of `setting`, whose reserve is not used.
#[must_use]
pub fn values(raters: &[Rater], reference: &Reference, setting: &Setting) -> Vec<ValueRow> {
    let n_seeds = if setting.order.is_random() { setting.n_seeds.max(1) } else { 1 };
    let of_rater = |(idx, rater): (usize, &Rater)| {
        let mut sums: Sums = vec![([0.0; Picker::ALL.len()], 0.0); setting.after.len()];
        for seed in 0..n_seeds {
            let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(idx as u64));
            one(rater, reference, setting, &mut rng, &mut sums);
        }
        sums
    };
    let people: Vec<Sums> = raters.par_iter().enumerate().map(of_rater).collect();
    let row = |(p, picker): (usize, &Picker)| {
        let point = |(c, &n): (usize, &usize)| {
            let of = |other: Option<Picker>| {
                let minus = |sums: &[f64; 5]| other.map_or(0.0, |other| sums[other as usize]);
                let cells = people.iter().map(|sums| sums[c]).filter(|(_, n_orders)| *n_orders > 0.0);
                cells.map(|(sums, n_orders)| (sums[p] - minus(&sums)) / n_orders).collect::<Vec<f64>>()
            };
            Some(ValuePoint {
                n,
                people: of(None).len(),
                value: estimate(&of(None))?,
                over_single: estimate(&of(Some(Picker::Single)))?,
                over_pooled: estimate(&of(Some(Picker::Pooled)))?,
            })
        };
        let points = setting.after.iter().enumerate().filter_map(point).collect();
        ValueRow { rule: picker.label(), points }
    };
    Picker::ALL.iter().enumerate().map(row).collect()
}

/// Adds one person's values in one order.
fn one(rater: &Rater, reference: &Reference, setting: &Setting, rng: &mut ChaCha8Rng, sums: &mut Sums) {
    let most = setting.after.last().copied().unwrap_or_default();
    let trials = &rater.person.trials;
    let all: Vec<usize> = (0..trials.len()).collect();
    let mut seen = Seen::nothing(reference.log_shares.len(), setting.served);
    let labels = ask(trials, rater.person.labels(&all), setting.order, most, &seen, rng);
    let mean = rater.rated.iter().map(|rated| rated.rating).sum::<f64>() / rater.rated.len() as f64;
    let mut labeled: BTreeSet<usize> = BTreeSet::new();
    for (&n, (sums, n_orders)) in setting.after.iter().zip(sums).filter(|(n, _)| **n <= labels.len()) {
        while seen.n() < n {
            for trial in labels[seen.n()].iter().map(|&position| &trials[position]) {
                seen.learn(trial);
                labeled.extend(&trial.responses);
            }
        }
        let left: Vec<&RatedResponse> =
            rater.rated.iter().filter(|rated| !labeled.contains(&rated.response)).collect();
        if left.is_empty() {
            continue;
        }
        *n_orders += 1.0;
        let weights = seen.weights(&rater.log_prior, None);
        for (sum, picker) in sums.iter_mut().zip(Picker::ALL) {
            let first = |score: &dyn Fn(&RatedResponse) -> f64| {
                let best = left.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
                best.map_or(mean, |rated| rated.rating)
            };
            *sum += -mean
                + match picker {
                    Picker::Random => left.iter().map(|rated| rated.rating).sum::<f64>() / left.len() as f64,
                    Picker::Single => first(&|rated| rated.single),
                    Picker::Pooled => first(&|rated| rated.pooled.unwrap_or(f64::NEG_INFINITY)),
                    Picker::Ledger => first(&|rated| weights.mean_of(&rated.z)),
                    Picker::Oracle => first(&|rated| rated.rating),
                };
        }
    }
}
