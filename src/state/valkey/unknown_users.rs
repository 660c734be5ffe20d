//! The number of tombstones that this replica has made of users without a row.
//!
//! The store expires a tombstone by itself, so that the count never goes down by one: the bound is on the tombstones
//! made in the time that one is kept. At most twice the bound exist per replica.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::state::RowRules;

/// Time for which a tombstone is kept beyond the window: clocks differ, and events may be a little ahead.
const SLACK_MS: u64 = 3_600_000;

/// Upper bound of the time that a tombstone is kept: the store can't count further from now.
const MAX_TTL_MS: u64 = 100 * 365 * 86_400_000;

/// Returns the time for which the store keeps a tombstone, in milliseconds.
pub(super) fn ttl_ms(rules: &RowRules) -> u64 {
    rules.max_age_ms.unsigned_abs().saturating_add(SLACK_MS).min(MAX_TTL_MS)
}

/// The count since the start of the current period.
#[derive(Debug)]
pub(super) struct UnknownUsers {
    since: Mutex<(Instant, usize)>,
    every: Duration,
    at_most: usize,
}

impl UnknownUsers {
    pub(super) fn new(rules: &RowRules, at_most: usize) -> Self {
        let every = Duration::from_millis(ttl_ms(rules));
        Self { since: Mutex::new((Instant::now(), 0)), every, at_most }
    }

    /// True if the period has room for no more.
    pub(super) fn are_full(&self) -> bool {
        let mut since = self.since.lock();
        if since.0.elapsed() > self.every {
            *since = (Instant::now(), 0);
        }
        since.1 >= self.at_most
    }

    /// Counts one tombstone.
    pub(super) fn note(&self) {
        self.since.lock().1 += 1;
    }
}
