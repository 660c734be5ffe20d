//! Rows in memory, each as its bytes, changed one at a time under its shard's lock.
//!
//! No method returns a guard of the map.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};

use super::row::Sort;
use super::{Change, Outcome, Row, RowRules, StoreError, UserKey, codec, readable};

/// Shards of the map. A scan of a million users takes half a second, shard by shard, and a feedback may have to wait
/// for its own shard: 4 ms at worst as measured, against 60 ms with 8 shards.
const SHARDS: usize = 256;

/// A row and the journal position of the last change in it; 0 where there is no journal.
#[derive(Debug, Clone)]
pub(super) struct StoredRow {
    pub(super) lsn: u64,
    pub(super) bytes: Box<[u8]>,
}

/// A row in the map, in 24 bytes: the map has a place for every user in memory, and some more.
#[derive(Debug)]
struct ResidentRow {
    bytes: Box<[u8]>,
    /// Twice the position; odd if the row was used since eviction last passed over it.
    lsn_and_use: AtomicU64,
}

impl ResidentRow {
    fn new(held: StoredRow) -> Self {
        Self { bytes: held.bytes, lsn_and_use: AtomicU64::new(held.lsn << 1 | 1) }
    }

    fn lsn(&self) -> u64 {
        self.lsn_and_use.load(Ordering::Relaxed) >> 1
    }

    fn held(&self) -> StoredRow {
        StoredRow { lsn: self.lsn(), bytes: self.bytes.clone() }
    }

    fn is_used(&self) {
        self.lsn_and_use.fetch_or(1, Ordering::Relaxed);
    }

    /// Reports whether the row was used since the last call.
    fn was_used(&self) -> bool {
        self.lsn_and_use.fetch_and(!1, Ordering::Relaxed) & 1 == 1
    }
}

/// Number of rows of each sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) n_users: usize,
    pub(super) n_tombstones: usize,
    pub(super) n_redirects: usize,
}

/// The map of rows.
#[derive(Debug)]
pub(super) struct Resident {
    rows: DashMap<UserKey, ResidentRow>,
    pub(super) rules: RowRules,
    max_users: usize,
    /// Rows of each sort, resident or not.
    n_users: AtomicUsize,
    n_tombstones: AtomicUsize,
    n_redirects: AtomicUsize,
    /// Resident rows, counted apart: `DashMap::len` takes every shard's lock.
    n_resident: AtomicUsize,
}

impl Resident {
    /// Returns an empty map, beside rows that are stored elsewhere.
    pub(super) fn new(rules: RowRules, max_users: usize, elsewhere: Counts) -> Self {
        let Counts { n_users, n_tombstones, n_redirects } = elsewhere;
        Self {
            rows: DashMap::with_shard_amount(SHARDS),
            rules,
            max_users,
            n_users: AtomicUsize::new(n_users),
            n_tombstones: AtomicUsize::new(n_tombstones),
            n_redirects: AtomicUsize::new(n_redirects),
            n_resident: AtomicUsize::new(0),
        }
    }

    /// Makes a change. `load` reads a row that is not resident; `keep` is called if the row changes, before another
    /// thread can see the row, and returns the change's position.
    ///
    /// # Errors
    /// Those of `load`, unless they concern this row alone. The row is unchanged then.
    pub(super) fn change(
        &self,
        change: &Change,
        load: impl FnOnce() -> Result<Option<StoredRow>, StoreError>,
        keep: impl FnOnce(Outcome) -> u64,
    ) -> Result<Outcome, StoreError> {
        match self.rows.entry(change.user) {
            Entry::Occupied(mut row) => {
                let row = row.get_mut();
                row.is_used();
                let before = readable(self.decode(change.user, &row.bytes))?;
                let (outcome, after) = self.changed(false, before, change);
                if let Some(bytes) = after {
                    *row = ResidentRow::new(StoredRow { lsn: keep(outcome), bytes });
                }
                Ok(outcome)
            }
            Entry::Vacant(slot) => {
                let loaded = readable(load())?;
                let before = match &loaded {
                    Some(Some(held)) => readable(self.decode(change.user, &held.bytes))?,
                    Some(None) => Some(Row::new(self.rules.n_heads)),
                    None => None,
                };
                let (outcome, after) = self.changed(matches!(loaded, Some(None)), before, change);
                let held =
                    after.map(|bytes| StoredRow { lsn: keep(outcome), bytes }).or_else(|| loaded.flatten());
                if let Some(held) = held {
                    self.n_resident.fetch_add(1, Ordering::Relaxed);
                    slot.insert(ResidentRow::new(held));
                }
                Ok(outcome)
            }
        }
    }

    /// Replays a change, if the row does not contain it yet. A row that can be read is resident; `unreadable` is the
    /// error of one that can't be read.
    pub(super) fn replay(
        &self,
        change: &Change,
        lsn: u64,
        unreadable: Option<StoreError>,
    ) -> Result<(), StoreError> {
        if self.rows.get(&change.user).is_none_or(|row| row.lsn() < lsn) {
            let outcome = self.change(change, || unreadable.map_or(Ok(None), Err), |_| lsn)?;
            if outcome == Outcome::Unreadable
                && let Some(held) = self.peek(change.user)
            {
                // The change was acked, and would be lost without an error.
                self.decode(change.user, &held.bytes)?;
            }
        }
        Ok(())
    }

    /// Sets the rules of later changes, and the upper bound of users.
    pub(super) fn rule(&mut self, rules: RowRules, max_users: usize) {
        (self.rules, self.max_users) = (rules, max_users);
    }

    /// Returns the outcome of the change, and the bytes of the row after it, if it changed. `before` is none for a
    /// row that can't be read.
    fn changed(&self, is_new: bool, before: Option<Row>, change: &Change) -> (Outcome, Option<Box<[u8]>>) {
        // Few tombstones are kept, so a row that can't be read counts as a user's.
        let was = if is_new { None } else { Some(before.as_ref().map_or(Sort::User, Row::sort)) };
        let Some(mut row) = before.or_else(|| change.in_place_of_unreadable(self.rules.n_heads)) else {
            return (Outcome::Unreadable, None);
        };
        let outcome = row.change(change, &self.rules);
        if !outcome.changes_the_row() {
            return (outcome, None);
        }
        // Room is checked last, so that a change that adds no row keeps its own outcome.
        let is = row.sort();
        if was != Some(is) {
            if !change.kind.is_of_a_merge_under_way() && !self.has_room(was, is) {
                return (Outcome::Full { max_users: self.max_users }, None);
            }
            self.number(is).fetch_add(1, Ordering::Relaxed);
            was.iter().for_each(|&was| self.less(was, 1));
        }
        (outcome, Some(codec::encode(&row)))
    }

    /// Reports whether there is room for a row whose sort changes from `was` to `is`. Any client can take back or
    /// erase under ids that no user has: at most `max_users` tombstones are added for such ids, and a new user finds
    /// fewer than twice `max_users` users and tombstones together. A user always becomes a tombstone, as that adds no
    /// row. Redirects stay until they are erased, so that they are counted apart, up to `max_users`.
    fn has_room(&self, was: Option<Sort>, is: Sort) -> bool {
        let n = |sort| self.number(sort).load(Ordering::Relaxed);
        let n_others = || n(Sort::User) + n(Sort::Tombstone);
        match is {
            Sort::User => {
                n(is) < self.max_users && (was.is_some() || n_others() < self.max_users.saturating_mul(2))
            }
            Sort::Tombstone => was.is_some() || n(is) < self.max_users,
            Sort::Redirect => n(is) < self.max_users,
        }
    }

    fn number(&self, sort: Sort) -> &AtomicUsize {
        match sort {
            Sort::User => &self.n_users,
            Sort::Tombstone => &self.n_tombstones,
            Sort::Redirect => &self.n_redirects,
        }
    }

    /// Subtracts rows that are gone from the number of their sort.
    fn less(&self, sort: Sort, n_rows: usize) {
        let less = |n: usize| Some(n.saturating_sub(n_rows));
        // The update can't fail, as its function always returns a value.
        _ = self.number(sort).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Subtracts tombstones that are gone from their number.
    pub(super) fn forgot(&self, n_tombstones: usize) {
        self.less(Sort::Tombstone, n_tombstones);
    }

    /// Returns a resident row, and marks it as used.
    pub(super) fn get(&self, user: UserKey) -> Option<StoredRow> {
        self.rows.get(&user).map(|row| {
            row.is_used();
            row.held()
        })
    }

    /// Returns a resident row as [`Resident::get`] does, without marking it as used.
    pub(super) fn peek(&self, user: UserKey) -> Option<StoredRow> {
        self.rows.get(&user).map(|row| row.held())
    }

    /// Returns a row, which becomes resident if `load` finds it.
    pub(super) fn get_or_load(
        &self,
        user: UserKey,
        load: impl FnOnce() -> Result<Option<StoredRow>, StoreError>,
    ) -> Result<Option<StoredRow>, StoreError> {
        match self.rows.entry(user) {
            Entry::Occupied(row) => Ok(Some(row.get().held())),
            // The load runs under the lock: a row loaded before another thread changed and evicted it would be
            // outdated.
            Entry::Vacant(slot) => {
                let held = load()?;
                if let Some(held) = held.clone() {
                    self.n_resident.fetch_add(1, Ordering::Relaxed);
                    slot.insert(ResidentRow::new(held));
                }
                Ok(held)
            }
        }
    }

    pub(super) fn decode(&self, user: UserKey, bytes: &[u8]) -> Result<Row, StoreError> {
        codec::decode(bytes, self.rules.n_heads).map_err(|source| StoreError::Row { user, source })
    }

    /// Calls `look` with the key, the position and the bytes of every resident row.
    pub(super) fn for_each(&self, mut look: impl FnMut(UserKey, u64, &[u8])) {
        for row in &self.rows {
            look(*row.key(), row.lsn(), &row.bytes);
        }
    }

    /// Evicts rows until at most `max_rows` are left: first those that were not used since the last eviction, then
    /// any. Only rows whose position `may_go` are evicted.
    pub(super) fn evict(&self, max_rows: usize, may_go: impl Fn(u64) -> bool) {
        for spare_used in [true, false] {
            let surplus = self.len().saturating_sub(max_rows);
            if surplus == 0 {
                return;
            }
            let mut n_left = surplus;
            self.rows.retain(|_, row| {
                let is_used = row.was_used() && spare_used;
                let goes = n_left > 0 && !is_used && may_go(row.lsn());
                n_left -= usize::from(goes);
                !goes
            });
            self.n_resident.fetch_sub(surplus - n_left, Ordering::Relaxed);
        }
    }

    /// Drops a row if `may_go`, and reports whether it did.
    pub(super) fn drop_if(&self, user: UserKey, may_go: impl FnOnce(u64, &[u8]) -> bool) -> bool {
        let dropped = self.rows.remove_if(&user, |_, row| may_go(row.lsn(), &row.bytes)).is_some();
        self.n_resident.fetch_sub(usize::from(dropped), Ordering::Relaxed);
        dropped
    }

    /// Returns the `n` smallest keys of resident users with feedback, and their rows.
    pub(super) fn smallest(&self, n: usize) -> BTreeMap<UserKey, Row> {
        let mut kept: BTreeMap<UserKey, Row> = BTreeMap::new();
        for row in &self.rows {
            let key = *row.key();
            if kept.len() == n && kept.last_key_value().is_none_or(|(largest, _)| key > *largest) {
                continue;
            }
            if let Ok(row) = codec::decode(&row.value().bytes, self.rules.n_heads)
                && row.sort() == Sort::User
            {
                kept.insert(key, row);
            }
            if kept.len() > n {
                kept.pop_last();
            }
        }
        kept
    }

    pub(super) fn contains(&self, user: UserKey) -> bool {
        self.rows.contains_key(&user)
    }

    pub(super) fn len(&self) -> usize {
        self.n_resident.load(Ordering::Relaxed)
    }

    pub(super) fn n_users(&self) -> usize {
        self.n_users.load(Ordering::Relaxed)
    }
}
