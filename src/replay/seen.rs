//! The labels of a user so far, as ledgers keep them.

use super::Trial;
use crate::mixture::{Routing, Weights, contextual};

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
    n_labels: usize,
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
        Self {
            served,
            trials: Vec::new(),
            n_labels: 0,
            total: zeros.clone(),
            general: zeros,
            contexts: Vec::new(),
        }
    }

    /// Adds a choice; those of one label are one label if they follow one another.
    pub fn learn(&mut self, trial: &'a Trial) {
        let is_further =
            trial.label.is_some() && self.trials.last().is_some_and(|last| last.label == trial.label);
        self.n_labels += usize::from(!is_further);
        let evidence: Vec<f64> = trial.evidence().collect();
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
        self.n_labels
    }

    /// Returns the log-likelihood of all labels by every head, whatever their context, shape `[K]`.
    #[must_use]
    pub fn total(&self) -> &[f64] {
        &self.total
    }

    /// Returns the choices of the labels.
    pub(super) fn trials(&self) -> &[&'a Trial] {
        &self.trials
    }

    /// Returns the weights of the ledgers for a choice.
    #[must_use]
    pub fn posterior(&self, trial: &Trial) -> Weights {
        self.weights(&trial.log_prior, trial.context)
    }

    /// Returns the weights of the ledgers for a prompt with these log-weights of the router, and its context.
    #[must_use]
    pub fn weights(&self, log_prior: &[f64], context: Option<u64>) -> Weights {
        let Served { routing, transfer } = self.served;
        contextual(log_prior, &self.general, &self.contexts, context, routing, transfer)
    }
}
