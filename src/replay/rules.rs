//! The rules that are compared: from the labels of a user so far to the probability of the next choice.

use super::Trial;
use crate::mixture::{Routing, Weights, contextual, log_sigmoid, log_softmax, preference, sigmoid, win};

/// The paper's tau on HelpSteer2 and across data sets.
const TAU: f64 = 1e-3;

/// Epochs of the paper, which recomputes its soft labels once per epoch.
const EPOCHS: usize = 10;

/// A way to predict the next choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The longer response.
    Length,
    /// A single Bradley-Terry head: K = 1.
    Single,
    /// The head that is best on all train pairs.
    BestHead,
    /// The population's shares, for every prompt and user.
    Static,
    /// The paper's rule in one context, after its ten epochs: soft labels of single pairs at tau = 0.001, averaged.
    Paper,
    /// Softmax of summed losses under a uniform prior (HyRe, arXiv 2412.08812).
    HyRe,
    /// The ledgers: router's prior times likelihood, as in `serve`, but in floating point and for any number of
    /// contexts.
    Bayes,
    /// The head that wins most of the replayed choices of the group: the most that one head per group can reach.
    Oracle,
}

/// The figures of the population that rules use.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The heads' shares of the population, log, shape `[K]`.
    pub log_shares: Vec<f64>,
    /// The head that is best on all train pairs; none without train pairs, and then no rule that was learned from
    /// them is replayed.
    pub best_head: Option<usize>,
    /// The head that wins most of the replayed choices of each group.
    pub oracle: Vec<usize>,
    /// The same over all choices, for those without a group.
    pub oracle_of_all: usize,
}

impl Reference {
    fn oracle_head(&self, trial: &Trial) -> usize {
        trial.group.map_or(self.oracle_of_all, |group| self.oracle[group])
    }
}

/// The settings from a ledger to weights, as `serve` has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// Learning rate and floor.
    pub routing: Routing,
    /// Transfer of evidence from other contexts, in [0, 1].
    pub transfer: f64,
}

/// The labels that a user has given so far.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    served: Served,
    trials: Vec<&'a Trial>,
    /// `sum log sigma(margins)` over all labels, shape `[K]`.
    total: Vec<f64>,
    /// The same over labels without a context.
    general: Vec<f64>,
    /// The same over the labels of each context.
    contexts: Vec<(u64, Vec<f64>)>,
}

impl<'a> Seen<'a> {
    /// Returns the state without labels, for `n_heads` heads.
    #[must_use]
    pub fn nothing(n_heads: usize, served: Served) -> Self {
        let zeros = vec![0.0; n_heads];
        Self { served, trials: Vec::new(), total: zeros.clone(), general: zeros, contexts: Vec::new() }
    }

    /// Adds a label.
    pub fn learn(&mut self, trial: &'a Trial) {
        let evidence: Vec<f64> = trial.margins.iter().map(|&d| log_sigmoid(d)).collect();
        let own = match trial.context {
            None => &mut self.general,
            Some(context) => match self.contexts.iter().position(|(key, _)| *key == context) {
                Some(position) => &mut self.contexts[position].1,
                None => {
                    self.contexts.push((context, vec![0.0; evidence.len()]));
                    let last = self.contexts.len() - 1;
                    &mut self.contexts[last].1
                }
            },
        };
        for sums in [own, &mut self.total] {
            sums.iter_mut().zip(&evidence).for_each(|(sum, nats)| *sum += nats);
        }
        self.trials.push(trial);
    }

    /// Returns the number of labels.
    #[must_use]
    pub fn n(&self) -> usize {
        self.trials.len()
    }

    /// Returns the log-likelihood of all labels by every head, whatever their context, shape `[K]`.
    #[must_use]
    pub fn total(&self) -> &[f64] {
        &self.total
    }

    /// Returns the weights of the ledgers for a prompt and its context.
    #[must_use]
    pub fn posterior(&self, trial: &Trial) -> Weights {
        let Served { routing, transfer } = self.served;
        contextual(&trial.log_prior, &self.general, &self.contexts, trial.context, routing, transfer)
    }
}

impl Rule {
    /// Every rule, baselines first.
    pub const ALL: [Self; 8] = [
        Self::Length,
        Self::Single,
        Self::BestHead,
        Self::Static,
        Self::Paper,
        Self::HyRe,
        Self::Bayes,
        Self::Oracle,
    ];

    /// True if it was learned from train pairs.
    #[must_use]
    pub const fn needs_train_pairs(self) -> bool {
        matches!(self, Self::Single | Self::BestHead)
    }

    /// Returns the name in tables.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Length => "length only",
            Self::Single => "single head",
            Self::BestHead => "best head",
            Self::Static => "static mixture",
            Self::Paper => "paper's rule",
            Self::HyRe => "HyRe",
            Self::Bayes => "Bayes ledger",
            Self::Oracle => "oracle head",
        }
    }

    /// Returns, for each of `trials`, whether the prediction is right (1, one half for a tie, 0) and its log loss in
    /// nats. Length has no probabilities: its log loss is that of a coin.
    #[must_use]
    pub fn predict(self, seen: &Seen<'_>, trials: &[&Trial], reference: &Reference) -> Vec<(f64, f64)> {
        let weights = self.shared_weights(seen, reference);
        let scored = |trial: &&Trial| {
            let chance = match self {
                Self::Length => return (win(trial.longer), std::f64::consts::LN_2),
                Self::Single => return (win(trial.single), -log_sigmoid(trial.single)),
                Self::BestHead => reference.best_head.map_or(0.5, |head| sigmoid(trial.margins[head])),
                Self::Oracle => sigmoid(trial.margins[reference.oracle_head(trial)]),
                Self::Bayes => preference(&seen.posterior(trial), &trial.margins),
                Self::Static | Self::Paper | Self::HyRe => {
                    weights.as_ref().map_or(0.5, |weights| preference(weights, &trial.margins))
                }
            };
            (win(chance - 0.5), -chance.max(f64::MIN_POSITIVE).ln())
        };
        trials.iter().map(scored).collect()
    }

    /// Returns the weights of rules that do not read the prompt.
    fn shared_weights(self, seen: &Seen<'_>, reference: &Reference) -> Option<Weights> {
        let n_heads = reference.log_shares.len();
        let nothing = vec![0.0; n_heads];
        match self {
            Self::Static => Some(Weights::posterior(&reference.log_shares, &nothing, Routing::BAYES)),
            Self::HyRe => Some(Weights::posterior(&nothing, &seen.total, Routing::BAYES)),
            Self::Paper => {
                let log_weights = fixed_point(seen, &reference.log_shares);
                Some(Weights::posterior(&log_weights, &nothing, Routing::BAYES))
            }
            _ => None,
        }
    }
}

/// Runs ten epochs of the paper's Algorithm 1 in one context with a router that can take any value: every epoch,
/// weights become the mean over labels of `softmax_k(ln w_k - L_ik / tau)`.
fn fixed_point(seen: &Seen<'_>, log_shares: &[f64]) -> Vec<f64> {
    let mut log_weights = log_shares.to_vec();
    for _ in 0..if seen.trials.is_empty() { 0 } else { EPOCHS } {
        let mut sums = vec![0.0; log_weights.len()];
        for trial in &seen.trials {
            let logits: Vec<f64> =
                log_weights.iter().zip(&trial.margins).map(|(w, &d)| w + log_sigmoid(d) / TAU).collect();
            sums.iter_mut().zip(log_softmax(&logits)).for_each(|(sum, log_w)| *sum += log_w.exp());
        }
        let n = seen.trials.len() as f64;
        log_weights = sums.iter().map(|sum| (sum / n).max(1e-12).ln()).collect();
    }
    log_weights
}
