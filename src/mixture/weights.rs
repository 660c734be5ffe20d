//! Mixture weights: a point on the simplex over K heads, computed on read and never stored.

/// Upper bound of a learning rate.
pub const MAX_LEARNING_RATE: f64 = 1e3;

/// The parameters of the rule that turns evidence into weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// Hedge's learning rate, > 0. With 1 and log loss the rule is Bayes': regret <= ln K, at any horizon.
    pub eta: f64,
    /// The share of the weight that is spread evenly over all heads, in [0, 1), so that no weight decays to 0.
    pub floor: f64,
}

impl Routing {
    /// Bayes' rule unchanged: eta 1, no floor.
    pub const BAYES: Self = Self { eta: 1.0, floor: 0.0 };
}

/// Mixture weights `w` over K heads: each in [0, 1], summing to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights(Box<[f64]>);

impl Weights {
    /// Returns `w = (1 - floor) softmax(log_prior + eta * evidence) + floor / K`.
    ///
    /// Both slices have length K, in nats; neither need be normalized. Evidence of any finite size gives a point on
    /// the simplex.
    #[must_use]
    pub fn posterior(log_prior: &[f64], evidence: &[f64], routing: Routing) -> Self {
        debug_assert_eq!(log_prior.len(), evidence.len(), "one prior and one evidence per head");
        let logits: Vec<f64> =
            log_prior.iter().zip(evidence).map(|(prior, nats)| prior + routing.eta * nats).collect();
        Self::floored(&logits, routing.floor)
    }

    /// Returns `(1 - floor) softmax(logits) + floor / K`.
    pub(super) fn floored(logits: &[f64], floor: f64) -> Self {
        let spread = floor / logits.len() as f64;
        Self(log_softmax(logits).iter().map(|log_w| (1.0 - floor) * log_w.exp() + spread).collect())
    }

    /// Returns the mean of weights over the same heads; none of none.
    pub(super) fn mean(of: &[Self]) -> Option<Self> {
        let mut sums = vec![0.0; of.first()?.0.len()];
        for weights in of {
            sums.iter_mut().zip(&weights.0).for_each(|(sum, w)| *sum += w);
        }
        Some(Self(sums.into_iter().map(|sum| sum / of.len() as f64).collect()))
    }

    /// Returns the weights, one per head.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// Returns `sum_k w_k v_k`: the routed reward when `v` holds the heads' calibrated rewards.
    #[must_use]
    pub fn mean_of(&self, values: &[f64]) -> f64 {
        self.0.iter().zip(values).map(|(w, v)| w * v).sum()
    }

    /// Returns the exponential of the weights' entropy, in [1, K]: the number of heads that take part.
    #[must_use]
    pub fn effective_heads(&self) -> f64 {
        let entropy: f64 = self.0.iter().filter(|&&w| w > 0.0).map(|w| -w * w.ln()).sum();
        entropy.exp()
    }
}

/// Returns `x_k - ln sum_j exp(x_j)`: normalized log-weights.
#[must_use]
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let total = log_sum_exp(logits);
    logits.iter().map(|x| x - total).collect()
}

/// Returns `ln sum_j exp(x_j)`, without overflow.
#[must_use]
pub fn log_sum_exp(logits: &[f64]) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + logits.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}
