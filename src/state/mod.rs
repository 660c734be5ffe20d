//! Stores of ledgers: the store contract and its engines.
//!
//! This module owns rows, the guard against duplicates, and bytes on disk. It deliberately knows neither heads nor
//! weights: a row is ledgers plus the ids of their events, and `service` computes weights from it. One suite of tests
//! runs on every engine.

mod accounts;
mod answered;
mod change;
mod codec;
mod embedded;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod key;
mod layout;
mod memory;
mod merge;
mod receipt;
mod receipt_log;
mod receipts;
mod recent;
mod resident;
mod row;
mod valkey;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use accounts::{Accounts, Erasure, MergeError};
pub use answered::Answered;
pub use change::{Change, ChangeKind, EventKey, LedgerEvent, Outcome, Withdrawal, Withdrawn};
pub use codec::CodecError;
pub use embedded::{Embedded, EmbeddedConfig, EventLog, Logged, Survey};
pub use journal::{LedgerId, OpenError};
pub use key::{UserKey, UserKeys};
pub use memory::MemoryStore;
pub use merge::{Absorbed, Departure, MergeStep};
pub use receipt::Receipt;
pub use receipts::Receipts;
pub use row::{Row, RowRules};
pub use valkey::{ValkeyConfig, ValkeyStore};

use crate::telemetry::metric;
use crate::types::Liveness;

/// Changes made without a pause on an async thread, at about 1 us each for a usual row.
const CHANGES_AT_ONCE: usize = 256;

/// A store of one row per user. All methods may be called from any number of tasks at once.
///
/// The laws: a change is atomic; an event that is remembered changes nothing, and one that is too old to be
/// remembered is refused, so that none ever counts twice; versions of a user only grow.
#[async_trait]
pub trait UserStore: Send + Sync + std::fmt::Debug {
    /// Makes changes in order, and returns one outcome per change. A change with an outcome other than
    /// [`Outcome::Queued`] is as durable as the engine makes changes.
    ///
    /// # Errors
    /// When the store can't be reached or written. Then any part of the changes may have been made, or may still be
    /// made: sending the same changes again is safe. A change that alone can't be made has an outcome that says so,
    /// as has a change of a row that can't be read.
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError>;

    /// Takes an event back, also one that the row does not remember if the engine keeps raw events. Their search
    /// continues when the call is dropped.
    ///
    /// # Errors
    /// As [`UserStore::change`], and when the raw events can't be read: then nothing was taken back.
    async fn retract(&self, user: UserKey, key: EventKey, now_ms: i64) -> Result<Outcome, StoreError> {
        let change = Change { user, now_ms, kind: ChangeKind::Retract(key) };
        Ok(self.change(vec![change]).await?.first().copied().unwrap_or(Outcome::Unknown { is_news: false }))
    }

    /// Returns the current row of a user, as far as the engine can tell; not older than `min_version`, if there is
    /// such a row.
    ///
    /// # Errors
    /// When the engine can't read its stored rows, or this row.
    async fn get(&self, user: UserKey, min_version: u64) -> Result<RowRead, StoreError>;

    /// Returns the rows of the `n` users with the smallest keys among those with feedback, ascending by key; fewer if
    /// there are fewer.
    ///
    /// The sample does not depend on the content of feedback, and is the same on every replica that holds the same
    /// users, in whatever order they came. A row that can't be read is left out. The call may take long, and does so
    /// off the async threads.
    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError>;

    /// Returns the users whose rows redirect to an account, without its own row, which lists them too. The call may
    /// take long, and does so off the async threads.
    ///
    /// # Errors
    /// When rows can't be read at all; a single row that can't be read is left out.
    async fn ids_of(&self, _account: UserKey) -> Result<Vec<UserKey>, StoreError> {
        Ok(Vec::new())
    }

    /// Waits until all that can be read at the time of the call is as durable as acked changes are.
    ///
    /// # Errors
    /// When the store can't be written.
    async fn durable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns the hash function of user ids. It is the same on every replica, and for as long as the stored data.
    fn keys(&self) -> UserKeys;

    /// Returns the number of users with feedback.
    fn n_users(&self) -> usize;

    /// Returns a message for operators if the store does not work.
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }

    /// Reports whether rows of two users can be merged: the steps of a merge are made by one process alone.
    fn can_merge(&self) -> bool {
        true
    }

    /// Returns the liveness of the engine's background threads and tasks.
    fn liveness(&self) -> Liveness {
        Liveness::default()
    }

    /// Returns the raw events of an engine that keeps them.
    fn events(&self) -> Option<EventLog> {
        None
    }

    /// Makes everything durable, and closes files and connections. No change is made afterwards.
    async fn close(&self) {}
}

/// Result of reading a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRead {
    /// The row; none for a user without one.
    pub row: Option<Row>,
    /// Age of the row, as far as it matters.
    pub freshness: Freshness,
}

/// Age of a row relative to what the engine promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The row is no older than the engine promises.
    Current,
    /// The store can't be reached, and the row was read this long ago.
    Stale(Duration),
    /// The store can't be reached, and no row of the user is cached here.
    Unknown,
}

impl RowRead {
    /// Returns the row that the store holds at present.
    #[must_use]
    pub fn current(row: Option<Row>) -> Self {
        Self { row, freshness: Freshness::Current }
    }
}

/// Reasons for which a store fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine can't be reached.
    #[error("the {engine} store can't be reached")]
    Unreachable {
        /// Name of the engine.
        engine: &'static str,
        /// Cause, if it is known.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A merge can't be completed now; it stays under way.
    #[error("{0}")]
    Merge(Arc<str>),
    /// The journal can't be written.
    #[error("the journal can't be written: {0}")]
    Journal(Arc<str>),
    /// The raw events can't be read.
    #[error("the raw events can't be read: {0}")]
    Unreadable(Arc<str>),
    /// The file of rows can't be read or written.
    #[error("{}: {source}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// Error of its library.
        source: Box<redb::Error>,
    },
    /// A row on disk is not what was written.
    #[error("{}: the row of user {user} fails its checksum", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Key of the row's user.
        user: UserKey,
    },
    /// A row can't be read.
    #[error("the row of user {user}: {source}")]
    Row {
        /// Key of the row's user.
        user: UserKey,
        /// Cause.
        source: CodecError,
    },
}

impl StoreError {
    /// True if the error concerns one user alone, and a retry does not end it.
    #[must_use]
    pub fn is_of_one_row(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Row { .. })
    }
}

/// Returns the value that was read; an error of one row is logged and becomes none.
fn readable<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_of_one_row() => {
            note_unreadable(&error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn note_unreadable(error: &StoreError) {
    metrics::counter!(metric::UNREADABLE_ROWS).increment(1);
    tracing::error!(%error, "a row can't be read; it is left as it is, and its user alone is refused");
}
