//! How many tombstones this replica has made of people of whom nothing was known.
//!
//! The store forgets a tombstone by itself, so that none has to be counted out: what matters is how many are made in the
//! time that one is kept. It is twice the bound at most per replica.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::state::RowRules;

/// Beyond the window a tombstone is kept this much longer: clocks differ, and events may be a little ahead.
const SLACK_MS: u64 = 3_600_000;

/// No longer than the store can count from now.
const MAX_TTL_MS: u64 = 100 * 365 * 86_400_000;

/// For how long the store keeps a tombstone, in milliseconds.
pub(super) fn ttl_ms(rules: &RowRules) -> u64 {
    rules.max_age_ms.unsigned_abs().saturating_add(SLACK_MS).min(MAX_TTL_MS)
}

/// The count since a moment.
#[derive(Debug)]
pub(super) struct Strangers {
    since: Mutex<(Instant, usize)>,
    every: Duration,
    at_most: usize,
}

impl Strangers {
    pub(super) fn new(rules: &RowRules, at_most: usize) -> Self {
        let every = Duration::from_millis(ttl_ms(rules));
        Self { since: Mutex::new((Instant::now(), 0)), every, at_most }
    }

    /// Whether there is room for no more.
    pub(super) fn are_full(&self) -> bool {
        let mut since = self.since.lock();
        if since.0.elapsed() > self.every {
            *since = (Instant::now(), 0);
        }
        since.1 >= self.at_most
    }

    /// Counts one.
    pub(super) fn note(&self) {
        self.since.lock().1 += 1;
    }
}
