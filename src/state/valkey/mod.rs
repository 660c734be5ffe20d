//! The shared engine: one row per user in Valkey or Redis, changed by any number of replicas.
//!
//! A replica applies a change by [`Row::change`], as every engine does, and sends one call of a function that replaces
//! the row if it is still the one that was changed (`function.lua`). To apply changes inside the store, the sums of 64
//! bits, decay and the window of events would need a second implementation, in numbers that hold 53 bits.
//!
//! The laws: a request whose answer is lost is safe to repeat, as the row remembers the ids of its events; a read never
//! fails because the store is away, and returns the age of the row; feedback that can't be sent is queued in the
//! outbox, if there is one.

mod cache;
mod census;
mod config;
mod connection;
mod dead_letters;
mod drain;
mod function;
mod next_request;
mod outbox;
mod pending;
mod secret;
mod unknown_users;
mod value;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Value as Answer;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::cache::{CachedRow, RowCache};
pub use self::config::ValkeyConfig;
use self::connection::{Connection, Unreachable};
use self::function::Keys;
use self::outbox::Outbox;
use self::pending::ChangeResult;
use self::unknown_users::UnknownUsers;
use self::value::{Unreadable, Value};
use self::writer::{Inbox, Serves};
use super::journal::OpenError;
use super::{
    Change, ChangeKind, Freshness, Outcome, Row, RowRead, RowRules, StoreError, UserKey, UserKeys, UserStore,
    readable,
};
use crate::telemetry::metric;
use crate::types::{Clock, Liveness, Part};

/// Number of writers: while one waits for the store, others prepare their next requests.
const N_WRITERS: usize = 4;

/// Number of smallest user keys that are kept for samples: the largest sample that the configuration allows.
const MAX_SAMPLE: usize = 16_384;

/// Rows that are read in one pipeline.
const ROWS_AT_ONCE: usize = 512;

/// Time that writers have to finish when the store is closed.
const LAST_ROUNDS: Duration = Duration::from_secs(2);

/// The shared engine.
#[derive(Debug)]
pub struct ValkeyStore {
    shared: Arc<Shared>,
    writers: Mutex<Vec<JoinHandle<()>>>,
    background: Vec<JoinHandle<()>>,
}

/// State that requests and tasks share.
#[derive(Debug)]
struct Shared {
    connection: Connection,
    keys: Keys,
    /// Derivation of the user keys.
    user_keys: UserKeys,
    cache: RowCache,
    inboxes: Vec<Inbox>,
    outbox: Option<Outbox>,
    rules: RowRules,
    max_users: usize,
    unknown_users: UnknownUsers,
    max_staleness: Duration,
    /// Number of users when the store was last asked.
    n_users: AtomicUsize,
    /// Liveness of the tasks here and of the outbox's writer.
    liveness: Liveness,
    clock: Arc<dyn Clock>,
    erase_within: Duration,
}

impl ValkeyStore {
    /// Connects, and opens the outbox. A store that can't be reached is no error: it is dialed until it can be.
    ///
    /// # Errors
    /// When the store refuses the login or has another user key, the URL is invalid, or the outbox can't be used.
    pub async fn open(config: ValkeyConfig) -> Result<Self, OpenError> {
        let liveness = Liveness::default();
        let user_keys = UserKeys::of_text(config.user_key.expose());
        let outbox = match config.outbox.clone() {
            Some(dir) => {
                let (ledger_id, how) = (config.ledger_id, (config.is_sync, user_keys.clone()));
                let liveness = liveness.clone();
                let open =
                    tokio::task::spawn_blocking(move || Outbox::open(&dir, ledger_id, how, &liveness)).await;
                Some(open.map_err(|_| OpenError::Valkey("the outbox's opening ended early".to_owned()))??)
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            connection: Connection::open(&config).await?,
            keys: Keys::new(&config.prefix, config.ledger_id.key),
            user_keys,
            cache: RowCache::new(config.cached_users),
            inboxes: (0..N_WRITERS).map(|_| Inbox::default()).collect(),
            outbox,
            rules: config.rules,
            max_users: config.max_users,
            unknown_users: UnknownUsers::new(&config.rules, config.max_users),
            max_staleness: config.max_staleness,
            n_users: AtomicUsize::new(0),
            liveness,
            clock: config.clock,
            erase_within: config.erase_within,
        });
        shared.count().await;
        let has_agreed = shared.agree().await?;
        if config.user_key.expose().is_empty() {
            tracing::warn!(
                "`valkey.user_key` is empty: users are known by unkeyed hashes in the shared store"
            );
        }
        let part = |name: &str| shared.liveness.part(name);
        let write = |idx| {
            let serves = Serves { shared: shared.clone(), idx };
            tokio::spawn(writer::run(serves, part("a writer of the shared store")))
        };
        let writers = (0..N_WRITERS).map(write).collect();
        let mut background =
            vec![tokio::spawn(keep(shared.clone(), has_agreed, part("the heartbeat of the shared store")))];
        if shared.outbox.is_some() {
            background.push(tokio::spawn(drain::run(shared.clone(), part("the outbox's emptying"))));
        }
        Ok(Self { shared, writers: Mutex::new(writers), background })
    }
}

/// Keeps the connection up, and the number of users current as other replicas change it.
async fn keep(shared: Arc<Shared>, mut has_agreed: bool, _part: Part) {
    loop {
        shared.connection.probe().await;
        shared.count().await;
        if !has_agreed {
            match shared.agree().await {
                Ok(agreed) => has_agreed = agreed,
                // A replica that could not check its user keys at the start must stop if the others have other ones.
                Err(error) => return tracing::error!(%error, "the shared store can't be used"),
            }
        }
    }
}

impl Drop for ValkeyStore {
    fn drop(&mut self) {
        self.shared.liveness.retire();
        self.background.iter().for_each(JoinHandle::abort);
        self.writers.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    /// Applies changes as far as the store can be reached.
    async fn submit(&self, changes: Vec<Change>) -> Vec<ChangeResult> {
        writer::submit(&self.inboxes, changes).await
    }

    /// Returns the number of users that may still join.
    fn room(&self) -> usize {
        self.max_users.saturating_sub(self.n_users.load(Ordering::Relaxed))
    }

    /// Reads a row from the store.
    async fn read(&self, user: UserKey) -> Result<Option<Value>, Unreachable> {
        let as_of = Instant::now();
        let answer = self.connection.ask(self.keys.get(user)).await;
        metrics::histogram!(metric::STORE_SECONDS, "op" => "get").record(as_of.elapsed());
        let value = bytes(answer?)?;
        self.cache.read(user, CachedRow { value: value.clone(), as_of });
        Ok(value)
    }

    fn row(&self, user: UserKey, value: Option<&Value>) -> Result<Option<Row>, StoreError> {
        let row = value.map(|value| value.row(self.rules.n_heads)).transpose();
        row.map_err(|error| self.unreadable(user, error))
    }

    async fn sample(self: &Arc<Self>, n: usize) -> Result<Vec<Row>, StoreError> {
        let users = self.smallest(n).await.map_err(unreachable)?;
        let mut rows = Vec::with_capacity(users.len());
        for users in users.chunks(ROWS_AT_ONCE) {
            let gets = users.iter().map(|user| self.keys.get(*user)).collect();
            let answers = self.connection.send(gets).await.map_err(unreachable)?.into_iter();
            let values = answers.map(bytes).collect::<Result<Vec<_>, Unreachable>>().map_err(unreachable)?;
            let (shared, users) = (self.clone(), users.to_vec());
            let read = move || {
                let row = |(user, value): (UserKey, Option<Value>)| {
                    readable(shared.row(user, value.as_ref())).map(Option::flatten).transpose()
                };
                users.into_iter().zip(values).filter_map(row).collect::<Result<Vec<Row>, StoreError>>()
            };
            let ended = |_| StoreError::Unreachable { engine: "valkey", source: None };
            let read = tokio::task::spawn_blocking(read).await.map_err(ended)??;
            rows.extend(read.into_iter().filter(|row| !row.is_tombstone()));
        }
        Ok(rows)
    }

    fn unreadable(&self, user: UserKey, unreadable: Unreadable) -> StoreError {
        match unreadable {
            Unreadable::Damaged => StoreError::Damaged { path: self.keys.row(user).into(), user },
            Unreadable::Codec(source) => StoreError::Row { user, source },
        }
    }
}

fn unreachable(unreachable: Unreachable) -> StoreError {
    StoreError::Unreachable { engine: "valkey", source: Some(Box::new(unreachable)) }
}

/// Returns the row in an answer to GET, if there is one.
fn bytes(answer: Answer) -> Result<Option<Value>, Unreachable> {
    match answer {
        Answer::BulkString(bytes) => Ok(Some(Value::from(bytes))),
        Answer::Nil => Ok(None),
        Answer::ServerError(error) => match Value::of_another_type(&error) {
            Some(value) => Ok(Some(value)),
            None => Err(Unreachable(error.to_string().into())),
        },
        answer => Err(Unreachable(format!("it answered {answer:?}").into())),
    }
}

#[async_trait]
impl UserStore for ValkeyStore {
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        let shared = &self.shared;
        let Some(outbox) = &shared.outbox else {
            let results = shared.submit(changes).await;
            return results.into_iter().map(|result| result.map_err(unreachable)).collect();
        };
        let results = shared.submit(changes.clone()).await;
        if results.iter().any(Result::is_err) {
            outbox.room().await?;
        }
        let is_erased = |(change, result): (&Change, &ChangeResult)| {
            (matches!(change.kind, ChangeKind::Erase) && result.is_ok()).then_some(change.user)
        };
        let erased: Vec<UserKey> = changes.iter().zip(&results).filter_map(is_erased).collect();
        let mut kept = None;
        let outcome_of = |(change, result): (Change, ChangeResult)| match result {
            Ok(outcome) => Ok(outcome),
            Err(_) if outbox::takes(&change) => {
                kept = Some(outbox.append(&change));
                Ok(Outcome::Queued)
            }
            Err(why) => Err(unreachable(why)),
        };
        let outcomes: Result<Vec<Outcome>, StoreError> =
            changes.into_iter().zip(results).map(outcome_of).collect();
        if let Some(position) = kept {
            outbox.kept(position).await?;
        }
        if !erased.is_empty() {
            // An erasure may make room for a new user whose change waits.
            outbox.work.notify_one();
            let dead_letters = outbox.dead_letters.clone();
            let forget = move || dead_letters.forget(|user, _| erased.contains(&user));
            let ended = |_| StoreError::Journal("dropping dead letters ended early".into());
            tokio::task::spawn_blocking(forget).await.map_err(ended)??;
        }
        outcomes
    }

    async fn get(&self, user: UserKey, min_version: u64) -> Result<RowRead, StoreError> {
        let shared = &self.shared;
        let cached = shared.cache.get(user);
        let row_of = |cached: &CachedRow| shared.row(user, cached.value.as_ref());
        if let Some(cached) = &cached
            && cached.age() <= shared.max_staleness
            && !shared.max_staleness.is_zero()
        {
            let row = row_of(cached)?;
            if row.as_ref().map_or(0, |row| row.version) >= min_version {
                return Ok(RowRead::current(row));
            }
        }
        match (shared.read(user).await, cached) {
            (Ok(value), _) => Ok(RowRead::current(shared.row(user, value.as_ref())?)),
            (Err(_), Some(cached)) => {
                Ok(RowRead { row: row_of(&cached)?, freshness: Freshness::Stale(cached.age()) })
            }
            (Err(_), None) => Ok(RowRead { row: None, freshness: Freshness::Unknown }),
        }
    }

    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        if n == 0 { Ok(Vec::new()) } else { self.shared.sample(n).await }
    }

    fn keys(&self) -> UserKeys {
        self.shared.user_keys.clone()
    }

    fn n_users(&self) -> usize {
        self.shared.n_users.load(Ordering::Relaxed)
    }

    fn trouble(&self) -> Option<Arc<str>> {
        let shared = &self.shared;
        let down =
            shared.connection.why_down().map(|why| format!("the store can't be reached: {why}").into());
        let stuck = || shared.outbox.as_ref().and_then(Outbox::trouble);
        down.or_else(stuck).or_else(|| shared.liveness.trouble())
    }

    fn liveness(&self) -> Liveness {
        self.shared.liveness.clone()
    }

    /// Returns false: two replicas could merge two users into each other, as no process sees both rows.
    fn can_merge(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.shared.inboxes.iter().for_each(Inbox::close);
        let writers = std::mem::take(&mut *self.writers.lock());
        if tokio::time::timeout(LAST_ROUNDS, futures::future::join_all(writers)).await.is_err() {
            tracing::warn!("changes were still on their way to the store");
        }
        self.shared.liveness.retire();
        self.background.iter().for_each(JoinHandle::abort);
        if let Some(outbox) = &self.shared.outbox {
            outbox.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::Decay;
    use crate::state::LedgerId;
    use crate::state::{ChangeKind, EventKey};

    /// Returns the settings of a store that can't be reached, as nothing listens on its port.
    fn config() -> ValkeyConfig {
        ValkeyConfig {
            urls: vec!["redis://127.0.0.1:1".to_owned().into()],
            is_cluster: false,
            username: String::new(),
            password: String::new().into(),
            user_key: String::new().into(),
            ca_pem: None,
            prefix: "test:".to_owned(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            max_staleness: Duration::ZERO,
            ledger_id: LedgerId { n_heads: 2, key: 7 },
            rules: RowRules { n_heads: 2, decay: Decay::NONE, max_age_ms: 10_000, max_events: 10 },
            max_users: 10,
            cached_users: 10,
            outbox: None,
            is_sync: true,
            clock: Arc::new(crate::types::SystemClock),
            erase_within: Duration::from_secs(3600),
        }
    }

    fn undo(user: u8) -> Change {
        Change { user: UserKey::from([user; 16]), now_ms: 0, kind: ChangeKind::Retract(EventKey(1)) }
    }

    #[tokio::test]
    async fn feedback_is_refused_at_once_when_its_writer_has_died() {
        let store = ValkeyStore::open(config()).await.unwrap();
        // This writer serves user 1 and every fourth user.
        let writer = store.writers.lock().remove(1);
        let waiting = store.change(vec![undo(1), undo(2)]);
        writer.abort();
        assert!(writer.await.is_err());
        assert!(waiting.await.is_err());
        let results = store.shared.submit(vec![undo(1), undo(2), undo(5)]).await;
        let told = results.into_iter().map(|result| match result {
            Err(Unreachable(why)) => why.to_string(),
            other => format!("{other:?}"),
        });
        let told: Vec<String> = told.collect();
        assert_eq!([&told[0], &told[2]], ["its writer has ended"; 2]);
        assert_ne!(told[1], told[0], "the other writers work on");
        assert_eq!(store.liveness().dead().as_deref(), Some("a writer of the shared store"));
    }

    #[tokio::test]
    async fn after_a_stop_nobody_waits_and_nothing_is_dead() {
        let store = ValkeyStore::open(config()).await.unwrap();
        store.close().await;
        assert!(store.change(vec![undo(1)]).await.is_err());
        assert_eq!(store.liveness().dead(), None);
    }
}
