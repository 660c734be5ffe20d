//! Counts the events of each user that are in the sums, for a rebuild of the ledgers from the events that are kept.

use std::collections::{HashMap, HashSet};

use super::events::{EventLog, Logged};
use super::recover::agreed;
use super::rows::Rows;
use crate::mixture::Decay;
use crate::state::journal::{LedgerId, OpenError};
use crate::state::{
    Change, ChangeKind, EventKey, MergeStep, Row, RowRules, StoreError, UserKey, codec, readable,
};

/// Summary of the evidence in a data directory.
#[derive(Debug, Default)]
pub struct Survey {
    /// The heads of its rows; none where no row was ever written.
    pub ledger_id: Option<LedgerId>,
    /// Number of events that count for each user; those of a merged id count for its account.
    pub n_events: HashMap<UserKey, u64>,
    /// The keys of events that were retracted after their rows had forgotten them.
    pub withdrawn: HashSet<EventKey>,
}

/// The rows of all users while the journal is read.
struct UserCounts {
    saved: Option<Rows>,
    rules: RowRules,
    /// Rows in the file: the position of the last change in each, and the number of events that count.
    counts: HashMap<UserKey, (u64, u64)>,
    /// Rows that the journal has changed, and those whose merge is not complete.
    changed: HashMap<UserKey, Row>,
}

impl UserCounts {
    fn new(saved: Option<Rows>, n_heads: usize) -> Result<Self, OpenError> {
        // Decay does not change the number of events, and every acked event counts.
        let rules = RowRules { n_heads, decay: Decay::NONE, max_age_ms: i64::MAX, max_events: usize::MAX };
        let mut user_counts = Self { saved, rules, counts: HashMap::new(), changed: HashMap::new() };
        let (mut counts, mut moved) = (HashMap::new(), Vec::new());
        if let Some(rows) = &user_counts.saved {
            rows.for_each(|user, held| {
                let row = codec::decode(&held.bytes, n_heads);
                if let Ok(Some(row)) = readable(row.map_err(|source| StoreError::Row { user, source })) {
                    counts.insert(user, (held.lsn, row.ledgers.n_events()));
                    moved.extend(row.departed(user).map(|_| (user, row)));
                }
            })?;
        }
        user_counts.counts = counts;
        user_counts.changed.extend(moved);
        Ok(user_counts)
    }

    /// Applies a change that the file of rows lacks.
    fn see(&mut self, Logged { lsn, change, max_age_ms }: &Logged) -> Result<(), OpenError> {
        if self.counts.get(&change.user).is_none_or(|(saved, _)| saved < lsn) {
            self.change(change, *max_age_ms)?;
        }
        Ok(())
    }

    fn change(&mut self, change: &Change, max_age_ms: i64) -> Result<(), OpenError> {
        let rules = self.rules.of_replay(max_age_ms);
        let mut row = match self.changed.remove(&change.user) {
            Some(row) => row,
            None => self.load(change.user)?,
        };
        row.change(change, &rules);
        self.changed.insert(change.user, row);
        Ok(())
    }

    fn load(&self, user: UserKey) -> Result<Row, OpenError> {
        let rows = self.saved.as_ref().filter(|_| self.counts.contains_key(&user));
        let held = rows.map_or(Ok(None), |rows| rows.get(user))?;
        let row = held.and_then(|held| codec::decode(&held.bytes, self.rules.n_heads).ok());
        Ok(row.unwrap_or_else(|| Row::new(self.rules.n_heads)))
    }

    /// Completes the merges that a kill interrupted, as a server would.
    fn finish(&mut self) -> Result<(), OpenError> {
        let departed = self.changed.iter().filter_map(|(user, row)| row.departed(*user));
        for (into, absorbed) in departed.collect::<Vec<_>>() {
            self.changed.insert(absorbed.from, Row::new(self.rules.n_heads));
            let kind = ChangeKind::Merge(MergeStep::Absorb(Box::new(absorbed)));
            self.change(&Change { user: into, now_ms: i64::MIN, kind }, 0)?;
        }
        Ok(())
    }

    fn n_events(self) -> HashMap<UserKey, u64> {
        let Self { mut counts, changed, .. } = self;
        let changed = changed.into_iter().map(|(user, row)| (user, (0, row.ledgers.n_events())));
        counts.extend(changed);
        let n_events = counts.into_iter().map(|(user, (_, n))| (user, n));
        n_events.filter(|(_, n)| *n > 0).collect()
    }
}

impl EventLog {
    /// Counts the events in the rows and in the journal after them, whatever their heads; for a damaged row, those in
    /// the journal alone. Reads everything; only for a directory that no server uses.
    ///
    /// # Errors
    /// When a file can't be read or is damaged, or the secret is not the one that the rows were written with.
    pub fn survey(&self) -> Result<Survey, OpenError> {
        let (mut saved, mut ledger_id) = (None, None);
        if let Some((path, secret)) = self.rows().filter(|(path, _)| path.exists()) {
            let (rows, found) = Rows::open_any(&path)?;
            agreed(&secret, rows.secret()?)?;
            (saved, ledger_id) = (Some(rows), Some(found));
        }
        let n_heads = ledger_id.map_or_else(|| self.n_heads(), |ledger_id| Ok(ledger_id.n_heads))?;
        let mut counts = UserCounts::new(saved, n_heads)?;
        let mut withdrawn = HashSet::new();
        for logged in self.changes()? {
            let logged = logged?;
            if let ChangeKind::Withdraw(withdrawal) = &logged.change.kind {
                withdrawn.insert(withdrawal.key);
            }
            counts.see(&logged)?;
        }
        counts.finish()?;
        Ok(Survey { ledger_id, n_events: counts.n_events(), withdrawn })
    }
}
