//! What can happen to a row, and what became of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{MergeStep, Row, UserKey};
use crate::mixture::{Increment, Ledgers};
use crate::types::{EventId, ResolvedFeedback};

/// One change of one user's row. Its bytes begin with the user's key, by which the journal finds what is a user's, and the
/// time, by which it drops what is too old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Whose row.
    pub user: UserKey,
    /// When the server took it, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// What is to change.
    pub kind: ChangeKind,
}

/// What is to change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A feedback counts from now on.
    Add(LedgerEvent),
    /// The feedback with this key never happened; if it is still to come, it will not count.
    Retract(EventKey),
    /// The user never was here. What happened before this is refused from now on.
    Erase,
    /// The evidence is replaced.
    Import(Ledgers),
    /// Events that the row no longer remembers never happened.
    Withdraw(Withdrawal),
    /// A step of a merge with another row.
    Merge(MergeStep),
}

/// What a retraction found in the journal: the events with this key that are in the sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Their key.
    pub key: EventKey,
    /// What they added; more than one where the id was used again after it had been forgotten.
    pub events: Vec<Withdrawn>,
}

/// What it takes to subtract an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// When it happened, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The key of the context whose ledger it entered.
    pub context: Option<u64>,
    /// What it added.
    pub increment: Increment,
}

impl Withdrawn {
    /// What it takes to subtract this event.
    #[must_use]
    pub fn of(event: &LedgerEvent) -> Self {
        Self { at_ms: event.at_ms, context: event.context, increment: event.increment.clone() }
    }

    /// Whether it is the same event, by what it added, be it that it was sent under another id of the same user.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.context, &self.increment) == (other.context, &other.increment)
    }
}

/// What an event's id is known by within its user: 64 bits of BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventKey(pub u64);

impl EventKey {
    /// The key of an id.
    #[must_use]
    pub fn of(id: &EventId) -> Self {
        Self(crate::types::key64(id.as_str().as_bytes()))
    }
}

/// One feedback as a store sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEvent {
    /// The key that guards against duplicates.
    pub key: EventKey,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The key of the context whose ledger it enters; none for the general one.
    pub context: Option<u64>,
    /// The key of the question that it answers, if it answers one.
    pub question: Option<u64>,
    /// What it adds.
    pub increment: Increment,
    /// 64 bits of a hash of what it says; none where that is not known.
    pub content: Option<u64>,
    /// The event that does not count from now on, as this one takes its place.
    pub replaces: Option<EventKey>,
    /// What was said, for engines that keep it.
    pub resolved: Option<Arc<ResolvedFeedback>>,
}

/// What became of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; the version of the row after it.
    Applied(u64),
    /// It is done, and the event that it replaces, which had counted, does not any more; the version of the row after it.
    Replaced(u64),
    /// It had been done before; the version of the row.
    Duplicate(u64),
    /// Its id was taken back, replaced or erased: it does not count.
    Retracted {
        /// The version of the row.
        version: u64,
        /// Whether the row is another after it: what it replaces does not count either.
        is_news: bool,
    },
    /// Another event counts under its id.
    Conflict {
        /// The content of that event.
        kept: u64,
    },
    /// It is kept here and will be done once the shared store is back.
    Queued,
    /// The row has gone to an account, and takes no such change.
    Moved,
    /// It happened before the time from which this row can tell a retry from news, or before the user was erased.
    Late,
    /// A retraction of what is not known, or can't be taken back. If it comes within the window, it will not count.
    Unknown {
        /// Whether the row is another after it: that was not noted before.
        is_news: bool,
    },
    /// The user has said more within the window than a row remembers.
    Crowded {
        /// How many events a row remembers at most.
        max_events: usize,
        /// When the oldest of them is forgotten, in milliseconds since the Unix epoch.
        until_ms: i64,
    },
    /// There is no room for another user.
    Full {
        /// How many users the engine holds at most.
        max_users: usize,
    },
    /// The user's row can't be read. Nothing but an erasure, which needs none, can be made of it.
    Unreadable,
}

impl Change {
    /// What is left of feedback that can't be judged: what it replaces does not count.
    #[must_use]
    pub fn taking_back(&self) -> Option<Self> {
        let ChangeKind::Add(LedgerEvent { replaces: Some(replaced), .. }) = &self.kind else { return None };
        Some(Self { kind: ChangeKind::Retract(*replaced), ..*self })
    }

    /// The row to make it on instead of one that can't be read: an erasure takes away all that there was.
    pub(super) fn in_place_of_unreadable(&self, n_heads: usize) -> Option<Row> {
        matches!(self.kind, ChangeKind::Erase).then(|| Row::new(n_heads))
    }

    /// What has to be made again instead of it: of an event that was taken back before it came, that what it replaces is
    /// taken back as well.
    pub(super) fn remainder(&self, outcome: Outcome) -> Option<Self> {
        matches!(outcome, Outcome::Retracted { is_news: true, .. }).then(|| self.taking_back()).flatten()
    }
}

impl ChangeKind {
    /// Whether it goes on with a merge that was begun: what it brings here is already somewhere, and goes from there.
    pub(super) fn is_of_a_merge_under_way(&self) -> bool {
        matches!(self, Self::Merge(step) if !matches!(step, MergeStep::Expect(_) | MergeStep::Depart(_)))
    }

    /// Whether a row takes it that has gone to an account, which has everything if the merge `is_done`.
    pub(super) fn is_for_a_moved_row(&self, is_done: bool) -> bool {
        match self {
            Self::Erase => is_done,
            Self::Merge(step) => !matches!(step, MergeStep::Expect(_) | MergeStep::Absorb(_)),
            Self::Add(_) | Self::Retract(_) | Self::Import(_) | Self::Withdraw(_) => false,
        }
    }
}

impl Outcome {
    /// Whether the row is another after it.
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

    /// Whether it tells what an earlier change came to.
    pub(super) fn rests_on_another(self) -> bool {
        matches!(
            self,
            Self::Duplicate(_) | Self::Retracted { .. } | Self::Conflict { .. } | Self::Unknown { .. }
        )
    }
}
