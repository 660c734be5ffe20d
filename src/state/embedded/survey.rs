//! How many events count for each user, for who makes ledgers anew out of the events that are still there.

use std::collections::{HashMap, HashSet};

use super::events::EventLog;
use super::rows::Rows;
use crate::state::journal::{Heads, OpenError};
use crate::state::{ChangeKind, EventKey, MergeStep, StoreError, UserKey, Withdrawal, codec, readable};

/// What a data directory holds evidence of.
#[derive(Debug, Default)]
pub struct Survey {
    /// The heads that its rows are of; none where no row was ever written.
    pub heads: Option<Heads>,
    /// How many events count for each user.
    pub n_events: HashMap<UserKey, u64>,
    /// The keys of events that were taken back when their rows no longer remembered them.
    pub withdrawn: HashSet<EventKey>,
}

/// What is known of one user while the journal is read.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// Every change up to this position is counted.
    lsn: u64,
    n: u64,
}

impl EventLog {
    /// Counts what the rows and the journal after them say, whatever heads they are of; of a row that is damaged, what the
    /// journal does. Only of a directory that no server uses; reads everything.
    ///
    /// # Errors
    /// When a file can't be read or is damaged.
    pub fn survey(&self) -> Result<Survey, OpenError> {
        let mut counts: HashMap<UserKey, Count> = HashMap::new();
        let mut heads = None;
        if let Some(path) = self.rows().filter(|path| path.exists()) {
            let (rows, found) = Rows::open_any(&path)?;
            heads = Some(found);
            rows.for_each(|user, held| {
                let row = codec::decode(&held.bytes, found.n_heads);
                let row = row.map_err(|source| StoreError::Row { user, source });
                if let Ok(Some(row)) = readable(row) {
                    counts.insert(user, Count { lsn: held.lsn, n: row.ledgers.n_events() });
                }
            })?;
        }
        let fate = self.fate()?;
        // Of those that are taken back or replaced, the ones that have been said so far.
        let mut said: HashSet<_> = HashSet::new();
        let mut withdrawn = HashSet::new();
        for logged in self.unerased()? {
            let logged = logged?;
            let user = logged.change.user;
            let count = counts.entry(user).or_default();
            let is_new = logged.lsn > count.lsn;
            if let ChangeKind::Withdraw(withdrawal) = &logged.change.kind {
                withdrawn.insert(withdrawal.key);
            }
            let mut take_back = |key, n: &mut u64| {
                *n -= u64::from(said.remove(&(user, key)) && is_new && *n > 0);
            };
            match &logged.change.kind {
                ChangeKind::Add(event) => {
                    if let Some(replaced) = event.replaces {
                        take_back(replaced, &mut count.n);
                    }
                    if fate.is_retracted(&logged) {
                        said.insert((user, event.key));
                    }
                    count.n += u64::from(is_new);
                }
                ChangeKind::Retract(key) | ChangeKind::Withdraw(Withdrawal { key, .. }) => {
                    take_back(*key, &mut count.n);
                }
                ChangeKind::Erase if is_new => count.n = 0,
                ChangeKind::Import(ledgers) if is_new => count.n = ledgers.n_events(),
                ChangeKind::Merge(MergeStep::Absorb(absorbed)) if is_new => {
                    count.n += absorbed.ledgers.n_events();
                }
                ChangeKind::Merge(MergeStep::Vacate(_)) if is_new => count.n = 0,
                ChangeKind::Erase | ChangeKind::Import(_) | ChangeKind::Merge(_) => {}
            }
        }
        let n_events = counts.into_iter().map(|(user, count)| (user, count.n)).filter(|(_, n)| *n > 0);
        Ok(Survey { heads, n_events: n_events.collect(), withdrawn })
    }
}
