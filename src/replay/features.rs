//! A choice as the blend ledger reads it, and the sums that it keeps.

use nalgebra::{DMatrix, DVector};

use super::Trial;
use crate::mixture::{Routing, Weights, preference};

/// Bound of the router's log-odds as a feature, which would otherwise be infinite where the router is sure.
const MAX_LOG_ODDS: f64 = 12.0;

/// The sums over one person's labels.
pub(super) struct Sums {
    /// Weight of the labels.
    pub(super) n: f64,
    /// Weight of those that prefer a response: `sum y^2`, as a tie says 0 and another choice 1.
    pub(super) squares: f64,
    /// `sum x x^T`.
    pub(super) outer: DMatrix<f64>,
    /// `sum y x`.
    pub(super) total: DVector<f64>,
}

/// A choice as the sums read it.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) x: DVector<f64>,
    weight: f64,
    /// 0 for a tie, else 1.
    says: f64,
}

impl From<&Trial> for Choice {
    fn from(trial: &Trial) -> Self {
        Self { x: features(trial), weight: trial.weight, says: if trial.is_tie { 0.0 } else { 1.0 } }
    }
}

impl Sums {
    pub(super) fn new<'a>(n_features: usize, labels: impl Iterator<Item = &'a Choice>) -> Self {
        let (outer, total) = (DMatrix::zeros(n_features, n_features), DVector::zeros(n_features));
        let mut sums = Self { n: 0.0, squares: 0.0, outer, total };
        for Choice { x, weight, says } in labels {
            sums.n += weight;
            sums.squares += weight * says;
            sums.outer.ger(*weight, x, x, 1.0);
            sums.total.axpy(weight * says, x, 1.0);
        }
        sums
    }
}

/// Returns the heads' margins of a choice and the log-odds of the router's mixture, shape `[K + 1]`.
pub(super) fn features(trial: &Trial) -> DVector<f64> {
    let nothing = vec![0.0; trial.margins.len()];
    let chance = preference(&Weights::posterior(&trial.log_prior, &nothing, Routing::BAYES), &trial.margins);
    let log_odds = (chance.ln() - (1.0 - chance).ln()).clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS);
    DVector::from_iterator(nothing.len() + 1, trial.margins.iter().copied().chain(std::iter::once(log_odds)))
}
