//! Computes accuracy and log loss after n labels, averaged over users.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::interval::{Estimate, estimate};
use super::order::{Order, ask};
use super::reserve::Reserve;
use super::rules::{Reference, Rule};
use super::seen::{Seen, Served};
use super::{Person, Trial};

/// The settings of a replay.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The order in which choices are asked for.
    pub order: Order,
    /// Number of orders drawn for each user.
    pub n_seeds: u64,
    /// The settings from ledgers to weights.
    pub served: Served,
    /// Numbers of labels after which to measure, ascending.
    pub after: Vec<usize>,
    /// The choices that are measured on.
    pub reserve: Reserve,
}

/// One rule's accuracy as labels come in.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// The rule.
    pub rule: &'static str,
    /// The number of the group whose choices are counted; all, if none.
    pub group: Option<usize>,
    /// The points, one per number of labels after which a user has choices left.
    pub points: Vec<Point>,
}

/// The figures after n labels, on each user's remaining choices.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Number of labels given.
    pub n: usize,
    /// Number of users who have choices left.
    pub people: usize,
    /// Number of choices left, on average over the orders.
    pub pairs: f64,
    /// Share of choices that are predicted.
    pub accuracy: Estimate,
    /// Log loss in nats; that of a coin is ln 2.
    pub log_loss: Estimate,
    /// Accuracy minus that of the single head on the same choices, where there is one.
    pub over_single: Option<Estimate>,
    /// Accuracy minus that of the Bayes ledger on the same choices.
    pub over_ledger: Option<Estimate>,
}

/// The rule and the group of one curve.
#[derive(Debug, Clone, Copy)]
struct Line {
    rule: Rule,
    group: Option<usize>,
}

/// Per line and checkpoint: sums over orders of accuracy, log loss, and accuracy over single and over the ledger; how
/// many orders; and the choices that were left in them.
type Sums = Vec<Vec<[f64; 6]>>;

/// Replays all users under every rule that could be learned, and under the ledger for each of `n_groups` groups.
#[must_use]
pub fn replay(people: &[Person], reference: &Reference, n_groups: usize, setting: &Setting) -> Vec<Curve> {
    let has_train_pairs = reference.best_head.is_some();
    let rules = Rule::ALL.into_iter().filter(|rule| reference.knows(*rule));
    let groups = (0..n_groups).map(|group| Line { rule: Rule::Bayes, group: Some(group) });
    let lines: Vec<Line> = rules.map(|rule| Line { rule, group: None }).chain(groups).collect();
    let is_random = setting.order.is_random() || setting.reserve.is_random();
    let n_seeds = if is_random { setting.n_seeds.max(1) } else { 1 };
    let of_person = |(idx, person): (usize, &Person)| {
        let runs = (0..n_seeds).map(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(idx as u64));
            one(person, reference, &lines, setting, &mut rng)
        });
        runs.reduce(added)
    };
    let people: Vec<Sums> = people.par_iter().enumerate().filter_map(of_person).collect();
    let curve = |(l, line): (usize, &Line)| {
        let point = |(c, &n): (usize, &usize)| {
            let left: Vec<&[f64; 6]> =
                people.iter().map(|sums| &sums[l][c]).filter(|sums| sums[4] > 0.0).collect();
            let of = |value: usize| left.iter().map(|sums| sums[value] / sums[4]).collect::<Vec<_>>();
            Some(Point {
                n,
                people: left.len(),
                pairs: of(5).iter().sum(),
                accuracy: estimate(&of(0))?,
                log_loss: estimate(&of(1))?,
                over_single: estimate(&of(2)).filter(|_| has_train_pairs),
                over_ledger: estimate(&of(3)),
            })
        };
        let points = setting.after.iter().enumerate().filter_map(point).collect();
        Curve { rule: line.rule.label(), group: line.group, points }
    };
    lines.iter().enumerate().map(curve).collect()
}

/// Replays one user in one order: means over the remaining choices, by line and checkpoint.
fn one(
    person: &Person,
    reference: &Reference,
    lines: &[Line],
    setting: &Setting,
    rng: &mut ChaCha8Rng,
) -> Sums {
    let most = setting.after.last().copied().unwrap_or_default();
    let (positions, reserved) = setting.reserve.split(person, rng);
    let start = Seen::nothing(reference.log_shares.len(), setting.served);
    let labels = ask(&person.trials, person.labels(&positions), setting.order, most, &start, rng);
    let trial = |&position: &usize| &person.trials[position];
    let reserved: Option<Vec<&Trial>> = reserved.map(|positions| positions.iter().map(trial).collect());
    // A reserve can be measured on after the last label as well.
    let n_last = usize::from(reserved.is_some());
    let mut seen = start;
    let mut found = vec![vec![[0.0; 6]; setting.after.len()]; lines.len()];
    for (c, &n) in setting.after.iter().enumerate().filter(|(_, n)| **n < labels.len() + n_last) {
        while seen.n() < n {
            labels[seen.n()].iter().map(trial).for_each(|trial| seen.learn(trial));
        }
        let left = || labels[n..].iter().flatten().map(trial).collect();
        let measured: Vec<&Trial> = reserved.clone().unwrap_or_else(left);
        for (line, found) in lines.iter().zip(&mut found) {
            let is_counted =
                |trial: &&&Trial| !trial.is_tie && line.group.is_none_or(|group| trial.group == Some(group));
            let rest: Vec<&Trial> = measured.iter().filter(is_counted).copied().collect();
            if rest.is_empty() {
                continue;
            }
            let n_left: f64 = rest.iter().map(|trial| trial.weight).sum();
            let mean = |rule: Rule| {
                let predicted = rule.predict(&seen, &rest, reference);
                let weighed =
                    predicted.iter().zip(&rest).map(|((x, y), trial)| (trial.weight * x, trial.weight * y));
                let (right, loss) = weighed.fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
                (right / n_left, loss / n_left)
            };
            let (accuracy, log_loss) = mean(line.rule);
            let [single, ledger] = [Rule::Single, Rule::Bayes].map(|rule| mean(rule).0);
            found[c] = [accuracy, log_loss, accuracy - single, accuracy - ledger, 1.0, n_left];
        }
    }
    found
}

fn added(mut a: Sums, b: Sums) -> Sums {
    for (x, y) in a.iter_mut().flatten().flatten().zip(b.iter().flatten().flatten()) {
        *x += y;
    }
    a
}
