//! Where ledgers live: the store contract and its engines.
//!
//! Owns rows, the guard against duplicates, and bytes on disk. Deliberately knows neither heads nor weights: a row is
//! ledgers plus the ids they have seen, and `service` turns it into weights. One suite of tests runs on every engine.

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
pub use receipts::{Receipt, Receipts};
pub use row::{Row, RowRules};
pub use valkey::{ValkeyConfig, ValkeyStore};

use crate::telemetry::metric;
use crate::types::Liveness;

/// Changes made without a pause on an async thread, at about 1 us each for a usual row.
const CHANGES_AT_ONCE: usize = 256;

/// Holds one row per user. All methods may be called from any number of tasks at once.
///
/// The laws: a change is atomic; an event that is remembered changes nothing, and one that is too old to be remembered
/// is refused, so that none ever counts twice; versions of a user only grow.
#[async_trait]
pub trait UserStore: Send + Sync + std::fmt::Debug {
    /// Makes changes, in order; one outcome per change. What has an outcome other than [`Outcome::Queued`] is as durable
    /// as the engine makes things.
    ///
    /// # Errors
    /// When the store can't be reached or written now. Then any part of the changes may have been made, or may still be:
    /// sending the same again is safe. A change that alone can't be made has an outcome that says so, as has one of a row
    /// that can't be read.
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError>;

    /// Takes an event back, also one that the row no longer remembers if the engine keeps what was said. Goes on to its end
    /// when it is dropped.
    ///
    /// # Errors
    /// As [`UserStore::change`], and when what was said can't be read: then nothing was taken back.
    async fn retract(&self, user: UserKey, key: EventKey, now_ms: i64) -> Result<Outcome, StoreError> {
        let change = Change { user, now_ms, kind: ChangeKind::Retract(key) };
        Ok(self.change(vec![change]).await?.first().copied().unwrap_or(Outcome::Unknown { is_news: false }))
    }

    /// The row of a user as of now, as far as the engine can tell; not older than `min_version`, if there is such.
    ///
    /// # Errors
    /// When nothing is known and nothing can be asked, or the row can't be read.
    async fn get(&self, user: UserKey, min_version: u64) -> Result<RowRead, StoreError>;

    /// The rows of the `n` users with the smallest keys that have said anything, ascending by key; fewer if there are fewer.
    ///
    /// A sample that knows nothing of what users have said, and the same on every replica that holds the same
    /// users, in whatever order they came. A row that can't be read is left out. It may take long, and does so off the
    /// async threads.
    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError>;

    /// The users whose rows lead to an account, found without its own row, which remembers them too. It may take long, and does so
    /// off the async threads.
    ///
    /// # Errors
    /// When rows can't be read at all; one that alone can't be is left out.
    async fn ids_of(&self, _account: UserKey) -> Result<Vec<UserKey>, StoreError> {
        Ok(Vec::new())
    }

    /// Waits until all that can be read by now is as durable as what is acked.
    ///
    /// # Errors
    /// When the store can't be written now.
    async fn durable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// How users are known here. It stays the same for as long as what is kept does, and on every replica.
    fn keys(&self) -> UserKeys;

    /// How many users have said anything.
    fn n_users(&self) -> usize;

    /// Whether the store works; otherwise what is wrong, for people.
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether rows of two users can be merged: steps of a merge are made by one process alone.
    fn can_merge(&self) -> bool {
        true
    }

    /// Whether the engine's background threads and tasks live.
    fn liveness(&self) -> Liveness {
        Liveness::default()
    }

    /// The raw events, of an engine that keeps them.
    fn events(&self) -> Option<EventLog> {
        None
    }

    /// Makes everything durable and lets go of files and connections. No change is made afterwards.
    async fn close(&self) {}
}

/// A row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRead {
    /// None for somebody of whom nothing is known.
    pub row: Option<Row>,
    /// Whether it is as new as it should be.
    pub freshness: Freshness,
}

/// How old a row is, as far as that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// No older than the engine promises.
    Current,
    /// The store can't be reached: it was read so long ago.
    Stale(Duration),
    /// The store can't be reached, and nothing of the user is known here.
    Unknown,
}

impl RowRead {
    /// What the store has now.
    #[must_use]
    pub fn current(row: Option<Row>) -> Self {
        Self { row, freshness: Freshness::Current }
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
        /// Why, if it is known.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The journal can't be written.
    #[error("the journal can't be written: {0}")]
    Journal(Arc<str>),
    /// What was said can't be read.
    #[error("what was said can't be read: {0}")]
    Unreadable(Arc<str>),
    /// The file of rows can't be read or written.
    #[error("{}: {source}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What its library says.
        source: Box<redb::Error>,
    },
    /// A row on disk is not what was written.
    #[error("{}: the row of user {user} fails its checksum", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Whose row.
        user: UserKey,
    },
    /// A row can't be read.
    #[error("the row of user {user}: {source}")]
    Row {
        /// Whose row.
        user: UserKey,
        /// Why.
        source: CodecError,
    },
}

impl StoreError {
    /// Whether it is the trouble of one user alone, and trying again does not end it.
    #[must_use]
    pub fn is_of_one_row(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Row { .. })
    }
}

/// What was read, where it can be; an error of one row is noted and is that row's alone.
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
