//! Merges of two ids of one user, as steps that move one row into another.
//!
//! A merge is a few changes of two rows, each atomic, and without effect when it is repeated. The account expects the
//! row; the other row departs: it keeps its content and takes nothing more; the account absorbs that content; the
//! other row is emptied, and redirects to the account from then on. `Accounts` completes a merge that a kill
//! interrupted.
//!
//! The law: events count as if all of them had come under the account's id. An event that came under both ids counts
//! once, and one that was taken back under either does not count.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::recent::{Added, Frame, Recent};
use super::{Answered, EventKey, Outcome, Row, RowRules, UserKey, UserKeys};
use crate::mixture::Ledgers;
use crate::types::UserId;

/// Ids that one account may have absorbed, at 24 bytes each in its row.
pub(super) const MAX_ABSORBED: usize = 1024;

/// Purposes of two hashes, the mask of a name and the key of a merge. Both depend on the store's secret, so that a
/// reader of its files learns no name by trying ids.
const OF_MASK: &str = "micro-reward: the id of the account that an id was merged into";
const OF_MERGE: &str = "micro-reward: the key of a merge";

/// Relations of a row to other rows; none for most rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merges {
    moved: Option<Moved>,
    /// Rows that are about to be absorbed.
    pub(super) expected: Vec<UserKey>,
    /// Rows that have been absorbed, each with the key of its merge.
    pub(super) absorbed: Vec<(UserKey, u64)>,
}

/// Redirect of a row to its account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    pub(super) into: UserKey,
    /// Key of this merge.
    pub(super) key: u64,
    /// True once the account has absorbed all of the row.
    pub(super) is_done: bool,
    /// The account's id at the time of the merge, masked by the store's secret and by the id of this row, which is
    /// not stored: a row names no user.
    name: Box<[u8]>,
}

/// A step of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeStep {
    /// The account expects this row.
    Expect(UserKey),
    /// The account does not expect this row any longer.
    Forgo(UserKey),
    /// The row departs: it takes nothing more, and its events apply to the account.
    Depart(Departure),
    /// The account absorbs the content of a row.
    Absorb(Box<Absorbed>),
    /// The account that a row redirects to has itself been merged into another.
    Redirect {
        /// Key of the account that the row redirects to.
        from: UserKey,
        /// Key of the account that this one was merged into.
        into: UserKey,
    },
    /// The row is emptied, as the account has absorbed its content in the merge with this key.
    Vacate(u64),
}

/// Departure of a row to its account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// Key of the account.
    pub into: UserKey,
    key: u64,
    name: Box<[u8]>,
    /// The account's id, for exports.
    pub account: UserId,
}

impl MergeStep {
    /// Returns the keys of other users in the step.
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
    /// Returns the departure of the row of `user` to `account` at `now_ms`, in a store with these `keys`.
    #[must_use]
    pub fn new(keys: &UserKeys, user: &UserId, account: &UserId, now_ms: i64) -> Self {
        let named = [user.as_str(), "\0", account.as_str(), "\0", &now_ms.to_string()].concat();
        let hash = keys.hasher_for(OF_MERGE).update(named.as_bytes()).finalize();
        let key = hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        let name = masked(account.as_str().as_bytes(), keys, user, key);
        Self { into: keys.of(account), key, name, account: account.clone() }
    }
}

/// Content of a row when it departed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absorbed {
    /// Key of the row's user.
    pub from: UserKey,
    key: u64,
    /// Evidence of the row.
    pub ledgers: Ledgers,
    answered: Answered,
    horizon_ms: Option<i64>,
    recent: Recent,
    absorbed: Vec<(UserKey, u64)>,
}

/// Events that a row remembers under one key: more than one, where absorbed ids had other events of the same id.
#[derive(Default)]
struct Own {
    is_taken_back: bool,
    /// Contexts and increments of those that count.
    added: Vec<Added>,
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
    /// Returns the account's id at the time of the merge of this user's row.
    pub(super) fn account(&self, keys: &UserKeys, user: &UserId) -> Option<UserId> {
        let name = masked(&self.name, keys, user, self.key).into_vec();
        UserId::try_from(String::from_utf8(name).ok()?).ok()
    }
}

/// Masks a name, or removes the mask.
fn masked(name: &[u8], keys: &UserKeys, user: &UserId, key: u64) -> Box<[u8]> {
    let mut mask = vec![0; name.len()];
    let mut hasher = keys.hasher_for(OF_MASK);
    hasher.update(&key.to_le_bytes()).update(user.as_str().as_bytes()).finalize_xof().fill(&mut mask);
    mask.iter().zip(name).map(|(mask, byte)| mask ^ byte).collect()
}

impl Row {
    /// True if events under this id count for an account.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.merges.moved.is_some()
    }

    /// Returns the account's key and the row's content, if the row departed and is not absorbed yet.
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

    /// Applies one step of a merge.
    pub(super) fn step(&mut self, step: &MergeStep, now_ms: i64, rules: &RowRules) -> Outcome {
        let merges = &mut self.merges;
        match step {
            MergeStep::Expect(from) if !merges.expected.contains(from) => {
                if merges.expected.len() + merges.absorbed.len() >= MAX_ABSORBED {
                    // Absorbed ids do not age, so room is never free again.
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

    fn absorb(&mut self, theirs: &Absorbed, now_ms: i64, rules: &RowRules) {
        self.ledgers.merge(&theirs.ledgers, rules.decay);
        theirs.answered.iter().for_each(|key| self.answered.insert(key));
        self.horizon_ms = self.horizon_ms.max(theirs.horizon_ms);
        let mut mine: HashMap<EventKey, Own> = HashMap::new();
        for frame in self.recent.iter() {
            let own = mine.entry(frame.key).or_default();
            own.is_taken_back |= frame.mark.is_taken_back();
            own.added.extend(frame.added());
        }
        for frame in theirs.recent.iter() {
            match (mine.get_mut(&frame.key), frame.added()) {
                (None, _) => self.recent.keep(&frame),
                // The event was taken back here, or was sent to both ids.
                (Some(own), Some(added)) if own.is_taken_back || own.added.contains(&added) => {
                    self.ledgers.subtract(added.context, &added.increment, frame.at_ms, rules.decay);
                }
                (Some(own), Some(_)) => {
                    if own.added.is_empty() {
                        self.recent.forget(frame.key);
                        mine.remove(&frame.key);
                    }
                    self.recent.keep(&frame);
                }
                (Some(own), None) if frame.mark.is_taken_back() && !own.added.is_empty() => {
                    *own = Own { is_taken_back: true, added: Vec::new() };
                    self.subtract_all(frame.key, rules.decay);
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
    /// Returns the events that the row remembered.
    pub(super) fn remembered(&self) -> impl Iterator<Item = Frame<'_>> {
        self.recent.iter()
    }

    /// Returns the steps that redirect all rows merged into this one, and the step that makes this row a redirect.
    pub(super) fn last_steps(&self, into: UserKey) -> (Vec<(UserKey, MergeStep)>, MergeStep) {
        let redirect = MergeStep::Redirect { from: self.from, into };
        let redirects = self.absorbed.iter().map(|(user, _)| (*user, redirect.clone())).collect();
        (redirects, MergeStep::Vacate(self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::{Decay, pair};
    use crate::state::{Change, ChangeKind, LedgerEvent};

    const RULES: RowRules = RowRules { n_heads: 2, decay: Decay::NONE, max_age_ms: 1000, max_events: 100 };

    fn id(name: &str) -> UserId {
        name.parse().unwrap()
    }

    #[test]
    fn only_the_stores_secret_lifts_the_mask_of_an_accounts_name() {
        let (keys, others) =
            (UserKeys::random().unwrap(), [UserKeys::default(), UserKeys::random().unwrap()]);
        let departure = Departure::new(&keys, &id("visitor-7"), &id("ann"), 5);
        let Departure { into, key, name, .. } = departure.clone();
        let moved = Moved { into, key, is_done: true, name };
        assert_eq!(moved.account(&keys, &id("visitor-7")), Some(id("ann")));
        assert_eq!(Departure::new(&keys, &id("visitor-7"), &id("ann"), 5), departure);
        for other in others {
            assert_ne!(moved.account(&other, &id("visitor-7")), Some(id("ann")));
            assert_ne!(Departure::new(&other, &id("visitor-7"), &id("ann"), 5).key, key);
        }
    }

    /// Returns the addition of an event whose key and content these numbers stand for.
    fn said(name: u64, content: u64) -> Change {
        let event = LedgerEvent {
            key: EventKey(name),
            at_ms: 5,
            context: None,
            question: None,
            increment: pair(&[content as f64, 1.0]),
            content: None,
            replaces: None,
            resolved: None,
        };
        change(ChangeKind::Add(event))
    }

    fn change(kind: ChangeKind) -> Change {
        Change { user: UserKey::from([0; 16]), now_ms: 10, kind }
    }

    fn row(changes: &[Change]) -> Row {
        let mut row = Row::new(2);
        changes.iter().for_each(|change| _ = row.change(change, &RULES));
        row
    }

    fn absorb(account: &mut Row, n: u8, mut visitor: Row) {
        let from = UserKey::from([n; 16]);
        let departure = Departure::new(&UserKeys::default(), &id(&format!("{n}")), &id("ann"), 10);
        visitor.change(&change(ChangeKind::Merge(MergeStep::Depart(departure))), &RULES);
        let (_, absorbed) = visitor.departed(from).unwrap();
        let step = MergeStep::Absorb(Box::new(absorbed));
        assert!(matches!(account.change(&change(ChangeKind::Merge(step)), &RULES), Outcome::Applied(_)));
    }

    #[test]
    fn what_came_under_any_of_three_ids_counts_once_and_is_taken_back_under_all() {
        // One id stands for three events, of which two are the same.
        let visitors = [row(&[said(1, 3), said(2, 1)]), row(&[said(1, 3), said(3, 1)])];
        let mut account = row(&[said(1, 2)]);
        for (n, visitor) in (1..).zip(visitors) {
            absorb(&mut account, n, visitor);
        }
        let expected = row(&[said(1, 2), said(10, 3), said(2, 1), said(3, 1)]);
        assert_eq!(account.ledgers, expected.ledgers);
        let expected = row(&[said(2, 1), said(3, 1)]);
        // A fourth id, whose event is one more, takes that id back.
        let mut undone = account.clone();
        absorb(&mut undone, 4, row(&[said(1, 9), change(ChangeKind::Retract(EventKey(1)))]));
        assert_eq!(undone.ledgers, expected.ledgers);
        account.change(&change(ChangeKind::Retract(EventKey(1))), &RULES);
        assert_eq!(account.ledgers, expected.ledgers);
    }

    #[test]
    fn what_an_erased_account_forgot_is_remembered_whole_as_it_comes_from_another_id() {
        let mut visitor = row(&[said(1, 2)]);
        absorb(&mut visitor, 1, row(&[said(1, 3)]));
        // The account's own event of that id was erased, and the visitor has two of it.
        let mut account = row(&[said(1, 5), change(ChangeKind::Erase)]);
        absorb(&mut account, 2, visitor);
        assert_eq!(account.ledgers, row(&[said(1, 2), said(10, 3)]).ledgers);
        account.change(&change(ChangeKind::Retract(EventKey(1))), &RULES);
        assert_eq!(account.ledgers, Ledgers::new(2));
    }
}
