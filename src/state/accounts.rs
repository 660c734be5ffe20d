//! The users of a store as people: ids that were merged into an account are that account.
//!
//! What is said under such an id, and what is asked, goes to the account. A merge that was begun is finished by whoever
//! comes next, before anything else of the two rows is read or changed.

use std::sync::Arc;

use super::merge::{Absorbed, Departure, MergeStep};
use super::{Change, ChangeKind, EventKey, Outcome, Row, RowRead, StoreError, UserKey, UserStore, readable};
use crate::types::{Clock, UserId};

/// A store, its redirects followed.
#[derive(Debug)]
pub struct Accounts {
    store: Arc<dyn UserStore>,
    clock: Arc<dyn Clock>,
    /// One merge, or erasure, at a time: together they touch more than one row.
    turn: tokio::sync::Mutex<()>,
}

/// Why two users were not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The store can't be reached or written now; trying again goes on where this ended.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The account has itself been merged into the other id.
    #[error("the account has been merged into this id")]
    Cycle,
    /// The id belongs to another account.
    #[error("the id has been merged into another account")]
    Elsewhere,
    /// The account has absorbed as many ids as its row can remember.
    #[error("the account has absorbed {max} ids, and can't remember more")]
    TooMany {
        /// How many it can.
        max: usize,
    },
    /// There is no room to note where what is said under the id goes.
    #[error("there is no room for another id beside {max_users}")]
    Full {
        /// How many there is room for.
        max_users: usize,
    },
    /// The engine keeps rows where two can't be changed safely together.
    #[error("this engine does not merge users")]
    NotSupported,
}

/// What became of an erasure.
#[derive(Debug)]
pub struct Erasure {
    /// What was known of the user under the id; an error for a row that can't be read.
    pub before: Result<Option<Row>, StoreError>,
    /// What the store made of it.
    pub outcome: Outcome,
    /// Of whom nothing is known any more: the user, and the ids that were merged into it.
    pub erased: Vec<UserKey>,
}

impl Accounts {
    /// The users of this store.
    pub fn new(store: Arc<dyn UserStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, turn: tokio::sync::Mutex::default() }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn UserStore> {
        &self.store
    }

    /// As [`UserStore::change`]. An import is not for an id that was merged, and is answered with [`Outcome::Moved`].
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

    /// As [`UserStore::retract`].
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

    /// As [`UserStore::get`], of the account.
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

    /// The account that a user was merged into, by its id; none for somebody who was not.
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

    /// Makes `from` an id of `into`, with all that was said under it. Again, it changes nothing. The account, which is
    /// another one where `into` was itself merged.
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

    /// Makes a departure that was made before, and what followed it.
    ///
    /// # Errors
    /// As [`UserStore::change`].
    pub async fn depart(&self, change: Change) -> Result<(), StoreError> {
        let (user, now_ms) = (change.user, change.now_ms);
        let _turn = self.turn.lock().await;
        self.store.change(vec![change]).await?;
        self.finish(user, now_ms).await
    }

    /// Forgets a user, and the ids that were merged into it. The account that it was itself merged into keeps what counts for
    /// it. What was known of the user under this id.
    ///
    /// # Errors
    /// As [`UserStore::change`].
    pub async fn erase(&self, user: UserKey, now_ms: i64) -> Result<Erasure, StoreError> {
        let _turn = self.turn.lock().await;
        let erase = |user| Change { user, now_ms, kind: ChangeKind::Erase };
        // Whatever row can't be read, this one can be erased.
        readable(self.finish(user, now_ms).await)?;
        let before = match self.store.get(user, 0).await {
            Ok(reading) => Ok(reading.row),
            Err(error) if error.is_of_one_row() => Err(error),
            Err(error) => return Err(error),
        };
        // The user last, so that an erasure that was interrupted still knows of the others.
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
                // The id was forgotten since, perhaps by an erasure of this user that was interrupted.
                Some(None) => {}
                Some(Some(row)) if row.is_tombstone() && !row.is_moved() => {}
                // It is somebody else's.
                Some(Some(row)) if !is_of_this_merge(&row) => continue,
                // What can't be read goes to be sure.
                Some(Some(_)) | None => _ = self.one(erase(*from)).await?,
            }
            erased.push(*from);
        }
        let outcome = self.one(erase(user)).await?;
        // What was on its way to the row arrives at the new one, and goes with it.
        for from in departed {
            self.finish(from, now_ms).await?;
            for user in [from, user] {
                self.one(erase(user)).await?;
            }
        }
        Ok(Erasure { before, outcome, erased })
    }

    /// Leads a change to the account, by whose id what was said is kept.
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

    /// The key of the account that a row has gone to.
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

    /// Finishes what was begun with a row. Only for who has the turn.
    async fn finish(&self, user: UserKey, now_ms: i64) -> Result<(), StoreError> {
        let Some(row) = self.store.get(user, 0).await?.row else { return Ok(()) };
        for from in &row.merges.expected {
            let source = self.store.get(*from, 0).await?.row;
            match source.as_ref().and_then(|source| source.departed(*from)) {
                Some((into, absorbed)) if into == user => self.absorb(into, absorbed, now_ms).await?,
                // It never departed, so that nothing has moved and nobody was told that it had.
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
            // The account does not have it, and the row must not let go of it.
            outcome => {
                self.store.get(into, 0).await?;
                let source = format!("an account did not take what was said under another id: {outcome:?}");
                return Err(StoreError::Unreachable { engine: "embedded", source: Some(source.into()) });
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
