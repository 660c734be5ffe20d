//! Makes heads comparable: mean, standard deviation, inverse temperature, share of the population.

use ndarray::ArrayView1;

use crate::mixture::{log_sigmoid, sigmoid};

/// Range of an inverse temperature; a value outside of it would mean that held-out pairs have no information about
/// the head.
const BETA_RANGE: (f64, f64) = (0.05, 20.0);

/// One head's calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Mean reward over the training responses.
    pub mean: f64,
    /// Standard deviation of the reward over the training responses.
    pub std: f64,
    /// The inverse temperature: the minimizer of the held-out log loss of `sigma(beta d)`, with pairs weighted by the
    /// head's share in them.
    pub beta: f64,
    /// The head's share of the population, with the same weight for every file.
    pub prior: f64,
}

impl Calibration {
    /// Returns the calibration of a head of which only the share is given.
    pub(super) fn uncalibrated(prior: f64) -> Self {
        Self { mean: 0.0, std: 1.0, beta: 1.0, prior }
    }

    /// Computes the calibration from the rewards of training responses, and (margin, weight) of held-out pairs.
    pub(super) fn new(rewards: ArrayView1<'_, f64>, held_out: &[(f64, f64)], prior: f64) -> Self {
        Self {
            mean: rewards.mean().unwrap_or_default(),
            std: rewards.std(0.0).max(1e-6),
            beta: inverse_temperature(held_out),
            prior: prior.max(1e-6),
        }
    }
}

/// Returns the minimizer of `- sum w log sigma(beta d)` over (margin, weight), which is convex, by bisection of its
/// slope; 1 where that is no worse.
pub(super) fn inverse_temperature(margins: &[(f64, f64)]) -> f64 {
    let slope = |beta: f64| margins.iter().map(|(d, w)| -w * d * sigmoid(-beta * d)).sum::<f64>();
    let loss = |beta: f64| -margins.iter().map(|(d, w)| w * log_sigmoid(beta * d)).sum::<f64>();
    let (mut low, mut high) = BETA_RANGE;
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    let found = 0.5 * (low + high);
    if loss(found) < loss(1.0) { found } else { 1.0 }
}
