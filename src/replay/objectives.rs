//! Compares objectives for one policy for all users, by how often each prefers what users chose.

use rayon::prelude::*;
use serde::Serialize;

use super::seen::{Seen, Served};
use super::{Person, Trial};
use crate::mixture::{Weights, maxmin, population, quantile, win};

/// Share that a head needs to count in `maxmin`.
const MIN_SHARE: f64 = 0.1;

/// The quantile that is shown.
const Q: f64 = 0.25;

/// Number of objectives over users, which are the last ones.
const N_OVER_USERS: usize = 2;

/// Upper bound of the users whose ledgers stand for the population.
const SAMPLE: usize = 64;

/// Accuracy of one objective, without the ledger of the user who chose.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectiveRow {
    /// The objective with its parameters.
    pub objective: String,
    /// Accuracy by group, none for a group without choices; over all choices, where none has a group.
    pub by_group: Vec<Option<f64>>,
    /// The mean of those that are there.
    pub mean: f64,
    /// The least of them.
    pub worst: f64,
}

/// Measures every objective on all choices of `people`. `population` and the quantile over users read the full
/// ledgers of up to 64 of `others`, which should contain none of `people`, as a population without the user who chose
/// leans to the other side. Without `others`, these two are left out.
#[must_use]
pub fn compare_objectives(
    people: &[Person],
    others: &[Person],
    n_groups: usize,
    served: Served,
) -> Vec<ObjectiveRow> {
    let mut trials = people.iter().flat_map(|person| &person.trials).peekable();
    let n_heads = trials.peek().map_or(0, |trial| trial.margins.len());
    let has_groups = trials.any(|trial| trial.group.is_some());
    let unknown_user = Seen::nothing(n_heads, served);
    let step = others.len().div_ceil(SAMPLE).max(1);
    let mut known: Vec<Seen<'_>> = Vec::new();
    for person in others.iter().step_by(step) {
        let mut seen = unknown_user.clone();
        person.trials.iter().for_each(|trial| seen.learn(trial));
        known.push(seen);
    }
    let names = [
        "mixture".to_owned(),
        format!("maxmin, min_share {MIN_SHARE}"),
        format!("quantile {Q} over heads"),
        format!("quantile {Q} over users"),
        "population".to_owned(),
    ];
    let score_choice = |trial: &Trial| -> [f64; 5] {
        let weights = unknown_user.posterior(trial);
        let others: Vec<Weights> = known.iter().map(|seen| seen.posterior(trial)).collect();
        let mean = population(&others).unwrap_or_else(|| weights.clone());
        let even = vec![1.0; others.len()];
        let reward = |z: &[f64]| {
            let of_users: Vec<f64> = others.iter().map(|weights| weights.mean_of(z)).collect();
            let mixture = weights.mean_of(z);
            let over_users = if of_users.is_empty() { mixture } else { quantile(&of_users, &even, Q) };
            let shares = weights.as_slice();
            [mixture, maxmin(z, shares, MIN_SHARE), quantile(z, shares, Q), over_users, mean.mean_of(z)]
        };
        let (chosen, rejected) = (reward(&trial.chosen), reward(&trial.rejected));
        std::array::from_fn(|objective| win(chosen[objective] - rejected[objective]))
    };
    let n_columns = if has_groups { n_groups } else { 1 };
    let tallies: Vec<Vec<([f64; 5], f64)>> = people
        .par_iter()
        .map(|person| {
            let mut tally = vec![([0.0; 5], 0.0); n_columns];
            for trial in
                person.trials.iter().filter(|trial| !trial.is_tie && (!has_groups || trial.group.is_some()))
            {
                let cell = &mut tally[trial.group.unwrap_or_default()];
                cell.0.iter_mut().zip(score_choice(trial)).for_each(|(sum, win)| *sum += trial.weight * win);
                cell.1 += trial.weight;
            }
            tally
        })
        .collect();
    let row = |(objective, name): (usize, &String)| {
        let column = |c: usize| {
            let (wins, n) = tallies.iter().fold((0.0, 0.0), |a, t| (a.0 + t[c].0[objective], a.1 + t[c].1));
            (n > 0.0).then(|| wins / n)
        };
        let by_group: Vec<Option<f64>> = (0..n_columns).map(column).collect();
        let there = || by_group.iter().flatten().copied();
        ObjectiveRow {
            objective: name.clone(),
            mean: there().sum::<f64>() / there().count().max(1) as f64,
            worst: there().reduce(f64::min).unwrap_or_default(),
            by_group,
        }
    };
    let n_rows = if others.is_empty() { names.len() - N_OVER_USERS } else { names.len() };
    names.iter().enumerate().take(n_rows).map(row).collect()
}
