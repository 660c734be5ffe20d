//! The evidence of one feedback for every head, and its fixed-point form.
//!
//! The law: an increment depends on the event and the heads alone, never on current weights. Therefore a ledger is a
//! sum.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Fixed-point units per nat. A ledger counts in 2^-32 nat, so that "equal" means equal bytes.
pub(super) const UNITS_PER_NAT: f64 = 4_294_967_296.0;

/// Bound on a head's log-likelihood of one event, which is at least minus this, so that sums stay far from overflow:
/// for 2^24 events without forgetting, for 2^16 in one epoch with it.
const MAX_NATS_PER_EVENT: f64 = 64.0;

/// The numbers that one feedback adds to a ledger: K in fixed point, in units of 2^-32 nat, centered over the heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Increment(Box<[i64]>);

impl Increment {
    /// Centers per-head log-likelihoods (nats; less than -64 counts as -64) and rounds them to fixed point.
    #[must_use]
    pub fn new(log_likelihoods: &[f64]) -> Self {
        let bounded: Vec<f64> = log_likelihoods.iter().map(|l| l.max(-MAX_NATS_PER_EVENT)).collect();
        let mean = bounded.iter().sum::<f64>() / bounded.len() as f64;
        Self(bounded.iter().map(|nats| ((nats - mean) * UNITS_PER_NAT).round() as i64).collect())
    }

    /// Returns the K numbers, in units of 2^-32 nat.
    #[must_use]
    pub fn units(&self) -> &[i64] {
        &self.0
    }
}

/// Returns the evidence of a preference pair: `log sigma(d_k)` with `d_k = beta_k (r_k(chosen) - r_k(rejected))`.
#[must_use]
pub fn pair(margins: &[f64]) -> Increment {
    Increment::new(&margins.iter().map(|&d| log_sigmoid(d)).collect::<Vec<_>>())
}

/// Returns the evidence of a tie: `log(2 sqrt(sigma(d_k) sigma(-d_k)))`, largest for the heads that are indifferent.
#[must_use]
pub fn tie(margins: &[f64]) -> Increment {
    Increment::new(&margins.iter().map(|&d| log_tie(d)).collect::<Vec<_>>())
}

/// Returns the evidence of a thumb: `log sigma(+-s_k)` with `s_k = beta_k (r_k - mean_k)`. A thumb up favors the
/// heads that score the response above their mean.
#[must_use]
pub fn thumb(scores: &[f64], up: bool) -> Increment {
    let sign = if up { 1.0 } else { -1.0 };
    Increment::new(&scores.iter().map(|&s| log_sigmoid(sign * s)).collect::<Vec<_>>())
}

/// Returns the evidence of n >= 2 responses, best first: the mean over the n (n - 1) / 2 pairs that the order
/// implies, so that one ranking has the weight of one pair. `log_odds[i][k]` is `beta_k r_k(y_i)` up to a constant
/// of the head; n = 2 is [`pair`].
#[must_use]
pub fn ranking(log_odds: &[Vec<f64>]) -> Increment {
    mean_of_pairs(log_odds, |_, _| Ordering::Greater)
}

/// Returns the evidence of n >= 2 rated responses, higher is better: the mean over their pairs, where equal ratings
/// are ties. The order of the responses changes no number by more than a unit.
#[must_use]
pub fn rating(log_odds: &[Vec<f64>], ratings: &[f64]) -> Increment {
    mean_of_pairs(log_odds, |i, j| ratings[i].partial_cmp(&ratings[j]).unwrap_or(Ordering::Equal))
}

/// Returns the mean over all i < j; `order(i, j)` is `Greater` if `i` is better.
///
/// Every pair is bounded as it would be alone, so that the mean is that of the pairs' increments. The terms of each
/// i are summed first: bounded and of one sign, their sum is exact to far less than a unit.
fn mean_of_pairs(log_odds: &[Vec<f64>], order: impl Fn(usize, usize) -> Ordering) -> Increment {
    let n_heads = log_odds.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; n_heads];
    let mut of_one = vec![0.0; n_heads];
    for (i, a) in log_odds.iter().enumerate() {
        of_one.fill(0.0);
        for (j, b) in log_odds.iter().enumerate().skip(i + 1) {
            let order = order(i, j);
            for (sum, (a, b)) in of_one.iter_mut().zip(a.iter().zip(b)) {
                let nats = match order {
                    Ordering::Greater => log_sigmoid(a - b),
                    Ordering::Less => log_sigmoid(b - a),
                    Ordering::Equal => log_tie(a - b),
                };
                *sum += nats.max(-MAX_NATS_PER_EVENT);
            }
        }
        for (sum, of_one) in sums.iter_mut().zip(&of_one) {
            *sum += of_one;
        }
    }
    let n_pairs = (log_odds.len() * log_odds.len().saturating_sub(1) / 2).max(1) as f64;
    for sum in &mut sums {
        *sum /= n_pairs;
    }
    Increment::new(&sums)
}

/// Returns `log(2 sqrt(sigma(d) sigma(-d)))`, without overflow: 0 where `d` is 0.
fn log_tie(d: f64) -> f64 {
    std::f64::consts::LN_2 + log_either(d)
}

/// Returns `log(sqrt(sigma(d) sigma(-d)))`, without overflow: a tie as two opposite halves of a choice.
#[must_use]
pub fn log_either(d: f64) -> f64 {
    0.5 * (log_sigmoid(d) + log_sigmoid(-d))
}

/// Returns `ln(1 / (1 + exp(-x)))`, without overflow.
#[must_use]
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// Returns `1 / (1 + exp(-x))`, without overflow.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}
