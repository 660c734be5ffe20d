//! The ledger: the additive per-head evidence of one user.
//!
//! The law: a ledger is a sum. Events in any order, split over any replicas and merged in any grouping, end in the
//! same integers (with forgetting on: within one unit per event and change of epoch). Only a duplicate breaks this;
//! the owner of a ledger guards against it.

use serde::{Deserialize, Serialize};

use super::decay::Decay;
use super::evidence::{Increment, UNITS_PER_NAT};

/// Evidence of one user for each of K heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Sums in units of 2^-32 nat, relative to the origin of `epoch`.
    sums: Box<[i64]>,
    epoch: i64,
    n: u64,
    last_at_ms: i64,
}

impl Ledger {
    /// Returns the ledger of a user without events.
    #[must_use]
    pub fn new(n_heads: usize) -> Self {
        Self { sums: vec![0; n_heads].into(), epoch: i64::MIN, n: 0, last_at_ms: i64::MIN }
    }

    /// Builds a ledger from the values of [`Ledger::sums`], [`Ledger::epoch`], [`Ledger::n_events`] and
    /// [`Ledger::last_at_ms`]; of no events, an empty one.
    #[must_use]
    pub fn of_parts(sums: &[i64], epoch: Option<i64>, n: u64, last_at_ms: Option<i64>) -> Self {
        match (epoch, last_at_ms) {
            (Some(epoch), Some(last_at_ms)) if n > 0 => Self { sums: sums.into(), epoch, n, last_at_ms },
            _ => Self::new(sums.len()),
        }
    }

    /// Adds one event that happened at `at_ms`.
    pub fn add(&mut self, increment: &Increment, at_ms: i64, decay: Decay) {
        debug_assert_eq!(increment.units().len(), self.sums.len(), "one increment per head");
        self.advance(decay.epoch_of(at_ms), decay);
        let weight = decay.weight(at_ms, self.epoch);
        for (sum, &unit) in self.sums.iter_mut().zip(increment.units()) {
            *sum = sum.saturating_add((unit as f64 * weight).round() as i64);
        }
        self.n += 1;
        self.last_at_ms = self.last_at_ms.max(at_ms);
    }

    /// Subtracts an event that was added: the sums are as if it had never happened, with forgetting on within one
    /// unit per change of epoch since. The time of the latest event stays, unless no event is left.
    pub fn subtract(&mut self, increment: &Increment, at_ms: i64, decay: Decay) {
        debug_assert_eq!(increment.units().len(), self.sums.len(), "one increment per head");
        if self.n <= 1 {
            *self = Self::new(self.sums.len());
            return;
        }
        let behind = self.epoch.abs_diff(decay.epoch_of(at_ms));
        let weight = decay.weight(at_ms, decay.epoch_of(at_ms));
        for (sum, &unit) in self.sums.iter_mut().zip(increment.units()) {
            let added = (unit as f64 * weight).round() as i64;
            *sum = sum.saturating_sub(decay.rebase(added, behind));
        }
        self.n -= 1;
    }

    /// Adds all events of `other`.
    pub fn merge(&mut self, other: &Self, decay: Decay) {
        debug_assert_eq!(other.sums.len(), self.sums.len(), "both count the same heads");
        self.advance(other.epoch, decay);
        let behind = self.epoch.abs_diff(other.epoch);
        for (sum, &theirs) in self.sums.iter_mut().zip(&other.sums) {
            *sum = sum.saturating_add(decay.rebase(theirs, behind));
        }
        self.n += other.n;
        self.last_at_ms = self.last_at_ms.max(other.last_at_ms);
    }

    /// Returns the evidence in nats per head, as it counts at `now_ms` or at the last event, whichever is later.
    #[must_use]
    pub fn evidence(&self, now_ms: i64, decay: Decay) -> Vec<f64> {
        if self.n == 0 {
            return vec![0.0; self.sums.len()];
        }
        let faded = decay.weight(now_ms.max(self.last_at_ms), self.epoch);
        self.sums.iter().map(|&sum| sum as f64 / UNITS_PER_NAT / faded).collect()
    }

    /// Returns the sums in units of 2^-32 nat.
    #[must_use]
    pub fn sums(&self) -> &[i64] {
        &self.sums
    }

    /// Returns the epoch whose start the sums are relative to; none for an empty ledger.
    #[must_use]
    pub fn epoch(&self) -> Option<i64> {
        (self.n > 0).then_some(self.epoch)
    }

    /// Returns the number of events in the ledger.
    #[must_use]
    pub fn n_events(&self) -> u64 {
        self.n
    }

    /// Returns the time of the latest event, in milliseconds since the Unix epoch; none for an empty ledger.
    #[must_use]
    pub fn last_at_ms(&self) -> Option<i64> {
        (self.n > 0).then_some(self.last_at_ms)
    }

    fn advance(&mut self, epoch: i64, decay: Decay) {
        if epoch > self.epoch {
            let ahead = epoch.abs_diff(self.epoch);
            for sum in &mut self.sums {
                *sum = decay.rebase(*sum, ahead);
            }
            self.epoch = epoch;
        }
    }
}
