//! The information that an answer is expected to give about a user's head.

use super::evidence::sigmoid;
use super::weights::Weights;

/// Returns the mutual information of the answer to a pair and the latent head, in nats, in [0, ln 2].
///
/// `I = H(sum_k w_k p_k) - sum_k w_k H(p_k)` with `p_k = sigma(d_k)` and H the entropy of a coin: large where the
/// heads are each certain and disagree (BALD; Houlsby et al., arXiv 1112.5745).
#[must_use]
pub fn mutual_information(weights: &Weights, margins: &[f64]) -> f64 {
    let chances: Vec<f64> = margins.iter().map(|&d| sigmoid(d)).collect();
    let entropies: Vec<f64> = chances.iter().map(|&p| coin_entropy(p)).collect();
    (coin_entropy(weights.mean_of(&chances)) - weights.mean_of(&entropies)).max(0.0)
}

/// Returns `-p ln p - (1 - p) ln(1 - p)`, 0 at both ends.
fn coin_entropy(p: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    part(p) + part(1.0 - p)
}
