//! The rules that are compared: from the labels of a user so far to the probability of the next choice.

use super::Trial;
use super::blend::{Belief, Blend};
use super::gate::Gate;
use super::seen::Seen;
use crate::mixture::{Routing, Weights, log_sigmoid, log_softmax, preference, sigmoid, win};

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
    /// A head that reads style and length alone.
    Style,
    /// A head that reads words alone, by TF-IDF.
    Lexical,
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
    /// The blend ledger: a Gaussian belief over weights of heads, under the population of other people.
    Blend,
    /// The Bayes mixture of the ledger and the blend ledger.
    Both,
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
    /// The population of blends and its mixture with the ledger, learned from other people; none without such people,
    /// and then no rule that needs them is replayed.
    pub blend: Option<(Blend, Gate)>,
    /// The head that wins most of the replayed choices of each group.
    pub oracle: Vec<usize>,
    /// The same over all choices, for those without a group.
    pub oracle_of_all: usize,
}

impl Reference {
    /// True if what the rule is learned from is there.
    #[must_use]
    pub const fn knows(&self, rule: Rule) -> bool {
        (self.best_head.is_some() || !rule.needs_train_pairs())
            && (self.blend.is_some() || !rule.needs_other_people())
    }

    fn oracle_head(&self, trial: &Trial) -> usize {
        trial.group.map_or(self.oracle_of_all, |group| self.oracle[group])
    }
}

impl Rule {
    /// Every rule, baselines first.
    pub const ALL: [Self; 12] = [
        Self::Length,
        Self::Style,
        Self::Lexical,
        Self::Single,
        Self::BestHead,
        Self::Static,
        Self::Paper,
        Self::HyRe,
        Self::Bayes,
        Self::Blend,
        Self::Both,
        Self::Oracle,
    ];

    /// True if it was learned from train pairs.
    #[must_use]
    pub const fn needs_train_pairs(self) -> bool {
        matches!(self, Self::Single | Self::Style | Self::Lexical | Self::BestHead)
    }

    /// True if it was learned from other people than those who are replayed.
    #[must_use]
    pub const fn needs_other_people(self) -> bool {
        matches!(self, Self::Blend | Self::Both)
    }

    /// Returns the name in tables.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Length => "length only",
            Self::Single => "single head",
            Self::Style => "style ruler",
            Self::Lexical => "lexical ruler",
            Self::BestHead => "best head",
            Self::Static => "static mixture",
            Self::Paper => "paper's rule",
            Self::HyRe => "HyRe",
            Self::Bayes => "Bayes ledger",
            Self::Blend => "blend ledger",
            Self::Both => "ledger and blend",
            Self::Oracle => "oracle head",
        }
    }

    /// Returns, for each of `trials`, whether the prediction is right (1, one half for a tie, 0) and its log loss in
    /// nats. Length has no probabilities: its log loss is that of a coin.
    #[must_use]
    pub fn predict(self, seen: &Seen<'_>, trials: &[&Trial], reference: &Reference) -> Vec<(f64, f64)> {
        let weights = self.shared_weights(seen, reference);
        let by_ruler = |log_odds: f64| (win(log_odds), -log_sigmoid(log_odds));
        let blended = self.blended(seen, reference);
        let by_ledger = |trial: &Trial| preference(&seen.posterior(trial), &trial.margins);
        let scored = |trial: &&Trial| {
            let chance = match self {
                Self::Length => return (win(trial.longer), std::f64::consts::LN_2),
                Self::Single => return by_ruler(trial.rulers[0]),
                Self::Style => return by_ruler(trial.rulers[1]),
                Self::Lexical => return by_ruler(trial.rulers[2]),
                Self::BestHead => reference.best_head.map_or(0.5, |head| sigmoid(trial.margins[head])),
                Self::Oracle => sigmoid(trial.margins[reference.oracle_head(trial)]),
                Self::Bayes => by_ledger(trial),
                Self::Blend | Self::Both => match &blended {
                    Some((belief, 1.0)) => belief.chance(trial),
                    Some((belief, share)) => share * belief.chance(trial) + (1.0 - share) * by_ledger(trial),
                    None => 0.5,
                },
                Self::Static | Self::Paper | Self::HyRe => {
                    weights.as_ref().map_or(0.5, |weights| preference(weights, &trial.margins))
                }
            };
            (win(chance - 0.5), -chance.max(f64::MIN_POSITIVE).ln())
        };
        trials.iter().map(scored).collect()
    }

    /// Returns the belief of rules that have one, and its share in the prediction.
    fn blended(self, seen: &Seen<'_>, reference: &Reference) -> Option<(Belief, f64)> {
        let (blend, gate) = reference.blend.as_ref().filter(|_| self.needs_other_people())?;
        let belief = blend.believe(seen.trials())?;
        let share = match self {
            Self::Both => gate.share(seen, belief.evidence, &reference.log_shares),
            _ => 1.0,
        };
        Some((belief, share))
    }

    /// Returns the weights of rules that do not read the prompt.
    fn shared_weights(self, seen: &Seen<'_>, reference: &Reference) -> Option<Weights> {
        let n_heads = reference.log_shares.len();
        let nothing = vec![0.0; n_heads];
        match self {
            Self::Static => Some(Weights::posterior(&reference.log_shares, &nothing, Routing::BAYES)),
            Self::HyRe => Some(Weights::posterior(&nothing, seen.total(), Routing::BAYES)),
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
    for _ in 0..if seen.n() == 0 { 0 } else { EPOCHS } {
        let mut sums = vec![0.0; log_weights.len()];
        for trial in seen.trials() {
            let logits: Vec<f64> =
                log_weights.iter().zip(trial.evidence()).map(|(w, nats)| w + nats / TAU).collect();
            sums.iter_mut()
                .zip(log_softmax(&logits))
                .for_each(|(sum, log_w)| *sum += trial.weight * log_w.exp());
        }
        let n: f64 = seen.trials().iter().map(|trial| trial.weight).sum();
        log_weights = sums.iter().map(|sum| (sum / n).max(1e-12).ln()).collect();
    }
    log_weights
}
