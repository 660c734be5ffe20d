//! All evidence of one user: a general ledger, and one for each context.
//!
//! The law: an event enters exactly one ledger, and the ledger that holds it in the end does not depend on the order
//! of events. A user has ledgers for the [`MAX_CONTEXTS`] contexts with the smallest keys ever seen; events of any
//! other context are general. A key that is among the smallest of all is among the smallest of any part, so no event
//! of it was ever general, and every ledger that gave way to it was merged whole.

use serde::{Deserialize, Serialize};

use super::contexts::contextual;
use super::decay::Decay;
use super::evidence::Increment;
use super::ledger::Ledger;
use super::weights::{Routing, Weights};

/// Upper bound of a user's contexts with ledgers of their own, which add at most 4 KiB to a row of 8 heads.
pub const MAX_CONTEXTS: usize = 32;

/// The ledgers of one user. Contexts are identified by 64-bit keys, which should be hashes: no context is special.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledgers {
    general: Ledger,
    /// Ledgers of contexts, ascending by key; empty, and then without an allocation, for a user without contexts.
    contexts: Vec<(u64, Ledger)>,
}

/// The evidence of one user at one moment, in nats per head.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Evidence of the general ledger, shape `[K]`.
    pub general: Vec<f64>,
    /// Evidence of every context's ledger, ascending by key, shape `[K]` each.
    pub contexts: Vec<(u64, Vec<f64>)>,
}

impl Ledgers {
    /// Returns the ledgers of a user without events.
    #[must_use]
    pub fn new(n_heads: usize) -> Self {
        Self { general: Ledger::new(n_heads), contexts: Vec::new() }
    }

    /// Builds ledgers from these parts, ascending by key; [`Ledgers::are_of`] checks that they are well-formed.
    #[must_use]
    pub fn of_parts(general: Ledger, contexts: Vec<(u64, Ledger)>) -> Self {
        Self { general, contexts }
    }

    /// Adds one event that happened at `at_ms`, in general or in the context with this key.
    pub fn add(&mut self, context: Option<u64>, increment: &Increment, at_ms: i64, decay: Decay) {
        self.open(context, decay).add(increment, at_ms, decay);
    }

    /// Subtracts an event that was added, from the ledger that it entered.
    pub fn subtract(&mut self, context: Option<u64>, increment: &Increment, at_ms: i64, decay: Decay) {
        let own = own_key(context, &self.contexts)
            .and_then(|key| self.contexts.binary_search_by_key(&key, |(key, _)| *key).ok());
        let Some(idx) = own else { return self.general.subtract(increment, at_ms, decay) };
        self.contexts[idx].1.subtract(increment, at_ms, decay);
        // Once all places have been taken, a place must stay taken: events of larger keys are in the general ledger.
        if self.contexts[idx].1.n_events() == 0 && self.contexts.len() < MAX_CONTEXTS {
            self.contexts.remove(idx);
        }
    }

    /// Adds all events of `other`.
    pub fn merge(&mut self, other: &Self, decay: Decay) {
        self.general.merge(&other.general, decay);
        for (key, ledger) in &other.contexts {
            self.open(Some(*key), decay).merge(ledger, decay);
        }
    }

    /// Returns the evidence in nats, as it counts at `now_ms`.
    #[must_use]
    pub fn evidence(&self, now_ms: i64, decay: Decay) -> Evidence {
        let context = |(key, ledger): &(u64, Ledger)| (*key, ledger.evidence(now_ms, decay));
        Evidence {
            general: self.general.evidence(now_ms, decay),
            contexts: self.contexts.iter().map(context).collect(),
        }
    }

    /// Returns the ledger that an event of this context has entered: its own, the general one, or none yet.
    #[must_use]
    pub fn of(&self, context: Option<u64>) -> Option<&Ledger> {
        let Some(key) = own_key(context, &self.contexts) else { return Some(&self.general) };
        self.contexts.binary_search_by_key(&key, |(key, _)| *key).ok().map(|idx| &self.contexts[idx].1)
    }

    /// Returns the ledgers of the contexts, ascending by key.
    #[must_use]
    pub fn contexts(&self) -> &[(u64, Ledger)] {
        &self.contexts
    }

    /// True if these are well-formed ledgers of `n_heads` heads, which bytes from elsewhere may not be.
    #[must_use]
    pub fn are_of(&self, n_heads: usize) -> bool {
        self.all().all(|ledger| ledger.sums().len() == n_heads)
            && self.contexts.len() <= MAX_CONTEXTS
            && self.contexts.is_sorted_by(|(a, _), (b, _)| a < b)
    }

    /// Returns the number of events, over all ledgers.
    #[must_use]
    pub fn n_events(&self) -> u64 {
        self.all().map(Ledger::n_events).sum()
    }

    /// Returns the time of the latest event, over all ledgers, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn last_at_ms(&self) -> Option<i64> {
        self.all().filter_map(Ledger::last_at_ms).max()
    }

    fn all(&self) -> impl Iterator<Item = &Ledger> {
        std::iter::once(&self.general).chain(self.contexts.iter().map(|(_, ledger)| ledger))
    }

    /// Returns the ledger that events of this context enter. To make room for it, the ledger with the largest key is
    /// merged into the general one.
    fn open(&mut self, context: Option<u64>, decay: Decay) -> &mut Ledger {
        let Some(key) = own_key(context, &self.contexts) else { return &mut self.general };
        let idx = self.contexts.binary_search_by_key(&key, |(key, _)| *key).unwrap_or_else(|idx| {
            if self.contexts.len() == MAX_CONTEXTS
                && let Some((_, last)) = self.contexts.pop()
            {
                self.general.merge(&last, decay);
            }
            self.contexts.reserve_exact(1);
            self.contexts.insert(idx, (key, Ledger::new(self.general.sums().len())));
            idx
        });
        &mut self.contexts[idx].1
    }
}

impl Evidence {
    /// Returns the evidence of a user without events.
    #[must_use]
    pub fn none(n_heads: usize) -> Self {
        Self { general: vec![0.0; n_heads], contexts: Vec::new() }
    }

    /// Returns the user's weights in general, or in the context with this key: see [`contextual`].
    ///
    /// A context that has no room for a ledger of its own is general to read as it is to write.
    #[must_use]
    pub fn weights(&self, log_prior: &[f64], asked: Option<u64>, routing: Routing, transfer: f64) -> Weights {
        let asked = own_key(asked, &self.contexts);
        contextual(log_prior, &self.general, &self.contexts, asked, routing, transfer)
    }

    /// Returns the sum over all ledgers, shape `[K]`: the evidence of all the user's events, in any context.
    #[must_use]
    pub fn total(&self) -> Vec<f64> {
        let mut total = self.general.clone();
        for (_, nats) in &self.contexts {
            total.iter_mut().zip(nats).for_each(|(sum, x)| *sum += x);
        }
        total
    }
}

/// Returns the key, unless all places are taken by smaller ones.
fn own_key<T>(context: Option<u64>, contexts: &[(u64, T)]) -> Option<u64> {
    let largest_kept = contexts.get(MAX_CONTEXTS - 1).map_or(u64::MAX, |(key, _)| *key);
    context.filter(|key| *key <= largest_kept)
}
