//! One person under two ids: how one row goes over into another.
//!
//! A merge is a few changes of two rows, each atomic, and without effect when it is made again. The account expects what is
//! to come; the other row departs: it keeps what it holds and takes nothing more; the account absorbs that; the other row is
//! emptied, and tells where everything goes from then on. A kill in between leaves what `Accounts` finishes.
//!
//! The law: what was said counts as if all of it had been said under the account's id. An event that came under both counts
//! once, and one that was taken back under either does not.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::recent::{Added, Mark, Recent};
use super::{Answered, EventKey, Outcome, Row, Rules, UserKey};
use crate::mixture::Ledgers;
use crate::types::UserId;

/// Ids that one account may have absorbed: 24 bytes each in its row.
pub(super) const MAX_ABSORBED: usize = 1024;

/// What the mask of a name is made for.
const MASK: &str = "micro-reward: the id of the account that an id was merged into";

/// What a row has to do with others; nothing for most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merges {
    moved: Option<Moved>,
    /// Rows that are about to be absorbed.
    pub(super) expected: Vec<UserKey>,
    /// Rows that were, each with the key of its merge.
    pub(super) absorbed: Vec<(UserKey, u64)>,
}

/// Where what is said under an id goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    pub(super) into: UserKey,
    /// Names this merge.
    pub(super) key: u64,
    /// Whether the account has everything.
    pub(super) is_done: bool,
    /// The account's id when it was merged, masked by the id of this row, which is not kept: a row names nobody.
    name: Box<[u8]>,
}

/// A step of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeStep {
    /// The account expects this row.
    Expect(UserKey),
    /// The account does not expect it any more.
    Forgo(UserKey),
    /// The row takes nothing more, and what is said goes to the account.
    Depart(Departure),
    /// The account takes what a row holds.
    Absorb(Box<Absorbed>),
    /// The account that a row goes to has itself gone to another.
    Redirect {
        /// Where the row has gone.
        from: UserKey,
        /// Where that has gone.
        into: UserKey,
    },
    /// The row is emptied, as the account has what it held in the merge with this key.
    Vacate(u64),
}

/// A row's way to its account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// The account.
    pub into: UserKey,
    key: u64,
    name: Box<[u8]>,
    /// The account's id, for exports.
    pub account: UserId,
}

impl MergeStep {
    /// The keys of other users in it.
    pub(crate) fn others(&mut self) -> Vec<&mut UserKey> {
        match self {
            Self::Expect(from) | Self::Forgo(from) => vec![from],
            Self::Depart(departure) => vec![&mut departure.into],
            Self::Absorb(absorbed) => {
                let Absorbed { from, absorbed, .. } = &mut **absorbed;
                std::iter::once(from).chain(absorbed.iter_mut().map(|(user, _)| user)).collect()
            }
            Self::Redirect { from, into } => vec![from, into],
            Self::Vacate(_) => Vec::new(),
        }
    }
}

impl Departure {
    /// The way of the row of `user` to `account`, at this time.
    #[must_use]
    pub fn new(user: &UserId, account: &UserId, into: UserKey, now_ms: i64) -> Self {
        let named = [user.as_str(), "\0", account.as_str(), "\0", &now_ms.to_string()].concat();
        let key = crate::types::key64(named.as_bytes());
        let name = masked(account.as_str().as_bytes(), user, key);
        Self { into, key, name, account: account.clone() }
    }
}

/// What a row held when it departed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absorbed {
    /// Whose row it was.
    pub from: UserKey,
    key: u64,
    /// Its evidence.
    pub ledgers: Ledgers,
    answered: Answered,
    horizon_ms: Option<i64>,
    recent: Recent,
    absorbed: Vec<(UserKey, u64)>,
}

impl Merges {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn moved(&self) -> Option<&Moved> {
        self.moved.as_ref()
    }
}

impl Moved {
    /// The id of the account as it was when the row of this user was merged.
    pub(super) fn account(&self, user: &UserId) -> Option<UserId> {
        let name = masked(&self.name, user, self.key).into_vec();
        UserId::try_from(String::from_utf8(name).ok()?).ok()
    }
}

/// Masks a name, or lifts the mask.
fn masked(name: &[u8], user: &UserId, key: u64) -> Box<[u8]> {
    let mut mask = vec![0; name.len()];
    let mut hasher = blake3::Hasher::new_derive_key(MASK);
    hasher.update(&key.to_le_bytes()).update(user.as_str().as_bytes()).finalize_xof().fill(&mut mask);
    mask.iter().zip(name).map(|(mask, byte)| mask ^ byte).collect()
}

impl Row {
    /// Whether what is said under this id counts for an account.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.merges.moved.is_some()
    }

    /// What the row held when it departed, if it is not absorbed yet, and its way.
    pub(super) fn departed(&self, from: UserKey) -> Option<(UserKey, Absorbed)> {
        let Moved { into, key, .. } = self.merges.moved().filter(|moved| !moved.is_done)?;
        let absorbed = Absorbed {
            from,
            key: *key,
            ledgers: self.ledgers.clone(),
            answered: self.answered.clone(),
            horizon_ms: self.horizon_ms,
            recent: self.recent.clone(),
            absorbed: self.merges.absorbed.clone(),
        };
        Some((*into, absorbed))
    }

    /// Makes one step of a merge.
    pub(super) fn step(&mut self, step: &MergeStep, now_ms: i64, rules: &Rules) -> Outcome {
        let merges = &mut self.merges;
        match step {
            MergeStep::Expect(from) if !merges.expected.contains(from) => {
                if merges.expected.len() + merges.absorbed.len() >= MAX_ABSORBED {
                    // They do not age.
                    return Outcome::Crowded { max_events: MAX_ABSORBED, until_ms: i64::MAX };
                }
                merges.expected.push(*from);
            }
            MergeStep::Forgo(from) if merges.expected.contains(from) => {
                merges.expected.retain(|expected| expected != from);
            }
            MergeStep::Depart(Departure { into, key, name, .. }) if merges.moved.is_none() => {
                merges.expected.clear();
                let moved = Moved { into: *into, key: *key, is_done: false, name: name.clone() };
                merges.moved = Some(moved);
            }
            MergeStep::Absorb(absorbed) if !merges.absorbed.contains(&(absorbed.from, absorbed.key)) => {
                self.absorb(absorbed, now_ms, rules);
            }
            MergeStep::Redirect { from, into } => match &mut merges.moved {
                Some(moved) if moved.is_done && moved.into == *from => moved.into = *into,
                _ => return Outcome::Duplicate(self.version),
            },
            MergeStep::Vacate(key) => match &mut merges.moved {
                Some(moved) if moved.key == *key && !moved.is_done => {
                    moved.is_done = true;
                    self.ledgers = Ledgers::new(rules.n_heads);
                    self.answered = Answered::default();
                    self.recent = Recent::default();
                }
                _ => return Outcome::Duplicate(self.version),
            },
            _ => return Outcome::Duplicate(self.version),
        }
        self.applied()
    }

    fn absorb(&mut self, theirs: &Absorbed, now_ms: i64, rules: &Rules) {
        self.ledgers.merge(&theirs.ledgers, rules.decay);
        theirs.answered.iter().for_each(|key| self.answered.insert(key));
        self.horizon_ms = self.horizon_ms.max(theirs.horizon_ms);
        let mut mine: HashMap<EventKey, (Mark, i64, Option<Added>)> = HashMap::new();
        for frame in self.recent.iter() {
            mine.entry(frame.key).or_insert_with(|| (frame.mark, frame.at_ms, frame.added()));
        }
        let is_taken_back = |mark| matches!(mark, Mark::Retracted | Mark::Sought);
        for frame in theirs.recent.iter() {
            let mut subtract = |added: &Added, at_ms: i64| {
                self.ledgers.subtract(added.context, &added.increment, at_ms, rules.decay);
            };
            let added = frame.added();
            match (mine.get(&frame.key), &added) {
                (None, _) => self.recent.keep(&frame),
                // Only its undo came here, or it was sent to both.
                (Some((mark, ..)), Some(added)) if is_taken_back(*mark) => subtract(added, frame.at_ms),
                (Some((_, _, Some(own))), Some(added)) if own == added => subtract(added, frame.at_ms),
                (Some((_, _, Some(_))), Some(_)) => self.recent.keep(&frame),
                (Some((_, _, None)), Some(_)) => {
                    self.recent.forget(frame.key);
                    self.recent.keep(&frame);
                }
                (Some((_, at_ms, Some(own))), None) if is_taken_back(frame.mark) => {
                    subtract(own, *at_ms);
                    self.recent.retract(frame.key);
                }
                (Some(_), None) => {}
            }
        }
        self.forget(now_ms, rules);
        self.merges.expected.retain(|expected| *expected != theirs.from);
        self.merges.absorbed.retain(|(user, _)| *user != theirs.from);
        self.merges.absorbed.push((theirs.from, theirs.key));
        for (user, key) in &theirs.absorbed {
            if !self.merges.absorbed.iter().any(|(known, _)| known == user) {
                self.merges.absorbed.push((*user, *key));
            }
        }
    }
}

impl Absorbed {
    /// The step after which the row is a redirect, and those after which all that had gone to it goes on.
    pub(super) fn last_steps(&self, into: UserKey) -> (Vec<(UserKey, MergeStep)>, MergeStep) {
        let redirect = MergeStep::Redirect { from: self.from, into };
        let redirects = self.absorbed.iter().map(|(user, _)| (*user, redirect.clone())).collect();
        (redirects, MergeStep::Vacate(self.key))
    }
}
