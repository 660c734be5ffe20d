//! Chooses the ledger's learning rate on people whom the heads were not learned from.
//!
//! Every vote of a person is predicted from the person's earlier ones, as a ledger does. With rate 1 the losses of all
//! votes add up to minus the log-likelihood of the person's mixture, Bayes' rule. People who are no head but a blend of
//! several are predicted better by a smaller rate, which goes on mixing.

use ndarray::{Array1, Array2, ArrayView1, Axis};

use crate::mixture::{log_either, log_sigmoid, log_softmax, log_sum_exp};

/// Learning rates that are tried, in descending order; Bayes' rule is the first.
pub(super) const RATES: [f64; 7] = [1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125];

/// Standard errors by which the best rate has to beat a larger one. Bayes' rule bounds what is lost to the best head,
/// and the best of seven is ahead by chance more often than one is.
const STANDARD_ERRORS: f64 = 2.0;

/// One learning rate that was tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRateTrial {
    /// Hedge's learning rate.
    pub rate: f64,
    /// Mean log loss of a held-out person's votes, each predicted from those before it, in nats; files count alike.
    pub log_loss: f64,
    /// The standard error, over people, of its difference to the best rate's: 0 for the best.
    pub standard_error: f64,
}

/// Predicts votes of users one after the other by every rate of [`RATES`].
pub(super) struct Prequential<'a> {
    log_shares: &'a [f64],
    /// `[users, K]`, in nats.
    evidence: Array2<f64>,
    /// Sums of log losses, `[users, rates]`.
    losses: Array2<f64>,
    /// Sums of weights, shape `[users]`.
    weights: Array1<f64>,
}

impl<'a> Prequential<'a> {
    /// Starts without evidence, from the log-shares of the K heads.
    pub(super) fn new(n_users: usize, log_shares: &'a [f64]) -> Self {
        Self {
            log_shares,
            evidence: Array2::zeros((n_users, log_shares.len())),
            losses: Array2::zeros((n_users, RATES.len())),
            weights: Array1::zeros(n_users),
        }
    }

    /// Predicts a vote with these margins `[K]`, and learns it. A tie is half a vote in either direction.
    pub(super) fn add(&mut self, user: usize, margins: ArrayView1<'_, f64>, weight: f64, is_tie: bool) {
        let mut evidence = self.evidence.row_mut(user);
        for (loss, rate) in self.losses.row_mut(user).iter_mut().zip(RATES) {
            let logits: Vec<f64> =
                self.log_shares.iter().zip(&evidence).map(|(share, nats)| share + rate * nats).collect();
            let log_weights = log_softmax(&logits);
            let side = |sign: f64| {
                let joint = log_weights.iter().zip(margins).map(|(w, d)| w + log_sigmoid(sign * d));
                -log_sum_exp(&joint.collect::<Vec<_>>())
            };
            *loss += weight * if is_tie { 0.5 * (side(1.0) + side(-1.0)) } else { side(1.0) };
        }
        let nats = margins.mapv(|d| weight * if is_tie { log_either(d) } else { log_sigmoid(d) });
        evidence += &nats;
        self.weights[user] += weight;
    }

    /// Returns the log loss per vote of every user, `[users, rates]`; 0 of one without a vote.
    pub(super) fn log_losses(self) -> Array2<f64> {
        self.losses / self.weights.mapv(|sum| sum.max(f64::MIN_POSITIVE)).insert_axis(Axis(1))
    }
}

/// Returns the largest rate whose log loss is within two standard errors of the best, and all trials; rate 1 and no
/// trial without people. `files` are log losses `[users, rates]` of files with two heads or more.
pub(super) fn choose(files: &[Array2<f64>]) -> (f64, Vec<LearningRateTrial>) {
    let files: Vec<&Array2<f64>> = files.iter().filter(|losses| losses.nrows() > 1).collect();
    if files.is_empty() {
        return (1.0, Vec::new());
    }
    let n_files = files.len() as f64;
    let log_loss =
        |rate: usize| files.iter().filter_map(|losses| losses.column(rate).mean()).sum::<f64>() / n_files;
    let log_losses: Vec<f64> = (0..RATES.len()).map(log_loss).collect();
    let best = (0..RATES.len()).min_by(|&a, &b| log_losses[a].total_cmp(&log_losses[b])).unwrap_or_default();
    let standard_error = |rate: usize| {
        let variance = |losses: &&Array2<f64>| {
            let differences = &losses.column(rate) - &losses.column(best);
            differences.var(1.0) / differences.len() as f64
        };
        files.iter().map(variance).sum::<f64>().sqrt() / n_files
    };
    let trial = |(idx, rate): (usize, f64)| LearningRateTrial {
        rate,
        log_loss: log_losses[idx],
        standard_error: standard_error(idx),
    };
    let trials: Vec<LearningRateTrial> = RATES.into_iter().enumerate().map(trial).collect();
    let is_near = |trial: &&LearningRateTrial| {
        trial.log_loss - STANDARD_ERRORS * trial.standard_error <= log_losses[best]
    };
    let chosen = trials.iter().find(is_near);
    (chosen.map_or(1.0, |trial| trial.rate), trials)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::mixture::sigmoid;

    /// Log losses of people who choose by `weights(person)` over two heads with margins of their own.
    fn losses(weights: impl Fn(usize) -> [f64; 2]) -> Array2<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let log_shares = [0.5_f64.ln(); 2];
        let mut prequential = Prequential::new(200, &log_shares);
        for user in (0..200).cycle().take(200 * 40) {
            let margins = [rng.random_range(-3.0..3.0), rng.random_range(-3.0..3.0_f64)];
            let [a, b] = weights(user);
            let is_chosen = rng.random_bool(a * sigmoid(margins[0]) + b * sigmoid(margins[1]));
            let sign = if is_chosen { 1.0 } else { -1.0 };
            prequential.add(user, Array1::from(margins.to_vec()).mapv(|d| sign * d).view(), 1.0, false);
        }
        prequential.log_losses()
    }

    #[test]
    fn people_of_one_head_each_get_bayes_rule_and_people_who_blend_a_smaller_rate() {
        let (of_heads, trials) =
            choose(&[losses(|user| if user % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] })]);
        assert_eq!((of_heads, trials.len()), (1.0, RATES.len()));
        let (of_blends, _) = choose(&[losses(|_| [0.5, 0.5])]);
        assert!(of_blends < 0.3, "{of_blends}");
        assert_eq!(choose(&[]), (1.0, Vec::new()), "nobody says nothing");
    }

    #[test]
    fn with_rate_1_the_losses_are_the_log_likelihood_of_the_mixture() {
        let log_shares = [0.3_f64.ln(), 0.7_f64.ln()];
        let mut prequential = Prequential::new(1, &log_shares);
        let mut joint = log_shares.to_vec();
        for margins in [[1.0, -2.0], [0.5, 0.1], [-1.0, 3.0]] {
            prequential.add(0, ArrayView1::from(&margins), 1.0, false);
            joint.iter_mut().zip(margins).for_each(|(sum, d)| *sum += log_sigmoid(d));
        }
        assert!((3.0 * prequential.log_losses()[[0, 0]] + log_sum_exp(&joint)).abs() < 1e-12);
    }
}
