//! Accounts: ids that were merged into another id, whose events and requests apply to its row.
//!
//! A merge that was interrupted after the departure is completed before the next read of either row, or change of the
//! row that departed.

use std::sync::Arc;

use super::merge::{Absorbed, Departure, MergeStep};
use super::{Change, ChangeKind, EventKey, Outcome, Row, RowRead, StoreError, UserKey, UserStore, readable};
use crate::types::{Clock, UserId};

/// A store whose redirects are followed.
#[derive(Debug)]
pub struct Accounts {
    store: Arc<dyn UserStore>,
    clock: Arc<dyn Clock>,
    /// Lock for one merge or erasure at a time: each touches more than one row.
    turn: tokio::sync::Mutex<()>,
}

/// Reasons for which two users are not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The store can't be reached or written; a retry resumes where this attempt ended.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The account is this id, or has itself been merged into it.
    #[error("the account has been merged into this id")]
    Cycle,
    /// The id has been merged into another account.
    #[error("the id has been merged into another account")]
    Elsewhere,
    /// The account has absorbed as many ids as its row can hold.
    #[error("the account has absorbed {max} ids, and can't remember more")]
    TooMany {
        /// Upper bound of absorbed ids.
        max: usize,
    },
    /// The store has no room for the id's redirect, or for a row of the account.
    #[error("there is no room for another id beside {max_users}")]
    Full {
        /// Upper bound of users, and of redirects.
        max_users: usize,
    },
    /// The engine can't safely change two rows together.
    #[error("this engine does not merge users")]
    NotSupported,
}

/// Result of an erasure.
#[derive(Debug)]
pub struct Erasure {
    /// The user's row before the erasure; an error for a row that can't be read.
    pub before: Result<Option<Row>, StoreError>,
    /// Outcome of the erasure in the store.
    pub outcome: Outcome,
    /// Keys of the erased users: the user's own, and those of the ids that were merged into it.
    pub erased: Vec<UserKey>,
}

impl Accounts {
    /// Returns the accounts of a store.
    pub fn new(store: Arc<dyn UserStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, turn: tokio::sync::Mutex::default() }
    }

    /// Returns the store itself.
    pub fn store(&self) -> &Arc<dyn UserStore> {
        &self.store
    }

    /// Makes changes as [`UserStore::change`] does, those of a merged id on its account's row. An import under a
    /// merged id gets [`Outcome::Moved`].
    ///
    /// # Errors
    /// As [`UserStore::change`].
    pub async fn change(&self, mut changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        if !self.store.can_merge() {
            return self.store.change(changes).await;
        }
        let mut outcomes = self.store.change(changes.clone()).await?;
        loop {
            let follows = |idx: &usize| {
                matches!(outcomes[*idx], Outcome::Moved)
                    && !matches!(changes[*idx].kind, ChangeKind::Import(_))
            };
            let moved: Vec<usize> = (0..outcomes.len().min(changes.len())).filter(follows).collect();
            if moved.is_empty() {
                return Ok(outcomes);
            }
            let mut again = Vec::with_capacity(moved.len());
            let mut sent = Vec::with_capacity(moved.len());
            for idx in moved {
                match readable(self.redirect(&mut changes[idx]).await)? {
                    Some(()) => {
                        again.push(changes[idx].clone());
                        sent.push(idx);
                    }
                    None => outcomes[idx] = Outcome::Unreadable,
                }
            }
            for (idx, outcome) in sent.into_iter().zip(self.store.change(again).await?) {
                outcomes[idx] = outcome;
            }
        }
    }

    /// Takes an event back as [`UserStore::retract`] does, from the account's row.
    ///
    /// # Errors
    /// As [`UserStore::retract`].
    pub async fn retract(&self, user: UserKey, key: EventKey, now_ms: i64) -> Result<Outcome, StoreError> {
        let mut user = user;
        loop {
            let outcome = self.store.retract(user, key, now_ms).await?;
            if outcome != Outcome::Moved {
                return Ok(outcome);
            }
            user = self.end_of(user).await?;
        }
    }

    /// Reads the account's row as [`UserStore::get`] does.
    ///
    /// # Errors
    /// As [`UserStore::get`].
    pub async fn get(&self, user: UserKey, min_version: u64) -> Result<RowRead, StoreError> {
        let mut user = user;
        loop {
            let reading = self.store.get(user, min_version).await?;
            let Some(row) = &reading.row else { return Ok(reading) };
            let is_under_way =
                !row.merges.expected.is_empty() || row.merges.moved().is_some_and(|moved| !moved.is_done);
            if is_under_way {
                let _turn = self.turn.lock().await;
                self.finish(user, self.clock.now().as_millisecond()).await?;
                continue;
            }
            match row.merges.moved() {
                Some(moved) => user = moved.into,
                None => return Ok(reading),
            }
        }
    }

    /// Returns the id of the account that a user was merged into; none for a user who was not merged.
    ///
    /// # Errors
    /// As [`UserStore::get`].
    pub async fn account_of(&self, user: &UserId) -> Result<Option<UserId>, StoreError> {
        let mut account = None;
        if !self.store.can_merge() {
            return Ok(account);
        }
        let keys = self.store.keys();
        loop {
            let user = account.as_ref().unwrap_or(user);
            let row = self.store.get(keys.of(user), 0).await?.row;
            let moved = row.as_ref().and_then(|row| row.merges.moved());
            match moved.and_then(|moved| moved.account(&keys, user)) {
                Some(next) => account = Some(next),
                None => return Ok(account),
            }
        }
    }

    /// Makes `from` an id of `into`, with all its events; a repeated merge changes nothing. Returns the account,
    /// which differs from `into` where that was itself merged.
    ///
    /// # Errors
    /// See [`MergeError`].
    pub async fn merge(&self, from: &UserId, into: &UserId, now_ms: i64) -> Result<UserId, MergeError> {
        if !self.store.can_merge() {
            return Err(MergeError::NotSupported);
        }
        let _turn = self.turn.lock().await;
        let account = self.account_of(into).await?.unwrap_or_else(|| into.clone());
        let (source, target) = (self.store.keys().of(from), self.store.keys().of(&account));
        if source == target {
            return Err(MergeError::Cycle);
        }
        for user in [target, source] {
            self.finish(user, now_ms).await?;
        }
        if let Some(other) = self.account_of(from).await? {
            return if other == account { Ok(account) } else { Err(MergeError::Elsewhere) };
        }
        match self.step(target, MergeStep::Expect(source), now_ms).await? {
            Outcome::Crowded { max_events, .. } => return Err(MergeError::TooMany { max: max_events }),
            Outcome::Full { max_users } => return Err(MergeError::Full { max_users }),
            _ => {}
        }
        let departure = Departure::new(&self.store.keys(), from, &account, now_ms);
        if let Outcome::Full { max_users } = self.step(source, MergeStep::Depart(departure), now_ms).await? {
            self.step(target, MergeStep::Forgo(source), now_ms).await?;
            return Err(MergeError::Full { max_users });
        }
        self.finish(source, now_ms).await?;
        Ok(account)
    }

    /// Repeats a departure that was made before, and completes its merge.
    ///
    /// # Errors
    /// As [`UserStore::change`].
    pub async fn depart(&self, change: Change) -> Result<(), StoreError> {
        let (user, now_ms) = (change.user, change.now_ms);
        let _turn = self.turn.lock().await;
        self.store.change(vec![change]).await?;
        self.finish(user, now_ms).await
    }

    /// Erases a user and the ids that were merged into it. An account that the user was itself merged into keeps the
    /// evidence that it absorbed. Returns the row under this id from before the erasure.
    ///
    /// # Errors
    /// As [`UserStore::change`].
    pub async fn erase(&self, user: UserKey, now_ms: i64) -> Result<Erasure, StoreError> {
        let _turn = self.turn.lock().await;
        let erase = |user| Change { user, now_ms, kind: ChangeKind::Erase };
        // An unreadable row of a merge must not prevent this erasure.
        readable(self.finish(user, now_ms).await)?;
        let before = match self.store.get(user, 0).await {
            Ok(reading) => Ok(reading.row),
            Err(error) if error.is_of_one_row() => Err(error),
            Err(error) => return Err(error),
        };
        // The user is erased last, so that a retry of an interrupted erasure still finds the other ids.
        let (mut departed, mut erased) = (Vec::new(), vec![user]);
        if before.is_err() {
            let ids = self.store.ids_of(user).await?;
            tracing::warn!(%user, ids = ids.len(), "the row can't be read: the ids that lead to it are erased with it");
            for from in ids {
                erased.push(from);
                let outcome = self.one(erase(from)).await?;
                departed.extend((outcome == Outcome::Moved).then_some(from));
            }
        }
        let row = before.as_ref().ok().and_then(Option::as_ref);
        for (from, key) in row.iter().flat_map(|row| &row.merges.absorbed) {
            let other = readable(self.store.get(*from, 0).await)?.map(|other| other.row);
            let is_of_this_merge = |row: &Row| row.merges.moved().is_some_and(|moved| moved.key == *key);
            match other {
                // The id was erased since, perhaps by an interrupted erasure of this user.
                Some(None) => {}
                Some(Some(row)) if row.is_tombstone() && !row.is_moved() => {}
                // The id has a row of its own again, or departed in another merge.
                Some(Some(row)) if !is_of_this_merge(&row) => continue,
                // A row that can't be read is erased to be sure.
                Some(Some(_)) | None => _ = self.one(erase(*from)).await?,
            }
            erased.push(*from);
        }
        let outcome = self.one(erase(user)).await?;
        // The new row absorbs the evidence of a merge that was under way, and is erased with it.
        for from in departed {
            self.finish(from, now_ms).await?;
            for user in [from, user] {
                self.one(erase(user)).await?;
            }
        }
        Ok(Erasure { before, outcome, erased })
    }

    /// Redirects a change to the account, and its resolved feedback to the account's id.
    async fn redirect(&self, change: &mut Change) -> Result<(), StoreError> {
        change.user = self.end_of(change.user).await?;
        if let ChangeKind::Add(event) = &mut change.kind
            && let Some(resolved) = &mut event.resolved
            && let Some(account) = self.account_of(&resolved.user).await?
        {
            Arc::make_mut(resolved).user = account;
        }
        Ok(())
    }

    /// Returns the key of the account at the end of a row's redirects.
    async fn end_of(&self, mut user: UserKey) -> Result<UserKey, StoreError> {
        loop {
            let row = self.store.get(user, 0).await?.row;
            match row.as_ref().and_then(|row| row.merges.moved()) {
                Some(moved) if moved.is_done => user = moved.into,
                Some(_) => {
                    let _turn = self.turn.lock().await;
                    self.finish(user, self.clock.now().as_millisecond()).await?;
                }
                None => return Ok(user),
            }
        }
    }

    /// Completes the merges that a row is part of. The caller holds `turn`.
    async fn finish(&self, user: UserKey, now_ms: i64) -> Result<(), StoreError> {
        let Some(row) = self.store.get(user, 0).await?.row else { return Ok(()) };
        for from in &row.merges.expected {
            let source = self.store.get(*from, 0).await?.row;
            match source.as_ref().and_then(|source| source.departed(*from)) {
                Some((into, absorbed)) if into == user => self.absorb(into, absorbed, now_ms).await?,
                // The row never departed, so no evidence has moved and no caller has an ack of the merge.
                _ => _ = self.step(user, MergeStep::Forgo(*from), now_ms).await?,
            }
        }
        match row.departed(user) {
            Some((into, absorbed)) => self.absorb(into, absorbed, now_ms).await,
            None => Ok(()),
        }
    }

    async fn absorb(&self, into: UserKey, absorbed: Absorbed, now_ms: i64) -> Result<(), StoreError> {
        let from = absorbed.from;
        let (redirects, vacate) = absorbed.last_steps(into);
        match self.step(into, MergeStep::Absorb(Box::new(absorbed)), now_ms).await? {
            Outcome::Applied(_) | Outcome::Duplicate(_) => {}
            // The account has not absorbed the evidence, so the row must keep it.
            outcome => {
                self.store.get(into, 0).await?;
                let source = format!("an account did not take the evidence of another id: {outcome:?}");
                return Err(StoreError::Merge(source.into()));
            }
        }
        for (user, redirect) in redirects {
            self.step(user, redirect, now_ms).await?;
        }
        self.step(from, vacate, now_ms).await?;
        Ok(())
    }

    async fn step(&self, user: UserKey, step: MergeStep, now_ms: i64) -> Result<Outcome, StoreError> {
        self.one(Change { user, now_ms, kind: ChangeKind::Merge(step) }).await
    }

    async fn one(&self, change: Change) -> Result<Outcome, StoreError> {
        Ok(self
            .store
            .change(vec![change])
            .await?
            .first()
            .copied()
            .unwrap_or(Outcome::Unknown { is_news: false }))
    }
}
