//! Where ledgers live: the store contract and its engines.
//!
//! Owns rows and the guard against duplicates. Deliberately knows neither heads nor weights: a row is ledgers
//! plus the ids they have seen, and `service` turns it into weights. One suite of tests runs on every engine.

mod answered;
mod memory;
mod receipts;
mod ring;

use async_trait::async_trait;

pub use answered::Answered;
pub use memory::MemoryStore;
pub use receipts::{Receipt, Receipts};
pub use ring::EventRing;

use crate::mixture::{Decay, Increment, Ledgers};
use crate::types::{EventId, UserId};

/// Holds one row per user. All methods may be called from any number of tasks at once.
///
/// The laws: an event id that is among the last 16 of its user changes nothing; `apply` is atomic per event;
/// rows only grow, except by `erase`.
#[async_trait]
pub trait RouterStore: Send + Sync {
    /// Adds events to their users' ledgers, in order; one outcome per event.
    ///
    /// # Errors
    /// When the store can't be reached at all. An event that alone can't be taken has [`Outcome::Full`].
    async fn apply(&self, events: Vec<LedgerEvent>) -> Result<Vec<Outcome>, StoreError>;

    /// The row of a user, if there is one.
    async fn get(&self, user: &UserId) -> Result<Option<Row>, StoreError>;

    /// Forgets a user; the row there was, if any.
    async fn erase(&self, user: &UserId) -> Result<Option<Row>, StoreError>;

    /// The rows of the `n` users whose ids have the smallest [`key64`](crate::types::key64), ascending by it; fewer if there are fewer.
    ///
    /// A sample that knows nothing of what users have said, and the same on every replica that holds the same
    /// users, in whatever order they came. It may take long, and does so off the async threads.
    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError>;

    /// How many users there are.
    fn n_users(&self) -> usize;
}

/// One feedback as a store sees it.
#[derive(Debug, Clone)]
pub struct LedgerEvent {
    /// Whose ledgers.
    pub user: UserId,
    /// The id that guards against duplicates.
    pub event_id: EventId,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The key of the context whose ledger it enters; none for the general one.
    pub context: Option<u64>,
    /// The key of the question that it answers, if it answers one.
    pub question: Option<u64>,
    /// What it adds.
    pub increment: Increment,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It counts; the version of the row after it.
    Applied(u64),
    /// It had been applied before; the version of the row.
    Duplicate(u64),
    /// There is no room for another user.
    Full {
        /// How many users the engine holds at most.
        max_users: usize,
    },
}

/// All that is kept of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The evidence, in general and per context.
    pub ledgers: Ledgers,
    /// The questions that have been answered.
    pub answered: Answered,
    /// The last event ids.
    pub ring: EventRing,
}

impl Row {
    /// The row of somebody who has said nothing yet.
    #[must_use]
    pub fn new(n_heads: usize) -> Self {
        Self { ledgers: Ledgers::new(n_heads), answered: Answered::default(), ring: EventRing::default() }
    }

    /// Adds one event unless its id is in the ring; the version is the number of events that count.
    pub fn apply(&mut self, event: &LedgerEvent, decay: Decay) -> Outcome {
        if self.ring.insert(&event.event_id) {
            if let Some(key) = event.question {
                self.answered.insert(key);
            }
            self.ledgers.add(event.context, &event.increment, event.at_ms, decay);
            Outcome::Applied(self.ledgers.n_events())
        } else {
            Outcome::Duplicate(self.ledgers.n_events())
        }
    }
}

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine can't be reached.
    #[error("the {engine} store can't be reached")]
    Unreachable {
        /// Which engine.
        engine: &'static str,
    },
}
