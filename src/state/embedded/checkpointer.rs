//! The checkpointer: a thread that saves and evicts rows, and drops old segments, spent tombstones and erased events.

#![expect(clippy::disallowed_types, reason = "a thread of its own follows the machine's time")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::rows::Saved;
use super::{Core, user_of};
use crate::state::journal::segment::{self, Frame};
use crate::state::journal::{OpenError, drop_frames};
use crate::state::row::Sort;
use crate::state::{StoreError, UserKey, codec};
use crate::telemetry::metric;

/// Rows in one transaction of the file of rows: a few megabytes.
const ROWS_AT_ONCE: usize = 20_000;

/// Interval between sweeps for tombstones whose window is over.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Shortest pause after a failure; it doubles at each further failure, up to `MAX_PAUSE`.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Share of `resident_users` that an eviction leaves, so that there is room for a while.
const EVICT_TO: f64 = 0.9;

/// Requests to the checkpointer.
#[derive(Debug)]
pub(super) struct Tasks {
    requested: Mutex<Requested>,
    work: Condvar,
}

#[derive(Debug)]
struct Requested {
    is_requested: bool,
    is_over: bool,
    /// Users whose events are to leave the journal, each with the position of its erasure.
    erased: HashMap<UserKey, u64>,
    /// Time at which these erasures are due.
    due: Option<Instant>,
}

impl Tasks {
    pub(super) fn new(erased: HashMap<UserKey, u64>) -> Self {
        let requested = Requested { is_requested: false, is_over: false, erased, due: None };
        Self { requested: Mutex::new(requested), work: Condvar::new() }
    }

    /// Requests a checkpoint soon.
    pub(super) fn request_checkpoint(&self) {
        self.requested.lock().is_requested = true;
        self.work.notify_one();
    }

    /// Makes pending erasures due at once.
    pub(super) fn expedite_erasures(&self) {
        let mut requested = self.requested.lock();
        requested.due = (!requested.erased.is_empty()).then(Instant::now);
    }

    /// Requests that a user's events leave the journal within this time.
    pub(super) fn erase(&self, user: UserKey, lsn: u64, within: Duration) {
        let mut requested = self.requested.lock();
        requested.erased.insert(user, lsn);
        // The other half is left for the work.
        requested.due.get_or_insert_with(|| Instant::now() + within / 2);
        self.work.notify_one();
    }
}

/// The checkpointer's thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    pub(super) fn spawn(core: Arc<Core>) -> Result<Self, OpenError> {
        let (checkpointer, part) = (core.clone(), core.liveness.part("the checkpointer"));
        let thread = std::thread::Builder::new().name("checkpointer".to_owned()).spawn(move || {
            checkpointer.run();
            part.end();
        });
        let thread = thread.map_err(|source| OpenError::io(&core.config.dir, source))?;
        Ok(Self { core, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread after its current pass, and waits for it.
    pub(super) fn stop(&self) {
        self.core.tasks.requested.lock().is_over = true;
        self.core.tasks.work.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpointer panicked");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Core {
    fn run(&self) {
        let mut swept: Option<Instant> = None;
        let mut pause = Duration::ZERO;
        loop {
            let (is_over, is_erasing) = self.wait(pause);
            if is_over {
                return;
            }
            let is_sweeping = swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY);
            let done = self.save().and_then(|()| {
                if is_erasing {
                    self.erase()?;
                }
                if is_sweeping {
                    self.sweep()?;
                    swept = Some(Instant::now());
                }
                Ok(())
            });
            let trouble: Option<Arc<str>> = done.err().map(|error| error.to_string().into());
            pause = trouble.as_ref().map_or(Duration::ZERO, |_| (pause * 2).clamp(MIN_PAUSE, MAX_PAUSE));
            let mut known = self.trouble.lock();
            if let Some(trouble) = trouble.as_ref().filter(|trouble| known.as_ref() != Some(*trouble)) {
                tracing::error!(%trouble, "rows can't be saved or erased now; the journal keeps everything until they can");
            }
            *known = trouble;
        }
    }

    /// Waits until there is work. Returns whether the thread must end, and whether erasures are due.
    fn wait(&self, pause: Duration) -> (bool, bool) {
        let resume = Instant::now() + pause;
        let until = Instant::now() + self.config.checkpoint_every;
        let mut requested = self.tasks.requested.lock();
        loop {
            let due = requested.due;
            let is_due = due.is_some_and(|due| due <= Instant::now());
            let is_paused = Instant::now() < resume;
            let has_work = requested.is_requested || is_due || until <= Instant::now();
            if requested.is_over || has_work && !is_paused {
                requested.is_requested = false;
                return (requested.is_over, is_due);
            }
            let next = if is_paused { resume } else { due.map_or(until, |due| due.min(until)) };
            self.tasks.work.wait_until(&mut requested, next);
        }
    }

    /// Writes every changed row to the file of rows, evicts surplus rows, and drops old segments.
    pub(super) fn save(&self) -> Result<(), StoreError> {
        if !self.dir.is_there() {
            let gone = format!("{}: the data directory is gone", self.config.dir.display());
            return Err(StoreError::Journal(gone.into()));
        }
        let start = Instant::now();
        let since = self.checkpoint();
        // A change gets its position under its row's lock, so the rows read after this include every change up to it.
        let until = self.journal.last_lsn();
        if until > since {
            let mut changed = Vec::new();
            self.resident.for_each(|user, lsn, _| changed.extend((lsn > since).then_some(user)));
            // Neighbors share a page of the file, and a transaction writes each page that it touches once.
            changed.sort_unstable();
            for users in changed.chunks(ROWS_AT_ONCE) {
                self.save_rows(users)?;
            }
            let erased = self.tasks.requested.lock().erased.clone();
            self.rows.write_erased(&erased, &HashMap::new())?;
            self.rows.write(&[], &[], Some(until))?;
            self.checkpoint.store(until, Ordering::Release);
            metrics::histogram!(metric::STORE_SECONDS, "op" => "checkpoint").record(start.elapsed());
        }
        if self.is_crowded() {
            let left = (self.config.resident_users as f64 * EVICT_TO) as usize;
            self.resident.evict(left, |lsn| self.is_saved(lsn));
        }
        // An event past its retention must not stay because its segment is open, even if no further change arrives.
        let mut rotated = self.rotated.lock();
        let is_empty = self.journal.first_open_lsn() > until;
        let is_due = !is_empty && rotated.elapsed() >= self.config.retention / 4;
        // A closed journal has no open segment; any other failure is retried at the next checkpoint.
        if is_due && self.journal.seal().is_ok() {
            *rotated = tokio::time::Instant::now();
        }
        drop(rotated);
        self.drop_segments();
        Ok(())
    }

    fn save_rows(&self, users: &[UserKey]) -> Result<(), StoreError> {
        let n_heads = self.config.rules.n_heads;
        let saved = |&user: &UserKey| {
            let held = self.resident.peek(user)?;
            let sort = codec::decode(&held.bytes, n_heads).map_or(Sort::User, |row| row.sort());
            Some(Saved { user, held, sort })
        };
        let saved: Vec<Saved> = users.iter().filter_map(saved).collect();
        // A row must not be durable before its changes: they are not acked yet, and the raw events would lack them.
        if let Some(lsn) = saved.iter().map(|saved| saved.held.lsn).max() {
            self.journal.wait_durable(lsn)?;
        }
        self.rows.write(&saved, &[], None)
    }

    /// Drops erased users' events from the journal. Their rows are saved as tombstones.
    fn erase(&self) -> Result<(), StoreError> {
        let erased = self.tasks.requested.lock().erased.clone();
        let sealed = self.journal.seal()?;
        let dir = self.dir.journal();
        let is_erased = |frame: &Frame| {
            user_of(frame).and_then(|user| erased.get(&user)).is_some_and(|&lsn| frame.lsn < lsn)
        };
        let dropped = drop_frames(&dir, sealed, is_erased);
        self.dates.forget();
        dropped.map_err(|error| StoreError::Journal(error.to_string().into()))?;
        let mut requested = self.tasks.requested.lock();
        requested.erased.retain(|user, lsn| erased.get(user) != Some(lsn));
        requested.due = (!requested.erased.is_empty()).then(|| Instant::now() + self.config.erase_within / 2);
        drop(requested);
        self.rows.write_erased(&HashMap::new(), &erased)?;
        tracing::info!(users = erased.len(), "erased users have left the journal");
        Ok(())
    }

    /// Drops tombstones that refuse no event that the window does not refuse anyway.
    fn sweep(&self) -> Result<(), StoreError> {
        let rules = self.config.rules;
        let now_ms = self.clock.now().as_millisecond();
        let is_spent =
            |bytes: &[u8]| codec::decode(bytes, rules.n_heads).is_ok_and(|row| row.is_spent(now_ms, &rules));
        let mut tombstones = self.rows.tombstones()?;
        tombstones.retain(|(_, held)| is_spent(&held.bytes));
        let mut spent = Vec::new();
        for (user, _) in tombstones {
            self.resident.drop_if(user, |lsn, bytes| self.is_saved(lsn) && is_spent(bytes));
            // A user who came back has a newer row in memory, which will be saved.
            spent.extend((!self.resident.contains(user)).then_some(user));
        }
        if !spent.is_empty() {
            self.rows.write(&[], &spent, None)?;
            self.resident.forgot(spent.len());
        }
        Ok(())
    }

    /// Drops segments whose changes are all in the file of rows and older than the retention, oldest first: a segment
    /// that is missing between others is damage.
    fn drop_segments(&self) {
        let retention_ms = i64::try_from(self.config.retention.as_millis()).unwrap_or(i64::MAX);
        let cutoff_ms = self.clock.now().as_millisecond().saturating_sub(retention_ms);
        let mut is_first = true;
        let open = self.journal.first_open_lsn();
        let paths = segment::list(&self.dir.journal()).unwrap_or_default();
        let mut n_bytes = 0;
        for (idx, path) in paths.iter().enumerate() {
            let Ok(file) = path.metadata() else { continue };
            let end = paths.get(idx + 1).and_then(|next| segment::first_lsn(next));
            let is_saved = end.is_some_and(|end| end <= open && end <= self.checkpoint() + 1);
            let is_old = || self.dates.are_before(path, cutoff_ms.saturating_add(1), event_time);
            is_first = is_first && is_saved && is_old();
            if is_first && let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "an old segment can't be removed");
                is_first = false;
            }
            n_bytes += if is_first { 0 } else { file.len() };
        }
        metrics::gauge!(metric::JOURNAL_BYTES).set(n_bytes as f64);
        metrics::gauge!(metric::RESIDENT_ROWS).set(self.resident.len() as f64);
    }
}

/// Returns the time of a change, in milliseconds since the Unix epoch: it follows the user's key.
fn event_time(frame: &Frame) -> Option<i64> {
    postcard::take_from_bytes::<(UserKey, i64)>(&frame.payload).ok().map(|((_, now_ms), _)| now_ms)
}
