//! Changes of a row, and their outcomes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{MergeStep, Row, UserKey};
use crate::mixture::{Increment, Ledgers};
use crate::types::{EventId, ResolvedFeedback};

/// One change of one user's row. Its bytes begin with the user's key, by which the journal finds the frames of a
/// user, and the time, by which it drops frames that are too old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Key of the row's user.
    pub user: UserKey,
    /// Time at which the server received it, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Kind of the change, with its content.
    pub kind: ChangeKind,
}

/// Kinds of changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A feedback counts from then on.
    Add(LedgerEvent),
    /// The feedback with this key is taken back; if it is still to come, it will not count.
    Retract(EventKey),
    /// The user is erased, and events from before the erasure are refused from then on.
    Erase,
    /// The evidence is replaced.
    Import(Ledgers),
    /// Events that the row does not remember are taken back.
    Withdraw(Withdrawal),
    /// A step of a merge with another row.
    Merge(MergeStep),
}

/// Events with one key that are in the sums, as the search of a retraction found them in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Key of the events.
    pub key: EventKey,
    /// The events; more than one where the id was used again after it had been forgotten.
    pub events: Vec<Withdrawn>,
}

/// Data needed to subtract an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Time of the event, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Key of the context whose ledger it entered.
    pub context: Option<u64>,
    /// Increment that it added.
    pub increment: Increment,
}

impl Withdrawn {
    /// Returns the data needed to subtract this event.
    #[must_use]
    pub fn of(event: &LedgerEvent) -> Self {
        Self { at_ms: event.at_ms, context: event.context, increment: event.increment.clone() }
    }

    /// Reports whether both are one event, perhaps sent under two ids of a user: context and increment are equal.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.context, &self.increment) == (other.context, &other.increment)
    }
}

/// Key of an event's id within its user: 64 bits of BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventKey(pub u64);

impl EventKey {
    /// Returns the key of an id.
    #[must_use]
    pub fn of(id: &EventId) -> Self {
        Self(crate::types::key64(id.as_str().as_bytes()))
    }
}

/// One feedback as a store applies it.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEvent {
    /// Key that guards against duplicates.
    pub key: EventKey,
    /// Time of the event, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Key of the context whose ledger it enters; none for the general one.
    pub context: Option<u64>,
    /// Key of the question that it answers, if it answers one.
    pub question: Option<u64>,
    /// Increment that it adds.
    pub increment: Increment,
    /// 64 bits of a hash of its content; none where that is not known.
    pub content: Option<u64>,
    /// Key of the event that this one replaces and that does not count from then on.
    pub replaces: Option<EventKey>,
    /// The resolved feedback, for engines that keep it.
    pub resolved: Option<Arc<ResolvedFeedback>>,
}

/// Outcome of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The change is applied. Holds the version of the row after it.
    Applied(u64),
    /// The change is applied, and the event that it replaces, which had counted, is taken back. Holds the version of
    /// the row after it.
    Replaced(u64),
    /// The change had been applied before. Holds the version of the row.
    Duplicate(u64),
    /// The event's id was taken back, replaced or erased, so that the event does not count.
    Retracted {
        /// Version of the row.
        version: u64,
        /// True if the row changed: the event that this one replaces does not count either.
        is_news: bool,
    },
    /// Another event counts under its id.
    Conflict {
        /// Content hash of that event.
        kept: u64,
    },
    /// The change is kept here and will be applied once the shared store can be reached again.
    Queued,
    /// The row was merged into an account, and takes no such change.
    Moved,
    /// The event is from before the time since which this row can distinguish a retry from a new event, or before the
    /// erasure of the user.
    Late,
    /// A retraction of an event that is not known or can't be taken back. If the event arrives within the window, it
    /// will not count.
    Unknown {
        /// True if the row changed: it did not remember the retraction before.
        is_news: bool,
    },
    /// The user has sent more events within the window than a row remembers.
    Crowded {
        /// Upper bound of the events that a row remembers.
        max_events: usize,
        /// Time at which the oldest of them is forgotten, in milliseconds since the Unix epoch.
        until_ms: i64,
    },
    /// The store has no room for another user.
    Full {
        /// Upper bound of the users of the engine.
        max_users: usize,
    },
    /// The user's row can't be read. Only an erasure, which needs no earlier row, can be applied to it.
    Unreadable,
}

impl Change {
    /// Returns the part that remains of a feedback that can't be scored: the retraction of the event that it
    /// replaces.
    #[must_use]
    pub fn taking_back(&self) -> Option<Self> {
        let ChangeKind::Add(LedgerEvent { replaces: Some(replaced), .. }) = &self.kind else { return None };
        Some(Self { kind: ChangeKind::Retract(*replaced), ..*self })
    }

    /// Returns the row to change instead of one that can't be read: an empty one for an erasure, which discards all
    /// content.
    pub(super) fn in_place_of_unreadable(&self, n_heads: usize) -> Option<Row> {
        matches!(self.kind, ChangeKind::Erase).then(|| Row::new(n_heads))
    }

    /// Returns the change that a replay makes instead of this one: for an event that was taken back before it came,
    /// the retraction of the event that it replaces.
    pub(super) fn remainder(&self, outcome: Outcome) -> Option<Self> {
        matches!(outcome, Outcome::Retracted { is_news: true, .. }).then(|| self.taking_back()).flatten()
    }
}

impl ChangeKind {
    /// True if it continues a merge that was begun: the evidence that it brings is already stored, and moves from
    /// there.
    pub(super) fn is_of_a_merge_under_way(&self) -> bool {
        matches!(self, Self::Merge(step) if !matches!(step, MergeStep::Expect(_) | MergeStep::Depart(_)))
    }

    /// True if a row that departed to an account takes it. The account has absorbed all of the row if the merge
    /// `is_done`.
    pub(super) fn is_for_a_moved_row(&self, is_done: bool) -> bool {
        match self {
            Self::Erase => is_done,
            Self::Merge(step) => !matches!(step, MergeStep::Expect(_) | MergeStep::Absorb(_)),
            Self::Add(_) | Self::Retract(_) | Self::Import(_) | Self::Withdraw(_) => false,
        }
    }
}

impl Outcome {
    /// True if the change alters the row.
    #[must_use]
    pub fn changes_the_row(self) -> bool {
        matches!(
            self,
            Self::Applied(_)
                | Self::Replaced(_)
                | Self::Unknown { is_news: true }
                | Self::Retracted { is_news: true, .. }
        )
    }

    /// True if it depends on the result of an earlier change.
    pub(super) fn rests_on_another(self) -> bool {
        matches!(
            self,
            Self::Duplicate(_) | Self::Retracted { .. } | Self::Conflict { .. } | Self::Unknown { .. }
        )
    }
}
